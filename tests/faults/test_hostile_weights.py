"""Weights of strangers: no code runs, nothing is written outside, memory and time are bounded."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from t2tbuild import manifest
from t2tbuild.errors import InputError, TrainingError
from t2tbuild.training.checkpoint import Checkpoint, find_latest_checkpoint, load_checkpoint, save_checkpoint
from t2tbuild.training.run_paths import CHECKPOINT_FILES
from t2tbuild.weights import read as read_module
from t2tbuild.weights.label_names import read_label_names
from t2tbuild.weights.read import MAX_TENSORS, read_weights
from tests.faults.odd_files import ODD, ODD_NAMES

pytestmark = pytest.mark.usefixtures("bounded")


def safetensors(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(dtype: str, shape: list[int], size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


MANY = b"{%s}" % b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(MAX_TENSORS + 1))
SAFETENSORS = {
    "a header of an exabyte": safetensors(b"{}", size=2**60),
    "a header of 101 MB": safetensors(b"{}" + b" " * 101_000_000),
    "a tensor of terabytes": safetensors({"a": tensor("F32", [2**20, 2**20], 2**42)}),
    "a negative size": safetensors({"a": tensor("F32", [-1], 0)}),
    "brackets": safetensors(b'{"a":' + b"[" * 1_000_000),
    "an escape in a name": safetensors({"a\x1b[2J": tensor("U8", [2**60], 2**60)}),
    "a type that torch lacks": safetensors({"a": tensor("F6_E2M3", [4], 3)}, b"123"),
    "a hundred thousand tensors": safetensors(MANY),
    "nothing": b"",
    "zeros": bytes(1000),
}


LONG = [pytest.mark.slow, pytest.mark.nightly]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG) if "thousand" in name else name for name in SAFETENSORS]
)
def test_safetensors_made_to_harm_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(SAFETENSORS[name])
    with pytest.raises(InputError, match=r"model.safetensors: not readable as safetensors") as error:
        read_weights(file)
    assert len(str(error.value)) < 1000
    assert read_label_names(file) is None


def test_more_tensors_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    save_file({str(number): torch.zeros(1) for number in range(4)}, file)
    monkeypatch.setattr(read_module, "MAX_TENSORS", 4)
    assert len(read_weights(file).tensors) == 4
    monkeypatch.setattr(read_module, "MAX_TENSORS", 3)
    with pytest.raises(InputError, match="it has 4 tensors, more than 3"):
        read_weights(file)


class Allocate:
    """Unpickled, it is all memory: torch's restricted reader allows a bytearray of any size."""

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (2**40,)


def recompress(file: Path) -> None:
    """Compress the members of a zip archive, which torch reads too."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_allocation(file: Path) -> None:
    torch.save({"a": torch.zeros(1), "b": Allocate()}, file)


def write_old_allocation(file: Path) -> None:
    file.write_bytes(pickle.dumps({"b": Allocate()}, protocol=2))


def write_bomb(file: Path) -> None:
    torch.save({"a": torch.zeros(10_000_000)}, file)
    recompress(file)


def write_hidden_bomb(file: Path) -> None:
    """Its pickle itself is compressed."""
    torch.save({"a": torch.zeros(1), "b": "b" * 10_000_000}, file)
    recompress(file)


def write_old_storage(file: Path) -> None:
    """The old format, whose storage has a petabyte by its pickle."""
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)
    file.write_bytes(stream.getvalue().replace(b"K\x03Nt", b"\x8a\x07" + (2**50).to_bytes(7, "little") + b"Nt"))


def write_nothing(file: Path) -> None:
    file.write_bytes(b"")


def write_nested(file: Path) -> None:
    file.write_bytes(b"\x80\x02" + b"(" * 100_000)


def write_disguised_allocation(file: Path) -> None:
    """A pickle that ends with a zip archive, which Python's zipfile takes for one and torch does not."""
    end = io.BytesIO()
    with zipfile.ZipFile(end, "w") as archive:
        archive.writestr("x/data.pkl", b"")
    file.write_bytes(pickle.dumps({"b": Allocate()}, protocol=2) + end.getvalue())


BOUNDED = [write_allocation, write_old_allocation, write_disguised_allocation, write_bomb, write_hidden_bomb]
DAMAGED = [write_old_storage, write_nothing, write_nested]


@pytest.mark.parametrize("write", BOUNDED, ids=lambda write: write.__name__)
def test_pickles_that_take_all_memory_are_not_loaded(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """They are refused before torch reads them, not by the limit of this test."""
    write(tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights.pth: was not loaded"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("write", DAMAGED, ids=lambda write: write.__name__)
def test_pickles_that_are_damaged_are_refused(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights.pth: not readable"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("write", [write_allocation, write_bomb], ids=lambda write: write.__name__)
def test_the_state_of_a_strangers_checkpoint_is_bounded(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Its manifest matches: the stranger wrote it."""
    checkpoint = save_checkpoint(tmp_path, "step-000000001", Checkpoint({"w": torch.zeros(2)}, {}, {"epoch": 1}))
    write(checkpoint / "state.pt")
    manifest.write_manifest(checkpoint, CHECKPOINT_FILES)
    assert find_latest_checkpoint(tmp_path) == (checkpoint, [])
    with pytest.raises(TrainingError, match=r"state.pt: was not loaded"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("make", ODD, ids=ODD_NAMES)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_weights_that_are_no_regular_file_are_refused(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=name):
        read_weights(tmp_path / name)
