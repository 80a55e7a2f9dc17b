"""What `sap-vision report` prints: figures of one domain's evaluated checkpoint, and of no other."""

from collections.abc import Mapping
from typing import Any

from sap_vision_assets.artifacts import Artifact, ArtifactStore, JsonObject
from sap_vision_assets.defs.partitions import GENERAL
from sap_vision_assets.defs.publishing import artifact_name
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    EVALUATION_REPORT,
    LATENCY_BENCHMARK,
    ONNX_MODEL,
    PROMOTED_MODEL,
    TRAINING_SET,
    Scope,
    scope_of,
)
from sap_vision_assets.errors import ArtifactError

SHOWN = ("doc_type_accuracy", "po_subtype_accuracy", "field_f1", "field_precision", "field_recall")
PARITY = ("max_abs_difference", "logits_tolerance", "num_flips", "num_ties", "num_documents", "num_words")


def report(settings: Settings, domain: str) -> JsonObject:
    """Figures of the checkpoint that was evaluated last; ArtifactError when none was yet.

    All metrics of its evaluation report, and parity, int8 and latency as far as they were measured of this
    very checkpoint. "digests" and "made_at" have what belongs to it, "not_shown" the digests of what is
    current but was made from another one: a training that failed a gate leaves the export before it.
    """
    scope, partition = scope_of(domain)
    store = settings.store()
    evaluation = store.current(scope.key(EVALUATION_REPORT), partition)
    command = "sap-vision run" + ("" if domain == GENERAL else f" --domain {domain}")
    if evaluation is None:
        raise ArtifactError(f"{domain}: no model was evaluated yet below {store.root}; run `{command}` first")
    checkpoint = _input(store, scope, evaluation, CHECKPOINT)
    if checkpoint is None:
        raise ArtifactError(
            f"{evaluation.path}: the checkpoint that it scores is gone; run `{command}` again"
        )
    current = {
        asset: store.current(scope.key(asset), partition)
        for asset in (ONNX_MODEL, LATENCY_BENCHMARK, PROMOTED_MODEL)
    }
    onnx = _made_from(checkpoint, current[ONNX_MODEL])
    latency = None if onnx is None else _made_from(onnx, current[LATENCY_BENCHMARK])
    promoted = _made_from(checkpoint, current[PROMOTED_MODEL])
    found: dict[str, Artifact | None] = {
        TRAINING_SET: _input(store, scope, checkpoint, TRAINING_SET),
        CHECKPOINT: checkpoint,
        EVALUATION_REPORT: evaluation,
        ONNX_MODEL: onnx,
        LATENCY_BENCHMARK: latency,
        PROMOTED_MODEL: promoted,
    }
    return {
        "domain": domain,
        "recipe": checkpoint.spec.config["recipe"],
        **evaluation.summary,
        **_latency(latency),
        "onnx": None if onnx is None else {name: onnx.summary.get(name) for name in PARITY},
        "int8": None if onnx is None else _int8(onnx.summary),
        "promoted": promoted is not None,
        "digests": {asset: None if item is None else item.digest for asset, item in found.items()},
        "made_at": {asset: None if item is None else item.created_at for asset, item in found.items()},
        "not_shown": {
            asset: item.digest for asset, item in current.items() if item is not None and found[asset] is None
        },
        "report_html": str(evaluation.path / "report.html"),
    }


def render(record: Mapping[str, Any]) -> str:
    """`report` as a table for a terminal."""
    rows = [
        ("model", f"{record['domain']} ({record['recipe']} recipe)"),
        ("test documents", str(record["num_documents"])),
        *((name.replace("_", " "), _shown(record[name])) for name in SHOWN),
    ]
    not_shown = record["not_shown"]
    latency = record["latency_ms"]
    if latency is not None:
        rows.append(
            ("latency per page", ", ".join(f"{name} {value:.1f}" for name, value in latency.items()) + " ms")
        )
        rows.append(("measured on", f"{record['device']}: {record['hardware']}"))
    elif LATENCY_BENCHMARK in not_shown:
        rows.append(("latency per page", "of another ONNX model, not shown"))
    if record["onnx"] is not None:
        onnx = record["onnx"]
        rows.append(
            (
                "ONNX parity",
                f"max difference {onnx['max_abs_difference']:.1e}, {onnx['num_flips']} answers differ",
            )
        )
        rows.append(("int8", "offered" if record["int8"]["offered"] else str(record["int8"]["reason"])))
    elif ONNX_MODEL in not_shown:
        rows.append(("ONNX model", "of another checkpoint, not shown"))
    another = ", another checkpoint is" if PROMOTED_MODEL in not_shown else ""
    rows.append(("promoted", "yes" if record["promoted"] else f"no{another}"))
    rows.append(("report", str(record["report_html"])))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _input(store: ArtifactStore, scope: Scope, made: Artifact, asset: str) -> Artifact | None:
    """What `made` was made from; None when it is gone. Not verified: a checkpoint has gigabytes."""
    partition = made.spec.partition
    digest = made.spec.inputs[artifact_name(scope.key(asset), partition)]
    return store.find(scope.key(asset), partition, digest)


def _made_from(source: Artifact, made: Artifact | None) -> Artifact | None:
    """`made`, if it was made from `source`."""
    name = artifact_name(source.spec.asset, source.spec.partition)
    return made if made is not None and made.spec.inputs.get(name) == source.digest else None


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
