"""The Dagster UI as a person sees it: the graph, a click on Materialize, the evaluation report's picture.

To take docs/ui-*.png again, of the test's own installation or of another one such as the demo's:

    SAP_VISION_SCREENSHOTS=FOLDER SAP_VISION_SCREENSHOTS_HOME=HOME pytest -m browser -k "graph or report"
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from sap_vision_assets_tests.installation import Installation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIZE = {"width": 1600, "height": 900}
PATIENCE_MS = 240_000
"""A page takes 2 s and a run 20 s; on a machine that is busy elsewhere, many times that."""
LINEAGE = (
    *("raw_annotations", "validated_dataset", "tokenized_shards", "training_set", "checkpoint"),
    *("evaluation_report", "onnx_model", "latency_benchmark", "promoted_model"),
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1800),  # the installation's minute is six where the processors are taken
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium"),
]


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    home = os.environ.get("SAP_VISION_SCREENSHOTS_HOME")
    installation = Installation(Path(home)) if home else request.getfixturevalue("installation")
    with installation.ui() as answering:
        yield answering


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        opened = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        opened.set_default_timeout(PATIENCE_MS)
        opened.set_default_navigation_timeout(PATIENCE_MS)
        yield opened
        browser.close()


def _metadata(page: Page, name: str) -> Locator:
    """The row of an asset's metadata table."""
    return page.locator("tr").filter(has=page.get_by_text(name, exact=True)).first


def _screenshot(page: Page, name: str) -> None:
    folder = os.environ.get("SAP_VISION_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(2000)  # animations, and pictures that are being decoded
        page.screenshot(path=Path(folder) / name)


def test_the_graph_shows_every_asset_of_the_general_model(page: Page, url: str) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page.set_viewport_size({"width": 1500, "height": 620})  # the graph is wide and low
    page.goto(f"{url}/assets/general/promoted_model?view=lineage&lineageScope=upstream&lineageDepth=9")
    page.get_by_text("Hide navigation").click()
    graph = page.locator("svg")
    for asset in LINEAGE:
        expect(graph.get_by_text(asset, exact=True).first).to_be_visible()
    _screenshot(page, "asset-graph.png")


def test_materialize_runs_and_shows_what_was_done(page: Page, url: str) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page.goto(f"{url}/assets/general/training_set")
    expect(_metadata(page, "num_train_documents")).to_contain_text("16")
    page.get_by_role("button").filter(has_text="Materialize").first.click()
    page.get_by_text("View", exact=True).click()  # in the message of the launch
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    page.goto(f"{url}/assets/general/training_set")
    expect(_metadata(page, "status")).to_contain_text("up to date: nothing was done")


def test_the_evaluation_report_shows_its_table_and_its_picture(page: Page, url: str) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page.set_viewport_size({"width": 1600, "height": 1300})  # the whole picture at once
    page.goto(f"{url}/assets/general/evaluation_report")
    fields = _metadata(page, "fields").locator("table")
    expect(fields.get_by_text("documentNumber", exact=True)).to_be_visible()
    expect(_metadata(page, "gates")).to_contain_text("field_f1")
    _metadata(page, "doc_type_confusion").get_by_text("Show Markdown").click()
    picture = page.locator("img[alt=doc_type_confusion]")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    _screenshot(page, "evaluation-report.png")
