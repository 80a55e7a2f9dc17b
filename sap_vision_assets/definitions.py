"""Everything that Dagster sees of this package, wired here and only here."""

import dagster as dg

from sap_vision_assets.defs.automation import data_root_sensor, general_retraining
from sap_vision_assets.defs.checks import dataset_checks, model_checks
from sap_vision_assets.defs.dataset import raw_annotations, tokenized_shards, validated_dataset
from sap_vision_assets.defs.jobs import JOBS
from sap_vision_assets.defs.model import model_assets
from sap_vision_assets.defs.resources import load_settings
from sap_vision_assets.defs.scopes import SCOPES

defs = dg.Definitions(
    assets=[
        raw_annotations,
        validated_dataset,
        tokenized_shards,
        *(asset for scope in SCOPES for asset in model_assets(scope)),
    ],
    asset_checks=[*dataset_checks(), *(check for scope in SCOPES for check in model_checks(scope))],
    jobs=JOBS,
    schedules=[general_retraining],
    sensors=[data_root_sensor],
    resources={"settings": load_settings()},
)
