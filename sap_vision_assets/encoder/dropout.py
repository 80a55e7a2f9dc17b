"""Dropout that costs little on a CPU: a random byte decides, where PyTorch draws a double an element."""

import torch
from torch import Tensor, nn

STEPS = 256
"""On a CPU the probability is rounded to a multiple of 1 / 256."""


def draw_kept(shape: torch.Size, probability: float) -> Tensor:
    """uint8 on the CPU: 0 with about `probability`, else 1."""
    num_elements = shape.numel()
    # Eight random bytes a draw, of the generator that is seeded for each micro-batch.
    draws = torch.empty(-(-num_elements // 8), dtype=torch.int64).random_(-(2**63), None)
    # Bytes all the way: a product with bool is not vectorised, and takes five times as long.
    return draws.view(torch.uint8)[:num_elements].view(shape).ge_(round(probability * STEPS))


def gain(probability: float) -> float:
    """What the values that `draw_kept` keeps are multiplied by."""
    return STEPS / (STEPS - round(probability * STEPS))


class Dropout(nn.Dropout):
    """nn.Dropout on a GPU and outside of training; on a CPU by `draw_kept`."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0 or values.device.type != "cpu":
            return super().forward(values)
        # Two products, so that the backward keeps a byte an element.
        return values * draw_kept(values.shape, self.p) * gain(self.p)


def replace_dropout(module: nn.Module) -> None:
    """Makes every nn.Dropout below `module` a Dropout of the same probability."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            replace_dropout(child)
