"""Summaries as metadata."""

from pathlib import Path

import dagster as dg
import pytest
from PIL import Image

from sap_vision_assets.artifacts import Artifact, ArtifactSpec
from sap_vision_assets.defs.metadata import (
    MAX_PICTURE_BYTES,
    MAX_ROWS,
    count_table,
    gate_tables,
    headline,
    picture,
    pictures,
    score_table,
    table,
    tracking_links,
)
from sap_vision_assets.evaluation.gates import GateResult


def test_tables_name_their_columns_and_what_is_undefined() -> None:
    value = table([{"gate": "f1", "value": None}, {"gate": "size", "value": 3.5}])
    assert [column.name for column in value.schema.columns] == ["gate", "value"]
    assert [dict(record.data) for record in value.records] == [
        {"gate": "f1", "value": "undefined"},
        {"gate": "size", "value": 3.5},
    ]
    assert [dict(record.data) for record in table([]).records] == [{"rows": "none"}]


def test_tables_show_four_decimals() -> None:
    shown = {
        0.98765432109: 0.9877,
        1 / 14: 0.0714,
        12.3456789: 12.3457,
        4.4e8: 4.4e8,
        1.23456e-6: 1.235e-6,
        7: 7,
    }
    value = table([{"value": number} for number in shown])
    assert [record.data["value"] for record in value.records] == list(shown.values())


def test_the_largest_tables_fit_the_event_log() -> None:
    rows = [
        {"name": "f" * 60 + str(i), "f1": i / 7e3, "precision": i / 7e3, "recall": i / 7e3}
        | {"support": 10**6 + i, "num_predicted": 10**6}
        for i in range(MAX_ROWS + 100)
    ]
    value = score_table("field", rows)
    assert len(value.records) == MAX_ROWS
    # Seen: 49 kB.
    assert len(dg.serialize_value(value)) < 100_000


def test_gates_are_a_table_of_numbers_and_a_text_that_can_be_read() -> None:
    gate = {"name": "size", "value": None, "limit": 3.0, "text": "a long sentence " * 20}
    shown = gate_tables(
        [
            GateResult(passed=True, blocking=True, **gate),  # type: ignore[arg-type]  # a dict of mixed values
            GateResult(passed=False, blocking=True, **gate),  # type: ignore[arg-type]  # likewise
        ]
    )
    gates, findings = shown["gates"], shown["gate_findings"]
    assert isinstance(gates, dg.TableMetadataValue)
    assert [tuple(record.data.values()) for record in gates.records] == [
        ("size", True, "undefined", 3.0),
        ("size", False, "undefined", 3.0),
    ]
    assert isinstance(findings, dg.MarkdownMetadataValue)
    assert findings.md_str.splitlines() == [
        "- **size** passed: " + "a long sentence " * 20,
        "- **size** failed: " + "a long sentence " * 20,
    ]


def test_counts_come_largest_first() -> None:
    value = count_table("reason", {"a": 1, "b": 3, "c": 1})
    assert [record.data["reason"] for record in value.records] == ["b", "a", "c"]


def test_a_table_of_nothing_says_none() -> None:
    for value in (count_table("reason", {}), score_table("reason", [])):
        assert value.schema.columns[0].name == "reason"
        assert [record.data["reason"] for record in value.records] == ["none"]


def test_scores_come_with_the_most_frequent_first_and_gaps_are_said() -> None:
    nothing = {"f1": None, "precision": None, "recall": None}
    value = score_table(
        "field",
        [
            {"name": "taxId", "support": 0, "num_predicted": 0, **nothing},
            {
                "name": "netAmount",
                "support": 3,
                "num_predicted": 2,
                "f1": 0.8,
                "precision": 1.0,
                "recall": 2 / 3,
            },
            {"name": "dueDate", "support": 0, "num_predicted": 1, **nothing},
            {"name": "documentDate", "support": 9, "num_predicted": 0, **nothing, "recall": 0.0},
        ],
    )
    assert [tuple(record.data.values()) for record in value.records] == [
        ("documentDate", "undefined", "undefined", 0.0, 9),
        ("netAmount", 0.8, 1.0, 0.6667, 3),
        ("dueDate", "undefined", "undefined", "undefined", 0),
    ]


def test_headline_numbers_are_floats_and_gaps_are_said() -> None:
    values = headline(
        {"field_f1": 1, "po_subtype_accuracy": None}, ["field_f1", "po_subtype_accuracy", "other"]
    )
    assert values == {"field_f1": 1.0, "po_subtype_accuracy": "undefined, n=0"}
    assert isinstance(values["field_f1"], float)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ({}, {}),
        ({"tracking_url": "https://wandb.example/runs/1"}, {"tracking_url": "https://wandb.example/runs/1"}),
        ({"tracking_folder": "tensorboard"}, {"tracking_folder": "/artifacts/checkpoint/tensorboard"}),
    ],
)
def test_a_checkpoint_links_to_its_tracker(summary: dict[str, str], expected: dict[str, str]) -> None:
    artifact = Artifact(
        spec=ArtifactSpec(asset="general/checkpoint"),
        digest="0",
        path=Path("/artifacts/checkpoint"),
        files={},
        summary={"steps": 3, **summary},
        created_at="",
    )
    links = tracking_links(artifact)
    assert {name: value.value for name, value in links.items()} == expected
    kinds = {"tracking_url": dg.UrlMetadataValue, "tracking_folder": dg.PathMetadataValue}
    assert all(isinstance(value, kinds[name]) for name, value in links.items())


def test_pictures_are_shown_in_place_when_they_are_small(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "white").save(tmp_path / "b.png")
    Image.effect_noise((600, 600), 90).save(tmp_path / "a.png")
    (tmp_path / "report.html").write_text("no picture")
    assert (tmp_path / "a.png").stat().st_size > MAX_PICTURE_BYTES
    shown = pictures(tmp_path)
    assert list(shown) == ["b"]
    assert isinstance(shown["b"], dg.MarkdownMetadataValue)
    assert shown["b"].md_str.startswith("![b](data:image/png;base64,")
    assert picture(tmp_path / "report.html") is None
