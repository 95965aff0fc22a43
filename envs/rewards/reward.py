"""Weighted components, and the check that what they give at a step is numbers that add up."""

import math
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from envs.errors import ConfigError, SoundFlowError
from envs.rewards.bill import Bill
from envs.rewards.components import COMPONENTS
from envs.rewards.moment import Moment, RewardComponent


class Reward:
    """Weighted components; what they give at a step adds up to the step's reward.

    Attributes:
        of_text: Names of the components that judge a reply's words.
        eventful: Whether every component gives 0 where nothing happens.

    Raises:
        ConfigError: when two components have the same name.
    """

    def __init__(self, components: Sequence[tuple[str, float, RewardComponent]]) -> None:
        self.components = tuple(components)
        for name, count in Counter(name for name, _, _ in components).items():
            if count > 1:
                raise ConfigError(f"reward: component {name!r} is listed {count} times; give each its own name")
        self.names = {name: None for name, _, _ in self.components}.keys()
        self.of_text = frozenset(name for name, _, part in self.components if getattr(part, "of_text", False))
        whole = type(self).__call__ is Reward.__call__  # what a subclass gives where nothing happens is not known
        self.eventful = whole and all(getattr(part, "eventful", False) for _, _, part in self.components)
        self._parts = tuple((name, weight, part.value) for name, weight, part in self.components)  # called every step
        hooks = ((name, getattr(part, "prepare", None)) for name, _, part in self.components)
        self._hooks: list[tuple[str, Callable[[Sequence[Moment]], None]]] = [
            (name, hook) for name, hook in hooks if hook is not None
        ]

    @classmethod
    def default(cls) -> "Reward":
        """Return every built-in component with weight 1."""
        return cls([(name, 1.0, build()) for name, build in COMPONENTS.items()])

    @property
    def bills(self) -> dict[str, Bill]:
        """What components have cost so far, those that cost something."""
        bills = ((name, getattr(part, "bill", None)) for name, _, part in self.components)
        return {name: bill for name, bill in bills if bill is not None}

    def prepare(self, moments: Sequence[Moment]) -> None:
        """Tell the components which moments come next, so that they can ask about them together.

        Raises:
            ConfigError: when a component fails.
        """
        for name, prepare in self._hooks:
            try:
                prepare(moments)
            except Exception as error:  # a user's code may raise anything
                raise ConfigError(f"reward: component {name!r} failed: {_told(error)}") from error

    def __call__(self, moment: Moment) -> dict[str, float]:
        """Return the weighted value of every component at this step.

        Raises:
            ConfigError: when a component fails, or its value is no finite number.
        """
        rewards = {}
        for name, weight, value_of in self._parts:
            try:
                value = value_of(moment)
            except Exception as error:  # a user's code may raise anything
                raise ConfigError(f"reward: component {name!r} failed {_where(moment)}: {_told(error)}") from error
            if type(value) is not float or not math.isfinite(value):
                value = _number(name, value, moment)
            rewards[name] = weight * value + 0.0  # not -0.0: nothing is nothing, bit for bit
        return rewards

    def earned(self, moment: Moment) -> dict[str, float]:
        """Return what calling it gives, once that is sure to be its components, finite, with a finite sum.

        A subclass may give anything, and a weight may be too large for a value.

        Raises:
            ConfigError: naming the component, the scenario and the step.
        """
        rewards = self(moment)
        return rewards if _adds_up(rewards, self.names) else self._checked(rewards, moment)

    def _checked(self, rewards: Any, moment: Moment) -> dict[str, float]:
        """Return the rewards as floats, or say what is wrong with them."""
        names = list(rewards) if isinstance(rewards, dict) else rewards
        if not isinstance(rewards, dict) or rewards.keys() != self.names:
            raise ConfigError(
                f"reward: {type(self).__name__} gave {names!r} {_where(moment)}, expected exactly its components"
                f" {', '.join(self.names) or '(none)'}: they add up to the step's reward; make what you add a component"
            )
        checked = {name: _number(name, value, moment) for name, value in rewards.items()}
        if not math.isfinite(sum(checked.values())):
            raise ConfigError(f"reward: the components {checked} add up to no finite number {_where(moment)}")
        return checked


def _adds_up(rewards: Any, names: Collection[str]) -> bool:
    """Return whether rewards are exactly those of the components, and their sum a finite float: asked at every step."""
    try:
        total = sum(rewards.values())
    except (AttributeError, TypeError):  # no dict, or not of numbers
        return False
    return type(total) is float and math.isfinite(total) and rewards.keys() == names


def _number(name: str, value: Any, moment: Moment) -> float:
    """Return what a component gave as a float; many a one gives numpy's."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(
            f"reward: component {name!r} gave {value!r} {_where(moment)}, expected a finite number; return one at"
            " every step"
        )
    return number


def _where(moment: Moment) -> str:
    return f"at step {moment.step} of scenario {moment.trace.seed}"


def _told(error: BaseException) -> str:
    """Return an error with the line that raised it: one line in place of a traceback."""
    if isinstance(error, SoundFlowError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return f"{text} ({last[0].filename}, line {last[0].lineno})" if last else text
