"""`soundflow reward compare`: from files of rewards and folders of traces to rankings that people and programs read."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.errors import ScenarioError
from envs.rewards.bill import Bill
from envs.stream_env import StreamingAudioEnv
from envs.trace_files import read_policies, read_traces, write_trace, write_traces
from tests.trainers.test_report import Balanced
from trainers.cli import main
from trainers.options import CONFIGS
from trainers.reward_compare import load_reward

ROOT = Path(__file__).parent.parent.parent
Captured = pytest.CaptureFixture[str]
REWARDS = sorted((CONFIGS / "rewards").glob("*.yaml"))
SCORER = """
from envs.rewards.bill import Bill

class Mine:
    def __init__(self):
        self.bill = Bill()

    def scores(self, replies):
        self.bill.scored += len(replies)
        self.bill.calls += 1
        return [0.25] * len(replies)
"""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four streams, in which one policy is silent and the other talks all the time."""
    folder, env = tmp_path_factory.mktemp("traces"), StreamingAudioEnv()
    for policy, kinds in (("silent", (0, 0)), ("talks", (1, 2))):
        played = []
        for seed in range(4):
            env.reset(options={"scenario_seed": seed})
            while not env.episode.over:
                kind = kinds[len(env.trace.steps) % 2]  # responds, goes on, and is cut by a respond that does not fit
                env.step({"kind": kind, "tokens": np.full(16, 104)})
            played.append(env.trace)
        write_traces(folder / policy, played)
    return folder


def refused(arguments: list[str], captured: Captured) -> str:
    assert main(arguments) == 2
    out, err = captured.readouterr()
    assert not out
    assert len(err.strip().splitlines()) == 1, err
    return err


