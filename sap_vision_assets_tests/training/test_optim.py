from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets.training import checkpoint
from sap_vision_assets.training.initialization import encoder_config
from sap_vision_assets.training.optim import (
    clip_gradients,
    make_optimizer,
    make_scheduler,
    orthogonalize,
)
from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.vocabulary import load_vocabulary


def make_named_optimizer(**changes: Any) -> tuple[MultiTaskLayoutLMv3, Optimizer, dict[str, dict[str, Any]]]:
    """A tiny model, its optimizer, and the parameter group that each parameter is in."""
    config = replace(tiny(), **changes)
    assert config.architecture is not None
    model = MultiTaskLayoutLMv3(
        encoder_config(config.architecture, load_tokenizer("builtin"), load_vocabulary())
    )
    optimizer = make_optimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    group_of = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    assert set(group_of) == set(names.values())
    return model, optimizer, group_of


def test_biases_and_norms_do_not_decay() -> None:
    _, _, group_of = make_named_optimizer()
    for name, group in group_of.items():
        kept = name.endswith(
            (".bias", "rel_pos_bias.weight", "rel_pos_x_bias.weight", "rel_pos_y_bias.weight")
        )
        kept = kept or "norm" in name.lower()
        assert group["weight_decay"] == (0.0 if kept else 0.01), name
        assert not group["muon"]


def test_position_biases_have_a_rate_of_their_own() -> None:
    _, optimizer, group_of = make_named_optimizer(learning_rate=1e-3, position_bias_rate_factor=10.0)
    assert group_of["layoutlmv3.encoder.rel_pos_x_bias.weight"]["lr"] == pytest.approx(1e-2)
    assert group_of["token_head.weight"]["lr"] == pytest.approx(1e-3)
    scheduler = make_scheduler(optimizer, warmup_steps=0, max_steps=4)
    optimizer.step()
    scheduler.step()
    assert group_of["layoutlmv3.encoder.rel_pos_x_bias.weight"]["lr"] == pytest.approx(0.75e-2)


def test_muon_takes_the_layers_matrices_alone() -> None:
    _, _, group_of = make_named_optimizer(optimizer="muon")
    for name, group in group_of.items():
        assert group["muon"] == (".encoder.layer." in name and ".weight" in name and "LayerNorm" not in name)


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 48), (48, 16), (32, 32)):
        matrices = torch.randn(2, *shape)
        matrices[0] *= 1e3  # Each must be scaled by its own size.
        matrix, orthogonal = matrices[1], orthogonalize(matrices)[1]
        values = torch.linalg.svdvals(orthogonal)
        assert orthogonal.shape == matrix.shape
        # A square random matrix has singular values near 0, which five steps leave below the others.
        assert 0.5 < values.median() < 1.3
        assert values.max() < 1.3
        # Same directions: U V^T of the exact decomposition.
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(orthogonal.flatten(), (u @ v).flatten(), dim=0) > 0.95


def test_muon_state_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    def steps(model: nn.Module, optimizer: Optimizer, count: int) -> None:
        for _ in range(count):
            for index, parameter in enumerate(model.parameters()):
                generator = torch.Generator().manual_seed(index)
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    model, optimizer, _ = make_named_optimizer(optimizer="muon")
    other, restored, _ = make_named_optimizer(optimizer="muon")
    steps(model, optimizer, 2)
    other.load_state_dict(model.state_dict())
    scheduler = make_scheduler(optimizer, warmup_steps=0, max_steps=9)
    checkpoint.write_scheduler(tmp_path, scheduler)
    checkpoint.write_optimizer(tmp_path, model, optimizer)
    other_scheduler = make_scheduler(restored, warmup_steps=0, max_steps=9)
    checkpoint.load_optimizer(tmp_path, other, restored, other_scheduler)
    steps(model, optimizer, 1)
    steps(other, restored, 1)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_an_overflow_that_the_scaler_found_updates_nothing() -> None:
    model, optimizer, _ = make_named_optimizer(optimizer="muon")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]  # as GradScaler sets it
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_learning_rate_rises_and_falls_linearly() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer, warmup_steps=3, max_steps=8)
    rates = []
    for _ in range(8):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    # Up in quarters, 1 at the first update after the warm-up, then down in fifths.
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert scheduler.get_last_lr() == [0.0]


def test_gradients_are_scaled_to_the_norm_together() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([first, second], 1.0) == pytest.approx(5.0)
    # torch divides by the norm plus 1e-6.
    assert (first.grad.item(), second.grad.item()) == pytest.approx((0.6, 0.8), rel=1e-6)
    assert clip_gradients([first, second], 10.0) == pytest.approx(1.0)
    assert first.grad.item() == pytest.approx(0.6, rel=1e-6)
