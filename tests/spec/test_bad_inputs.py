"""Whatever a file holds, what is wrong in it is told at its place, about as fast as a good file is read."""

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
from bad_trainings import BAD_TRAININGS

from t2tbuild.cli.validate import diagnose
from t2tbuild.errors import Diagnostic

BAD_INPUTS = (*BAD_SPECS, *BAD_TRAININGS)
KEYS = ["file", "line", "column", "path", "rule", "message", "hint", "severity"]
MOST_TIMES = 8  # of what a good file takes; the worst takes 2.4, but cores are shared and some share their units
MOST_BYTES = 200e6
FOREVER = 20  # seconds after which a process is taken to hang


class Ended(NamedTuple):
    """How a process ended, and what it took."""

    code: int
    out: str
    err: str
    seconds: float
    bytes: int

    @property
    def reported(self) -> list[tuple[int, int, str, str, str]]:
        return [tuple(record[key] for key in ("line", "column", "rule", "message", "hint")) for record in self.records]

    @property
    def records(self) -> list[dict[str, object]]:
        records = json.loads(self.out)
        assert all(list(record) == KEYS for record in records), records
        return records


# Linux counts what a process was before exec into its largest memory, so that of pytest must not be its parent: a
# process of 10 MB stands between, which also ends what hangs.
BETWEEN = f"""\
import os, signal, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.alarm({FOREVER})
_, status, used = os.wait4(child, 0)
told = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss
os.write(int(sys.argv[1]), " ".join(map(str, told)).encode())
"""


