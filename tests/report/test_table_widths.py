"""Every table in a terminal of any width and in a pipe: names are whole, and no line is longer than the width."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.cli import console as cli_console
from t2tbuild.cost.memory import predict_memory
from t2tbuild.dtype import Precision
from t2tbuild.nas import State
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.space_stats import measure_space
from t2tbuild.report import catalog_table, comparison
from t2tbuild.report.bench_table import bench_table
from t2tbuild.report.candidates_table import candidates_table
from t2tbuild.report.comparison import Comparison
from t2tbuild.report.cost_table import BatchCost, batch_cost_table, cost_table
from t2tbuild.report.evaluation_table import evaluation_table
from t2tbuild.report.space_plot import predicted_table, space_table
from t2tbuild.report.table import Column, ColumnTable, FactTable
from t2tbuild.report.verdict_table import confirmation_rows, predicted_rows, verdict_table
from t2tbuild.spec import catalog
from t2tbuild.training.evaluate import ClassAccuracy, WeightsEvaluation
from tests.report.searches import large_search
from tests.report.test_latency import BENCH
from tests.report.test_tables import record

WIDTHS = [40, 60, 80, 120, None]
"""Columns of a terminal; None is a pipe."""

Case = tuple[RenderableType, list[str]]
"""A table, and the names in its first column."""


def ls(kind: str) -> Case:
    rows = catalog_table.catalog_entries(kind)  # type: ignore[arg-type]
    names = catalog.names("specs" if kind == "models" else kind)  # type: ignore[arg-type]
    return catalog_table.as_table(kind, rows), names


def summarize() -> Case:
    spec = load_spec("t2t_vit_14")
    cost = predict_cost(spec.model, 3)
    names = [part.name for part in cost.parts] + [part.name for part in cost.parts[-3].parts]
    return cost_table(spec, cost, batch_size=64), [*names, "parameters", "MACs per image"]


def memory() -> Case:
    load = BatchCost(64, Precision.FLOAT32, predict_memory(load_spec("t2t_vit_14").model, 64), (24 * 10**9, 500, None))
    return batch_cost_table(load), ["batch of 64", "float32", "24.0 GB"]


def compare() -> Case:
    specs = {name: load_spec(name) for name in catalog.names("specs")}
    rows = [
        Comparison(name, None, row, accuracy=predict_accuracy(spec.model) if spec else None)
        for table in (1, 6)
        for name, spec, row in comparison.rows_of_table(specs, table)
    ]
    return comparison.as_table(comparison.mark_front(rows), title="compare"), [row.title for row in rows]


def bench() -> Case:
    return bench_table(BENCH, title="inference, batch 4"), [one.name for one in BENCH.measurements]


def candidates() -> Case:
    search = load_search_spec("deep_narrow", ["search.target=imagenet"]).search
    records = [record(name, State.COMPLETED, 2.0, 1.0, 0.5) for name in ("base", "7", "1234")]
    table = candidates_table(records, Ranking(search, records), title=search.name, proxy=search.proxy)
    return table, ["base", "7", "1234"]


def evaluate() -> Case:
    names = ["n02099601_golden_retriever", "n02123045_tabby"]
    classes = tuple(ClassAccuracy(name, 0.5) for name in names)
    score = WeightsEvaluation("t2t_vit_14", "run", "imagenet", "test", 50_000, 0.84, 0.815, 0.957, classes)
    return evaluation_table(score), [*names, "top-1"]


@cache
def deep_narrow() -> Plan:
    return plan(load_search_spec("deep_narrow", ["search.target=imagenet"]))


def space() -> Case:
    return predicted_table(deep_narrow(), deep_narrow().search), ["base"]


def space_by_width() -> Case:
    return space_table(measure_space(deep_narrow().members)), ["width", "shallowest", "deepest"]


CASES: dict[str, Callable[[], Case]] = {
    "ls models": lambda: ls("models"),
    "ls training": lambda: ls("training"),
    "ls search": lambda: ls("search"),
    "summarize": summarize,
    "memory": memory,
    "compare": compare,
    "bench": bench,
    "candidates": candidates,
    "evaluate": evaluate,
    "predicted": space,
    "space": space_by_width,
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in ("predicted", "space"))) for name in CASES],
)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def printed(table: RenderableType, width: int | None) -> list[str]:
    screen = io.StringIO()
    columns = cli_console.PIPED_WIDTH if width is None else width
    Console(file=screen, force_terminal=width is not None, width=columns, color_system=None, markup=False).print(table)
    return screen.getvalue().splitlines()


def check(table: RenderableType, names: list[str], width: int | None) -> None:
    lines = printed(table, width)
    text = "\n".join(lines)
    assert [name for name in names if name not in text] == []
    assert "…" not in text
    if width is not None:
        assert max(map(len, lines)) <= width
    else:
        assert "left out" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_names_are_whole_and_lines_fit(case: Case, width: int | None) -> None:
    check(*case, width)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["data", "imagenet"])
def test_names_of_a_verdict_are_whole(tmp_path: Path, target: str) -> None:
    result = large_search(tmp_path, 12, target=target)
    rows = predicted_rows(result) if target == "imagenet" else list(confirmation_rows(result).values())
    for width in WIDTHS:
        check(verdict_table(result), [row[0] for row in rows], width)


def example() -> ColumnTable:
    table = ColumnTable([Column("name"), Column("note", 2), Column("MACs", 1, right=True)], elsewhere="--json")
    table.add_row("a_long_name", "a remark", "4.80G")
    return table


def test_the_least_important_column_is_left_out_first_and_named() -> None:
    assert "left out" not in "\n".join(printed(example(), 36))
    medium = printed(example(), 30)
    assert "4.80G" in medium[3]
    assert "remark" not in "\n".join(medium)
    assert " ".join(medium[5:]).split() == ["left", "out:", "note;", "use", "a", "wider", "terminal", "or", "--json"]
    narrow = printed(example(), 18)
    assert "a_long_name" in narrow[3]
    assert "4.80G" not in "\n".join(narrow)
    assert " ".join(narrow[5:]).split()[:4] == ["left", "out:", "note,", "MACs;"]


def test_a_name_wider_than_the_terminal_is_folded() -> None:
    lines = printed(example(), 12)
    assert max(map(len, lines)) <= 12
    assert "".join(line.strip("│ ") for line in lines if line.startswith("│")) == "a_long_name"


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="2 cells, the table 3 columns"):
        example().add_row("one", "two")


def test_facts_become_lines_where_columns_do_not_fit() -> None:
    facts = FactTable(frozenset({2}))
    facts.add_row("memory", "inference", "86.2 MB", "at the peak")
    facts.add_row("", "training", "1.2 GB")
    assert [line.split() for line in printed(facts, 60)] == [
        ["memory", "inference", "86.2", "MB", "at", "the", "peak"],
        ["training", "1.2", "GB"],
    ]
    lines = printed(facts, 20)
    assert " ".join(line.strip() for line in lines) == "memory: inference; 86.2 MB; at the peak training; 1.2 GB"
    assert max(map(len, lines)) <= 20


@pytest.mark.parametrize(("columns", "width"), [(None, cli_console.PIPED_WIDTH), ("60", 60), ("wide", None)])
def test_piped_output_has_the_width_of_columns(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int | None
) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert cli_console.stdout().width == (width or cli_console.PIPED_WIDTH)
