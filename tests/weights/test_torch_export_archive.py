"""A .pt2 that could run code is refused before torch reads it."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from t2tbuild.errors import InputError
from t2tbuild.weights.exported import open_exported
from t2tbuild.weights.torch_export_archive import UnsafeArchiveError, check_archive

Members = dict[str, bytes]


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The archive of a linear layer for any batch size, below its top folder."""
    file = tmp_path_factory.mktemp("good") / "good.pt2"
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(torch.export.export(nn.Linear(2, 3), (torch.zeros(2, 2),), dynamic_shapes=shapes), file)
    check_archive(file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def change(name: str, edit: Callable[[Any], None]) -> Callable[[Members, bytes], None]:
    """Return a change of a member in JSON."""

    def apply(members: Members, _: bytes) -> None:
        data = json.loads(members[name])
        edit(data)
        members[name] = json.dumps(data).encode()

    return apply


def pickle_a_weight(members: Members, evil: bytes) -> None:
    members["data/weights/weight_0"] = evil

    def edit(data: Any) -> None:
        next(iter(data["config"].values()))["use_pickle"] = True

    change("data/weights/model_weights_config.json", edit)(members, evil)


def add_a_constant(members: Members, evil: bytes) -> None:
    members["data/constants/opaque_obj_0"] = evil


def replace_the_sample_inputs(members: Members, evil: bytes) -> None:
    members["data/sample_inputs/model.pt"] = evil


PROGRAM = "models/model.json"
CODE = "__import__('os').system('true')"


def first_node(data: Any) -> Any:
    return data["graph_module"]["graph"]["nodes"][0]


def call_torch_load(data: Any) -> None:
    first_node(data)["target"] = "torch.load"


def evaluate_a_size(data: Any) -> None:
    sizes = next(iter(data["graph_module"]["graph"]["tensor_values"].values()))["sizes"]
    sizes[0] = {"as_expr": {"expr_str": CODE, "hint": None}}


def rename_an_input(data: Any) -> None:
    data["graph_module"]["graph"]["inputs"][0]["as_tensor"]["name"] = f"x={CODE}"


def import_a_type(data: Any) -> None:
    text = json.dumps([1, {"type": "collections.defaultdict", "context": '{"module": "m"}', "children_spec": []}])
    data["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (pickle_a_weight, "pickled objects"),
        (add_a_constant, "the member 'top/data/constants/opaque_obj_0'"),
        (replace_the_sample_inputs, "sample inputs that are not tensors"),
        (change(PROGRAM, lambda data: data["guards_code"].append(CODE)), "the expression"),
        (change(PROGRAM, lambda data: data["guards_code"].append(f"max(1, key={CODE})")), "the expression"),
        (change(PROGRAM, evaluate_a_size), "the expression"),
        (change(PROGRAM, call_torch_load), "a call of 'torch.load'"),
        (change(PROGRAM, rename_an_input), "the text"),
        (change(PROGRAM, import_a_type), "arguments of the type"),
    ],
)
def test_what_could_run_code_is_refused(
    make: Callable[[Members, bytes], None], what: str, members: Members, tmp_path: Path
) -> None:
    changed = dict(members)
    make(changed, pickle.dumps(Touch(tmp_path / "touched")))
    with zipfile.ZipFile(tmp_path / "evil.pt2", "w") as archive:
        for name, content in changed.items():
            archive.writestr(f"top/{name}", content)
    with pytest.raises(InputError, match="was not loaded: it holds more than t2tbuild export writes, ") as caught:
        open_exported(tmp_path / "evil.pt2")
    assert what in str(caught.value)
    assert not (tmp_path / "touched").exists()


def test_expressions_of_the_least_and_the_largest_size_are_accepted(members: Members, tmp_path: Path) -> None:
    """Of torch 2.10, for a resized image."""
    changed = dict(members)
    change(PROGRAM, lambda data: data["guards_code"].append("max(71, min(1, 2)) == 71"))(changed, b"")
    with zipfile.ZipFile(tmp_path / "sizes.pt2", "w") as archive:
        for name, content in changed.items():
            archive.writestr(f"top/{name}", content)
    check_archive(tmp_path / "sizes.pt2")  # raises nothing
    changed["models/model.json"] = changed["models/model.json"].replace(b"min(1, 2)", b"mini(1, 2)")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        for name, content in changed.items():
            archive.writestr(f"top/{name}", content)
    with pytest.raises(UnsafeArchiveError, match="mini"):
        check_archive(tmp_path / "other.pt2")
