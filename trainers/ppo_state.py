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
from policies.modeling_lalm import LALM
from trainers.checkpoints import newest_checkpoint
from trainers.config import ReinforcementConfig

if TYPE_CHECKING:
    from trainers.ppo import StreamPPOTrainer


def identity(model: LALM, config: ReinforcementConfig, seed: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Return what tells a run from others, as JSON: its configuration, scenarios, and the policy it begins with."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    scenarios = hashlib.sha256(json.dumps(list(seeds)).encode()).hexdigest()
    own = {"seed": seed, "scenarios": scenarios, "policy": digest.hexdigest()}
    return own | {f"ppo.{key}": value for key, value in asdict(config).items()}


def snapshot(trainer: "StreamPPOTrainer") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the JSON state of a run between two iterations."""
    tensors: dict[str, Tensor] = {f"policy.{name}": p for name, p in _trained(trainer).items()}
    tensors |= {f"critic.{name}": p for name, p in trainer.critic.score.state_dict().items()}
    own, optimizer = _pack_optimizer(trainer.optimizer.state_dict(), "optimizer")
    critics, critic_optimizer = _pack_optimizer(trainer.critic.optimizer.state_dict(), "critic_optimizer")
    tensors |= own | critics
    for age, remembered in enumerate(trainer.critic.memory):
        tensors |= {f"memory.{age}.{column}": value for column, value in enumerate(remembered)}
    numbers, generators = _pack_generators(trainer)
    state = {
        "run": trainer.identity,
        "optimizer": optimizer,
        "critic_optimizer": critic_optimizer,
        "scheduler": trainer.lr_scheduler.state_dict(),
        "trainer": {k: v for k, v in asdict(trainer.state).items() if k != "stateful_callbacks"},
        "ahead": trainer.ahead,
        "kl_coefficients": trainer.kl.coefficients,
        "generators": generators,
    }
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in (tensors | numbers).items()}, state


def restore_newest(trainer: "StreamPPOTrainer", folder: Path) -> None:
    """Put a trainer that has not begun where the newest whole checkpoint left off; without one, leave it.

    Raises:
        ConfigError: when the checkpoint is of another run; what differs is named.
    """
    found = newest_checkpoint(folder)
    if found is None:
        return
    step, tensors, state = found
    wanted = json.loads(json.dumps(trainer.identity))
    differs = [k for k in wanted if wanted[k] != state["run"].get(k)]
    if differs:
        said = ", ".join(f"{k} was {state['run'].get(k)!r} and is {wanted[k]!r}" for k in differs)
        raise ConfigError(f"{folder}: holds a checkpoint of another run: {said}; name another folder, or remove it")
    print(f"going on after iteration {step}, from {folder}", flush=True)
    _restore(trainer, tensors, state)


def _restore(trainer: "StreamPPOTrainer", tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    with torch.no_grad():
        for name, parameter in _trained(trainer).items():
            parameter.copy_(tensors[f"policy.{name}"])
    critic = trainer.critic
    critic.score.load_state_dict(_under(tensors, "critic"))
    trainer.optimizer.load_state_dict(_unpack_optimizer(tensors, "optimizer", state["optimizer"]))
    critic.optimizer.load_state_dict(_unpack_optimizer(tensors, "critic_optimizer", state["critic_optimizer"]))
    memory = _under(tensors, "memory")
    critic.memory.clear()
    for age in range(len(memory) // 3):
        critic.memory.append((memory[f"{age}.0"], memory[f"{age}.1"], memory[f"{age}.2"]))
    trainer.lr_scheduler.load_state_dict(dict(state["scheduler"]))
    for key, value in state["trainer"].items():
        setattr(trainer.state, key, value)
    trainer.ahead = state["ahead"]
    trainer.kl.coefficients = dict(state["kl_coefficients"])
    _unpack_generators(trainer, tensors, state["generators"])


def _trained(trainer: "StreamPPOTrainer") -> dict[str, torch.nn.Parameter]:
    """Return what changes of the policy; the rest is as it was read."""
    return {name: p for name, p in trainer.policy.named_parameters() if p.requires_grad}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def _pack_optimizer(state: Mapping[str, Any], prefix: str) -> tuple[dict[str, Tensor], Any]:
    """Split an optimizer's state into its moments and its settings."""
    moments = {f"{prefix}.{i}.{name}": value for i, own in state["state"].items() for name, value in own.items()}
    return moments, state["param_groups"]


def _unpack_optimizer(tensors: Mapping[str, Tensor], prefix: str, groups: Any) -> dict[str, Any]:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under(tensors, prefix).items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    return {"state": moments, "param_groups": groups}


def _pack_generators(trainer: "StreamPPOTrainer") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of every generator that training draws from."""
    tensors = {"generator.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"generator.cuda.{i}": own for i, own in enumerate(torch.cuda.get_rng_state_all())}
    sampler = _sampler_generator(trainer)
    if sampler is not None:
        tensors["generator.sampler"] = sampler.get_state()
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - what libraries draw from
    assert isinstance(legacy, dict)
    words = legacy["state"]["key"].tolist()
    numpy_state = {**legacy, "state": {"key": words, "pos": int(legacy["state"]["pos"])}}
    return tensors, {"numpy": numpy_state, "python": random.getstate()}


def _unpack_generators(trainer: "StreamPPOTrainer", tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["generator.torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(list(_under(tensors, "generator.cuda").values()))
    sampler = _sampler_generator(trainer)
    if sampler is not None:
        sampler.set_state(tensors["generator.sampler"])
    numpy_state = dict(state["numpy"])
    key = np.array(numpy_state["state"]["key"], np.uint32)
    np.random.set_state({**numpy_state, "state": {"key": key, "pos": numpy_state["state"]["pos"]}})  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _sampler_generator(trainer: "StreamPPOTrainer") -> torch.Generator | None:
    """Return what the order of the scenarios is drawn from; Accelerate gives the sampler one of its own."""
    return getattr(trainer.dataloader.batch_sampler.sampler, "generator", None)
