import pytest
import torch
from torch import nn

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets.training.initialization import encoder_config
from sap_vision_assets.training.optim import clip_gradients, make_optimizer, make_scheduler
from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.vocabulary import load_vocabulary


def test_biases_and_norms_do_not_decay() -> None:
    config = tiny()
    assert config.architecture is not None
    model = MultiTaskLayoutLMv3(
        encoder_config(config.architecture, load_tokenizer("builtin"), load_vocabulary())
    )
    decayed, kept = make_optimizer(model, config).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kept_names = {names[id(parameter)] for parameter in kept["params"]}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    assert kept_names | decayed_names == set(names.values())
    assert not kept_names & decayed_names
    for part in ("rel_pos_bias.weight", "rel_pos_x_bias.weight", "LayerNorm.weight", "token_head.bias"):
        assert any(name.endswith(part) for name in kept_names)
        assert not any(name.endswith(part) for name in decayed_names)
    assert "token_head.weight" in decayed_names
    assert "layoutlmv3.embeddings.word_embeddings.weight" in decayed_names


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
