"""The readers on the small corpus of benchmarks/fuzz.py."""

import pytest

from tests.faults.fuzz_targets import CORPUS, TARGETS

INPUTS = sorted((target, path.name) for target in TARGETS for path in (CORPUS / target).iterdir())


@pytest.mark.parametrize(("target", "name"), INPUTS, ids="-".join)
def test_an_input_is_read_or_refused(target: str, name: str) -> None:
    data = (CORPUS / target / name).read_bytes()
    TARGETS[target](data)
    for end in range(0, len(data), max(1, len(data) // 8)):
        TARGETS[target](data[:end])


def test_the_corpus_is_small() -> None:
    assert len(INPUTS) >= len(TARGETS) * 3
    assert sum((CORPUS / target / name).stat().st_size for target, name in INPUTS) < 50_000
