"""Trains the builtin tokenizer: `python -m sap_vision_assets.shards.train_tokenizer --help`."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat
from math import isqrt
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from sap_vision_assets.errors import InputError
from sap_vision_assets.shards.tokenizer import SPECIALS

# Letters; a separator with two digits; two digits; other signs. Numbers always fall into the same pairs, so
# that 110 groups (770 with blank or separator) say all of them, and each is seen often. The blank before a
# word stays with its first piece.
PIECES = r" ?\p{L}+|[.,/:\-]\p{N}{1,2}| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+"
SEPARATORS = ".,/:-"


def train(words: Iterable[str], *, vocab_size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE for `words`. Equal words give equal bytes.

    A word counts by the square root of how often it occurs: captions that stand on every page would else
    leave no room for the pieces that unseen words are made of. Raises InputError when there are no words.
    """
    counts = Counter(words)
    if not counts:
        raise InputError("no words to train on; give a folder of annotations, or a number of contents")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_weighted(counts), trainer)
    return tokenizer


def _weighted(counts: Counter[str]) -> Iterator[str]:
    for word, count in sorted(counts.items()):
        yield from repeat(word, isqrt(count - 1) + 1)
    for group in _digit_groups():
        yield from repeat(group, 1000)


def _digit_groups() -> Iterator[str]:
    """Words in which each digit group occurs, whatever the training text has."""
    for pair in (*map(str, range(10)), *(f"{number:02d}" for number in range(100))):
        yield f"00{pair}"
        yield pair
        yield from (f"00{separator}{pair}" for separator in SEPARATORS)


def words_of_annotations(folder: Path) -> Iterator[str]:
    """Words of all annotation files of one <domain>/<split> folder."""
    for file in sorted((folder / "annotations").glob("*.json")):
        yield from json.loads(file.read_text(encoding="utf-8"))["words"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sap_vision_assets.shards.train_tokenizer",
        description="Trains a byte-level BPE on the words of annotation files.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of a domain's split: .../general/train"
    )
    parser.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    parser.add_argument("--vocab-size", type=int, default=8192, help="entries, specials included")
    options = parser.parse_args(arguments)
    tokenizer = train(words_of_annotations(options.data), vocab_size=options.vocab_size)
    options.out.write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
