"""Sizes of the encoder and of its heads."""

from typing import Any

from transformers import LayoutLMv3Config

from sap_vision_assets.errors import InputError


class EncoderConfig(LayoutLMv3Config):
    """LayoutLMv3Config, the heads' sizes, and what the weights belong to.

    Raises InputError when sizes do not fit each other, before a tensor is made.
    """

    model_type = "multitask_layoutlmv3"

    num_doc_types: int = 15
    num_po_subtypes: int = 35
    num_token_labels: int = 181
    vocabulary_digest: str = ""
    """Vocabulary.digest that the heads' classes come from."""
    tokenizer_digest: str = ""
    """Digest of the tokenizer whose ids the embeddings know."""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        spatial = 4 * self.coordinate_size + 2 * self.shape_size
        if spatial != self.hidden_size:
            raise InputError(
                f"hidden_size {self.hidden_size} must be 4 * coordinate_size + 2 * shape_size "
                f"(now 4 * {self.coordinate_size} + 2 * {self.shape_size} = {spatial})"
            )
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size {self.hidden_size} must be a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if not isinstance(self.patch_size, int) or self.input_size % self.patch_size:
            raise InputError(
                f"input_size {self.input_size} px must be a multiple of patch_size {self.patch_size} px"
            )

    @property
    def max_tokens(self) -> int:
        """Longest window that the position embeddings hold: two rows are padding's."""
        return int(self.max_position_embeddings) - int(self.pad_token_id or 0) - 1
