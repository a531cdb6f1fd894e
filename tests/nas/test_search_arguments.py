"""`search` refuses something else than a SearchSpec, with what to write instead."""

from pathlib import Path

import pytest

from t2tbuild import load_spec, search
from t2tbuild.errors import InputError


@pytest.mark.parametrize(
    ("given", "kind", "instead"),
    [
        (load_spec("t2t_vit_7"), "Spec", "train()"),
        (load_spec("t2t_vit_7").model, "ModelSpec", "load_search_spec()"),
        ("deep_narrow", "str", 'search(load_search_spec("deep_narrow"))'),
        (Path("search.yaml"), "PosixPath", 'search(load_search_spec("search.yaml"))'),
    ],
)
def test_something_else_than_a_search_spec_raises(given: object, kind: str, instead: str) -> None:
    with pytest.raises(InputError) as error:
        search(given)  # type: ignore[arg-type]
    assert f"spec is a {kind}, expected a SearchSpec" in str(error.value)
    assert instead in str(error.value)
