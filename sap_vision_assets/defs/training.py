"""Bodies of the training set and the checkpoint."""

from pathlib import Path
from typing import Any

import dagster as dg

from sap_vision_assets.artifacts import Artifact, ArtifactStore, JsonObject
from sap_vision_assets.defs.dataset import RAW_ANNOTATIONS, TOKENIZED_SHARDS, VALIDATED_DATASET, without
from sap_vision_assets.defs.metadata import count_table, tracking_links
from sap_vision_assets.defs.options import TrainingOptions, require_start, training_config
from sap_vision_assets.defs.partitions import TRAIN, VAL, split_key
from sap_vision_assets.defs.publishing import (
    artifact_name,
    follow,
    inputs_of,
    materialized,
    partition_of,
    produce,
)
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    GENERAL_SCOPE,
    PROMOTED_MODEL,
    TRAINING_SET,
    Scope,
)
from sap_vision_assets.defs.torchrun import run_training
from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.training import nodes
from sap_vision_assets.training.config import TrainingConfig, TrainingJob

BEST = "best"
"""The checkpoint that scored best on val: what is evaluated, exported and promoted."""
TRAINING_SET_STATIONS = ("shards", "vocabulary")
TRAINING_STATIONS = nodes.STATIONS


def collect_training_set(
    context: dg.AssetExecutionContext, settings: Settings, scope: Scope
) -> dg.MaterializeResult[Any]:
    from sap_vision_assets.shards.training_set import describe_training_set  # noqa: PLC0415

    store, vocabulary = settings.store(), settings.vocabulary()
    domain = scope.domain(partition_of(context))
    shards = {split: current_shards(store, domain, split) for split in (TRAIN, VAL)}
    datasets = {
        split: follow(store, item, VALIDATED_DATASET, split_key(domain, split))
        for split, item in shards.items()
    }
    tokenizers = {split: item.spec.config for split, item in shards.items()}
    if tokenizers[TRAIN] != tokenizers[VAL]:
        raise InputError(
            f"{TOKENIZED_SHARDS} of {domain}: train was made with {tokenizers[TRAIN]}, val with "
            f"{tokenizers[VAL]}; materialise both with the same options"
        )
    artifact = produce(
        context,
        store,
        stations=TRAINING_SET_STATIONS,
        inputs=inputs_of(*shards.values(), *datasets.values()),
        config={"vocabulary_digest": vocabulary.digest},
        make=lambda out: (
            describe_training_set(
                {split: item.path for split, item in datasets.items()}, out, vocabulary=vocabulary
            )
            | {"raw_annotations": {split: raw_digest(item) for split, item in datasets.items()}}
        ),
    )
    summary = artifact.summary
    return materialized(
        artifact,
        {
            **{f"num_{split}_documents": count for split, count in summary["num_documents"].items()},
            "num_leaked_pages": len(summary["leaked_pages"]),
            **{
                f"{split}_doc_types": count_table("doc_type", counts)
                for split, counts in summary["doc_type_counts"].items()
            },
        },
    )


def train_checkpoint(
    context: dg.AssetExecutionContext, options: TrainingOptions, settings: Settings, scope: Scope
) -> dg.MaterializeResult[Any]:
    partition = partition_of(context)
    domain = scope.domain(partition)
    store = settings.store()
    recipe, config = training_config(options, scope.recipe)
    require_start(recipe, config, starts_anew=scope is GENERAL_SCOPE)
    training_set = store.require(scope.key(TRAINING_SET), partition)
    shards = {
        split: follow(store, training_set, TOKENIZED_SHARDS, split_key(domain, split))
        for split in (TRAIN, VAL)
    }
    initial = None if scope is GENERAL_SCOPE else _promoted_general_checkpoint(store)

    def make(out: Path) -> JsonObject:
        job = TrainingJob(
            train_shards=shards[TRAIN].path,
            val_shards=shards[VAL].path,
            out=out,
            config=config,
            vocabulary_extension=settings.vocabulary_path(),
            initial_checkpoint=None if initial is None else initial.path / BEST,
        )
        return run_training(context, job, progress_interval_s=settings.progress_interval_s)

    artifact = produce(
        context,
        store,
        stations=TRAINING_STATIONS,
        # What the training set was made from is named here too: it stays as long as this checkpoint does.
        inputs={
            **training_set.spec.inputs,
            **inputs_of(training_set),
            **({} if initial is None else _inputs_of_initial(initial)),
        },
        config=spec_config(recipe, config),
        make=make,
        resumable=True,
    )
    numbers = {
        name: value for name, value in artifact.summary.items() if isinstance(value, int | float | str)
    }
    return materialized(artifact, {"recipe": recipe, **numbers, **tracking_links(artifact)})


