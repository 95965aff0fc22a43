"""Benchmarks from the command line: played by a policy, and scored from a file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.audio import write_wav
from envs.suites import OfflineSuite
from envs.suites.catalogue import SUITES, open_suite
from envs.suites.false_alarms import NOISE, FalseAlarms
from envs.suites.proactive_sound_bench import ProactiveSoundBench
from tests.envs.tiny_bench import IDS, RESPOND, path_of, write_bench, write_manifests
from tests.envs.tiny_speech_suites import write_librispeech
from tests.policies.conftest import write_tiny_policy
from tests.policies.test_reranker import write_reranker
from trainers.cli import main
from trainers.evaluation import load_player
from trainers.suite_run import run_suite

BENCH = "proactive-sound-bench"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Every decision right, and of the replies one that matches."""
    path = tmp_path / "predictions.jsonl"
    replies = {
        i: f"<Decision>RESPOND</Decision><Reply>{'zzz' if i != 'r1' else RESPOND[i][2]}</Reply>" for i in RESPOND
    }
    lines = [{"id": i, "_raw_reply": replies.get(i, "<Decision>IGNORE</Decision>")} for i in IDS]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def score(capsys: Captured, *arguments: object) -> dict[str, object]:
    assert main(["score", BENCH, *map(str, arguments), "--json"]) == 0
    numbers: dict[str, object] = json.loads(capsys.readouterr().out)
    return numbers


@pytest.mark.parametrize("tier", ["single", "multiple"])
def test_a_suite_is_the_same_one_at_a_time_and_together(tier: str, policy: Path, bench: Path) -> None:
    suite = ProactiveSoundBench.read(bench, tier)
    alone, together = (run_suite(str(policy), suite, num_slots=slots) for slots in (1, 64))
    assert suite.predictions(alone.traces) == suite.predictions(together.traces)
    assert alone.metrics == together.metrics


