"""How long an agent thinks: seconds between the end of a chunk and the effect of the action taken on it."""

from collections.abc import Sequence

import numpy as np

from envs.errors import ScenarioError

ThinkingTime = float | Sequence[float]  # seconds of every action, or measured ones, of which each action draws one


def check_thinking(thinking_s: ThinkingTime) -> None:
    """Raise ScenarioError when there is a time that nobody can think for, or none to draw from."""
    seconds = np.atleast_1d(np.asarray(thinking_s, np.float64))
    if not seconds.size:
        raise ScenarioError("thinking_s is empty, expected seconds, or a list of at least one measured time")
    wrong = seconds[~((seconds >= 0.0) & np.isfinite(seconds))]
    if wrong.size:
        raise ScenarioError(f"thinking_s is {wrong[0]:g}, expected seconds from 0 on")


def thinking_times(thinking_s: ThinkingTime, seed: int, num_chunks: int) -> list[float]:
    """Return the seconds of each action of a scenario: [num_chunks]; draws follow from the scenario's seed."""
    if np.ndim(thinking_s) == 0:
        return [float(np.asarray(thinking_s))] * num_chunks
    drawn: list[float] = np.random.default_rng([seed, 0x7]).choice(thinking_s, num_chunks).tolist()
    return drawn
