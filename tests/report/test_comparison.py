"""Every model beside the paper: within the tolerances, or the spec says why not."""

import csv
import io
from pathlib import Path

import pytest
import yaml

from t2tbuild import load_spec
from t2tbuild.cost.counter import count_model
from t2tbuild.report import comparison
from t2tbuild.report.comparison import Comparison
from t2tbuild.spec import catalog
from t2tbuild.spec.tree import PaperRow, Spec

SPECS = {name: load_spec(name) for name in catalog.names("specs")}
PARAMS_OFF, MACS_OFF = 0.015, 0.03  # fractions beyond which a row must say why

# The paper's rows, from its tables: how many there are of each, and those that no spec can stand for.
ROWS = {1: 11, 2: 8, 3: 3, 4: 8, 5: 3, 6: 18, 7: 5}


def compared(name: str, spec: Spec) -> list[Comparison]:
    cost = count_model(spec.model)
    return [Comparison(name, cost.params, cost.macs, row) for row in spec.paper]


@pytest.mark.parametrize("name", SPECS)
def test_a_model_is_near_the_papers_figures_or_says_why_not(name: str) -> None:
    rows = compared(name, SPECS[name])
    assert rows
    text = catalog.find(name, "specs").read_text()
    for row in rows:
        far = abs(row.params_off or 0) > PARAMS_OFF or abs(row.macs_off or 0) > MACS_OFF
        assert not far or row.paper.note, (row.params_off, row.macs_off)
        assert row.paper.note is None or row.paper.note in text


def test_every_row_of_every_table_is_there_once() -> None:
    for table, count in ROWS.items():
        rows = comparison.rows_of(SPECS, table)
        numbers = [row.row for _, _, row in rows]
        assert len(rows) == count
        assert numbers == sorted(set(numbers))


def test_what_a_spec_says_of_the_paper_is_said_in_its_first_line() -> None:
    for name, spec in SPECS.items():
        first = catalog.find(name, "specs").read_text().splitlines()[0]
        row = spec.paper[0]
        assert row.params is not None
        assert f"{row.params / 1e6:g}M parameters" in first.replace(".0M", "M"), name
        for other in spec.paper:
            if other.table:
                assert str(other.table) in first.partition("of the paper")[0], name


ROW = PaperRow(table=1, row=1, params="10M", macs="1G", top1=70, note="a note")  # type: ignore[arg-type]


def rows() -> list[Comparison]:
    other = ROW.model_copy(update={"top1": 60.0, "note": None})
    return [
        Comparison("first", 11_000_000, 990_000_000, ROW),
        Comparison("worse", 11_000_000, 1_200_000_000, other),
        Comparison("lean", 9_000_000, 500_000_000, other.model_copy(update={"variant": "small"})),
        Comparison("mine", 1_000, 2_000, PaperRow()),
    ]


def test_differences_orders_and_the_front() -> None:
    first, worse, lean, mine = rows()
    assert first.params_off == pytest.approx(0.1)
    assert first.macs_off == pytest.approx(-0.01)
    assert mine.macs_off is None
    assert [comparison.on_front(row, rows()) for row in rows()] == [True, False, True, False]
    assert comparison.ordered(rows(), "macs") == [mine, lean, first, worse]
    assert comparison.ordered(rows(), "top1")[0] == first
    assert comparison.ordered(rows(), "name")[1].title == "lean (small)"
    assert comparison.ordered(rows(), "params")[:2] == [mine, lean]
    assert comparison.ordered(rows(), "paper") == rows()


def test_equal_models_share_the_front() -> None:
    one, same = Comparison("one", 1, 5, ROW), Comparison("same", 1, 5, ROW)
    assert comparison.on_front(one, [one, same])
    assert comparison.on_front(same, [one, same])


def test_markdown_and_csv_say_the_same() -> None:
    shown = comparison.as_markdown(rows(), title="a title", pareto=True)
    assert "| first | 11.0M | 10M | +10.0% | 990.0M | 1G | -1.0% | 70.0 | * | 1 |" in shown.splitlines()
    assert "1 a note" in shown
    records = list(csv.DictReader(io.StringIO(comparison.as_csv(rows(), pareto=False))))
    assert [record["model"] for record in records] == ["first", "worse", "lean", "mine"]
    assert records[0]["macs"] == "990000000"
    assert records[0]["params_off_percent"] == "10.0"
    assert records[3]["paper_macs"] == ""
    assert "pareto" not in records[0]


def test_paper_rows_may_be_one_or_many(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "specs" / "t2t_vit_t_19.yaml").read_text()
    one = load_spec("t2t_vit_t_19")
    data = yaml.safe_load(text)
    assert isinstance(data["paper"], dict)
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(data | {"paper": [data["paper"]]}))
    assert load_spec(tmp_path / "many.yaml") == one