def require_tokens(config: TrainingConfig, settings: Settings) -> None:
    """Raises InputError when the tokenizer cannot be had, or MiniLM's weights would meet other tokens.

    The training says so too, of all weights, but after the shards are made.
    """
    from sap_vision_assets.shards import MINILM, load_tokenizer  # noqa: PLC0415

    digest = settings.tokenizer_digest
    if config.initial_weights == MINILM and digest != load_tokenizer(MINILM).digest:
        raise InputError(
            f"initial_weights {MINILM!r}: knows MiniLM's tokens, and this installation's shards have those "
            f"of tokenizer {settings.tokenizer!r}; say --tokenizer {MINILM} once, which is the "
            "setting tokenizer, of all shards and domains"
        )


def _content_of(initial_weights: Path) -> dict[str, str]:
    """A directory's path says nothing of what is in it, nor that it has changed."""
    from sap_vision_assets.training import folders  # noqa: PLC0415

    is_directory = initial_weights.is_dir()
    return {"initial_weights_digest": folders.weights_digest(initial_weights)} if is_directory else {}


def spec_config(recipe: str, config: TrainingConfig) -> JsonObject:
    """What makes a checkpoint what it is: not who is told of it, nor where machines meet."""
    return {
        "recipe": recipe,
        "training": without(config.to_json(), "tracker", "wandb_project", "rendezvous_endpoint"),
        **_content_of(Path(config.initial_weights)),
    }


def _inputs_of_initial(initial: Artifact) -> dict[str, str]:
    """The general checkpoint, and its training set: no test page of the domain may be in that either."""
    general_training_set = artifact_name(GENERAL_SCOPE.key(TRAINING_SET), "")
    return {**inputs_of(initial), general_training_set: initial.spec.inputs[general_training_set]}


def current_shards(store: ArtifactStore, domain: str, split: str) -> Artifact:
    """The split's shards; raises InputError when its dataset has moved on since they were made."""
    key = split_key(domain, split)
    shards = store.require(TOKENIZED_SHARDS, key)
    dataset = store.require(VALIDATED_DATASET, key)
    if shards.spec.inputs.get(artifact_name(VALIDATED_DATASET, key)) != dataset.digest:
        raise InputError(
            f"{TOKENIZED_SHARDS} {key}: made from an older dataset than today's ({dataset.digest[:12]}); "
            f"materialise {TOKENIZED_SHARDS} {key} first"
        )
    return shards


def raw_digest(dataset: Artifact) -> str:
    """Digest of the folder that a validated dataset was made from."""
    return dataset.spec.inputs[artifact_name(RAW_ANNOTATIONS, dataset.spec.partition)]


def _promoted_general_checkpoint(store: ArtifactStore) -> Artifact:
    promoted = store.current(GENERAL_SCOPE.key(PROMOTED_MODEL))
    if promoted is None:
        raise ArtifactError(
            f"{GENERAL_SCOPE.key(PROMOTED_MODEL)}: no general model is promoted yet, and a domain's "
            "starts from it; train the general model first (sap-vision run)"
        )
    return follow(store, promoted, GENERAL_SCOPE.key(CHECKPOINT), "")
