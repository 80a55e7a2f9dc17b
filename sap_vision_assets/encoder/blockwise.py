"""Exact attention with a bias that learns, for training on a CPU: scores come in blocks that fit a cache.

PyTorch's fused kernels give an additive bias no gradient on a CPU; its plain formula then writes every score
of a layer to memory a dozen times, in float32 whatever the inputs are. Here a few heads are worked on at a
time, and the backward computes their weights anew (FlashAttention's idea, arXiv 2205.14135, without tiles).

Shapes: N heads of all pages, T tokens, K head size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_SCORES = 1 << 20
"""Scores of a block at most, or one head's: 2 to 4 MB, as much as the caches of two cores."""
KEPT_SCORES = 1 << 23
"""So few scores of a layer are one block, whose weights are kept for the backward: 16 to 32 MB a layer."""
DROPOUT_STEPS = 256
"""Dropout's probability is rounded to a multiple of 1 / 256: a random byte decides, an eighth of a draw."""


def blockwise_attention(
    query_NTK: Tensor, key_NTK: Tensor, value_NTK: Tensor, bias_NTT: Tensor, *, dropout_p: float
) -> Tensor:
    """softmax(Q K^T / sqrt(K) + bias) V, with dropout of the softmax; all inputs of one dtype, on the CPU."""
    # Autocast would have the softmax in float32, and copy the scores there and back.
    with torch.autocast("cpu", enabled=False):
        context_NTK: Tensor = _BlockwiseAttention.apply(query_NTK, key_NTK, value_NTK, bias_NTT, dropout_p)
    return context_NTK


class _BlockwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  autograd calls it so
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout_p: float
    ) -> Tensor:
        context = torch.empty_like(query)
        threshold = round(dropout_p * DROPOUT_STEPS)
        kept = _draw(bias, threshold)
        for block in _blocks(bias):
            weights = _weights(query, key, bias, block)
            torch.bmm(_dropped(weights, kept, block, threshold), value[block], out=context[block])
        ctx.save_for_backward(query, key, value, bias, kept, weights if _is_small(bias) else None)
        ctx.threshold = threshold
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, kept, saved = ctx.saved_tensors
        grads = [torch.empty_like(tensor) for tensor in (query, key, value, bias)]
        grad_query, grad_key, grad_value, grad_bias = grads
        scale = query.shape[-1] ** -0.5
        for block in _blocks(bias):
            weights = _weights(query, key, bias, block) if saved is None else saved
            dropped = _dropped(weights, kept, block, ctx.threshold)
            torch.bmm(dropped.mT, grad[block], out=grad_value[block])
            grad_weights = _dropped(torch.bmm(grad[block], value[block].mT), kept, block, ctx.threshold)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_bias[block] = grad_scores
            torch.bmm(grad_scores, key[block], out=grad_query[block])
            torch.bmm(grad_scores.mT, query[block], out=grad_key[block])
        grad_query *= scale
        grad_key *= scale
        return (*grads, None)


def _is_small(bias_NTT: Tensor) -> bool:
    return bias_NTT.numel() <= KEPT_SCORES


def _blocks(bias_NTT: Tensor) -> Iterator[slice]:
    heads, length = bias_NTT.shape[:2]
    size = heads if _is_small(bias_NTT) else max(1, BLOCK_SCORES // length**2)
    return (slice(at, at + size) for at in range(0, heads, size))


def _weights(query: Tensor, key: Tensor, bias: Tensor, block: slice) -> Tensor:
    scores = torch.baddbmm(bias[block], query[block], key[block].mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(-1)


def _draw(bias: Tensor, threshold: int) -> Tensor | None:
    """[N, T, T] bool: which weights stay, `threshold` of DROPOUT_STEPS going; None when all stay."""
    if threshold == 0:
        return None
    # Eight random bytes a draw, of the generator that is seeded for each micro-batch.
    draws = torch.empty(-(-bias.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.uint8)[: bias.numel()].view(bias.shape) >= threshold


def _dropped(weights: Tensor, kept: Tensor | None, block: slice, threshold: int) -> Tensor:
    if kept is None:
        return weights
    return (weights * kept[block]).mul_(DROPOUT_STEPS / (DROPOUT_STEPS - threshold))
