"""Renamed fields: the old name is accepted with a warning at its place, and specs are written with the new name."""

from pathlib import Path

import pytest
from bad_inputs import GOOD_SEARCH
from pydantic import ValidationError

from t2tbuild import load_search_spec, write_spec
from t2tbuild.errors import SpecError
from t2tbuild.spec.base import Node
from t2tbuild.spec.load import read_search_spec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.renamed import RENAMED
from t2tbuild.spec.root import SearchSpec
from t2tbuild.spec.search import Search, ZeroCostProxies

OLD = GOOD_SEARCH.replace("{rungs: [40, 120, 280]}", "{rungs: [40, 120, 280], keep: 4, stop: never}") + (
    "  scores: {pool: 7}\n  baseline: 0.25\n"
)
NEW = OLD.replace("keep", "reduction_factor").replace("stop", "scheduler").replace("scores", "zero_cost")
NEW = NEW.replace("baseline", "random_fraction")


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text)
    return file


def test_a_renamed_field_exists_under_its_new_name_only() -> None:
    for old, new in RENAMED.items():
        node: type[Node] = SearchSpec
        *parents, name = new.split(".")
        for part in parents:
            node = node.model_fields[part].annotation  # type: ignore[assignment]
        assert name in node.model_fields
        assert old.split(".")[:-1] == parents
        assert old.rpartition(".")[2] not in node.model_fields


def test_an_old_name_is_read_with_a_warning_at_its_place(tmp_path: Path) -> None:
    document = read_search_spec(write(tmp_path, OLD))
    search = document.spec.search
    assert (search.proxy.reduction_factor, search.proxy.scheduler) == (4, "never")
    assert (search.random_fraction, search.zero_cost.pool) == (0.25, 7)
    found = [(one.line, one.column, one.path, one.severity) for one in document.warnings]
    assert found == [
        (10, 34, "search.proxy.keep", "warning"),
        (10, 43, "search.proxy.stop", "warning"),
        (13, 3, "search.scores", "warning"),
        (14, 3, "search.baseline", "warning"),
    ]
    for warning in document.warnings:
        assert warning.rule == "renamed"
        assert RENAMED[warning.path].rpartition(".")[2] in warning.message


def test_old_and_new_names_give_equal_specs_and_the_new_ones_are_written(tmp_path: Path) -> None:
    new = load_search_spec(write(tmp_path, NEW))
    with pytest.warns(DeprecationWarning, match="renamed to") as caught:
        assert load_search_spec(write(tmp_path, OLD)) == new
    assert {one.filename for one in caught} == {__file__}
    assert len(caught) == len(RENAMED)
    write_spec(new, tmp_path / "written.yaml")
    assert "reduction_factor: 4" in (tmp_path / "written.yaml").read_text()
    assert read_search_spec(tmp_path / "written.yaml").warnings == []


def test_a_spec_of_an_old_run_continues_as_the_same_spec(tmp_path: Path) -> None:
    """A search writes spec.yaml with all of its values; an old one differs only in the names."""
    write_spec(load_search_spec("deep_narrow"), tmp_path / "spec.yaml")
    text = (tmp_path / "spec.yaml").read_text()
    old = text.replace("random_fraction:", "baseline:").replace("zero_cost:", "scores:")
    old = old.replace("reduction_factor:", "keep:").replace("scheduler:", "stop:")
    assert old.count("baseline:") == old.count("scores:") == old.count("keep:") == old.count("stop:") == 1
    (tmp_path / "spec.yaml").write_text(old)
    with pytest.warns(DeprecationWarning, match="renamed"):
        assert load_search_spec(tmp_path / "spec.yaml") == load_search_spec("deep_narrow")


def test_a_wrong_value_of_an_old_name_is_reported_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_search_spec(write(tmp_path, OLD.replace("keep: 4", "keep: four").replace("pool: 7", "pol: 7")))
    assert [(one.line, one.column, one.rule) for one in caught.value.diagnostics] == [
        (10, 40, "type"),
        (13, 12, "unknown-key"),
    ]


def test_both_names_are_an_error_at_the_old_one(tmp_path: Path) -> None:
    text = OLD.replace("keep: 4", "keep: 4, reduction_factor: 4")
    with pytest.raises(SpecError) as caught:
        read_search_spec(write(tmp_path, text))
    (mistake,) = caught.value.diagnostics
    assert (mistake.line, mistake.column, mistake.rule, mistake.severity) == (10, 34, "renamed", "error")
    assert "reduction_factor" in mistake.message


@pytest.mark.parametrize(
    ("override", "column"),
    [("search.proxy.keep=5", 14), ("search.proxy={keep: 5}", 8), ("search={proxy: {keep: 5}}", 1)],
)
def test_an_override_may_use_an_old_name(override: str, column: int, tmp_path: Path) -> None:
    if override.startswith("search={"):
        fields = "{base: t2t_vit_14, budget: {macs: 5G}, space: {backbone.depth: {choices: [8]}}, proxy: {keep: 5}}"
        override = f"search={fields}"
    for text in (GOOD_SEARCH, NEW):
        document = read_search_spec(write(tmp_path, text), [override])
        assert document.spec.search.proxy.reduction_factor == 5
        (warning,) = document.warnings
        assert (warning.line, warning.column, warning.rule) == (0, column, "renamed")
        assert warning.file.startswith("override")


def test_an_override_below_an_old_name_changes_the_field(tmp_path: Path) -> None:
    document = read_search_spec(write(tmp_path, NEW), ["search.scores.threshold=null", "search.zero_cost.names=[snip]"])
    assert document.spec.search.zero_cost == ZeroCostProxies(names=("snip",), pool=7, threshold=None)
    assert [(one.rule, one.column) for one in document.warnings] == [("renamed", 8)]


def test_overrides_with_both_names_are_an_error_at_the_old_one() -> None:
    with pytest.raises(SpecError) as caught:
        load_search_spec("deep_narrow", ["search.proxy.keep=5", "search.proxy.reduction_factor=4"])
    (mistake,) = caught.value.diagnostics
    assert (mistake.file, mistake.rule) == ("override 'search.proxy.keep=5'", "renamed")
    with pytest.warns(DeprecationWarning, match="random_fraction"):
        loaded = load_search_spec("deep_narrow", ["search.baseline=0.1", "search.trials=3"])
    assert loaded.search.random_fraction == 0.1


def test_the_python_api_accepts_old_names() -> None:
    with pytest.warns(DeprecationWarning, match="keep was renamed to reduction_factor"):
        proxy = Proxy(keep=5)  # type: ignore[call-arg]
    assert proxy == Proxy(reduction_factor=5)
    with pytest.warns(DeprecationWarning, match="stop was renamed to scheduler") as caught:
        assert proxy.stop == "asha"  # type: ignore[attr-defined]
    assert caught[0].filename == __file__
    fields = {"base": "t2t_vit_14", "budget": {"macs": "5G"}, "space": {"backbone.depth": {"choices": [8]}}}
    with pytest.warns(DeprecationWarning, match="baseline was renamed to random_fraction"):
        assert Search.model_validate(fields | {"baseline": 0}).random_fraction == 0
    with pytest.raises(ValidationError, match="both are given"):
        Search.model_validate(fields | {"baseline": 0, "random_fraction": 0})
    with pytest.raises(AttributeError, match="nothing"):
        proxy.nothing  # type: ignore[attr-defined]  # noqa: B018
