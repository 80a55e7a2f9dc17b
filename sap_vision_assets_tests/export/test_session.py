"""FAULTS 66: a model whose data lies outside its folder is refused, wherever in the graph it says so."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.export import OnnxRunner, external_files, open_session, session
from sap_vision_assets_tests.export.tiny import tiny

WEIGHT = np.arange(4, dtype=np.float32)


def external_tensor(location: str, *, offset: int = 0, length: int = 16) -> TensorProto:
    tensor = numpy_helper.from_array(WEIGHT, "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_with(tensor: TensorProto, place: str) -> onnx.ModelProto:
    """y = x + weight, the weight kept at `place`."""
    value = helper.make_tensor_value_info
    x, y = value("x", TensorProto.FLOAT, [4]), value("y", TensorProto.FLOAT, [4])
    initializers = [tensor] if place == "initializer" else []
    nodes = [helper.make_node("Add", ["x", "weight"], ["y"])]
    if place in ("attribute", "subgraph"):
        constant = helper.make_node("Constant", [], ["weight"], value=tensor)
        nodes = [constant, *nodes]
    if place == "subgraph":
        branch = helper.make_graph(nodes, "branch", [], [value("y", TensorProto.FLOAT, [4])])
        condition = helper.make_node("Constant", [], ["is_on"], value=numpy_helper.from_array(np.array(True)))
        nodes = [condition, helper.make_node("If", ["is_on"], ["y"], then_branch=branch, else_branch=branch)]
    graph = helper.make_graph(nodes, "graph", [x], [y], initializers)
    if place == "sparse":
        indices = numpy_helper.from_array(np.arange(4, dtype=np.int64), "indices")
        graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4]))
    opset = helper.make_opsetid("", 18)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return model


def write(folder: Path, location: str, *, place: str = "initializer", **slice_of_file: int) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(model_with(external_tensor(location, **slice_of_file), place).SerializeToString())
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with a data file, and a secret of the same form beside the folder."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights.data").write_bytes(WEIGHT.tobytes())
    (folder / "sub" / "weights.data").write_bytes(WEIGHT.tobytes())
    (tmp_path / "secret.data").write_bytes(WEIGHT.tobytes())
    (folder / "link.data").symlink_to(tmp_path / "secret.data")
    return folder


@pytest.mark.parametrize("location", ["weights.data", "sub/weights.data"])
def test_data_inside_the_folder_is_read(folder: Path, location: str) -> None:
    file = write(folder, location)
    assert external_files(file) == [folder.resolve() / location]
    (y,) = open_session(file, providers="cpu", threads=1).run(None, {"x": np.ones(4, np.float32)})
    np.testing.assert_array_equal(y, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret.data", "outside the model's folder"),
        ("sub/../weights.data", "outside the model's folder"),
        ("sub/../../secret.data", "outside the model's folder"),
        ("link.data", "outside the model's folder"),
        ("{folder}/weights.data", "no relative path"),
        ("/dev/zero", "no relative path"),
        ("", "no relative path"),
        ("..\\secret.data", "no relative path"),
        ("weights\0.data", "no relative path"),
        ("missing.data", "no file"),
        ("sub", "no file"),
    ],
)
def test_data_elsewhere_is_refused(folder: Path, location: str, message: str) -> None:
    file = write(folder, location.format(folder=folder))
    with pytest.raises(ArtifactError, match=rf"tensor 'weight' .*{message}"):
        open_session(file, providers="cpu", threads=1)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 17), (4, 16), (-4, 8), (0, -1)], ids=["long", "late", "negative", "minus"]
)
def test_data_beyond_the_file_is_refused(folder: Path, offset: int, length: int) -> None:
    with pytest.raises(ArtifactError, match="has 16 bytes, fewer than"):
        open_session(write(folder, "weights.data", offset=offset, length=length))


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph", "sparse"])
def test_every_place_of_a_tensor_is_looked_at(folder: Path, place: str) -> None:
    with pytest.raises(ArtifactError, match="outside the model's folder"):
        open_session(write(folder, "../secret.data", place=place))
    assert external_files(write(folder, "weights.data", place=place)) == [folder.resolve() / "weights.data"]


def test_damaged_file_is_named(tmp_path: Path) -> None:
    content = (tiny().onnx / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be read"):
        open_session(tmp_path / "model.onnx", providers="cpu")
    with pytest.raises(ArtifactError, match=r"absent\.onnx: cannot be read"):
        open_session(tmp_path / "absent.onnx", providers="cpu")


def test_model_that_onnxruntime_refuses_is_named(folder: Path) -> None:
    model = model_with(numpy_helper.from_array(WEIGHT, "weight"), "initializer")
    model.graph.node[0].op_type = "Unheard"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"model\.onnx: onnxruntime refuses it"):
        open_session(folder / "model.onnx", providers="cpu")


def test_settings_that_cannot_be_served_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny().onnx / "model.onnx"
    with pytest.raises(InputError, match="threads=-1"):
        open_session(model, threads=-1)
    with pytest.raises(InputError, match="providers='tpu'"):
        open_session(model, providers="tpu")  # type: ignore[arg-type]  # what a user may type
    monkeypatch.setattr(session, "_GPU_DEVICE_FILES", ())
    with pytest.raises(InputError, match="no NVIDIA device"):
        open_session(model, providers="cuda")
    opened = open_session(model, providers="auto", threads=1)
    assert opened.get_providers() == ["CPUExecutionProvider"]
    assert opened.get_session_options().intra_op_num_threads == 1


def test_runner_takes_models_of_this_package_only(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="no model of export_onnx"):
        OnnxRunner(write(folder, "weights.data"), providers="cpu")


@pytest.mark.parametrize("coordinate", [-1, 1001])
def test_boxes_off_the_page_are_refused_before_the_model(coordinate: int) -> None:
    runner = OnnxRunner(tiny().onnx / "model.onnx", providers="cpu", threads=1)
    ids, mask, pixels = np.full((1, 2), 5), np.ones((1, 2)), np.zeros((1, 3, 224, 224), np.float32)
    bbox = np.zeros((1, 2, 4), np.int64)
    assert np.isfinite(runner(ids, bbox, mask, pixels).token).all()
    bbox[0, 1, 2] = coordinate
    with pytest.raises(InputError, match=r"outside 0\.\.1000"):
        runner(ids, bbox, mask, pixels)
