"""Tiny scenarios for tests of the environments: noise, a beep that deserves a reply, and a hum that does not."""

import numpy as np

from envs.clock import CHUNK_SAMPLES
from envs.scenario import Cue, Event, Scenario, TimelineEntry

REPLIES = ("I hear a beep. Please look.", "There is a beep.")


def cue(onset_s: float, ready_s: float, deadline_s: float, urgency: float = 1.0, label: str = "beep") -> Cue:
    return Cue(onset_s, ready_s, deadline_s, label, REPLIES, ("beep",), urgency, "iv", "safety_signal")


def event(label: str, decision: str, onset_s: float, duration_s: float, role: str = "foreground") -> Event:
    return Event(label, f"a {label}", role, decision, onset_s, duration_s, "test")


def scenario(
    num_chunks: int,
    cues: tuple[Cue, ...] = (),
    events: tuple[Event, ...] = (),
    seed: int = 0,
    user_speech: tuple[tuple[float, float], ...] = (),
) -> Scenario:
    audio = np.random.default_rng(seed).uniform(-0.1, 0.1, num_chunks * CHUNK_SAMPLES).astype(np.float32)
    return Scenario(seed, "Proactive", audio, events, cues, (), user_speech=user_speech)


def beeps(seed: int) -> Scenario:
    """The scenario of a seed: 8 to 12 chunks, a hum, and at times one or two beeps; the user speaks in between."""
    rng = np.random.default_rng([seed, 1])
    onsets = [0.5, 2.1][: rng.integers(0, 3)]
    cues = tuple(cue(t, t + 0.5, t + 1.5, urgency=float(rng.uniform(0.5, 1.0))) for t in onsets)
    events = (event("hum", "IGNORE", 0.0, 3.2, "ambient"), *(event("beep", "RESPOND", t, 0.8) for t in onsets))
    made = scenario(int(rng.integers(8, 13)), cues, events, seed, user_speech=((1.0, 1.7),))
    timeline = tuple(TimelineEntry(int((t + 0.8) / 0.4), REPLIES[0]) for t in onsets)
    return Scenario(**{**made.__dict__, "timeline": timeline})
