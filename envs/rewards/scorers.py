"""Scorers by name, or by the import path of a class."""

from collections.abc import Callable, Mapping
from typing import Any

from envs.errors import ConfigError, did_you_mean
from envs.rewards.imports import import_class
from envs.rewards.judge import LLMJudge
from envs.rewards.scoring import ChrFAndKeyFacts, Scorer

SCORERS: dict[str, Callable[..., Scorer]] = {"chrf": ChrFAndKeyFacts, "judge": LLMJudge}


def scorer_from_config(entry: Mapping[str, Any]) -> Scorer:
    """Build a scorer from `{name: judge, args: {...}}`, or from `{class: "module:Class", args: {...}}`.

    Raises:
        ConfigError: for an unknown name or key, a class that cannot be imported or is no scorer, or arguments that do
            not fit.
        SoundFlowError: of the scorer itself, such as an endpoint's address that is none.
    """
    known = ("name", "class", "args")
    for key in entry:
        if key not in known:
            raise ConfigError(f"scorer: unknown key {key!r}{did_you_mean(str(key), known)}")
    name, path, args = entry.get("name"), entry.get("class"), entry.get("args") or {}
    if (name is None) == (path is None):
        raise ConfigError("scorer: give it a name or a class, and not both")
    if path is None and name not in SCORERS:
        raise ConfigError(f"scorer: no scorer is called {name!r}{did_you_mean(str(name), SCORERS)}")
    build = SCORERS[str(name)] if path is None else import_class(str(path), "scorer")
    try:
        scorer: Scorer = build(**args)
    except TypeError as error:
        raise ConfigError(f"scorer: {name or path!r} cannot be built: {error}") from error
    if not callable(getattr(scorer, "scores", None)):
        raise ConfigError(f"scorer: {path!r} has no method scores(replies) -> list of floats")
    return scorer
