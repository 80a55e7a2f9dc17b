"""Windows into batches: which windows each step reads on which rank, and how they become tensors.

Shapes: B windows of a batch, T tokens of its longest one.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sap_vision_assets.encoder.loss import IGNORED
from sap_vision_assets.errors import InputError
from sap_vision_assets.shards.reader import Shards
from sap_vision_assets.training.supervision import end_with_parent

LENGTH_MULTIPLE = 8
"""Batches are padded to a multiple of this many tokens: matrix units like it."""


@dataclass(frozen=True)
class Batch:
    """Windows padded to the longest of them. Class ids are int64, IGNORED where there is nothing to score."""

    input_ids_BT: Tensor
    bbox_BT4: Tensor
    """int64, norm1000; zeros at padding."""
    attention_mask_BT: Tensor
    """int64: 1 for a token, 0 for padding."""
    pages_BHW3: Tensor
    """uint8, upright RGB; `pages_to_pixel_values` makes pixel values of them, on the device."""
    token_labels_BT: Tensor
    doc_type_B: Tensor
    po_subtype_B: Tensor
    word_index_BT: Tensor
    """int64: index of the token's word in its document, -1 at specials and padding."""
    window_B: Tensor
    """int64: number of the window in its shards."""
    document_B: Tensor
    """int64: row of the document in its shards."""

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def pin_memory(self) -> "Batch":
        """Called by DataLoader, so that copies to a GPU overlap with its work."""
        return Batch(*(getattr(self, field.name).pin_memory() for field in fields(self)))


def collate(shards: Shards, window_ids: Sequence[int], *, pad_id: int) -> Batch:
    """The named windows, in that order, padded to the longest one, rounded up to LENGTH_MULTIPLE.

    `pad_id` is the tokenizer's: the model counts positions over what is not padding.
    """
    windows = [shards.window(index) for index in window_ids]
    longest = max(len(window.input_ids) for window in windows)
    shape = (len(windows), -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    bbox = np.zeros((*shape, 4), dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    word_index = np.full(shape, -1, dtype=np.int64)
    for row, window in enumerate(windows):
        tokens = slice(0, len(window.input_ids))
        input_ids[row, tokens] = window.input_ids
        bbox[row, tokens] = window.boxes
        mask[row, tokens] = 1
        labels[row, tokens] = window.labels
        word_index[row, tokens] = window.word_index
    documents = [window.document for window in windows]
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids),
        bbox_BT4=torch.from_numpy(bbox),
        attention_mask_BT=torch.from_numpy(mask),
        pages_BHW3=torch.from_numpy(shards.read_pages(documents)),
        token_labels_BT=torch.from_numpy(labels),
        doc_type_B=torch.from_numpy(shards.doc_types[documents].astype(np.int64)),
        po_subtype_B=torch.from_numpy(shards.po_subtypes[documents].astype(np.int64)),
        word_index_BT=torch.from_numpy(word_index),
        window_B=torch.tensor(list(window_ids)),
        document_B=torch.tensor(documents),
    )


