"""The encoder gives LayoutLMv3's numbers, learns what LayoutLMv3 should learn, and round-trips."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LayoutLMv3Config, LayoutLMv3Model
from transformers.models.layoutlmv3.modeling_layoutlmv3 import LayoutLMv3Encoder

from sap_vision_assets.encoder import (
    EncoderConfig,
    LossWeights,
    MultiTaskLayoutLMv3,
    count_targets,
    load_encoder,
    multitask_loss,
    pages_to_pixel_values,
    start_local,
)
from sap_vision_assets.encoder.attention import distance_buckets
from sap_vision_assets.encoder.loss import IGNORED
from sap_vision_assets.errors import InputError

SIZES = {
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "coordinate_size": 8,
    "shape_size": 8,
    "vocab_size": 100,
    "max_position_embeddings": 514,
    "patch_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def make_model(seed: int = 0, std: float = 0.3) -> MultiTaskLayoutLMv3:
    torch.manual_seed(seed)
    model = MultiTaskLayoutLMv3(EncoderConfig(**SIZES)).eval()
    # Weights well above the usual initialisation's 0.02: differences have room to show.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():
                parameter.normal_(0, std)
    return model


def make_batch(num_tokens: int, batch: int = 2, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 500, (batch, num_tokens, 2), generator=generator)
    size = torch.randint(0, 500, (batch, num_tokens, 2), generator=generator)
    mask = torch.ones(batch, num_tokens, dtype=torch.long)
    ids = torch.randint(3, 100, (batch, num_tokens), generator=generator)
    if num_tokens > 4 and batch > 1:
        mask[1, num_tokens // 2 :] = 0
        ids[1, num_tokens // 2 :] = 1
    return {
        "input_ids": ids,
        "bbox": torch.cat([corner, corner + size], dim=-1),
        "attention_mask": mask,
        "pixel_values": torch.randn(batch, 3, 224, 224, generator=generator),
    }


@pytest.mark.parametrize("num_tokens", [1, 7, 64, 250, 512])
@pytest.mark.parametrize(
    # Worst differences seen over these lengths: 1.5e-6 and 2e-14; states are of order 1.
    ("dtype", "std", "tolerance"),
    [(torch.float32, 0.1, 1e-5), (torch.float64, 0.3, 1e-12)],
)
def test_text_states_equal_those_of_transformers_layoutlmv3(
    num_tokens: int, dtype: torch.dtype, std: float, tolerance: float
) -> None:
    model = make_model(std=std).to(dtype)
    reference = LayoutLMv3Model(LayoutLMv3Config(**SIZES)).eval().to(dtype)
    reference.load_state_dict(model.layoutlmv3.state_dict())
    batch = make_batch(num_tokens)
    batch["pixel_values"] = batch["pixel_values"].to(dtype)
    with torch.no_grad():
        ours = model.layoutlmv3(*batch.values())
        # Ours leaves out the last states of the image's CLS and 49 patches, which no head reads.
        theirs = reference(**batch).last_hidden_state[:, :num_tokens]
    assert ours.shape == (2, num_tokens, 48)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def test_parity_notices_a_wrong_bias() -> None:
    model = make_model()
    reference = LayoutLMv3Model(LayoutLMv3Config(**SIZES)).eval()
    reference.load_state_dict(model.layoutlmv3.state_dict())
    batch = make_batch(64)
    with torch.no_grad():
        model.layoutlmv3.encoder.rel_pos_x_bias.weight[0, 40] += 0.5
        theirs = reference(**batch).last_hidden_state[:, :64]
        difference = (model.layoutlmv3(*batch.values()) - theirs).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize(("bins", "far", "max_distance"), [(32, 128, 514), (64, 256, 1000)])
def test_buckets_equal_transformers(bins: int, far: int, max_distance: int) -> None:
    distance = torch.arange(-max_distance, max_distance + 1)
    theirs = LayoutLMv3Encoder.relative_position_bucket(None, distance, num_buckets=bins, max_distance=far)
    ours = distance_buckets(max_distance, num_buckets=bins, far=far, device=torch.device("cpu"))
    assert torch.equal(ours, theirs)
    assert ours.unique().numel() == bins - 1  # distance 0 never counts as positive


def test_all_parameters_learn_the_position_biases_too() -> None:
    model = make_model().train()
    batch = make_batch(32)
    loss = multitask_loss(
        model(**batch),
        token_labels_BT=torch.randint(0, 181, (2, 32)),
        doc_type_B=torch.tensor([1, 4]),
        po_subtype_B=torch.tensor([3, IGNORED]),
    )
    loss.total.backward()
    # The padding and token-type rows that no token uses are the only zeros; no parameter is left out whole.
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_bias_gradient_equals_finite_differences() -> None:
    model = make_model().double()
    encoder = model.layoutlmv3.encoder
    batch = make_batch(5)
    boxes, mask = batch["bbox"], batch["attention_mask"]
    weight = torch.randn(4, 2, 5, 5, dtype=torch.float64)

    def value() -> Tensor:
        bias = encoder.attention_bias(torch.arange(5), boxes, torch.ones_like(mask), dtype=torch.float64)
        return (bias * weight).sum()

    table = encoder.rel_pos_y_bias.weight
    (gradient,) = torch.autograd.grad(value(), table)
    used = gradient.abs().sum(0).argmax()
    with torch.no_grad():
        before = value()
        table[2, used] += 1e-3
        after = value()
    # The bias is linear in the table: the difference quotient is exact up to rounding.
    assert (after - before).item() / 1e-3 == pytest.approx(gradient[2, used].item(), rel=1e-8)


def test_a_local_start_looks_left_above_and_before() -> None:
    model = MultiTaskLayoutLMv3(EncoderConfig(**SIZES))
    encoder = model.layoutlmv3.encoder
    open_head = encoder.rel_pos_bias.weight[3].clone()
    start_local(encoder)
    assert torch.equal(encoder.rel_pos_bias.weight[3], open_head)
    # A value at (500, 500); then a caption on its left, the heading above, a word on its right, one below.
    corner = torch.tensor([[500, 500], [350, 500], [500, 440], [620, 500], [100, 900]])
    boxes = torch.cat([corner, corner + 10], dim=-1)[None]
    # The value comes last in reading order but for the word to its right.
    position = torch.tensor([3, 2, 0, 4, 9])
    with torch.no_grad():
        bias = encoder.attention_bias(position, boxes, torch.ones(1, 5), dtype=torch.float32)
    before, row, column, _ = bias[:, 0, 0, 1:].softmax(dim=-1)
    assert before.argmax() == 0
    assert row.argmax() == 0
    assert column.argmax() == 1
    assert row[0] > 0.8


def test_padding_changes_nothing() -> None:
    model = make_model()
    short = make_batch(20, batch=1)
    padded = {
        "input_ids": torch.nn.functional.pad(short["input_ids"], (0, 12), value=1),
        "bbox": torch.nn.functional.pad(short["bbox"], (0, 0, 0, 12)),
        "attention_mask": torch.nn.functional.pad(short["attention_mask"], (0, 12)),
        "pixel_values": short["pixel_values"],
    }
    with torch.no_grad():
        alone, beside_padding = model(**short), model(**padded)
    # Measured worst: 4e-6.
    torch.testing.assert_close(alone.doc_type_logits_BC, beside_padding.doc_type_logits_BC, rtol=0, atol=2e-5)
    torch.testing.assert_close(
        alone.token_logits_BTC, beside_padding.token_logits_BTC[:, :20], rtol=0, atol=2e-5
    )


def test_save_and_load_give_the_same_answers(tmp_path: Path) -> None:
    model = make_model()
    model.config.vocabulary_digest = "abc"
    model.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    batch = make_batch(30)
    with torch.no_grad():
        assert torch.equal(model(**batch).token_logits_BTC, loaded(**batch).token_logits_BTC)
    assert loaded.config.vocabulary_digest == "abc"
    assert not loaded.training


def test_loads_layoutlmv3_as_published_and_its_half_precision(tmp_path: Path) -> None:
    published = LayoutLMv3Model(LayoutLMv3Config(**SIZES))
    published.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    model = MultiTaskLayoutLMv3.from_pretrained(tmp_path, config=EncoderConfig(**SIZES), dtype=torch.float32)
    ours = model.layoutlmv3.state_dict()
    assert set(ours) == set(weights)
    for name, tensor in weights.items():
        assert torch.equal(ours[name], tensor.float()), name
    assert model.token_head.weight.dtype == torch.float32


def test_loss_is_the_mean_over_what_is_scored() -> None:
    model = make_model()
    with torch.no_grad():
        output = model(**make_batch(6))
    labels = torch.full((2, 6), IGNORED)
    labels[0, 1], labels[1, 2] = 5, 7
    doc_type, no_subtype = torch.tensor([2, 3]), torch.tensor([IGNORED, IGNORED])
    loss = multitask_loss(output, token_labels_BT=labels, doc_type_B=doc_type, po_subtype_B=no_subtype)
    log_p = output.token_logits_BTC.log_softmax(-1)
    assert loss.token.item() == pytest.approx(-(log_p[0, 1, 5] + log_p[1, 2, 7]).item() / 2, rel=1e-5)
    assert loss.po_subtype.item() == 0.0
    assert loss.total.item() == pytest.approx((loss.token + loss.doc_type).item())


def test_loss_of_parts_adds_up_to_the_loss_of_the_whole() -> None:
    model = make_model()
    batch = make_batch(6, batch=4)
    labels = torch.randint(0, 181, (4, 6))
    labels[0] = IGNORED
    doc_type, subtype = torch.arange(4), torch.tensor([IGNORED, 1, 2, IGNORED])
    counts = count_targets(doc_type, subtype, labels)
    with torch.no_grad():
        output = model(**batch)
        whole = multitask_loss(output, token_labels_BT=labels, doc_type_B=doc_type, po_subtype_B=subtype)
        parts = [
            multitask_loss(
                type(output)(*(logits[part] for logits in vars(output).values())),
                token_labels_BT=labels[part],
                doc_type_B=doc_type[part],
                po_subtype_B=subtype[part],
                counts=counts,
            ).total
            for part in (slice(0, 1), slice(1, 4))
        ]
    assert sum(parts).item() == pytest.approx(whole.total.item(), rel=1e-6)


def test_weights_scale_each_heads_share() -> None:
    model = make_model()
    with torch.no_grad():
        output = model(**make_batch(6))
    targets = {
        "token_labels_BT": torch.randint(0, 181, (2, 6)),
        "doc_type_B": torch.tensor([2, 3]),
        "po_subtype_B": torch.tensor([1, IGNORED]),
    }
    equal = multitask_loss(output, **targets)
    weighted = multitask_loss(output, **targets, weights=LossWeights(doc_type=0.5, po_subtype=0.0, token=2.0))
    assert weighted.doc_type == equal.doc_type
    assert weighted.total.item() == pytest.approx((0.5 * equal.doc_type + 2 * equal.token).item())


def test_nothing_to_score_is_zero_and_not_nan() -> None:
    model = make_model().train()
    nothing = torch.tensor([IGNORED, IGNORED])
    loss = multitask_loss(
        model(**make_batch(6)),
        token_labels_BT=torch.full((2, 6), IGNORED),
        doc_type_B=nothing,
        po_subtype_B=nothing,
    )
    assert loss.total.item() == 0.0
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_pixel_values_are_minus_one_to_one() -> None:
    pages = torch.tensor([0, 255, 128], dtype=torch.uint8).expand(2, 5, 4, 3)
    values = pages_to_pixel_values(pages)
    assert values.shape == (2, 3, 5, 4)
    assert values[0, :, 0, 0].tolist() == pytest.approx([-1.0, 1.0, 1 / 255], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinate_size": 9}, "4 \\* coordinate_size"),
        ({"num_attention_heads": 5}, "num_attention_heads 5"),
        ({"patch_size": 30}, "patch_size 30"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EncoderConfig(**{**SIZES, **change})


def test_max_tokens_leaves_room_for_the_padding_rows() -> None:
    assert EncoderConfig(**SIZES).max_tokens == 512


def test_a_labels_weight_is_what_its_tokens_count() -> None:
    model = make_model()
    with torch.no_grad():
        output = model(**make_batch(6))
    labels = torch.full((2, 6), IGNORED)
    labels[0, 1], labels[0, 2], labels[1, 2] = 5, 5, 7
    label_weights = torch.ones(181)
    # They add up to less than 1: a mean is not one over at least one target.
    label_weights[5], label_weights[7] = 0.1, 0.4
    targets = {"doc_type_B": torch.tensor([2, 3]), "po_subtype_B": torch.tensor([1, IGNORED])}
    loss = multitask_loss(output, token_labels_BT=labels, token_label_weights_C=label_weights, **targets)
    log_p = output.token_logits_BTC.log_softmax(-1)
    weighted = 0.1 * log_p[0, 1, 5] + 0.1 * log_p[0, 2, 5] + 0.4 * log_p[1, 2, 7]
    assert loss.token.item() == pytest.approx(-weighted.item() / 0.6, rel=1e-5)
    plain = multitask_loss(output, token_labels_BT=labels, **targets)
    assert (loss.doc_type, loss.po_subtype) == (plain.doc_type, plain.po_subtype)

    counts = count_targets(**targets, token_labels_BT=labels, token_label_weights_C=label_weights)
    assert counts.stack().tolist() == pytest.approx([2, 1, 0.6])
    parts = [
        multitask_loss(
            type(output)(*(logits[part] for logits in vars(output).values())),
            token_labels_BT=labels[part],
            counts=counts,
            token_label_weights_C=label_weights,
            **{name: target[part] for name, target in targets.items()},
        ).token
        for part in (slice(0, 1), slice(1, 2))
    ]
    assert sum(parts).item() == pytest.approx(loss.token.item(), rel=1e-6)
