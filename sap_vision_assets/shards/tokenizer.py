"""Words to tokens, every word on its own: byte-level BPE as LayoutLMv3 does it, or WordPiece as BERT does."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from numpy.typing import NDArray

from sap_vision_assets.artifacts import canonical_json
from sap_vision_assets.errors import InputError
from sap_vision_assets.shards.minilm import MINILM, minilm_folder

BUILTIN = "builtin"
SPECIALS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
"""RoBERTa's and LayoutLMv3's."""
BERT_SPECIALS = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


@dataclass(frozen=True, kw_only=True)
class EncodedWords:
    """Tokens of a word list, without specials. T tokens, in word order."""

    ids: NDArray[np.int32]
    """[T]"""
    word_index: NDArray[np.int32]
    """[T], never falling: index of the token's word. Blank words have no token, all others at least one."""
    num_truncated_words: int
    """Words that lost tokens to max_tokens_per_word."""


class Tokenizer:
    """One tokenizer.json and what a page needs of it. Make it with `load_tokenizer`."""

    def __init__(self, backend: tokenizers.Tokenizer, *, where: str) -> None:
        """Takes `backend` over and sets it so that every word comes out whole, alone, and the same each time.

        Raises InputError, naming `where`, when a special token is missing.
        """
        # A file may come with truncation (the lower half of a page would vanish) or with BPE dropout.
        backend.no_truncation()
        backend.no_padding()
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None
        if isinstance(backend.pre_tokenizer, tokenizers.pre_tokenizers.ByteLevel):
            # RoBERTa's own file says False, which is right for running text only.
            backend.pre_tokenizer.add_prefix_space = True
        # "</s>" printed on a page is text, not the end of a window.
        backend.encode_special_tokens = True
        self._backend = backend
        vocab = backend.get_vocab(with_added_tokens=True)
        is_berts = BERT_SPECIALS["cls"] in vocab and SPECIALS["cls"] not in vocab
        self._specials = BERT_SPECIALS if is_berts else SPECIALS
        missing = [token for token in self._specials.values() if token not in vocab]
        if missing:
            raise InputError(
                f"{where}: has no {', '.join(missing)}; use a tokenizer of RoBERTa's form, as LayoutLMv3's, "
                "or of BERT's"
            )
        self.cls_id, self.pad_id, self.sep_id, self.unk_id = (
            vocab[self._specials[role]] for role in ("cls", "pad", "sep", "unk")
        )
        self.vocab_size = max(vocab.values()) + 1
        """Rows that a model's embedding needs."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides `encode_words`: equal digests give equal ids for every word."""
        content = json.loads(self._backend.to_str())
        parts = ("added_tokens", "normalizer", "pre_tokenizer", "model")
        return hashlib.sha256(canonical_json({part: content[part] for part in parts})).hexdigest()

    def encode_words(self, words: Sequence[str], *, max_tokens_per_word: int | None = None) -> EncodedWords:
        """Tokens of `words`; a word keeps its first `max_tokens_per_word`."""
        # An empty string is the one word that the backend gives no token.
        clean = ["" if word.isspace() else word for word in words]
        encoding = self._backend.encode(clean, is_pretokenized=True, add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        word_index = np.array(encoding.word_ids, dtype=np.int32)
        counts = np.bincount(word_index, minlength=len(clean))
        lost = [index for index, word in enumerate(clean) if word and not counts[index]]
        if lost:  # a foreign tokenizer's normalizer deletes characters: MiniLM's all accents and controls
            ids, word_index = self._with_unknown(ids, word_index, lost)
            counts[lost] = 1
        if max_tokens_per_word is None:
            return EncodedWords(ids=ids, word_index=word_index, num_truncated_words=0)
        first = np.cumsum(counts) - counts
        kept = np.arange(len(ids)) - first[word_index] < max_tokens_per_word
        return EncodedWords(
            ids=ids[kept],
            word_index=word_index[kept],
            num_truncated_words=int((counts > max_tokens_per_word).sum()),
        )

    def _with_unknown(
        self, ids: NDArray[np.int32], word_index: NDArray[np.int32], lost: list[int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        places = np.searchsorted(word_index, lost)
        return np.insert(ids, places, self.unk_id), np.insert(word_index, places, lost)

    def save(self, directory: Path) -> None:
        """Writes tokenizer.json, and tokenizer_config.json so that transformers' AutoTokenizer loads it."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "tokenizer.json").write_text(self._backend.to_str(), encoding="utf-8")
        # Transformers' LayoutLMv3 class rebuilds the pre-tokenizer from RoBERTa's: right for that one only.
        plain = isinstance(self._backend.pre_tokenizer, tokenizers.pre_tokenizers.ByteLevel)
        config: dict[str, Any] = {
            "tokenizer_class": "LayoutLMv3Tokenizer" if plain else "PreTrainedTokenizerFast",
            "add_prefix_space": True,
            "bos_token": self._specials["cls"],
            "eos_token": self._specials["sep"],
            **{f"{role}_token": token for role, token in self._specials.items()},
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def load_tokenizer(name_or_dir: str | Path) -> Tokenizer:
    """The tokenizer called `name_or_dir`: "builtin" (in the package), "minilm", a directory, or a hub name.

    A directory has tokenizer.json, or vocab.json and merges.txt, as microsoft/layoutlmv3-base does. A hub
    name is looked up in the local Hugging Face cache first. Raises InputError, with what to do, when there is
    no such tokenizer.
    """
    if name_or_dir == BUILTIN:
        file = resources.files(__package__).joinpath("builtin_tokenizer.json")
        return Tokenizer(_parse(file.read_text(encoding="utf-8"), BUILTIN), where=BUILTIN)
    if name_or_dir == MINILM:
        return _from_directory(minilm_folder())
    directory = Path(name_or_dir)
    if not directory.is_dir():
        directory = _from_hub(str(name_or_dir))
    if not has_tokenizer(directory):
        raise InputError(
            f"{directory}: has no tokenizer.json, nor vocab.json and merges.txt; copy them there"
        )
    return _from_directory(directory)


def _from_directory(directory: Path) -> Tokenizer:
    whole = directory / "tokenizer.json"
    if whole.is_file():
        return Tokenizer(_parse(whole.read_text(encoding="utf-8"), str(whole)), where=str(whole))
    vocab, merges = directory / "vocab.json", directory / "merges.txt"
    try:
        model = tokenizers.models.BPE.from_file(str(vocab), str(merges))
    except Exception as error:  # tokenizers raises bare Exception
        raise InputError(f"{vocab}, {merges}: cannot be read ({error}); copy the files again") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = tokenizers.decoders.ByteLevel()
    known = [token for token in SPECIALS.values() if backend.token_to_id(token) is not None]
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, special=True, normalized=False) for token in known]
    )
    return Tokenizer(backend, where=str(vocab))


def _parse(content: str, where: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # tokenizers raises bare Exception
        raise InputError(f"{where}: is no tokenizer.json ({error}); copy the file again") from error


def has_tokenizer(directory: Path) -> bool:
    """Whether `load_tokenizer` finds its files there."""
    whole, vocab, merges = ((directory / name).is_file() for name in TOKENIZER_FILES)
    return whole or (vocab and merges)


def _from_hub(name: str) -> Path:
    """The cached snapshot of hub repository `name`, downloaded where it is not cached and the hub answers."""
    reason = "the local cache has no tokenizer files of it"
    # The cache first: the same words must give the same ids tomorrow, whatever the hub says then.
    for local_only in (True, False):
        try:
            found = snapshot_download(name, allow_patterns=list(TOKENIZER_FILES), local_files_only=local_only)
        except HFValidationError as error:
            raise InputError(
                f"tokenizer {name!r}: is no directory and no hub name; give {BUILTIN!r}, {MINILM!r}, a "
                "directory, or a name such as 'microsoft/layoutlmv3-base'"
            ) from error
        except (OSError, HfHubHTTPError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            continue
        if has_tokenizer(Path(found)):
            return Path(found)
    raise InputError(
        f"tokenizer {name!r}: is no directory here, is not in the Hugging Face cache, and the hub did not "
        f"give it ({reason}); on a connected machine run "
        f"`hf download {name} {' '.join(TOKENIZER_FILES)} --local-dir DIR`, copy DIR to this machine, "
        "and give its path instead of the name"
    )
