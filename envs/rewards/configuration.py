"""A reward from a run's YAML."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from envs.errors import ConfigError, did_you_mean
from envs.rewards.components import COMPONENTS
from envs.rewards.imports import import_class
from envs.rewards.moment import RewardComponent
from envs.rewards.reward import Reward


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
    build = COMPONENTS[name] if path is None else import_class(str(path), "reward")
    weight = entry.get("weight", 1.0)
    if type(weight) not in (int, float) or not math.isfinite(weight):  # a text never becomes a number, nor a truth
        raise ConfigError(f"reward: component {name!r} has weight {weight!r}, expected a finite number")
    try:
        component = build(**args)
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"reward: component {name!r} cannot be built: {error}") from error
    if not callable(getattr(component, "value", None)):
        raise ConfigError(f"reward: component {name!r}: {path!r} has no method value(moment) -> float")
    return name, float(weight), component
