"""The score that picks the best checkpoint, and the loss, on the validation shards. It never sees test data.

Shapes: B windows of a batch, T tokens, C classes, D documents of the shards.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sap_vision_assets.encoder import (
    LossCounts,
    MultiTaskOutput,
    count_targets,
    multitask_loss,
    pages_to_pixel_values,
)
from sap_vision_assets.encoder.loss import IGNORED
from sap_vision_assets.shards.reader import Shards
from sap_vision_assets.training.batches import Batch, collate
from sap_vision_assets.training.distributed import World


@dataclass(frozen=True, kw_only=True)
class ValidationScore:
    """Scores are 0..1, higher is better; None where the shards have nothing to score."""

    score: float
    """Mean of the three parts that are defined."""
    doc_type_accuracy: float | None
    po_subtype_accuracy: float | None
    """Over the purchase orders that have a subtype."""
    field_f1: float | None
    """Micro F1 over entities; right is the same field from the same first to the same last word."""
    loss: float | None
    """Sum of the three means that follow, in nats, without the weights of the training's loss. None, like
    each of them, also where it is not finite."""
    doc_type_loss: float | None
    """Mean over the windows."""
    po_subtype_loss: float | None
    token_loss: float | None
    """Mean over the words."""


@dataclass(frozen=True, kw_only=True)
class _Predictions:
    """One rank's windows. W windows, S scored words."""

    document_W: NDArray[np.int64]
    doc_type_logits_WC: NDArray[np.float32]
    po_subtype_logits_WC: NDArray[np.float32]
    word_S3: NDArray[np.int64]
    """Document, word, predicted label id."""
    loss_sums_3: tuple[float, ...]
    """Cross-entropy of the three heads, summed over what each has to score."""
    counts_3: tuple[int, ...]


def entity_spans(labels: Sequence[int]) -> set[tuple[int, int, int]]:
    """(first word, last word, field) of each entity in a document's IOB2 ids: B odd, I the next even one.

    Strict: an I- that continues no entity of its field begins none.
    """
    spans = set()
    first, field = 0, -1
    for index, label in enumerate([*labels, 0]):
        if label > 0 and label % 2 == 0 and (label - 2) // 2 == field:
            continue
        if field >= 0:
            spans.add((first, index - 1, field))
        first, field = index, (label - 1) // 2 if label % 2 == 1 else -1
    return spans


