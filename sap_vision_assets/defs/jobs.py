"""What can be launched as a whole: from the UI, by the automation, and by the command line."""

import dagster as dg

from sap_vision_assets.defs.dataset import RAW_ANNOTATIONS, TOKENIZED_SHARDS, VALIDATED_DATASET
from sap_vision_assets.defs.scopes import DOMAIN_SCOPE, GENERAL_SCOPE, MODEL_ASSETS

observe_split = dg.define_asset_job(
    "observe_split",
    selection=[RAW_ANNOTATIONS],
    description="Looks at one split's folder and records its digest. Reads only.",
)
prepare_split = dg.define_asset_job(
    "prepare_split",
    selection=[RAW_ANNOTATIONS, VALIDATED_DATASET, TOKENIZED_SHARDS],
    description="Observes, validates and tokenises one split of one domain.",
)
general_model = dg.define_asset_job(
    "general_model",
    selection=[GENERAL_SCOPE.asset_key(asset) for asset in MODEL_ASSETS],
    description="Trains, evaluates, exports and, when every gate passes, promotes the general model.",
)
domain_model = dg.define_asset_job(
    "domain_model",
    selection=[DOMAIN_SCOPE.asset_key(asset) for asset in MODEL_ASSETS],
    description="Fine-tunes the promoted general model to one domain; promotes it behind the same gates.",
)
JOBS = [observe_split, prepare_split, general_model, domain_model]
MODEL_JOBS = {GENERAL_SCOPE.name: general_model.name, DOMAIN_SCOPE.name: domain_model.name}
