"""MultiTaskLayoutLMv3: one page in, document type, purchase order subtype and a label for every token out.

Shapes: B batch, T text tokens, P patches and their CLS, D hidden, H heads, C classes of a head.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.models.layoutlmv3.modeling_layoutlmv3 import LayoutLMv3Model, LayoutLMv3PreTrainedModel

from sap_vision_assets.encoder.attention import BiasedEncoder
from sap_vision_assets.encoder.config import EncoderConfig
from sap_vision_assets.encoder.dropout import replace_dropout


@dataclass(frozen=True)
class MultiTaskOutput:
    """Logits of the three heads, float32 or the autocast dtype."""

    doc_type_logits_BC: Tensor
    po_subtype_logits_BC: Tensor
    """Meaningful for purchase orders only."""
    token_logits_BTC: Tensor
    """One row a text token; score the first piece of each word."""


class LayoutLMv3Trunk(LayoutLMv3Model):
    """LayoutLMv3Model's embeddings and state-dict keys on BiasedEncoder; text and image are both required."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.encoder: BiasedEncoder = BiasedEncoder(config)  # type: ignore[assignment]  # same keys
        self.post_init()

    def forward(
        self, input_ids_BT: Tensor, bbox_BT4: Tensor, attention_mask_BT: Tensor, pixel_values_B3HW: Tensor
    ) -> Tensor:
        """Hidden states of the text tokens, [B, T, D]; they have seen the image's CLS and patches."""
        batch, num_tokens = input_ids_BT.shape
        text_BTD = self.embeddings(input_ids=input_ids_BT, bbox=bbox_BT4)
        image_BPD = self.forward_image(pixel_values_B3HW)
        num_patches = image_BPD.shape[1]
        hidden = self.dropout(self.LayerNorm(torch.cat([text_BTD, image_BPD], dim=1)))

        # Distances are counted from the first text token and, apart from them, from the image's CLS.
        position = torch.cat([torch.arange(n, device=hidden.device) for n in (num_tokens, num_patches)])
        visual_bbox = self.visual_bbox.to(bbox_BT4).expand(batch, -1, -1)
        visual_mask = attention_mask_BT.new_ones(batch, num_patches)
        states: Tensor = self.encoder(
            hidden,
            position,
            torch.cat([bbox_BT4, visual_bbox], dim=1),
            torch.cat([attention_mask_BT, visual_mask], dim=1),
            num_outputs=num_tokens,
        )
        return states

    def forward_image(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Embeddings of the image's CLS and of its patches, row by row: [B, P, D]."""
        patches_BPD = _project_patches(pixel_values_B3HW, self.patch_embed.proj)
        cls_B1D = self.cls_token.expand(patches_BPD.shape[0], -1, -1)  # len() would fix it in an export
        embedded_BPD = torch.cat([cls_B1D, patches_BPD], dim=1) + self.pos_embed
        normed: Tensor = self.norm(self.pos_drop(embedded_BPD))
        return normed


def _project_patches(pixels_B3HW: Tensor, convolution: nn.Conv2d) -> Tensor:
    """The convolution, whose kernel moves by its own size, as the one matrix product that it is: [B, P, D].

    The backward of such a convolution with patches of 56 px took 7 % of a training step on a CPU.
    """
    rows, columns = (
        size // patch for size, patch in zip(pixels_B3HW.shape[2:], convolution.kernel_size, strict=True)
    )
    # [B, 3, rows, patch, columns, patch] to a row of 3 * patch * patch pixels each.
    split = pixels_B3HW.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    flat = split.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return nn.functional.linear(flat, convolution.weight.flatten(1), convolution.bias)


class _DocumentHead(nn.Module):
    """Classes of a whole page, from an attention pool: a page's cue may be a single word."""

    def __init__(self, config: EncoderConfig, num_classes: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(config.hidden_size, config.num_attention_heads)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.out_proj = nn.Linear(config.hidden_size, num_classes)

    def forward(self, hidden_BTD: Tensor, attention_mask_BT: Tensor) -> Tensor:
        score_BTH = self.weigh(hidden_BTD).float()
        score_BTH = score_BTH.masked_fill(
            ~attention_mask_BT.bool()[..., None], torch.finfo(score_BTH.dtype).min
        )
        weight_BTH1 = score_BTH.softmax(dim=1)[..., None].to(hidden_BTD.dtype)
        value_BTHK = hidden_BTD.unflatten(-1, (weight_BTH1.shape[2], -1))
        pooled_BD = (weight_BTH1 * value_BTHK).sum(dim=1).flatten(1)
        logits: Tensor = self.out_proj(self.dropout(nn.functional.gelu(self.dense(pooled_BD))))
        return logits


class MultiTaskLayoutLMv3(LayoutLMv3PreTrainedModel):
    """LayoutLMv3 (arXiv 2204.08387) with heads for document type, purchase order subtype and token labels.

    `from_pretrained` reads its own checkpoints, and LayoutLMv3's as published: then the heads are new.
    """

    config_class = EncoderConfig
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.layoutlmv3 = LayoutLMv3Trunk(config)
        self.doc_type_head = _DocumentHead(config, config.num_doc_types)
        self.po_subtype_head = _DocumentHead(config, config.num_po_subtypes)
        self.token_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.token_head = nn.Linear(config.hidden_size, config.num_token_labels)
        replace_dropout(self)
        self.post_init()

    def forward(
        self, input_ids: Tensor, bbox: Tensor, attention_mask: Tensor, pixel_values: Tensor
    ) -> MultiTaskOutput:
        """Logits of one batch of windows.

        input_ids int [B, T]; bbox int [B, T, 4], norm1000, 0 <= x1 <= x2 <= 1000 (checked by the documents
        station, not here); attention_mask [B, T], 1 for a token and 0 for padding; pixel_values float
        [B, 3, input_size, input_size], -1..1, as pages_to_pixel_values gives them.
        """
        text_BTD = self.layoutlmv3(input_ids, bbox, attention_mask, pixel_values)
        return MultiTaskOutput(
            doc_type_logits_BC=self.doc_type_head(text_BTD, attention_mask),
            po_subtype_logits_BC=self.po_subtype_head(text_BTD, attention_mask),
            token_logits_BTC=self.token_head(self.token_dropout(text_BTD)),
        )


def pages_to_pixel_values(pages_BHW3: Tensor) -> Tensor:
    """uint8 pages [B, H, W, 3] as the model's float32 pixel values [B, 3, H, W] in -1..1."""
    return pages_BHW3.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)


def load_encoder(directory: Path) -> MultiTaskLayoutLMv3:
    """The model of a checkpoint directory, in float32 whatever the file's dtype, in eval mode."""
    model: MultiTaskLayoutLMv3 = MultiTaskLayoutLMv3.from_pretrained(directory, dtype=torch.float32)
    model.eval()
    return model
