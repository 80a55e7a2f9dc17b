"""Exact attention with a bias that learns, for training on a CPU: scores come in blocks that fit a cache.

PyTorch's fused kernels give an additive bias no gradient on a CPU; its plain formula then writes every score
of a layer to memory a dozen times, in float32 whatever the inputs are. Here a few heads are worked on at a
time, and the backward computes their weights anew (FlashAttention's idea, arXiv 2205.14135, without tiles).
The bias is one for all layers, and so is the buffer in which they add up its gradient.

Shapes: N heads of all pages, T tokens, Q queries (the first Q tokens), K head size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sap_vision_assets.encoder.dropout import draw_kept, gain

BLOCK_SCORES = 1 << 20
"""Scores of a block, about: 2 to 4 MB, as much as the caches of two cores."""
KEPT_SCORES = 1 << 23
"""So few scores of a layer are one block, whose weights are kept for the backward: 16 to 32 MB a layer."""


class SharedBias:
    """One additive bias for the scores of all layers, [N, T, T], which gets its gradient from all of them.

    Left to autograd, every layer would hand on a gradient as large as its scores, to be added to the sum.
    """

    def __init__(self, bias_NTT: Tensor) -> None:
        self.gradient = _GradientSum()
        self.values: Tensor = _TakeGradient.apply(bias_NTT, self.gradient)
        """What the layers read. Autograd sees them use it, so that its backward comes after theirs."""


class _GradientSum:
    """Refers to no tensor of the graph that refers to it: such a ring would keep a step's memory."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None

    def buffer(self, like: Tensor) -> Tensor:
        """What layers add to."""
        if self._sum is None:
            self._sum = torch.zeros_like(like)
        return self._sum

    def take(self) -> Tensor | None:
        """The sum since the last time; None when no backward came to a layer."""
        taken, self._sum = self._sum, None
        return taken


class _TakeGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor, gradient: _GradientSum) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.gradient = gradient
        return bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, None]:
        return ctx.gradient.take(), None


def blockwise_attention(
    query_NQK: Tensor, key_NTK: Tensor, value_NTK: Tensor, bias: SharedBias, *, dropout_p: float
) -> Tensor:
    """softmax(Q K^T / sqrt(K) + bias) V, with dropout of the softmax; all inputs of one dtype, on the CPU.

    Of the bias the first Q rows count.
    """
    # Autocast would have the softmax in float32, and copy the scores there and back.
    with torch.autocast("cpu", enabled=False):
        context_NQK: Tensor = _BlockwiseAttention.apply(
            query_NQK, key_NTK, value_NTK, bias.values, bias.gradient, dropout_p
        )
    return context_NQK


class _BlockwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  autograd calls it so
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias_NTT: Tensor,
        gradient: _GradientSum,
        dropout_p: float,
    ) -> Tensor:
        bias = bias_NTT[:, : query.shape[1]]
        context = torch.empty_like(query)
        kept = draw_kept(bias.shape, dropout_p) if dropout_p else None
        for block in _blocks(bias):
            weights = _weights(query, key, bias, block)
            torch.bmm(_dropped(weights, kept, block), value[block], out=context[block])
        ctx.save_for_backward(query, key, value, bias_NTT, kept, weights if _is_small(bias) else None)
        ctx.gradient, ctx.gain = gradient, gain(dropout_p)
        return context.mul_(ctx.gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias_NTT, kept, saved = ctx.saved_tensors
        bias, grad_bias = (
            tensor[:, : query.shape[1]] for tensor in (bias_NTT, ctx.gradient.buffer(bias_NTT))
        )
        grad_query, grad_key, grad_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        grad = grad * ctx.gain
        for block in _blocks(bias):
            weights = _weights(query, key, bias, block) if saved is None else saved
            torch.bmm(_dropped(weights, kept, block).mT, grad[block], out=grad_value[block])
            grad_weights = _dropped(torch.bmm(grad[block], value[block].mT), kept, block)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_bias[block] += grad_scores
            torch.bmm(grad_scores, key[block], out=grad_query[block])
            torch.bmm(grad_scores.mT, query[block], out=grad_key[block])
        scale = query.shape[-1] ** -0.5
        grad_query *= scale
        grad_key *= scale
        # The bias gets its gradient from the sum of all layers.
        return grad_query, grad_key, grad_value, None, None, None


def _is_small(bias_NQT: Tensor) -> bool:
    return bias_NQT.numel() <= KEPT_SCORES


def _blocks(bias_NQT: Tensor) -> Iterator[slice]:
    heads = len(bias_NQT)
    # A product is shared out by heads: three of them keep two cores as long as four.
    threads = torch.get_num_threads()
    scores = bias_NQT[0].numel()
    size = heads if _is_small(bias_NQT) else -(-BLOCK_SCORES // (scores * threads)) * threads
    return (slice(at, at + size) for at in range(0, heads, size))


def _weights(query: Tensor, key: Tensor, bias: Tensor, block: slice) -> Tensor:
    scores = torch.baddbmm(bias[block], query[block], key[block].mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(-1)


def _dropped(weights: Tensor, kept: Tensor | None, block: slice) -> Tensor:
    return weights if kept is None else weights * kept[block].to(weights.dtype)
