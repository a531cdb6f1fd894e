"""Every mistake of an invalid file is reported at its place, about as fast as a valid file is loaded."""

import functools
import json
import os
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from bad_inputs import BAD_INPUTS as BAD_SPECS
from bad_inputs import GOOD, GOOD_SEARCH, GOOD_TRAIN, Bad, edit
from bad_searches import BAD_SEARCHES
from bad_sections import BAD_SECTIONS
from bad_trainings import BAD_TRAININGS
from syrupy.assertion import SnapshotAssertion

from t2tbuild.cli.validate import diagnose
from t2tbuild.errors import Diagnostic

BAD_INPUTS = (*BAD_SPECS, *BAD_SECTIONS, *BAD_SEARCHES, *BAD_TRAININGS)
KEYS = ["file", "line", "column", "path", "rule", "message", "hint", "severity"]
MOST_TIMES = 8  # of the time for a valid file; the slowest takes 2.4, but other processes share the cores
MOST_BYTES = 200e6
TIMEOUT = 20  # seconds after which a process is killed


class Ended(NamedTuple):
    """Exit code, output and resources of a process."""

    code: int
    out: str
    err: str
    seconds: float
    bytes: int

    @property
    def records(self) -> list[dict[str, object]]:
        records = json.loads(self.out)
        assert all(list(record) == KEYS for record in records), records
        return records


# On Linux, the largest memory of a process includes that before exec, so that pytest must not be its parent. A process
# of 10 MB between them starts it, and kills it after the timeout.
LAUNCHER = f"""\
import os, signal, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.alarm({TIMEOUT})
_, status, used = os.wait4(child, 0)
report = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss
os.write(int(sys.argv[1]), " ".join(map(str, report)).encode())
"""


