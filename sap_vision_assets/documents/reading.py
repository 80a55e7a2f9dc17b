"""A split's folder becomes one outcome a file, in the order of the document ids: a document or a rejection.

Whatever is wrong with one document, the rest goes on. What is wrong with the folder itself raises InputError.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sap_vision_assets.documents.annotation import SUBTYPED, Annotation, Box, parse_annotation
from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.document import Accepted, Document, Outcome, Rejection
from sap_vision_assets.documents.files import (
    ANNOTATION_REASONS,
    ANNOTATIONS,
    IMAGE_REASONS,
    IMAGES,
    check_image_path,
    document_id,
    is_annotation_name,
    list_names,
    read_file,
)
from sap_vision_assets.documents.page import Page, decode_page, turn_box
from sap_vision_assets.documents.parallel import map_in_order
from sap_vision_assets.documents.reasons import DocumentError, RejectReason, described, printable
from sap_vision_assets.vocabulary import Vocabulary


def read_folder(folder: Path, *, vocabulary: Vocabulary, config: DatasetConfig) -> Iterator[Outcome]:
    """Every annotation file of <data root>/<domain>/<split>, sorted by document id; then the files that
    belong to no document. A folder that does not exist has none.

    Raises InputError when the folder cannot be listed.
    """
    names = list_names(folder / ANNOTATIONS)
    image_names = list_names(folder / IMAGES)
    tree = folder.resolve()
    documents, rejections = _group_by_id(tree, [name for name in names if is_annotation_name(name)], config)
    read = partial(_read_one, tree, vocabulary, config)
    used_images: set[str] = set()
    rejected_stems = {Path(name).stem for name in names if is_annotation_name(name)}
    outcomes = map_in_order(read, documents, workers=config.num_workers(len(documents)), on_crash=_crashed)
    for entry, outcome in zip(documents, outcomes, strict=True):
        if isinstance(outcome, Accepted):
            used_images.add(outcome.document.image_path)
            rejected_stems.discard(Path(entry.name).stem)
        yield outcome
    yield from rejections
    for name in image_names:
        # Nobody knows which image a rejected annotation means: the one of its own name is not listed as well.
        if name not in used_images and Path(name).stem not in rejected_stems:
            yield _notice(RejectReason.IMAGE_WITHOUT_ANNOTATION, IMAGES, name)
    for name in names:
        if not is_annotation_name(name):
            yield _notice(RejectReason.UNEXPECTED_FILE, ANNOTATIONS, name)


@dataclass(frozen=True)
class _Entry:
    """A document to read."""

    document_id: str
    name: str
    """Of its annotation file."""
    num_duplicates: int
    """Further annotation files of this id, with the same bytes."""


def _group_by_id(tree: Path, names: list[str], config: DatasetConfig) -> tuple[list[_Entry], list[Rejection]]:
    by_id: dict[str, list[str]] = defaultdict(list)
    rejections = []
    for name in names:
        try:
            by_id[document_id(name)].append(name)
        except DocumentError as error:
            rejections.append(_rejection(None, name, error))
    entries = []
    for identity, group in sorted(by_id.items()):
        if len(group) == 1 or _are_equal(tree, group, config):
            entries.append(_Entry(identity, group[0], len(group) - 1))
            continue
        conflict = DocumentError(
            RejectReason.DUPLICATE_ID,
            f"{', '.join(group)} are one document id with different content; remove all but one",
        )
        rejections += [_rejection(identity, name, conflict) for name in group]
    return entries, rejections


def _are_equal(tree: Path, group: list[str], config: DatasetConfig) -> bool:
    """Whether all files of the group can be read and have the same bytes."""
    try:
        contents = {_read_annotation_file(tree, name, config) for name in group}
    except DocumentError:
        return False
    return len(contents) == 1


def _read_annotation_file(tree: Path, name: str, config: DatasetConfig) -> bytes:
    return read_file(
        tree, tree / ANNOTATIONS / name, limit=config.max_annotation_bytes, reasons=ANNOTATION_REASONS
    )


def _read_one(tree: Path, vocabulary: Vocabulary, config: DatasetConfig, entry: _Entry) -> Outcome:
    try:
        return _read_document(tree, vocabulary, config, entry)
    except DocumentError as error:
        return _rejection(entry.document_id, entry.name, error)
    except Exception as error:  # noqa: BLE001 (one document must not end the partition; it is listed)
        unexpected = DocumentError(RejectReason.UNEXPECTED_ERROR, described(error))
        return _rejection(entry.document_id, entry.name, unexpected)


def _read_document(tree: Path, vocabulary: Vocabulary, config: DatasetConfig, entry: _Entry) -> Accepted:
    content = _read_annotation_file(tree, entry.name, config)
    annotation, counters = parse_annotation(content, vocabulary=vocabulary, config=config)
    check_image_path(annotation.image_path)
    image_bytes = read_file(
        tree, tree / IMAGES / annotation.image_path, limit=config.max_image_bytes, reasons=IMAGE_REASONS
    )
    page = decode_page(image_bytes, config)
    boxes = upright_boxes(annotation, page)
    counters["pages_turned"] = int(page.orientation != 1)
    counters["pages_converted"] = int(page.is_converted)
    counters["duplicates_dropped"] = entry.num_duplicates
    counters["documents_without_words"] = int(not annotation.words)
    counters["unlabelled_po_subtypes"] = int(
        annotation.doc_type == SUBTYPED and annotation.po_subtype is None
    )
    document = Document(
        document_id=entry.document_id,
        doc_type=annotation.doc_type,
        po_subtype=annotation.po_subtype,
        words=annotation.words,
        boxes=boxes,
        labels=annotation.labels,
        width=page.size[0],
        height=page.size[1],
        image_bytes=page.png() if page.is_converted else image_bytes,
        image_path=annotation.image_path,
        page_sha256=page.sha256(),
    )
    return Accepted(document=document, counters=counters)


def upright_boxes(annotation: Annotation, page: Page) -> tuple[Box, ...]:
    """The annotation's boxes in the upright page's frame. Raises DocumentError where nothing tells it."""
    if not _is_frame_turned((annotation.width, annotation.height), page):
        return annotation.boxes
    return tuple(turn_box(box, page.orientation) for box in annotation.boxes)


def _is_frame_turned(declared: tuple[int, int], page: Page) -> bool:
    """Whether the boxes are of the stored frame and must turn with the page.

    The declared size tells which frame the annotator saw; where both frames have one size (a page turned
    upside down, or mirrored), nothing tells.
    """
    if declared not in (page.size, page.stored_size):
        raise DocumentError(
            RejectReason.IMAGE_SIZE_MISMATCH,
            f"width and height are declared as {declared[0]} x {declared[1]}, the file has "
            f"{page.stored_size[0]} x {page.stored_size[1]}; annotate the image that is there",
        )
    if page.orientation == 1:
        return False
    if page.size == page.stored_size:
        raise DocumentError(
            RejectReason.IMAGE_ORIENTATION,
            f"EXIF orientation {page.orientation} keeps the size {page.size[0]} x {page.size[1]}, so "
            "the boxes could be of either frame; turn the pixels themselves and remove the tag",
        )
    return declared == page.stored_size


def _crashed(entry: _Entry) -> Outcome:
    error = DocumentError(
        RejectReason.READER_CRASHED, "the process that read it died, twice; look at the image"
    )
    return _rejection(entry.document_id, entry.name, error)


def _rejection(identity: str | None, name: str, error: DocumentError) -> Rejection:
    return Rejection(
        # A name that cannot be an id still is a document that was lost.
        document_id=identity if identity is not None else printable(name[: -len(".json")]),
        file=printable(f"{ANNOTATIONS}/{name}"),
        reason=error.reason,
        detail=error.detail,
    )


def _notice(reason: RejectReason, place: str, name: str) -> Rejection:
    detail = {
        RejectReason.IMAGE_WITHOUT_ANNOTATION: "no annotation names this image",
        RejectReason.UNEXPECTED_FILE: "is no annotation file (*.json)",
    }[reason]
    return Rejection(document_id=None, file=printable(f"{place}/{name}"), reason=reason, detail=detail)
