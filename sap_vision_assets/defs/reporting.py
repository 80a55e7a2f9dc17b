"""What `sap-vision report` prints: figures of one domain's current model, each with what it belongs to."""

from collections.abc import Mapping
from typing import Any

from sap_vision_assets.artifacts import Artifact, JsonObject
from sap_vision_assets.defs.partitions import GENERAL
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    EVALUATION_REPORT,
    LATENCY_BENCHMARK,
    MODEL_ASSETS,
    ONNX_MODEL,
    PROMOTED_MODEL,
    scope_of,
)
from sap_vision_assets.errors import ArtifactError

METRICS = (
    "doc_type_accuracy",
    "po_subtype_accuracy",
    "field_f1",
    "field_precision",
    "field_recall",
    "num_documents",
)
PARITY = ("max_abs_difference", "logits_tolerance", "num_flips", "num_ties", "num_documents", "num_words")


def report(settings: Settings, domain: str) -> JsonObject:
    """Figures of the current artefacts of `domain`'s model; ArtifactError when nothing was evaluated yet."""
    scope, partition = scope_of(domain)
    store = settings.store()
    found = {asset: store.current(scope.key(asset), partition) for asset in MODEL_ASSETS}
    checkpoint, evaluation = found[CHECKPOINT], found[EVALUATION_REPORT]
    if checkpoint is None or evaluation is None:
        command = "sap-vision run" + ("" if domain == GENERAL else f" --domain {domain}")
        raise ArtifactError(f"{domain}: no model was evaluated yet below {store.root}; run `{command}` first")
    onnx, latency, promoted = found[ONNX_MODEL], found[LATENCY_BENCHMARK], found[PROMOTED_MODEL]
    is_promoted = promoted is not None and evaluation.digest in promoted.spec.inputs.values()
    return {
        "domain": domain,
        "recipe": checkpoint.spec.config["recipe"],
        **{name: evaluation.summary.get(name) for name in METRICS},
        **_latency(latency),
        "onnx": None if onnx is None else {name: onnx.summary.get(name) for name in PARITY},
        "int8": None if onnx is None else _int8(onnx.summary),
        "promoted": is_promoted,
        "digests": {asset: None if item is None else item.digest for asset, item in found.items()},
        "made_at": {asset: None if item is None else item.created_at for asset, item in found.items()},
        "report_html": str(evaluation.path / "report.html"),
    }


def render(record: Mapping[str, Any]) -> str:
    """`report` as a table for a terminal."""
    rows = [
        ("model", f"{record['domain']} ({record['recipe']} recipe)"),
        ("test documents", str(record["num_documents"])),
        *((name.replace("_", " "), _shown(record[name])) for name in METRICS[:-1]),
    ]
    latency = record["latency_ms"]
    if latency is not None:
        rows.append(
            ("latency per page", ", ".join(f"{name} {value:.1f}" for name, value in latency.items()) + " ms")
        )
        rows.append(("measured on", f"{record['device']}: {record['hardware']}"))
    if record["onnx"] is not None:
        onnx = record["onnx"]
        rows.append(
            (
                "ONNX parity",
                f"max difference {onnx['max_abs_difference']:.1e}, {onnx['num_flips']} answers differ",
            )
        )
        rows.append(("int8", "offered" if record["int8"]["offered"] else str(record["int8"]["reason"])))
    rows.append(("promoted", "yes" if record["promoted"] else "no"))
    rows.append(("report", str(record["report_html"])))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _latency(latency: Artifact | None) -> JsonObject:
    names = ("latency_ms", "device", "hardware", "variants")
    return {name: None if latency is None else latency.summary.get(name) for name in names}


def _int8(summary: JsonObject) -> JsonObject:
    return {
        "offered": summary["int8_offered"],
        "reason": summary["int8_reason"],
        **summary.get("int8", {}),
    }


def _shown(value: float | None) -> str:
    return "undefined, n=0" if value is None else f"{value:.4f}"