def test_an_item_is_the_same_alone_and_among_64(policy: Path, tmp_path: Path) -> None:
    """Of 66, those of the end of a full batch, and of one that is not full."""
    suite = ProactiveSoundBench.read(write_many(tmp_path, 66))
    last = replace(suite, streams=suite.streams[60:])
    together = run_suite(str(policy), suite, num_slots=64).traces[60:]
    alone = run_suite(str(policy), last, num_slots=1).traces
    assert [t.replies for t in alone] == [t.replies for t in together]
    assert {bool(t.replies) for t in alone} == {True, False}
    for one, other in zip(alone, together, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def write_many(folder: Path, count: int) -> Path:
    """Write a benchmark of short recordings that all deserve a reply."""
    rng = np.random.default_rng(0)
    rows = [{"id": str(n), "path": f"./sounds/Music/Artistic/{n}.wav", "description": "x"} for n in range(count)]
    lines = "".join(json.dumps({**row, "decision": "RESPOND", "standard_answers": ["Look."]}) + "\n" for row in rows)
    for name in ("proactive_reply_benchmark.jsonl", "proactive_reply_benchmark_response.jsonl"):
        (folder / name).write_text(lines)
    (folder / "sounds" / "Music" / "Artistic").mkdir(parents=True)
    for row in rows:
        write_wav(folder / row["path"], rng.uniform(-0.3, 0.3, int(rng.integers(2_000, 12_000))).astype(np.float32))
    return folder


def test_evaluate_plays_a_suite_and_its_predictions_score_the_same(
    policy: Path, bench: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "predictions.jsonl"
    arguments = ["evaluate", "--policy", str(policy), "--suite", BENCH, "--data", str(bench)]
    assert main([*arguments, "--tier", "multiple", "--predictions", str(out), "--json"]) == 0
    played = json.loads(capsys.readouterr().out)
    assert next(iter(played)) == "coverage"
    assert played["coverage"] == {"named": 3, "present": 3, "missing": [], "recordings": 6, "released": 644}
    for mode in ("official", "strict"):
        scored = score(capsys, out, "--data", bench, "--mode", mode, "--tier", "multiple")
        assert scored["accuracy"] == played[f"{mode}_accuracy"]["value"]
        assert scored["balanced_accuracy"] == played["balanced_accuracy"]["value"]
        assert (scored["tier"], scored["published_scorer_stops"]) == ("multiple", None)


def test_the_first_line_says_what_is_missing(tmp_path: Path, capsys: Captured) -> None:
    write_bench(tmp_path)
    (tmp_path / path_of("i1")).unlink()
    out = tmp_path / "predictions.jsonl"
    arguments = ["evaluate", "--policy", "always", "--suite", BENCH, "--data", str(tmp_path), "--predictions", str(out)]
    assert main(arguments) == 0
    first, *table = capsys.readouterr().out.splitlines()
    assert first.startswith("coverage: 5 of 6 items are there; missing: stream 3")
    assert path_of("i1") in first
    assert next(line.split() for line in table if line.startswith("strict_accuracy"))[1] == "0.600"  # r1 to r3 of 5
    assert {json.loads(line)["id"] for line in out.read_text().splitlines()} == {*IDS} - {"i1"}


def test_progress_is_told_stream_by_stream(bench: Path, capsys: Captured) -> None:
    suite, told = ProactiveSoundBench.read(bench), list[int]()
    load_player("silent", 6).play(suite.scenario, suite.seeds, 6, progress=told.append)  # of five lengths, at once
    assert (sum(told), len(told)) == (6, 5)
    assert main(["evaluate", "--policy", "silent", "--suite", BENCH, "--data", str(bench)]) == 0
    assert "6/6" in capsys.readouterr().err


def test_what_fails_only_when_it_is_decoded_ends_in_a_line_that_says_how_to_leave_it_out(
    tmp_path: Path, capsys: Captured
) -> None:
    cut = write_librispeech(tmp_path) / "LibriSpeech/test-clean/61/70968/61-70968-0001.flac"
    cut.write_bytes(cut.read_bytes()[:-4000])
    arguments = ["evaluate", "--policy", "silent", "--suite", "librispeech", "--data", str(tmp_path)]
    for more in ([], ["--out", str(tmp_path / "out")]):
        assert main([*arguments, *more]) == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith(f"soundflow: error: librispeech, stream 1: {cut}: ")
        assert "move it away and begin again" in last
    cut.unlink()
    assert main([*arguments, "--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.startswith("coverage: 1 of 2 items are there; missing:")


def test_a_suite_without_recordings_is_refused(tmp_path: Path, capsys: Captured) -> None:
    write_manifests(tmp_path)
    assert main(["evaluate", "--policy", "silent", "--suite", BENCH, "--data", str(tmp_path), "--json"]) == 2
    captured = capsys.readouterr()
    assert "coverage: 0 of 6 items are there" in captured.err
    assert not captured.out


def test_score_says_what_the_replies_were_judged_by(
    predicted: Path, bench: Path, tmp_path: Path, capsys: Captured
) -> None:
    where = (predicted, "--data", bench, "--mode", "strict")
    assert score(capsys, *where)["accuracy"] == 1.0
    by_chrf = score(capsys, *where, "--semantic", "chrf")
    assert (by_chrf["accuracy"], by_chrf["semantic"]) == (4 / 6, {"by": "chrf", "threshold": 0.25})
    for bias, accuracy in ((4.0, 1.0), (-4.0, 3 / 6)):  # a reranker that likes every pair, and one that likes none
        folder = write_reranker(tmp_path / f"reranker{bias}", bias=bias)
        numbers = score(capsys, *where, "--semantic", folder)
        assert (numbers["accuracy"], numbers["decision_accuracy"]) == (accuracy, 1.0)
        assert numbers["semantic"] == {"by": str(folder), "threshold": 0.5}
    assert main(["score", BENCH, *map(str, where), "--semantic", "chrf"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{BENCH}, single tier, strict, replies by chrf above 0.25"
    assert shown[1].split() == ["accuracy", "0.6667", "4", "of", "6"]
    assert shown[-1] == "6 of 644 released recordings are named"


def test_score_says_first_that_recordings_have_no_line(
    predicted: Path, bench: Path, tmp_path: Path, capsys: Captured
) -> None:
    part = tmp_path / "part.jsonl"
    part.write_text("".join(predicted.read_text(encoding="utf-8").splitlines(keepends=True)[:4]), encoding="utf-8")
    assert main(["score", BENCH, str(part), "--data", str(bench), "--mode", "official"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("; incomplete: 2 of 6 recordings have no line")


def test_score_names_what_the_published_scorer_stops_at(predicted: Path, bench: Path, capsys: Captured) -> None:
    predicted.write_text(f"{{\n{predicted.read_text()}")
    assert main(["score", BENCH, str(predicted), "--data", str(bench), "--mode", "official", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["accuracy"] == 1.0
    assert captured.err.splitlines()[0].startswith(f"soundflow: malformed: {predicted}, line 1: not JSON")
    assert f"the published scorer gives no number for this file: {predicted}, line 1" in captured.err


def test_score_names_what_it_cannot_use(predicted: Path, bench: Path, tmp_path: Path, capsys: Captured) -> None:
    for arguments, expected in (
        ([str(tmp_path / "none.jsonl"), "--data", str(bench)], "none.jsonl: No such file"),
        ([str(predicted), "--data", str(tmp_path)], "no such file, which the corpus is published with"),
        ([str(predicted), "--data", str(bench), "--semantic", str(tmp_path / "none")], "none: no such folder"),
    ):
        assert main(["score", BENCH, *arguments, "--mode", "strict"]) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--policy", "x", "--clips", "y", "--suite", BENCH, "--data", "z"],
        ["evaluate", "--policy", "x", "--suite", BENCH],
        ["evaluate", "--policy", "x", "--suite", "other", "--data", "z"],
        ["evaluate", "--policy", "x", "--clips", "y", "--tier", "single"],
        ["evaluate", "--policy", "x", "--clips", "y", "--predictions", "z"],
        ["evaluate", "--policy", "x", "--clips", "y", "--offline"],
        ["evaluate", "--policy", "x", "--clips", "y", "--data", "z"],
        ["evaluate", "--policy", "x", "--suite", BENCH, "--data", "z", "--held-out", "0.3"],
        ["score", BENCH, "x", "--data", "y"],
        ["score", "other", "x", "--data", "y", "--mode", "strict"],
        ["score", BENCH, "x", "--data", "y", "--mode", "lenient"],
    ],
)
def test_a_wrong_command_line_ends_with_usage_and_2(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: soundflow" in capsys.readouterr().err


def test_the_streamed_and_the_offline_number_of_one_model_stand_beside_each_other(
    policy: Path, tmp_path: Path, capsys: Captured
) -> None:
    from policies.lalm_policy import LALMPolicy

    write_librispeech(tmp_path)
    out = tmp_path / "out.jsonl"
    arguments = ["evaluate", "--policy", str(policy), "--suite", "librispeech", "--data", str(tmp_path), "--offline"]
    assert main([*arguments, "--predictions", str(out), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert {"wer", "offline_wer"} <= numbers.keys()
    assert "lower case" in numbers["notes"]["wer"]
    suite = open_suite("librispeech", tmp_path)
    assert isinstance(suite, OfflineSuite)
    asked = [suite.question(seed) for seed in suite.seeds]
    expected = LALMPolicy.from_pretrained(policy).answer([q.audio for q in asked], [q.instruction for q in asked])
    assert [json.loads(line)["offline"] for line in out.read_text().splitlines()] == expected
    assert numbers["offline_wer"]["value"] == suite.score_answers(suite.seeds, expected)["wer"].value
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-2].startswith("wer: jiwer over both sides in lower case")


@pytest.mark.parametrize(
    ("who", "suite", "reason"),
    [
        ("energy", "librispeech", "energy has no words of its own"),
        ("policy", BENCH, f"{BENCH} is about the moment of a reply"),
    ],
)
def test_offline_is_refused_where_it_has_no_meaning(
    who: str, suite: str, reason: str, policy: Path, tmp_path: Path, capsys: Captured
) -> None:
    write_librispeech(write_bench(tmp_path))
    named = str(policy) if who == "policy" else who
    assert main(["evaluate", "--policy", named, "--suite", suite, "--data", str(tmp_path), "--offline"]) == 2
    assert reason in capsys.readouterr().err


def test_a_suite_that_is_built_in_needs_no_data(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortened; `always` speaks in every minute, and `silent` never."""
    monkeypatch.setattr(FalseAlarms, "built_in", classmethod(lambda cls, _: cls(scenes=(NOISE,), repeats=1)))
    monkeypatch.setitem(SUITES, "false-alarms", replace(SUITES["false-alarms"], built_in=FalseAlarms.built_in))
    rates = {}
    for who in ("silent", "always"):
        assert main(["evaluate", "--policy", who, "--suite", "false-alarms", "--json"]) == 0
        rates[who] = json.loads(capsys.readouterr().out)["false_alarms_per_hour"]
    assert rates["silent"]["value"] == 0.0
    assert rates["silent"]["high"] == pytest.approx(3.689 / (4 / 60), abs=0.1)
    assert rates["always"]["low"] > 100
