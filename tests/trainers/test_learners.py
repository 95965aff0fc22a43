"""Two processes that play and learn from half of the episodes each end with the weights of one."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

import trainers.credit
from envs.errors import ConfigError
from envs.foley import Foley
from envs.proactive import ProactiveScenarios
from envs.rewards import Reward
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, tiny_model
from tests.trainers.two_processes import PROCESSES, meet, run_processes
from trainers.config import ReinforcementConfig
from trainers.learners import learning_device, repeatable_kernels
from trainers.ppo import StreamPPOTrainer, make_trainer
from trainers.run import one_thread
from trainers.scenes import Steady

SEEDS = range(7)  # the last stream of an epoch is left out, by however many processes
# Adam moves a weight by about the learning rate, however small its gradient is: where that is low, other roundings
# stay below the tolerance, and a gradient that is missing or counted twice does not.
RATES = {"learning_rate": 1e-4, "decision_learning_rate": 1e-4}
USUAL = {"iterations": 1, "episodes_per_iteration": 6, "minibatches": 2, "epochs": 1, **RATES}
CASES: dict[str, dict[str, Any]] = {
    "one update": {"minibatches": 1, "content_coef": 1.0},
    "a hidden critic": {"iterations": 2, "critic": "hidden", "tokens_per_minibatch": 100, "whiten_advantages": True},
    "groups across processes": {
        "algorithm": "grpo",
        "episodes_per_scenario": 2,
        "objective": "raw_token",
        "minibatches": 6,  # each is of one process
        "lora_rank": 2,
    },
    "sharded": {"fsdp": True, "iterations": 2, "tokens_per_minibatch": 60, "content_coef": 1.0},
    "sharded adapters": {
        "fsdp": True,
        "algorithm": "grpo",
        "episodes_per_scenario": 2,
        "objective": "raw_token",
        "lora_rank": 2,
    },
}


def trained(options: dict[str, Any], folder: Path) -> StreamPPOTrainer:
    tokenizer = train_tokenizer(REPLIES, 300)
    config = ReinforcementConfig(**{**USUAL, **options})
    streams, model = Steady(ProactiveScenarios(Foley(), 0.8, (9, 12))), tiny_model(tokenizer)
    arguments = (model, tokenizer, streams, SEEDS, Reward.default(), config)
    trainer = make_trainer(*arguments, folder / "logs", 0, folder / "kept")
    trainer.train()
    return trainer


def result(trainer: StreamPPOTrainer) -> dict[str, Any]:
    logged = {k: v for k, v in trainer.state.log_history[-1].items() if not k.startswith("time/")}
    return {"policy": trainer.policy.state_dict(), "critic": trainer.critic.state_dict(), "logged": logged}


def work(process: int, folder: Path) -> None:
    """One process, with what torchrun would tell it."""
    ours, all_of_us = dict.fromkeys(("RANK", "LOCAL_RANK"), process), ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    os.environ |= {name: str(value) for name, value in {**ours, **dict.fromkeys(all_of_us, PROCESSES)}.items()}
    torch.set_num_threads(1)
    trainers.credit.CRITIC_STEPS = 5
    meet(process, folder)
    for case, options in CASES.items():
        torch.save(result(trained(options, folder / case / str(process))), folder / f"{case} {process}")
    if process == 0:
        first = Path("kept", "step-00000001")
        shutil.copytree(folder / "sharded" / "0" / first, folder / "resumed" / first)
    distributed.barrier()
    torch.save(result(trained(CASES["sharded"], folder / "resumed")), folder / f"resumed {process}")
    with pytest.raises(ConfigError, match="episodes_per_iteration is 1, expected at least one for each of the 2"):
        trained({"episodes_per_iteration": 1, "minibatches": 1}, folder / "few")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes found."""
    path = tmp_path_factory.mktemp("processes")
    run_processes(work, path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_weights_of_one(
    folder: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers.credit, "CRITIC_STEPS", 5)
    with one_thread():
        expected = result(trained({**CASES[case], "fsdp": False}, tmp_path))
    found, other = (torch.load(folder / f"{case} {process}") for process in range(PROCESSES))
    for part in ("policy", "critic"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], other[part][name]), f"the processes part company at {name}"
            torch.testing.assert_close(found[part][name], value, atol=1e-6, rtol=0)
    assert found["logged"] == other["logged"]
    assert found["logged"] == pytest.approx(expected["logged"], abs=1e-4)


def test_a_sharded_run_goes_on_from_its_checkpoint_with_the_same_bits(folder: Path) -> None:
    for process in range(PROCESSES):
        whole, resumed = (torch.load(folder / f"{run} {process}") for run in ("sharded", "resumed"))
        assert resumed["logged"] == whole["logged"]
        for part in ("policy", "critic"):
            assert all(value.equal(whole[part][name]) for name, value in resumed[part].items())


def test_the_main_process_alone_writes(folder: Path) -> None:
    for case in CASES:
        assert list((folder / case / "0" / "logs").glob("**/events.out.tfevents.*"))
        assert [path.name[:5] for path in (folder / case / "0" / "kept").iterdir()][:1] == ["step-"]
        assert not list((folder / case / "1").glob("**/events.out.tfevents.*"))
        assert not (folder / case / "1" / "kept").exists()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before CUDA fails over a GPU that is not there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"2 processes on this machine, of 1 GPU: start at most one for each, or set"):
        learning_device()


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("before", [(False, False), (True, True), (True, False)], ids=["off", "warn", "on"])
def test_kernels_are_repeatable_where_there_is_a_gpu_and_as_before_after_it(
    before: tuple[bool, bool], gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_to() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    @repeatable_kernels()
    def learn() -> None:
        assert set_to() == ((True, False) if gpu else before)
        raise KeyError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    try:
        with pytest.raises(KeyError):
            learn()
        assert set_to() == before
    finally:
        torch.use_deterministic_algorithms(False)
