"""Per domain and split: the labelled folder, the validated dataset, the tokenised shards."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from sap_vision_assets.artifacts import JsonObject
from sap_vision_assets.defs.metadata import count_table
from sap_vision_assets.defs.partitions import (
    domain_split_partitions,
    parse_split_key,
    preview_apis,
    require_domain_name,
)
from sap_vision_assets.defs.publishing import clear_failures, inputs_of, materialized, produce
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.errors import InputError
from sap_vision_assets.versions import code_version

RAW_ANNOTATIONS = "raw_annotations"
VALIDATED_DATASET = "validated_dataset"
TOKENIZED_SHARDS = "tokenized_shards"
DATASET_STATIONS = ("documents", "vocabulary")
SHARDS_STATIONS = ("shards", "vocabulary")
TOKENIZER_DIGEST = "tokenizer_digest"
"""In the config of the shards' manifest."""
GROUP = "data"


class ShardOptions(dg.Config):
    """How words become windows. Must be the same for all splits that one model reads.

    The tokenizer is a setting of the installation: a domain's model goes on from the general one's tokens.
    """

    max_tokens: int = Field(default=512, description="Tokens of a window, [CLS] and [SEP] included.")
    stride: int = Field(default=128, description="Tokens that a window shares with the one before.")


with preview_apis():

    @dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]  # it has no annotations
        name=RAW_ANNOTATIONS,
        specs=[
            dg.AssetSpec(
                RAW_ANNOTATIONS,
                description="The labelled documents as people keep them, in <data root>/<domain>/<split>. "
                "Observed, never written. The data version is the digest of what is there.",
                group_name=GROUP,
                kinds={"json", "image"},
            )
        ],
        partitions_def=domain_split_partitions,
    )
    def raw_annotations(context: dg.AssetExecutionContext, settings: Settings) -> dg.ObserveResult:
        with clear_failures():
            domain, split = parse_split_key(context.partition_key)
            folder = existing_folder(settings, domain, split)
            state = settings.observe(domain, split)
        return dg.ObserveResult(
            asset_key=RAW_ANNOTATIONS,
            data_version=dg.DataVersion(state.digest),
            metadata={
                "num_annotations": state.num_annotations,
                "num_images": state.num_images,
                "path": dg.MetadataValue.path(str(folder)),
            },
        )


@dg.asset(
    key=VALIDATED_DATASET,
    deps=[RAW_ANNOTATIONS],
    partitions_def=domain_split_partitions,
    group_name=GROUP,
    kinds={"parquet", "python"},
    code_version=code_version(*DATASET_STATIONS),
)
def validated_dataset(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[Any]:
    """One row per validated document, its page included; each rejected document with its reason beside it."""
    from sap_vision_assets.documents import DatasetConfig, build_dataset  # noqa: PLC0415

    with clear_failures():
        domain, split = parse_split_key(context.partition_key)
        folder = existing_folder(settings, domain, split)
        vocabulary = settings.vocabulary()
        config = DatasetConfig(workers=settings.workers)
        before = settings.observe(domain, split)

        def make(out: Path) -> JsonObject:
            summary = build_dataset(folder, out, vocabulary=vocabulary, config=config)
            after = settings.observe(domain, split)
            if after.digest != before.digest:
                raise InputError(
                    f"{folder}: changed while it was read (digest {before.digest[:12]}, then "
                    f"{after.digest[:12]}); run again when the copying is over"
                )
            return summary

        artifact = produce(
            context,
            settings.store(),
            stations=DATASET_STATIONS,
            inputs={f"{RAW_ANNOTATIONS}:{context.partition_key}": before.digest},
            config={**without(asdict(config), "workers"), "vocabulary_digest": vocabulary.digest},
            make=make,
        )
        summary = artifact.summary
        return materialized(
            artifact,
            {
                "num_documents": summary["num_documents"],
                "num_rejected": summary["num_rejected"],
                "reject_rate": float(summary["reject_rate"]),
                "num_words": summary.get("num_words", 0),
                "rejects_by_reason": count_table("reason", summary["rejects_by_reason"]),
                "doc_types": count_table("doc_type", summary["doc_type_counts"]),
                "fields": count_table("field", summary["field_counts"]),
                "counters": count_table("counter", summary["counters"]),
            },
        )


@dg.asset(
    key=TOKENIZED_SHARDS,
    deps=[VALIDATED_DATASET],
    partitions_def=domain_split_partitions,
    group_name=GROUP,
    kinds={"numpy", "python"},
    code_version=code_version(*SHARDS_STATIONS),
)
def tokenized_shards(
    context: dg.AssetExecutionContext, config: ShardOptions, settings: Settings
) -> dg.MaterializeResult[Any]:
    """Windows of tokens with boxes and labels, and each page at 224 x 224, ready to be memory-mapped."""
    from sap_vision_assets.shards import ShardConfig, build_shards  # noqa: PLC0415

    with clear_failures():
        store = settings.store()
        vocabulary = settings.vocabulary()
        dataset = store.require(VALIDATED_DATASET, context.partition_key)
        vocabulary.require_digest(str(dataset.summary["vocabulary_digest"]), VALIDATED_DATASET)
        shard_config = ShardConfig(
            tokenizer=settings.tokenizer_name(), max_tokens=config.max_tokens, stride=config.stride
        )
        artifact = produce(
            context,
            store,
            stations=SHARDS_STATIONS,
            inputs=inputs_of(dataset),
            config={
                # The tokenizer's digest, not its path, makes the shards what they are.
                **without(asdict(shard_config), "tokenizer"),
                TOKENIZER_DIGEST: settings.tokenizer_digest,
                "vocabulary_digest": vocabulary.digest,
            },
            make=lambda out: build_shards(
                dataset.path, out, vocabulary=vocabulary, config=shard_config, workers=settings.workers
            ),
        )
        numbers = {
            name: value for name, value in artifact.summary.items() if isinstance(value, int | float | str)
        }
        return materialized(artifact, numbers)


def existing_folder(settings: Settings, domain: str, split: str) -> Path:
    """The split's data folder; raises InputError for a bad domain name or a folder that is not there."""
    folder = settings.split_folder(require_domain_name(domain), split)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such folder; put images/ and annotations/ into it, or set the data root "
            "(--data, SAP_VISION_DATA or the setting data_root)"
        )
    return folder


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}
