"""What became of sounds, which moments were worst, and the seconds around them."""

import pytest

from envs.excerpt import excerpt
from envs.outcomes import outcomes, worst_failures
from envs.stream_env import StreamingAudioEnv
from envs.tokenizer import ByteTokenizer


def episode(seed: int, speaks: frozenset[int]) -> StreamingAudioEnv:
    """Play a stream in which a reply of one chunk begins after some chunks."""
    ids = ByteTokenizer()
    env = StreamingAudioEnv()
    env.reset(options={"scenario_seed": seed})
    said = [*ids.encode("Hello there."), ids.end_id]
    tokens = said + [ids.vocab_size] * (16 - len(said))
    while not env.episode.over:
        env.step({"kind": int(len(env.trace.steps) in speaks), "tokens": tokens})
    return env


def test_a_silent_policy_misses_every_cue_and_leaves_every_other_sound_alone() -> None:
    trace = episode(1, frozenset()).trace
    found = outcomes(trace)
    assert sum(o.deserves for o in found) == len(trace.cues) > 0
    assert [o.right for o in found] == [not o.deserves for o in found]
    failures = worst_failures([trace], 9)
    assert [f.kind for f in failures] == ["miss"]  # no two of a kind from one stream
    assert failures[0].weight == max(cue.urgency for cue in trace.cues)


def test_failures_are_of_every_kind_and_the_worst_come_first() -> None:
    traces = [episode(seed, frozenset(range(0, 60, 3))).trace for seed in range(6)]
    failures = worst_failures(traces, 2)
    assert {f.kind for f in failures} >= {"false alarm", "wrong words"}
    for kind in ("false alarm", "late", "wrong words"):
        own = [f for f in failures if f.kind == kind]
        assert len(own) <= 2
        assert len({f.stream for f in own}) == len(own)
        assert [f.weight for f in own] == sorted((f.weight for f in own), reverse=True)
    assert all(f.said == "Hello there." for f in failures if f.kind == "wrong words")


def test_an_excerpt_keeps_what_was_said_and_to_what() -> None:
    env = episode(1, frozenset(range(0, 60, 3)))
    scenario, trace = env.episode.scenario, env.trace
    reply = next(r for r in trace.replies if r.cue is not None)
    cut, played = excerpt(scenario, trace, reply.start_s - 2.0, reply.start_s + 2.0)
    begin = max(int((reply.start_s - 2.0) / 0.4), 0)
    assert played.num_chunks == cut.num_chunks == len(played.steps) <= 11
    assert (cut.chunk(0) == scenario.chunk(begin)).all()
    same = next(r for r in played.replies if r.start_s == pytest.approx(reply.start_s - begin * 0.4))
    assert same.cue is not None
    assert played.cues[same.cue].label == trace.cues[reply.cue or 0].label
    shift = trace.cues[reply.cue or 0].ready_s - played.cues[same.cue].ready_s
    assert shift == pytest.approx(begin * 0.4)
    assert all(e.onset_s >= 0 and e.end_s <= cut.duration_s + 1e-6 for e in played.events)


def test_an_excerpt_of_all_is_the_stream() -> None:
    env = episode(2, frozenset({5}))
    cut, played = excerpt(env.episode.scenario, env.trace, -9.0, 999.0)
    assert (cut.audio == env.episode.scenario.audio).all()
    assert (played.steps, played.replies, played.cues) == (env.trace.steps, env.trace.replies, env.trace.cues)
