"""From shards to one prediction per document: windows in batches of like length, stitched word by word.

Shapes: B batch, T tokens of the longest window in the batch, C classes, W words of a document.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sap_vision_assets.encoder import load_encoder, pages_to_pixel_values
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.evaluation.entities import Entity, decode, entities_of
from sap_vision_assets.shards import Shards
from sap_vision_assets.training.batches import collate

DOCUMENTS_AT_ONCE = 256
"""Scores of so many documents are held at a time: bounds memory, and leaves enough windows to sort by length."""


class Logits(NamedTuple):
    """float32 logits of a batch, [B, C], [B, C] and [B, T, C], or of one window, without B."""

    doc_type: NDArray[np.float32]
    po_subtype: NDArray[np.float32]
    token: NDArray[np.float32]


class Runner(Protocol):
    """Whatever computes the three heads' logits: the checkpoint in PyTorch, or an exported graph."""

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        bbox: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        pixel_values: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """[B, T], [B, T, 4] norm1000, [B, T] and [B, 3, H, W] in -1..1 to logits [B, C], [B, C], [B, T, C]."""
        ...


class PredictedEntity(NamedTuple):
    """An entity and how sure the model is of its least certain word, 0 to 1."""

    entity: Entity
    confidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentPrediction:
    """What the model says of one document."""

    document_id: str
    doc_type_probabilities: NDArray[np.float32]
    """[C], softmax of the mean logits over the document's windows."""
    po_subtype_probabilities: NDArray[np.float32]
    """[C]; meaningful for purchase orders only."""
    word_labels: NDArray[np.int16]
    """[W] label ids, a valid IOB2 sequence; 0 where no window scored the word."""
    word_confidences: NDArray[np.float32]
    """[W] probability of the word's label; 0 where no window scored the word."""
    word_is_scored: NDArray[np.bool_]
    """[W]"""

    @property
    def doc_type(self) -> int:
        return int(self.doc_type_probabilities.argmax())

    @property
    def doc_type_confidence(self) -> float:
        return float(self.doc_type_probabilities.max())

    @property
    def po_subtype(self) -> int:
        return int(self.po_subtype_probabilities.argmax())

    @property
    def po_subtype_confidence(self) -> float:
        return float(self.po_subtype_probabilities.max())

    def entities(self) -> list[PredictedEntity]:
        """In reading order. The least certain word decides: one wrong word makes the whole entity wrong."""
        return [
            PredictedEntity(entity, float(self.word_confidences[entity.start : entity.end].min()))
            for entity in entities_of(self.word_labels)
        ]


class TorchRunner:
    """A checkpoint directory in float32, on the GPU when there is one."""

    def __init__(self, checkpoint: Path, *, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if not (checkpoint / "config.json").is_file():
            raise CheckpointError(f"{checkpoint}: has no config.json; pass a checkpoint such as .../best")
        self.model = load_encoder(str(checkpoint)).to(self.device)
        self.config = self.model.config

    @torch.inference_mode()
    def __call__(
        self,
        input_ids: NDArray[np.int64],
        bbox: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        pixel_values: NDArray[np.float32],
    ) -> Logits:
        inputs = (input_ids, bbox, attention_mask, pixel_values)
        output = self.model(*(torch.from_numpy(array).to(self.device) for array in inputs))
        return Logits(
            output.doc_type_logits_BC.float().cpu().numpy(),
            output.po_subtype_logits_BC.float().cpu().numpy(),
            output.token_logits_BTC.float().cpu().numpy(),
        )


def predict_documents(runner: Runner, shards: Shards, batch_size: int = 8) -> list[DocumentPrediction]:
    """One prediction per document, in the shards' order.

    Every word gets the scores of the one window in which it is scored; a document's type and subtype come from
    the mean logits of its windows. `batch_size` is in windows.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be at least 1 window")
    predictions: list[DocumentPrediction] = []
    for first in range(0, shards.num_documents, DOCUMENTS_AT_ONCE):
        documents = range(first, min(first + DOCUMENTS_AT_ONCE, shards.num_documents))
        drafts = {document: _Draft(shards, document) for document in documents}
        windows = [window for document in documents for window in shards.document_windows(document)]
        windows.sort(key=lambda window: int(shards.window_lengths[window]))
        for start in range(0, len(windows), batch_size):
            batch = windows[start : start + batch_size]
            for window, logits in zip(batch, _run(runner, shards, batch), strict=True):
                drafts[int(shards.window_document[window])].add(*shards.scored_positions(window), logits)
        predictions.extend(draft.finish() for draft in drafts.values())
    return predictions


class _Draft:
    """Gathers one document's windows."""

    def __init__(self, shards: Shards, document: int) -> None:
        self.document_id = shards.document_id(document)
        self.num_words = int(shards.num_words[document])
        self.doc_type_logits: list[NDArray[np.float32]] = []
        self.po_subtype_logits: list[NDArray[np.float32]] = []
        self.words: list[NDArray[np.int32]] = []
        self.log_probs: list[NDArray[np.float32]] = []

    def add(self, positions: NDArray[np.int64], words: NDArray[np.int32], logits: Logits) -> None:
        self.doc_type_logits.append(logits.doc_type)
        self.po_subtype_logits.append(logits.po_subtype)
        self.words.append(words)
        self.log_probs.append(log_softmax(logits.token[positions]))

    def finish(self) -> DocumentPrediction:
        words = np.concatenate(self.words)
        log_probs_WC = np.concatenate(self.log_probs)
        order = np.argsort(words, kind="stable")
        words, log_probs_WC = words[order], log_probs_WC[order]
        labels = np.zeros(self.num_words, np.int16)
        confidences = np.zeros(self.num_words, np.float32)
        is_scored = np.zeros(self.num_words, bool)
        # A gap (a word that no window scored) ends an entity: what stands on both sides is decoded apart.
        for run in np.split(np.arange(len(words)), np.flatnonzero(np.diff(words) != 1) + 1):
            if len(run):
                decoded = decode(log_probs_WC[run])
                labels[words[run]] = decoded
                confidences[words[run]] = np.exp(log_probs_WC[run, decoded])
                is_scored[words[run]] = True
        return DocumentPrediction(
            document_id=self.document_id,
            doc_type_probabilities=_mean_probabilities(self.doc_type_logits),
            po_subtype_probabilities=_mean_probabilities(self.po_subtype_logits),
            word_labels=labels,
            word_confidences=confidences,
            word_is_scored=is_scored,
        )


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Over the last axis."""
    shifted = logits.astype(np.float32) - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _mean_probabilities(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.exp(log_softmax(np.mean(logits, axis=0, dtype=np.float64)))


def _run(runner: Runner, shards: Shards, windows: Sequence[int]) -> Iterator[Logits]:
    """Logits of each window, in the order of `windows`; rows beyond a window's own length are padding's."""
    batch = collate(shards, windows)
    logits = Logits(
        *runner(
            batch.input_ids_BT.numpy(),
            batch.bbox_BT4.numpy(),
            batch.attention_mask_BT.numpy(),
            pages_to_pixel_values(batch.pages_BHW3).contiguous().numpy(),
        )
    )
    for row in range(len(windows)):
        yield Logits(logits.doc_type[row], logits.po_subtype[row], logits.token[row])
