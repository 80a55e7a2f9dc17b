from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sap_vision_assets.encoder import pages_to_pixel_values
from sap_vision_assets.errors import InputError
from sap_vision_assets.shards import open_shards
from sap_vision_assets.training import TrainingJob, launch, loop
from sap_vision_assets.training.distributed import World
from sap_vision_assets.training.label_weights import MAX_LABEL_WEIGHT, rare_label_weights
from sap_vision_assets.training.run import Run
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.training.making import KilledError, losses, make_job, train_here
from sap_vision_assets_tests.training.test_launcher import ENV

CHANGES: dict[str, Any] = {"max_steps": 6, "save_every_steps": 2, "eval_every_steps": 6}


@pytest.mark.parametrize(
    ("counts", "exponent", "expected"),
    [
        ([90, 10, 0], 0.0, [1, 1, 1]),
        # 1 / 90 and 1 / 10, times 50: 90 * 5/9 + 10 * 5 = 100.
        ([90, 10, 0], 1.0, [5 / 9, 5, 1]),
        # 1 / sqrt(90) and 3 / sqrt(90): 90 * 5/6 + 10 * 5/2 = 100.
        ([90, 10, 0], 0.5, [5 / 6, 5 / 2, 1]),
        # Uncapped the second would have 50; the first gets what is left: (1000 - 10 * 10) / 990.
        ([990, 10], 1.0, [10 / 11, 10]),
        # Uncapped 10 * 1000 / 3 / n: 0.34, 9.6 and 1667; what the third leaves lifts the second to the cap.
        ([9788, 210, 2], 1.0, [(10_000 - 2120) / 9788, 10, 10]),
        ([0, 7], 1.0, [1, 1]),
        ([0, 0], 1.0, [1, 1]),
    ],
)
def test_weights_by_hand(counts: list[int], exponent: float, expected: list[float]) -> None:
    assert rare_label_weights(np.array(counts), exponent) == pytest.approx(expected)


def test_mean_of_all_words_is_one_and_none_is_above_the_cap() -> None:
    counts = np.random.default_rng(0).pareto(0.5, 181).astype(np.int64) * 10
    for exponent in (0.1, 0.5, 0.9, 1.0):
        weights = rare_label_weights(counts, exponent).astype(np.float64)
        assert (weights * counts).sum() == pytest.approx(counts.sum())
        assert weights.max() <= MAX_LABEL_WEIGHT
        seen = counts > 0
        assert (np.diff(weights[seen][np.argsort(counts[seen])]) <= 0).all()  # the rarer the heavier


def test_labels_are_counted_once_a_word(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_shards(shards, load_vocabulary())
    words = np.concatenate([opened.word_labels(document) for document in range(opened.num_documents)])
    expected = np.bincount(words, minlength=181)
    assert opened.num_windows > opened.num_documents  # words stand in two windows, and are scored in one
    assert opened.label_counts(181).tolist() == expected.tolist()
    monkeypatch.setattr("sap_vision_assets.shards.reader.LABELS_AT_ONCE", 7)
    assert opened.label_counts(181).tolist() == expected.tolist()


def test_only_the_training_shards_decide(shards: Path, short_shards: Path, tmp_path: Path) -> None:
    def weights(train: Path, val: Path) -> torch.Tensor:
        job = make_job(train, tmp_path, rare_label_exponent=0.5)
        found = Run(replace(job, val_shards=val), World(rank=0, size=1, device=torch.device("cpu")))
        assert found.token_label_weights_C is not None
        return found.token_label_weights_C

    assert torch.equal(weights(shards, shards), weights(shards, short_shards))
    assert not torch.equal(weights(shards, shards), weights(short_shards, shards))


def test_a_steps_loss_is_the_weighted_mean_over_all_its_micro_batches(shards: Path, tmp_path: Path) -> None:
    job = make_job(shards, tmp_path, rare_label_exponent=0.5, batch_size=3, gradient_accumulation_steps=3)
    run = Run(job, World(rank=0, size=1, device=torch.device("cpu")))
    micro_batches = next(loop._read(run))
    found = loop._accumulate_gradients(run, micro_batches).sum(dim=0)[2]
    assert run.token_label_weights_C is not None
    above = below = 0.0
    for _, batch in micro_batches:
        pixels = pages_to_pixel_values(batch.pages_BHW3)
        with torch.no_grad():
            output = run.raw_model(batch.input_ids_BT, batch.bbox_BT4, batch.attention_mask_BT, pixels)
        scored = batch.token_labels_BT >= 0
        labels = batch.token_labels_BT[scored]
        log_p = output.token_logits_BTC.log_softmax(-1)[scored].gather(1, labels[:, None])[:, 0]
        weights = run.token_label_weights_C[labels]
        above, below = above - (weights * log_p).sum().item(), below + weights.sum().item()
    assert found.item() == pytest.approx(above / below, rel=1e-5)
    num_words = sum(int((batch.token_labels_BT >= 0).sum()) for _, batch in micro_batches)
    assert below != pytest.approx(num_words, rel=0.01)


@pytest.fixture(scope="module")
def one_process(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    out = tmp_path_factory.mktemp("weighted") / "out"
    job = make_job(shards, out, rare_label_exponent=0.5, **CHANGES)
    train_here(job)
    return job


def test_parts_on_two_ranks_lose_as_the_whole_does(one_process: TrainingJob, tmp_path: Path) -> None:
    config = replace(one_process.config, batch_size=1, gradient_accumulation_steps=2, num_processes=2)
    job = replace(one_process, out=tmp_path / "out", config=config)
    launch(job, env=ENV)
    # Worst seen: 1e-7.
    assert losses(job.out) == pytest.approx(losses(one_process.out), rel=1e-5)


def test_off_loses_otherwise(one_process: TrainingJob, tmp_path: Path) -> None:
    config = replace(one_process.config, rare_label_exponent=0.0)
    job = replace(one_process, out=tmp_path / "out", config=config)
    train_here(job)
    assert losses(job.out) != pytest.approx(losses(one_process.out), rel=1e-3)


def test_killed_and_started_again_equals_the_unbroken_run(one_process: TrainingJob, tmp_path: Path) -> None:
    job = replace(one_process, out=tmp_path / "out")
    with pytest.raises(KilledError):
        train_here(job, crash_after=3)
    summary = train_here(job)
    assert summary is not None
    assert summary["resumed_from"] == 2
    assert losses(job.out) == losses(one_process.out)


@pytest.mark.parametrize("exponent", [-0.1, 1.5])
def test_exponent_outside_of_its_range_is_refused(exponent: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rare_label_exponent"):
        make_job(tmp_path, tmp_path, rare_label_exponent=exponent)