def validate(file: str | Path, *options: str, folder: Path | None = None, **variables: str) -> Ended:
    """Run `t2tbuild validate FILE` in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    command = [sys.executable, "-m", "t2tbuild", "validate", *options, "--", str(file)]
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as report:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(write_end), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=[write_end],
            cwd=folder,
            env=environment | variables,
            check=False,
        )
        os.close(write_end)
        code, seconds, kilobytes = report.read().split()
    return Ended(int(code), done.stdout.decode(), done.stderr.decode(), float(seconds), int(kilobytes) * 1024)


@functools.cache
def good_seconds() -> float:
    """Return the median CPU time, in seconds, of a valid file on this machine."""
    return statistics.median(validate("t2t_vit_14", "--json").seconds for _ in range(5))


def complaints(ended: Ended) -> list[str]:
    """Return what is wrong with the --json output for an invalid input."""
    found = []
    if ended.code != 2:
        found.append(f"exit code {ended.code}")
    if "Traceback" in ended.out + ended.err:
        found.append("a traceback")
    if ended.err:
        found.append(f"on stderr: {ended.err.strip().splitlines()[-1]:.200}")
    if ended.seconds > MOST_TIMES * good_seconds():
        found.append(f"{ended.seconds:.2f} seconds, a valid file takes {good_seconds():.2f}")
    if ended.bytes >= MOST_BYTES:
        found.append(f"{ended.bytes / 1e6:.0f} MB")
    try:
        records = json.loads(ended.out)
    except ValueError:
        return [*found, "no JSON on stdout"]
    if not records or any(list(record) != KEYS for record in records):
        found.append(f"not the keys of a diagnostic: {records!r:.200}")
    return found


def mistakes(file: Path) -> list[Diagnostic]:
    """Return the errors in a file, as `t2tbuild validate` finds them. Warnings have tests of their own."""
    return [one for one in diagnose(str(file), []) if one.severity == "error"]


@pytest.mark.parametrize("good", [GOOD, GOOD_TRAIN, GOOD_SEARCH], ids=["spec", "train", "search"])
def test_the_unchanged_specs_are_valid(good: str, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(good)
    assert mistakes(file) == []


def test_the_names_of_inputs_are_unique() -> None:
    assert len(BAD_INPUTS) >= 100
    assert len({str(bad) for bad in BAD_INPUTS}) == len(BAD_INPUTS)


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
def test_a_mistake_is_reported_at_its_place(bad: Bad, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(bad.raw)
    found = mistakes(file)
    assert [(one.line, one.column, one.rule) for one in found] == [mistake[:3] for mistake in bad.mistakes]
    for one, mistake in zip(found, bad.mistakes, strict=True):
        assert mistake.value in one.message
    assert [f"{one.message} ({one.hint})" for one in found] == snapshot
    for one in found:
        assert (one.file, one.severity) == (str(file), "error")
        assert one.length >= 1
        assert one.column <= len(one.text) + 1


@pytest.mark.slow
def test_every_input_is_rejected_fast_with_little_memory_and_without_a_traceback(tmp_path: Path) -> None:
    def run(index: int, bad: Bad) -> tuple[Bad, Ended]:
        file = tmp_path / f"bad_{index}.yaml"
        file.write_bytes(bad.raw)
        return bad, validate(file, "--json")

    # Every large input, and those of every fourth rule: all are checked within this process above.
    by_rule = {one.rule: bad for bad in BAD_INPUTS for one in bad.mistakes}
    some = [by_rule[rule] for rule in sorted(by_rule)[::4]]
    inputs = [bad for bad in BAD_INPUTS if len(bad.raw) > 10_000 or bad in some]
    assert len(inputs) >= 12
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(run, range(len(inputs)), inputs))
    most, largest = max(end.seconds for _, end in ended), max(end.bytes for _, end in ended)
    print(f"{len(ended)} inputs, at most {most:.2f} seconds of CPU and {largest / 1e6:.0f} MB")
    failed = [f"{bad}: {', '.join(found)}" for bad, end in ended if (found := complaints(end))]
    assert not failed, "\n".join(failed)


LARGE = {
    "9,900 unknown keys": GOOD + "".join(f"    key_{number}: 1\n" for number in range(9900)),
    "19,000 choices": edit(GOOD_SEARCH, "[2, 3, 4]", f"[{', '.join(map(str, range(19_000)))}]"),
    "forty wide dense blocks with seven heads": edit(
        GOOD,
        "    depth: 14\n    embed_dim: 384\n    num_heads: 6\n",
        f"    kind: dense\n    blocks: [40]\n    growth_rate: 65536\n    embed_dim: 64\n    num_heads: {[7] * 40}\n",
    ),
    "a number of a megabyte": edit(GOOD, "depth: 14", f"depth: '{'9' * 1_000_000}'"),
    "a line of a megabyte": edit(GOOD, "name: mine", f"name: {'m' * 1_000_000}"),
    "a curly quote in a long line": edit(GOOD, "name: mine", f"\u201cname\u201d: {'m' * 300_000}: 1"),
    "20,001 values": edit(GOOD, "mlp_ratio: 3", f"mlp_ratio: {[3] * 20_001}"),
    "19,000 ratios": edit(GOOD, "mlp_ratio: 3", f"mlp_ratio: {[-3] * 19_000}"),
    "brackets": "[" * 1_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_is_rejected_fast_with_a_short_output(name: str, tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text(LARGE[name])
    ended = validate(tmp_path / "large.yaml", "--json")
    assert complaints(ended) == []
    assert len(ended.out) < 100_000


def _write(name: str, data: bytes, folder: Path) -> None:
    (folder / name).write_bytes(data)


ENCODED = {
    "NUL": (b"version: 1\nname: a\0b\n", 2, 8, "character"),
    "UTF-16": (GOOD.encode("utf-16"), 1, 1, "encoding"),
    "Latin-1": (edit(GOOD, "name: mine", "name: m\xefne").encode("latin-1"), 3, 10, "encoding"),
    "1 MiB and a byte": (b"#" * (1 << 20) + b"\n", 0, 0, "size"),
    "empty": (b"", 0, 0, "empty"),
    "only comments": (b"# a spec, some day\n# version: 1\n", 0, 0, "empty"),
}


@pytest.mark.parametrize("name", ENCODED)
def test_a_file_that_is_not_text_is_an_error(name: str, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    data, *place_and_rule = ENCODED[name]
    _write("bad.yaml", data, tmp_path)
    ended = validate("bad.yaml", "--json", folder=tmp_path)
    assert complaints(ended) == []
    (found,) = ended.records
    assert [found["line"], found["column"], found["rule"]] == place_and_rule
    assert f"{found['message']} ({found['hint']})" == snapshot


def test_a_file_of_one_mebibyte_is_valid(tmp_path: Path) -> None:
    _write("long.yaml", GOOD.encode() + b"#" * ((1 << 20) - len(GOOD)), tmp_path)
    assert mistakes(tmp_path / "long.yaml") == []


NO_FILES = {
    "a FIFO": "fifo.yaml",
    "a device": "/dev/zero",
    "a folder": "folder",
    "a folder without specs": "bare",
    "near a file": "small_vti.yaml",
    "near a file in a folder": "folder/oen.yaml",
    "near a shipped name": "vit_dnn",
    "near nothing": "zzz",
    "a dangling link": "link.yaml",
    "below a file": "small_vit.yaml/x.yaml",
    "a long name": "n" * 5000,
    "an empty name": "",
    "a name of spaces": "  ",
}
SUGGESTED = {
    "near a file": ("small_vit.yaml",),
    "near a file in a folder": ("folder/one.yaml", "folder/other.yaml"),
    "near a shipped name": ("vit_dn", "vit_dense"),
}


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Return a folder of files that are not specs."""
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "bare").mkdir()
    (tmp_path / "folder").mkdir()
    for name in ("small_vit.yaml", "folder/one.yaml", "folder/other.yaml"):
        _write(name, GOOD.encode(), tmp_path)
    (tmp_path / "link.yaml").symlink_to("nowhere.yaml")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("what", NO_FILES)
