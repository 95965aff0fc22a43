"""All that a gate's run needs to go on after a kill as if nothing had happened: one safetensors file, no pickle.

Stable-Baselines3's own zip files hold neither the streams that are open, nor the random numbers' state, and unpickle
code. Its PPO keeps everything else in a few attributes, and draws actions from torch's generator and minibatches from
numpy's, so that a run that goes on takes the very same steps: on the same machine, with the same number of threads.
"""

import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from stable_baselines3 import PPO
from torch import Tensor

from envs.errors import PolicyError, first_line
from envs.files import write_bytes
from policies.checkpoint_tensors import check_tensors
from policies.gate_vec_env import GateVecEnv

FORMAT_VERSION = 1
_HEADER = "__metadata__"


def save_checkpoint(path: Path, model: PPO, env: GateVecEnv, run: dict[str, Any]) -> None:
    """Write where a run stands between two rollouts; the file before it stays until this one is whole.

    Args:
        path: The file.
        model: The learner.
        env: Its streams.
        run: What the run was asked for, for `load_checkpoint` to compare: plain JSON types.

    Raises:
        OSError: when it cannot be written.
    """
    streams, episodes = env.state()
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - Stable-Baselines3 draws from it
    about = {
        "format_version": FORMAT_VERSION,
        "run": run,
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "episodes": episodes,
        "last_episode_starts": np.asarray(model._last_episode_starts).tolist(),
        "ep_info": list(model.ep_info_buffer or ()),
        "numpy": [kind, position, has_gauss, gauss],
    }
    tensors = {
        **_learned(model),
        **{f"streams.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in streams.items()},
        "random.torch": torch.get_rng_state(),
        "random.numpy": torch.from_numpy(np.asarray(keys)),
    }
    write_bytes(path, save(tensors, {"about": json.dumps(about)}))


def load_checkpoint(path: Path, model: PPO, env: GateVecEnv, run: dict[str, Any]) -> None:
    """Let a learner that was built for the same run go on from a checkpoint.

    Raises:
        PolicyError: when the file cannot be read, or is of another run or version.
    """
    try:
        data = path.read_bytes()
        tensors = load(data)
        about = json.loads(_metadata(data)["about"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise PolicyError(first_line(f"{path}: the checkpoint cannot be read: {error!r}; remove it")) from error
    if about["format_version"] != FORMAT_VERSION:
        raise PolicyError(f"{path}: format version {about['format_version']}, this release reads {FORMAT_VERSION}")
    if about["run"] != run:
        raise PolicyError(f"{path}: is of a run with {about['run']}, not {run}; name another --out")
    own = {name: tuple(tensor.shape) for name, tensor in model.policy.named_parameters()}
    found = {n.removeprefix("policy."): tuple(t.shape) for n, t in tensors.items() if n.startswith("policy.")}
    check_tensors(own, found, path)
    _learn_again(model, tensors)
    model.num_timesteps, model._n_updates = about["num_timesteps"], about["n_updates"]
    model.ep_info_buffer = deque(about["ep_info"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    streams = {n.removeprefix("streams."): t.numpy().copy() for n, t in tensors.items() if n.startswith("streams.")}
    model._last_obs = env.restore(streams, about["episodes"])
    model._last_episode_starts = np.array(about["last_episode_starts"], bool)
    kind, position, has_gauss, gauss = about["numpy"]
    np.random.set_state((kind, tensors["random.numpy"].numpy(), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(tensors["random.torch"])


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


def _metadata(data: bytes) -> dict[str, str]:
    """Return the texts in the header of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])[_HEADER])
