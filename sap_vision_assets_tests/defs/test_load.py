"""What importing the definitions costs, and who may import Dagster."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import sap_vision_assets

PACKAGE = Path(sap_vision_assets.__file__).parent


def test_definitions_load_in_seconds_and_without_torch(home: Path) -> None:
    program = (
        "import json, sys, time; start = time.process_time(); import sap_vision_assets.definitions;"
        "print(json.dumps([time.process_time() - start, [name for name in"
        " ('torch', 'transformers', 'onnxruntime') if name in sys.modules]]))"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    seconds, heavy = json.loads(shown.stdout)
    assert seconds < 5  # 1.6 s measured on two busy cores
    assert heavy == []


def test_only_the_dagster_side_imports_dagster() -> None:
    importers = {
        file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py") if "dagster" in _imported(file)
    }
    assert importers <= {
        "definitions.py",
        *(f"defs/{file.name}" for file in (PACKAGE / "defs").glob("*.py")),
    }
    assert "definitions.py" in importers


def test_stations_do_not_import_the_dagster_side() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] not in ("defs", "definitions.py", "cli.py"):
            assert not any(name.startswith("sap_vision_assets.def") for name in _modules(file)), file


def _modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _imported(file: Path) -> set[str]:
    return {name.split(".")[0] for name in _modules(file)}
