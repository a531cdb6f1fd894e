"""Images of strangers: no code runs, nothing is written outside, memory and time are bounded."""

import csv
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2tbuild.training import folder_layout
from t2tbuild.training.data.dataset import CorruptImage, read_image
from t2tbuild.training.data.folder import ImageFiles
from t2tbuild.training.folder_layout import walk_images
from tests.faults.attack import Attack
from tests.faults.odd_files import ODD, ODD_NAMES

pytestmark = pytest.mark.usefixtures("bounded")


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
@pytest.mark.parametrize("every", [None, 1000], ids=["no images", "images in each thousandth"])
def test_a_hundred_thousand_folders_without_images_are_refused_with_few_lines(
    tmp_path: Path, attack: Attack, every: int | None
) -> None:
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    for number in range(100_000):
        folder = tmp_path / "data" / "train" / f"c{number}"
        folder.mkdir(parents=True)
        if every is not None and number % every == 0:
            (folder / "0.png").write_bytes(image.getvalue())
    ended = attack.refuse("data", tmp_path / "data")
    assert len(ended.text) < 5000
    assert every is None or "classes without images: 99900" in ended.text
