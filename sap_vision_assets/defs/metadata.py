"""Summaries as Dagster metadata. It lives in the event log, so tables and pictures stay small."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from sap_vision_assets.artifacts import Artifact
from sap_vision_assets.evaluation.gates import GateResult

MAX_ROWS = 200
MAX_PICTURE_BYTES = 70_000
_PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """A table of the first MAX_ROWS rows; columns are those of the first row, None becomes "undefined".

    Without rows it says "none".
    """
    rows = rows or [{"rows": "none"}]
    columns = list(rows[0])
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows[:MAX_ROWS]]
    return dg.MetadataValue.table(
        records=records, schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns])
    )


def count_table(kind: str, counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Counts by name, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return table([{kind: name, "count": count} for name, count in ordered] or [{kind: "none", "count": 0}])


def score_table(kind: str, scores: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Scores by name, the most frequent first; without what neither occurred nor was predicted."""
    seen = [row for row in scores if row["support"] or row["num_predicted"]]
    return table(
        [
            {kind: row["name"], **{name: row[name] for name in ("f1", "precision", "recall", "support")}}
            for row in sorted(seen, key=lambda row: (-row["support"], row["name"]))
        ]
        or [{kind: "none", "support": 0}]
    )


def gate_tables(gates: Sequence[GateResult]) -> dict[str, dg.TableMetadataValue | dg.MarkdownMetadataValue]:
    """The gates' numbers as a table, and what each found as text: the UI cuts long cells off."""
    rows = [
        {"gate": gate.name, "passed": gate.passed, "value": gate.value, "limit": gate.limit} for gate in gates
    ]
    findings = [f"- **{gate.name}** {'passed' if gate.passed else 'failed'}: {gate.text}" for gate in gates]
    return {"gates": table(rows), "gate_findings": dg.MetadataValue.md("\n".join(findings))}


def picture(file: Path) -> dg.MarkdownMetadataValue | None:
    """The picture shown in place, or None when it is too large for the event log or no PNG or JPEG."""
    kind = _PICTURE_TYPES.get(file.suffix.lower())
    if kind is None or file.stat().st_size > MAX_PICTURE_BYTES:
        return None
    encoded = base64.b64encode(file.read_bytes()).decode()
    return dg.MetadataValue.md(f"![{file.stem}](data:{kind};base64,{encoded})")


def pictures(folder: Path, limit: int = 6) -> dict[str, dg.MarkdownMetadataValue]:
    """The first `limit` small enough pictures below `folder`, by file name."""
    shown: dict[str, dg.MarkdownMetadataValue] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in _PICTURE_TYPES and len(shown) < limit:
            value = picture(file)
            if value is not None:
                shown[file.stem] = value
    return shown


def tracking_links(checkpoint: Artifact) -> dict[str, dg.UrlMetadataValue | dg.PathMetadataValue]:
    """Where a training can be looked at: a URL, or a folder of TensorBoard's or of an offline run."""
    links: dict[str, dg.UrlMetadataValue | dg.PathMetadataValue] = {}
    if url := checkpoint.summary.get("tracking_url"):
        links["tracking_url"] = dg.MetadataValue.url(url)
    if folder := checkpoint.summary.get("tracking_folder"):
        links["tracking_folder"] = dg.MetadataValue.path(str(checkpoint.path / folder))
    return links


def headline(summary: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named numbers as floats, so that Dagster plots them over time; undefined ones as a sentence."""
    return {
        name: "undefined, n=0" if summary[name] is None else float(summary[name])
        for name in names
        if name in summary
    }


def _cell(value: Any) -> str | int | float | bool:
    if value is None:
        return "undefined"
    if isinstance(value, float):
        # Digits where decimals would leave nothing: a difference of 1.2e-6 is not 0.
        return round(value, 4) if abs(value) >= 0.001 else float(f"{value:.4g}")
    return value if isinstance(value, str | int | float | bool) else str(value)
