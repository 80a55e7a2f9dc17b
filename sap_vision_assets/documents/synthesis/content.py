"""What a business document says, before anybody decides how it looks.

`make_content` (writers.py) fills a DocumentContent; `lay_out` (layout.py) prints it. The only thing that
the two know of each other are these types.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Text:
    """A run of words with one label. Blanks separate the words."""

    text: str
    field: str | None = None
    """Vocabulary field of these words; None is label "O"."""
    continues: bool = False
    """True when these words go on with the entity of the Text before them (the second line of an address)."""


Line = tuple[Text, ...]
"""Printed on one line, in this order."""


@dataclass(frozen=True, kw_only=True)
class KeyValue:
    """A caption and its value: beside it, above it, or in a grid, as the layout likes."""

    caption: str
    value: Line


@dataclass(frozen=True, kw_only=True)
class Party:
    """A company with its address and contact lines."""

    role: str
    """"sender", "receiver", "ship_to" or "other" (a decoy: a bill-to that is no field, an agent, ...)."""
    caption: str
    """"Bill to:" and the like; empty for a letterhead."""
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    caption: str
    align: str
    """"left", "right" or "center"."""
    weight: float
    """Share of the table's width, relative to the other columns' weights."""


@dataclass(frozen=True, kw_only=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[Line, ...], ...], ...]
    """Row, column, lines of the cell. An empty tuple is an empty cell."""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """Flowing text; the layout breaks it into lines. A heading may stand above it."""

    text: Line
    heading: str = ""


@dataclass(frozen=True, kw_only=True)
class DocumentContent:
    """One page's worth, in the order in which a reader expects it."""

    doc_type: str
    po_subtype: str | None
    language: str
    """ISO 639-1."""
    title: str
    """"Rechnung", "Purchase Order"; may be empty."""
    subtitle: Line
    """Printed near the title, such as an order kind; may be empty."""
    sender: Party
    """The letterhead."""
    parties: tuple[Party, ...]
    header: tuple[KeyValue, ...]
    """Numbers and dates of the document, decoys among them."""
    introduction: tuple[Paragraph, ...]
    tables: tuple[Table, ...]
    totals: tuple[KeyValue, ...]
    """Sums below the table, the last one the largest."""
    closing: tuple[Paragraph, ...]
    """Terms, clauses, notes."""
    footer: tuple[tuple[Line, ...], ...]
    """Columns of small print at the page's foot: register entries, bank details, contact."""
    stamps: tuple[str, ...]
    """Texts of rubber stamps, such as "PAID" or "RECEIVED 12 MAR 2024"; label "O"."""
    signatories: tuple[str, ...]
    """Names below handwriting-like signatures; label "O"."""
    barcode: Text | None
    """Encoded as a barcode; its text may be printed below the bars, with this label."""
