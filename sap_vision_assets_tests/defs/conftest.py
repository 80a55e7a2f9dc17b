from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sap_vision_assets.defs.partitions import register_domains

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of the test's own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SAP_VISION_HOME", str(folder))
    for name in ("SAP_VISION_DATA", "SAP_VISION_VOCABULARY", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


@pytest.fixture
def data(home: Path) -> Path:
    folder = home / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        register_domains(made, ["general", "acme", "other"])
        yield made


def run(
    instance: dg.DagsterInstance,
    job: str,
    partition: str | None = None,
    *,
    assets: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    ops: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """Executes a job, or some of its assets, in this process."""
    from sap_vision_assets.definitions import defs

    config = {"resources": {"settings": {"config": {"workers": 1, **(settings or {})}}}, "ops": ops or {}}
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=partition,
        run_config={**config, **QUIET},
        asset_selection=None if assets is None else [dg.AssetKey(name.split("/")) for name in assets],
        raise_on_error=False,
    )


def statuses(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What each materialised asset says was done."""
    return {
        event.asset_key.to_user_string(): str(
            event.step_materialization_data.materialization.metadata["status"].value
        )
        for event in result.get_asset_materialization_events()
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a failed step said."""
    data = next(e for e in result.all_events if e.is_step_failure and e.step_key == step).step_failure_data
    if data.user_failure_data is not None:
        return str(data.user_failure_data.description)
    return str(data.error)
