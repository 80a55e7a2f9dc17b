import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from sap_vision_assets.documents.synthesis.content import (
    DocumentContent,
    KeyValue,
    Line,
    Paragraph,
    Party,
    Table,
    Text,
)
from sap_vision_assets.documents.synthesis.layout import Page, lay_out
from sap_vision_assets.documents.synthesis.typesetting import labelled_words
from sap_vision_assets.documents.synthesis.writers import make_content
from sap_vision_assets.errors import InputError
from sap_vision_assets_tests.documents.synthesis.sample_content import make_sample_content

SPLITS = ("train", "val", "test")


def printed(
    seed: int, content: DocumentContent | None = None, *, split: str = ""
) -> tuple[DocumentContent, Page]:
    rng = random.Random(seed)
    split = split or SPLITS[seed % 3]
    content = content or make_content(rng, split=split)
    return content, lay_out(content, rng=rng, split=split, dpi=100)


@pytest.fixture(scope="module")
def pages() -> list[tuple[DocumentContent, Page]]:
    return [printed(seed) for seed in range(150)]


def test_every_box_lies_inside_the_page_and_has_an_area(pages: list[tuple[DocumentContent, Page]]) -> None:
    for _, page in pages:
        for word, (left, top, right, bottom) in zip(page.words, page.boxes_px, strict=True):
            assert 0 <= left < right <= page.image.width, word
            assert 0 <= top < bottom <= page.image.height, word


def test_boxes_of_different_words_overlap_by_little(pages: list[tuple[DocumentContent, Page]]) -> None:
    for _, page in pages:
        boxes = np.array(page.boxes_px)
        sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(
            boxes[:, None, :2], boxes[None, :, :2]
        )
        shared = np.clip(sides, 0, None).prod(-1)
        np.fill_diagonal(shared, 0)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        share = shared / np.minimum(areas[:, None], areas[None, :])
        # Descenders may reach into the ascenders of the next line; words of a turned stamp share corners.
        worst = np.unravel_index(np.argmax(np.where(shared > 8, share, 0)), share.shape)
        assert share[worst] < 0.25 or shared[worst] <= 8, [page.words[number] for number in worst]


def test_each_box_is_tight_around_ink(pages: list[tuple[DocumentContent, Page]]) -> None:
    """Contrast in every edge row and column of the box; the turned words of stamps do not reach theirs."""
    checked = 0
    for content, page in pages[:60]:
        grey = np.asarray(page.image.convert("L")).astype(int)
        num_stamped = sum(len(text.split()) for text in content.stamps)
        for box in page.boxes_px[: len(page.boxes_px) - num_stamped]:
            left, top, right, bottom = (int(value) for value in box)
            part = grey[top:bottom, left:right]
            paper = grey[max(0, top - 1), left]
            assert np.abs(part - paper).max() > 40
            for edge in (part[0], part[-1], part[:, 0], part[:, -1]):
                assert np.abs(edge - paper).max() > 0
                checked += 1
    assert checked > 10_000


def every_line(content: DocumentContent) -> Iterator[Line]:
    def of_pairs(pairs: tuple[KeyValue, ...]) -> Iterator[Line]:
        yield from (pair.value for pair in pairs)

    def of_parties(parties: tuple[Party, ...]) -> Iterator[Line]:
        yield from (line for party in parties for line in party.lines)

    def of_tables(tables: tuple[Table, ...]) -> Iterator[Line]:
        yield from (line for table in tables for row in table.rows for cell in row for line in cell)

    def of_paragraphs(paragraphs: tuple[Paragraph, ...]) -> Iterator[Line]:
        yield from (paragraph.text for paragraph in paragraphs)

    yield content.subtitle
    yield from of_parties((content.sender, *content.parties))
    yield from of_pairs(content.header)
    yield from of_paragraphs(content.introduction)
    yield from of_tables(content.tables)
    yield from of_pairs(content.totals)
    yield from of_paragraphs(content.closing)
    yield from (line for column in content.footer for line in column)
    if content.barcode is not None:
        yield (content.barcode,)


def entities(words: list[str], labels: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word, label in zip(words, labels, strict=True):
        if label.startswith("B-"):
            found.append((label[2:], word))
        elif label.startswith("I-"):
            assert found
            assert found[-1][0] == label[2:]
            found[-1] = (label[2:], f"{found[-1][1]} {word}")
    return sorted(found)


def test_the_page_has_the_entities_of_its_content(pages: list[tuple[DocumentContent, Page]]) -> None:
    for content, page in pages:
        words = [word for line in every_line(content) for word in labelled_words(line)]
        expected = entities([word for word, _ in words], [label for _, label in words])
        assert entities(page.words, page.labels) == expected


def test_words_of_an_entity_are_consecutive(pages: list[tuple[DocumentContent, Page]]) -> None:
    for _, page in pages:
        for before, label in pairwise(["O", *page.labels]):
            if label.startswith("I-"):
                assert before in (label, "B-" + label[2:]), page.words


@pytest.mark.parametrize("num_rows", [1, 12, 30])
def test_a_long_document_is_set_smaller_until_it_fits(num_rows: int) -> None:
    for seed in range(4):
        content = make_sample_content(random.Random(seed), num_rows=num_rows)
        _, page = printed(seed, content)
        assert max(box[3] for box in page.boxes_px) < page.image.height
        assert (
            page.words.count("verzinkt") + page.words.count("6204-2RS") + page.words.count("vollständig")
            == num_rows
        )


def test_too_long_a_document_is_refused() -> None:
    content = make_sample_content(random.Random(0), num_rows=200)
    with pytest.raises(InputError, match=r"INVOICE 'Rechnung' is too long for one page"):
        printed(0, content)


def test_a_word_wider_than_its_column_is_set_smaller() -> None:
    content = make_sample_content(random.Random(0))
    wide = KeyValue(caption="Ihre Referenz", value=labelled_line("X" * 60))
    long = DocumentContent(**{**vars(content), "header": (*content.header, wide)})
    for seed in range(12):
        _, page = printed(seed, long)
        box = page.boxes_px[page.words.index("X" * 60)]
        assert box[2] <= page.image.width


def labelled_line(text: str) -> Line:
    return (Text(text=text),)


def test_resolution_scales_the_page_and_keeps_the_words() -> None:
    content = make_sample_content(random.Random(3))
    low = lay_out(content, rng=random.Random(3), split="train", dpi=100)
    high = lay_out(content, rng=random.Random(3), split="train", dpi=200)
    assert abs(high.image.width - 2 * low.image.width) <= 1
    assert high.labels == low.labels


def test_split_decides_the_typeface_and_the_skeleton(pages: list[tuple[DocumentContent, Page]]) -> None:
    looks: dict[str, set[object]] = {split: set() for split in SPLITS}
    for seed, (_, page) in enumerate(pages):
        looks[SPLITS[seed % 3]] |= {page.style.family.name, page.skeleton.arrangement}
    assert not looks["train"] & (looks["val"] | looks["test"])
    assert not looks["val"] & looks["test"]
