"""Settings, the home, the launchpad's options, partitions' names."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sap_vision_assets.defs import home as home_module
from sap_vision_assets.defs.options import (
    ArchitectureOptions,
    TrainingOptions,
    check_options,
    overrides,
    training_config,
)
from sap_vision_assets.defs.partitions import split_key
from sap_vision_assets.defs.resources import (
    Settings,
    load_settings,
    remember_data_root,
    remember_tokenizer,
)
from sap_vision_assets.documents.files import is_domain_name
from sap_vision_assets.errors import InputError
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets.training.config import ArchitectureConfig, TrainingConfig
from sap_vision_assets.training.recipes import RECIPES, demo, demo_finetune
from sap_vision_assets_tests.defs.conftest import QUIET


def test_paths_follow_the_home_unless_they_are_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().data_path() == home / "data"
    assert Path(Settings().store().root.path) == home / "artifacts"
    assert Settings().vocabulary_path() is None
    monkeypatch.setenv("SAP_VISION_DATA", str(home / "documents"))
    monkeypatch.setenv("SAP_VISION_VOCABULARY", str(home / "more.json"))
    assert Settings().split_folder("acme", "val") == home / "documents" / "acme" / "val"
    assert Settings().vocabulary_path() == home / "more.json"
    assert Settings(data_root=str(home / "mine")).data_path() == home / "mine"


def test_prepare_home_links_the_instance_settings(home: Path) -> None:
    assert home_module.prepare_home() == home
    linked = home / "dagster.yaml"
    assert linked.is_symlink()
    assert "storage" in linked.read_text()
    linked.unlink()
    linked.write_text("telemetry:\n  enabled: false\n")
    home_module.prepare_home()
    assert not linked.is_symlink()


def test_a_dangling_link_is_made_anew(home: Path) -> None:
    (home / "dagster.yaml").symlink_to(home / "moved" / "dagster.yaml")
    home_module.prepare_home()
    assert (home / "dagster.yaml").exists()


def test_dagster_home_of_ones_own_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "elsewhere"))
    home_module.prepare_home()
    assert (home / "elsewhere" / "dagster.yaml").exists()
    assert not (home / "dagster.yaml").exists()


def test_the_settings_file_changes_defaults_that_a_launchpad_leaves_alone(home: Path) -> None:
    record = {
        "keep": 7,
        "floors": {"field_f1": 0.5, "latency_ms_max": None},
        "domain_floors": {"acme": {"field_f1": None}},
    }
    (home / "settings.json").write_text(json.dumps(record))
    seen: list[Settings] = []

    @dg.asset
    def probe(settings: Settings) -> None:
        seen.append(settings)

    def launch(config: dict[str, Any]) -> Settings:
        resources = {"resources": {"settings": {"config": config}}} if config else {}
        dg.materialize([probe], resources={"settings": load_settings()}, run_config={**resources, **QUIET})
        return seen.pop()

    for launched in (load_settings(), launch({}), launch({"data_root": "/data"})):
        assert launched.keep == 7
        assert launched.floors_of("general").field_f1 == 0.5
        assert launched.floors_of("general").doc_type_accuracy == 0.95
        assert launched.floors_of("general").latency_ms_max is None
        assert launched.floors_of("acme").field_f1 is None
    assert launch({"floors": {"field_f1": 0.7}}).floors_of("general").field_f1 == 0.7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "expected an object"),
        ("{", "correct the file"),
        ('{"kep": 3}', "'kep' is no setting"),
        ('{"keep": 0}', "keep"),
        ('{"tokenizer": ""}', "tokenizer"),
        ('{"floors": {"field_f1": "high"}}', "field_f1"),
        ('{"floors": {"field_fl": 0.5}}', "field_fl"),
        ('{"floors": {"doc_type_accuracy": 95}}', "95 % is 0.95"),
        ('{"floors": {"max_regression": 1.0}}', "max_regression=1.0"),
        ('{"domain_floors": {"receipts": {"field_f1": 7}}}', "field_f1=7"),
        ('{"domain_floors": {"Reciepts!": {}}}', "'Reciepts!'"),
        ('{"keep": 3, "keep": 4}', "'keep' stands there twice"),
        ("\xff", "correct the file"),
    ],
)
def test_a_bad_settings_file_is_refused(home: Path, content: str, said: str) -> None:
    (home / "settings.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="settings") as caught:
        load_settings()
    assert said in str(caught.value)


def test_every_field_of_a_training_can_be_overridden() -> None:
    training = {field.name for field in dataclasses.fields(TrainingConfig)}
    architecture = {field.name for field in dataclasses.fields(ArchitectureConfig)}
    assert set(TrainingOptions.model_fields) == {*training, "recipe"}
    assert set(ArchitectureOptions.model_fields) == architecture


def test_options_change_the_recipe_and_nothing_else() -> None:
    name, config = training_config(TrainingOptions(recipe=None), "demo")
    assert (name, config) == ("demo", demo())
    options = TrainingOptions(recipe="demo_finetune", max_steps=7, warmup_steps=0)
    name, config = training_config(options, "demo")
    assert name == "demo_finetune"
    assert config == dataclasses.replace(demo_finetune(), max_steps=7, warmup_steps=0)
    options = TrainingOptions(recipe="demo", architecture=ArchitectureOptions(num_layers=2))
    expected = dataclasses.replace(demo().architecture or ArchitectureConfig(), num_layers=2)
    assert training_config(options, "demo")[1].architecture == expected


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_can_be_named(recipe: str) -> None:
    assert training_config(TrainingOptions(recipe=recipe), "demo") == (recipe, RECIPES[recipe]())


def test_unknown_recipes_and_fields_are_refused() -> None:
    with pytest.raises(InputError, match="'large' is unknown"):
        training_config(TrainingOptions(recipe="large"), "demo")
    with pytest.raises(InputError, match="'steps' is no field of a training"):
        check_options({"steps": 3}, "demo", starts_anew=True)
    check_options({"max_steps": 30, "recipe": "tiny"}, "demo", starts_anew=True)


@pytest.mark.parametrize(
    ("options", "starts_anew", "said"),
    [
        ({"batch_size": 0}, True, "batch_size=0 must be positive"),
        ({"max_steps": "many"}, True, "max_steps='many'"),
        ({"architecture": {"layers": 3}}, True, "architecture.layers"),
        ({"recipe": "tiny_finetune"}, True, "this is the general model"),
        ({"recipe": "tiny"}, False, "a domain's model starts from the promoted general one"),
        ({"initial_weights": "minilm"}, False, "initial_weights='minilm': a domain's model starts from"),
    ],
)
def test_options_that_make_no_training_are_refused(
    options: dict[str, Any], starts_anew: bool, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_options(options, "demo" if starts_anew else "demo_finetune", starts_anew=starts_anew)
    assert said in str(caught.value)


def test_the_general_model_may_go_on_from_a_checkpoint() -> None:
    config = check_options(
        {"recipe": "tiny_finetune", "initial_weights": "kept/best"}, "demo", starts_anew=True
    )
    assert (config.architecture, config.initial_weights) == (None, "kept/best")


def test_overrides_give_the_same_training_again() -> None:
    options = {"max_steps": 7, "warmup_steps": 1, "architecture": {"num_layers": 2}, "precision": "fp32"}
    recipe, config = training_config(TrainingOptions(recipe="demo", **options), "demo")
    record = json.loads(json.dumps(config.to_json()))
    assert training_config(TrainingOptions(recipe=recipe, **overrides(recipe, record)), "demo")[1] == config
    assert overrides("demo", demo().to_json()) == {}
    assert overrides("a recipe of old", record) == {}


def test_relative_paths_of_the_settings_start_at_the_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(data_root="pages", artifact_root="made", vocabulary_extension="more.json")
    assert settings.data_path() == home / "pages"
    assert settings.vocabulary_path() == home / "more.json"
    assert str(settings.store().root) == str(home / "made")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(Settings(artifact_root="~/made").store().root) == str(tmp_path / "made")
    with pytest.raises(InputError, match=r"artifact_root 'nope://bucket'"):
        Settings(artifact_root="nope://bucket").store()


def test_a_data_root_is_remembered_beside_the_other_settings(home: Path) -> None:
    (home / "settings.json").write_text('{"keep": 7}')
    assert not remember_data_root(home / "data")  # the default
    assert remember_data_root(home / "pages")
    assert not remember_data_root(home / "pages")
    assert json.loads((home / "settings.json").read_text()) == {"keep": 7, "data_root": str(home / "pages")}
    assert load_settings().data_path() == home / "pages"


def test_a_tokenizer_is_remembered_beside_the_other_settings(home: Path) -> None:
    (home / "settings.json").write_text('{"keep": 7}')
    assert not remember_tokenizer("builtin")  # the default
    assert remember_tokenizer("minilm")
    assert not remember_tokenizer("minilm")
    assert json.loads((home / "settings.json").read_text()) == {"keep": 7, "tokenizer": "minilm"}
    assert load_settings().tokenizer == "minilm"


def test_the_tokenizer_is_a_word_or_a_folder_of_the_home(home: Path) -> None:
    builtin, minilm = (load_tokenizer(name) for name in ("builtin", "minilm"))
    assert Settings().tokenizer_digest == builtin.digest
    assert Settings(tokenizer="minilm").tokenizer_digest == minilm.digest
    minilm.save(home / "tokens")
    assert Settings(tokenizer="tokens").tokenizer_name() == str(home / "tokens")
    assert Settings(tokenizer="tokens").tokenizer_digest == minilm.digest
    # A word is one whatever lies there.
    minilm.save(home / "builtin")
    assert Settings(tokenizer="builtin").tokenizer_digest == builtin.digest
    with pytest.raises(InputError, match="no directory and no hub name"):
        _ = Settings(tokenizer="nothing here").tokenizer_digest


def test_settings_of_the_file_follow_it_and_others_do_not(home: Path) -> None:
    """A daemon keeps the settings with which it began; what it decides on is today's."""
    of_file, own = load_settings(), Settings(keep=4)
    (home / "settings.json").write_text('{"tokenizer": "minilm", "keep": 5}')
    assert (of_file.tokenizer, of_file.today().tokenizer, of_file.today().today().keep) == (
        *("builtin", "minilm"),
        5,
    )
    assert own.today() is own


def test_a_home_that_cannot_be_made_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("SAP_VISION_HOME", str(home / "file" / "home"))
    with pytest.raises(InputError, match=r"cannot be written .*SAP_VISION_HOME"):
        home_module.prepare_home()


@pytest.mark.parametrize("value", ["", "dagster"])
def test_dagsters_home_is_absolute_and_empty_means_unset(
    value: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", value)
    home_module.prepare_home()
    expected = tmp_path / value if value else home
    assert os.environ["DAGSTER_HOME"] == str(expected)
    assert (expected / "dagster.yaml").exists()
    assert not (tmp_path / "dagster.yaml").exists()


@pytest.mark.parametrize("name", ["general", "a", "0", "acme_2-b", "x" * 63])
def test_domain_names(name: str) -> None:
    assert is_domain_name(name)
    assert split_key(name, "val") == f"{name}|val"


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "a b", "a|b", "a,b", "a/b", "ä", "a.b", "x" * 64, "a\n"]
)
def test_names_that_are_no_domains(name: str) -> None:
    assert not is_domain_name(name)
