"""What an import did: documents a split, entities a field, and everything that could not be taken over."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

REPORT_FILE = "import_report.json"


@dataclass(frozen=True, kw_only=True)
class ImportProblem:
    """Something of the source that is not in the result as it stood."""

    document: str
    kind: str
    """Such as "not_projected:grossAmount" or "skipped"."""
    detail: str


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """The outcome of an import."""

    source: str
    """Name of the data set."""
    folder: Path
    """The domain's folder that was written."""
    documents: dict[str, int]
    """Documents by split."""
    entities: dict[str, int]
    """Entities by field, over all splits."""
    counters: dict[str, int]
    """What was dropped or bent on the way, by name."""
    problems: tuple[ImportProblem, ...]

    @property
    def num_documents(self) -> int:
        return sum(self.documents.values())

    def render(self) -> str:
        """Plain text: totals, then every problem with its document."""
        kinds = Counter(problem.kind for problem in self.problems)
        lines = [f"{self.source}: {self.num_documents} documents in {self.folder}"]
        for title, counts in (
            ("documents", self.documents),
            ("entities", self.entities),
            ("counted", self.counters),
            ("problems", kinds),
        ):
            lines += ["", title, *(f"  {name:<36} {count:>6}" for name, count in counts.items())]
        if self.problems:
            lines += ["", *(f"{p.document}: {p.kind}: {p.detail}" for p in self.problems)]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        record = asdict(self) | {"folder": self.folder.name}
        (folder / REPORT_FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
