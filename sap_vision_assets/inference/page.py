"""A page as production gets it: a JSON of OCR words with boxes, and its image. Both are untrusted."""

from dataclasses import dataclass
from pathlib import Path

from sap_vision_assets.documents import Box, DatasetConfig, DocumentError, RejectReason
from sap_vision_assets.documents.annotation import parse_annotation
from sap_vision_assets.documents.files import (
    ANNOTATION_REASONS,
    ANNOTATIONS,
    IMAGE_REASONS,
    IMAGES,
    check_image_path,
    read_file,
)
from sap_vision_assets.documents.page import decode_page
from sap_vision_assets.documents.reading import upright_boxes
from sap_vision_assets.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class PageInput:
    """One page, checked as training data is."""

    page_id: str
    """The JSON file's stem."""
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    """Thousandths of the upright page."""
    image_bytes: bytes
    """The file as it was found, or a PNG where the page had to be turned or converted."""


def read_page(
    file: Path, *, image: Path | None, vocabulary: Vocabulary, config: DatasetConfig | None = None
) -> PageInput:
    """The page that `file` describes: image_path, words, boxes, width, height; labels are not looked at.

    The image is `image`, or image_path beside `file`, or in ../images as in a dataset. Raises DocumentError,
    an InputError that says what is wrong with which file.
    """
    config = config or DatasetConfig()
    folder = file.absolute().parent
    content = read_file(
        folder.resolve(), folder / file.name, limit=config.max_annotation_bytes, reasons=ANNOTATION_REASONS
    )
    annotation, _ = parse_annotation(content, vocabulary=vocabulary, config=config, labelled=False)
    if image is None:
        check_image_path(annotation.image_path)
        image = _find_image(folder, annotation.image_path)
    image_bytes = read_file(
        image.absolute().parent.resolve(),
        image.absolute(),
        limit=config.max_image_bytes,
        reasons=IMAGE_REASONS,
    )
    page = decode_page(image_bytes, config)
    return PageInput(
        page_id=file.stem,
        words=annotation.words,
        boxes=upright_boxes(annotation, page),
        image_bytes=page.png() if page.is_converted else image_bytes,
    )


def _find_image(folder: Path, name: str) -> Path:
    places = [folder, folder.parent / IMAGES] if folder.name == ANNOTATIONS else [folder]
    for place in places:
        if (place / name).exists():
            return place / name
    raise DocumentError(
        RejectReason.IMAGE_MISSING,
        f"image_path {name!r} is not in {' or '.join(map(str, places))}; put it there, or pass --image",
    )
