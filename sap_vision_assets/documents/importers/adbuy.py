"""Ad-buy forms: orders, contracts and invoices of US broadcasters for political advertising, as PDFs.

The pages are the FCC's public files of 2020, as VRDU (Wang et al., 2023, arXiv 2211.15421) has them, the
values those of project-deepform's manifest. Where a value stands on its page neither of them says.
"""

import csv
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sap_vision_assets.documents.importers.adbuy_fields import DATE_RANGE_DASH, FIELDS, FormPage, Place
from sap_vision_assets.documents.importers.conversion import (
    Notes,
    SourceFiles,
    SourcePage,
    assign_splits,
    check_target,
    convert_each,
    norm_box,
    pair_files,
    read_text_file,
    write_domain,
)
from sap_vision_assets.documents.importers.pdf import PdfPage, read_pdf_pages
from sap_vision_assets.documents.importers.projection import squeeze
from sap_vision_assets.documents.importers.report import ImportReport
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

LABELS, ON_PAGE_1 = "labels.csv", "on_page1.csv"
_COLUMNS = ("id", *FIELDS)
_Table = dict[str, dict[str, str]]
"""Cells by column, by document."""


def import_adbuy(
    src: Path,
    out: Path,
    *,
    domain: str = "adbuys",
    test_share: float = 0.2,
    val_share: float = 0.1,
    cpu_seconds: int = 60,
) -> ImportReport:
    """Converts src/*.pdf, src/labels.csv and src/on_page1.csv to <out>/<domain>: page 1 of each PDF.

    The picture is rendered and the words are taken from the text layer, with the boxes of what is drawn; a
    range of dates is three words, also where it has no spaces. contract_num, advertiser, gross_amount,
    flight_from and flight_to become contractNumber, receiverName, grossAmount, validFrom and validTo, where
    on_page1.csv says that the value is on page 1. The document type is INVOICE or CREDIT_MEMO where a title
    or a caption says so, else CONTRACT. A PDF that cannot be read, or keeps a process busy for more than
    `cpu_seconds`, is listed as skipped. Raises InputError when the source is not there or has no form, or the
    domain is there already; ArtifactError when `out` cannot be written.
    """
    check_target(out, domain)
    labels, on_page_1 = (_read_table(src / name) for name in (LABELS, ON_PAGE_1))
    vocabulary = load_vocabulary()
    notes = Notes()
    files = _with_rows(
        pair_files(src, {".": ".pdf"}, notes, besides=(LABELS, ON_PAGE_1)), labels, on_page_1, notes
    )
    with TemporaryDirectory() as scratch:
        pages = read_pdf_pages(
            [own["."] for own in files.values()],
            Path(scratch),
            apart=DATE_RANGE_DASH,
            cpu_seconds=cpu_seconds,
        )
        by_name = dict(zip(files, pages, strict=True))
        convert = partial(_convert, pages=by_name, labels=labels, on_page_1=on_page_1, vocabulary=vocabulary)
        converted = convert_each(src, files, convert, notes, vocabulary)
        splits = assign_splits(converted, notes, test_share=test_share, val_share=val_share)
        return write_domain(
            converted, splits, out, domain, source="Ad-buy forms", notes=notes, vocabulary=vocabulary
        )


def _read_table(file: Path) -> _Table:
    """Rows by id. Raises InputError when it is no table with all columns, each id once."""
    try:
        text = io.StringIO(read_text_file(file).decode("utf-8-sig"), newline="")
        return _by_id(csv.DictReader(text, strict=True))
    except (InputError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be used: {error}; correct the source") from error


def _by_id(rows: "csv.DictReader[str]") -> _Table:
    table: _Table = {}
    for row in rows:
        if set(row) != set(_COLUMNS) or None in row.values():
            raise InputError(f"line {rows.line_num}: is not {','.join(_COLUMNS)}")
        if row["id"] in table:
            raise InputError(f"line {rows.line_num}: id {row['id'][:80]!r} has a row already")
        table[row["id"]] = row
    return table


def _with_rows(
    files: Mapping[str, SourceFiles], labels: _Table, on_page_1: _Table, notes: Notes
) -> dict[str, SourceFiles]:
    """The documents that have a PDF and a row in both tables; others are listed as unpaired."""
    for name in sorted({*files, *labels, *on_page_1}):
        places = {f"{name}.pdf": files, f"its row in {LABELS}": labels, f"its row in {ON_PAGE_1}": on_page_1}
        missing = [place for place, names in places.items() if name not in names]
        if missing:
            notes.add(name, "unpaired", f"not read, {' and '.join(missing)} is not there")
    return {name: own for name, own in files.items() if name in labels and name in on_page_1}


def _convert(
    name: str,
    _: SourceFiles,
    notes: Notes,
    *,
    pages: Mapping[str, PdfPage | InputError],
    labels: _Table,
    on_page_1: _Table,
    vocabulary: Vocabulary,
) -> SourcePage:
    page = pages[name]
    if not isinstance(page, PdfPage):
        raise page
    notes.counters.update(page.counters)
    form = FormPage(page.words)
    doc_type = form.document_type()
    notes.counters[f"doc_type:{doc_type}"] += 1
    token_labels = [0] * len(form.words)
    for key, place in _places(name, form, labels[name], on_page_1[name], notes).items():
        begin = vocabulary.begin_id(FIELDS[key])
        token_labels[place.first : place.last + 1] = [begin] + [begin + 1] * (place.last - place.first)
    return SourcePage(
        name=name,
        image=page.image,
        doc_type=doc_type,
        words=[word.text for word in form.words],
        boxes=[norm_box(word.ink, page.width, page.height, notes) for word in form.words],
        token_labels=token_labels,
        width=page.width,
        height=page.height,
    )


def _places(
    name: str, form: FormPage, values: Mapping[str, str], on_page_1: Mapping[str, str], notes: Notes
) -> dict[str, Place]:
    """Where each value is labelled; what is not is noted."""
    places: dict[str, Place] = {}
    for key, term in FIELDS.items():
        value = values[key].strip()
        if not value:
            notes.add(name, f"absent:{term}", f"the source has no {key}")
            continue
        if on_page_1[key].strip() != "1":
            notes.counters[f"not_on_page_1:{term}"] += 1
            continue
        found = form.find(key, values, taken=list(places.values()))
        for kind, is_so in (
            ("one_of_several_places", found.num_places > 1),
            ("first_of_equal_places", found.num_equal > 1),
            ("without_caption", not found.has_caption),
        ):
            notes.counters[f"{kind}:{term}"] += found.place is not None and is_so
        if found.place is not None:
            places[key] = found.place
            for kind, detail in _differences(key, value, form.text(found.place), found.place.num_errors):
                notes.add(name, f"{kind}:{term}", detail)
        elif found.num_places:
            why = f"{value!r} stands there {found.num_places} times, never beside a caption"
            notes.add(name, f"ambiguous:{term}", why)
        else:
            notes.add(name, f"not_projected:{term}", f"{value!r} is not among the words as this field")
    return places


def _differences(key: str, value: str, shown: str, num_errors: int) -> list[tuple[str, str]]:
    if num_errors:
        return [("approximate", f"{value!r} taken for {shown!r}, {num_errors} characters differ")]
    if key in ("contract_num", "advertiser") and squeeze(shown) != squeeze(value):
        return [("wider", f"{value!r} stands inside of {shown!r}, all of it labelled")]
    return []
