"""FAULTS 68 and the arithmetic of latencies, by a clock that the test turns."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sap_vision_assets.errors import ArtifactError, InputError, VocabularyMismatchError
from sap_vision_assets.export import BenchmarkConfig, benchmark_latency, latency
from sap_vision_assets.export.hardware import describe_hardware
from sap_vision_assets.export.latency import latency_stats, page_inputs, spread, time_pages
from sap_vision_assets.export.session import OnnxRunner
from sap_vision_assets.shards import open_shards
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.export.tiny import tiny

CONFIG = BenchmarkConfig(warmup=1, pages=12, threads=1, providers="cpu")


def test_statistics_of_1_to_100_ms_in_any_order() -> None:
    stats = latency_stats([float(value) for value in np.random.default_rng(0).permutation(100) + 1])
    assert (stats.mean, stats.min, stats.max) == (50.5, 1.0, 100.0)
    assert (stats.p50, stats.p95, stats.p99) == (50.0, 95.0, 99.0)


def test_statistics_of_few_pages_are_times_of_those_pages() -> None:
    one = latency_stats([7.5])
    assert {one.mean, one.min, one.max, one.p50, one.p95, one.p99} == {7.5}
    # Ranks ceil(0.5 * 3) = 2 and ceil(0.95 * 3) = 3.
    three = latency_stats([30.0, 10.0, 20.0])
    assert (three.p50, three.p95, three.p99) == (20.0, 30.0, 30.0)


def test_runners_take_turns_and_warm_up_is_not_timed() -> None:
    now_s = 0.0
    calls: list[tuple[str, int]] = []

    def runner(name: str, seconds: float) -> Any:
        def run(ids: Any, *_: Any) -> None:
            nonlocal now_s
            now_s += seconds
            calls.append((name, int(ids)))

        return run

    # Page 0 has one window, page 1 has two.
    pages: Any = [[(0, 0, 0, 0)], [(10, 0, 0, 0), (11, 0, 0, 0)]]
    times_ms = time_pages(
        {"a": runner("a", 0.001), "b": runner("b", 0.003)}, pages, num_timed=3, warmup=1, clock=lambda: now_s
    )
    assert times_ms == {
        "a": pytest.approx([1.0, 2.0, 1.0]),
        "b": pytest.approx([3.0, 6.0, 3.0]),
    }
    assert calls == [
        *(("a", 0), ("b", 0)),  # warm-up
        *(("a", 0), ("b", 0)),
        *(("b", 10), ("b", 11), ("a", 10), ("a", 11)),
        *(("a", 0), ("b", 0)),
    ]


def test_pages_are_spread_over_the_whole_split() -> None:
    assert spread(8, 100) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(1, 1) == [0]


def test_benchmark_names_device_hardware_and_pages(tmp_path: Path) -> None:
    record = benchmark_latency(tiny().onnx, test_shards=tiny().shards, out=tmp_path, config=CONFIG)
    assert json.loads((tmp_path / "latency.json").read_bytes()) == json.loads(json.dumps(record))
    assert record["device"] == "cpu"
    assert record["hardware"] == describe_hardware("cpu", threads=1).name != ""
    assert record["hardware_details"]["threads"] == 1
    assert record["hardware_details"]["usable_cores"] >= 1
    assert set(record["latency_ms"]) == {"mean", "min", "max", "p50", "p95", "p99"}
    assert record["latency_ms"] == record["variants"]["fp32"]
    assert set(record["variants"]) == {"fp32", "int8"}
    assert record["not_measured"] == {}
    for stats in record["variants"].values():
        assert 0 < stats["min"] <= stats["p50"] <= stats["p95"] <= stats["p99"] <= stats["max"]
    shards = open_shards(tiny().shards, load_vocabulary())
    assert (record["pages"], record["distinct_pages"]) == (12, 8)
    assert record["mean_tokens_per_page"] == pytest.approx(shards.window_lengths.sum() / 8)
    assert record["mean_windows_per_page"] == pytest.approx(shards.num_windows / 8) != 1


def test_page_of_several_windows_is_all_of_them() -> None:
    shards = open_shards(tiny().shards, load_vocabulary())
    inputs = page_inputs(shards, 4)
    assert len(inputs) == len(shards.document_windows(4)) > 1
    for (ids, bbox, mask, pixels), index in zip(inputs, shards.document_windows(4), strict=True):
        np.testing.assert_array_equal(ids[0], shards.window(index).input_ids)
        np.testing.assert_array_equal(bbox[0], shards.window(index).boxes)
        assert mask.all()
        np.testing.assert_array_equal(
            np.rint((pixels[0].transpose(1, 2, 0) + 1) * 127.5), shards.read_pages([4])[0].astype(np.float32)
        )


class OnGpu(OnnxRunner):
    """The CPU's runner under a GPU's name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = "cuda"


