"""README.md holds: its commands run, in its order and on small data; its tables and JSON are the code's."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.resources import Settings, load_settings
from sap_vision_assets.documents import DatasetConfig, RejectReason
from sap_vision_assets.documents.annotation import parse_annotation
from sap_vision_assets.training.recipes import RECIPES
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.defs.conftest import home  # noqa: F401  (a fixture)
from sap_vision_assets_tests.documents.importers.pdfs import write_pdf
from sap_vision_assets_tests.installation import NUM_DOCUMENTS, Installation

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines() if line]
OURS = [command for command in COMMANDS if command.startswith("sap-vision ")]
SMALLER = {
    # README's word: what the test says instead, everything else being the same.
    "6000": str(NUM_DOCUMENTS["train"]),
    "300": str(NUM_DOCUMENTS["val"]),
    "600": str(NUM_DOCUMENTS["test"]),
    "demo_finetune": "tiny_finetune",
    "base": "tiny",
    # Trainings of several processes are in training/test_worker.py.
    "num_processes=4": "num_processes=1",
    # Several machines are in training/test_several_machines.py, `join` with them.
    "num_nodes=2": "num_nodes=1",
}
NUM_RECEIPTS = 12
NUM_ORDERS = 6


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    kinds = Counter(
        next(word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)) for line in COMMANDS
    )
    assert set(kinds) == {"sap-vision", "make", "docker"}
    assert kinds["docker"] == 1


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_make_has_the_targets(command: str) -> None:
    dry = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


def test_docker_command_names_the_file_and_all_that_it_asks_for() -> None:
    """The compose file itself is in test_docker.py."""
    (command,) = (shlex.split(line) for line in COMMANDS if "docker compose" in line)
    file = ROOT / command[command.index("-f") + 1]
    given = {word.split("=")[0] for word in command if re.match(r"[A-Z_]+=", word)}
    assert given == set(re.findall(r"\$\{(\w+):\?", file.read_text()))


@pytest.mark.timeout(1800)  # two minutes on two free cores, and the installation's
def test_the_commands_run_in_their_order(installation: Installation) -> None:
    _write_receipts(installation.home / "downloads" / "sroie")
    _write_orders(installation.home / "downloads" / "adbuy")
    _write_page(installation)
    assert len(OURS) >= 12
    for line in OURS:
        arguments = [SMALLER.get(word, word) for word in shlex.split(line)[1:]]
        if arguments[0] == "ui":
            if not installation.has_served:
                with installation.ui():
                    pass
            continue
        if arguments[0] == "join":
            continue
        if arguments[0] == "run" and "--recipe" not in arguments:
            arguments += ["--recipe", "tiny"]
        if arguments in installation.done:
            continue
        if "released" in arguments:
            _copy_release(installation)
        made = installation.run(*arguments)
        assert made.returncode == 0, f"{line}\n{made.stdout}{made.stderr}"
        assert made.stdout
    _check_python(installation)


def test_the_cluster_script_has_the_commands_of_the_text() -> None:
    (script,) = (block for language, block in BLOCKS if language == "sh")
    given = re.findall(r"sap-vision [^&\n]+[^&\s]", script)
    assert len(given) == 2
    assert set(given) <= set(OURS)


def _check_python(installation: Installation) -> None:
    (program,) = (block for language, block in BLOCKS if language == "python")
    made = subprocess.run(
        [sys.executable, "-c", program],
        cwd=installation.home,
        env=installation.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.split()[0] in load_vocabulary().doc_type_names


def _write_receipts(folder: Path) -> None:
    """Receipts in SROIE's form, each with words of its own."""
    for name in ("img", "box", "key"):
        (folder / name).mkdir(parents=True)
    for index in range(NUM_RECEIPTS):
        stem = f"receipt{index:02d}"
        lines = [
            f"SHOP{index} LTD",
            f"{index} STREET{index}",
            f"{index + 1:02d}/03/2026",
            f"TOTAL {index}.50",
        ]
        page = Image.new("RGB", (400, 600), "white")
        rows = []
        for line, text in enumerate(lines):
            top = 40 + 100 * line
            ImageDraw.Draw(page).text((50, top), text, fill="black", font_size=24)
            rows.append(f"50,{top},350,{top},350,{top + 30},50,{top + 30},{text}")
        page.save(folder / "img" / f"{stem}.jpg")
        (folder / "box" / f"{stem}.csv").write_text("\r\n".join(rows))
        keys = {"company": lines[0], "address": lines[1], "date": lines[2], "total": f"{index}.50"}
        (folder / "key" / f"{stem}.json").write_text(json.dumps(keys))


