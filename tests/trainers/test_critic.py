"""The critic sees what a scenario is about to bring, and learns what a decision is worth in it."""

import dataclasses

import numpy as np
import pytest
import torch

from envs.scenario import Cue, Event
from envs.trace import Reply, Trace
from trainers.critic import SITUATION_SIZE, Critic, situation

CUE = Cue(0.8, 1.6, 4.0, "siren", ("A siren.",), ("siren",), 0.5, "i", "safety_signal")
RAIN = Event("rain", "Rain falls.", "foreground", "IGNORE", 4.0, 0.8, "foley")


def trace(*replies: Reply, cues: tuple[Cue, ...] = (CUE,)) -> Trace:
    return Trace(seed=0, ability="Proactive", num_chunks=20, cues=cues, events=(RAIN,), replies=list(replies))


def test_what_is_open_and_how_late_it_is() -> None:
    """Decisions at 0.4 s (the cue lies ahead), 1.2 s (premature), 2.8 s (half its window left) and 4.4 s (missed)."""
    got = situation(trace(), [0, 2, 6, 10], [0.5] * 4, 0.5).numpy()
    assert got.shape == (4, SITUATION_SIZE)
    np.testing.assert_allclose(got[:, 0], [0, 1, 1, 0])
    np.testing.assert_allclose(got[:, 1], [0, 0.5 * 2.8 / 2.4, 0.5 * 0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(got[:, 2], [0, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(got[:, 4], [0, 0.5**8, 0.5**4, 0], rtol=1e-6)  # 7 and 3 chunks left, urgency 0.5
    np.testing.assert_allclose(got[:, 7], [0.5**3, 0, 0, 0], rtol=1e-6)  # three chunks until it is ready
    np.testing.assert_allclose(got[:, 11], [0, 0, 0, 1])  # the rain is on


def test_an_answered_cue_is_closed_and_its_sound_may_go_on() -> None:
    reply = Reply(start_s=2.0, end_s=2.8, text="A siren.", num_tokens=3, cue=0)
    before, after = situation(trace(reply), [4, 6], [0.5, 0.5], 0.5).numpy()
    assert before[0] == 1
    assert before[9] == 0, "a decision sees what it finds, not what it does"
    assert after[0] == 0
    assert after[9] == 1


def test_a_stream_without_cues_and_a_sure_policy_are_finite() -> None:
    got = situation(trace(cues=()), [0, 19], [0.0, 1.0], 0.95)
    assert torch.isfinite(got).all()
    assert got[:, :11].abs().sum() == 0
    assert got[0, -1] < 0 < got[1, -1]


@pytest.mark.parametrize("urgency", [0.5, 1.0])
def test_it_learns_when_responding_pays(urgency: float) -> None:
    """Responding earns the latency reward where a cue is open and costs a point elsewhere; waiting earns nothing."""
    torch.manual_seed(0)
    cue = dataclasses.replace(CUE, urgency=urgency)
    chunks = list(range(20)) * 20
    seen = situation(trace(cues=(cue,)), chunks, [0.5] * len(chunks), 0.95)
    decisions = torch.randint(2, (len(chunks),))
    earned = torch.where(seen[:, 0] > 0, seen[:, 1] - 0.5 * seen[:, 2], -1.0) * decisions
    critic = Critic()
    critic.fit(seen, decisions, earned, 300)
    with torch.no_grad():
        wait, respond = critic(situation(trace(cues=(cue,)), [0, 4, 12], [0.5] * 3, 0.95)).unbind(-1)
    np.testing.assert_allclose(wait, 0, atol=0.15)
    np.testing.assert_allclose(respond, [-1, urgency * 2.0 / 2.4, -1], atol=0.15)