def validate(
    model: nn.Module,
    shards: Shards,
    world: World,
    *,
    pad_id: int,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[None]],
) -> ValidationScore:
    """The score of `model`, the same on every rank, and the same to the bit however many ranks there are.

    Leaves the model in training mode.
    """
    order = np.argsort(shards.window_lengths, kind="stable")
    batches = [order[at : at + batch_size].tolist() for at in range(0, len(order), batch_size)]
    # Cut before they are dealt out: a batch's numbers don't depend on how many ranks there are. Ranks whose
    # share is one batch short repeat one unscored: sharded weights come together only where all take part.
    mine = batches[world.rank :: world.size]
    fillers = batches[: -(-len(batches) // world.size) - len(mine)]
    model.eval()
    # Not inference_mode: weights that were gathered under it could not be used in a later backward.
    with torch.no_grad():
        parts = [
            _predict(model, collate(shards, batch, pad_id=pad_id), world, autocast)
            for batch in [*mine, *fillers]
        ][: len(mine)]
    model.train()
    return _score([part for rank_parts in world.gather(parts) for part in rank_parts], shards)


def _predict(
    model: nn.Module, batch: Batch, world: World, autocast: Callable[[], AbstractContextManager[None]]
) -> _Predictions:
    moved = batch.to(world.device)
    with autocast():
        output: MultiTaskOutput = model(
            moved.input_ids_BT,
            moved.bbox_BT4,
            moved.attention_mask_BT,
            pages_to_pixel_values(moved.pages_BHW3),
        )
    targets = (moved.doc_type_B, moved.po_subtype_B, moved.token_labels_BT)
    sums = multitask_loss(
        output,
        doc_type_B=moved.doc_type_B,
        po_subtype_B=moved.po_subtype_B,
        token_labels_BT=moved.token_labels_BT,
        counts=LossCounts.unstack(torch.ones(3, device=world.device)),
    )
    scored = batch.token_labels_BT != IGNORED
    labels_BT = output.token_logits_BTC.argmax(-1).cpu()
    document_BT = batch.document_B[:, None].expand_as(labels_BT)
    words = [tensor[scored].numpy() for tensor in (document_BT, batch.word_index_BT, labels_BT)]
    return _Predictions(
        document_W=batch.document_B.numpy(),
        doc_type_logits_WC=output.doc_type_logits_BC.float().cpu().numpy(),
        po_subtype_logits_WC=output.po_subtype_logits_BC.float().cpu().numpy(),
        word_S3=np.stack(words, axis=-1),
        loss_sums_3=(sums.doc_type.item(), sums.po_subtype.item(), sums.token.item()),
        counts_3=tuple(int(count) for count in count_targets(*targets).stack()),
    )


def _score(parts: list[_Predictions], shards: Shards) -> ValidationScore:
    document_W = np.concatenate([part.document_W for part in parts])
    word_S3 = np.concatenate([part.word_S3 for part in parts])
    doc_types = np.concatenate([part.doc_type_logits_WC for part in parts])
    po_subtypes = np.concatenate([part.po_subtype_logits_WC for part in parts])
    doc_type = _accuracy(doc_types, document_W, shards.doc_types)
    po_subtype = _accuracy(po_subtypes, document_W, shards.po_subtypes)
    field = _field_f1(word_S3, shards)
    defined = [value for value in (doc_type, po_subtype, field) if value is not None]
    losses = [
        _mean([part.loss_sums_3[head] for part in parts], [part.counts_3[head] for part in parts])
        for head in range(3)
    ]
    return ValidationScore(
        score=float(np.mean(defined)) if defined else 0.0,
        doc_type_accuracy=doc_type,
        po_subtype_accuracy=po_subtype,
        field_f1=field,
        loss=_finite(math.fsum(loss for loss in losses if loss is not None)),
        doc_type_loss=_finite(losses[0]),
        po_subtype_loss=_finite(losses[1]),
        token_loss=_finite(losses[2]),
    )


def _mean(sums: Sequence[float], counts: Sequence[int]) -> float | None:
    # Summed exactly and rounded once: the order in which ranks send their batches does not matter.
    return math.fsum(sums) / sum(counts) if any(counts) else None


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _accuracy(
    logits_WC: NDArray[np.float32], document_W: NDArray[np.int64], gold_D: NDArray[np.int16]
) -> float | None:
    summed_DC = np.zeros((len(gold_D), logits_WC.shape[1]), dtype=np.float64)
    np.add.at(summed_DC, document_W, logits_WC)
    scored = gold_D != IGNORED
    return float((summed_DC.argmax(-1) == gold_D)[scored].mean()) if scored.any() else None


def _field_f1(word_S3: NDArray[np.int64], shards: Shards) -> float | None:
    gold_labels = [shards.word_labels(document) for document in range(shards.num_documents)]
    gold = [entity_spans(labels.tolist()) for labels in gold_labels]
    predicted_labels = [np.zeros(len(labels), dtype=np.int64) for labels in gold_labels]
    for document, word, label in word_S3:
        predicted_labels[document][word] = label
    predicted = [entity_spans(labels.tolist()) for labels in predicted_labels]
    right = sum(len(a & b) for a, b in zip(gold, predicted, strict=True))
    num_gold, num_predicted = sum(map(len, gold)), sum(map(len, predicted))
    return 2 * right / (num_gold + num_predicted) if num_gold else None
