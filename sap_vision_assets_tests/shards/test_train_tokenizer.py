"""The builtin tokenizer's training, on a few words."""

import json
import random
from pathlib import Path

import pytest

from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.errors import InputError
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets.shards.train_tokenizer import main, train, words_of_contents


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    folder = tmp_path / "general/train"
    (folder / "annotations").mkdir(parents=True)
    for index, words in enumerate([["Rechnung", "Nr.", "4711"], ["Rechnung", "Betrag", "12,50"]] * 5):
        (folder / "annotations" / f"{index}.json").write_text(json.dumps({"words": words}))
    return folder


def test_equal_words_give_equal_bytes(annotations: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        main(
            [
                "--data",
                str(annotations),
                "--out",
                str(tmp_path / name / "tokenizer.json"),
                "--vocab-size",
                "1200",
            ]
        )
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    tokenizer = load_tokenizer(tmp_path / "a")
    assert (tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id, tokenizer.unk_id) == (0, 1, 2, 3)
    # A word of the text is one token; a number that is not in it falls into pairs all the same.
    assert len(tokenizer.encode_words(["Rechnung"]).ids) == 1
    assert len(tokenizer.encode_words(["Gnunhcer"]).ids) > 1
    assert len(tokenizer.encode_words(["98,76"]).ids) == 2


def test_synthetic_documents_give_printed_words_of_the_training_split() -> None:
    words = list(words_of_contents(4))
    assert words == list(words_of_contents(4))
    assert len(words) > 200
    content = make_content(random.Random("tokenizer/train/2"), split="train")
    assert {word for line in content.sender.lines for text in line for word in text.text.split()} <= set(
        words
    )
    assert not {"PURCHASE_ORDER", "sender", "senderName", "right"} & set(words)


def test_no_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no words to train on"):
        main(["--data", str(tmp_path), "--out", str(tmp_path / "tokenizer.json")])
    assert not (tmp_path / "tokenizer.json").exists()
    assert train(["word"], vocab_size=300).get_vocab_size() >= 261
