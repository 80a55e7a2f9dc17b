"""Settings of the station."""

from dataclasses import dataclass

from sap_vision_assets.errors import InputError
from sap_vision_assets.shards.tokenizer import BUILTIN


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How documents become windows. Raises InputError when the numbers do not go together."""

    tokenizer: str = BUILTIN
    """"builtin", "minilm", a directory with tokenizer.json or vocab.json, or a Hugging Face hub name."""
    max_tokens: int = 512
    """Tokens a window, its two specials included."""
    stride: int = 128
    """Tokens that neighbouring windows share at most: context for the words at a cut."""
    max_tokens_per_word: int = 64
    """A longer word keeps its first tokens and is counted."""
    page_size: int = 224
    """Pixels: width and height of the page that the model sees."""

    def __post_init__(self) -> None:
        if self.max_tokens_per_word < 1 or self.stride < 0 or self.page_size < 16:
            raise InputError(
                f"max_tokens_per_word={self.max_tokens_per_word}, stride={self.stride}, "
                f"page_size={self.page_size}: need at least 1, 0 and 16"
            )
        if self.stride + self.max_tokens_per_word > self.capacity:
            raise InputError(
                f"stride={self.stride} + max_tokens_per_word={self.max_tokens_per_word} leave no room for a "
                f"new word in a window of max_tokens={self.max_tokens} with its two specials; lower one of "
                "the two, or raise max_tokens"
            )

    @property
    def capacity(self) -> int:
        """Tokens of a window that can be words'."""
        return self.max_tokens - 2
