"""From shards to one prediction per document: windows in batches of like length, stitched word by word.

Shapes: B batch, T tokens of the longest window in the batch, C classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sap_vision_assets.encoder import MultiTaskLayoutLMv3, pages_to_pixel_values
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.evaluation.stitching import DocumentPrediction, Logits, PredictedEntity, Stitcher
from sap_vision_assets.shards import Shards
from sap_vision_assets.training.batches import collate
from sap_vision_assets.training.checkpoint import load_weights, read_config

__all__ = ["DocumentPrediction", "Logits", "PredictedEntity", "Runner", "TorchRunner", "predict_documents"]

DOCUMENTS_AT_ONCE = 256
"""Documents whose scores are held at a time: bounds memory, and leaves enough windows to sort by length."""


class Runner(Protocol):
    """Whatever computes the three heads' logits: the checkpoint in PyTorch, or an exported graph."""

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        bbox: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        pixel_values: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """[B, T], [B, T, 4] norm1000, [B, T], [B, 3, H, W] in -1..1 to logits [B, C], [B, C], [B, T, C]."""
        ...


class TorchRunner:
    """A checkpoint directory in float32, on the GPU when there is one."""

    def __init__(self, checkpoint: Path, *, device: str = "auto") -> None:
        """Raises CheckpointError naming the file that is missing, damaged or of another model."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.config = read_config(checkpoint)
        self.model = MultiTaskLayoutLMv3(self.config)
        # Strict, unlike from_pretrained, which would leave weights that the file lacks at random.
        load_weights(checkpoint, self.model)
        self.model.train(False).to(device=self.device)

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

    Every word gets the scores of the one window in which it is scored; a document's type and subtype come
    from the mean logits of its windows. `batch_size` is in windows. Raises CheckpointError naming the
    documents where a logit is NaN or infinite.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be at least 1 window")
    predictions: list[DocumentPrediction] = []
    for first in range(0, shards.num_documents, DOCUMENTS_AT_ONCE):
        documents = range(first, min(first + DOCUMENTS_AT_ONCE, shards.num_documents))
        drafts = {
            document: Stitcher(shards.document_id(document), int(shards.num_words[document]))
            for document in documents
        }
        windows = [window for document in documents for window in shards.document_windows(document)]
        windows.sort(key=lambda window: int(shards.window_lengths[window]))
        for start in range(0, len(windows), batch_size):
            batch = windows[start : start + batch_size]
            for window, logits in zip(batch, _run(runner, shards, batch), strict=True):
                drafts[int(shards.window_document[window])].add(*shards.scored_positions(window), logits)
        predictions.extend(draft.finish() for draft in drafts.values())
    return predictions


def _run(runner: Runner, shards: Shards, windows: Sequence[int]) -> Iterator[Logits]:
    """Logits of each window, in the order of `windows`; rows beyond a window's own length are padding's."""
    batch = collate(shards, windows, pad_id=int(shards.info["pad_id"]))
    logits = Logits(
        *runner(
            batch.input_ids_BT.numpy(),
            batch.bbox_BT4.numpy(),
            batch.attention_mask_BT.numpy(),
            pages_to_pixel_values(batch.pages_BHW3).contiguous().numpy(),
        )
    )
    if not all(np.isfinite(values).all() for values in logits):
        names = sorted({shards.document_id(int(shards.window_document[window])) for window in windows})
        raise CheckpointError(
            f"the model's logits are not finite on documents {names}; train again with a lower learning "
            "rate, or in bf16 or fp32"
        )
    for row in range(len(windows)):
        yield Logits(logits.doc_type[row], logits.po_subtype[row], logits.token[row])
