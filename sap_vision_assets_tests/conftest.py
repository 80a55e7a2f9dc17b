"""What tests of several stations share."""

import pytest

from sap_vision_assets_tests.installation import Installation, make_installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Made once, in about a minute. Tests may add to it, and leave alone what is there."""
    return make_installation(tmp_path_factory.mktemp("installation"))
