"""SROIE (ICDAR 2019): scanned receipts with boxes of text lines and four key values a receipt.

Lines become words, and the key values are looked for among them: the source does not say where they stand.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from pathlib import Path

from PIL import ImageFont

from sap_vision_assets.documents.importers.conversion import (
    Notes,
    SourceFiles,
    SourcePage,
    assign_splits,
    check_target,
    convert_each,
    norm_box,
    pair_files,
    read_image_size,
    read_text_file,
    require_folders,
    write_domain,
)
from sap_vision_assets.documents.importers.projection import Match, PageText, squeeze
from sap_vision_assets.documents.importers.report import ImportReport
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary
from sap_vision_assets.vocabulary.strict_json import parse_json

SUFFIXES = {"img": ".jpg", "box": ".csv", "key": ".json"}
FIELDS = {"company": "senderName", "address": "senderAddress", "date": "documentDate", "total": "grossAmount"}
FUZZY_KEYS = ("company", "address")
"""Keys that may differ from the page in a tenth of their letters; dates and amounts may not."""
_CAPTIONS = (
    re.compile(
        r"(grand|nett?|rounded|final|after round\w*|round\w*) *(total|amt|amount)|total.*(round|payable|due)"
    ),
    re.compile(
        r"total(?!.*(qty|quantity|item|discount|saving|excl|tax|gst))|total.*incl|(amount|balance) *due"
    ),
    re.compile(r"total|amount|amt|payable|bill"),
)
"""Captions of a total on its line, the most telling first."""
_BEFORE_TOTAL = re.compile(r"sub *-? *total|exclu|before|w/o|without")
_PAID = re.compile(r"cash|visa|master|card|change|tender|paid|payment")
_AMOUNT = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class _Line:
    x1: int
    y1: int
    x2: int
    y2: int
    """Pixels."""
    text: str


@dataclass(frozen=True, kw_only=True)
class _Receipt:
    name: str
    lines: list[_Line]
    words: list[str] = field(default_factory=list)
    line_of: list[int] = field(default_factory=list)
    """Index into `lines` of each word."""


def import_sroie(
    src: Path,
    out: Path,
    *,
    domain: str = "receipts",
    test_share: float = 0.2,
    val_share: float = 0.1,
    doc_type: str = "OTHER",
) -> ImportReport:
    """Converts src/img/*.jpg, src/box/*.csv and src/key/*.json to <out>/<domain>.

    A line's box is shared out among its words by the widths of their characters. company, address, date and
    total become senderName, senderAddress, documentDate and grossAmount; what is not found is listed in the
    report, and the page is kept with what was found. A receipt says that something was paid; it does not ask
    for payment as an INVOICE does, so the document type is OTHER unless `doc_type` says otherwise. A receipt
    that cannot be used is listed as skipped or unpaired. Raises InputError when the source is not there or
    has no receipt, or the domain is there already; ArtifactError when `out` cannot be written.
    """
    require_folders(src, tuple(SUFFIXES))
    check_target(out, domain)
    vocabulary = load_vocabulary()
    if doc_type not in vocabulary.doc_type_names:
        raise InputError(f"doc_type {doc_type!r}: not in the vocabulary; `sap-vision labels` lists the known")
    notes = Notes()
    convert = partial(_convert, doc_type=doc_type, vocabulary=vocabulary)
    pages = convert_each(src, pair_files(src, SUFFIXES, notes), convert, notes, vocabulary)
    splits = assign_splits(pages, notes, test_share=test_share, val_share=val_share)
    return write_domain(pages, splits, out, domain, source="SROIE", notes=notes, vocabulary=vocabulary)


def _convert(
    name: str, files: SourceFiles, notes: Notes, *, doc_type: str, vocabulary: Vocabulary
) -> SourcePage:
    width, height = read_image_size(files["img"])
    receipt = _Receipt(name=name, lines=_read_lines(name, files["box"], notes))
    boxes = []
    for number, line in enumerate(receipt.lines):
        for word, x1, x2 in _split_line(line):
            receipt.words.append(word)
            receipt.line_of.append(number)
            boxes.append(norm_box((x1, line.y1, x2, line.y2), width, height, notes))
    keys = parse_json(read_text_file(files["key"]))
    return SourcePage(
        name=name,
        image=files["img"],
        doc_type=doc_type,
        words=receipt.words,
        boxes=boxes,
        token_labels=_project(keys, receipt, vocabulary, notes),
        width=width,
        height=height,
    )


def _read_lines(name: str, file: Path, notes: Notes) -> list[_Line]:
    lines = []
    for number, row in enumerate(read_text_file(file).decode().splitlines(), start=1):
        cells = row.split(",", 8)  # The transcript may have commas, and is not quoted.
        if not row.strip():
            continue
        try:
            corners = [int(cell) for cell in cells[:8]]
            text = cells[8]
        except (ValueError, IndexError):
            notes.add(name, "line_not_readable", f"line {number}: {row[:80]}")
            continue
        if not text.strip():
            notes.counters["lines_without_text_dropped"] += 1
            continue
        xs, ys = corners[::2], corners[1::2]
        lines.append(_Line(x1=min(xs), y1=min(ys), x2=max(xs), y2=max(ys), text=text))
    return lines


def _split_line(line: _Line) -> list[tuple[str, float, float]]:
    """Words of the line with their left and right edges in pixels."""
    text = line.text.strip()
    edges = [0.0]
    for char in text:
        edges.append(edges[-1] + _char_width(char))
    scale = (line.x2 - line.x1) / edges[-1]
    return [
        (match.group(), line.x1 + edges[match.start()] * scale, line.x1 + edges[match.end()] * scale)
        for match in re.finditer(r"\S+", text)
    ]


@cache
def _char_width(char: str) -> float:
    """Half way between a typewriter's and a proportional font's, relative to an average character.

    Receipts are printed in either. Measured against the ink of 3,268 gaps between words: 84% are hit within
    0.3 of the line's height, with a typewriter's widths alone 80%, with a proportional font's alone 73%.
    """
    return (ImageFont.load_default(size=40).getlength(char) / 22 + 1) / 2


def _project(keys: dict[str, str], receipt: _Receipt, vocabulary: Vocabulary, notes: Notes) -> list[int]:
    labels = [0] * len(receipt.words)
    page = PageText(receipt.words)
    for key, name in FIELDS.items():
        value = keys.get(key, "").strip()
        if not value:
            notes.add(receipt.name, f"absent:{name}", f"the source has no {key}")
            continue
        free = [label == 0 for label in labels]
        max_errors = len(value) // 10 if key in FUZZY_KEYS else 0
        match = _find_total(value, receipt, free) if key == "total" else None
        match = match or page.find(value, free=free, max_errors=max_errors)
        if match is None:
            notes.add(receipt.name, f"not_projected:{name}", f"{value!r} is not among the words")
            continue
        _note_difference(receipt, name, value, match, notes)
        begin = vocabulary.begin_id(name)
        labels[match.first : match.last + 1] = [begin] + [begin + 1] * (match.last - match.first)
    return labels


def _note_difference(receipt: _Receipt, name: str, value: str, match: Match, notes: Notes) -> None:
    found = " ".join(receipt.words[match.first : match.last + 1])
    if match.num_errors:
        detail = f"{value!r} taken for {found!r}, {match.num_errors} characters differ"
        notes.add(receipt.name, f"approximate:{name}", detail)
    elif len(squeeze(found)) > len(squeeze(value)) and _amount(found) != (_amount(value) or ""):
        notes.add(receipt.name, f"wider:{name}", f"{value!r} stands inside of {found!r}, all of it labelled")


def _find_total(value: str, receipt: _Receipt, free: list[bool]) -> Match | None:
    """The word with the amount `value` on the line with the most telling caption; of equals, the first."""
    wanted = _amount(value)
    if wanted is None:
        return None
    candidates = [
        (_caption_rank(_row_text(receipt.lines, receipt.line_of[index])), index)
        for index, word in enumerate(receipt.words)
        if free[index] and _amount(word) == wanted
    ]
    if not candidates:
        return None
    index = min(candidates)[1]
    return Match(first=index, last=index, num_errors=0)


def _amount(text: str) -> Decimal | None:
    """The amount that stands in `text` alone, with a currency before it or not."""
    found = _AMOUNT.findall(text)
    rest = _AMOUNT.sub("", text).strip(" .:-*=$").lower()
    if len(found) != 1 or rest not in ("", "rm", "myr", "usd"):
        return None
    try:
        return Decimal(found[0].replace(",", ""))
    except InvalidOperation:
        return None


def _row_text(lines: list[_Line], number: int) -> str:
    """Text of all lines at the height of this one, left to right: a caption stands in a box of its own."""
    line = lines[number]
    middle = (line.y1 + line.y2) / 2
    row = [other for other in lines if other.y1 <= middle <= other.y2 or _is_between(line, other)]
    return " ".join(other.text for other in sorted(row, key=lambda other: other.x1)).lower()


def _is_between(line: _Line, other: _Line) -> bool:
    return line.y1 <= (other.y1 + other.y2) / 2 <= line.y2


def _caption_rank(row: str) -> int:
    if _BEFORE_TOTAL.search(row):
        return len(_CAPTIONS)
    for rank, caption in enumerate(_CAPTIONS):
        if caption.search(row):
            return rank
    return len(_CAPTIONS) + (2 if _PAID.search(row) else 1)