def _write_orders(folder: Path) -> None:
    """PDFs and tables in the form of the ad-buy forms, each page with words of its own."""
    folder.mkdir(parents=True)
    columns = "id,contract_num,advertiser,gross_amount,flight_from,flight_to\n"
    labels, on_page_1 = columns, columns
    for index in range(NUM_ORDERS):
        texts = [
            (50, 50, f"Order #: {4711 + index}"),
            (50, 80, f"Advertiser: FRIENDS{index} OF TOWN{index}"),
            (50, 110, "Flight: 02/07/26 - 02/13/26"),
            (50, 140, f"Gross Total: ${index}.50"),
        ]
        write_pdf(folder / f"order{index}.pdf", texts)
        labels += f"order{index},{4711 + index},FRIENDS{index} OF TOWN{index},{index}.50,02/07/26,02/13/26\n"
        on_page_1 += f"order{index},1,1,1,1,1\n"
    (folder / "labels.csv").write_text(labels)
    (folder / "on_page1.csv").write_text(on_page_1)


def _write_page(installation: Installation) -> None:
    """page.json as production has it, without labels, its image beside it, and scan.png."""
    split = installation.home / "data" / "general" / "test"
    record = json.loads(min((split / "annotations").iterdir()).read_text())
    for label in ("doc_type", "po_subtype", "token_labels"):
        record.pop(label, None)
    image = split / "images" / record["image_path"]
    shutil.copy(image, installation.home)
    with Image.open(image) as opened:
        opened.save(installation.home / "scan.png")
    (installation.home / "page.json").write_text(json.dumps(record))


def _copy_release(installation: Installation) -> None:
    promoted = ArtifactStore(installation.home / "artifacts").require("general/promoted_model")
    shutil.copytree(promoted.path, installation.home / "released")
    documented = set(re.findall(r"`([\w.]+\.(?:json|onnx|data))`", _section("Use the model")))
    released = {file.name for file in (installation.home / "released").iterdir()}
    assert documented - {"page.json", "model.onnx.data", "model.int8.onnx"} <= released


def test_the_annotation_is_accepted() -> None:
    (content,) = (block for language, block in BLOCKS if language == "json" and "image_path" in block)
    annotation, counters = parse_annotation(
        content.encode(), vocabulary=load_vocabulary(), config=DatasetConfig()
    )
    assert annotation.words == ("Purchase", "order", "4500012345")
    assert load_vocabulary().labels[annotation.labels[2]] == "B-documentNumber"
    assert not sum(counters.values())


def test_the_settings_are_the_defaults(home: Path) -> None:  # noqa: F811
    (content,) = (block for language, block in BLOCKS if language == "json" and "data_root" in block)
    (home / "settings.json").write_text(content)
    shown, default = load_settings(), Settings()
    assert set(json.loads(content)) == set(Settings.model_fields)
    for name in set(Settings.model_fields) - {"data_root", "artifact_root", "domain_floors", "floors"}:
        assert getattr(shown, name) == getattr(default, name), name
    assert shown.floors_of("general") == default.floors_of("general")
    assert shown.floors_of("receipts").doc_type_accuracy is None


def test_every_reason_for_a_rejection_is_listed_once() -> None:
    listed = [name for row in _rows("What is rejected") for name in re.findall(r"`(\w+)`", row[-1])]
    assert sorted(listed) == sorted(reason.value for reason in RejectReason)


def test_recipes_are_as_listed() -> None:
    rows = {row[0].strip("`"): row[2:] for row in _rows("Train")}
    assert list(rows) == list(RECIPES)
    for name, recipe in RECIPES.items():
        config, sizes = recipe(), recipe().architecture
        encoder = (
            "as the general model" if sizes is None else f"{sizes.num_layers} layers x {sizes.hidden_size}"
        )
        steps = f"{config.max_steps:,}"
        rate = f"{config.learning_rate:g}"
        assert rows[name] == [encoder, steps, str(config.global_batch_size), rate, config.precision]


def test_gates_are_the_asset_checks() -> None:
    from sap_vision_assets.definitions import defs

    checks = {
        (key.name, key.asset_key.path[-1]) for check in defs.asset_checks or [] for key in check.check_keys
    }
    assert {(row[0].strip("`"), row[1].strip("`")) for row in _rows("Gates")} == checks


def test_links_lead_somewhere() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in _titles()}
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target


def _titles() -> list[str]:
    return re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)


def _section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(rf"^#+ {re.escape(title)}$", TEXT, flags=re.MULTILINE)[1].split("\n#")[0]


def _rows(title: str) -> list[list[str]]:
    """Cells of the first table of a section, without its head."""
    lines = [line for line in _section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
