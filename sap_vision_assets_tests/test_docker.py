"""docker/ cannot be started in a test; its files are loaded by what will load them."""

import importlib
from pathlib import Path, PurePosixPath

import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster._core.workspace.config_schema import process_workspace_config
from dagster_postgres.storage import DagsterPostgresStorage

DOCKER = Path(__file__).parents[1] / "docker"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAP_VISION_HOME", "home")
    for name in ("HOST", "USER", "PASSWORD", "DB"):
        monkeypatch.setenv(f"DAGSTER_POSTGRES_{name}", name.lower())


def load(name: str, folder: Path = DOCKER) -> dict:
    return yaml.safe_load((folder / name).read_text())


@pytest.mark.parametrize("folder", [DOCKER, DOCKER.parent])
def test_instance_configuration_is_dagsters(folder: Path) -> None:
    result = process_config(dagster_instance_config_schema(), load("dagster.yaml", folder))
    assert result.success, result.errors


def test_a_misspelt_setting_would_be_noticed() -> None:
    config = load("dagster.yaml")
    config["run_monitoring"]["cancel_timeout"] = 1
    assert not process_config(dagster_instance_config_schema(), config).success


def test_storage_is_postgres_with_its_own_settings() -> None:
    result = process_config(DagsterPostgresStorage.config_type(), load("dagster.yaml")["storage"]["postgres"])
    assert result.success, result.errors
    assert result.value["postgres_db"]["hostname"] == "host"


@pytest.mark.parametrize("folder", [DOCKER, DOCKER.parent])
def test_workspaces_are_dagsters(folder: Path) -> None:
    result = process_workspace_config(load("workspace.yaml", folder))
    assert result.success, result.errors


def test_both_instances_differ_in_their_storage_and_limits_alone() -> None:
    here, docker = load("dagster.yaml", DOCKER.parent), load("dagster.yaml")
    for config in (here, docker):
        del config["storage"]
        for name in ("compute_logs", "local_artifact_storage"):  # one machine needs no word on them
            config.pop(name, None)
        del config["concurrency"]["runs"]
    here.pop("code_servers", None)  # local ones only: the containers have one that runs already
    assert here == docker


def test_compose_has_the_four_services_and_the_gpu() -> None:
    services = load("compose.yaml")["services"]
    assert set(services) == {"postgres", "code", "webserver", "daemon"}
    (device,) = services["code"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert load("workspace.yaml")["load_from"][0]["grpc_server"]["host"] == "code"
    assert "--port 4000" in services["code"]["command"]


def test_the_webserver_reads_what_runs_print() -> None:
    """Runs write their output in `code`, the UI shows it from `webserver`: only the volume is common."""
    config, services = load("dagster.yaml"), load("compose.yaml")["services"]
    for name in ("compute_logs", "local_artifact_storage"):
        folder = PurePosixPath(config[name]["config"]["base_dir"])
        for service in ("code", "webserver", "daemon"):
            mounted = [volume.split(":")[1] for volume in services[service]["volumes"]]
            assert any(folder.is_relative_to(target) for target in mounted)
        assert getattr(importlib.import_module(config[name]["module"]), config[name]["class"])


def test_the_ui_is_published_on_this_machine_alone() -> None:
    assert load("compose.yaml")["services"]["webserver"]["ports"] == ["127.0.0.1:3000:3000"]


def test_every_variable_of_the_instance_is_set_by_compose() -> None:
    storage = load("dagster.yaml")["storage"]["postgres"]["postgres_db"]
    wanted = {value["env"] for value in storage.values() if isinstance(value, dict)}
    for name in ("code", "webserver", "daemon"):
        assert wanted <= load("compose.yaml")["services"][name]["environment"].keys()


def test_image_copies_files_that_exist_and_are_not_ignored() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    sources = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    allowed = (DOCKER.parent / ".dockerignore").read_text()
    for source in sources:
        assert (DOCKER.parent / source).exists(), source
        assert f"!{source.split('/')[0]}" in allowed, source