def test_a_name_without_a_file_is_an_error(what: str, odd_folder: Path, snapshot: SnapshotAssertion) -> None:
    ended = validate(NO_FILES[what], "--json", folder=odd_folder)
    assert complaints(ended) == []
    (found,) = ended.records
    assert (found["line"], found["column"], found["rule"]) == (0, 0, "file")
    for name in SUGGESTED.get(what, ()):
        assert name in str(found["hint"])
    assert f"{found['message']} ({found['hint']})" == snapshot


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_an_error(tmp_path: Path) -> None:
    _write("mine.yaml", GOOD.encode(), tmp_path)
    (tmp_path / "mine.yaml").chmod(0)
    ended = validate("mine.yaml", "--json", folder=tmp_path)
    assert complaints(ended) == []
    (found,) = ended.records
    assert (found["line"], found["column"], found["rule"]) == (0, 0, "file")
    assert "Permission denied" in str(found["message"])


SEVERAL = edit(
    GOOD, "version: 1", "version: 2", "name: mine", "name: ''", "depth: 14", "dpeth: 14", "heads: 6", "heads: 5"
)


@pytest.mark.slow
@pytest.mark.parametrize("text", [SEVERAL, edit(GOOD_SEARCH, "5G", "5 G", "5m", "soon"), "- 1\n", ""])
def test_json_and_text_output_agree(text: str, tmp_path: Path) -> None:
    _write("bad.yaml", text.encode(), tmp_path)
    as_json = validate("bad.yaml", "--json", folder=tmp_path)
    as_text = validate("bad.yaml", folder=tmp_path)
    assert (as_json.code, as_text.code, as_json.err, as_text.err) == (2, 2, "", "")
    heads = []
    for record in as_json.records:
        place = f"{record['file']}:{record['line']}:{record['column']}" if record["line"] else record["file"]
        heads.append(f"{place}: {record['severity']}: {record['message']}")
        assert str(record["hint"]) in as_text.out
    assert [line for line in as_text.out.splitlines() if line.startswith("bad.yaml")] == heads
    number = len(heads)
    assert as_text.out.splitlines()[-1] == f"{number} error{'s' * (number > 1)} in bad.yaml"


def shown(text: str, folder: Path) -> tuple[str, str]:
    """Return the source line and the line with the caret, as shown in a terminal."""
    _write("bad.yaml", text.encode(), folder)
    ended = validate("bad.yaml", folder=folder)
    assert (ended.code, ended.err) == (2, "")
    _, source, caret, *_ = ended.out.splitlines()
    return source, caret


def columns(text: str) -> int:
    """Return the width of a text in terminal columns."""
    from rich.cells import cell_len

    return cell_len(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "meant"),
    [
        ("depth: 14", "depth: '14'  # blocks", "'14'"),
        ("depth: 14", "dpeth: 14", "dpeth"),
        ("{patch_size: 7, overlap: 3,", "{patch_size: 7, overlap: 33333,", "33333"),
        ("overlap: 1}", "overlap: 1, token_dim: '模型', attention: 1}", "'模型'"),
        ("{patch_size: 7, overlap: 3,", "{模: 模模, patch_size: 7, overlap: 3,", "模"),
        ("depth: 14", "depth: '14'\t# tabs\tin\ta comment", "'14'"),
    ],
)
def test_the_caret_marks_the_place(old: str, new: str, meant: str, tmp_path: Path) -> None:
    source, caret = shown(edit(GOOD, old, new), tmp_path)
    before = source[: source.index(meant)]
    assert caret.index("^") == columns(before)
    assert caret.count("^") == columns(meant)
    assert "\t" not in source


def test_wide_characters_before_the_place_move_the_caret(tmp_path: Path) -> None:
    source, caret = shown('{"weights": "模模模", "version": "2", "model": "t2t_vit_7"}\n', tmp_path)
    before = source[: source.index('"2"')]
    assert caret.index("^") == columns(before) == len(before) + 3
    assert caret.count("^") == 3


@pytest.mark.parametrize("before", [0, 2500, 4980])
def test_a_line_of_five_thousand_characters_is_cut_around_the_place(before: int, tmp_path: Path) -> None:
    gap, rest = " " * before, " " * (4980 - before)
    source, caret = shown(f"{{version: 1,{gap}model_: 1,{rest}model: t2t_vit_7}}", tmp_path)
    assert len(source) < 130
    assert source[caret.index("^") :].startswith("model_")
    assert caret.count("^") == len("model_")


ESCAPE = re.compile("\x1b\\[[0-9;]*m")


@pytest.mark.parametrize(
    ("variables", "colours"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)],
    ids=["neither", "FORCE_COLOR", "NO_COLOR"],
)
def test_colours_are_used_only_if_enabled(variables: dict[str, str], colours: bool, tmp_path: Path) -> None:
    _write("bad.yaml", SEVERAL.encode(), tmp_path)
    ended = validate("bad.yaml", folder=tmp_path, TERM="xterm-256color", **variables)
    assert ended.code == 2
    assert bool(ESCAPE.search(ended.out)) == colours
    assert "bad.yaml:1:10: error: version must be 1, got 2" in ESCAPE.sub("", ended.out)


def test_a_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    _write("bad.yaml", edit(GOOD, "name: mine", "name: mi\x1b[2Jne").encode(), tmp_path)
    ended = validate("bad.yaml", folder=tmp_path)
    assert "\x1b" not in ended.out
    assert "\\x1b[2J" in ended.out
