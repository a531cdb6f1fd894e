"""Metadata of exported files are read back; files that cannot be opened have one message."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from t2tbuild.errors import InputError
from t2tbuild.weights.exported import is_exported, open_exported
from t2tbuild.weights.metadata import KEY, ExportInfo, parse_metadata
from t2tbuild.weights.onnx_graph import add_metadata
from t2tbuild.weights.preprocessing import Preprocessing

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

INFO = ExportInfo(
    name="small",
    label_names=("cat", "hibou à l'œil"),
    preprocessing=Preprocessing((24, 32), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 0.9, "bilinear", inside=True),
    precision="int8",
    spec={"kind": "vit", "image_size": [24, 32]},
)


def write_onnx(path: Path, metadata: dict[str, str]) -> Path:
    """Write a model that sums its input, with metadata."""
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[b, 2] images) => (float[b, 1] logits) {'
    text += "axes = Constant <value_ints = [1]> () logits = ReduceSum (images, axes) }"
    model = onnx.parser.parse_model(text)
    add_metadata(model, metadata)
    onnx.save(model, path)
    return path


def test_metadata_are_read_back_and_have_plain_keys() -> None:
    written = INFO.to_metadata()
    assert parse_metadata(written[KEY]) == INFO
    assert json.loads(written["input_size"]) == [3, 24, 32]
    assert json.loads(written["label_names"]) == ["cat", "hibou à l'œil"]
    assert json.loads(written["mean"]) == [0.5, 0.4, 0.3]
    unnamed = ExportInfo("x", None, INFO.preprocessing)
    assert "label_names" not in unnamed.to_metadata()
    assert parse_metadata(unnamed.to_metadata()[KEY]) == unnamed


def test_an_onnx_file_is_opened_and_run(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "sum.onnx", INFO.to_metadata())
    assert is_exported(file)
    opened = open_exported(file, threads=1)
    assert (opened.info, opened.runtime, opened.path) == (INFO, "onnxruntime", file)
    assert opened(np.array([[1, 2], [3, 4]], np.float32)).tolist() == [[3], [7]]


@pytest.mark.parametrize(
    ("name", "metadata", "message"),
    [
        ("a.onnx", None, "not readable as ONNX: "),
        ("a.onnx", {}, r"has no metadata of t2tbuild \(classes, preprocessing\); write the file again with t2tbuild"),
        ("a.onnx", {KEY: "{}"}, "its metadata are damaged; write the file again"),
        ("a.onnx", {KEY: "[1]"}, "its metadata are damaged"),
        ("a.onnx", {KEY: '{"version": 9}'}, "its metadata have version 9, and this t2tbuild reads 1"),
        ("a.pt2", None, "not readable as a torch.export program"),
        ("a.pth", None, r"not an exported model; name a file that ends in .onnx, .pt2, .xml"),
    ],
)
def test_files_that_cannot_be_opened(name: str, metadata: dict[str, str] | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if metadata is None:
        file.write_bytes(b"not a model")
    else:
        write_onnx(file, metadata)
    with pytest.raises(InputError, match=message) as raised:
        open_exported(file)
    assert str(raised.value).startswith(str(file))
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_file_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_exported(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        open_exported(tmp_path / "none.onnx")
    file = write_onnx(tmp_path / "sum.xml", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"needs openvino to run: pip install 't2tbuild\[openvino\]'"):
        open_exported(file)
