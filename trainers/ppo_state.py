"""All that a PPO run has to remember to go on as if it had not been killed."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from envs.errors import ConfigError
from envs.rewards import Reward
from envs.rewards.bill import Bill, add_bills, sum_bills
from policies.modeling_lalm import LALM
from trainers.checkpoints import (
    Checkpoint,
    load_module,
    load_optimizer,
    load_random,
    module_digest,
    module_tensors,
    newest_checkpoint,
    optimizer_state,
    random_tensors,
    save_checkpoint,
)
from trainers.config import ReinforcementConfig
from trainers.sharding import gather_tensors, laid_out_as

if TYPE_CHECKING:
    from trainers.ppo import StreamPPOTrainer


def identity(
    model: LALM, config: ReinforcementConfig, seed: int, seeds: Sequence[int], reward: Reward
) -> dict[str, Any]:
    """Return what tells a run from others, as JSON: its configuration, scenarios, reward, and policy to begin with.

    Of scenarios these are the seeds, of a reward the names, weights and classes of its components.
    """
    scenarios = hashlib.sha256(json.dumps(list(seeds)).encode()).hexdigest()
    parts = {name: f"{weight} {type(part).__name__}" for name, weight, part in reward.components}
    own = {"seed": seed, "scenarios": scenarios, "policy": module_digest(model), "reward": parts}
    return own | {f"ppo.{key}": value for key, value in asdict(config).items()}


def save_run(trainer: "StreamPPOTrainer", folder: Path, bills: Mapping[str, Bill]) -> None:
    """Write a checkpoint of a run between two iterations: the main process does, and all have to call it.

    Args:
        trainer: Of the run.
        folder: Of its checkpoints.
        bills: What scoring has cost in other processes; what it has cost in this one, the trainer's reward knows.
    """
    own, optimizer = optimizer_state(trainer.optimizer, "optimizer")
    learned: dict[str, Tensor] = {f"policy.{name}": p for name, p in _trained(trainer).items()}
    tensors = gather_tensors(learned | own, keep=trainer.learners.is_main)
    if not trainer.learners.is_main:
        return
    tensors |= module_tensors(trainer.critic.score, "critic")
    critics, critic_optimizer = optimizer_state(trainer.critic.optimizer, "critic_optimizer")
    tensors |= critics | random_tensors("random")
    for age, remembered in enumerate(trainer.critic.memory):
        tensors |= {f"memory.{age}.{column}": value for column, value in enumerate(remembered)}
    state = {
        "optimizer": optimizer,
        "critic_optimizer": critic_optimizer,
        "scheduler": trainer.lr_scheduler.state_dict(),
        "trainer": {k: v for k, v in asdict(trainer.state).items() if k != "stateful_callbacks"},
        "ahead": trainer.ahead,
        "kl_coefficients": trainer.kl.coefficients,
        "generators": _pack_generators(),
        "bills": {k: asdict(v) for k, v in sum_bills([trainer.reward_model.reward.bills, bills]).items()},
    }
    save_checkpoint(folder, trainer.state.global_step, tensors, state, trainer.identity, keep=2)


def restore_newest(trainer: "StreamPPOTrainer", folder: Path) -> None:
    """Put a trainer that has not begun where the newest whole checkpoint left off; without one, leave it.

    Raises:
        ConfigError: when the checkpoint is of another run; what differs is named.
    """
    found = newest_checkpoint(folder, None)
    if found is None:
        return
    wanted = json.loads(json.dumps(trainer.identity))
    differs = [k for k in wanted if wanted[k] != found.config.get(k)]
    if differs:
        said = ", ".join(f"{k} was {found.config.get(k)!r} and is {wanted[k]!r}" for k in differs)
        raise ConfigError(f"{folder}: holds a checkpoint of another run: {said}; name another folder, or remove it")
    if trainer.learners.is_main:
        print(f"going on after iteration {found.step}, from {folder}", flush=True)
    _restore(trainer, found)


def _restore(trainer: "StreamPPOTrainer", found: Checkpoint) -> None:
    state, critic = found.state, trainer.critic
    with torch.no_grad():
        for name, parameter in _trained(trainer).items():
            parameter.copy_(laid_out_as(parameter, found.tensors[f"policy.{name}"]))
    load_module(critic.score, found, "critic")
    load_optimizer(trainer.optimizer, found, "optimizer", state["optimizer"])
    load_optimizer(critic.optimizer, found, "critic_optimizer", state["critic_optimizer"])
    memory = found.under("memory")
    critic.memory.clear()
    for age in range(len(memory) // 3):
        critic.memory.append((memory[f"{age}.0"], memory[f"{age}.1"], memory[f"{age}.2"]))
    trainer.lr_scheduler.load_state_dict(dict(state["scheduler"]))
    for key, value in state["trainer"].items():
        setattr(trainer.state, key, value)
    trainer.ahead = state["ahead"]
    trainer.kl.coefficients = dict(state["kl_coefficients"])
    if trainer.learners.is_main:
        add_bills(trainer.reward_model.reward.bills, {name: Bill(**own) for name, own in state["bills"].items()})
    load_random(found, "random")
    _unpack_generators(state["generators"])


def _trained(trainer: "StreamPPOTrainer") -> dict[str, torch.nn.Parameter]:
    """Return what changes of the policy; the rest is as it was read."""
    return {name: p for name, p in trainer.trained.policy.named_parameters() if p.requires_grad}


def _pack_generators() -> dict[str, Any]:
    """Return the state of the generators of numpy and Python, which libraries draw from."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(legacy, dict)
    words = legacy["state"]["key"].tolist()
    return {
        "numpy": {**legacy, "state": {"key": words, "pos": int(legacy["state"]["pos"])}},
        "python": random.getstate(),
    }


def _unpack_generators(state: Mapping[str, Any]) -> None:
    numpy_state = dict(state["numpy"])
    key = np.array(numpy_state["state"]["key"], np.uint32)
    np.random.set_state({**numpy_state, "state": {"key": key, "pos": numpy_state["state"]["pos"]}})  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
