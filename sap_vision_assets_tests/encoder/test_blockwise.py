"""Blockwise attention gives what the plain formula gives, and so do its gradients.

Two layers share the bias: the second one's queries are the first one's contexts, and only the first of these.
"""

import gc
import weakref
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sap_vision_assets.encoder import blockwise
from sap_vision_assets.encoder.blockwise import SharedBias, blockwise_attention
from sap_vision_assets.encoder.dropout import draw_kept

HEADS, TOKENS, SIZE = 5, 7, 4
QUERIES = 3

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_inputs(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(HEADS, TOKENS, SIZE)] * 3 + [(HEADS, TOKENS, TOKENS)]
    inputs = [torch.randn(shape, dtype=dtype) for shape in shapes]
    inputs[3][:, :, -2:] = torch.finfo(torch.float32).min  # padding, -inf in bfloat16
    return [tensor.requires_grad_() for tensor in inputs]


def two_layers(attend: Attention, inputs: Sequence[Tensor]) -> Tensor:
    query, key, value, _ = inputs
    return attend(attend(query, key, value)[:, :QUERIES], key, value)


def blockwise_layers(*inputs: Tensor, dropout_p: float = 0.0) -> Tensor:
    bias = SharedBias(inputs[3])
    return two_layers(partial(blockwise_attention, bias=bias, dropout_p=dropout_p), inputs)


def with_gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]


def split_into_blocks(monkeypatch: pytest.MonkeyPatch, heads: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(blockwise, "KEPT_SCORES", 0)
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", heads * QUERIES * TOKENS)


@pytest.mark.parametrize("heads_a_block", [1, 2, None])
@pytest.mark.parametrize(
    # Worst seen: 1e-15, 9e-7 and 2e-2, against values of up to 4.
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 4e-6), (torch.bfloat16, 6e-2)],
)
def test_equals_scaled_dot_product_attention(
    dtype: torch.dtype, tolerance: float, heads_a_block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: few enough scores to be kept."""
    if heads_a_block is not None:
        split_into_blocks(monkeypatch, heads_a_block)
    inputs = make_inputs(dtype)
    found = with_gradients(blockwise_layers(*inputs), inputs)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]

    def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        bias = exact[3][:, : query.shape[1]]
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    for ours, expected in zip(found, with_gradients(two_layers(plain, exact), exact), strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - expected).abs().max() < tolerance


def test_gradients_equal_finite_differences() -> None:
    inputs = make_inputs(torch.float64)
    inputs[3] = inputs[3].detach().clamp(min=-5).requires_grad_()
    assert torch.autograd.gradcheck(blockwise_layers, inputs, eps=1e-6, atol=1e-7)


def test_a_backward_starts_from_no_gradient_of_the_one_before() -> None:
    inputs = make_inputs(torch.float64)
    output = blockwise_layers(*inputs)
    first, second = (torch.autograd.grad(output.sum(), inputs[3], retain_graph=True)[0] for _ in range(2))
    assert first.abs().sum() > 0
    assert torch.equal(first, second)


def test_dropout_is_that_of_the_drawn_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def remember(shape: torch.Size, probability: float) -> Tensor:
        drawn.append(draw_kept(shape, probability))
        return drawn[-1]

    monkeypatch.setattr(blockwise, "draw_kept", remember)
    split_into_blocks(monkeypatch, 2)
    inputs = make_inputs(torch.float64)
    found = with_gradients(blockwise_layers(*inputs, dropout_p=0.25), inputs)
    kept = iter(drawn)

    def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = (query @ key.mT / SIZE**0.5 + inputs[3][:, : query.shape[1]]).softmax(-1)
        return (weights * next(kept) / 0.75) @ value

    for ours, expected in zip(found, with_gradients(two_layers(plain, inputs), inputs), strict=True):
        assert (ours - expected).abs().max() < 1e-12
    assert len(drawn) == 2
    assert not any(mask.all() for mask in drawn)


def test_a_step_frees_its_memory_without_the_garbage_collector() -> None:
    inputs = make_inputs()
    gc.disable()
    try:
        bias = SharedBias(inputs[3])
        values = weakref.ref(bias.values)
        output = two_layers(partial(blockwise_attention, bias=bias, dropout_p=0.1), inputs)
        output.sum().backward()
        assert values() is not None
        del output, bias
        assert values() is None
    finally:
        gc.enable()
