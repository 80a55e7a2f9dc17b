"""Dropout by random bytes drops its share, follows from the seed, and is PyTorch's outside of training."""

import pytest
import torch
from torch import nn

from sap_vision_assets.encoder.dropout import STEPS, Dropout, draw_kept, gain, replace_dropout

SHAPE = torch.Size([8, 501, 501])


def test_drops_its_share_and_follows_from_the_seed() -> None:
    torch.manual_seed(3)
    kept = draw_kept(SHAPE, 0.1)
    # 26 of 256; two million draws have a standard deviation of 0.0002, of which four are allowed.
    assert kept.float().mean().item() == pytest.approx(1 - 26 / 256, abs=9e-4)
    # Of each byte of a draw too, the highest one with its sign bit among them.
    for place in range(8):
        assert kept.flatten()[place::8].float().mean().item() == pytest.approx(1 - 26 / 256, abs=3e-3)
    torch.manual_seed(3)
    assert torch.equal(kept, draw_kept(SHAPE, 0.1))
    assert set(kept.unique().tolist()) == {0, 1}
    assert draw_kept(SHAPE, 0.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_kept_with_gain_or_dropped(dtype: torch.dtype) -> None:
    values = torch.randn(3, 5, 64, dtype=dtype).requires_grad_()
    torch.manual_seed(3)
    dropped = Dropout(0.25)(values)
    torch.manual_seed(3)
    mask = draw_kept(values.shape, 0.25)
    assert dropped.dtype == dtype
    torch.testing.assert_close(dropped, values * mask / 0.75)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    torch.testing.assert_close(gradient, mask.to(dtype) / 0.75)
    assert gain(0.25) == STEPS / (STEPS - 64)


def test_does_nothing_in_evaluation_and_at_probability_0() -> None:
    values = torch.randn(4, 4)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_replaces_every_dropout_and_nothing_else() -> None:
    module = nn.Sequential(
        nn.Dropout(0.1), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)), nn.Dropout1d(0.2)
    )
    replace_dropout(module)
    assert [type(item).__name__ for item in module.modules() if not list(item.children())] == [
        "Dropout",
        "Linear",
        "Dropout",
        "Dropout1d",
    ]
    assert isinstance(module[0], Dropout)
    assert [module[0].p, module[1][1].p] == [0.1, 0.3]
