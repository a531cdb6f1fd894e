"""The supernet of a search in its reports, with made-up results, and what no supernet can hold."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from t2tbuild import load_search_spec
from t2tbuild.errors import FieldError
from t2tbuild.nas import SearchResult
from t2tbuild.nas.plan import plan
from t2tbuild.nas.supernet.phase import build_report, describe_trained
from t2tbuild.nas.supernet.pool import SupernetMember, pool
from t2tbuild.nas.supernet.results import FOLDER, InheritedResult, StandaloneResult, write_results
from t2tbuild.nas.supernet.state import PhaseState, find_phase
from t2tbuild.nas.supernet.verdict import decide, measure_validity
from t2tbuild.report.search_page import write_search_page
from t2tbuild.report.supernet import (
    best_rows,
    describe_values,
    load_supernet_view,
    plot_supernet,
    supernet_tables,
    trained_rows,
)
from t2tbuild.spec import SearchSpec
from tests.report.searches import large_search

SUPERNET = "search.supernet={steps: 100, budgets: [3G, 4G], validity: 8}"
SPACE = "search.space={backbone.embed_dim: {choices: [256, 320, 384]}, backbone.depth: {fill: [0.5, 1.0], low: 4}}"


@pytest.fixture(scope="module")
def spec() -> SearchSpec:
    return load_search_spec("deep_narrow", [SPACE, SUPERNET, "search.target=data"])


@pytest.fixture(scope="module")
def members(spec: SearchSpec) -> tuple[SupernetMember, ...]:
    return pool(plan(spec))


def inherited(one: SupernetMember) -> InheritedResult:
    """Return a made-up result: larger members are better, those of width 320 are broken."""
    accuracy = 0.4 + one.macs / 2e10 - (0.2 if one.values["backbone.embed_dim"] == 320 else 0)
    return InheritedResult(one.key, one.macs, one.params, None, accuracy, 2 - accuracy, one.values)


def alone(one: SupernetMember) -> StandaloneResult:
    before, backbone = inherited(one), one.model.backbone
    loss = before.loss - 0.3 + 0.001 * backbone.num_blocks
    costs = (one.key, one.macs, one.params, backbone.num_blocks, backbone.embed_dim)
    return StandaloneResult(*costs, before.loss, before.accuracy, loss, 1 - loss / 2, 60.0)


@pytest.fixture(scope="module")
def searched(
    spec: SearchSpec, members: tuple[SupernetMember, ...], tmp_path_factory: pytest.TempPathFactory
) -> SearchResult:
    """A search of 12 candidates with a supernet, whose results are made up."""
    run = tmp_path_factory.mktemp("supernet") / "run"
    result = replace(large_search(run, 12), spec=spec)
    some = members[:: max(1, len(members) // 12)]
    found, trained = [inherited(one) for one in members], [alone(one) for one in some]
    write_results(run / FOLDER, InheritedResult, found)
    write_results(run / FOLDER, StandaloneResult, trained)
    verdict = decide(measure_validity(trained, [one.model for one in some], "loss"), None, "data", "tpe")
    counts = {"backbone.embed_dim": Counter({256: 150, 320: 20, 384: 130})}
    report = build_report(spec.search, verdict, found, counts) | {"seconds": {"training": 60.0}}
    (run / FOLDER / "report.json").write_text(json.dumps(report))
    return result


def test_the_table_of_what_was_trained_notes_a_broken_width(searched: SearchResult) -> None:
    view = load_supernet_view(searched)
    assert view is not None
    rows = {row[1]: row for row in trained_rows(view)}
    assert rows["256"][0] == "backbone.embed_dim"
    assert [row[2] for row in rows.values()] == ["150", "20", "130"]
    assert sum(int(row[3]) for row in rows.values()) == len(view.members)
    assert [row[5] for row in rows.values()] == ["", "seldom trained, worse than both neighbours", ""]


def test_each_budget_has_the_best_member_within_it(searched: SearchResult) -> None:
    view = load_supernet_view(searched)
    assert view is not None
    assert [row[0] for row in best_rows(view)] == ["3.00G", "4.00G", "5.00G"]
    for row, limit in zip(best_rows(view), (3e9, 4e9, 5e9), strict=True):
        best = min((one for one in view.members if one.macs <= limit), key=lambda one: one.loss)
        assert row[1] == describe_values(best)
        assert row[-1] == f"{best.accuracy:.1%}"


def test_the_stages_of_a_field_are_described_together() -> None:
    values = {"tokenizer.stages.0.token_dim": 32, "tokenizer.stages.1.token_dim": 64, "backbone.depth": 12}
    values |= {"backbone.mlp_ratio.0": 2, "backbone.mlp_ratio.1": 2}
    assert (
        describe_values(InheritedResult("", 1, 1, None, 0.5, 1.0, values)) == "token_dim 32/64, depth 12, mlp_ratio 2"
    )


@pytest.mark.slow
def test_the_page_and_report_json_have_the_supernet(searched: SearchResult) -> None:
    write_search_page(searched)
    page = (searched.run / "report.html").read_text()
    view = load_supernet_view(searched)
    assert view is not None and view.correlations[0]["first"] == "inherited"
    assert '<h2 id="supernet">' in page and 'href="#supernet"' in page
    assert searched.report["supernet"]["sentence"] == view.sentence
    for text in (view.sentence, "seldom trained, worse than both neighbours", "depth x ln(width)"):
        assert escape(text) in page
    assert page.count("<script") == page.count("</script>") == 2
    plot_supernet(view, searched.run)
    assert {path.name for path in searched.run.glob("supernet_*.png")} == {
        "supernet_front.png",
        "supernet_validity.png",
    }
    assert [len(table.rows) for table in supernet_tables(view)] == [3, 3]


def test_a_search_without_a_supernet_has_no_section(tmp_path: Path) -> None:
    result = large_search(tmp_path, 12)
    assert result.report["supernet"] is None
    assert load_supernet_view(result) is None
    assert 'id="supernet"' not in (tmp_path / "report.html").read_text()


def test_values_are_in_the_order_of_their_numbers() -> None:
    """A member that failed does not count in the mean accuracy of its values."""
    rows = [(12, 0.6), (8, 0.5), (8, math.nan), (8, 0.7), (4, math.nan)]
    found = [
        InheritedResult(str(index), 1, 1, None, accuracy, 1.0, {"backbone.depth": depth})
        for index, (depth, accuracy) in enumerate(rows)
    ]
    counts: dict[str, Counter[Any]] = {
        "backbone.depth": Counter({12: 3, 4: 1, 8: 2}),
        "kind": Counter({"b": 1, None: 2, "a": 3}),
    }
    trained = describe_trained(found, counts)
    assert [one["value"] for one in trained["backbone.depth"]] == [4, 8, 12]
    assert [one["accuracy"] for one in trained["backbone.depth"]] == [None, pytest.approx(0.6), 0.6]
    assert [one["value"] for one in trained["kind"]] == [None, "a", "b"]


def test_the_phase_follows_from_the_files(
    spec: SearchSpec, members: tuple[SupernetMember, ...], tmp_path: Path
) -> None:
    settings, folder = spec.search.supernet, tmp_path / FOLDER
    assert settings is not None
    assert find_phase(tmp_path, settings) == PhaseState("training", 0, 100)
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 20, "loss": 2.0}\n{"step": 40, "loss": 1.5}\n')
    assert find_phase(tmp_path, settings) == PhaseState("training", 40, 100)
    write_results(folder, InheritedResult, [inherited(one) for one in members[:3]])
    assert find_phase(tmp_path, settings) == PhaseState("evaluation", 3, None)
    write_results(folder, StandaloneResult, [alone(one) for one in members[:2]])
    assert find_phase(tmp_path, settings) == PhaseState("validity", 2, 8)


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (["search.base=t2t_vit_16_ghost"], ("search", "base")),
        (["search.base=t2t_vit_dense", "search.space={backbone.mlp_ratio: {choices: [2, 3]}}"], ("search", "base")),
        (
            ["search.space={backbone.depth: {choices: [4, 6]}, backbone.ghost: {choices: [null, {}]}}"],
            ("search", "space", "backbone.ghost", "choices", 1),
        ),
    ],
    ids=["ghost base", "dense base", "ghost value"],
)
def test_what_cannot_be_sliced_is_refused_at_its_place(overrides: list[str], place: tuple[str | int, ...]) -> None:
    changes = [*overrides, "search.budget.macs=9G"]
    plan(load_search_spec("deep_narrow", changes))
    with pytest.raises(FieldError) as caught:
        plan(load_search_spec("deep_narrow", [*changes, "search.supernet={steps: 9}"]))
    assert (caught.value.path, caught.value.rule) == (place, "supernet")


def test_the_most_specific_of_several_values_is_named(tiny: Callable[..., SearchSpec]) -> None:
    """cnn_options has a dense backbone and ghost operations: with one of them out, the other is named."""
    with pytest.raises(FieldError) as caught:
        plan(load_search_spec("cnn_options", ["search.supernet={steps: 9}"]))
    assert caught.value.path == ("search", "space", "backbone.ghost", "choices", 1)
    plan(tiny("search.supernet={steps: 9}"))


def test_a_budget_without_members_is_refused(tiny: Callable[..., SearchSpec]) -> None:
    """The depth of the tiny space is solved: no member is far below the budget."""
    with pytest.raises(FieldError) as caught:
        plan(tiny("search.supernet={steps: 9, budgets: [10K, 20K, 2900K]}"))
    assert caught.value.path == ("search", "supernet", "budgets", 1)
    assert "20000 MACs or fewer" in caught.value.message and "a range in place of fill" in caught.value.hint
    depths = "search.space={backbone.depth: {low: 1, high: 4}}"
    assert plan(tiny(depths, "search.supernet={steps: 9, budgets: [1200K]}")).search.supernet is not None
