"""The reward: a list of named, weighted components, each a small pure class over the trace so far.

A run's YAML lists them; a user's own class is named by its import path:

    reward:
      - {name: latency, weight: 1.0}
      - {name: brevity, weight: 0.2, class: "my_rewards:Brevity", args: {limit: 6}}
"""

import importlib
import math
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from envs.errors import ConfigError, did_you_mean
from envs.scenario import Cue
from envs.text_scores import helpfulness
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
    """

    def value(self, moment: Moment) -> float:
        """Return the component's value at this step, before weighting."""


class Latency:
    """A reply matches a cue: urgency * (1 - (t - ready) / (deadline - ready)), clipped to [0, 1]."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Reward a reply that starts now."""
        cue = moment.cue(moment.started)
        if cue is None or moment.started is None:
            return 0.0
        late = (moment.started.start_s - cue.ready_s) / (cue.deadline_s - cue.ready_s)
        return min(max(cue.urgency * (1.0 - late), 0.0), 1.0)


class Helpfulness:
    """A matched reply ends: its text against the references, in [0, 1]."""

    of_text = True
    eventful = True

    def value(self, moment: Moment) -> float:
        """Score a reply that ends now."""
        cue = moment.cue(moment.ended)
        if cue is None or moment.ended is None:
            return 0.0
        return helpfulness(moment.ended.text, cue.replies, cue.key_facts)


class FalseAlarm:
    """A reply matches no cue: -1."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish a reply that starts now without a cause."""
        return -1.0 if moment.started is not None and moment.started.cue is None else 0.0


class Miss:
    """A deadline passes unanswered: -urgency."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish the cues missed now."""
        return -sum((cue.urgency for cue in moment.missed), 0.0)


class Premature:
    """A reply begins after onset but before ready: -0.5 * (ready - t) / (ready - onset)."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish a guess."""
        cue = moment.cue(moment.started)
        if cue is None or moment.started is None:
            return 0.0
        return -0.5 * max(cue.ready_s - moment.started.start_s, 0.0) / (cue.ready_s - cue.onset_s)


class Overlap:
    """Agent and user both speak in this chunk: -0.1, unless the cue being answered is urgent."""

    eventful = True

    def __init__(self, urgent_from: float = 0.9) -> None:
        self.urgent_from = urgent_from

    def value(self, moment: Moment) -> float:
        """Punish talking over the user."""
        if not (moment.agent_speaking and moment.user_speaking):
            return 0.0
        cue = moment.cue(moment.trace.replies[-1]) if moment.trace.replies else None
        return 0.0 if cue is not None and cue.urgency >= self.urgent_from else -0.1


class Verbosity:
    """A reply ends: -0.02 for every token over the budget."""

    of_text = True
    eventful = True

    def __init__(self, budget: int = 24, per_token: float = 0.02) -> None:
        self.budget, self.per_token = budget, per_token

    def value(self, moment: Moment) -> float:
        """Punish length."""
        over = 0 if moment.ended is None else max(moment.ended.num_tokens - self.budget, 0)
        return -self.per_token * over


class Repetition:
    """A reply ends: minus the share of its word 4-grams that are repeated."""

    of_text = True
    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish going round in circles."""
        words = [] if moment.ended is None else moment.ended.text.lower().split()
        grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
        return -(1.0 - len(Counter(grams)) / len(grams)) if grams else 0.0


class InvalidAction:
    """An action that does not fit counts as a wait and costs 0.1."""

    eventful = True

    def value(self, moment: Moment) -> float:
        """Punish nonsense."""
        return -0.1 if moment.invalid else 0.0


COMPONENTS: dict[str, Callable[..., RewardComponent]] = {
    "latency": Latency,
    "helpfulness": Helpfulness,
    "false_alarm": FalseAlarm,
    "miss": Miss,
    "premature": Premature,
    "overlap": Overlap,
    "verbosity": Verbosity,
    "repetition": Repetition,
    "invalid_action": InvalidAction,
}


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
        self.of_text = frozenset(name for name, _, part in self.components if getattr(part, "of_text", False))
        self.eventful = all(getattr(part, "eventful", False) for _, _, part in self.components)
        self._parts = tuple((name, weight, part.value) for name, weight, part in self.components)  # called every step

    @classmethod
    def default(cls) -> "Reward":
        """Return every built-in component with weight 1."""
        return cls([(name, 1.0, build()) for name, build in COMPONENTS.items()])

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
                value = _checked(name, value, moment)
            rewards[name] = weight * value
        return rewards


def _checked(name: str, value: Any, moment: Moment) -> float:
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
    text = f"{type(error).__name__}: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return f"{text} ({last[0].filename}, line {last[0].lineno})" if last else text


def reward_from_config(entries: Sequence[Mapping[str, Any]]) -> Reward:
    """Build a reward from a run's YAML; an empty list gives the default reward.

    Raises:
        ConfigError: for an unknown name or key, a name used twice, a weight that is no finite number, a class
            that cannot be imported or is no component, or arguments that do not fit.
    """
    if not entries:
        return Reward.default()
    return Reward([_component(entry) for entry in entries])


def _component(entry: Mapping[str, Any]) -> tuple[str, float, RewardComponent]:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"reward: an entry is a mapping like {{name: latency, weight: 1.0}}, got {entry!r}")
    known = ("name", "weight", "class", "args")
    for key in entry:
        if key not in known:
            raise ConfigError(f"reward: unknown key {key!r}{did_you_mean(str(key), known)}")
    name, path, args = str(entry.get("name", "")), entry.get("class"), entry.get("args") or {}
    if path is None and name not in COMPONENTS:
        raise ConfigError(f"reward: no component is called {name!r}{did_you_mean(name, COMPONENTS)}")
    if not name:
        raise ConfigError(f"reward: the component of class {path!r} has no name; give it one to see it in the logs")
    build = COMPONENTS[name] if path is None else _import(str(path))
    try:
        weight, component = float(entry.get("weight", 1.0)), build(**args)
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"reward: component {name!r} cannot be built: {error}") from error
    if not math.isfinite(weight):
        raise ConfigError(f"reward: component {name!r} has weight {weight}, expected a finite number")
    if not callable(getattr(component, "value", None)):
        raise ConfigError(f"reward: component {name!r}: {path!r} has no method value(moment) -> float")
    return name, weight, component


def _import(path: str) -> Callable[..., RewardComponent]:
    module, _, name = path.partition(":")
    try:
        build: Callable[..., RewardComponent] = getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything
        message = f"reward: class {path!r} cannot be imported (write 'module:Class'): {type(error).__name__}: {error}"
        raise ConfigError(message) from error
    return build
