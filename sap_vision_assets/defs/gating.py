"""What stands between a checkpoint and its promotion: one answer for the checks and the promotion."""

from collections.abc import Mapping
from typing import Any

from sap_vision_assets.artifacts import Artifact, ArtifactStore
from sap_vision_assets.defs.dataset import VALIDATED_DATASET
from sap_vision_assets.defs.partitions import GENERAL, TEST, TRAIN, VAL, split_key
from sap_vision_assets.defs.publishing import artifact_name, follow
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    EVALUATION_REPORT,
    GENERAL_SCOPE,
    LATENCY_BENCHMARK,
    ONNX_MODEL,
    PROMOTED_MODEL,
    TRAINING_SET,
    Scope,
)
from sap_vision_assets.errors import InputError
from sap_vision_assets.evaluation.gates import (
    Floors,
    GateResult,
    checkpoint_size_gate,
    evaluate_gates,
    latency_gate,
)
from sap_vision_assets.shards.training_set import leaked_pages, pages_of_dataset, pages_of_training_set

PROMOTED_TODAY = "promoted_model_on_current_test"
"""Store name of the promoted checkpoint's report on today's test split; no Dagster asset."""
DRIFT_RATIO = 3.0
MIN_DRIFT_SHARE = 0.02
"""Rarer classes triple by chance."""
WEIGHTS = "best/model.safetensors"


def reject_rate_gate(dataset: Artifact, settings: Settings) -> GateResult:
    """Whether few enough documents were rejected."""
    summary = dataset.summary
    rate, limit = float(summary["reject_rate"]), settings.max_reject_rate
    passed = rate <= limit
    total = summary["num_documents"] + summary["num_rejected"]
    return GateResult(
        name="reject_rate",
        passed=passed,
        blocking=True,
        value=rate,
        limit=limit,
        text=f"{dataset.spec.partition}: {summary['num_rejected']} of {total} documents rejected, "
        f"{'within' if passed else 'above'} the limit of {limit:.1%}; "
        f"{dataset.path / 'rejects.parquet'} says why",
    )


def leakage_gate(pages_by_split: Mapping[str, Mapping[str, str]]) -> GateResult:
    """Whether no page stands in two splits."""
    leaked = leaked_pages(pages_by_split)
    compared = ", ".join(f"{split} ({len(pages)})" for split, pages in pages_by_split.items())
    text = f"no page stands in two splits; compared: {compared}"
    if leaked:
        first = ", ".join(f"{split}/{name}" for split, name in leaked[0].items() if split in pages_by_split)
        text = f"{len(leaked)} pages stand in two splits, such as {first}; keep each page in one split only"
    return GateResult(
        name="no_leakage", passed=not leaked, blocking=True, value=float(len(leaked)), limit=0.0, text=text
    )


def parity_gate(onnx_model: Artifact) -> GateResult:
    """Whether the exported model gives the checkpoint's numbers and answers."""
    summary = onnx_model.summary
    difference, limit = float(summary["max_abs_difference"]), float(summary["logits_tolerance"])
    flips = int(summary["num_flips"])
    return GateResult(
        name="onnx_parity",
        passed=difference <= limit and flips == 0,
        blocking=True,
        value=difference,
        limit=limit,
        text=f"logits differ by at most {difference:.2e} (tolerance {limit:g}), {flips} answers differ over "
        f"{summary['num_documents']} documents and {summary['num_words']} words",
    )


def size_gate(checkpoint: Artifact, floors: Floors) -> GateResult:
    return checkpoint_size_gate(int(checkpoint.files[WEIGHTS]["size"]), floors)


def latency_of(benchmark: Artifact, floors: Floors) -> GateResult:
    summary = benchmark.summary
    return latency_gate(summary["latency_ms"]["mean"], summary["device"], floors)


def quality_gates(
    store: ArtifactStore, settings: Settings, scope: Scope, report: Artifact
) -> list[GateResult]:
    """The floors, and no worse than the promoted model on the same test data."""
    floors = settings.floors_of(scope.domain(report.spec.partition))
    return evaluate_gates(report.summary, floors, promoted_summary(store, scope, report))


def promoted_report(store: ArtifactStore, scope: Scope, partition: str) -> Artifact | None:
    """The report that the promoted model was promoted on; None without one."""
    promoted = store.current(scope.key(PROMOTED_MODEL), partition)
    return None if promoted is None else follow(store, promoted, scope.key(EVALUATION_REPORT), partition)


def promoted_summary(store: ArtifactStore, scope: Scope, report: Artifact) -> Mapping[str, Any] | None:
    """What the promoted model scores, on the test data of `report` where it can; None without one."""
    partition, test_digest = report.spec.partition, report.summary.get("test_digest")
    then = promoted_report(store, scope, partition)
    if then is None:
        return None
    today = store.current(scope.key(PROMOTED_TODAY), partition)
    if then.summary.get("test_digest") == test_digest or today is None:
        return then.summary
    # It outlives a promotion: then it is about the model before.
    checkpoint = artifact_name(scope.key(CHECKPOINT), partition)
    is_of_promoted = today.spec.inputs[checkpoint] == then.spec.inputs[checkpoint]
    is_comparable = today.summary.get("test_digest") == test_digest
    return today.summary if is_of_promoted and is_comparable else then.summary


