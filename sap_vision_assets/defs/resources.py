"""The one resource of all assets: settings, and the two things that follow from them."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import dagster as dg
from pydantic import ConfigDict, Field, create_model, model_validator

from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs import home
from sap_vision_assets.defs.partitions import require_domain_name
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from sap_vision_assets.documents import FolderState
    from sap_vision_assets.evaluation.gates import Floors

SETTINGS_FILE = "settings.json"


class FloorSettings(dg.Config):
    """What a model must reach to be promoted. null switches one gate off, and the gate says so."""

    model_config = ConfigDict(extra="forbid")

    doc_type_accuracy: float | None = Field(default=0.95, description="Share of test documents, 0 to 1.")
    field_f1: float | None = Field(
        default=0.92, description="Strict micro entity F1 on the test documents, 0 to 1."
    )
    max_regression: float = Field(
        default=0.005,
        description="How much lower than the promoted model's a metric may be, as an absolute difference.",
    )
    checkpoint_bytes_max: int | None = Field(
        default=440_000_000, description="Bytes of the checkpoint's weights."
    )
    latency_ms_max: float | None = Field(
        default=50.0, description="Milliseconds per page; binding on a GPU, a warning on a CPU."
    )

    def gates(self) -> "Floors":
        from sap_vision_assets.evaluation.gates import Floors  # noqa: PLC0415

        return Floors(**self.model_dump())


class Settings(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic over a value that only legacy resources have
    """Settings of this installation.

    $SAP_VISION_HOME/settings.json changes the defaults for the command line, the UI and the daemon alike; the
    launchpad of one run can override any of them.
    """

    data_root: str | None = Field(
        default=None,
        description="Folder with <domain>/<split>/. null: $SAP_VISION_DATA, else $SAP_VISION_HOME/data.",
    )
    artifact_root: str | None = Field(
        default=None, description="Folder or fsspec URL of all artefacts. null: $SAP_VISION_HOME/artifacts."
    )
    vocabulary_extension: str | None = Field(
        default=None,
        description="File that adds fields, types or subtypes. null: $SAP_VISION_VOCABULARY, else none.",
    )
    tokenizer: str = Field(
        default="builtin",
        min_length=1,
        description='Of all shards: "builtin", "minilm", a directory with tokenizer.json or vocab.json, or a '
        "hub name. Another one makes all shards anew, and needs a general model that is trained on them.",
    )
    keep: int = Field(
        default=3, ge=1, description="Versions of each asset partition that stay, besides those in use."
    )
    max_reject_rate: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of rejected documents above which a dataset stops what follows.",
    )
    min_new_documents: int = Field(
        default=50,
        ge=1,
        description="New, changed or removed train and val documents that start a domain's next fine-tuning.",
    )
    floors: FloorSettings = Field(default=FloorSettings(), description="Gates of every model.")
    domain_floors: dict[str, FloorSettings] = Field(
        default={}, description="Gates of one domain's model, by its name, instead of `floors`."
    )
    is_of_file: ClassVar[bool] = False
    """Whether these are settings.json's, and not a test's or a script's own."""
    progress_interval_s: float = Field(
        default=5,
        gt=0,
        description="Least seconds between two progress records of a training in the event log.",
    )
    workers: int = Field(default=0, ge=0, description="Processes that prepare data; 0: one a core.")

    @model_validator(mode="after")
    def _floors_are_possible(self) -> Self:
        for domain, floors in {"": self.floors, **self.domain_floors}.items():
            if domain:
                require_domain_name(domain)
            floors.gates()
        return self

    def data_path(self) -> Path:
        return _below_home(self.data_root) if self.data_root else home.data_root()

    def split_folder(self, domain: str, split: str) -> Path:
        return self.data_path() / domain / split

    def vocabulary_path(self) -> Path | None:
        if self.vocabulary_extension:
            return _below_home(self.vocabulary_extension)
        return home.vocabulary_extension()

    def vocabulary(self) -> Vocabulary:
        return load_vocabulary(self.vocabulary_path())

    def tokenizer_name(self) -> str:
        """What `load_tokenizer` takes: the word, or the directory's absolute path where it is one."""
        from sap_vision_assets.shards import BUILTIN, MINILM  # noqa: PLC0415

        folder = _below_home(self.tokenizer)
        return self.tokenizer if self.tokenizer in (BUILTIN, MINILM) or not folder.is_dir() else str(folder)

    @cached_property
    def tokenizer_digest(self) -> str:
        """Digest of the tokenizer of all shards; InputError where it cannot be had."""
        from sap_vision_assets.shards import load_tokenizer  # noqa: PLC0415

        return load_tokenizer(self.tokenizer_name()).digest

    def today(self) -> "Settings":
        """Settings as settings.json has them now: a daemon has those that it began with, for weeks."""
        return load_settings() if self.is_of_file else self

    def store(self) -> ArtifactStore:
        root = self.artifact_root or "artifacts"
        if "://" not in root:
            root = str(_below_home(root))
        try:
            return ArtifactStore(root, work_dir=home.home() / "work", keep=self.keep)
        except (ValueError, ImportError) as error:
            raise InputError(
                f"artifact_root {root!r}: {error}; give a folder, or a URL whose fsspec package is installed"
            ) from error

    def observe(self, domain: str, split: str) -> "FolderState":
        """What the split's folder holds now; files that are as they were the last time are not read again."""
        from sap_vision_assets.documents import observe_folder  # noqa: PLC0415

        folder = self.split_folder(domain, split)
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        return observe_folder(folder, cache=home.home() / "cache" / f"observed_{name}.json")

    def floors_of(self, domain: str) -> "Floors":
        return self.domain_floors.get(domain, self.floors).gates()


