"""docs/reliability.md names a test for each fault, every test of a fault, and no test that is not there."""

import re
from pathlib import Path

from tests.faults.page import PAGE, ROOT, named_tests, rows_of_faults

FUNCTION = re.compile(r"^def (test_\w+)\(", re.MULTILINE)


def functions_in(file: Path) -> set[str]:
    name = file.relative_to(ROOT).as_posix()
    return {f"{name}::{test}" for test in FUNCTION.findall(file.read_text(encoding="utf-8"))}


def test_every_test_of_the_page_is_there() -> None:
    named = named_tests(PAGE.read_text(encoding="utf-8"))
    assert len(named) > 50
    for one in named:
        file = ROOT / one.partition("::")[0]
        assert file.is_file(), one
        assert "::" not in one or one in functions_in(file), one


def test_every_fault_has_a_test() -> None:
    """A benchmark alone is none."""
    rows = rows_of_faults(PAGE.read_text(encoding="utf-8"))
    assert len(rows) > 50
    assert [fault for fault, tests in rows.items() if not tests] == []


def test_every_test_of_a_fault_is_on_the_page() -> None:
    named = set(named_tests(PAGE.read_text(encoding="utf-8")))
    files = set(Path(__file__).parent.glob("test_*.py")) - {
        Path(__file__),
        Path(__file__).with_name("test_invariants.py"),
    }
    tests = set().union(*(functions_in(file) for file in files if file.relative_to(ROOT).as_posix() not in named))
    assert tests
    assert not sorted(tests - named)
