"""A quickstart that was killed goes on, wherever that was, and ends with the bytes of one that was not."""

import importlib
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import trainers.credit
from envs.errors import ConfigError
from envs.rewards import Moment
from envs.rewards.bill import Bill
from trainers.checkpoints import save_checkpoint
from trainers.config import QuickstartConfig
from trainers.config_loading import load_config
from trainers.options import CONFIGS
from trainers.quickstart import run_quickstart
from trainers.quickstart_state import load_progress, save_progress
from trainers.run import one_thread, prepare

SMALL = ["scenes.train_count=6", "scenes.held_out_count=2", "ppo.episodes_per_iteration=2", "ppo.streams=4"]
SMALL += ["supervised.streams.save_every=2", "reward=[{name: latency}, {name: miss}, {name: false_alarm}]"]


def config() -> QuickstartConfig:
    return load_config(QuickstartConfig, CONFIGS / "smoke.yaml", SMALL)


def run_until_killed(out: Path, module: str, folder: str) -> None:
    """Of a process: end without a word once `module` has written a checkpoint into `folder`."""
    saver: Any = importlib.import_module(module)
    save = saver.save_checkpoint

    def save_and_die(where: Path, *arguments: Any, **named: Any) -> None:
        save(where, *arguments, **named)
        if where.name == folder:
            os.kill(os.getpid(), signal.SIGKILL)

    saver.save_checkpoint = save_and_die
    trainers.credit.CRITIC_STEPS = 2
    with one_thread():
        run_quickstart(config(), out)


@pytest.mark.usefixtures("hasty_critic")
def test_killed_twice_it_ends_with_the_bytes_of_a_run_that_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of a supervised stage, and of PPO. Then it is complete; another is not mixed with it."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "trainers.ppo"])
    for module, folder in (("trainers.stage_trainer", "streams"), ("trainers.ppo_state", "ppo")):
        process = context.Process(target=run_until_killed, args=(killed, module, folder), daemon=True)
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert list((killed / "checkpoints" / folder).glob("step-*"))
    assert not (killed / "policy").exists()
    with one_thread():  # as it had: sums of several threads round otherwise
        run_quickstart(config(), killed)
        run_quickstart(config(), whole)
    for policy in ("supervised", "policy"):
        files = sorted(path.name for path in (whole / policy).iterdir())
        assert "model.safetensors" in files
        for name in files:
            assert (killed / policy / name).read_bytes() == (whole / policy / name).read_bytes(), f"{policy}/{name}"
    numbers = [json.loads((out / "metrics.json").read_text()) for out in (killed, whole)]
    seconds = [one.pop("seconds") for one in numbers]
    assert numbers[0] == numbers[1]
    assert seconds[0].keys() == seconds[1].keys()
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert not (whole / "checkpoints").exists()
    capsys.readouterr()
    before = (whole / "report.html").stat().st_mtime_ns
    run_quickstart(config(), whole)
    assert capsys.readouterr().out == f"{whole} was complete; nothing was done\n"
    assert (whole / "report.html").stat().st_mtime_ns == before


class Metered:
    """A component of the reward that earns nothing, and counts the steps that it saw."""

    def __init__(self) -> None:
        self.bill = Bill()

    def value(self, moment: Moment) -> float:
        self.bill.calls += 1
        return 0.0


def test_what_scoring_cost_before_a_kill_is_paid_for_once(tmp_path: Path) -> None:
    """Until PPO has a checkpoint the quickstart knows it; from then on the checkpoint does."""
    metered = "reward=[{name: metered, class: 'tests.trainers.test_quickstart:Metered'}]"
    asked = load_config(QuickstartConfig, CONFIGS / "smoke.yaml", [metered])
    killed, resumed, reinforced = (prepare(asked, tmp_path, None) for _ in range(3))
    of_the_start = resumed.reward.bills["metered"].calls  # a stream is played to try the reward out
    assert of_the_start > 0
    killed.reward.bills["metered"].calls = 70
    (tmp_path / "checkpoints").mkdir()
    save_progress(killed, {})
    load_progress(resumed)
    assert resumed.reward.bills["metered"].calls == of_the_start + 70
    save_checkpoint(tmp_path / "checkpoints" / "ppo", 1, {}, {}, {}, keep=1)
    load_progress(reinforced)
    assert reinforced.reward.bills["metered"].calls == of_the_start


def test_it_runs_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded = load_config(QuickstartConfig, CONFIGS / "smoke.yaml", [*SMALL, "ppo.fsdp=true"])
    with pytest.raises(ConfigError, match=r"ppo\.fsdp is true, and there is one process"):
        run_quickstart(sharded, tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="runs in one process; start it without torchrun"):
        run_quickstart(config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
