"""Whether a batch can fit into memory at all, asked before minutes of composing and training."""

import math
import os

import torch

from envs.errors import ConfigError
from policies.modeling_lalm import LALM
from trainers.config import ReinforcementConfig, StageConfig
from trainers.learners import Learners

_HIDDEN, _INTERMEDIATE = 8, 4  # rows of either width that a layer keeps of a token for its gradients
_ADAM = 3  # of each weight that is trained: a gradient and two moments, float32


def least_bytes(model: LALM, max_tokens: int, processes: int = 1) -> int:
    """Return what a step on a batch needs at the least: weights, Adam, and what the language model's layers keep.

    The encoder's part, attention's scores and the head's logits come on top: they differ by backbone and by device.

    Args:
        model: With gradients on what is trained.
        max_tokens: Of the batch, padding counted.
        processes: That each hold a part of weights and Adam, and learn from a part of the batch.
    """
    parameters = list(model.parameters())
    size = max(parameter.element_size() for parameter in parameters)
    weights = sum(p.numel() * p.element_size() for p in parameters)
    adam = sum(_ADAM * p.numel() * 4 for p in parameters if p.requires_grad)
    text = model.text_model.config
    kept = _HIDDEN * text.hidden_size + _INTERMEDIATE * text.intermediate_size
    layers = 1 if model.text_model.gradient_checkpointing else text.num_hidden_layers
    return (weights + adam + max_tokens * layers * kept * size) // processes


def check_memory(name: str, config: StageConfig, model: LALM, shared_by: Learners | None = None) -> None:
    """Ask whether a batch of a stage could fit into the memory of the model's device.

    Args:
        name: Of the stage.
        config: Of the stage.
        model: With gradients on what is trained.
        shared_by: The processes that it is sharded over, on their devices; None: it is not.

    Raises:
        ConfigError: naming the key, when it could not.
    """
    device, processes = (model.device, 1) if shared_by is None else (shared_by.device, shared_by.count)
    if more := _more_than(device, least_bytes(model, config.max_tokens_per_batch, processes)):
        raise ConfigError(
            f"{name}.max_tokens_per_batch is {config.max_tokens_per_batch}, and a step on so many takes {more}; allow"
            " fewer tokens, and accumulate batches"
        )


def check_minibatch(config: ReinforcementConfig, model: LALM, least_chunks: int, learners: Learners) -> None:
    """Ask whether what an update takes through the model at once could fit into the memory of the learning device.

    Args:
        config: Of PPO or GRPO.
        model: With gradients on what is trained; adapters are small, and need not be there yet.
        least_chunks: Of the shortest stream that may be played.
        learners: They share a minibatch, and with `fsdp` the weights.

    Raises:
        ConfigError: naming the keys, when it could not.
    """
    episodes = math.ceil(config.episodes_per_iteration / config.minibatches / learners.count)
    tokens = episodes * least_chunks * model.layout.audio_tokens_per_chunk  # and some for what is said
    if config.tokens_per_minibatch is not None:
        tokens = min(tokens, config.tokens_per_minibatch)
    processes = learners.count if config.fsdp else 1
    if more := _more_than(learners.device, least_bytes(model, tokens * processes, processes)):
        raise ConfigError(
            f"ppo.episodes_per_iteration is {config.episodes_per_iteration} in {config.minibatches} minibatches, and"
            f" ppo.tokens_per_minibatch {config.tokens_per_minibatch or 'not given'}: an update takes {more}; give a"
            " lower tokens_per_minibatch, which changes no gradient"
        )


def _more_than(device: torch.device, wants: int) -> str:
    """Return how many bytes are wanted of how many that a device has; blank where they are not too many."""
    has = _total_bytes(device)
    if has is None or wants <= has:
        return ""
    return f"at least {wants / 1e9:.2g} GB with this model, of {has / 1e9:.2g} GB that {device} has"


def _total_bytes(device: torch.device) -> int | None:
    """Return how much memory a device has; None where nobody says so."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu" or not hasattr(os, "sysconf"):  # Windows has none
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
