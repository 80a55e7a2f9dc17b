"""The factory of a model's assets, called twice: for the general model, and for the domains'."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from sap_vision_assets.defs.dataset import TOKENIZED_SHARDS, VALIDATED_DATASET
from sap_vision_assets.defs.options import TrainingOptions
from sap_vision_assets.defs.partitions import TEST, TRAIN, VAL
from sap_vision_assets.defs.publishing import clear_failures
from sap_vision_assets.defs.release import (
    EVALUATION_STATIONS,
    EXPORT_STATIONS,
    PROMOTION_STATIONS,
    benchmark,
    evaluate_checkpoint,
    export_checkpoint,
    promote,
)
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import GENERAL_SCOPE, PROMOTED_MODEL, Scope
from sap_vision_assets.defs.training import (
    TRAINING_SET_STATIONS,
    TRAINING_STATIONS,
    collect_training_set,
    train_checkpoint,
)
from sap_vision_assets.versions import code_version

GPU_POOL = "gpu"
GPU_REQUEST = {"dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}}
"""Read by dagster-k8s alone: the step's pod asks for a GPU."""


def model_assets(scope: Scope) -> Sequence[dg.AssetsDefinition]:
    """The six assets of `scope`'s models, from what a training reads to what production takes."""

    @dg.asset(
        key_prefix=scope.name,
        group_name=scope.name,
        partitions_def=scope.partitions_def,
        deps=[
            scope.split_dep(VALIDATED_DATASET, [TRAIN, VAL]),
            scope.split_dep(TOKENIZED_SHARDS, [TRAIN, VAL]),
        ],
        kinds={"parquet", "python"},
        code_version=code_version(*TRAINING_SET_STATIONS),
    )
    def training_set(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[Any]:
        """What a training reads: the documents of train and val, their class balance, leakage between them.

        Does not move when only test documents do, so that these never start a training.
        """
        with clear_failures():
            return collect_training_set(context, settings, scope)

    @dg.asset(
        key_prefix=scope.name,
        group_name=scope.name,
        partitions_def=scope.partitions_def,
        deps=[training_set, *_start(scope)],
        kinds={"pytorch", "safetensors"},
        pool=GPU_POOL,
        op_tags=GPU_REQUEST,
        code_version=code_version(*TRAINING_STATIONS),
    )
    def checkpoint(
        context: dg.AssetExecutionContext, config: TrainingOptions, settings: Settings
    ) -> dg.MaterializeResult[Any]:
        """Weights trained under torchrun: best on val (best/), last (final/), and the states to resume from.

        A domain's model starts from the promoted general one. Loss, learning rate, gradient norm and
        throughput are observations of this asset while it trains. A training that was cut off goes on where
        it was saved.
        """
        with clear_failures():
            return train_checkpoint(context, config, settings, scope)

    @dg.asset(
        key_prefix=scope.name,
        group_name=scope.name,
        partitions_def=scope.partitions_def,
        deps=[
            checkpoint,
            scope.split_dep(VALIDATED_DATASET, [TEST]),
            scope.split_dep(TOKENIZED_SHARDS, [VAL, TEST]),
        ],
        kinds={"pytorch", "html"},
        pool=GPU_POOL,
        op_tags=GPU_REQUEST,
        code_version=code_version(*EVALUATION_STATIONS),
    )
    def evaluation_report(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[Any]:
        """What the checkpoint does on the test split; confidence thresholds, chosen on val."""
        with clear_failures():
            return evaluate_checkpoint(context, settings, scope)

    @dg.asset(
        key_prefix=scope.name,
        group_name=scope.name,
        partitions_def=scope.partitions_def,
        # The report is not read; its blocking checks keep a model that is not good enough from export.
        deps=[checkpoint, evaluation_report, scope.split_dep(TOKENIZED_SHARDS, [VAL, TEST])],
        kinds={"onnx"},
        code_version=code_version(*EXPORT_STATIONS),
    )
    def onnx_model(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[Any]:
        """The exported model, compared with the checkpoint on every test page, and its int8 variant."""
        with clear_failures():
            return export_checkpoint(context, settings, scope)

    @dg.asset(
        key_prefix=scope.name,
        group_name=scope.name,
        partitions_def=scope.partitions_def,
        deps=[onnx_model, scope.split_dep(TOKENIZED_SHARDS, [TEST])],
        kinds={"onnx"},
        pool=GPU_POOL,
        op_tags=GPU_REQUEST,
        code_version=code_version(*EXPORT_STATIONS),
    )
    def latency_benchmark(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[Any]:
        """Milliseconds per page of the exported model, with the hardware that they were measured on."""
        with clear_failures():
            return benchmark(context, settings, scope)

    @dg.asset(
        key_prefix=scope.name,
        group_name=scope.name,
        partitions_def=scope.partitions_def,
        deps=[checkpoint, evaluation_report, onnx_model, latency_benchmark],
        kinds={"onnx"},
        code_version=code_version(*PROMOTION_STATIONS),
    )
    def promoted_model(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[Any]:
        """The folder that production takes: ONNX model, labels, tokenizer, thresholds, report and latency.

        Its current version is the promoted model. Fails unless every gate passes, also when it is
        materialised alone.
        """
        with clear_failures():
            return promote(context, settings, scope)

    return [training_set, checkpoint, evaluation_report, onnx_model, latency_benchmark, promoted_model]


def _start(scope: Scope) -> list[dg.AssetKey]:
    return [] if scope is GENERAL_SCOPE else [GENERAL_SCOPE.asset_key(PROMOTED_MODEL)]
