"""Which number format a training computes in, and the autocast and loss scaling that go with it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import torch
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

from sap_vision_assets.training.config import Precision, Strategy

Resolved = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: Precision, device: torch.device) -> Resolved:
    """What "auto" means on this device: bf16 only where the hardware computes it; elsewhere it is slower."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    cpu_has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if cpu_has_bf16 else "fp32"


def make_autocast(precision: Resolved, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A context for the forward; weights, gradients and the loss stay float32."""
    return partial(torch.autocast, device.type, dtype=_DTYPES.get(precision), enabled=precision != "fp32")


def make_scaler(precision: Resolved, device: torch.device, strategy: Strategy) -> torch.amp.GradScaler:
    """Scales fp16's losses so that small gradients survive; does nothing in the other formats."""
    # Of sharded gradients each rank sees a part: an overflow in one must be known to all.
    scaler = ShardedGradScaler if strategy == "fsdp" else torch.amp.GradScaler
    return scaler(device.type, enabled=precision == "fp16")
