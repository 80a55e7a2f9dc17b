"""AdamW with weight decay where it belongs, and the learning rate's way up and down."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sap_vision_assets.training.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """Fused AdamW in two groups: matrices decay; biases, LayerNorms and position biases do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(name, parameter) else kept).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=(0.9, config.adam_beta2), fused=True)


def make_scheduler(optimizer: Optimizer, *, warmup_steps: int, max_steps: int) -> LambdaLR:
    """Linear up over `warmup_steps` updates and linear down to 0 after `max_steps`; no update has rate 0."""

    def factor(updates: int) -> float:
        if updates < warmup_steps:
            return (updates + 1) / (warmup_steps + 1)
        return max(0.0, (max_steps - updates) / (max_steps - warmup_steps))

    return LambdaLR(optimizer, factor)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scales all gradients down to an L2 norm of `max_norm` together; returns the norm they had."""
    return float(torch.nn.utils.clip_grad_norm_(list(parameters), max_norm))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    # rel_pos_bias and its kin are matrices of scalars added to attention scores: biases by what they do.
    return parameter.ndim >= 2 and "bias" not in name
