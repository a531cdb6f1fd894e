"""Files of strangers: no code runs, nothing is written outside, memory and time are bounded."""

import csv
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from t2tbuild import files as files_module
from t2tbuild import load_spec, manifest
from t2tbuild.errors import InputError, SpecError, TrainingError
from t2tbuild.nas.record import Record, State
from t2tbuild.spec.load import check_text
from t2tbuild.spec.weights import Weights
from t2tbuild.training import folder_layout
from t2tbuild.training.checkpoint import Checkpoint, find_latest_checkpoint, load_checkpoint, save_checkpoint
from t2tbuild.training.data.dataset import CorruptImage, read_image
from t2tbuild.training.data.folder import ImageFiles
from t2tbuild.training.folder_layout import walk_images
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.training.run_paths import CHECKPOINT_FILES
from t2tbuild.weights import read as read_module
from t2tbuild.weights.label_names import read_label_names
from t2tbuild.weights.metadata import KEY, ExportInfo, parse_metadata
from t2tbuild.weights.preprocessing import Preprocessing, default_preprocessing
from t2tbuild.weights.read import MAX_TENSORS, read_weights
from tests.faults.attack import Attack

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


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def folder(path: Path) -> None:
    path.mkdir()


ODD = [fifo, device, loop, folder]
ODD_NAMES = ["fifo", "device", "loop", "folder"]


@pytest.mark.parametrize("make", ODD, ids=ODD_NAMES)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_weights_that_are_no_regular_file_are_refused(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=name):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("make", ODD, ids=ODD_NAMES)
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_checkpoint_of_odd_files_is_refused(stranger: Path, make: Callable[[Path], None], name: str) -> None:
    file = stranger / "checkpoints" / "step-000000001" / name
    file.unlink()
    make(file)
    with pytest.raises(InputError, match="no valid checkpoint is left"):
        read_weights(stranger)


MANIFESTS = [
    *("[]", "[1]", '"x"', "1", "null", "{}", '{"model.safetensors": 1}', '{"model.safetensors": {}}', "[" * 100_000),
    *('{"": "x"}', '{"..": "x"}', '{"a\\u0000b": "x"}', "1" * 10_000, '{"../../secret": "x"}', '{"/etc/passwd": "x"}'),
]


@pytest.mark.parametrize("text", MANIFESTS, ids=lambda text: text[:24])
def test_a_manifest_made_to_harm_is_an_invalid_one(stranger: Path, text: str) -> None:
    (stranger / "checkpoints" / "step-000000001" / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="no valid checkpoint is left") as error:
        read_weights(stranger)
    assert len(str(error.value)) < 1000


def test_saving_deletes_no_folder_that_is_not_a_checkpoint(tmp_path: Path) -> None:
    """Not one of the user's that ends in .old, and none outside that a link in the run leads to."""
    outside = tmp_path / "outside" / "step-000000000"
    run = tmp_path / "checkpoints"
    for path in (outside, run / "thesis.old"):
        path.mkdir(parents=True)
        (path / "manifest.json" if path == outside else path / "text").write_text("{}")
    (run / "step-000000000").symlink_to(outside)
    (run / ".step-000000003.tmp").symlink_to(outside.parent)
    for number in (1, 2, 3):
        checkpoint = Checkpoint({"w": torch.zeros(2)}, {}, {"epoch": number})
        save_checkpoint(run, f"step-{number:09}", checkpoint)
    assert (run / "thesis.old" / "text").exists()
    assert (outside / "manifest.json").read_text() == "{}"
    assert [path.name for path in outside.parent.iterdir()] == ["step-000000000"]


def test_the_key_of_a_record_cannot_leave_the_run() -> None:
    """A worker deletes the folder that is named by it."""
    record = Record("1", State.RUNNING, None, key="0123abc").to_json()
    assert Record.from_json(record).key == "0123abc"
    for key in ("../../victim", "/tmp/victim", "a/b", "..", "a\x00b"):
        with pytest.raises(ValueError, match="the key"):
            Record.from_json(record | {"key": key})
    for more in ({"seed": "../../victim"}, {"seed": 1.5}, {"full": "../victim"}):
        with pytest.raises(ValueError, match="the seed"):
            Record.from_json(record | more)


MODEL = load_spec("t2t_vit_7").model_copy(update={"train": None})


