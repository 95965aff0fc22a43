"""`soundflow evaluate --out` and `soundflow leaderboard`: several policies, kills, pages, tables."""

import json
import multiprocessing
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from envs.errors import ConfigError, PolicyError, ScenarioError
from envs.metrics import Metric
from envs.trace_files import read_policies
from tests.envs.tiny_bench import path_of, write_bench
from tests.envs.tiny_speech_suites import recording, write_voicebench
from tests.policies.conftest import write_tiny_policy
from tests.trainers.short_suite import COUNT, QUESTION, die
from trainers import judge_page
from trainers.cli import main
from trainers.clips import ClipFolder
from trainers.judge import Question, judge, policy_names
from trainers.judge_command import Told
from trainers.leaderboard import Row, merge, published_rows, rows_of, write_leaderboard

Captured = pytest.CaptureFixture[str]
BENCH = "proactive-sound-bench"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("policies") / "tiny")


@pytest.fixture(scope="module")
def whole(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation that was left alone."""
    out = tmp_path_factory.mktemp("whole")
    judge(["random", str(policy)], QUESTION, out)
    return out


def test_after_a_kill_the_same_command_goes_on_to_the_same_numbers(policy: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL comes of itself in the second block of the first policy: nobody has to catch the moment."""
    policies = ["random", str(policy)]
    process = multiprocessing.get_context("spawn").Process(target=die, args=(policies, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    first = next(path for path in tmp_path.rglob("block-*.jsonl"))
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["block-000000.jsonl"]
    assert not (tmp_path / "metrics.json").exists()
    written = first.stat().st_mtime_ns
    judge(policies, QUESTION, tmp_path)
    assert first.stat().st_mtime_ns == written
    assert (tmp_path / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()


def test_one_at_a_time_and_64_at_once_give_the_same_numbers(policy: Path, whole: Path, tmp_path: Path) -> None:
    judge(["random", str(policy)], QUESTION, tmp_path, num_slots=1)
    assert (tmp_path / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_another_command_is_refused_by_what_has_changed(policy: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--seed was 0, is now 1"):
        judge(["random", str(policy)], replace(QUESTION, seed=1), whole)
    with pytest.raises(ConfigError, match=r"--policy was .*tiny.*, is now .*energy"):
        judge(["random", "energy"], QUESTION, whole)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        judge(["silent"], QUESTION, tmp_path)


def test_a_command_that_played_nothing_does_not_keep_its_folder(tmp_path: Path) -> None:
    """A policy that cannot be used, named by mistake, must not stand in the way of the right one."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyError, match="not a policy folder"):
        judge([str(tmp_path / "empty")], QUESTION, tmp_path / "out")
    assert judge(["silent"], QUESTION, tmp_path / "out").metrics.keys() == {"silent"}


def test_every_policy_is_looked_at_before_the_first_is_played(policy: Path, tmp_path: Path) -> None:
    """Hours would be lost to a folder that turns out to be none at its turn, and `--out` would be taken."""
    spoilt, gate = shutil.copytree(policy, tmp_path / "spoilt"), tmp_path / "gate"
    (spoilt / "model.safetensors").write_bytes((policy / "model.safetensors").read_bytes()[:-100])
    gate.mkdir()
    (gate / "gate.json").write_text('{"format_version": 1}')
    for other, reason in ((spoilt, "safetensors: cannot be read"), (gate, "the gate cannot be read")):
        with pytest.raises(PolicyError, match=reason):
            judge(["silent", str(other)], QUESTION, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_nobody_thinks_for_so_long(seconds: float, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="expected seconds from 0 on"):
        judge(["silent"], replace(QUESTION, thinking_s=seconds), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_baseline_is_no_folder_of_its_name(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--policy silent --out silent` goes on after a kill, though there is a folder of that name by then."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        judge(["silent"], QUESTION, Path("silent"))
    shutil.copytree(policy, tmp_path / "energy")
    assert list(policy_names(["energy", "./energy"]).values()) == ["energy", "./energy"]


def test_a_block_of_other_streams_is_named(tmp_path: Path) -> None:
    judge(["silent"], QUESTION, tmp_path)
    block = next(tmp_path.rglob("block-000000.jsonl"))
    lines = block.read_text().splitlines(keepends=True)
    block.write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(ScenarioError, match=r"block-000000\.jsonl: holds stream 1 in place of 0"):
        judge(["silent"], QUESTION, tmp_path)


def test_a_block_that_was_cut_short_is_named(whole: Path, policy: Path, tmp_path: Path) -> None:
    judge(["silent"], QUESTION, tmp_path)
    block = next(tmp_path.rglob("block-000000.jsonl"))
    block.write_text(block.read_text().split("\n", 1)[1])
    with pytest.raises(ScenarioError, match="holds 65 traces, expected 66"):
        judge(["silent"], QUESTION, tmp_path)


def test_numbers_and_traces_are_of_every_policy(whole: Path) -> None:
    short = json.loads((whole / "metrics.json").read_text())["suites"]["short"]
    tiny = next(name for name in short["policies"] if name.endswith("tiny"))
    assert set(short["policies"]) == {tiny, "random"}
    f1 = {name: numbers["metrics"]["trigger_f1"]["value"] for name, numbers in short["policies"].items()}
    difference = short["differences"][0]
    assert (difference["first"], difference["second"]) == ("random", tiny)
    assert difference["metrics"]["trigger_f1"]["value"] == pytest.approx(f1["random"] - f1[tiny])
    assert 0 < short["policies"][tiny]["ranking"]["average_precision"]["value"] < 1
    assert {name: len(traces) for name, traces in read_policies(whole / "traces" / "short").items()} == {
        tiny: COUNT,
        "random": COUNT,
    }


def test_names_are_distinct(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run / "policy").mkdir(parents=True)
    folders = [str(tmp_path / run / "policy") for run in ("a", "b")]
    assert list(policy_names([*folders, "energy"])) == ["a-policy", "b-policy", "energy"]
    assert policy_names(["energy", "silent"]) == {"energy": "energy", "silent": "silent"}
    with pytest.raises(ConfigError, match="given twice"):
        policy_names([folders[0], f"{folders[0]}/"])


def test_a_baseline_may_be_called_one(whole: Path, policy: Path, tmp_path: Path, capsys: Captured) -> None:
    """`baseline:random` is `random`, so that the command that was begun with one goes on with the other."""
    assert judge(["baseline:random", str(policy)], QUESTION, whole).metrics.keys() >= {"random"}
    with pytest.raises(ConfigError, match="given twice"):
        judge(["energy", "baseline:energy"], QUESTION, tmp_path)
    for arguments in (["--clips", str(tmp_path)], ["--suite", "long-stream"], ["--suite", "proactive", "--out", "x"]):
        assert main(["evaluate", "--policy", "baseline:enrgy", *arguments]) == 2
        assert (
            "baseline:enrgy: no baseline that can be judged is called 'enrgy'; did you mean" in capsys.readouterr().err
        )


def test_the_page_is_one_file_that_says_first_what_is_missing(
    policy: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, out = write_bench(tmp_path / "bench"), tmp_path / "out"
    (bench / path_of("i1")).unlink()
    monkeypatch.setattr(judge_page, "SHOWN", 1)
    arguments = ["evaluate", "--policy", str(policy), "--policy", "always", "--suite", BENCH, "--data", str(bench)]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("coverage: 5 of 6 items are there; missing: stream 3")
    assert "stream" in printed.err  # where it is
    page = (out / "report.html").read_text(encoding="utf-8")
    body = page.split("<body>\n", 1)[1]
    assert body.startswith("<p class=bad>coverage: 5 of 6 items are there; missing: stream 3")
    assert len(page.encode()) < 10_000_000
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names of SVG, never fetched
    assert set(re.findall(r'(?:src|href)="(\w+:|#)', page)) <= {"data:", "#"}
    assert page.count("data:audio/mpeg;base64,") == page.count("data:image/webp;base64,") >= 2
    for said in (
        "Over the control threshold",
        "After a reply its",
        "false alarm after",
        "Differences between policies",
    ):
        assert said.lower() in page.lower()
    (tiny,) = (path for path in (out / "predictions" / BENCH).glob("*.jsonl") if "always" not in path.name)
    suite = json.loads((out / "metrics.json").read_text())["suites"][BENCH]
    (pair,) = suite["differences"]
    own = [suite["policies"][pair[who]]["benchmark"]["strict_accuracy"]["value"] for who in ("first", "second")]
    assert pair["benchmark"]["strict_accuracy"]["value"] == pytest.approx(own[0] - own[1])
    assert suite["notes"]["strict_accuracy"] in page
    heads = re.findall(r"<thead><tr>.*?</tr></thead>", page)
    assert len(heads) > 6
    assert all(head.index("tiny") < head.index("always") for head in heads)  # as they were named
    capsys.readouterr()
    assert main(["score", BENCH, str(tiny), "--data", str(bench), "--mode", "strict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]

    assert main(["leaderboard", str(out)]) == 0
    table = capsys.readouterr().out
    assert len(re.findall(r"published$", table, flags=re.MULTILINE)) == 4
    assert len(re.findall(r"  - .*incomplete: 5 of 6", table)) == 4  # two policies, official and strict
    assert "Audio-Interaction 3B" in table


def test_a_sure_difference_is_shown_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Green where the first is better, red where it is worse, plain where the faster one seldom answers."""
    monkeypatch.setattr(judge_page, "SHOWN", 0)
    judged = judge(["always", "silent"], QUESTION, tmp_path)

    def metrics(recall: float, *others: float) -> dict[str, Metric]:
        names = ("trigger_recall", "trigger_f1", "false_alarms_per_hour", "latency_p50_s", "early_rate")
        return {name: Metric(v, 9, v, v) for name, v in zip(names, (recall, *others), strict=True)}

    def shown(first: dict[str, Metric], second: dict[str, Metric]) -> list[str]:
        differences = {
            name: Metric(v, 9, v - 0.01, v + 0.01)
            for name, one in first.items()
            if one.value is not None and (other := second[name].value) is not None
            for v in [one.value - other]
        }
        hand_made = replace(
            judged,
            metrics={"always": first, "silent": second},
            differences={("always", "silent"): {"metrics": differences}},
        )
        judge_page.write_judge_page(tmp_path / "page.html", hand_made, QUESTION, {})
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        rows = re.findall(r"<tr>.*?</tr>", page[page.index("Differences between") : page.index("Worst moments")])[1:]
        return [re.findall(r"<td(?: class=(\w+))?", row)[0] for row in rows]

    assert shown(metrics(0.9, 0.9, 20.0, 0.5, 0.3), metrics(0.8, 0.5, 10.0, 0.9, 0.3)) == [
        "best", "best", "worse", "best", "",
    ]  # fmt: skip
    assert shown(metrics(0.9, 0.9, 20.0, 0.9, 0.3), metrics(0.1, 0.2, 10.0, 0.5, 0.1)) == ["best", "best", "", "", ""]


def write_run(folder: Path, policy: str, accuracy: float, tier: str = "single") -> Path:
    published = published_rows(BENCH, tier)[0]
    metric = replace(published.metrics["accuracy"], value=accuracy, low=accuracy - 0.1, high=accuracy + 0.1)
    row = replace(published, policy=policy, metrics={"accuracy": metric}, seed=0, published=False, source="")
    folder.mkdir()
    write_leaderboard(folder / "leaderboard.json", [row])
    return folder


def places(rows: list[Row]) -> list[tuple[str, bool]]:
    return [(row.policy, row.published) for row in rows]


def test_runs_are_merged_beside_what_was_published(tmp_path: Path, capsys: Captured) -> None:
    runs = [write_run(tmp_path / "a", "ours", 0.70), write_run(tmp_path / "b", "ours", 0.585)]
    assert places(merge(runs)) == [
        ("a/ours", False),
        ("Audio-Interaction 3B", True),
        ("MiniCPM-o-4.5", True),
        ("b/ours", False),
        ("Qwen2.5-Omni-7B", True),
        ("Gemini-3-Flash", True),
    ]
    assert main(["leaderboard", *map(str, runs), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["published"] for row in rows] == [False, True, True, False, True, True]
    assert rows[1]["metrics"]["Music"] == {"value": 0.667, "count": 15, "low": None, "high": None}
    assert "2606.05121" in rows[1]["source"]


def test_where_low_is_good_the_lowest_comes_first(tmp_path: Path) -> None:
    whole = {"named": 10, "present": 10}
    rows = [
        Row(policy, "librispeech", "clean", "streams", {"wer": Metric(rate, 10, None, None)}, {}, whole, 0, None, None)
        for policy, rate in (("worse", 0.4), ("better", 0.1))
    ]
    write_leaderboard(tmp_path / "leaderboard.json", rows)
    assert places(merge([tmp_path])) == [("better", False), ("worse", False)]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for home in ("first", "second"):
        (tmp_path / home).mkdir()
    runs = [write_run(tmp_path / "first" / "run", "ours", 0.9), write_run(tmp_path / "second" / "run", "ours", 0.8)]
    assert [name for name, published in places(merge(runs)) if not published] == ["first/run/ours", "second/run/ours"]


def test_numbers_of_different_kinds_are_not_ranked_together(tmp_path: Path) -> None:
    """An open question set is ranked by a scorer's mean where one was given, and by chrF where none was."""
    whole = {"named": 10, "present": 10}
    for name in ("judge_score", "chrf"):
        metrics = {name: Metric(0.5, 10, None, None)}
        row = Row(name, "voicebench", "alpacaeval", "streams", metrics, {}, whole, 0, None, None)
        write_leaderboard(tmp_path / name / "leaderboard.json", [row])
    with pytest.raises(ScenarioError, match=r"has chrf of chrf, .* has judge_score in its place"):
        merge([tmp_path / "judge_score", tmp_path / "chrf"])


def judged_as(folder: Path, question: Question) -> Path:
    write_leaderboard(folder / "leaderboard.json", rows_of(judge(["silent"], question, folder)))
    return folder


def test_numbers_of_other_conditions_are_not_ranked_together(tmp_path: Path, capsys: Captured) -> None:
    """Who thinks for two seconds, who has another judge, and whose streams are others under the same name."""
    plain = judged_as(tmp_path / "plain", QUESTION)
    again = judged_as(tmp_path / "again", QUESTION)
    slow = judged_as(tmp_path / "slow", replace(QUESTION, thinking_s=2.0))
    fewer = replace(QUESTION, suite=replace(QUESTION.suite, seeds=range(5)))
    others = judged_as(tmp_path / "others", replace(fewer, tier=QUESTION.tier))
    assert len(merge([plain, again])) == 2
    with pytest.raises(ScenarioError, match=r"silent with thinking: 2 s, .* has thinking: 0 s; .* the same conditions"):
        merge([plain, slow])
    with pytest.raises(ScenarioError, match=r"with streams: 5 of sha256 \w+, .* has streams: 66 of sha256"):
        merge([plain, others])
    assert main(["leaderboard", str(plain), str(again)]) == 0
    assert "thinking: 0 s\nstreams: 66 of sha256 " in capsys.readouterr().out


def test_a_file_without_conditions_is_read_and_marked(tmp_path: Path, capsys: Captured) -> None:
    new, old = (judged_as(tmp_path / name, QUESTION) for name in ("new", "old"))
    document = json.loads((old / "leaderboard.json").read_text())
    del document["rows"][0]["conditions"]
    (old / "leaderboard.json").write_text(json.dumps(document))
    assert main(["leaderboard", str(new), str(old)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("conditions unknown") for line in lines if "/silent" in line] == [False, True]
    assert lines[-1].startswith("conditions unknown: of an earlier version")


def test_a_judge_is_a_condition_and_where_it_is_asked_is_none(tmp_path: Path) -> None:
    write_voicebench(tmp_path, "alpacaeval")
    known = []
    for number, (model, port) in enumerate((("a", 1), ("a", 2), ("b", 1))):
        scorer = tmp_path / f"{number}.yaml"
        scorer.write_text(f"{{name: judge, args: {{base_url: 'http://127.0.0.1:{port}/v1', model: {model}}}}}")
        known.append(Told("voicebench", tmp_path, "alpacaeval", scorer=scorer).question().conditions)
    assert known[0] == known[1] != known[2]
    assert '"model": "b"' in known[2]["scorer"]


def test_recordings_of_the_same_names_are_told_apart(tmp_path: Path) -> None:
    """A clip folder by what is heard in it, a folder of noise by the sizes of its files."""
    known: dict[str, list[str]] = {"clips": [], "false-alarms": []}
    for seed, seconds in ((0, 1.0), (1, 1.2)):
        clips, noise = tmp_path / f"{seed}" / "mine", tmp_path / f"{seed}" / "noise"
        write_clips(clips, seed)
        recording(noise / "a.wav", seed, seconds)
        for told in (Told("clips", clips=ClipFolder(clips)), Told("false-alarms", noise, "dns_noise")):
            known[told.suite].append(told.question().conditions["recordings"])
    assert all(one != other for one, other in known.values())


def test_another_fold_is_another_command_and_another_tier(tmp_path: Path) -> None:
    """Nothing could be judged on recordings into a folder; and a fold holds out as many of them as another."""
    clips = tmp_path / "mine"
    write_clips(clips, 0, copies=4)
    first, second = (Told("clips", clips=ClipFolder(clips, fold=k), held_out=0.25).question() for k in range(2))
    assert len(first.suite.seeds) == len(second.suite.seeds)
    judge(["silent"], first, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--fold was 0, is now 1"):
        judge(["silent"], second, tmp_path / "out")
    assert "held out 0.25, fold 1" in second.tier


def write_clips(folder: Path, seed: int, copies: int = 1) -> None:
    columns = "path label caption domain decision recording speaker seconds source licence".split()
    rows = [
        [f"{label}{copy}.wav", label, f"a {label}", "Traffic", decision, f"{label}{copy}", "", "1.0", "mine", "CC0"]
        for label, decision in (("siren", "RESPOND"), ("engine", "IGNORE"))
        for copy in range(copies)
    ]
    for number, row in enumerate(rows):
        recording(folder / row[0], 2 * seed + number, 1.0)
    lines = "".join(f"{','.join(row)}\n" for row in [columns, *rows])
    (folder / "manifest.csv").write_text(lines, encoding="utf-8")


def test_streams_of_ones_own_sounds_are_another_tier(tmp_path: Path) -> None:
    """Else a leaderboard would rank five joined segments of recordings together with those of built-in sounds."""
    write_clips(tmp_path, 0)
    assert Told("long-stream").question().tier == "proactive"
    assert Told("long-stream", tmp_path).question().tier == f"proactive, {tmp_path.name}: 2 recordings"


def test_other_tiers_and_files_are_refused(tmp_path: Path) -> None:
    single, multiple = write_run(tmp_path / "a", "x", 0.7), write_run(tmp_path / "b", "x", 0.7, "multiple")
    with pytest.raises(ScenarioError, match=r"\(multiple\).*\(single\); such numbers cannot be ranked together"):
        merge([single, multiple])
    with pytest.raises(ScenarioError, match="given twice"):
        merge([single, single])
    with pytest.raises(ScenarioError, match="no such file"):
        merge([tmp_path])
    (tmp_path / "odd.json").write_text('{"format": 1, "rows": [{"policy": 3, "metrics": {"a": {"count": "1"}}}]}')
    with pytest.raises(ScenarioError, match=r"odd\.json.*rows\[0\]\.metrics\.a\.count is"):
        merge([tmp_path / "odd.json"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--policy", "silent", "--suite", "proactive"],
        ["--policy", "silent", "--policy", "energy", "--clips", "x"],
        ["--policy", "silent", "--suite", "proactive", "--clips", "x", "--out", "y"],
        ["--policy", "silent", "--suite", "clips", "--out", "y"],
        ["--policy", "silent", "--clips", "x", "--count", "3", "--out", "y"],
        ["--policy", "silent", "--clips", "x", "--traces", "z", "--out", "y"],
    ],
)
def test_what_does_not_go_together_ends_with_usage(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *arguments])
    assert end.value.code == 2
    assert "soundflow: error: " in capsys.readouterr().err