def document_names(shards: Shards, window_ids: Sequence[int], *, at_most: int = 8) -> list[str]:
    """Ids of the windows' documents, each once, in order, for an error message."""
    documents = dict.fromkeys(int(shards.window_document[index]) for index in window_ids)
    return [shards.document_id(document) for document in list(documents)[:at_most]]


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one rank reads for one forward and backward."""

    step: int
    slot: int
    """Number among all micro-batches of the step, over all ranks; seeds its dropout."""
    windows: tuple[int, ...]
    is_filler: bool = False
    """True when there was no window left for this rank: it computes one whose targets are all ignored."""


class LengthGroupedSampler:
    """Windows of similar length together, each exactly once an epoch, in an order that (seed, epoch) decides.

    A step's windows depend on `global_batch_size` alone, so equal products of batch size, accumulation and
    ranks read equal samples in equal steps. Nothing is remembered: any step can be asked for at any time.
    """

    def __init__(
        self, window_lengths: NDArray[np.int32], *, global_batch_size: int, batch_size: int, seed: int
    ) -> None:
        """`global_batch_size` windows an update, in micro-batches of `batch_size`."""
        if len(window_lengths) == 0:
            raise InputError("the training shards have no windows; label documents of the train split")
        self._lengths = np.asarray(window_lengths)
        self._global_batch_size = global_batch_size
        self._batch_size = batch_size
        self._seed = seed
        self._epoch_order = lru_cache(maxsize=2)(self._make_epoch_order)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._lengths) // self._global_batch_size)

    def step_windows(self, step: int) -> NDArray[np.int64]:
        """All windows of the update number `step`, counted from 0, shortest first."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch_order(epoch)[index]

    def micro_batches(self, step: int, *, rank: int, world_size: int) -> list[MicroBatch]:
        """This rank's part of `step`; every rank gets the same number of micro-batches."""
        windows = self.step_windows(step)
        rounds = -(-len(windows) // (self._batch_size * world_size))
        # Neighbours in length go to different ranks at the same time: none waits for another's long batch.
        parts = np.array_split(windows, rounds * world_size)
        return [
            MicroBatch(
                step=step,
                slot=slot,
                windows=tuple(parts[slot].tolist()) or (int(windows[0]),),
                is_filler=len(parts[slot]) == 0,
            )
            for slot in range(rank, len(parts), world_size)
        ]

    def _make_epoch_order(self, epoch: int) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng([self._seed, epoch])
        size, total = self._global_batch_size, len(self._lengths)
        # Grouping within pools, not over everything: batches must differ from epoch to epoch.
        pool = size * max(1, min(total // (4 * size), 50))
        shuffled = generator.permutation(total)
        batches = []
        for start in range(0, total, pool):
            chosen = shuffled[start : start + pool]
            by_length = chosen[np.argsort(self._lengths[chosen], kind="stable")]
            batches += [by_length[at : at + size] for at in range(0, len(by_length), size)]
        return [batches[index] for index in generator.permutation(len(batches))]


class _MicroBatches(Dataset[tuple[MicroBatch, Batch]]):
    def __init__(self, shards: Shards, pad_id: int) -> None:
        self._shards, self._pad_id = shards, pad_id

    def __getitem__(self, micro: MicroBatch) -> tuple[MicroBatch, Batch]:
        batch = collate(self._shards, micro.windows, pad_id=self._pad_id)
        if micro.is_filler:
            for target in (batch.token_labels_BT, batch.doc_type_B, batch.po_subtype_B):
                target.fill_(IGNORED)
        return micro, batch


class _Plan:
    """A rank's micro-batches of many steps, one after the other; made while they are read."""

    def __init__(self, sampler: LengthGroupedSampler, steps: range, rank: int, world_size: int) -> None:
        self._sampler, self._steps, self._rank, self._world_size = sampler, steps, rank, world_size

    def by_step(self) -> Iterator[list[MicroBatch]]:
        for step in self._steps:
            yield self._sampler.micro_batches(step, rank=self._rank, world_size=self._world_size)

    def __iter__(self) -> Iterator[MicroBatch]:
        return (micro for micros in self.by_step() for micro in micros)


def read_steps(
    shards: Shards,
    sampler: LengthGroupedSampler,
    *,
    pad_id: int,
    steps: range,
    rank: int,
    world_size: int,
    workers: int,
    pin_memory: bool,
) -> Iterator[list[tuple[MicroBatch, Batch]]]:
    """This rank's micro-batches of each of `steps`, read ahead by `workers` processes.

    A worker's death shows as a RuntimeError that says "DataLoader worker", here or, from PyTorch's handler of
    SIGCHLD, anywhere in the main thread.
    """
    plan = _Plan(sampler, steps, rank, world_size)
    loader = DataLoader(
        _MicroBatches(shards, pad_id),
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_end_with_rank,
    )
    # torchrun's SIGTERM goes to a rank's whole session. Who reads its batches has to live until it has saved
    # a checkpoint, and what is blocked stays so in children.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for micros in plan.by_step():
        try:
            read = [next(batches) for _ in micros]
        except (ConnectionError, EOFError) as error:
            raise RuntimeError(f"DataLoader worker has gone while it handed a batch over: {error}") from error
        yield read


def _end_with_rank(_worker: int) -> None:
    # PyTorch's own watch takes seconds, in which the dead rank's lock would still be held: children share it.
    end_with_parent(signal.SIGKILL)
