"""Split folders made by hand: real files on disk, small enough to write by the hundred."""

import io
import json
import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sap_vision_assets.documents import DatasetConfig, Document
from sap_vision_assets.documents.document import Accepted, Rejection
from sap_vision_assets.documents.reading import read_folder
from sap_vision_assets.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
WIDTH, HEIGHT = 60, 80


def page(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """White, with a dark rectangle in the top left quarter: it shows how the page is turned."""
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).rectangle((5, 5, size[0] // 3, size[1] // 4), fill=30)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def annotation(**changes: Any) -> dict[str, Any]:
    record = {
        "image_path": "doc.png",
        "doc_type": "INVOICE",
        "words": ["Invoice", "4711", "ACME", "GmbH"],
        "boxes": [[100, 50, 200, 70], [220, 50, 300, 70], [100, 100, 180, 120], [190, 100, 260, 120]],
        "token_labels": [0, 1, VOCABULARY.begin_id("senderName"), VOCABULARY.begin_id("senderName") + 1],
        "width": WIDTH,
        "height": HEIGHT,
    }
    return {key: value for key, value in (record | changes).items() if value is not ...}


class SplitFolder:
    """<path>/images and <path>/annotations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "images").mkdir(parents=True)
        (path / "annotations").mkdir()

    def image(self, name: str) -> Path:
        return self.path / "images" / name

    def annotation(self, name: str) -> Path:
        return self.path / "annotations" / name

    def add(self, name: str = "doc", *, image: bytes | None = None, **changes: Any) -> None:
        """A document; `changes` replace keys of the annotation, and ... removes one."""
        self.image(f"{name}.png").write_bytes(encoded(page()) if image is None else image)
        record = annotation(**({"image_path": f"{name}.png"} | changes))
        self.annotation(f"{name}.json").write_text(json.dumps(record))

    def change(self, **changes: Any) -> None:
        """Replaces keys of doc's annotation."""
        record = json.loads(self.annotation("doc.json").read_text()) | changes
        kept = {key: value for key, value in record.items() if value is not ...}
        self.annotation("doc.json").write_text(json.dumps(kept))

    def read(self, **config: Any) -> tuple[dict[str, Document], list[Rejection]]:
        """Accepted documents by id, and the rejections."""
        outcomes = list(self.outcomes(**config))
        accepted = {o.document.document_id: o.document for o in outcomes if isinstance(o, Accepted)}
        return accepted, [outcome for outcome in outcomes if isinstance(outcome, Rejection)]

    def outcomes(self, **config: Any) -> list[Accepted | Rejection]:
        settings = DatasetConfig(**({"workers": 1} | config))
        return list(read_folder(self.path, vocabulary=VOCABULARY, config=settings))

    def counters(self) -> dict[str, int]:
        """Counters above zero of the one document that is there."""
        (outcome,) = self.outcomes()
        assert isinstance(outcome, Accepted)
        return {name: count for name, count in outcome.counters.items() if count}


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond `room` bytes, in this process or in one that it starts meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # Python ignores the signal: writing raises.
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def _rows(width: int, height: int, passes: list[tuple[int, int, int, int]]) -> Iterator[int]:
    """Pixels of each row that a PNG stores, pass by pass."""
    for left, top, right, down in passes:
        for _ in range(top, height, down):
            if left < width:
                yield len(range(left, width, right))


def png(
    width: int, height: int, *, text: bytes = b"", num_rows: int | None = None, interlaced: bool = False
) -> bytes:
    """A white page of 1 bit a pixel, made without holding its pixels; `text` goes into a zTXt chunk."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    compressor = zlib.compressobj(1)
    rows = list(_rows(width, height, ADAM7 if interlaced else [(0, 0, 1, 1)]))[:num_rows]
    pixels = b"".join(compressor.compress(b"\0" + b"\xff" * ((columns + 7) // 8)) for columns in rows)
    pixels += compressor.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, interlaced))
    note = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text)) if text else b""
    return b"\x89PNG\r\n\x1a\n" + header + note + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
