from dataclasses import replace

from sap_vision_assets.defs.training import spec_config
from sap_vision_assets.training.recipes import tiny


def test_where_machines_meet_makes_no_other_checkpoint_but_their_number_does() -> None:
    config = replace(tiny(), num_nodes=2, rendezvous_endpoint="node1:29400")
    moved = replace(config, rendezvous_endpoint="node7:29400", tracker="wandb")
    assert spec_config("tiny", moved) == spec_config("tiny", config)
    assert "node1" not in str(spec_config("tiny", config))
    assert spec_config("tiny", replace(config, num_nodes=1)) != spec_config("tiny", config)
