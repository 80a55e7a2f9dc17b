"""What importers share: pages of a source, their split, and writing them as a domain's folder."""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sap_vision_assets.documents.annotation import BOX_MAX, Box
from sap_vision_assets.documents.files import ANNOTATIONS, IMAGES, SPLITS
from sap_vision_assets.documents.importers.report import ImportProblem, ImportReport
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary

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


@dataclass
class Notes:
    """Counters and problems of an import under way."""

    counters: Counter[str] = field(default_factory=Counter)
    problems: list[ImportProblem] = field(default_factory=list)

    def add(self, document: str, kind: str, detail: str) -> None:
        self.problems.append(ImportProblem(document=document, kind=kind, detail=detail))


def norm_box(box_px: tuple[float, float, float, float], width: int, height: int, notes: Notes) -> Box:
    """Pixels to thousandths of the page; what lies outside of the page is moved to its edge and counted."""
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
) -> ImportReport:
    """Writes <out>/<domain>/<split>/images and annotations, and import_report.json beside the splits.

    The folder appears at once when all is there. Raises InputError when it is there already.
    """
    target = out / domain
    draft = out / f".{domain}.importing"
    shutil.rmtree(draft, ignore_errors=True)
    for split in SPLITS:
        (draft / split / IMAGES).mkdir(parents=True)
        (draft / split / ANNOTATIONS).mkdir()
    for page in pages:
        folder = draft / splits[page.name]
        image_name = f"{page.name}{page.image.suffix}"
        shutil.copyfile(page.image, folder / IMAGES / image_name)
        record = {
            "image_path": image_name,
            "doc_type": page.doc_type,
            "words": page.words,
            "boxes": page.boxes,
            "token_labels": page.token_labels,
            "width": page.width,
            "height": page.height,
        }
        (folder / ANNOTATIONS / f"{page.name}.json").write_text(
            json.dumps(record, ensure_ascii=False), encoding="utf-8"
        )
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
    report.write(draft)
    draft.rename(target)
    return report


def check_target(out: Path, domain: str) -> None:
    """Raises InputError unless <out>/<domain> can be made."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", domain):
        raise InputError(f"domain {domain!r}: must be lower case letters, digits, - and _")
    if (out / domain).exists():
        raise InputError(f"{out / domain}: exists already; remove it, or import under another domain")


def require_folders(src: Path, names: Sequence[str]) -> None:
    """Raises InputError naming the first folder that the source lacks."""
    for name in names:
        if not (src / name).is_dir():
            raise InputError(f"{src / name}: is no folder; the source has {', '.join(names)}")
