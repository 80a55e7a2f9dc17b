import pytest

from sap_vision_assets.errors import InputError
from sap_vision_assets.versions import code_version


def test_code_version_is_of_the_station_and_refuses_a_typo() -> None:
    assert code_version("vocabulary") == code_version("vocabulary") != code_version("vocabulary", "documents")
    assert code_version("documents", "vocabulary") == code_version("vocabulary", "documents")
    with pytest.raises(InputError, match="no station 'vocabularly'"):
        code_version("vocabularly")