def preprocessing_of(folder: Path, config: object) -> Preprocessing:
    """Return the preprocessing of a folder of weights with a config.json."""
    save_file({"w": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return find_preprocessing(MODEL, Weights(file=str(folder)))


ODD_STEPS = [
    *({"shrink": 10**9}, {"shrink": 0}, {"shrink": "9"}, {"shrink": True}, {"crop_pct": 1e-9}),
    *({"crop_pct": float("nan")}, {"interpolation": []}),
    *({"mean": "abc"}, {"mean": [10**400] * 3}, {"std": {}}, {"crop_pct": "x"}),
]


@pytest.mark.parametrize("steps", ODD_STEPS, ids=lambda steps: str(steps)[:30])
def test_odd_steps_in_a_config_are_the_usual_ones(tmp_path: Path, steps: dict[str, object]) -> None:
    known = {"mean": [0.1, 0.2, 0.3]}
    usual = default_preprocessing(MODEL.model, {} if "mean" in steps else known)
    assert preprocessing_of(tmp_path, {"pretrained_cfg": known | steps}) == usual


@pytest.mark.parametrize("config", [[], {"pretrained_cfg": []}, {"pretrained_cfg": {}, "preprocessing": [1]}], ids=str)
def test_a_config_of_odd_parts_is_none(tmp_path: Path, config: object) -> None:
    assert preprocessing_of(tmp_path, config) == default_preprocessing(MODEL.model)


@pytest.mark.parametrize("steps", [*ODD_STEPS[:7], {"image": [10**9, 1]}, {"image": []}, {"in_chans": 0}], ids=str)
def test_odd_steps_in_the_metadata_of_a_file_are_refused(steps: dict[str, object]) -> None:
    info = ExportInfo("x", None, default_preprocessing(load_spec("t2t_vit_7").model))
    whole = json.loads(info.to_metadata()[KEY])
    assert parse_metadata(json.dumps(whole)) == info
    with pytest.raises(ValueError, match="damaged"):
        parse_metadata(json.dumps(whole | {"preprocessing": whole["preprocessing"] | steps}))
    with pytest.raises(ValueError, match="damaged"):
        parse_metadata("[1]")


def test_a_huge_json_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("1")
    assert files_module.read_json(tmp_path / "x.json") == 1
    os.truncate(tmp_path / "x.json", files_module.MAX_JSON + 1)
    with pytest.raises(ValueError, match="more than 100,000,000"):
        files_module.read_json(tmp_path / "x.json")


@pytest.mark.slow
def test_a_model_that_the_machine_has_no_memory_for_is_refused_before_it_is_built(
    stranger: Path, attack: Attack
) -> None:
    text = (stranger / "spec.yaml").read_text()
    (stranger / "spec.yaml").write_text(
        text.replace("embed_dim: 32", "embed_dim: 32768").replace("depth: 1", "depth: 60")
    )
    Image.new("RGB", (32, 32)).save(stranger / "a.png")
    for command in ("predict", "evaluate", "export"):
        more = {"predict": [stranger / "a.png"], "export": ["--out", stranger / "x.onnx"]}.get(command, [])
        assert "need" in attack.refuse(command, stranger, *more).text


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, more: bytes = b"", colour: int = 2, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(**tags: tuple[int, int, int]) -> bytes:
    """A TIFF of 8 x 8 pixels with some of its tags replaced: the number, type, count and value of each."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TIFF")
    data = bytearray(stream.getvalue())
    start = int.from_bytes(data[4:8], "little")
    for place in range(start + 2, start + 2 + 12 * int.from_bytes(data[start : start + 2], "little"), 12):
        for name, (kind, count, value) in tags.items():
            if int.from_bytes(data[place : place + 2], "little") == int(name[1:]):
                data[place + 2 : place + 12] = struct.pack("<HII", kind, count, value)
    return bytes(data)


def jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    place = data.find(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


PIXEL = zlib.compress(bytes(4))
IMAGES = {
    "a PNG bomb": png(30_000, 30_000, zlib.compress(bytes(10_000_000))),
    "a PNG of 2^31 columns": png(2**31 - 1, 1, PIXEL),
    "a PNG without pixels": png(0, 0, zlib.compress(b"")),
    "a text bomb": png(1, 1, PIXEL, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
    "a profile bomb": png(1, 1, PIXEL, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
    "a wrong sum": png(1, 1, PIXEL, chunk(b"PLTE", bytes(3))[:-4] + b"1234"),
    "a JPEG bomb": jpeg(65_535, 65_535),
    "a TIFF bomb": tiff(_256=(4, 1, 2**31), _257=(4, 1, 2**31)),
    "a TIFF of 2^32 strips": tiff(_273=(4, 2**32 - 1, 8)),
    "a TIFF whose tags lead outside": tiff(_273=(4, 1, 2**32 - 1)),
    "a TIFF of 65,535 samples": tiff(_277=(3, 1, 65_535)),
    "an EPS program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile\n",
    "zeros": bytes(1000),
    "nothing": b"",
}


def read(path: Path) -> object:
    return read_image(ImageFiles("", [os.fsencode(path)], np.zeros(1, int)), 0, mode="RGB")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_made_to_harm_is_a_corrupt_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.png").write_bytes(IMAGES[name])
    found = read(tmp_path / "x.png")
    assert isinstance(found, CorruptImage)
    assert len(str(found)) < 400
    assert found.reason.isprintable()


@pytest.mark.parametrize("make", ODD, ids=ODD_NAMES)
def test_an_image_that_is_no_regular_file_is_a_corrupt_one(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.png")
    assert isinstance(read(tmp_path / "x.png"), CorruptImage)


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL would start Ghostscript, whatever the name of the file."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "x.png").write_bytes(IMAGES["an EPS program"])
    assert isinstance(read(tmp_path / "x.png"), CorruptImage)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_the_largest_image_takes_bounded_memory(tmp_path: Path) -> None:
    """One of 1.5 MB with 169 million pixels of 16 bits, just below PIL's limit; it took 6 GB."""
    side = 13_000
    (tmp_path / "x.png").write_bytes(
        png(side, side, zlib.compress(bytes(side * (2 * side + 1)), 1), colour=0, depth=16)
    )
    assert not isinstance(read(tmp_path / "x.png"), CorruptImage)


def test_loops_of_links_end(tmp_path: Path) -> None:
    """Each folder is entered once; a walk through two loops would have 2^40 paths."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "x.png").write_bytes(b"")
    for number in range(4):
        (deep / f"up{number}").symlink_to(tmp_path)
        (deep / f"self{number}").symlink_to(deep)
        (tmp_path / f"down{number}").symlink_to(deep)
    assert [Path(path).name for path in walk_images(os.fspath(tmp_path))] == ["x.png"]


def test_folders_without_a_number_are_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems report the inode 0 for all."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").write_bytes(b"")
    stat = os.stat
    monkeypatch.setattr(
        folder_layout.os,
        "stat",
        lambda path: os.stat_result((0, 0, *stat(path)[2:])),  # the mode, the inode
    )
    assert sorted(Path(path).name for path in walk_images(os.fspath(tmp_path))) == ["a.png", "b.png"]


ODD_FILE_NAMES = ["a\nb.png", "\x1b[2J.png", "=1+1.png", "-rf.png", "a\u202eb.png", "<script>.png", "bad\udcff.png"]


@pytest.mark.slow
def test_names_of_images_are_shown_without_their_control_characters(stranger: Path, attack: Attack) -> None:
    images = stranger.parent / "images"
    images.mkdir()
    for name in ODD_FILE_NAMES:
        Image.new("RGB", (32, 32)).save(images / name, "PNG")
    (images / "bad\x1b[31m.png").write_bytes(b"")
    ended = attack.run("predict", stranger, images, "--csv", stranger.parent / "x.csv")
    assert ended.code == 1  # one of them cannot be read
    assert "[31m" in ended.err
    rows = list(csv.reader(io.StringIO((stranger.parent / "x.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 2 + len(ODD_FILE_NAMES)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) or "\x1b" in cell for row in rows for cell in row)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_hundred_thousand_empty_folders_are_refused_with_few_lines(tmp_path: Path, attack: Attack) -> None:
    for number in range(100_000):
        (tmp_path / "data" / "train" / f"c{number}").mkdir(parents=True)
    ended = attack.refuse("data", tmp_path / "data")
    assert len(ended.text) < 5000


SPECS = {
    "aliases of aliases": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)),
    "a line of a mebibyte": "version: 1\nmodel: " + "m" * 1_040_000,
    "a surrogate": 'version: 1\nmodel: "\\ud800"\n',
    "a NUL": "version: 1\nmodel: a\0b\n",
    "an escaped NUL": 'version: 1\nmodel: "a\\0b"\n',
    "an escaped escape": 'version: 1\nmodel: "\\e[2J"\n',
    "nesting": "[" * 10_000 + "]" * 10_000,
    "a Python object": "version: 1\nmodel: !!python/object/apply:os.system ['touch ran']\n",
    "a merge of itself": "a: &a\n  <<: *a\n",
    "a number of 100,000 digits": "version: 1\nmodel: {image_size: " + "9" * 100_000 + "}\n",
    "a year": "version: 1\nmodel: {image_size: 0000-00-00}\n",
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_made_to_harm_is_refused_with_few_lines(name: str, tmp_path: Path, attack: Attack) -> None:
    (tmp_path / "x.yaml").write_text(SPECS[name])
    with pytest.raises(SpecError):
        check_text(SPECS[name], Path("x.yaml"))
    ended = attack.refuse("validate", tmp_path / "x.yaml")
    assert len(ended.text) < 10_000
    assert not (Path.cwd() / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", "a\\b", "a\x00b", "x" * 300, "", "a\nb", "\x1b[2J"]
)
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    """Names of models and searches become names of folders."""
    with pytest.raises(SpecError):
        load_spec("t2t_vit_7", [f"model.name={json.dumps(name)}"])


def test_a_config_that_is_nested_too_deeply_has_no_classes(tmp_path: Path, stranger: Path) -> None:
    checkpoint = stranger / "checkpoints" / "step-000000001"
    (checkpoint / "config.json").write_text("[" * 100_000)
    manifest.write_manifest(checkpoint, ["model.safetensors", "config.json"])
    assert read_label_names(checkpoint) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
