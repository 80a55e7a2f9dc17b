"""What importers share: pages of a source, their split, and writing them as a domain's folder."""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sap_vision_assets.documents.annotation import BOX_MAX, Box, parse_annotation
from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.files import (
    ANNOTATION_REASONS,
    ANNOTATIONS,
    DOMAIN_RULE,
    IMAGE_REASONS,
    IMAGES,
    SPLITS,
    document_id,
    is_domain_name,
    list_names,
    read_file,
)
from sap_vision_assets.documents.importers.report import ImportProblem, ImportReport
from sap_vision_assets.documents.page import decode_page
from sap_vision_assets.documents.reasons import described, printable
from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.vocabulary import Vocabulary

VOCABULARY_FILE = "vocabulary.json"
"""A source's vocabulary extension, in the data root beside the domains."""
NEAR_DUPLICATE = 0.8
"""Share of common words, of all words of two pages, from which on they go into one split."""


@dataclass(frozen=True, kw_only=True)
class SourcePage:
    """A page of the source, converted."""

    name: str
    image: Path
    doc_type: str
    words: list[str]
    boxes: list[Box]
    token_labels: list[int]
    width: int
    height: int

    @property
    def image_name(self) -> str:
        return f"{self.name}{self.image.suffix.lower()}"

    @property
    def annotation_bytes(self) -> bytes:
        record = {
            "image_path": self.image_name,
            "doc_type": self.doc_type,
            "words": self.words,
            "boxes": self.boxes,
            "token_labels": self.token_labels,
            "width": self.width,
            "height": self.height,
        }
        return json.dumps(record, ensure_ascii=False).encode()


SourceFiles = Mapping[str, Path]
"""The files of one document, by the folder of the source that each is in."""


@dataclass
class Notes:
    """Counters and problems of an import under way."""

    counters: Counter[str] = field(default_factory=Counter)
    problems: list[ImportProblem] = field(default_factory=list)

    def add(self, document: str, kind: str, detail: str) -> None:
        self.problems.append(ImportProblem(document=printable(document), kind=kind, detail=printable(detail)))


def pair_files(
    src: Path, suffixes: Mapping[str, str], notes: Notes, *, besides: Collection[str] = ()
) -> dict[str, SourceFiles]:
    """The files of each document by its name: one in every folder of `suffixes`, with that folder's suffix.

    Suffixes may be of either case. What has no partner in another folder is listed as unpaired, any other
    file as unexpected_file, unless its name is one of `besides`. Raises InputError when a folder cannot be
    listed.
    """
    found: dict[str, dict[str, Path]] = {}
    for folder, suffix in suffixes.items():
        for name in sorted({*list_names(src / folder)} - {*besides}):
            file = src / folder / name
            if file.suffix.lower() != suffix:
                notes.add(name, "unexpected_file", f"{folder}/{name}: is no *{suffix}; not read")
            elif folder in found.get(file.stem, {}):
                notes.add(name, "unexpected_file", f"{folder}/{name}: a second {file.stem}{suffix}; not read")
            else:
                found.setdefault(file.stem, {})[folder] = file
    for name, files in sorted(found.items()):
        missing = [f"{folder}/{name}{suffixes[folder]}" for folder in suffixes if folder not in files]
        if missing:
            have = ", ".join(f"{folder}/{file.name}" for folder, file in files.items())
            notes.add(name, "unpaired", f"{have}: not read, {' and '.join(missing)} is not there")
    return {name: files for name, files in sorted(found.items()) if len(files) == len(suffixes)}


def convert_each(
    src: Path,
    files_by_name: Mapping[str, SourceFiles],
    convert: Callable[[str, SourceFiles, Notes], SourcePage],
    notes: Notes,
    vocabulary: Vocabulary,
) -> list[SourcePage]:
    """convert(name, files, notes) for each document; one that fails is listed as skipped, and nothing of it
    is counted. Raises InputError when none is left."""
    pages = []
    for name, files in files_by_name.items():
        own = Notes()
        try:
            document_id(f"{name}.json")
            page = convert(name, files, own)
            # What the dataset would reject later is listed now.
            parse_annotation(page.annotation_bytes, vocabulary=vocabulary, config=DatasetConfig())
        except Exception as error:  # noqa: BLE001 (one document must not end the import; it is listed)
            notes.add(name, "skipped", described(error))
            continue
        pages.append(page)
        notes.counters.update(own.counters)
        notes.problems += own.problems
    if not pages:
        why = next((f": {p.document}: {p.kind}: {p.detail}" for p in notes.problems), "")
        raise InputError(f"{src}: has no document that can be imported{why}; check the source's folders")
    return pages


def read_image_size(file: Path) -> tuple[int, int]:
    """Width and height in pixels, as the file has them. Raises DocumentError when it is no sound page."""
    config = DatasetConfig()
    data = read_file(file.parent.resolve(), file, limit=config.max_image_bytes, reasons=IMAGE_REASONS)
    return decode_page(data, config).stored_size


def read_text_file(file: Path) -> bytes:
    """The bytes of an annotation. Raises DocumentError when it is no regular file within the limits."""
    limit = DatasetConfig().max_annotation_bytes
    return read_file(file.parent.resolve(), file, limit=limit, reasons=ANNOTATION_REASONS)