@pytest.mark.parametrize("path", REWARDS, ids=lambda path: path.stem)
def test_packaged_rewards_load(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a judge's cache is made
    names = {name for name, _, _ in load_reward(path).components}
    assert names == {name for name, _, _ in load_reward(CONFIGS / "quickstart.yaml").components}


def test_there_are_packaged_rewards() -> None:
    assert {"default", "patient", "eager", "judge"} <= {path.stem for path in REWARDS}


def test_json_ranks_the_policies_under_every_reward(traces: Path, capsys: Captured) -> None:
    files = [str(CONFIGS / "rewards" / "patient.yaml"), str(CONFIGS / "smoke.yaml")]
    assert main(["reward", "compare", *files, "--traces", str(traces), "--json"]) == 0
    out, err = capsys.readouterr()
    assert not err
    told = json.loads(out)
    assert list(told["rewards"]) == ["patient", "smoke"]
    for name, reward in told["rewards"].items():
        assert [standing["policy"] for standing in reward["ranking"]] == ["silent", "talks"], name
        for standing in reward["ranking"]:
            mean = standing["mean_reward"]
            assert mean["low"] <= mean["value"] <= mean["high"]
            assert sum(standing["components"].values()) == pytest.approx(mean["value"])
    live = np.mean([trace.total_reward for trace in read_traces(traces / "talks")])
    assert told["rewards"]["smoke"]["ranking"][1]["mean_reward"]["value"] == pytest.approx(live)
    assert {"never fires", "disagrees"} <= {w["kind"] for w in told["rewards"]["smoke"]["warnings"]}
    assert told["trigger_f1"]["silent"]["value"] == 0.0 < told["trigger_f1"]["talks"]["value"]
    assert told["bills"] == {}
    assert not (traces / "bills.json").exists()


def test_text_and_page_say_the_same(traces: Path, tmp_path: Path, capsys: Captured) -> None:
    page = tmp_path / "new" / "page.html"
    files = [str(CONFIGS / "rewards" / f"{name}.yaml") for name in ("default", "eager")]
    assert main(["reward", "compare", *files, "--traces", str(traces), "--out", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "default"
    assert "overlap" in lines[1]
    first = lines[2].split()
    assert first[:2] == ["1.", "silent"]
    assert any(line.startswith("warning: overlap is 0 at every step") for line in lines)
    document = page.read_text(encoding="utf-8")
    Balanced().feed(document)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:|/)""", document)  # nothing is fetched
    assert f"<td>{first[2]}" in document
    assert "overlap is 0 at every step" in document
    assert document.count("<svg") >= 2
    for name in ("default", "eager", "silent", "talks"):
        assert f">{name}<" in document or f". {name}<" in document


def test_a_scorers_bill_is_printed_and_lies_beside_the_traces(
    traces: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_scorer.py").write_text(SCORER)
    (tmp_path / "mine.yaml").write_text('- {name: helpfulness, args: {scorer: {class: "my_scorer:Mine"}}}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "traces"
    for policy, stored in read_policies(traces).items():
        write_traces(folder / policy, stored)
    assert main(["reward", "compare", "mine.yaml", "--traces", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    bill = json.loads((folder / "bills.json").read_text())["mine/helpfulness"]
    assert bill["calls"] == 1  # of two policies, of which one says nothing: all replies together
    assert bill["scored"] > 0
    assert json.loads(out)["bills"] == {"mine/helpfulness": bill}
    assert err.strip() == f"mine/helpfulness: {Bill(**bill)}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7", "expected a list of the reward's components"),
        ("- {name: latancy}", "did you mean 'latency'"),
        ("rewrad: []", "did you mean 'reward'"),
        ("{kind: supervised, stages: [format]}", "kind is 'supervised', a run without a reward"),
        ("- {name: miss, name: miss}", "key 'name' was given in line 1 already"),
        ("- [", "not valid YAML"),
    ],
)
def test_a_file_without_a_reward_is_named(
    text: str, message: str, traces: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    line = refused(["reward", "compare", str(path), "--traces", str(traces)], capsys)
    assert str(path) in line
    assert message in line


def test_what_cannot_be_compared_is_named(traces: Path, tmp_path: Path, capsys: Captured) -> None:
    default = str(CONFIGS / "rewards" / "default.yaml")
    assert "no *.jsonl files" in refused(["reward", "compare", default, "--traces", str(tmp_path)], capsys)
    assert "is given twice" in refused(["reward", "compare", default, default, "--traces", str(traces)], capsys)
    assert "none.yaml" in refused(["reward", "compare", str(tmp_path / "none.yaml"), "--traces", str(traces)], capsys)
    page = str(traces / "silent" / "episode-000000.jsonl" / "page.html")
    assert "is a file" in refused(["reward", "compare", default, "--traces", str(traces), "--out", page], capsys)


def test_rewards_of_the_same_name_are_told_apart(traces: Path, tmp_path: Path, capsys: Captured) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "reward.yaml").write_text("- {name: miss}\n")
    files = [str(tmp_path / folder / "reward.yaml") for folder in ("one", "two")]
    assert main(["reward", "compare", *files, "--traces", str(traces), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["rewards"]) == files


def test_a_group_of_files_is_a_policy_as_a_folder_is(traces: Path, tmp_path: Path) -> None:
    silent, talks = read_traces(traces / "silent"), read_traces(traces / "talks")
    write_trace(tmp_path / "silent.jsonl", silent[0])
    for number, trace in enumerate(talks):
        write_trace(tmp_path / f"talks-{number:06d}.jsonl", trace)
    write_traces(tmp_path / "again", silent)
    (tmp_path / "notes").mkdir()
    assert read_policies(tmp_path) == {"silent": silent[:1], "talks": talks, "again": silent}
    write_traces(tmp_path / "talks", talks)
    with pytest.raises(ScenarioError, match=r"both talks/ and talks\*.jsonl are there; rename one"):
        read_policies(tmp_path)


def test_evaluate_writes_traces_that_are_worth_what_it_says(tmp_path: Path, capsys: Captured) -> None:
    runpy.run_path(str(ROOT / ".ci" / "make_clips.py"))["make_clips"](tmp_path / "clips", per_label=1)
    arguments = ["evaluate", "--policy", "energy", "--clips", str(tmp_path / "clips"), "--json"]
    arguments += ["--traces", str(tmp_path / "traces" / "energy")]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)["mean_reward"]
    default = str(CONFIGS / "rewards" / "default.yaml")
    assert main(["reward", "compare", default, "--traces", str(tmp_path / "traces"), "--json"]) == 0
    (standing,) = json.loads(capsys.readouterr().out)["rewards"]["default"]["ranking"]
    assert standing["mean_reward"] == said
    assert "holds traces already; name another folder" in refused(arguments, capsys)
