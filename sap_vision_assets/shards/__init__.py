"""Documents to windows of tokens, ready to memory-map: tokenizer, windows, small pages."""

from sap_vision_assets.shards.build import build_shards
from sap_vision_assets.shards.config import ShardConfig
from sap_vision_assets.shards.encode import NO_WORD, NOT_SCORED, EncodedDocument, Window, encode_document
from sap_vision_assets.shards.minilm import MINILM, minilm_folder
from sap_vision_assets.shards.pages import page_thumbnail
from sap_vision_assets.shards.reader import Shards, open_shards
from sap_vision_assets.shards.tokenizer import BUILTIN, EncodedWords, Tokenizer, load_tokenizer
from sap_vision_assets.shards.windows import WordSpan, plan_windows

__all__ = [
    "BUILTIN",
    "MINILM",
    "NOT_SCORED",
    "NO_WORD",
    "EncodedDocument",
    "EncodedWords",
    "ShardConfig",
    "Shards",
    "Tokenizer",
    "Window",
    "WordSpan",
    "build_shards",
    "encode_document",
    "load_tokenizer",
    "minilm_folder",
    "open_shards",
    "page_thumbnail",
    "plan_windows",
]
