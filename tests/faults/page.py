"""The tests that docs/reliability.md names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"`(?:([\w/]+\.py))?::(test_\w+)`|`([\w/]+\.py)`")
"""A test, of the file named last where it has none; or a whole file."""


def named_tests(page: str) -> list[str]:
    """Return the tests and the files of tests that a page names, as arguments of pytest.

    A file without a folder is in tests/faults/, one with another folder than tests/ in tests/.

    >>> named_tests("`test_output.py::test_a`, `::test_b`, `nas/test_c.py`, `benchmarks/kills.py`")
    ['tests/faults/test_output.py::test_a', 'tests/faults/test_output.py::test_b', 'tests/nas/test_c.py']
    """
    found: dict[str, None] = {}
    last = ""
    for match in NAMED.finditer(page):
        last = match[1] or match[3] or last
        if not Path(last).name.startswith("test_"):
            continue
        folder = "" if last.startswith("tests/") else "tests/" if "/" in last else "tests/faults/"
        found[f"{folder}{last}::{match[2]}" if match[2] else folder + last] = None
    return list(found)


def rows_of_faults(page: str) -> dict[str, list[str]]:
    """Return the tests that each row of a table of faults names, by the row's fault.

    >>> rows_of_faults("| fault | promise | test |\\n|---|---|---|\\n| a | b | `test_c.py` |\\n| d | e |\\n\\n| x |")
    {'a': ['tests/faults/test_c.py'], 'd': []}
    """
    found: dict[str, list[str]] = {}
    inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        inside = line.startswith("|") and (inside or cells == ["fault", "promise", "test"])
        if inside and cells[0] != "fault" and set(cells[0]) != {"-"}:
            assert cells[0] not in found, cells[0]
            found[cells[0]] = named_tests(cells[2]) if len(cells) == 3 else []
    return found
