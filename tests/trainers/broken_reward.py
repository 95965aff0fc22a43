"""A reward that fails in the middle of an episode."""

import math

from envs.rewards import Moment, Reward


class NaNAtStep5:
    def value(self, moment: Moment) -> float:
        return math.nan if moment.step == 5 else 0.0


BROKEN_REWARD = Reward([("broken", 1.0, NaNAtStep5())])