def _below_home(path: str) -> Path:
    """A path of the settings: relative ones start at $SAP_VISION_HOME, wherever a process was started."""
    return home.home() / Path(path).expanduser()


def load_settings() -> Settings:
    """Settings of $SAP_VISION_HOME/settings.json, defaults where it says nothing or does not exist.

    Raises InputError for a file that is not a JSON object of these fields, each with a value that can be.
    """
    file = home.home() / SETTINGS_FILE
    try:
        record = _read_record(file)
        unknown = sorted(record.keys() - Settings.model_fields.keys())
        if unknown:
            raise InputError(f"{unknown[0]!r} is no setting; known are {sorted(Settings.model_fields)}")
        return _with_defaults(Settings(**record), record)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {error}; correct the file, or remove it for the defaults") from error


def remember_data_root(folder: Path) -> bool:
    """Makes `folder` the data root of this installation, for the UI and the daemon too, in settings.json.

    Returns whether that was news. Raises InputError when the file cannot be written.
    """
    if load_settings().data_path() == folder:
        return False
    _remember("data_root", str(folder), "--data")
    return True


def remember_tokenizer(name: str) -> bool:
    """Makes `name` the tokenizer of all shards of this installation; otherwise as `remember_data_root`."""
    if load_settings().tokenizer == name:
        return False
    _remember("tokenizer", name, "--tokenizer")
    return True


def _remember(setting: str, value: str, option: str) -> None:
    file = home.home() / SETTINGS_FILE
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(json.dumps({**_read_record(file), setting: value}, indent=2) + "\n")
        draft.replace(file)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); set {setting} to {value} there, "
            f"or leave out {option}"
        ) from error


def _read_record(file: Path) -> dict[str, Any]:
    record: Any = json.loads(file.read_bytes(), object_pairs_hook=_without_doubles) if file.exists() else {}
    if not isinstance(record, dict):
        raise InputError(f"holds a {type(record).__name__}, expected an object of settings")
    return record


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return record


def _with_defaults(settings: Settings, record: Mapping[str, Any]) -> Settings:
    """`settings`, with the values of `record` as its fields' defaults.

    A launchpad that overrides one field of a resource takes all others from the class, not from the object.
    """
    defaults: dict[str, Any] = {}
    for name in record:
        value = getattr(settings, name)
        defaults[name] = (
            {key: item.model_dump() for key, item in value.items()} if isinstance(value, dict) else value
        )
    of_file = _redefined(Settings, defaults)
    of_file.is_of_file = True
    made: Settings = of_file()
    return made


def _redefined(config: Any, defaults: Mapping[str, Any]) -> Any:
    """A class like `config` with other defaults of the named fields.

    Floors become a class of their own: Dagster loses a null in the default of a nested config, and the gate
    that it switches off would be on.
    """
    fields: dict[str, Any] = {}
    for name, default in defaults.items():
        declared = config.model_fields[name]
        kind, value = declared.annotation, default
        if isinstance(default, FloorSettings):
            kind = _redefined(FloorSettings, default.model_dump())
            value = kind()
        fields[name] = (kind, Field(value, description=declared.description, validate_default=True))
    return create_model(config.__name__, __base__=config, **fields)
