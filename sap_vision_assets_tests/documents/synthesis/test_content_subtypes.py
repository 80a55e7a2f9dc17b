"""Each purchase order subtype can be told from the page, and from every other one."""

import random
import re
from functools import cache

import pytest

from sap_vision_assets.documents.synthesis.content import DocumentContent
from sap_vision_assets.documents.synthesis.phrases import LANGUAGES, orders
from sap_vision_assets.documents.synthesis.subtypes import SPECS
from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.documents.synthesis.test_content import captions, lines

SUBTYPES = load_vocabulary().po_subtype_names
ORDERS_EACH = 15


def clause_cues(language: str, subtype: str) -> list[str]:
    """The longest literal piece of each of the subtype's clauses: what a reader sees of it in any order."""
    return [
        max(re.split(r"\S*\{\w+\}\S*", clause), key=len).strip()
        for clause in orders(language)[subtype]["clauses"]
    ]


def caption_cues(language: str, subtype: str) -> set[str]:
    return {
        caption for wordings in orders(language)[subtype].get("extras", {}).values() for caption in wordings
    }


@cache
def orders_of(subtype: str) -> tuple[DocumentContent, ...]:
    return tuple(
        make_content(random.Random(f"{subtype} {seed}"), split="train", po_subtype=subtype)
        for seed in range(ORDERS_EACH)
    )


def page_text(content: DocumentContent) -> str:
    return "\n".join(" ".join(text.text for text in line) for line in lines(content))


def test_every_subtype_has_its_shape_and_its_words() -> None:
    assert set(SPECS) == set(SUBTYPES)
    for language in LANGUAGES:
        words = orders(language)
        assert set(words) == {*SUBTYPES, "WORDS"}
        for subtype in set(SUBTYPES) - {"STANDARD"}:
            assert len(words[subtype]["clauses"]) >= 3
            assert len(words[subtype]["kinds"]) >= 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_subtypes_share_a_clause_or_a_kind(language: str) -> None:
    clauses = [cue for subtype in SUBTYPES for cue in clause_cues(language, subtype)]
    kinds = [kind for subtype in SUBTYPES for kind in orders(language)[subtype]["kinds"]]
    assert len(clauses) == len(set(clauses))
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("subtype", sorted(set(SUBTYPES) - {"STANDARD"}))
def test_an_order_always_shows_its_own_clause_and_nobody_elses(subtype: str) -> None:
    for content in orders_of(subtype):
        text = page_text(content)
        assert any(cue in text for cue in clause_cues(content.language, subtype)), text
        for other in set(SUBTYPES) - {subtype}:
            assert not any(cue in text for cue in clause_cues(content.language, other)), (other, text)


def test_a_standard_order_shows_none_of_the_special_cues() -> None:
    special_fields = {
        "costCenter",
        "wbsElement",
        "internalOrder",
        "assetNumber",
        "glAccount",
        "contractNumber",
        "salesOrderNumber",
        "targetValue",
        "validFrom",
        "purchaseOrderNumber",
    }
    for content in orders_of("STANDARD"):
        text, own = page_text(content), {caption.rstrip(" :") for caption in captions(content)}
        for other in set(SUBTYPES) - {"STANDARD"}:
            assert not any(cue in text for cue in clause_cues(content.language, other))
            assert not own & caption_cues(content.language, other)
            assert not any(kind in (content.title, *own) for kind in orders(content.language)[other]["kinds"])
        assert not special_fields & {text.field for line in lines(content) for text in line}
        assert "lineItem.materialNumber" in {text.field for line in lines(content) for text in line}


def fields_of(content: DocumentContent) -> set[str | None]:
    return {text.field for line in lines(content) for text in line}


@pytest.mark.parametrize("subtype", sorted(name for name, spec in SPECS.items() if spec.required))
def test_required_fields_are_on_the_page(subtype: str) -> None:
    for content in orders_of(subtype):
        required = {f for f in SPECS[subtype].required if f != "validity"}
        if "validity" in SPECS[subtype].required:
            required |= {"validFrom", "validTo"}
        assert required <= fields_of(content)


@pytest.mark.parametrize(
    ("subtype", "absent"),
    [
        ("STOCK_TRANSPORT", {"lineItem.unitPrice", "lineItem.netAmount", "netAmount", "paymentTerms"}),
        ("CONSIGNMENT", {"lineItem.netAmount", "grossAmount"}),
        ("TEXT_ITEM", {"lineItem.materialNumber"}),
        ("JIT_SCHEDULE", {"lineItem.unitPrice", "netAmount"}),
        ("FORECAST_SCHEDULE", {"lineItem.unitPrice", "netAmount"}),
        ("CONTRACT", {"lineItem.quantity", "netAmount", "targetValue"}),
        ("VALUE_CONTRACT", {"lineItem.quantity"}),
        ("QUANTITY_CONTRACT", {"targetValue", "lineItem.netAmount"}),
    ],
)
def test_what_a_subtype_never_shows(subtype: str, absent: set[str]) -> None:
    for content in orders_of(subtype):
        assert not absent & fields_of(content)


@pytest.mark.parametrize("subtype", [name for name, spec in SPECS.items() if spec.tables])
def test_second_tables(subtype: str) -> None:
    assert all(len(content.tables) == 2 for content in orders_of(subtype))


def test_free_of_charge_costs_nothing() -> None:
    for content in orders_of("FREE_OF_CHARGE"):
        prices = [t.text for line in lines(content) for t in line if t.field == "lineItem.unitPrice"]
        assert prices
        assert all(not re.search(r"[1-9]", price) for price in prices)


def test_plants_of_one_company_and_sisters_of_a_group() -> None:
    for content in orders_of("STOCK_TRANSPORT"):
        sender = content.sender.lines[0][0].text
        assert content.parties[0].lines[0][0].text == sender
    for content in orders_of("INTERCOMPANY_TRANSPORT"):
        sender, receiver = content.sender.lines[0][0].text, content.parties[0].lines[0][0].text
        assert sender != receiver or content.sender.lines != content.parties[0].lines
        assert set(sender.split()) & set(receiver.split())
