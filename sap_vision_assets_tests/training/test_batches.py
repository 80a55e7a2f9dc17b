from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sap_vision_assets.errors import InputError
from sap_vision_assets.shards import open_shards
from sap_vision_assets.training.batches import LengthGroupedSampler, collate, document_names, read_steps
from sap_vision_assets.vocabulary import load_vocabulary

LENGTHS = np.random.default_rng(0).integers(8, 512, size=203).astype(np.int32)


def sampler(*, batch_size: int = 4, global_batch_size: int = 16, seed: int = 0) -> LengthGroupedSampler:
    return LengthGroupedSampler(
        LENGTHS, global_batch_size=global_batch_size, batch_size=batch_size, seed=seed
    )


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_window_is_read_exactly_once_an_epoch(world_size: int) -> None:
    plan = sampler()
    assert plan.steps_per_epoch == 13
    for epoch in (0, 1):
        read: Counter[int] = Counter()
        for step in range(13 * epoch, 13 * (epoch + 1)):
            ranks = [plan.micro_batches(step, rank=rank, world_size=world_size) for rank in range(world_size)]
            # A rank with fewer would leave the others waiting for it.
            assert len({len(micros) for micros in ranks}) == 1
            for micro in (micro for micros in ranks for micro in micros):
                assert len(micro.windows) <= 4
                read.update(() if micro.is_filler else micro.windows)
        assert read == Counter(range(203))


def test_order_follows_from_seed_and_epoch() -> None:
    def epoch(plan: LengthGroupedSampler, number: int) -> list[list[int]]:
        return [plan.step_windows(step).tolist() for step in range(13 * number, 13 * (number + 1))]

    assert epoch(sampler(), 0) == epoch(sampler(), 0)
    assert epoch(sampler(), 0) != epoch(sampler(), 1)
    assert epoch(sampler(), 0) != epoch(sampler(seed=1), 0)
    # Batches hold other windows each time: they are not the same ones in another order.
    first, second = ({frozenset(batch) for batch in epoch(sampler(), number)} for number in (0, 1))
    assert not first & second


def test_same_windows_in_a_step_however_they_are_split() -> None:
    for step in range(13):
        whole = sampler(batch_size=16).micro_batches(step, rank=0, world_size=1)
        assert len(whole) == 1
        halves = [sampler(batch_size=2).micro_batches(step, rank=rank, world_size=2) for rank in (0, 1)]
        split = [window for micros in halves for micro in micros for window in micro.windows]
        assert sorted(split) == sorted(whole[0].windows)


def test_windows_of_a_batch_are_of_similar_length() -> None:
    def padding(groups: list[list[int]]) -> float:
        return float(np.mean([LENGTHS[group].max() - LENGTHS[group].mean() for group in groups]))

    plan = sampler(global_batch_size=4)
    grouped = [plan.step_windows(step).tolist() for step in range(plan.steps_per_epoch)]
    shuffled = np.random.default_rng(0).permutation(203)
    random_groups = [shuffled[at : at + 4].tolist() for at in range(0, 203, 4)]
    assert padding(grouped) < padding(random_groups) / 2


def test_no_windows_are_refused() -> None:
    with pytest.raises(InputError, match="no windows"):
        LengthGroupedSampler(np.array([], dtype=np.int32), global_batch_size=4, batch_size=4, seed=0)


def test_collate_pads_to_the_longest_window_in_eights(shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    lengths = opened.window_lengths
    short, longer = int(np.argmin(lengths)), int(np.argsort(lengths)[1])
    batch = collate(opened, [short, longer], pad_id=1)
    width = -(-int(lengths[longer]) // 8) * 8
    assert batch.input_ids_BT.shape == (2, width)
    assert batch.attention_mask_BT.sum(dim=1).tolist() == [lengths[short], lengths[longer]]
    window = opened.window(short)
    size = len(window)
    assert batch.input_ids_BT[0].tolist() == [*window.input_ids.tolist(), *[1] * (width - size)]
    assert batch.token_labels_BT[0, size:].unique().tolist() == [-100]
    assert batch.bbox_BT4[0, :size].tolist() == window.boxes.tolist()
    assert batch.word_index_BT[0, :size].tolist() == window.word_index.tolist()
    assert batch.document_B.tolist() == [window.document, opened.window(longer).document]
    assert batch.doc_type_B[0] == opened.doc_types[window.document]
    assert batch.po_subtype_B[0] == opened.po_subtypes[window.document]
    assert np.array_equal(batch.pages_BHW3[1].numpy(), opened.read_pages([opened.window(longer).document])[0])


def test_filler_scores_nothing(shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    # One window is left over for the last batch, which comes first or second, and two ranks wait for it.
    almost_all = opened.num_windows - 1
    plan = LengthGroupedSampler(opened.window_lengths, global_batch_size=almost_all, batch_size=32, seed=0)
    short = min((0, 1), key=lambda step: len(plan.step_windows(step)))
    assert len(plan.step_windows(short)) == 1
    scored, fillers = [], []
    for rank in (0, 1):
        ((pair,),) = read_steps(
            opened,
            plan,
            pad_id=1,
            steps=range(short, short + 1),
            rank=rank,
            world_size=2,
            workers=0,
            pin_memory=False,
        )
        fillers.append(pair[0].is_filler)
        targets = (pair[1].token_labels_BT, pair[1].doc_type_B, pair[1].po_subtype_B)
        scored.append(sum(int((target != -100).sum()) for target in targets))
    assert fillers == [False, True]
    assert scored[0] > 0
    assert scored[1] == 0


def test_loader_workers_read_the_same(shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    plan = LengthGroupedSampler(opened.window_lengths, global_batch_size=8, batch_size=4, seed=0)

    def read(workers: int) -> list[tuple[int, ...]]:
        steps = read_steps(
            opened, plan, pad_id=1, steps=range(3, 6), rank=0, world_size=1, workers=workers, pin_memory=False
        )
        return [tuple(batch.window_B.tolist()) for pairs in steps for _, batch in pairs]

    assert read(1) == read(0)


def test_document_names_are_each_named_once(shards: Path) -> None:
    opened = open_shards(shards, load_vocabulary())
    windows = [*opened.document_windows(9), *opened.document_windows(0)]
    assert len(windows) > 2
    assert document_names(opened, windows) == ["doc_009", "doc_000"]
