"""Which weights of a policy PPO changes, and how fast."""

import torch
from torch import nn

from policies.modeling_lalm import LALM
from trainers.config import ReinforcementConfig


def train_only_what_is_asked(model: LALM, config: ReinforcementConfig) -> None:
    """Freeze what the configuration does not train, hearing first."""
    frozen: list[nn.Module] = [model.encoder, model.projector]
    if config.train == "head":
        frozen += [model.text_model, model.lm_head]
    if config.lora_rank:  # the reference is the model without adapters: nothing else of it may move
        frozen.append(model.lm_head)
        model.decision_head.requires_grad_(True)  # of which it has a copy; adapters come with all else frozen
    if config.mode == "content_only" or config.objective == "raw_token":
        frozen.append(model.decision_head)
    for module in frozen:
        module.requires_grad_(False)


def make_optimizer(model: LALM, config: ReinforcementConfig) -> torch.optim.Optimizer:
    """Return AdamW over the decision's head and, more slowly, what may be trained of the language model."""

    def trained(*modules: nn.Module) -> list[nn.Parameter]:
        own = (parameter for module in modules for parameter in module.parameters() if parameter.requires_grad)
        return list(dict.fromkeys(own))  # the head's weight is tied

    groups = [
        {"params": trained(model.decision_head), "lr": config.decision_learning_rate},
        {"params": trained(model.text_model, model.lm_head), "lr": config.learning_rate},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.0)
