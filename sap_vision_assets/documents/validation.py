"""Checks annotation folders and says what would be rejected, without writing anything."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.document import Rejection
from sap_vision_assets.documents.files import (
    ANNOTATIONS,
    DOMAIN_RULE,
    IMAGES,
    SPLITS,
    is_domain_name,
    list_names,
)
from sap_vision_assets.documents.reading import read_folder
from sap_vision_assets.documents.reasons import printable
from sap_vision_assets.documents.tally import Tally
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary

_LAYOUT = f"annotations are <domain>/<split>/{ANNOTATIONS}/*.json, a split is one of {', '.join(SPLITS)}"
_MAX_WIDTH = 60
"""Characters to which a column is padded; a longer cell pushes its own row's later cells aside."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What one <domain>/<split> folder holds."""

    name: str
    """Path below the validated path, such as "general/train"."""
    num_documents: int
    rejections: tuple[Rejection, ...]
    """Rejected documents, and notices of files that belong to no document."""
    counters: dict[str, int]

    @property
    def num_rejected(self) -> int:
        return sum(not rejection.reason.is_notice for rejection in self.rejections)


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """The outcome of `validate`."""

    path: Path
    splits: tuple[SplitReport, ...]
    folder_problems: dict[str, str]
    """By folder, why it or its documents are read by nothing: a "trian" beside "val"."""

    @property
    def num_documents(self) -> int:
        """Documents that are accepted."""
        return sum(split.num_documents for split in self.splits)

    @property
    def num_rejected(self) -> int:
        return sum(split.num_rejected for split in self.splits)

    def render(self) -> str:
        """Plain text: splits, then reasons, then each file with its reason and detail."""
        files = [(split.name, rejection) for split in self.splits for rejection in split.rejections]
        reasons = Counter(str(rejection.reason) for _, rejection in files)
        counters: Counter[str] = Counter()
        for split in self.splits:
            counters.update(split.counters)
        parts = [
            f"{printable(str(self.path))}: {self.num_documents} documents accepted, "
            f"{self.num_rejected} rejected",
            _table(
                ("split", "accepted", "rejected"),
                [(split.name, str(split.num_documents), str(split.num_rejected)) for split in self.splits],
            ),
            _table(
                ("reason", "files"),
                [
                    (reason, str(count))
                    for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))
                ],
            ),
            _table(
                ("repaired or noticed", "count"),
                [(name, str(count)) for name, count in counters.items() if count],
            ),
            _table(
                ("file", "reason", "detail"),
                [(f"{name}/{r.file}".removeprefix("./"), str(r.reason), r.detail) for name, r in files],
            ),
            "\n".join(f"{folder}: {problem}" for folder, problem in self.folder_problems.items()),
            "" if self.num_documents + self.num_rejected else f"no document: {_LAYOUT}",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def validate(path: Path, vocabulary: Vocabulary, config: DatasetConfig | None = None) -> ValidationReport:
    """Reads every document below `path`: a split's folder, a domain's, or a data root.

    Raises InputError when there is no such folder or nothing in it looks like one of the three.
    """
    if not path.is_dir():
        raise InputError(
            f"{path}: is no folder; give a data root, <root>/<domain>, or <root>/<domain>/<split>"
        )
    splits, problems = _find_splits(path)
    if not splits:
        raise InputError(f"{path}: has no {ANNOTATIONS}/, and no split below it; {_LAYOUT}")
    reports = []
    for name, folder in splits:
        tally = Tally()
        for outcome in read_folder(folder, vocabulary=vocabulary, config=config or DatasetConfig()):
            tally.add(outcome)
        reports.append(
            SplitReport(
                name=name,
                num_documents=tally.num_documents,
                rejections=tuple(sorted(tally.rejections, key=lambda rejection: rejection.file)),
                counters=tally.counter_values(),
            )
        )
    return ValidationReport(path=path, splits=tuple(reports), folder_problems=problems)


def _find_splits(path: Path) -> tuple[list[tuple[str, Path]], dict[str, str]]:
    """Splits below `path` by name, and what is wrong with folders, by name."""
    if _is_split(path):
        return [(".", path)], _problems_of_split(path, "")
    if any((path / split).is_dir() for split in SPLITS):
        return _splits_of_domain(path, path.resolve().name, "")
    found: list[tuple[str, Path]] = []
    problems: dict[str, str] = {}
    for domain in _folders(path):
        splits, others = _splits_of_domain(path / domain, domain, f"{domain}/")
        found += splits
        problems |= others if splits else {printable(domain): f"has no split ({', '.join(SPLITS)})"}
    return found, problems


def _splits_of_domain(
    folder: Path, domain: str, prefix: str
) -> tuple[list[tuple[str, Path]], dict[str, str]]:
    problems = {}
    if not is_domain_name(domain):
        problems[printable(domain)] = f"is no name of a domain: {DOMAIN_RULE}; rename the folder"
    folders = _folders(folder)
    splits = [(f"{prefix}{name}", folder / name) for name in SPLITS if name in folders]
    for label, split in splits:
        problems |= _problems_of_split(split, f"{label}/")
    for name in folders:
        if name not in SPLITS:
            problems[printable(f"{prefix}{name}")] = f"is no split ({', '.join(SPLITS)}); nothing reads it"
    return splits, problems


def _problems_of_split(split: Path, prefix: str) -> dict[str, str]:
    folders = _folders(split)
    problems = {
        printable(f"{prefix}{name}"): f"is neither {ANNOTATIONS}/ nor {IMAGES}/; nothing reads it"
        for name in folders
        if name not in (ANNOTATIONS, IMAGES)
    }
    if ANNOTATIONS not in folders:
        problems[printable(prefix.rstrip("/")) or "."] = f"has no {ANNOTATIONS}/, so no document"
    return problems


def _folders(path: Path) -> list[str]:
    return [name for name in list_names(path) if not name.startswith(".") and (path / name).is_dir()]


def _is_split(path: Path) -> bool:
    return (path / ANNOTATIONS).is_dir() or (path / IMAGES).is_dir()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell, up to a limit; nothing for no rows."""
    if not rows:
        return ""
    widths = [min(_MAX_WIDTH, max(len(row[column]) for row in [head, *rows])) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