def test_figures_of_a_gpu_are_labelled_and_have_no_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "OnnxRunner", OnGpu)
    record = benchmark_latency(tiny().onnx, test_shards=tiny().shards, out=tmp_path, config=CONFIG)
    assert record["device"] == "cuda"
    assert record["hardware"] != describe_hardware("cpu", threads=1).name
    assert set(record["variants"]) == {"fp32"}
    assert "int8 is for CPUs" in record["not_measured"]["int8"]


def test_export_without_int8_says_so(tmp_path: Path) -> None:
    shutil.copytree(tiny().onnx, tmp_path / "onnx")
    (tmp_path / "onnx" / "model.int8.onnx").unlink()
    record = benchmark_latency(tmp_path / "onnx", test_shards=tiny().shards, out=tmp_path, config=CONFIG)
    assert set(record["variants"]) == {"fp32"}
    assert record["not_measured"] == {"int8": "not in this export"}


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    shutil.copytree(tiny().shards, tmp_path / "shards")
    file = tmp_path / "shards" / "shards.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"tokenizer_digest": "0" * 64}))
    with pytest.raises(VocabularyMismatchError, match="tokenized with 0000"):
        benchmark_latency(tiny().onnx, test_shards=tmp_path / "shards", out=tmp_path, config=CONFIG)
    assert not (tmp_path / "latency.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.json", None, "cannot be read"),
        ("labels.json", "[]", "holds a list"),
        ("labels.json", "{", "cannot be read"),
        ("labels.json", "{}", "has no 'doc_types'"),
    ],
)
def test_damaged_folder_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    shutil.copytree(tiny().onnx, tmp_path / "onnx")
    (tmp_path / "onnx" / name).unlink()
    if content is not None:
        (tmp_path / "onnx" / name).write_text(content)
    with pytest.raises(ArtifactError, match=rf"{name}: {message}"):
        benchmark_latency(tmp_path / "onnx", test_shards=tiny().shards, out=tmp_path, config=CONFIG)


def test_edited_labels_are_refused(tmp_path: Path) -> None:
    shutil.copytree(tiny().onnx, tmp_path / "onnx")
    file = tmp_path / "onnx" / "labels.json"
    record = json.loads(file.read_bytes())
    record["doc_types"][0]["name"] = "BILL"
    file.write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="the file was edited"):
        benchmark_latency(tmp_path / "onnx", test_shards=tiny().shards, out=tmp_path, config=CONFIG)


@pytest.mark.parametrize(
    "setting",
    [{"warmup": -1}, {"pages": 0}, {"variants": ("fp32", "fp16")}, {"variants": ("int8",)}, {"variants": ()}],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        BenchmarkConfig(**setting)


CPU_INFO = "processor\t: 0\nmodel name\t: Example CPU @ 2.00GHz\nflags\t\t: fpu avx2 avx512_vnni\n"


def test_hardware_is_named_as_the_machine_names_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPU_INFO)
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t Example GPU 80GB\nIRQ: 1\n")
    places = {"cpu_info": tmp_path / "cpuinfo", "gpu_info": tmp_path / "gpus"}
    cpu = describe_hardware("cpu", threads=2, **places)
    assert (cpu.device, cpu.name, cpu.threads, cpu.has_vnni) == ("cpu", "Example CPU @ 2.00GHz", 2, True)
    gpu = describe_hardware("cuda", threads=0, **places)
    assert (gpu.device, gpu.name) == ("cuda", "Example GPU 80GB")
    (tmp_path / "cpuinfo").write_text(CPU_INFO.replace(" avx512_vnni", ""))
    assert not describe_hardware("cpu", threads=2, **places).has_vnni


def test_hardware_without_a_name_is_called_unknown(tmp_path: Path) -> None:
    places = {"cpu_info": tmp_path / "none", "gpu_info": tmp_path / "none"}
    assert describe_hardware("cpu", threads=0, **places).name == "unknown CPU"
    assert describe_hardware("cuda", threads=0, **places).name == "unknown NVIDIA GPU"
