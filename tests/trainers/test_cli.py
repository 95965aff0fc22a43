"""The command line: quick to ask, one line for bad input, lines and JSON that other programs can read."""

import json
import os
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from envs.audio import write_wav
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.files import write_text
from envs.metrics import Metric
from envs.rewards import reward_from_config
from policies.engine import Engine, Sampling
from policies.engine.recording import Outcome, Recording
from policies.policy_folder import write_policy
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from trainers.cli import main
from trainers.clips import ClipFolder
from trainers.config import QuickstartConfig
from trainers.metric_table import metric_table

ROOT = Path(__file__).parent.parent.parent
Captured = pytest.CaptureFixture[str]


def tiny_policy(folder: Path, decision_bias: float) -> Path:
    """Save a policy whose random words can be read; not every random network has some."""
    tokenizer = train_tokenizer(REPLIES, 300)
    sound = (0.1 * np.random.default_rng(0).standard_normal(CHUNK_SAMPLES)).astype(np.float32)
    for seed in range(20):
        model = tiny_model(tokenizer, seed=seed)
        engine = Engine(model)
        engine.push(engine.open(Sampling(threshold=0.0)), sound)
        if tokenizer.decode(engine.step()[0].token_ids).strip():
            break
    else:
        raise AssertionError("none of 20 random networks says a word")
    model.decision_head.bias.data.fill_(decision_bias)
    write_policy(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that speaks at every chance, with random words."""
    return tiny_policy(tmp_path_factory.mktemp("policy"), 1e3)


@pytest.fixture(scope="module")
def silent_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("silent"), -1e3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds") / "clips"
    runpy.run_path(str(ROOT / ".ci" / "make_clips.py"))["make_clips"](folder, per_label=1)
    return folder


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "noise.wav"
    write_wav(path, (0.1 * np.random.default_rng(0).standard_normal(10_000)).astype(np.float32))
    return path


def refused(arguments: list[str], captured: Captured) -> str:
    """Return the one line on stderr that a command refuses bad input with."""
    assert main(arguments) == 2
    out, err = captured.readouterr()
    assert not out
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("soundflow: error: ")
    return lines[0]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from trainers.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'trl', 'matplotlib', 'pydantic'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for command in ("quickstart", "compose", "evaluate", "listen"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["listen"],
        ["evaluate", "--policy", "x"],
        ["evaluate", "--policy", "x", "--clips", "y", "a=1"],
        ["quickstart", "--no-such-option"],
        ["quickstart", "--seed", "-1"],
        ["quickstart", "--seed", "one"],
        ["quickstart", "--layout", "esc50"],
        ["quickstart", "--clips", "x", "--layout", "esc-50"],
        ["evaluate", "--policy", "x", "--clips", "y", "--allow-broken", "2"],
        ["evaluate", "--policy", "x", "--clips", "y", "--allow-broken", "few"],
        ["evaluate", "--policy", "x", "--clips", "y", "--held-out", "1"],
        ["evaluate", "--policy", "x", "--clips", "y", "--fold", "1"],
        ["quickstart", "--fold", "1"],
        ["quickstart", "--clips", "x", "--fold", "-1"],
        ["plan", "--clips", "x", "--fold", "1"],
        ["compose", "--out", "x"],
        ["compose", "--out", "x", "--hours", "0"],
        ["compose", "--out", "x", "--hours", "nan"],
        ["compose", "--out", "x", "--hours", "many"],
        ["compose", "--out", "x", "--hours", "1", "--workers", "0"],
        ["compose", "--out", "x", "--hours", "1", "--ability", "Telepathy"],
    ],
)
def test_a_wrong_command_line_ends_with_usage_and_2(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: soundflow" in capsys.readouterr().err


def test_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("soundflow 0.")


def test_quickstart_hands_over_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overrides may stand before, between and after options; --seed wins over the file."""
    runs: list[tuple[QuickstartConfig, Path, ClipFolder | None]] = []
    monkeypatch.setattr("trainers.quickstart.run_quickstart", lambda *asked: runs.append(asked))
    arguments = [
        "ppo.iterations=4",
        "--seed",
        "3",
        "ppo.clip=0.1",
        "--out",
        str(tmp_path),
        "--clips",
        "sounds",
        "--layout",
        "esc50",
        "ppo.epochs=1",
        "--allow-broken",
        "0.1",
        "--fold",
        "2",
    ]
    assert main(["quickstart", *arguments]) == 0
    config, out, clips = runs[0]
    assert (config.seed, config.ppo.iterations, config.ppo.clip, config.ppo.epochs) == (3, 4, 0.1, 1)
    assert (out, clips) == (tmp_path, ClipFolder(Path("sounds"), "esc50", 0.1, 2))


def test_a_bad_configuration_is_refused_before_anything_is_written(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "run"
    line = refused(["quickstart", "--out", str(out), "ppo.iteration=4", "seed=x"], capsys)
    assert "unknown key 'ppo.iteration'; did you mean 'ppo.iterations'?" in line
    assert "seed is 'x'" in line
    assert not out.exists()


def test_missing_clips_are_refused_before_anything_is_written(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "run"
    assert str(tmp_path / "none") in refused(
        ["quickstart", "--out", str(out), "--clips", str(tmp_path / "none")], capsys
    )
    assert not out.exists()


def test_listen_writes_one_object_a_chunk(policy: Path, wav: Path, capsys: Captured) -> None:
    assert main(["listen", str(wav), "--policy", str(policy), "--json"]) == 0
    heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(
        set(h) == {"time_s", "chunk", "decision", "probability", "text", "reply_ended", "reply_cut"} for h in heard
    )
    assert [h["chunk"] for h in heard] == list(range(len(heard)))
    assert [h["time_s"] for h in heard] == pytest.approx([(i + 1) * CHUNK_S for i in range(len(heard))])
    assert heard[0]["decision"] == "response"
    assert all((h["probability"] is None) == (h["decision"] == "speaking") for h in heard)


def test_listen_hears_a_reply_out_after_the_file_has_ended(policy: Path, wav: Path, capsys: Captured) -> None:
    """0.6 s of sound are two chunks; a reply of 8 tokens takes three, and the second chunk is decided on after it."""
    main(["listen", str(wav), "--policy", str(policy), "--json"])
    heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [h["decision"] for h in heard] == ["response", "speaking", "speaking"] * 2
    assert [h["reply_ended"] for h in heard] == [False, False, True] * 2
    for reply in (heard[:3], heard[3:]):
        assert reply[-1]["text"]
        assert all(after["text"].startswith(before["text"]) for before, after in pairwise(reply))


def test_listen_shows_time_decision_bar_and_reply(policy: Path, wav: Path, capsys: Captured) -> None:
    assert main(["listen", str(wav), "--policy", str(policy)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == ["0.4", "s", "response"]
    share = float(first.split()[3])
    assert first.count("#") == round(10 * share)
    assert {line.split()[2] for line in rest[:2]} == {"speaking"}


def test_listen_ends_quietly_when_its_reader_leaves(policy: Path, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["listen", str(wav), "--policy", str(policy)]) == 0
        monkeypatch.undo()


def test_listen_names_what_it_cannot_use(policy: Path, wav: Path, tmp_path: Path, capsys: Captured) -> None:
    missing = tmp_path / "missing.wav"
    assert str(missing) in refused(["listen", str(missing), "--policy", str(policy)], capsys)
    text = tmp_path / "text.wav"
    text.write_text("this is no sound")
    assert str(text) in refused(["listen", str(text), "--policy", str(policy)], capsys)
    assert str(tmp_path) in refused(["listen", str(wav), "--policy", str(tmp_path)], capsys)


def test_evaluate_prints_every_metric(silent_policy: Path, clips: Path, capsys: Captured) -> None:
    assert main(["evaluate", "--policy", str(silent_policy), "--clips", str(clips), "--seed", "1", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    wanted = "trigger_precision trigger_recall trigger_f1 false_alarms_per_hour latency_p50_s early_rate reply_quality"
    assert {*wanted.split(), "mean_reward"} <= set(metrics)
    assert all(set(metric) == {"value", "count", "low", "high"} for metric in metrics.values())
    assert (metrics["trigger_recall"]["value"], metrics["latency_p50_s"]["value"]) == (0.0, None)


def test_evaluate_thinks_as_long_as_a_recorded_engine_did(clips: Path, tmp_path: Path, capsys: Captured) -> None:
    took = tmp_path / "live.safetensors"
    Recording(steps=[{0: Outcome(0.3, None, None)}] * 2).save(took)
    arguments = ["evaluate", "--policy", "always", "--clips", str(clips), "--json"]
    latencies = []
    for thinking in ("0", "0.3", str(took)):
        assert main([*arguments, "--thinking", thinking]) == 0
        latencies.append(json.loads(capsys.readouterr().out)["latency_p50_s"]["value"])
    assert latencies[0] != latencies[1] == latencies[2]
    assert "expected seconds from 0 on" in refused([*arguments, "--thinking", "-1"], capsys)
    assert "cannot be read" in refused([*arguments, "--thinking", str(tmp_path / "missing")], capsys)


def test_evaluate_judges_a_baseline_by_its_name(clips: Path, capsys: Captured) -> None:
    arguments = ["evaluate", "--policy", "energy", "--clips", str(clips), "--json"]
    assert main(arguments) == 0
    everything = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "--policy", "always", "--clips", str(clips), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trigger_recall"]["value"] > 0.9
    assert everything["trigger_recall"]["count"] > 0
    assert "did you mean 'silent'" in refused([*arguments[:2], "silnt", *arguments[3:]], capsys)


def test_evaluate_names_what_it_cannot_use(policy: Path, tmp_path: Path, capsys: Captured) -> None:
    assert "manifest.csv" in refused(["evaluate", "--policy", str(policy), "--clips", str(tmp_path)], capsys)
    assert str(tmp_path) in refused(["evaluate", "--policy", str(tmp_path), "--clips", str(tmp_path)], capsys)
    arguments = ["evaluate", "--policy", str(policy), "--clips", str(tmp_path), "--layout", "esc50"]
    assert "esc50.csv: no such file" in refused(arguments, capsys)


def test_the_table_lines_up_and_says_none() -> None:
    text = metric_table({"trigger_f1": Metric(0.5, 12, 0.25, 0.75), "latency_p50_s": Metric(None, 0, None, None)})
    head, f1, latency = text.splitlines()
    assert head.split()[:2] == ["metric", "value"]
    assert f1.split() == ["trigger_f1", "0.500", "0.250", "to", "0.750", "12"]
    assert latency.split() == ["latency_p50_s", "none"]


def test_a_users_reward_is_found_in_the_folder_they_stand_in(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_rewards.py").write_text("class Mine:\n    def value(self, moment):\n        return 0.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    runs: list[QuickstartConfig] = []
    monkeypatch.setattr("trainers.quickstart.run_quickstart", lambda config, *_: runs.append(config))
    assert main(["quickstart", "reward=[{name: mine, class: 'their_rewards:Mine'}]"]) == 0
    assert [name for name, _, _ in reward_from_config(runs[0].reward).components] == ["mine"]


@pytest.mark.parametrize("body", ["return None", "return 1 / (moment.step - 20)"])
def test_a_reward_that_fails_is_refused_before_anything_is_composed(
    body: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_rewards.py").write_text(f"class Mine:\n    def value(self, moment):\n        {body}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "failing_rewards", raising=False)
    line = refused(["quickstart", "reward=[{name: mine, class: 'failing_rewards:Mine'}]"], capsys)
    assert "reward: component 'mine'" in line
    assert not (tmp_path / "runs").exists()


def test_out_that_is_a_file_is_refused_before_anything_is_composed(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "run").write_text("a file of somebody's")
    for out in (tmp_path / "run", tmp_path / "run" / "inside"):
        assert f"{tmp_path / 'run'} is a file" in refused(["quickstart", "--out", str(out)], capsys)
    assert (tmp_path / "run").read_text() == "a file of somebody's"


def test_too_few_recordings_are_refused_before_anything_is_written(tmp_path: Path, capsys: Captured) -> None:
    """One recording of each label leaves none to judge by."""
    folder, out = tmp_path / "clips", tmp_path / "run"
    runpy.run_path(str(ROOT / ".ci" / "make_clips.py"))["make_clips"](folder, per_label=1)
    line = refused(["quickstart", "--out", str(out), "--clips", str(folder)], capsys)
    assert str(folder) in line
    assert "needs at least two recordings or speakers" in line
    assert not out.exists()


def test_listen_decides_on_what_was_heard_under_the_last_reply(
    policy: Path, silent_policy: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Four chunks: a reply of three from the first chunk on leaves the rest to be decided on after it."""
    path = tmp_path / "noise.wav"
    write_wav(path, (0.1 * np.random.default_rng(0).standard_normal(4 * CHUNK_SAMPLES)).astype(np.float32))
    for folder in (policy, silent_policy):
        main(["listen", str(path), "--policy", str(folder), "--json"])
        heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        decided = [h["chunk"] for h in heard if h["probability"] is not None]
        assert decided[-1] >= 3
        assert heard[-1]["reply_ended"] or heard[-1]["decision"] == "silent"


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")  # as a write says it, without a name

    def run(_: QuickstartConfig, out: Path, __: Path | None) -> None:
        write_text(out / "report.html", "a report")

    monkeypatch.setattr("trainers.quickstart.run_quickstart", run)
    (tmp_path / "report.html").write_text("the report before")
    monkeypatch.setattr(Path, "replace", full)
    line = refused(["quickstart", "--out", str(tmp_path)], capsys)
    assert f"{tmp_path / 'report.html'}: No space left on device" in line
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "the report before"


def test_an_interruption_gives_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainers.quickstart.run_quickstart", interrupted)
    assert main(["quickstart"]) == 130
