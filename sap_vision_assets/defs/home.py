"""Where this installation keeps its state, and how it finds its data: four environment variables.

SAP_VISION_HOME        artefacts and Dagster's storage; default .sap_vision in the checkout, else where one is
SAP_VISION_DATA        the data root with <domain>/<split>/; default $SAP_VISION_HOME/data
SAP_VISION_VOCABULARY  a vocabulary extension file; default none
DAGSTER_HOME           Dagster's own; default $SAP_VISION_HOME, so that the command line and the UI agree
"""

import os
from pathlib import Path

import sap_vision_assets
from sap_vision_assets.errors import InputError

HOME_VARIABLE = "SAP_VISION_HOME"
DATA_VARIABLE = "SAP_VISION_DATA"
VOCABULARY_VARIABLE = "SAP_VISION_VOCABULARY"
DAGSTER_HOME_VARIABLE = "DAGSTER_HOME"

_CHECKOUT = Path(sap_vision_assets.__file__).absolute().parents[1]


def home() -> Path:
    """The folder of all state; it need not exist yet."""
    configured = os.environ.get(HOME_VARIABLE)
    if configured:
        return Path(configured).expanduser().absolute()
    is_checkout = (_CHECKOUT / "workspace.yaml").is_file()
    return (_CHECKOUT if is_checkout else Path.cwd()) / ".sap_vision"


def data_root() -> Path:
    configured = os.environ.get(DATA_VARIABLE)
    return Path(configured).expanduser().absolute() if configured else home() / "data"


def vocabulary_extension() -> Path | None:
    configured = os.environ.get(VOCABULARY_VARIABLE)
    return Path(configured).expanduser().absolute() if configured else None


def prepare_home() -> Path:
    """Creates the home and points Dagster at it, for this process and its children.

    A DAGSTER_HOME that is set already is kept. Where it has no dagster.yaml, the one of the checkout (or of
    the working directory) is linked into it, so that an edit there counts at once; a file of one's own stays
    as it is. Raises InputError where a folder cannot be made.
    """
    folder = home()
    dagster_home = Path(os.environ.get(DAGSTER_HOME_VARIABLE) or folder).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        dagster_home.mkdir(parents=True, exist_ok=True)
        _link_dagster_yaml(dagster_home / "dagster.yaml")
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be written ({error.strerror}); "
            f"set {HOME_VARIABLE} (and {DAGSTER_HOME_VARIABLE}, if you set it) to a folder of yours"
        ) from error
    os.environ[HOME_VARIABLE], os.environ[DAGSTER_HOME_VARIABLE] = str(folder), str(dagster_home)
    return folder


def _link_dagster_yaml(link: Path) -> None:
    if link.exists():
        return
    for source in (_CHECKOUT / "dagster.yaml", Path.cwd() / "dagster.yaml"):
        if source.is_file():
            link.unlink(missing_ok=True)  # a link into a checkout that has moved
            link.symlink_to(source)
            return
