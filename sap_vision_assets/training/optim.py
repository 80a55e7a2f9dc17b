"""The optimizer, with weight decay and orthogonal updates where they belong, and the learning rate's way."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sap_vision_assets.training.config import TrainingConfig

MUON_MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's quintic iteration: singular values go to about 1 within five steps."""
NEWTON_SCHULZ_STEPS = 5


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """Groups by what a parameter does: matrices decay, and Muon takes those of the layers where it is chosen;
    biases and LayerNorms do not decay, nor do the position biases, which have a rate of their own."""
    groups: dict[str, list[nn.Parameter]] = {
        name: [] for name in ("decayed", "layers", "kept", "position_biases")
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_group(name, parameter)].append(parameter)
    rates = {"position_biases": config.learning_rate * config.position_bias_rate_factor}
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rates.get(name, config.learning_rate),
            "weight_decay": config.weight_decay if name in ("decayed", "layers") else 0.0,
            "muon": name == "layers" and config.optimizer == "muon",
        }
        for name, parameters in groups.items()
    ]
    return MuonAdamW(described, lr=config.learning_rate, betas=(0.9, config.adam_beta2), fused=True)


class MuonAdamW(AdamW):
    """AdamW, but parameter groups with "muon" set get orthogonalised momentum instead.

    Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest matrix whose singular values are all
    1. The update is scaled to the size that AdamW's would have (Moonlight, arXiv 2502.16982), so that both
    share one learning rate. All of its state is in `state`, as AdamW's.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        # GradScaler hands found_inf to fused optimizers instead of leaving a step out itself.
        found_inf = getattr(self, "found_inf", None)
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            result = super().step(closure)
        finally:
            self.param_groups = groups
        if found_inf is None or not found_inf.item():
            for group in groups:
                if group["muon"]:
                    self._step_orthogonal(group)
        return result

    def _step_orthogonal(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                # AdamW looks for a step in every parameter's state when it is loaded.
                state["step"] = torch.zeros(())
                state["momentum_buffer"] = torch.zeros_like(parameter)
            momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - MUON_MOMENTUM)
            update = orthogonalize(parameter.grad.lerp(momentum, MUON_MOMENTUM))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            # 0.2 is the root mean square that AdamW's updates have.
            parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """About U V^T of the decomposition U S V^T: computed in bfloat16, singular values within 0.7 to 1.2."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    if is_tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if is_tall else x).to(matrix.dtype)
    return result


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


def _group(name: str, parameter: nn.Parameter) -> str:
    # rel_pos_bias and its kin are matrices of scalars added to attention scores: biases by what they do.
    if ".rel_pos" in name:
        return "position_biases"
    if parameter.ndim < 2:
        return "kept"
    return "layers" if ".encoder.layer." in name and parameter.ndim == 2 else "decayed"
