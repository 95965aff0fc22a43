"""What a component of the reward looks at, and what it is."""

from dataclasses import dataclass
from typing import Protocol

from envs.scenario import Cue
from envs.trace import Reply, Trace


@dataclass(frozen=True)
class Moment:
    """What a component may look at: the trace so far, and what this step brought."""

    trace: Trace
    step: int
    now_s: float  # when the step's action took effect
    started: Reply | None  # a reply that began in this step
    ended: Reply | None  # a reply that ended in this step
    missed: tuple[Cue, ...]  # cues whose deadline passed unanswered in this step
    agent_speaking: bool  # while the next chunk is heard, in which this step's tokens sound
    user_speaking: bool  # then, too
    invalid: bool  # the action did not fit and counted as a wait

    def cue(self, reply: Reply | None) -> Cue | None:
        """Return the cue that a reply answers, if it does."""
        return None if reply is None or reply.cue is None else self.trace.cues[reply.cue]


class RewardComponent(Protocol):
    """One reason to reward or punish.

    One that judges a reply's words sets `of_text = True`: PPO then credits the words, and not the decision alone.
    One that gives 0 whenever the agent is silent and no cue is missed may say so with `eventful = True`: where all
    components do, the batched environment leaves such steps out, and is faster.
    One that asks a model may have a method `prepare(moments: Sequence[Moment]) -> None`: it is told beforehand which
    moments are about to be valued, those of one step of the batched environment or of many traces that are scored
    again, so that it can ask about them together. Then `started`, `ended` and `missed` are as they will be, while
    `trace` may have gone on. One that costs something may have a `bill`, an `envs.rewards.bill.Bill`.
    """

    def value(self, moment: Moment) -> float:
        """Return the component's value at this step, before weighting.

        It has to follow from the moment alone: so a stored trace is worth what it was worth live.
        """
