"""Blockwise attention gives what the plain formula gives, and so do its gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sap_vision_assets.encoder import blockwise
from sap_vision_assets.encoder.blockwise import DROPOUT_STEPS, blockwise_attention

HEADS, TOKENS, SIZE = 5, 7, 4


def make_inputs(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(HEADS, TOKENS, SIZE)] * 3 + [(HEADS, TOKENS, TOKENS)]
    inputs = [torch.randn(shape, dtype=dtype) for shape in shapes]
    inputs[3][:, :, -2:] = torch.finfo(torch.float32).min  # padding, -inf in bfloat16
    return [tensor.requires_grad_() for tensor in inputs]


def with_gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]


@pytest.mark.parametrize("heads_a_block", [1, 2, None])
@pytest.mark.parametrize(
    # Worst seen: 5e-7 and 8e-3, against values of up to 4.
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 3e-2)],
)
def test_equals_scaled_dot_product_attention(
    dtype: torch.dtype, tolerance: float, heads_a_block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: few enough scores to be kept."""
    if heads_a_block is not None:
        monkeypatch.setattr(blockwise, "KEPT_SCORES", 0)
        monkeypatch.setattr(blockwise, "BLOCK_SCORES", heads_a_block * TOKENS**2)
    inputs = make_inputs(dtype)
    found = with_gradients(blockwise_attention(*inputs, dropout_p=0.0), inputs)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    query, key, value, bias = exact
    plain = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    for ours, expected in zip(found, with_gradients(plain, exact), strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - expected).abs().max() < tolerance


def test_gradients_equal_finite_differences() -> None:
    inputs = make_inputs(torch.float64)
    inputs[3] = inputs[3].detach().clamp(min=-5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *given: blockwise_attention(*given, dropout_p=0.0), inputs, eps=1e-6, atol=1e-7
    )


def test_dropout_is_that_of_the_drawn_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    draw = blockwise._draw

    def remember(bias: Tensor, threshold: int) -> Tensor | None:
        kept = draw(bias, threshold)
        assert kept is not None
        drawn.append(kept)
        return kept

    monkeypatch.setattr(blockwise, "_draw", remember)
    monkeypatch.setattr(blockwise, "KEPT_SCORES", 0)
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", 2 * TOKENS**2)
    inputs = make_inputs(torch.float64)
    found = with_gradients(blockwise_attention(*inputs, dropout_p=0.25), inputs)
    query, key, value, bias = inputs
    weights = (query @ key.mT / SIZE**0.5 + bias).softmax(-1)
    expected = with_gradients((weights * drawn[0] / 0.75) @ value, inputs)
    for ours, plain in zip(found, expected, strict=True):
        assert (ours - plain).abs().max() < 1e-12
    assert not drawn[0].all()


def test_dropout_drops_its_share_and_follows_from_the_seed() -> None:
    bias = torch.zeros(8, 501, 501)

    def draw() -> Tensor:
        torch.manual_seed(3)
        kept = blockwise._draw(bias, round(0.1 * DROPOUT_STEPS))
        assert kept is not None
        return kept

    kept = draw()
    # 26 of 256; two million draws have a standard deviation of 0.0002, of which four are allowed.
    assert kept.float().mean().item() == pytest.approx(1 - 26 / 256, abs=9e-4)
    # Of each byte of a draw too, the highest one with its sign bit among them.
    for place in range(8):
        assert kept.flatten()[place::8].float().mean().item() == pytest.approx(1 - 26 / 256, abs=3e-3)
    assert torch.equal(kept, draw())
    assert blockwise._draw(bias, 0) is None
