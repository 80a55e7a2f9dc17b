"""Parts of a training step on a CPU, each as it is here beside the plain way, forward and backward.

    python benchmarks/step_parts.py

Sizes of the demo recipe: 8 windows of 273 tokens and 17 patches, 4 heads of 64, 24 layer matrices. Both ways
take turns; the median of `--rounds` is shown. Prints a table and, last, one JSON line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_vision_assets.encoder.attention import attend, for_layers
from sap_vision_assets.encoder.model import _project_patches
from sap_vision_assets.training.optim import orthogonalize

WINDOWS, TOKENS, HEADS, HEAD_SIZE = 8, 290, 4, 64
Pair = tuple[Callable[[], object], Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    parts = {
        "attention_bf16": attention(torch.bfloat16),
        "attention_fp32": attention(torch.float32),
        "patches": patches(),
        "muon": muon(),
    }
    result: dict[str, float] = {}
    for name, (plain, ours) in parts.items():
        plain_ms, ours_ms = medians(plain, ours, rounds)
        result[f"{name}_ratio"] = round(plain_ms / ours_ms, 2)
        print(f"{name:<16} plain {plain_ms:7.1f} ms   ours {ours_ms:7.1f} ms   {plain_ms / ours_ms:.2f} x")
    print(json.dumps({"threads": torch.get_num_threads(), **result}))


def medians(plain: Callable[[], object], ours: Callable[[], object], rounds: int) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        for way, spent in zip((plain, ours), times, strict=True):
            started = time.perf_counter()
            way()
            if number >= 2:
                spent.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def attention(dtype: torch.dtype) -> Pair:
    """A bias with a gradient, as position biases are."""
    query, key, value = (
        torch.randn(HEADS, WINDOWS, TOKENS, HEAD_SIZE, dtype=dtype).requires_grad_() for _ in range(3)
    )
    bias = torch.randn(HEADS, WINDOWS, TOKENS, TOKENS, dtype=dtype).requires_grad_()

    def plain() -> None:
        backward(functional.scaled_dot_product_attention(query, key, value, attn_mask=bias))

    def ours() -> None:
        backward(attend(query, key, value, for_layers(bias), dropout_p=0.0))

    return plain, ours


def patches() -> Pair:
    convolution = nn.Conv2d(3, HEADS * HEAD_SIZE, kernel_size=56, stride=56)
    pixels = torch.rand(WINDOWS, 3, 224, 224)

    def plain() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedded = convolution(pixels)
        backward(embedded)

    def ours() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedded = _project_patches(pixels, convolution)
        backward(embedded)

    return plain, ours


def muon() -> Pair:
    """Four layers' momenta: each matrix alone, or all of one shape together."""
    width = HEADS * HEAD_SIZE
    shapes = [(16, width, width), (4, 4 * width, width), (4, width, 4 * width)]
    stacks = [torch.randn(shape) for shape in shapes]

    def plain() -> None:
        for stack in stacks:
            for matrix in stack:
                orthogonalize(matrix[None])

    def ours() -> None:
        for stack in stacks:
            orthogonalize(stack)

    return plain, ours


def backward(output: Tensor) -> None:
    output.backward(torch.ones_like(output))


if __name__ == "__main__":
    main()
