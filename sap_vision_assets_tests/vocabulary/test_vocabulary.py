"""The package's vocabulary, and a user's extension of it."""

import json
import os
from pathlib import Path

import pytest

from sap_vision_assets.errors import InputError, VocabularyMismatchError
from sap_vision_assets.vocabulary import OUTSIDE, load_vocabulary

DOC_TYPES = (
    "INVOICE PURCHASE_ORDER SALES_ORDER GOODS_RECEIPT DELIVERY_NOTE CREDIT_MEMO DEBIT_MEMO PAYMENT_ADVICE "
    "REMITTANCE_ADVICE STATEMENT CONTRACT QUOTATION RFQ ASN OTHER"
)


def _extension(tmp_path: Path, **lists: list[dict[str, str]]) -> Path:
    file = tmp_path / "extension.json"
    file.write_text(json.dumps({"version": 1, **lists}))
    return file


def _term(name: str) -> dict[str, str]:
    return {"name": name, "sap": "-", "meaning": "Something of ours."}


def test_sizes_and_order() -> None:
    vocabulary = load_vocabulary()
    assert vocabulary.doc_type_names == tuple(DOC_TYPES.split())
    assert len(vocabulary.po_subtype_names) == 35
    assert vocabulary.po_subtype_names[:3] == ("STANDARD", "BLANKET", "CONTRACT")
    assert len(vocabulary.field_names) == 90
    assert len(vocabulary.labels) == 181


def test_labels_pair_up() -> None:
    vocabulary = load_vocabulary()
    assert vocabulary.labels[0] == OUTSIDE == "O"
    for number, name in enumerate(vocabulary.field_names):
        begin = vocabulary.begin_id(name)
        assert begin == 2 * number + 1
        assert vocabulary.labels[begin : begin + 2] == (f"B-{name}", f"I-{name}")
    for name in ("documentNumber", "senderName", "grossAmount", "lineItem.description"):
        assert name in vocabulary.field_names


def test_unknown_field_is_named() -> None:
    with pytest.raises(InputError, match="unknown field 'documentNumbr'"):
        load_vocabulary().begin_id("documentNumbr")


def test_extension_adds_at_the_end_and_moves_the_digest(tmp_path: Path) -> None:
    own = load_vocabulary()
    file = _extension(
        tmp_path, fields=[_term("palletId")], doc_types=[_term("WAYBILL")], po_subtypes=[_term("X")]
    )
    extended = load_vocabulary(file)
    assert extended.field_names == (*own.field_names, "palletId")
    assert extended.labels == (*own.labels, "B-palletId", "I-palletId")
    assert extended.doc_type_names == (*own.doc_type_names, "WAYBILL")
    assert extended.po_subtype_names == (*own.po_subtype_names, "X")
    assert extended.digest != own.digest == load_vocabulary().digest
    extended.require_digest(extended.digest, "model")
    with pytest.raises(VocabularyMismatchError) as caught:
        extended.require_digest(own.digest, "model.onnx")
    assert all(part in str(caught.value) for part in (own.digest, extended.digest, "model.onnx"))


def test_digest_is_of_names_not_of_meanings(tmp_path: Path) -> None:
    first = load_vocabulary(_extension(tmp_path, fields=[_term("palletId")]))
    second = load_vocabulary(_extension(tmp_path, fields=[_term("palletId") | {"meaning": "Reworded."}]))
    third = load_vocabulary(_extension(tmp_path, doc_types=[_term("palletId")]))
    assert first.digest == second.digest != third.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "EOF while parsing"),
        ("[]", "the whole file"),
        ('{"version": 1, "fields": [], "fields": []}', r"extension\.json: key 'fields' stands there twice"),
        ('{"version": 1, "fields": [' + "[" * 300, "recursion limit"),
        ('{"version": 1, "fields": [{"name": "a", "sap": "-", "meaning": "x\\ny"}]}', "must be one line"),
        (
            '{"version": 1, "fields": [{"name": "a", "sap": "\\u001b[0m", "meaning": "x"}]}',
            r"0\.sap: .*one line",
        ),
        ('{"version": 1, "fields": [{"name": "a", "sap": "-", "meaning": "x\\u2028y"}]}', "must be one line"),
        ('{"version": 2}', "version"),
        ('{"version": 1, "feilds": []}', "feilds"),
        ('{"version": 1, "fields": [{"name": "a|b", "sap": "-", "meaning": "x"}]}', r"fields\.0\.name"),
        ('{"version": 1, "fields": [{"name": "a", "sap": "-"}]}', r"fields\.0\.meaning"),
        (
            '{"version": 1, "fields": [{"name": "netAmount", "sap": "-", "meaning": "x"}]}',
            "'netAmount' is defined 2",
        ),
    ],
)
def test_wrong_extension_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "extension.json"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        load_vocabulary(file)


def test_extension_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = _extension(tmp_path, fields=[_term("palletId")])
    plain = load_vocabulary(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_vocabulary(file) == plain


def test_extension_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    for path in (tmp_path / "fifo.json", tmp_path, Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path}: is no regular file"):
            load_vocabulary(path)
    file = _extension(tmp_path, fields=[_term("palletId")])
    (tmp_path / "linked.json").symlink_to(file)
    assert load_vocabulary(tmp_path / "linked.json") == load_vocabulary(file)


def test_missing_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check the path"):
        load_vocabulary(tmp_path / "nothing.json")
