"""The optimizer, with weight decay and orthogonal updates where they belong, and the learning rate's way."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sap_vision_assets.training.config import TrainingConfig
from sap_vision_assets.training.distributed import placed_like, whole

MUON_MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's quintic iteration: singular values go to about 1 within five steps."""
NEWTON_SCHULZ_STEPS = 5


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """Groups by what a parameter does: matrices decay, and Muon takes those of the layers where it is chosen;
    biases and LayerNorms do not decay, nor do position biases. These and the heads have their own rates."""
    groups: dict[str, list[nn.Parameter]] = {
        name: [] for name in ("decayed", "layers", "kept", "position_biases", "heads_decayed", "heads_kept")
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_group(name, parameter)].append(parameter)
    head_rate = config.learning_rate * config.head_rate_factor
    rates = {
        "position_biases": config.learning_rate * config.position_bias_rate_factor,
        "heads_decayed": head_rate,
        "heads_kept": head_rate,
    }
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rates.get(name, config.learning_rate),
            "weight_decay": config.weight_decay if name in ("decayed", "layers", "heads_decayed") else 0.0,
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
        # GradScaler hands found_inf to fused optimizers instead of leaving a step out itself; of sharded
        # tensors (DTensor) the fused kernel does not heed it.
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            if found_inf.item():
                return None
            self.found_inf = None
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            result = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._step_orthogonal(group)
        return result

    def _step_orthogonal(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for shape, parameters in by_shape.items():
            # A shard of a matrix has no singular values: every rank works on the whole, and keeps its part.
            updates = orthogonalize(torch.stack([whole(self._momentum(item)) for item in parameters]))
            # 0.2 is the root mean square that AdamW's updates have.
            rate = group["lr"] * 0.2 * max(shape) ** 0.5
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(placed_like(update, parameter), alpha=-rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """The gradient's running mean, looked ahead by one step (Nesterov)."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["momentum_buffer"].lerp_(parameter.grad, 1 - MUON_MOMENTUM)
        return parameter.grad.lerp(state["momentum_buffer"], MUON_MOMENTUM)


def orthogonalize(matrices_NRC: Tensor) -> Tensor:
    """About U V^T of each matrix's decomposition U S V^T: singular values come within 0.7 to 1.2.

    Computed in bfloat16, all matrices at once: one by one, their many small operations took longer than the
    forward and backward of a small encoder (docs/performance.md).
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.bfloat16()
    if is_tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = (x.mT if is_tall else x).to(matrices_NRC.dtype)
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
    return float(whole(torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)))


def _group(name: str, parameter: nn.Parameter) -> str:
    # rel_pos_bias and its kin are matrices of scalars added to attention scores: biases by what they do.
    if ".rel_pos" in name:
        return "position_biases"
    if not name.startswith("layoutlmv3."):
        return "heads_kept" if parameter.ndim < 2 else "heads_decayed"
    if parameter.ndim < 2:
        return "kept"
    return "layers" if ".encoder.layer." in name and parameter.ndim == 2 else "decayed"
