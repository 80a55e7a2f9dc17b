"""Bodies of what follows a checkpoint: evaluation, export, latency, promotion."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg

from sap_vision_assets.artifacts import Artifact, ArtifactSpec, JsonObject
from sap_vision_assets.defs import gating
from sap_vision_assets.defs.dataset import TOKENIZED_SHARDS, VALIDATED_DATASET
from sap_vision_assets.defs.metadata import gate_tables, headline, pictures, score_table, table
from sap_vision_assets.defs.partitions import TEST, VAL, split_key
from sap_vision_assets.defs.publishing import (
    UP_TO_DATE,
    follow,
    inputs_of,
    materialized,
    partition_of,
    produce,
)
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    EVALUATION_REPORT,
    ONNX_MODEL,
    Scope,
)
from sap_vision_assets.defs.training import BEST, current_shards
from sap_vision_assets.errors import ArtifactError, CheckpointError, VocabularyMismatchError
from sap_vision_assets.versions import code_version

EVALUATION_STATIONS = ("evaluation", "training", "encoder", "shards", "vocabulary")
EXPORT_STATIONS = ("export", *EVALUATION_STATIONS)
PROMOTION_STATIONS = ("export", "vocabulary")
HEADLINE = ("doc_type_accuracy", "po_subtype_accuracy", "field_f1", "field_precision", "field_recall")
AVERAGES = tuple(
    f"{head}_{score}_{average}"
    for head in ("doc_type", "po_subtype", "field")
    for average in ("weighted", "macro")
    for score in ("precision", "recall", "f1")
)
LATENCIES = ("mean", "min", "max", "p50", "p95", "p99")


def evaluate_checkpoint(
    context: dg.AssetExecutionContext, settings: Settings, scope: Scope
) -> dg.MaterializeResult[Any]:
    partition = partition_of(context)
    store = settings.store()
    checkpoint = store.require(scope.key(CHECKPOINT), partition)
    spec, make = _evaluation(settings, scope, checkpoint)
    artifact = store.produce(spec, make)
    if artifact.reused:
        context.log.info(f"{spec.asset} {partition}: {UP_TO_DATE}")
    _evaluate_promoted(context, settings, scope, artifact)
    report = gating.quality_gates(store, settings, scope, artifact)
    scores = json.loads((artifact.path / "report.json").read_bytes())
    return materialized(
        artifact,
        {
            **headline(artifact.summary, HEADLINE),
            "num_documents": artifact.summary["num_documents"],
            **gate_tables(report),
            "fields": score_table("field", scores["fields"]["per_field"]),
            "doc_types": score_table("doc_type", scores["doc_type"]["per_class"]),
            "po_subtypes": score_table("po_subtype", scores["po_subtype"]["per_class"]),
            **headline(artifact.summary, AVERAGES),
            "report_html": dg.MetadataValue.path(str(artifact.path / "report.html")),
            "report_json": dg.MetadataValue.path(str(artifact.path / "report.json")),
            **pictures(artifact.path),
        },
    )


def _evaluation(
    settings: Settings, scope: Scope, checkpoint: Artifact, asset: str = EVALUATION_REPORT
) -> tuple[ArtifactSpec, Callable[[Path], JsonObject]]:
    """The report of `checkpoint` on today's test split, and how it is made."""
    store, vocabulary = settings.store(), settings.vocabulary()
    domain = scope.domain(checkpoint.spec.partition)
    test_shards = current_shards(store, domain, TEST)
    test_dataset = follow(store, test_shards, VALIDATED_DATASET, split_key(domain, TEST))
    val_shards = follow(store, checkpoint, TOKENIZED_SHARDS, split_key(domain, VAL))
    spec = ArtifactSpec(
        asset=scope.key(asset),
        partition=checkpoint.spec.partition,
        inputs=inputs_of(checkpoint, test_shards, test_dataset, val_shards),
        config={"vocabulary_digest": vocabulary.digest},
        code_version=code_version(*EVALUATION_STATIONS),
    )

    def make(out: Path) -> JsonObject:
        from sap_vision_assets.evaluation.report import evaluate  # noqa: PLC0415

        return evaluate(
            checkpoint.path / BEST,
            test_shards=test_shards.path,
            test_dataset=test_dataset.path,
            val_shards=val_shards.path,
            out=out,
            vocabulary=vocabulary,
        )

    return spec, make


def _evaluate_promoted(
    context: dg.AssetExecutionContext, settings: Settings, scope: Scope, report: Artifact
) -> None:
    """Scores the promoted checkpoint on today's test split where it changed since: else nothing compares."""
    store = settings.store()
    then = gating.promoted_report(store, scope, report.spec.partition)
    if then is None or then.summary.get("test_digest") == report.summary.get("test_digest"):
        return
    promoted = follow(store, then, scope.key(CHECKPOINT), report.spec.partition)
    if promoted.digest in report.spec.inputs.values():
        return  # it is the checkpoint that was scored
    context.log.info("the test split has changed since the promotion: scoring the promoted model on it too")
    try:
        store.produce(*_evaluation(settings, scope, promoted, asset=gating.PROMOTED_TODAY))
    except (VocabularyMismatchError, CheckpointError, ArtifactError) as error:
        # The gate then says that nothing could be compared, and the floors decide.
        context.log.warning(f"the promoted model cannot be scored on today's test split: {error}")


