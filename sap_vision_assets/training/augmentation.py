"""Pages told a little differently at each look, so that few of them are not learned by heart.

Shapes: B windows, T tokens, W words.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.training.batches import Batch
from sap_vision_assets.training.config import TrainingConfig


def augment(batch: Batch, config: TrainingConfig, tokenizer: Tokenizer) -> Batch:
    """`batch` with words hidden and boxes moved as `config` says; labels and the page's picture stay.

    Draws from PyTorch's generator on the CPU, so that a step that is repeated is augmented as before.
    """
    is_word_BT = batch.word_index_BT >= 0
    if config.word_masking:
        batch = replace(
            batch,
            input_ids_BT=batch.input_ids_BT.masked_fill(
                is_word_BT & _hidden(batch.word_index_BT, config.word_masking), tokenizer.unk_id
            ),
        )
    if config.layout_jitter:
        moved_BT4 = _moved(batch.bbox_BT4, config.layout_jitter)
        batch = replace(batch, bbox_BT4=torch.where(is_word_BT[..., None], moved_BT4, batch.bbox_BT4))
    return batch


def _hidden(word_index_BT: Tensor, share: float) -> Tensor:
    """All tokens of a word together, or their first ones would betray the rest."""
    num_words = int(word_index_BT.max()) + 1 if word_index_BT.numel() else 0
    hidden_BW = torch.rand(len(word_index_BT), max(num_words, 1)) < share
    return hidden_BW.gather(1, word_index_BT.clamp(min=0))


def _moved(bbox_BT4: Tensor, jitter: float) -> Tensor:
    """Each page shrunk by up to `jitter`, across and down by factors of its own, and put where it fits."""
    scale_B12 = 1 - jitter * torch.rand(len(bbox_BT4), 1, 2)
    offset_B12 = (1 - scale_B12) * 1000 * torch.rand(len(bbox_BT4), 1, 2)
    # x1, y1, x2, y2: two corners of two coordinates.
    corners_BT4 = bbox_BT4 * scale_B12.repeat(1, 1, 2) + offset_B12.repeat(1, 1, 2)
    return corners_BT4.round().to(bbox_BT4.dtype).clamp(0, 1000)
