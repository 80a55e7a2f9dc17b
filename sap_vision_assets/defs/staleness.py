"""What has changed since it was last prepared or trained on, and whether that is reason to train again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sap_vision_assets.artifacts import Artifact, ArtifactStore
from sap_vision_assets.defs.dataset import TOKENIZED_SHARDS, TOKENIZER_DIGEST, VALIDATED_DATASET
from sap_vision_assets.defs.options import overrides
from sap_vision_assets.defs.partitions import GENERAL, SPLITS, TRAIN, VAL, split_key
from sap_vision_assets.defs.publishing import artifact_name, follow
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    DOMAIN_SCOPE,
    GENERAL_SCOPE,
    PROMOTED_MODEL,
    TRAINING_SET,
    Scope,
    scope_of,
)
from sap_vision_assets.defs.training import raw_digest
from sap_vision_assets.documents.files import is_domain_name


def find_domains(settings: Settings) -> tuple[list[str], list[str]]:
    """Domains below the data root, "general" always among them, and folders whose names cannot be one."""
    root = settings.data_path()
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()] if root.is_dir() else []
    with_splits = [entry.name for entry in folders if any((entry / split).is_dir() for split in SPLITS)]
    domains = {GENERAL, *(name for name in with_splits if is_domain_name(name))}
    return sorted(domains), [name for name in with_splits if not is_domain_name(name)]


@dataclass
class Seen:
    """The sensor's memory: the digest of each split, and how often it came back to an earlier one.

    A run key counts once for ever: data that is put back to what it was needs another key the second time.
    """

    now: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def read(cursor: str | None) -> "Seen":
        record = json.loads(cursor) if cursor else {}
        return Seen(now=record.get("now", {}), times=record.get("times", {}))

    def write(self) -> str:
        return json.dumps({"now": self.now, "times": self.times})

    def run_key(self, name: str, digest: str) -> str:
        """`name:digest`, the same until the digest of `name` changes and comes back."""
        key = f"{name}:{digest[:20]}"
        if self.now.get(name) != digest:
            self.now[name] = digest
            self.times[key] = self.times.get(key, 0) + 1
        returns = self.times[key] - 1
        return f"{key}#{returns}" if returns else key

    def next_run_key(self, name: str, run_key: str) -> str:
        """The one after `run_key`, for the same content of `name`, once more."""
        key = run_key.partition("#")[0]
        self.times[key] += 1
        return self.run_key(name, self.now[name])


def prepared(settings: Settings, store: ArtifactStore, domain: str, split: str, digest: str) -> bool:
    """Whether today's shards of the split were made from the data of `digest`, with today's tokenizer."""
    key = split_key(domain, split)
    dataset, shards = store.current(VALIDATED_DATASET, key), store.current(TOKENIZED_SHARDS, key)
    return (
        dataset is not None
        and shards is not None
        and raw_digest(dataset) == digest
        and shards.spec.config[TOKENIZER_DIGEST] == settings.tokenizer_digest
        and shards.spec.inputs.get(artifact_name(VALIDATED_DATASET, key)) == dataset.digest
    )


def last_training(store: ArtifactStore, scope: Scope, partition: str) -> tuple[Artifact, Artifact] | None:
    """The current checkpoint and the training set that it was made from."""
    checkpoint = store.current(scope.key(CHECKPOINT), partition)
    if checkpoint is None:
        return None
    return checkpoint, follow(store, checkpoint, scope.key(TRAINING_SET), partition)


def why_not_train(
    settings: Settings, store: ArtifactStore, domain: str, digests: Mapping[str, str], min_new_documents: int
) -> str | None:
    """The reason for which `domain` needs no training now, or cannot have one; None: it should be trained."""
    scope, partition = scope_of(domain)
    if scope is DOMAIN_SCOPE and store.current(GENERAL_SCOPE.key(PROMOTED_MODEL)) is None:
        return f"{domain}: no general model is promoted yet, and a domain's starts from it"
    missing = [split for split in SPLITS if split not in digests]
    if missing:
        return f"{domain}: no labelled documents in {', '.join(missing)}"
    waiting = [split for split in SPLITS if not prepared(settings, store, domain, split, digests[split])]
    if waiting:
        return f"{domain}: {', '.join(waiting)} not prepared yet"
    last = last_training(store, scope, partition)
    trained = {} if last is None else last[1].summary["raw_annotations"]
    if all(trained.get(split) == digests[split] for split in (TRAIN, VAL)):
        return f"{domain}: train and val are as they were at the last training"
    num_changed = _num_changed(settings, store, domain, last)
    if num_changed < min_new_documents:
        return f"{domain}: {num_changed} documents are new, changed or gone, {min_new_documents} start one"
    return None


def _num_changed(
    settings: Settings, store: ArtifactStore, domain: str, last: tuple[Artifact, Artifact] | None
) -> int:
    from sap_vision_assets.shards.training_set import num_changed_documents  # noqa: PLC0415

    datasets = {split: store.current(VALIDATED_DATASET, split_key(domain, split)) for split in (TRAIN, VAL)}
    paths = {split: item.path for split, item in datasets.items() if item is not None}
    return num_changed_documents(paths, None if last is None else last[1].path, settings.vocabulary())


def as_last_time(store: ArtifactStore, scope: Scope, partition: str) -> dict[str, Any]:
    """Run config for the recipe of the training before, and what was set beside it; empty without one."""
    last = last_training(store, scope, partition)
    if last is None:
        return {}
    made_with = last[0].spec.config
    options = {"recipe": made_with["recipe"], **overrides(made_with["recipe"], made_with["training"])}
    return {"ops": {f"{scope.name}__{CHECKPOINT}": {"config": options}}}


def training_content(digests: Mapping[str, str]) -> str:
    """One digest of what a training reads; test labels are not in it."""
    return hashlib.sha256(f"{digests[TRAIN]} {digests[VAL]}".encode()).hexdigest()
