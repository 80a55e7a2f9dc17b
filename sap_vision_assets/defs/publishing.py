"""What every asset's body does around its one station call: look inputs up, publish, report to Dagster."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from sap_vision_assets.artifacts import Artifact, ArtifactSpec, ArtifactStore, JsonObject
from sap_vision_assets.errors import ArtifactError, SapVisionError
from sap_vision_assets.training.supervision import end_with_parent
from sap_vision_assets.versions import code_version

UP_TO_DATE = "up to date: nothing was done"
STATUS = "status"


def artifact_name(asset: str, partition: str) -> str:
    """How an artefact's inputs are named in its manifest: "tokenized_shards:general|train"."""
    return f"{asset}:{partition}"


def partition_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> str:
    """The run's partition key; empty for an unpartitioned asset."""
    return context.partition_key if context.has_partition_key else ""


def produce(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    *,
    stations: tuple[str, ...],
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    make: Callable[[Path], JsonObject],
    resumable: bool = False,
) -> Artifact:
    """The artefact of this asset and partition: made from `inputs` (digests) and `config`, or found."""
    spec = ArtifactSpec(
        asset=context.asset_key.to_user_string(),
        partition=partition_of(context),
        inputs=inputs,
        config=config,
        code_version=code_version(*stations),
    )
    artifact = store.produce(spec, make, resumable=resumable, say=context.log.warning)
    if artifact.reused:
        context.log.info(f"{artifact_name(spec.asset, spec.partition)}: {UP_TO_DATE}")
    return artifact


def materialized(artifact: Artifact, metadata: Mapping[str, Any]) -> dg.MaterializeResult[Any]:
    """What Dagster is told: the artefact's digest as data version, where it lies, and `metadata`."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(artifact.digest),
        metadata={
            STATUS: UP_TO_DATE if artifact.reused else "made in this run",
            **metadata,
            "digest": artifact.digest,
            "path": dg.MetadataValue.path(str(artifact.path)),
            "size_mb": sum(record["size"] for record in artifact.files.values()) / 1e6,
        },
    )


def follow(store: ArtifactStore, artifact: Artifact, asset: str, partition: str) -> Artifact:
    """The very input that `artifact` was made from, whether or not a newer one is current by now; verified.

    Raises ArtifactError when `artifact` has no such input or it is gone.
    """
    name = artifact_name(asset, partition)
    digest = artifact.spec.inputs.get(name)
    found = None if digest is None else store.find(asset, partition, digest)
    if found is None:
        raise ArtifactError(
            f"{artifact_name(artifact.spec.asset, artifact.spec.partition)} was made from {name} {digest}, "
            f"which is gone; materialise both again"
        )
    found.verify()
    return found


def inputs_of(*artifacts: Artifact) -> dict[str, str]:
    """The digests that a manifest records of `artifacts`, by name."""
    return {artifact_name(item.spec.asset, item.spec.partition): item.digest for item in artifacts}


@contextmanager
def clear_failures() -> Iterator[None]:
    """Around a step: turns the package's own errors, whose messages say it all, into Dagster failures of
    just these, and has the step interrupted when the process of its run is killed.

    Dagster leaves the steps of a run whose process was killed alone: a training would keep its GPU.
    """
    if multiprocessing.parent_process() is not None:
        end_with_parent(signal.SIGINT)
    try:
        yield
    except SapVisionError as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