def test_leakage_gate(store: ArtifactStore, settings: Settings, scope: Scope, report: Artifact) -> GateResult:
    """Whether no page that `report` was measured on is one that its checkpoint was trained on."""
    domain = scope.domain(report.spec.partition)
    checkpoint = follow(store, report, scope.key(CHECKPOINT), report.spec.partition)
    training_set = follow(store, checkpoint, scope.key(TRAINING_SET), report.spec.partition)
    test = follow(store, report, VALIDATED_DATASET, split_key(domain, TEST))
    pages = pages_of_training_set(training_set.path)
    if scope is not GENERAL_SCOPE:
        general = follow(store, checkpoint, GENERAL_SCOPE.key(TRAINING_SET), "")
        seen = pages_of_training_set(general.path)
        pages |= {f"{GENERAL} {split}": seen[split] for split in (TRAIN, VAL)}
    pages[TEST] = pages_of_dataset(test.path, settings.vocabulary())
    return leakage_gate(pages)


def current_leakage_gate(
    store: ArtifactStore, settings: Settings, scope: Scope, training_set: Artifact
) -> GateResult:
    """Whether train, val and, where it was prepared, today's test dataset of the domain share no page."""
    domain = scope.domain(training_set.spec.partition)
    pages = pages_of_training_set(training_set.path)
    test = store.current(VALIDATED_DATASET, split_key(domain, TEST))
    if test is not None:
        pages[TEST] = pages_of_dataset(test.path, settings.vocabulary())
    return leakage_gate(pages)


def drift_gate(store: ArtifactStore, scope: Scope, training_set: Artifact) -> GateResult:
    """Whether no class's share of train has moved threefold since the current checkpoint's training set."""
    partition = training_set.spec.partition
    checkpoint = store.current(scope.key(CHECKPOINT), partition)
    if checkpoint is None:
        text = "nothing was trained yet: nothing to compare with"
        return GateResult(name="class_drift", passed=True, blocking=False, value=None, limit=None, text=text)
    before = follow(store, checkpoint, scope.key(TRAINING_SET), partition)
    then, now = (_shares(item.summary["doc_type_counts"][TRAIN]) for item in (before, training_set))
    ratios = {
        name: max(now.get(name, 0) / then[name], then[name] / now[name] if now.get(name) else float("inf"))
        for name in then
        if max(then[name], now.get(name, 0)) >= MIN_DRIFT_SHARE
    }
    new = [name for name in now if name not in then and now[name] >= MIN_DRIFT_SHARE]
    moved = [
        f"{name} {then[name]:.1%} to {now.get(name, 0):.1%}" for name in ratios if ratios[name] >= DRIFT_RATIO
    ]
    moved += [f"{name} 0.0% to {now[name]:.1%}" for name in new]
    text = f"shares that moved {DRIFT_RATIO:g}-fold since the last training: {', '.join(moved) or 'none'}"
    finite = [ratio for ratio in ratios.values() if ratio != float("inf")]
    return GateResult(
        name="class_drift",
        passed=not moved,
        blocking=False,
        value=max(finite, default=None),
        limit=DRIFT_RATIO,
        text=text,
    )


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items() if count}


class Candidate:
    """The current artefacts of one model; raises InputError unless all were made from the same checkpoint."""

    def __init__(self, store: ArtifactStore, scope: Scope, partition: str) -> None:
        self.checkpoint = store.require(scope.key(CHECKPOINT), partition)
        self.report = store.require(scope.key(EVALUATION_REPORT), partition)
        self.onnx_model = store.require(scope.key(ONNX_MODEL), partition)
        self.benchmark = store.require(scope.key(LATENCY_BENCHMARK), partition)
        for made, asset, source in (
            (self.report, CHECKPOINT, self.checkpoint),
            (self.onnx_model, CHECKPOINT, self.checkpoint),
            (self.benchmark, ONNX_MODEL, self.onnx_model),
        ):
            if made.spec.inputs.get(f"{scope.key(asset)}:{partition}") != source.digest:
                raise InputError(
                    f"{made.spec.asset}: was made from another {asset} than the current one "
                    f"({source.digest[:12]}); materialise {made.spec.asset} again, then promote"
                )

    def gates(self, store: ArtifactStore, settings: Settings, scope: Scope) -> list[GateResult]:
        """Every gate, also those whose checks ran in earlier runs."""
        domain = scope.domain(self.checkpoint.spec.partition)
        floors = settings.floors_of(domain)
        datasets = [
            follow(store, source, VALIDATED_DATASET, split_key(domain, split))
            for source, split in ((self.checkpoint, TRAIN), (self.checkpoint, VAL), (self.report, TEST))
        ]
        return [
            *(reject_rate_gate(dataset, settings) for dataset in datasets),
            test_leakage_gate(store, settings, scope, self.report),
            *quality_gates(store, settings, scope, self.report),
            size_gate(self.checkpoint, floors),
            parity_gate(self.onnx_model),
            latency_of(self.benchmark, floors),
        ]
