"""Full-Duplex-Bench: read as released, takeovers and latencies counted by hand, and what is missing named."""

import json
import math
from pathlib import Path

import pytest
from tiny_speech_suites import recording

from envs.errors import ManifestError, ScenarioError
from envs.suites.catalogue import open_suite
from envs.suites.full_duplex_bench import FullDuplexBench
from envs.trace import Reply, Trace

SUBSETS = {
    "candor_pause_handling": ("pause.json", [{"text": "[PAUSE]", "timestamp": [1.0, 1.6]}]),
    "candor_turn_taking": ("turn_taking.json", [{"text": "[TURN-TAKING]", "timestamp": [2.0, 2.4]}]),
    "icc_backchannel": ("", None),
    "synthetic_user_interruption": (
        "interrupt.json",
        [{"context": "Tell me more.", "interrupt": "Wait.", "timestamp": [1.5, 2.5]}],
    ),
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for subset, (name, annotation) in SUBSETS.items():
        for seed in (1, 2):
            folder = tmp_path / "v1.0" / subset / str(seed)
            recording(folder / "input.wav", seed, 3.9)
            (folder / "transcription.json").write_text("{}", encoding="utf-8")
            if name:
                (folder / name).write_text(json.dumps(annotation), encoding="utf-8")
    return tmp_path


def played(suite: FullDuplexBench, said: dict[str, list[Reply]]) -> list[Trace]:
    return [Trace(seed, "VoiceChat", 10, (), (), replies=said.get(suite.items[seed].path, [])) for seed in suite.seeds]


def test_takeovers_and_latencies_are_those_counted_by_hand(release: Path) -> None:
    suite = open_suite("full-duplex-bench", release)
    assert isinstance(suite, FullDuplexBench)
    assert suite.scenario(0).duration_s == pytest.approx(4.0)
    said = {
        "candor_pause_handling/1": [Reply(1.2, 1.6, "I see now.", 3)],  # three words, 0.4 s
        "candor_pause_handling/2": [Reply(1.2, 1.6, "Yes.", 1), Reply(2.0, 2.4, "Go on.", 2)],  # 1.2 s together
        "candor_turn_taking/1": [Reply(2.8, None, "It", 1)],  # cut off by the end, at 4.0 s
        "candor_turn_taking/2": [Reply(1.6, 2.0, "Well, it is late.", 4)],  # four words, before the turn had ended
        "icc_backchannel/1": [Reply(0.8, 1.2, "Right.", 1), Reply(2.4, 2.8, "Uh huh.", 2)],
        "icc_backchannel/2": [Reply(0.8, 1.2, "That is right.", 3)],
        "synthetic_user_interruption/1": [Reply(0.8, 2.0, "Once upon a time", 4)],  # began before the interruption
        "synthetic_user_interruption/2": [Reply(0.8, 1.2, "Once", 1), Reply(3.2, 4.0, "What can I do?", 4)],
    }
    scores = {name: metric.value for name, metric in suite.score(played(suite, said)).items()}
    assert scores == pytest.approx(
        {
            "takeover_rate: pause handling": 0.5,
            "takeover_rate: smooth turn taking": 1.0,
            "latency_mean_s: smooth turn taking": (0.8 + 0.0) / 2,
            "latency_p50_s: smooth turn taking": 0.4,
            "takeover_rate: user interruption": 0.5,
            "latency_mean_s: user interruption": 0.7,
            "latency_p50_s: user interruption": 0.7,
            "takeover_rate: backchannel": 0.5,
            "backchannels_per_s": 2 / 4.0,
        }
    )


def test_backchannels_are_compared_with_peoples_where_theirs_are_known(release: Path) -> None:
    """At 0.8 s and at 2.4 s, windows 4, 5 and 11 to 13 of 21: where people gave theirs, then where they gave none."""
    shares = {"1": [0.2 if i in (4, 5, 11, 12, 13) else 0.0 for i in range(21)], "2": [1.0, *[0.0] * 20]}
    (release / "icc_gt_distribution.json").write_text(json.dumps(shares), encoding="utf-8")
    suite = FullDuplexBench.read(release)
    right, words = [Reply(0.8, 1.2, "Right.", 1), Reply(2.4, 2.8, "Uh huh.", 2)], [Reply(0.8, 2.4, "No, I say.", 3)]
    for first, second, expected in (
        (right, right, (0.0 + math.sqrt(math.log(2))) / 2),
        (right, words, (0.0 + 1.0) / 2),  # a takeover
        ([], right, (1.0 + math.sqrt(math.log(2))) / 2),
    ):
        said = {"icc_backchannel/1": first, "icc_backchannel/2": second}
        scores = suite.score(played(suite, said))
        assert scores["backchannel_distance"].value == pytest.approx(expected, abs=1e-3)
    for text in ("{", "{}", '{"1": [0.0], "2": [1.0]}'):
        (release / "icc_gt_distribution.json").write_text(text, encoding="utf-8")
        with pytest.raises(ManifestError, match=r"icc_gt_distribution\.json: "):
            FullDuplexBench.read(release)


def test_a_silent_agent_takes_no_turn_and_has_no_latency(release: Path) -> None:
    suite = FullDuplexBench.read(release / "v1.0")
    scores = suite.score(played(suite, {}))
    assert {metric.value for name, metric in scores.items() if name.startswith("takeover")} == {0.0}
    assert scores["latency_mean_s: smooth turn taking"].value is None
    assert scores["latency_p50_s: user interruption"].count == 0
    with pytest.raises(ScenarioError, match="no stream of full-duplex-bench was played"):
        suite.score([])


def test_what_is_missing_is_counted_and_what_is_wrong_refused(release: Path, tmp_path: Path) -> None:
    (release / "v1.0" / "icc_backchannel" / "1" / "input.wav").unlink()
    annotation = release / "v1.0" / "candor_turn_taking" / "2" / "turn_taking.json"
    annotation.unlink()
    coverage = FullDuplexBench.read(release).coverage
    assert (coverage.named, coverage.present) == (9, 6)
    assert coverage.missing == (
        "synthetic_pause_handling (all its recordings)",
        "candor_turn_taking/2/turn_taking.json",
        "icc_backchannel/1/input.wav",
    )
    sound = release / "v1.0" / "icc_backchannel" / "2" / "input.wav"
    sound.write_bytes(b"RIFF")
    assert f"{sound}: not audio" in FullDuplexBench.read(release).coverage.missing[-1]
    for text in ("[]", "{", '[{"timestamp": 3}]', '[{"timestamp": [1, "x"]}]'):
        annotation.write_text(text, encoding="utf-8")
        with pytest.raises(ManifestError, match=r"turn_taking\.json: expected \[\{\"timestamp\""):
            FullDuplexBench.read(release)
    with pytest.raises(ManifestError, match="holds none of candor_pause_handling"):
        FullDuplexBench.read(release / "v1.0" / "icc_backchannel")
