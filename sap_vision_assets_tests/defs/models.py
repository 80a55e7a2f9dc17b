"""Model artefacts as the assets leave them, made without training: what the gates and the promotion read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sap_vision_assets.artifacts import Artifact, ArtifactSpec, ArtifactStore
from sap_vision_assets.defs.publishing import inputs_of

SCORES = {
    "doc_type_accuracy": 0.97,
    "po_subtype_accuracy": 0.9,
    "field_f1": 0.94,
    "field_precision": 0.95,
    "field_recall": 0.93,
    "num_documents": 3,
    "num_entities": 3,
    "num_doc_types": 3,
}
PARITY = {
    "max_abs_difference": 1e-6,
    "logits_tolerance": 1e-4,
    "num_flips": 0,
    "num_ties": 0,
    "num_documents": 3,
    "num_words": 12,
    "int8_offered": False,
    "int8_reason": "not offered: switched off",
}
LATENCY = dict.fromkeys(("mean", "min", "max", "p50", "p95", "p99"), 12.0)


def publish(
    store: ArtifactStore,
    asset: str,
    partition: str,
    inputs: Mapping[str, str],
    summary: Mapping[str, Any],
    *names: str,
    config: Mapping[str, Any] | None = None,
) -> Artifact:
    def make(out: Path) -> dict[str, Any]:
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(f"{asset} {name}")
        return dict(summary)

    spec = ArtifactSpec(asset=asset, partition=partition, inputs=inputs, config=config or {})
    return store.produce(spec, make)


def publish_model(
    store: ArtifactStore,
    scope: str = "general",
    domain: str = "general",
    *,
    scores: Mapping[str, Any] | None = None,
    parity: Mapping[str, Any] | None = None,
    device: str = "cpu",
    mean_ms: float = 12.0,
    seed: int = 0,
) -> dict[str, Artifact]:
    """Checkpoint to benchmark on today's training set and test split; all gates pass by default."""
    partition = "" if scope == "general" else domain
    training_set = store.require(f"{scope}/training_set", partition)
    test_shards = store.require("tokenized_shards", f"{domain}|test")
    test = store.require("validated_dataset", f"{domain}|test")
    checkpoint = publish(
        store,
        f"{scope}/checkpoint",
        partition,
        {**training_set.spec.inputs, **inputs_of(training_set)},
        {"best_step": 1},
        "best/model.safetensors",
        config={"recipe": "tiny", "training": {"seed": seed}},
    )
    report = publish(
        store,
        f"{scope}/evaluation_report",
        partition,
        inputs_of(checkpoint, test_shards, test),
        {**SCORES, "test_digest": test.digest, "vocabulary_digest": "v", **(scores or {})},
        *("report.json", "report.html", "thresholds.json"),
    )
    onnx = publish(
        store,
        f"{scope}/onnx_model",
        partition,
        inputs_of(checkpoint, test_shards),
        {**PARITY, **(parity or {})},
        *("model.onnx", "labels.json", "model.int8.onnx"),
    )
    latency = publish(
        store,
        f"{scope}/latency_benchmark",
        partition,
        inputs_of(onnx, test_shards),
        {"latency_ms": {**LATENCY, "mean": mean_ms}, "device": device, "hardware": "a chip", "variants": {}},
        "latency.json",
    )
    return {"checkpoint": checkpoint, "report": report, "onnx": onnx, "latency": latency}
