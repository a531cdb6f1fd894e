"""Every model against the paper: each row of the paper is there, and counts differ by little or a note explains why."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2tbuild import load_spec, predict_cost
from t2tbuild.cost import Cost
from t2tbuild.cost.counter import count_model
from t2tbuild.report import comparison
from t2tbuild.report.comparison import Comparison
from t2tbuild.spec import ModelSpec, catalog
from t2tbuild.spec.root import PaperRow
from t2tbuild.spec.units import short_count

SPECS = {name: load_spec(name) for name in catalog.names("specs")}
PARAMS_OFF, MACS_OFF = 0.015, 0.03  # relative differences beyond which a row needs a note
PAPER = yaml.safe_load((Path(__file__).parents[1] / "data" / "paper_tables.yaml").read_text())

# Names in paper_tables.yaml of rows that are variants of a spec, or that are no file names.
SPEC_OF = {
    "mobilenet_v1_1.0": ("mobilenet_v1", None),
    "mobilenet_v2_1.0": ("mobilenet_v2", None),
    "mobilenet_v2_1.4": ("mobilenet_v2_140", None),
    "mobilenet_v3_large": ("mobilenet_v3", None),
    "t2t_vit_7_distilled": ("t2t_vit_7", "distilled"),
    "t2t_vit_12_distilled": ("t2t_vit_12", "distilled"),
    "t2t_vit_14_d768_4": ("t2t_vit_14_wide", "d768-4"),
    "wide_resnet18x1.5": ("wide_resnet18", None),
}


def papers_rows() -> Iterator[tuple[int, str, dict[str, Any]]]:
    for name, rows in PAPER.items():
        table = re.match(r"table_(\d)_", name)
        for model, row in rows.items() if table else ():
            if row.get("note") != "released code only":
                yield int(table[1]), model, row


def test_rows_are_those_of_the_paper_in_its_order() -> None:
    ours = {table: comparison.rows_of_table(SPECS, table) for table in range(1, 8)}
    seen = dict.fromkeys(ours, 0)
    for table, model, printed in papers_rows():
        name, _, row = ours[table][seen[table]]
        seen[table] += 1
        assert (name, row.variant) == SPEC_OF.get(model, (model, None))
        assert row.row == seen[table]
        assert row.params == (round(printed["params"] * 1e6) if "params" in printed else None)
        assert row.macs == (round(printed["macs"] * 1e9) if "macs" in printed else None)
        top1 = printed.get("top1", printed.get("imagenet"))
        assert row.top1 == (top1[1] if isinstance(top1, list) else top1)  # of two, the one with the paper's recipe
        assert (row.cifar10, row.cifar100) == (printed.get("cifar10"), printed.get("cifar100"))
    assert seen == {table: len(rows) for table, rows in ours.items()}
    assert sum(seen.values()) == 57


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_model_is_near_the_papers_figures_or_has_a_note(name: str) -> None:
    spec, text = SPECS[name], catalog.find(name).read_text()
    # fvcore gives the same for a T2T model, which tests/cost shows
    cost = predict_cost(spec.model) if isinstance(spec.model, ModelSpec) else count_model(spec.model)
    assert spec.paper
    for row in (Comparison(name, cost, row) for row in spec.paper):
        far = abs(row.params_off or 0) > PARAMS_OFF or abs(row.macs_off or 0) > MACS_OFF
        assert not far or row.paper.note, (row.params_off, row.macs_off)
    _, first, second = text.splitlines()[:3]
    assert second == f"# Counted: {short_count(cost.params)} parameters, {short_count(cost.macs)} MACs."
    printed = spec.paper[0]
    assert printed.params is not None
    assert f"{printed.params / 1e6:.1f}M parameters" in first
    tables = {row.table for row in spec.paper if row.table}
    assert {int(number) for number in re.findall(r"\d", first.partition("Table")[2].partition(" of the")[0])} == tables


def made(name: str, params: int, macs: int, paper: dict[str, Any]) -> Comparison:
    return Comparison(name, Cost(params, params, macs, ()), PaperRow.model_validate(paper))


PRINTED = {"table": 1, "row": 1, "params": "10M", "macs": "1G"}
ROWS = [
    made("first", 11_000_000, 990_000_000, PRINTED | {"top1": 70, "note": "a note"}),
    made("worse", 11_000_000, 1_200_000_000, PRINTED | {"top1": 60}),
    made("lean", 9_000_000, 500_000_000, PRINTED | {"top1": 60, "variant": "small", "cifar10": 97.5}),
    made("mine", 1_000, 2_000, {}),
    Comparison("absent", None, PaperRow.model_validate(PRINTED | {"top1": 99})),
]


def test_differences_and_the_front() -> None:
    first, _, lean, mine, absent = ROWS
    assert first.params_off == pytest.approx(0.1)
    assert first.macs_off == pytest.approx(-0.01)
    assert lean.title == "lean (small)"
    assert mine.macs_off is None
    assert absent.params_off is None
    assert [row.front for row in comparison.mark_front(ROWS)] == [True, False, True, False, False]
    equal = [made(name, 1, 5, PRINTED | {"top1": 70}) for name in ("one", "same")]
    assert [row.front for row in comparison.mark_front(equal)] == [True, True]


def test_markdown_and_csv_have_the_same_figures() -> None:
    shown = comparison.as_markdown(comparison.mark_front(ROWS), title="a title").splitlines()
    assert shown[2] == "| model | params | paper | off | MACs | paper | off | top-1 | CIFAR-10 | front | note |"
    assert "| first | 11.0M | 10.0M | +10.0% | 990.0M | 1.0G | -1.0% | 70.0 |  | * | 1 |" in shown
    assert "| absent |  | 10.0M |  |  | 1.0G |  | 99.0 |  |  |  |" in shown
    assert shown[-1] == "1 a note"
    assert {line.count("|") for line in shown if line.startswith("|")} == {12}
    records = list(csv.DictReader(io.StringIO(comparison.as_csv(ROWS))))
    assert [record["model"] for record in records] == ["first", "worse", "lean", "mine", "absent"]
    assert records[0]["macs"] == "990000000"
    assert records[0]["params_off_percent"] == "10.0"
    assert records[3]["paper_macs"] == records[4]["macs"] == ""
    assert "front" not in records[0]


def test_paper_rows_may_be_one_or_many(tmp_path: Path) -> None:
    data = yaml.safe_load((Path(__file__).parents[2] / "specs" / "t2t_vit_t_19.yaml").read_text())
    assert isinstance(data["paper"], dict)
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(data | {"paper": [data["paper"]]}))
    assert load_spec(tmp_path / "many.yaml") == load_spec("t2t_vit_t_19")
