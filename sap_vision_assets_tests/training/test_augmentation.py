"""Augmented pages: words hidden whole, boxes moved together, nothing else touched, the same when repeated."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sap_vision_assets.shards import open_shards
from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.training import loop
from sap_vision_assets.training.augmentation import augment
from sap_vision_assets.training.batches import Batch, collate
from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import losses, make_job, make_shards, train_here


@pytest.fixture
def page(tmp_path: Path) -> tuple[Batch, Tokenizer]:
    shards = open_shards(make_shards(tmp_path / "shards"), load_vocabulary())
    tokenizer = shards.load_tokenizer()
    return collate(shards, range(shards.num_windows), pad_id=tokenizer.pad_id), tokenizer


def changed_fields(before: Batch, after: Batch) -> set[str]:
    names = [field.name for field in fields(Batch)]
    return {name for name in names if not torch.equal(getattr(before, name), getattr(after, name))}


def test_off_changes_nothing(page: tuple[Batch, Tokenizer]) -> None:
    batch, tokenizer = page
    assert changed_fields(batch, augment(batch, tiny(), tokenizer)) == set()


def test_words_are_hidden_whole_and_in_their_share(page: tuple[Batch, Tokenizer]) -> None:
    batch, tokenizer = page
    torch.manual_seed(0)
    looks = [augment(batch, replace(tiny(), word_masking=0.25), tokenizer) for _ in range(200)]
    assert all(changed_fields(batch, look) <= {"input_ids_BT"} for look in looks)
    is_word = batch.word_index_BT >= 0
    hidden = torch.stack([look.input_ids_BT == tokenizer.unk_id for look in looks])
    assert not hidden[:, ~is_word].any()
    # Some thousand words in 200 looks: a standard deviation of less than 0.003.
    assert hidden[:, is_word].float().mean().item() == pytest.approx(0.25, abs=0.015)
    assert not torch.equal(hidden[0], hidden[1])
    for row, words in enumerate(batch.word_index_BT):
        for word in words[words >= 0].unique():
            of_word = hidden[:, row, words == word]
            assert (of_word.all(dim=1) | ~of_word.any(dim=1)).all()
    kept = ~hidden[0]
    assert torch.equal(looks[0].input_ids_BT[kept], batch.input_ids_BT[kept])


def test_boxes_of_a_page_move_together_and_stay_on_it(page: tuple[Batch, Tokenizer]) -> None:
    batch, tokenizer = page
    torch.manual_seed(0)
    after = augment(batch, replace(tiny(), layout_jitter=0.3), tokenizer)
    assert changed_fields(batch, after) == {"bbox_BT4"}
    is_word = batch.word_index_BT >= 0
    assert torch.equal(after.bbox_BT4[~is_word], batch.bbox_BT4[~is_word])
    scales = []
    for row in range(len(is_word)):
        before, moved = (
            boxes[row][is_word[row]].double().numpy() for boxes in (batch.bbox_BT4, after.bbox_BT4)
        )
        assert moved.min() >= 0
        assert moved.max() <= 1000
        for corners in (slice(0, 4, 2), slice(1, 4, 2)):  # x, then y
            x, y = before[:, corners].ravel(), moved[:, corners].ravel()
            scale, offset = np.polyfit(x, y, 1)
            # One straight line for the whole page, but for rounding to thousandths.
            assert np.abs(scale * x + offset - y).max() < 1.1
            assert 0.68 < scale < 1.02
            scales.append(round(scale, 2))
    assert len(set(scales)) > 3


def test_a_training_that_is_killed_repeats_its_augmented_steps(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards")
    changes = {"word_masking": 0.2, "layout_jitter": 0.2, "max_steps": 6, "save_every_steps": 2}
    whole = make_job(shards, tmp_path / "whole", **changes)
    train_here(whole)
    parts = make_job(shards, tmp_path / "parts", **changes)
    assert train_here(parts, stop_after=3) is None
    train_here(parts)
    assert losses(parts.out) == losses(whole.out)
    plain = make_job(shards, tmp_path / "plain", max_steps=6)
    train_here(plain)
    assert losses(plain.out) != losses(whole.out)


def test_validation_sees_pages_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(loop, "augment", lambda batch, *_: seen.append(len(batch.window_B)) or batch)
    job = make_job(make_shards(tmp_path / "shards"), tmp_path / "out", max_steps=3, eval_every_steps=1)
    train_here(job)
    assert seen == [job.config.batch_size] * 3
