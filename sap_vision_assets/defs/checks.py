"""The gates as asset checks, each partitioned as its asset is: a failing domain stops nothing but itself."""

from collections.abc import Callable, Sequence

import dagster as dg

from sap_vision_assets.artifacts import Artifact, ArtifactStore
from sap_vision_assets.defs import gating
from sap_vision_assets.defs.dataset import VALIDATED_DATASET
from sap_vision_assets.defs.metadata import gate_tables
from sap_vision_assets.defs.partitions import domain_split_partitions, preview_apis
from sap_vision_assets.defs.publishing import clear_failures, follow, partition_of
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    EVALUATION_REPORT,
    LATENCY_BENCHMARK,
    ONNX_MODEL,
    TRAINING_SET,
    Scope,
)
from sap_vision_assets.evaluation.gates import Floors, GateResult

Judge = Callable[[ArtifactStore, Settings, Artifact], Sequence[GateResult]]
"""Gates of the asset's current artefact."""


def gate_check(
    name: str,
    asset: dg.AssetKey,
    partitions_def: dg.PartitionsDefinition[str] | None,
    description: str,
    judge: Judge,
    *,
    blocking: bool = True,
) -> dg.AssetChecksDefinition:
    """A check that passes when every gate of `judge` does; a failed gate that does not bind only warns."""
    with preview_apis():

        @dg.asset_check(
            asset=asset, name=name, description=description, blocking=blocking, partitions_def=partitions_def
        )
        def check(context: dg.AssetCheckExecutionContext, settings: Settings) -> dg.AssetCheckResult:
            with clear_failures():
                store = settings.store()
                artifact = store.require(asset.to_user_string(), partition_of(context))
                return _result(judge(store, settings, artifact), blocking=blocking)

    return check


def _result(gates: Sequence[GateResult], *, blocking: bool) -> dg.AssetCheckResult:
    failed = [gate for gate in gates if not gate.passed]
    binding = blocking and any(gate.blocking for gate in failed)
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if binding else dg.AssetCheckSeverity.WARN,
        description="; ".join(gate.text for gate in failed or gates),
        metadata={
            **{gate.name: float(gate.value) for gate in gates if gate.value is not None},
            "gates": gate_tables(gates)["gates"],
        },
    )


def _class_coverage(_store: ArtifactStore, settings: Settings, dataset: Artifact) -> list[GateResult]:
    names = settings.vocabulary().doc_type_names
    missing = [name for name in names if not dataset.summary["doc_type_counts"].get(name)]
    text = "every document type is there"
    if missing:
        text = f"no document of {', '.join(missing)}: the model cannot learn what it never sees here"
    covered = len(names) - len(missing)
    return [
        GateResult(
            name="doc_types_covered",
            passed=not missing,
            blocking=False,
            value=float(covered),
            limit=float(len(names)),
            text=text,
        )
    ]


def dataset_checks() -> list[dg.AssetChecksDefinition]:
    """Of validated_dataset."""
    asset = dg.AssetKey(VALIDATED_DATASET)
    return [
        gate_check(
            "reject_rate",
            asset,
            domain_split_partitions,
            "Few enough documents were rejected (setting max_reject_rate).",
            lambda _store, settings, dataset: [gating.reject_rate_gate(dataset, settings)],
        ),
        gate_check(
            "class_coverage",
            asset,
            domain_split_partitions,
            "Every document type occurs. Warns only: a domain may well hold one type.",
            _class_coverage,
            blocking=False,
        ),
    ]


def model_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """The gates of one scope's models."""

    def check(
        name: str, asset: str, description: str, judge: Judge, *, blocking: bool = True
    ) -> dg.AssetChecksDefinition:
        return gate_check(
            name, scope.asset_key(asset), scope.partitions_def, description, judge, blocking=blocking
        )

    def floors(settings: Settings, artifact: Artifact) -> Floors:
        return settings.floors_of(scope.domain(artifact.spec.partition))

    def quality(names: Sequence[str]) -> Judge:
        return lambda store, settings, report: [
            gate for gate in gating.quality_gates(store, settings, scope, report) if gate.name in names
        ]

    def checkpoint_size(store: ArtifactStore, settings: Settings, onnx_model: Artifact) -> list[GateResult]:
        checkpoint = follow(store, onnx_model, scope.key(CHECKPOINT), onnx_model.spec.partition)
        return [gating.size_gate(checkpoint, floors(settings, onnx_model))]

    return [
        check(
            "no_leakage",
            TRAINING_SET,
            "No page stands in two of train, val and today's test split.",
            lambda store, settings, item: [gating.current_leakage_gate(store, settings, scope, item)],
        ),
        check(
            "class_drift",
            TRAINING_SET,
            "No document type's share of train has tripled, or fallen to a third, since the last training. "
            "Warns only.",
            lambda store, _settings, item: [gating.drift_gate(store, scope, item)],
            blocking=False,
        ),
        check(
            "doc_type_accuracy",
            EVALUATION_REPORT,
            "Document type accuracy reaches its floor (setting floors).",
            quality(["doc_type_accuracy"]),
        ),
        check(
            "field_f1",
            EVALUATION_REPORT,
            "Strict micro entity F1 reaches its floor (setting floors).",
            quality(["field_f1"]),
        ),
        check(
            "no_worse_than_promoted",
            EVALUATION_REPORT,
            "No metric is worse than the promoted model's on the same test data.",
            quality(["doc_type_accuracy_vs_promoted", "field_f1_vs_promoted"]),
        ),
        check(
            "no_test_leakage",
            EVALUATION_REPORT,
            "No test page is one that the checkpoint was trained on or chosen by.",
            lambda store, settings, item: [gating.test_leakage_gate(store, settings, scope, item)],
        ),
        check(
            "onnx_parity",
            ONNX_MODEL,
            "The exported model gives the checkpoint's logits and answers on every test page.",
            lambda _store, _settings, item: [gating.parity_gate(item)],
        ),
        check(
            "checkpoint_size",
            ONNX_MODEL,
            "The exported weights' checkpoint is small enough (setting floors).",
            checkpoint_size,
        ),
        check(
            "latency",
            LATENCY_BENCHMARK,
            "A page is fast enough. Binding on a GPU; on a CPU it warns and says so.",
            lambda _store, settings, item: [gating.latency_of(item, floors(settings, item))],
        ),
    ]
