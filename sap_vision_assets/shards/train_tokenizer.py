"""Trains the builtin tokenizer: `python -m sap_vision_assets.shards.train_tokenizer --help`.

The one in the package was made from the words of 20,000 synthetic training documents by
`python -m sap_vision_assets.shards.train_tokenizer --num-contents 20000 --out builtin_tokenizer.json`.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from itertools import repeat
from math import ceil
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.errors import InputError
from sap_vision_assets.shards.tokenizer import SPECIALS

# Letters behind a blank and a sign; a separator with two digits; two digits; other signs. Numbers always fall
# into the same pairs, so that 110 groups (770 with blank or separator) say all of them, each seen often:
# groups of three need 2,200 entries more for 0.1 tokens a word less.
PIECES = r" ?[^\s\p{L}\p{N}]?\p{L}+|[.,/:\-]\p{N}{1,2}| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+"
SEPARATORS = ".,/:-"
DIGIT_GROUP_WEIGHT = 100
"""How often each digit group is shown besides the text: enough for every one to get its entry."""
CLASS_NAMES = frozenset({"doc_type", "po_subtype", "language", "role", "align", "field"})
"""Strings of a content that are not printed."""


def train(words: Iterable[str], *, vocab_size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE for `words`. Equal words give equal bytes.

    Raises InputError when there are no words.
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
    """The words, as often as they shall count.

    Damped, since captions that stand on every page would else leave no room for the pieces that unseen words
    are made of. In other cases too, less often: receipts, printed in capitals, take 2.4 tokens a word instead
    of 3.2.
    """
    weights: Counter[str] = Counter()
    for word, count in counts.items():
        weight = round(count**0.7)
        weights[word] += weight
        for variant in {word.upper(), word.lower(), word.capitalize()} - {word}:
            weights[variant] += ceil(0.3 * weight)
    for group in _digit_groups():
        weights[group] += DIGIT_GROUP_WEIGHT
    for word in sorted(weights):
        yield from repeat(word, weights[word])


def _digit_groups() -> Iterator[str]:
    """Words in which each digit group occurs, whatever the training text has."""
    for group in (*map(str, range(10)), *(f"{number:02d}" for number in range(100))):
        yield group
        yield f"00{group}"
        yield from (f"00{separator}{group}" for separator in SEPARATORS)


def words_of_annotations(folder: Path) -> Iterator[str]:
    """Words of all annotation files of one <domain>/<split> folder."""
    for file in sorted((folder / "annotations").glob("*.json")):
        yield from json.loads(file.read_text(encoding="utf-8"))["words"]


def words_of_contents(num_contents: int, *, split: str = "train") -> Iterator[str]:
    """Words of synthetic documents, as they are before they are printed."""
    for index in range(num_contents):
        content = make_content(random.Random(f"tokenizer/{split}/{index}"), split=split)
        for text in _texts(content):
            yield from text.split()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _texts(part)
    elif is_dataclass(value):
        for field in fields(value):
            if field.name not in CLASS_NAMES:
                yield from _texts(getattr(value, field.name))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sap_vision_assets.shards.train_tokenizer",
        description="Trains a byte-level BPE on words of annotation files, or of synthetic documents.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder such as .../general/train")
    source.add_argument("--num-contents", type=int, help="synthetic documents, of the training split")
    parser.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    parser.add_argument("--vocab-size", type=int, default=10_240, help="entries, specials included")
    options = parser.parse_args(arguments)
    words = words_of_annotations(options.data) if options.data else words_of_contents(options.num_contents)
    tokenizer = train(words, vocab_size=options.vocab_size)
    options.out.write_text(tokenizer.to_str(), encoding="utf-8")


if __name__ == "__main__":
    main()
