"""All that a gate's run needs to go on after a kill as if nothing had happened.

Stable-Baselines3's own zip files hold neither the streams that are open, nor the random numbers' state, and unpickle
code. Its PPO keeps everything else in a few attributes, and draws actions from torch's generator and minibatches from
numpy's, so that a run that goes on takes the very same steps: on the same machine, with the same number of threads.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from torch import Tensor

from envs.rewards.bill import Bill, add_bills
from policies.checkpoint_tensors import check_tensors
from policies.gate_vec_env import GateVecEnv
from trainers.checkpoints import Checkpoint, load_random, random_tensors, save_checkpoint


def save_gate_run(folder: Path, model: PPO, env: GateVecEnv, run: Mapping[str, Any]) -> None:
    """Write where a run stands between two rollouts; the checkpoint before it stays until this one is whole.

    Args:
        folder: Of the run's checkpoints.
        model: The learner.
        env: Its streams.
        run: What the run was asked for: plain JSON types.

    Raises:
        OSError: when it cannot be written.
    """
    streams, episodes = env.state()
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - Stable-Baselines3 draws from it
    state = {
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "episodes": episodes,
        "last_episode_starts": np.asarray(model._last_episode_starts).tolist(),
        "ep_info": list(model.ep_info_buffer or ()),
        "numpy": [kind, position, has_gauss, gauss],
        "bills": {name: asdict(bill) for name, bill in env.env.reward.bills.items()},
    }
    tensors = {
        **_learned(model),
        **{f"streams.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in streams.items()},
        **random_tensors("random"),
        "numpy": torch.from_numpy(np.asarray(keys)),
    }
    save_checkpoint(folder, model.num_timesteps, tensors, state, run, keep=1)


def restore_gate_run(found: Checkpoint, model: PPO, env: GateVecEnv) -> None:
    """Let a learner that was built for the same run go on from a checkpoint.

    Raises:
        PolicyError: when its tensors do not fit.
    """
    state, policy = found.state, found.under("policy")
    own = {name: tuple(tensor.shape) for name, tensor in model.policy.named_parameters()}
    check_tensors(own, {name: tuple(tensor.shape) for name, tensor in policy.items()}, found.path)
    _learn_again(model, found.tensors)
    model.num_timesteps, model._n_updates = state["num_timesteps"], state["n_updates"]
    model.ep_info_buffer = deque(state["ep_info"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    streams = {name: tensor.numpy().copy() for name, tensor in found.under("streams").items()}
    model._last_obs = env.restore(streams, state["episodes"])
    model._last_episode_starts = np.array(state["last_episode_starts"], bool)
    kind, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, found.tensors["numpy"].numpy(), position, has_gauss, gauss))  # noqa: NPY002
    load_random(found, "random")
    add_bills(env.env.reward.bills, {name: Bill(**own) for name, own in state["bills"].items()})


def _learned(model: PPO) -> dict[str, Tensor]:
    """Return the weights and Adam's moments, by name; an extractor that actor and critic share is there once."""
    held = {}
    for name, parameter in model.policy.named_parameters():
        held[f"policy.{name}"] = parameter.detach()
        for moment, value in model.policy.optimizer.state[parameter].items():
            held[f"adam.{moment}.{name}"] = value
    return held


def _learn_again(model: PPO, tensors: dict[str, Tensor]) -> None:
    """Put back what `_learned` returned."""
    optimizer = model.policy.optimizer
    for name, parameter in model.policy.named_parameters():
        parameter.data.copy_(tensors[f"policy.{name}"])
        moments = ("step", "exp_avg", "exp_avg_sq")
        optimizer.state[parameter] = {moment: tensors[f"adam.{moment}.{name}"].clone() for moment in moments}