def validate(file: str | Path, *options: str, folder: Path | None = None, **variables: str) -> Ended:
    """Run `t2tbuild validate FILE` as a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    command = [sys.executable, "-m", "t2tbuild", "validate", *options, "--", str(file)]
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as report:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", BETWEEN, str(write_end), *command],
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
    """Seconds of a CPU that a good file takes on this machine, the median of several."""
    return statistics.median(validate("t2t_vit_14", "--json").seconds for _ in range(5))


def complaints(ended: Ended) -> list[str]:
    """What is wrong with how a bad input was answered with --json."""
    message = []
    if ended.code != 2:
        message.append(f"exit code {ended.code}")
    if "Traceback" in ended.out + ended.err:
        message.append("a traceback")
    if ended.err:
        message.append(f"on stderr: {ended.err.strip().splitlines()[-1]:.200}")
    if ended.seconds > MOST_TIMES * good_seconds():
        message.append(f"{ended.seconds:.2f} seconds, where a good file takes {good_seconds():.2f}")
    if ended.bytes >= MOST_BYTES:
        message.append(f"{ended.bytes / 1e6:.0f} MB")
    try:
        records = json.loads(ended.out)
    except ValueError:
        return [*message, "no JSON on stdout"]
    if not records or any(list(record) != KEYS for record in records):
        message.append(f"not the keys of a diagnostic: {records!r:.200}")
    return message


def mistakes(file: Path) -> list[Diagnostic]:
    """Every mistake in a file, as `t2tbuild validate` finds them; its warnings are left to other tests."""
    return [one for one in diagnose(str(file), []) if one.severity == "error"]


@pytest.mark.parametrize("good", [GOOD, GOOD_TRAIN, GOOD_SEARCH], ids=["spec", "train", "search"])
def test_what_the_inputs_are_made_from_is_good(good: str, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(good)
    assert mistakes(file) == []


def test_every_input_has_a_name_of_its_own() -> None:
    assert len(BAD_INPUTS) >= 100
    assert len({str(bad) for bad in BAD_INPUTS}) == len(BAD_INPUTS)


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
def test_a_mistake_is_told_at_its_place(bad: Bad, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(bad.raw)
    told = mistakes(file)
    assert [(one.line, one.column, one.rule, one.message, one.hint) for one in told] == bad.reported
    for one in told:
        assert (one.file, one.severity) == (str(file), "error")
        assert one.length >= 1
        assert one.column <= len(one.text) + 1


def test_no_bad_input_takes_long_or_much_or_ends_in_a_traceback(tmp_path: Path) -> None:
    def run(index: int, bad: Bad) -> tuple[Bad, Ended]:
        file = tmp_path / f"bad_{index}.yaml"
        file.write_bytes(bad.raw)
        return bad, validate(file, "--json")

    by_rule = {
        one.rule: bad for bad in BAD_TRAININGS for one in bad.reported
    }  # all of them are told in one process above
    inputs = [bad for bad in BAD_INPUTS if bad not in BAD_TRAININGS or bad in by_rule.values()]
    assert len(inputs) >= 260
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(run, range(len(inputs)), inputs))
    most, largest = max(end.seconds for _, end in ended), max(end.bytes for _, end in ended)
    print(f"{len(ended)} inputs, at most {most:.2f} seconds of CPU and {largest / 1e6:.0f} MB")
    failed = [f"{bad}: {', '.join(told)}" for bad, end in ended if (told := complaints(end))]
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


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_takes_little_longer_and_is_told_in_a_few_words(name: str, tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text(LARGE[name])
    ended = validate(tmp_path / "large.yaml", "--json")
    assert complaints(ended) == []
    assert len(ended.out) < 100_000


def _write(name: str, data: bytes, folder: Path) -> None:
    (folder / name).write_bytes(data)


ENCODED = [
    (b"version: 1\nname: a\0b\n", 2, 8, "character", "character U+0000 cannot stand in YAML", "remove it"),
    (GOOD.encode("utf-16"), 1, 1, "encoding", "UTF-16 text", "save the file as UTF-8"),
    (
        edit(GOOD, "name: mine", "name: mïne").encode("latin-1"),
        3,
        10,
        "encoding",
        "not UTF-8 text: byte 0xef",
        "save the file as UTF-8",
    ),
    (b"#" * (1 << 20) + b"\n", 0, 0, "size", "larger than 1 MiB", "a spec is a few lines of YAML"),
    (b"", 0, 0, "empty", "spec is empty", "t2tbuild init writes one"),
    (b"# a spec, some day\n# version: 1\n", 0, 0, "empty", "spec is empty", "t2tbuild init writes one"),
]


@pytest.mark.parametrize(
    ("data", "line", "column", "rule", "message", "hint"),
    ENCODED,
    ids=["NUL", "UTF-16", "Latin-1", "1 MiB and a byte", "empty", "only comments"],
)
def test_what_is_no_text_of_a_spec(
    data: bytes, line: int, column: int, rule: str, message: str, hint: str, tmp_path: Path
) -> None:
    _write("bad.yaml", data, tmp_path)
    ended = validate("bad.yaml", "--json", folder=tmp_path)
    assert complaints(ended) == []
    assert ended.reported == [(line, column, rule, message, hint)]


def test_a_mebibyte_is_not_too_much(tmp_path: Path) -> None:
    _write("long.yaml", GOOD.encode() + b"#" * ((1 << 20) - len(GOOD)), tmp_path)
    assert mistakes(tmp_path / "long.yaml") == []


NO_FILES = {
    "a FIFO": ("fifo.yaml", "not a regular file", "name a YAML file"),
    "a device": ("/dev/zero", "not a regular file", "name a YAML file"),
    "a folder": ("folder", "a folder, not a spec; it holds one.yaml, other.yaml", "name one file"),
    "a folder without specs": ("bare", "a folder, not a spec; it holds no .yaml file", "name one file"),
    "near a file": (
        "small_vti.yaml",
        "no such file and no such shipped name",
        "did you mean small_vit.yaml?",
    ),
    "near a file in a folder": (
        "folder/oen.yaml",
        "no such file and no such shipped name",
        "did you mean folder/one.yaml or folder/other.yaml?",
    ),
    "near a shipped name": (
        "vit_dnn",
        "no such file and no such shipped name",
        "did you mean vit_dn or vit_dense or vit_sw?",
    ),
    "near nothing": ("zzz", "no such file and no such shipped name", "t2tbuild ls shows the shipped names"),
    "a dangling link": ("link.yaml", "a link to nowhere.yaml, which is not there", "name a YAML file"),
    "below a file": (
        "small_vit.yaml/x.yaml",
        "no such file and no such shipped name",
        "t2tbuild ls shows the shipped names",
    ),
    "a long name": ("n" * 5000, "not a file name", "name a shipped spec or a YAML file"),
    "an empty name": ("", "the name is empty", "t2tbuild ls shows the shipped names"),
    "a name of spaces": ("  ", "the name is empty", "t2tbuild ls shows the shipped names"),
}


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """A folder that holds what is no spec."""
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "bare").mkdir()
    (tmp_path / "folder").mkdir()
    for name in ("small_vit.yaml", "folder/one.yaml", "folder/other.yaml"):
        _write(name, GOOD.encode(), tmp_path)
    (tmp_path / "link.yaml").symlink_to("nowhere.yaml")
    return tmp_path


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file(what: str, odd_folder: Path) -> None:
    name, message, hint = NO_FILES[what]
    ended = validate(name, "--json", folder=odd_folder)
    assert complaints(ended) == []
    assert ended.reported == [(0, 0, "file", message, hint)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    _write("mine.yaml", GOOD.encode(), tmp_path)
    (tmp_path / "mine.yaml").chmod(0)
    ended = validate("mine.yaml", "--json", folder=tmp_path)
    assert complaints(ended) == []
    assert ended.reported == [(0, 0, "file", "cannot be read: Permission denied", "look at its permissions")]


SEVERAL = edit(
    GOOD, "version: 1", "version: 2", "name: mine", "name: ''", "depth: 14", "dpeth: 14", "heads: 6", "heads: 5"
)


@pytest.mark.parametrize("text", [SEVERAL, edit(GOOD_SEARCH, "5G", "5 G", "5m", "soon"), "- 1\n", ""])
def test_json_and_text_tell_the_same(text: str, tmp_path: Path) -> None:
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
    """The source line and the line with the caret, as a terminal shows them."""
    _write("bad.yaml", text.encode(), folder)
    ended = validate("bad.yaml", folder=folder)
    assert (ended.code, ended.err) == (2, "")
    _, source, caret, *_ = ended.out.splitlines()
    return source, caret


def columns(text: str) -> int:
    """Columns of a terminal that a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


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
def test_the_caret_is_under_what_is_meant(old: str, new: str, meant: str, tmp_path: Path) -> None:
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
def test_colours_only_where_they_are_wanted(variables: dict[str, str], colours: bool, tmp_path: Path) -> None:
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