def export_checkpoint(
    context: dg.AssetExecutionContext, settings: Settings, scope: Scope
) -> dg.MaterializeResult[Any]:
    from sap_vision_assets.export.exporting import ExportConfig, export_onnx  # noqa: PLC0415

    partition = partition_of(context)
    domain = scope.domain(partition)
    store, vocabulary = settings.store(), settings.vocabulary()
    checkpoint = store.require(scope.key(CHECKPOINT), partition)
    test_shards = current_shards(store, domain, TEST)
    val_shards = follow(store, checkpoint, TOKENIZED_SHARDS, split_key(domain, VAL))
    config = ExportConfig()
    artifact = produce(
        context,
        store,
        stations=EXPORT_STATIONS,
        inputs=inputs_of(checkpoint, test_shards, val_shards),
        config={**asdict(config), "vocabulary_digest": vocabulary.digest},
        make=lambda out: export_onnx(
            checkpoint.path / BEST,
            test_shards=test_shards.path,
            val_shards=val_shards.path,
            out=out,
            vocabulary=vocabulary,
            config=config,
        ),
    )
    return materialized(artifact, _numbers(artifact.summary))


def benchmark(
    context: dg.AssetExecutionContext, settings: Settings, scope: Scope
) -> dg.MaterializeResult[Any]:
    from sap_vision_assets.export.latency import BenchmarkConfig, benchmark_latency  # noqa: PLC0415

    partition = partition_of(context)
    store = settings.store()
    onnx_model = store.require(scope.key(ONNX_MODEL), partition)
    test_shards = current_shards(store, scope.domain(partition), TEST)
    config = BenchmarkConfig()
    artifact = produce(
        context,
        store,
        stations=EXPORT_STATIONS,
        inputs=inputs_of(onnx_model, test_shards),
        # On another machine it is another measurement.
        config={**asdict(config), "machine": this_machine()},
        make=lambda out: benchmark_latency(
            onnx_model.path, test_shards=test_shards.path, out=out, config=config
        ),
    )
    summary = artifact.summary
    return materialized(
        artifact,
        {
            **{f"{name}_ms": float(summary["latency_ms"][name]) for name in LATENCIES},
            "device": summary["device"],
            "hardware": summary["hardware"],
            "variants": table([{"variant": name, **stats} for name, stats in summary["variants"].items()]),
        },
    )


def promote(context: dg.AssetExecutionContext, settings: Settings, scope: Scope) -> dg.MaterializeResult[Any]:
    partition = partition_of(context)
    store = settings.store()
    candidate = gating.Candidate(store, scope, partition)
    gates = candidate.gates(store, settings, scope)
    shown = gate_tables(gates)
    failed = [gate for gate in gates if gate.blocking and not gate.passed]
    if failed:
        reasons = "; ".join(f"{gate.name}: {gate.text}" for gate in failed)
        raise dg.Failure(f"not promoted: {reasons}", metadata=shown, allow_retries=False)
    artifact = produce(
        context,
        store,
        stations=PROMOTION_STATIONS,
        inputs=inputs_of(candidate.checkpoint, candidate.report, candidate.onnx_model, candidate.benchmark),
        config={},
        make=lambda out: _assemble(candidate, out),
    )
    return materialized(artifact, {**headline(artifact.summary, HEADLINE), **shown})


def _assemble(candidate: gating.Candidate, out: Path) -> JsonObject:
    offered = bool(candidate.onnx_model.summary["int8_offered"])
    for source, names in (
        (
            candidate.onnx_model,
            [name for name in candidate.onnx_model.files if offered or "int8" not in name],
        ),
        (candidate.report, ["report.json", "thresholds.json"]),
        (candidate.benchmark, ["latency.json"]),
    ):
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, out / name)
    return {
        **{name: candidate.report.summary.get(name) for name in HEADLINE},
        "num_documents": candidate.report.summary["num_documents"],
        "test_digest": candidate.report.summary["test_digest"],
        "vocabulary_digest": candidate.report.summary["vocabulary_digest"],
        "int8_offered": offered,
        "device": candidate.benchmark.summary["device"],
        "latency_ms": candidate.benchmark.summary["latency_ms"],
    }


def this_machine() -> dict[str, str]:
    """What a latency depends on besides the model; "gpu" is a constant where there is none."""
    from sap_vision_assets.export.hardware import describe_hardware  # noqa: PLC0415

    cpu = describe_hardware("cpu", threads=0)
    return {
        "cpu": cpu.name,
        "cores": f"{cpu.usable_cores} of {cpu.physical_cores}",
        "gpu": describe_hardware("cuda", threads=0).name,
        "onnxruntime": cpu.onnxruntime,
    }


def _numbers(summary: JsonObject) -> JsonObject:
    return {name: value for name, value in summary.items() if isinstance(value, int | float | str)}