def norm_box(box_px: tuple[float, float, float, float], width: int, height: int, notes: Notes) -> Box:
    """Pixels to thousandths of the page; what lies outside of the page is moved to its edge and counted.

    Raises ValueError for a box that is not four finite numbers.
    """
    if len(box_px) != 4 or not all(map(math.isfinite, box_px)):
        raise ValueError(f"box {list(box_px)}: must be four finite numbers; correct the source")
    x1, y1, x2, y2 = box_px
    if min(box_px) < 0 or max(x1, x2) > width or max(y1, y2) > height:
        notes.counters["boxes_moved_to_the_edge"] += 1

    def scaled(value: float, size: int) -> int:
        return min(max(round(value * BOX_MAX / size), 0), BOX_MAX)

    return (
        scaled(min(x1, x2), width),
        scaled(min(y1, y2), height),
        scaled(max(x1, x2), width),
        scaled(max(y1, y2), height),
    )


def assign_splits(
    pages: Sequence[SourcePage], notes: Notes, *, test_share: float, val_share: float
) -> dict[str, str]:
    """Split by page name: round(share x pages) pages each, drawn by the hash of the name, so the same every
    time. Near duplicates stay together, and are counted."""
    if min(test_share, val_share) < 0 or test_share + val_share >= 1:
        raise InputError(f"test_share={test_share}, val_share={val_share}: must be shares with a sum below 1")
    room = {"test": round(len(pages) * test_share), "val": round(len(pages) * val_share), "train": len(pages)}
    groups = _near_duplicates(pages)
    notes.counters["pages_with_a_near_duplicate"] = sum(len(group) for group in groups if len(group) > 1)
    found = {}
    for group in sorted(groups, key=lambda names: hashlib.sha256(names[0].encode()).digest()):
        split = next(name for name, free in room.items() if len(group) <= free)
        room[split] -= len(group)
        found.update(dict.fromkeys(group, split))
    return found


def _near_duplicates(pages: Sequence[SourcePage]) -> list[list[str]]:
    bags = [Counter(page.words) for page in pages]
    contents = [hashlib.sha256(page.image.read_bytes()).digest() for page in pages]
    group_of = list(range(len(pages)))
    for index, bag in enumerate(bags):
        for other in range(index):
            if contents[index] == contents[other] or _similarity(bag, bags[other]) >= NEAR_DUPLICATE:
                old, new = group_of[index], group_of[other]
                group_of = [new if group == old else group for group in group_of]
    groups: dict[int, list[str]] = {}
    for page, group in zip(pages, group_of, strict=True):
        groups.setdefault(group, []).append(page.name)
    return list(groups.values())


def _similarity(left: Counter[str], right: Counter[str]) -> float:
    sizes = left.total(), right.total()
    # The cheap bound first: most pairs differ too much in length to reach the threshold.
    if not min(sizes) or min(sizes) / max(sizes) < NEAR_DUPLICATE:
        return 0.0
    common = (left & right).total()
    return common / (sum(sizes) - common)


def write_domain(
    pages: Sequence[SourcePage],
    splits: dict[str, str],
    out: Path,
    domain: str,
    *,
    source: str,
    notes: Notes,
    vocabulary: Vocabulary,
    extension: bytes | None = None,
) -> ImportReport:
    """Writes <out>/<domain>/<split>/images and annotations, and import_report.json beside the splits.

    The folder appears at once when all is there, and with it <out>/vocabulary.json, the vocabulary
    `extension` of the source where it has one. Raises ArtifactError, and leaves no part of them, when they
    cannot be written.
    """
    target = out / domain
    draft = out / f".{domain}.importing"
    begins = Counter(label for page in pages for label in page.token_labels if label % 2 == 1)
    sizes = Counter(splits[page.name] for page in pages)
    report = ImportReport(
        source=source,
        folder=target,
        documents={split: sizes[split] for split in SPLITS},
        entities={vocabulary.field_names[label // 2]: count for label, count in sorted(begins.items())},
        counters=dict(sorted(notes.counters.items())),
        problems=tuple(notes.problems),
    )
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write_pages(pages, splits, draft)
        report.write(draft)
        if extension is not None:
            (draft / VOCABULARY_FILE).write_bytes(extension)
            (draft / VOCABULARY_FILE).replace(out / VOCABULARY_FILE)
        draft.rename(target)
    except OSError as error:
        raise ArtifactError(
            f"{target}: cannot be written ({error}); free space or fix the rights, and import again"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report


def _write_pages(pages: Sequence[SourcePage], splits: dict[str, str], draft: Path) -> None:
    for split in SPLITS:
        (draft / split / IMAGES).mkdir(parents=True)
        (draft / split / ANNOTATIONS).mkdir()
    for page in pages:
        folder = draft / splits[page.name]
        shutil.copyfile(page.image, folder / IMAGES / page.image_name)
        (folder / ANNOTATIONS / f"{page.name}.json").write_bytes(page.annotation_bytes)


def check_target(out: Path, domain: str) -> None:
    """Raises InputError unless <out>/<domain> can be made."""
    if not is_domain_name(domain):
        raise InputError(f"domain {domain!r}: {DOMAIN_RULE}")
    if (out / domain).exists():
        raise InputError(f"{out / domain}: exists already; remove it, or import under another domain")


def require_folders(src: Path, names: Sequence[str]) -> None:
    """Raises InputError naming the first folder that the source lacks."""
    for name in names:
        if not (src / name).is_dir():
            raise InputError(f"{src / name}: is no folder; the source has {', '.join(names)}")
