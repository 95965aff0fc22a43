"""Proactive-Sound-Bench as streams: what is heard, what counts as a decision on it, and what is missing."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bench import IDS, RESPOND, SECONDS, path_of, write_bench, write_manifests

from envs.audio import read_audio
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.errors import AudioError, ManifestError, ScenarioError
from envs.metrics import Metric
from envs.scenario import Scenario
from envs.suites.proactive_manifest import BenchItem
from envs.suites.proactive_sound_bench import ProactiveSoundBench, streams_of
from envs.trace import Reply, Trace

SHARED = Path(__file__).parents[3] / "shared" / "proactive_sound_bench"
GAP_S, TALK_S = 2.4, 4.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench(tmp_path_factory.mktemp("bench"))


def trace_of(scenario: Scenario, *replies: tuple[float, str]) -> Trace:
    spoken = [Reply(start_s, start_s + 1.0, text, len(text)) for start_s, text in replies]
    return Trace(scenario.seed, "Proactive", scenario.num_chunks, scenario.cues, scenario.events, replies=spoken)


def decisions(suite: ProactiveSoundBench, *traces: Trace) -> dict[str, str]:
    return {line["id"]: line["_raw_reply"] for line in suite.predictions(traces)}


def responded(said: str) -> str:
    return f"<Decision>RESPOND</Decision><Reply>{said}</Reply>"


IGNORED = "<Decision>IGNORE</Decision><Reply></Reply>"


def test_a_single_stream_is_the_recording_and_time_to_answer(bench: Path) -> None:
    suite = ProactiveSoundBench.read(bench)
    assert list(suite.seeds) == list(range(6))
    assert (suite.coverage.named, suite.coverage.complete) == (6, True)
    stream = suite.scenario(0)  # r1: a second of sound is three chunks
    assert stream.duration_s == pytest.approx(3 * CHUNK_S + GAP_S + TALK_S)
    sound = read_audio(bench / path_of("r1"))
    assert np.array_equal(stream.audio[: len(sound)], sound)
    assert not stream.audio[len(sound) :].any()
    (event,), (cue,) = stream.events, stream.cues
    assert (event.decision, event.onset_s, event.duration_s) == ("RESPOND", 0.0, 1.0)
    assert (cue.onset_s, cue.ready_s, cue.replies[0]) == (0.0, 1.0, RESPOND["r1"][2])
    assert cue.deadline_s == pytest.approx(stream.duration_s)
    assert stream.timeline[0].chunk == 2
    assert not suite.scenario(3).cues  # i1


def test_a_stream_of_several_begins_each_with_a_chunk(bench: Path) -> None:
    suite = ProactiveSoundBench.read(bench, "multiple")
    heard = [item.id for stream in suite.streams for item in stream]
    assert sorted(heard) == sorted(IDS)
    for seed, stream in zip(suite.seeds, suite.streams, strict=True):
        assert len({item.domain for item in stream}) == 1
        scenario = suite.scenario(seed)
        for item, event in zip(stream, scenario.events, strict=True):
            first = round(event.onset_s / CHUNK_S) * CHUNK_SAMPLES
            sound = read_audio(bench / item.path)
            assert event.duration_s == SECONDS[item.id]
            assert np.array_equal(scenario.audio[first : first + len(sound)], sound)
            assert not scenario.audio[first + len(sound) : first + len(sound) + 32_000].any()


def test_a_reply_anywhere_in_the_window_is_a_response(bench: Path) -> None:
    suite = ProactiveSoundBench.read(bench)
    r1, r2, r3, i1 = (suite.scenario(seed) for seed in range(4))
    found = decisions(
        suite,
        trace_of(r1, (0.4, "Early.")),
        trace_of(r2, (2.0, "Late."), (r2.duration_s, "Later.")),
        trace_of(r3, (2.4, "")),
        trace_of(i1),
    )
    assert found == {"r1": responded("Early."), "r2": responded("Late. Later."), "r3": responded(""), "i1": IGNORED}


def test_a_latency_is_from_the_sounds_end_to_the_first_reply(bench: Path) -> None:
    suite = ProactiveSoundBench.read(bench)
    r1, r2, i1 = (suite.scenario(seed) for seed in (0, 1, 3))
    early, late, none = suite.predictions([trace_of(r1, (0.4, "")), trace_of(r2, (2.0, ""), (4.0, "")), trace_of(i1)])
    assert (early["latency_s"], late["latency_s"]) == (pytest.approx(0.4 - 1.0), pytest.approx(2.0 - 0.4))
    assert "latency_s" not in none


def test_of_several_each_reply_belongs_to_the_sound_that_was_heard(bench: Path) -> None:
    """A reply at the very moment at which the next sound begins was decided without it."""
    suite = ProactiveSoundBench.read(bench, "multiple")
    seed = max(suite.seeds, key=lambda s: len(suite.streams[s]))
    scenario, ids = suite.scenario(seed), [item.id for item in suite.streams[seed]]
    second, third = scenario.events[1:3]
    found = decisions(suite, trace_of(scenario, (second.onset_s, "first"), (third.onset_s + CHUNK_S, "third")))
    assert [found[i] for i in ids[:3]] == [responded("first"), IGNORED, responded("third")]
    found = decisions(suite, trace_of(scenario, (second.onset_s + CHUNK_S, "second"), (scenario.duration_s, "last")))
    assert (found[ids[0]], found[ids[1]], found[ids[-1]]) == (IGNORED, responded("second"), responded("last"))


def test_scores_by_hand(bench: Path) -> None:
    """Right: r1 0.2 s after its end, r3 0.3 s after, i1, i2. Wrong: r2, which nobody answers, and i3."""
    suite = ProactiveSoundBench.read(bench)
    starts = {"r1": 1.2, "r3": 2.4, "i3": 0.8}
    traces = [
        trace_of(suite.scenario(seed), *([(starts[i], "Look.")] if i in starts else [])) for seed, i in enumerate(IDS)
    ]
    scores = suite.score(traces)
    assert {name: (m.value, m.count) for name, m in scores.items()} == {
        "official_accuracy": (4 / 6, 6),
        "strict_accuracy": (4 / 6, 6),
        "balanced_accuracy": (pytest.approx(2 / 3), 6),
        "respond_accuracy": (2 / 3, 3),
        "ignore_accuracy": (2 / 3, 3),
        "latency_p50_s": (pytest.approx(0.25), 2),
        "latency_p95_s": (pytest.approx(0.295), 2),
        "Music": (1.0, 2),
        "Music/Artistic": (1.0, 2),
        "Traffic": (2 / 4, 4),
        "Traffic/Large Traffic": (0.0, 1),
        "Traffic/Vehicle": (2 / 3, 3),
    }
    assert all(m.low <= m.value <= m.high for m in scores.values())
    always = suite.score([trace_of(suite.scenario(seed), (0.4, "Look.")) for seed in suite.seeds])
    assert (always["strict_accuracy"].value, always["balanced_accuracy"].value) == (0.5, 0.5)


def test_a_silent_policy_has_no_latency(bench: Path) -> None:
    suite = ProactiveSoundBench.read(bench)
    scores = suite.score([trace_of(suite.scenario(seed)) for seed in suite.seeds])
    assert scores["latency_p50_s"] == Metric(None, 0, None, None)
    assert (scores["respond_accuracy"].value, scores["ignore_accuracy"].value) == (0.0, 1.0)


@pytest.mark.parametrize(("tier", "named", "left"), [("single", 6, 5), ("multiple", 3, 2)])
def test_what_is_missing_is_named_and_left_out_of_every_number(
    tier: str, named: int, left: int, tmp_path: Path
) -> None:
    write_bench(tmp_path)
    (tmp_path / path_of("i2")).unlink()
    suite = ProactiveSoundBench.read(tmp_path, tier)
    assert (suite.coverage.named, suite.coverage.present, len(suite.seeds)) == (named, left, left)
    assert path_of("i2") in str(suite.coverage)
    assert f"{left} of {named}" in str(suite.coverage)
    silent = [trace_of(suite.scenario(seed)) for seed in suite.seeds]
    assert "i2" not in decisions(suite, *silent)
    assert suite.score(silent)["strict_accuracy"].count == sum(len(suite.streams[seed]) for seed in suite.seeds)


def test_of_many_missing_recordings_ten_are_named(tmp_path: Path) -> None:
    suite = ProactiveSoundBench.read(write_manifests(tmp_path))
    assert not suite.seeds
    assert "i, j and 2 more;" in str(replace(suite.coverage, missing=tuple("abcdefghijkl")))
    with pytest.raises(ScenarioError, match="its recordings are not there"):
        suite.score([])


def test_a_recording_that_cannot_be_read_is_counted_against_coverage_and_is_no_silence(tmp_path: Path) -> None:
    write_bench(tmp_path)
    (tmp_path / path_of("r1")).write_text("this is no sound")
    (tmp_path / path_of("i2")).write_bytes((tmp_path / path_of("i2")).read_bytes()[:-1000])  # cut short
    suite = ProactiveSoundBench.read(tmp_path)
    assert (suite.coverage.named, suite.coverage.present, list(suite.seeds)) == (6, 4, [1, 2, 3, 5])
    first, second = suite.coverage.missing
    assert first.startswith("stream 0 (")
    assert "r1.wav: not audio that can be decoded" in first
    assert "i2.wav: truncated" in second
    with pytest.raises(AudioError, match=r"r1\.wav"):
        suite.scenario(0)


def test_a_set_of_fewer_recordings_than_were_released_says_so(bench: Path) -> None:
    for tier in ("single", "multiple"):
        coverage = ProactiveSoundBench.read(bench, tier).coverage
        assert coverage.complete
        assert str(coverage).endswith("items are there; 6 of 644 released recordings are named")


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_bench(tmp_path)
    manifest = tmp_path / "proactive_reply_benchmark.jsonl"
    manifest.write_text(manifest.read_text().replace(path_of("i1"), "../../a/b/i1.wav"))
    with pytest.raises(ManifestError, match="leads out of the folder"):
        _ = ProactiveSoundBench.read(tmp_path).seeds


def test_an_unknown_tier_is_named(bench: Path) -> None:
    with pytest.raises(ScenarioError, match="did you mean 'multiple'"):
        ProactiveSoundBench.read(bench, "multi")


@pytest.mark.parametrize("count", range(1, 32))
def test_every_recording_is_in_one_stream_of_three_or_five(count: int) -> None:
    items = [BenchItem(str(n), f"./a/Music/b/{n}.wav", "", "IGNORE", ()) for n in range(count)]
    streams = streams_of(items)
    assert sorted(item.id for stream in streams for item in stream) == sorted(item.id for item in items)
    assert all(len(stream) in (3, 5) for stream in streams[:-1])
    assert count in (1, 2, 4, 7) or len(streams[-1]) in (3, 5)
    assert streams == streams_of(items)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared manifests are not here")
def test_the_release_has_as_many_streams_of_three_as_of_five() -> None:
    suite = ProactiveSoundBench.read(SHARED, "multiple")
    sizes = Counter(len(stream) for stream in suite.streams)
    assert set(sizes) == {3, 5}
    assert 3 * sizes[3] + 5 * sizes[5] == 644
    assert abs(sizes[3] - sizes[5]) < 20
    assert suite.coverage.named == len(suite.streams)
    assert suite.coverage.present == 0
    assert not suite.coverage.short
