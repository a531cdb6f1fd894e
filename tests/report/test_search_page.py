"""The page of a search without a browser: its embedded data, its tables and its size."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from t2tbuild.nas import SearchResult
from t2tbuild.nas.old_names import EVIDENCE_KEYS, RECORD_KEYS, REPORT_KEYS
from t2tbuild.nas.record import BASE
from t2tbuild.report.page import nan_to_none
from t2tbuild.report.search_page import write_search_page
from t2tbuild.report.verdict_table import verdict_table
from t2tbuild.spec.units import short_count
from t2tbuild.spec.write import dump_yaml
from tests.documents import ROOT
from tests.report.searches import large_search, real_search


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return real_search(tmp_path_factory.mktemp("page"))


class Cells(HTMLParser):
    """The texts of the cells of the table of candidates, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        body = re.search(r'<table id="table">.*?<tbody>(.*?)</tbody>', page, re.S)
        assert body
        self.feed(body[1])

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def embedded(page: str) -> dict[str, Any]:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert text
    data: dict[str, Any] = json.loads(text[1])
    return data


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.slow
def test_every_number_of_the_page_is_in_report_json(result: SearchResult) -> None:
    data = embedded((result.run / "report.html").read_text())
    report = json.loads((result.run / "report.json").read_text())
    places = {"yaml": None, "parts": None}  # indices into lines and parts, which are compared below
    shown = {**data, "entries": [entry | places for entry in data["entries"]]}
    assert set(numbers(shown)) <= set(numbers(report))
    for entry, record in zip(data["entries"], [*report["candidates"], *report["reference_runs"]], strict=True):
        parts = [data["parts"][place] for place in entry["parts"]]
        assert parts == [list(part.values()) for part in report["parts"].get(record["key"], [])]
        assert sum(part[-1] for part in parts) == record["macs"]


def test_the_yaml_of_a_candidate_is_its_spec(result: SearchResult) -> None:
    data = embedded((result.run / "report.html").read_text())
    for entry, record in zip(data["entries"], [*result.records, *result.reference_runs], strict=True):
        text = "".join(f"{data['lines'][place]}\n" for place in entry["yaml"])
        assert record.model is not None
        assert text == dump_yaml(result.best.model_copy(update={"model": record.model}))


def test_the_table_agrees_with_report_json(result: SearchResult) -> None:
    rows = Cells((result.run / "report.html").read_text()).rows
    report = json.loads((result.run / "report.json").read_text())
    for row, record in zip(rows, report["candidates"], strict=True):
        backbone = record["model"]["backbone"]
        assert row[0] == record["number"]
        assert row[3:5] == [str(backbone["depth"]), str(backbone["embed_dim"])]
        assert row[6:8] == [short_count(record["macs"]), short_count(record["params"])]
        losses = [f"{rung['loss']:.3f}" for rung in record["rungs"]]
        assert row[8] == ""  # nothing is predicted for images of 32 pixels
        assert row[9 : 9 + len(losses)] == losses
        assert row[11] == f"{record['rungs'][-1]['accuracy']:.1%}"


def test_the_documentation_has_every_key_of_report_json(result: SearchResult) -> None:
    report = json.loads((result.run / "report.json").read_text())
    _, search, record = re.split("^## ", (ROOT / "docs" / "report_json.md").read_text(), flags=re.M)
    for section, keys, old in ((search, report, REPORT_KEYS), (record, report["candidates"][0], RECORD_KEYS)):
        rows = re.findall(r"^\| (`.*?) \|", section, re.M)
        assert set(re.findall(r"`(\w+)`", " ".join(rows))) == keys.keys() - old.keys() - EVIDENCE_KEYS.keys()


def test_the_timeline_of_trainings(result: SearchResult) -> None:
    spans = json.loads((result.run / "report.json").read_text())["timeline"]
    trained = {(one.number, one.seed) for one in (*result.records, *result.reference_runs) if one.rungs}
    assert {(span["number"], span["seed"]) for span in spans} == trained
    assert spans[0]["start"] == 0
    assert [(span["number"], span["seed"]) for span in spans[:2]] == [("base", 0), ("base", 1)]
    assert all(before["end"] <= after["start"] for before, after in itertools.pairwise(spans))  # one worker
    assert {span["worker"] for span in spans} == {record.worker for record in result.records if record.rungs}


def test_importance_finds_the_field_that_matters(result: SearchResult) -> None:
    importance = json.loads((result.run / "report.json").read_text())["importance"]
    assert importance["candidates"] == sum(record.state == "completed" for record in result.records) >= 8
    assert sum(importance["fields"].values()) == pytest.approx(1)
    assert next(iter(importance["fields"])) == "backbone.embed_dim"  # on which the results of FakeTrainer depend
    assert set(importance["fields"]) == {
        "backbone.embed_dim",
        "backbone.mlp_ratio",
        "fill",
        *(f"tokenizer.stages.{stage}.{field}" for stage in (0, 1) for field in ("attention", "token_dim")),
    }
    assert f"from {importance['candidates']} " in importance["caution"]


def test_nothing_in_the_page_ends_its_script(tmp_path: Path) -> None:
    """For any text in the reason of a candidate."""
    reason = "</script><img src=x onerror=alert(1)>&amp;\u2028'\""
    large_search(tmp_path, 12, reason=reason)
    page = (tmp_path / "report.html").read_text()
    assert page.count("</script>") == page.count("<script") == 2
    assert "<img" not in page
    assert embedded(page)["entries"][0]["reason"] == reason
    assert Cells(page).rows[0][-1] == reason
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]", page.replace("xlink:href", "href"))
    assert nan_to_none({"a": [float("nan"), (float("inf"), 1.5)]}) == {"a": [None, [None, 1.5]]}


def test_the_depth_of_a_dense_backbone_is_the_sum_of_its_groups(tmp_path: Path) -> None:
    result = large_search(tmp_path, 12, "t2t_vit_dense")
    page = (tmp_path / "report.html").read_text()
    for entry, row, record in zip(embedded(page)["entries"], Cells(page).rows, result.records, strict=False):
        assert record.model is not None
        assert str(entry["depth"]) == row[3] == str(record.model.backbone.depth)


def test_latencies_have_a_column_where_there_are_any(tmp_path: Path) -> None:
    result = large_search(tmp_path, 12)
    assert "latency, ms" not in (tmp_path / "report.html").read_text()
    measured, far, *others = result.records
    records = (replace(measured, latency=0.0123), replace(far, predicted_latency=1.5), *others)
    limited = replace(result, records=records)
    write_search_page(limited)
    page = (tmp_path / "report.html").read_text()
    assert [row[8] for row in Cells(page).rows][:3] == ["12.3", "1,500 (predicted)", ""]
    assert [entry["latency"] for entry in embedded(page)["entries"]][:3] == [0.0123, 1.5, None]
    assert "latency, ms" in page


def test_the_confirmation_table_is_left_out_where_nothing_was_retrained(tmp_path: Path) -> None:
    result = large_search(tmp_path, 12)
    page = (tmp_path / "report.html").read_text()
    assert 'id="confirmation"' in page and 'href="#confirmation"' in page and 'aria-label="Confirmation runs"' in page
    assert verdict_table(result) is not None
    base_runs = tuple(record for record in result.reference_runs if record.number == BASE)
    for reference_runs in (base_runs, ()):
        alone = replace(result, reference_runs=reference_runs)
        assert verdict_table(alone) is None
        write_search_page(alone)
        page = (tmp_path / "report.html").read_text()
        assert "onfirmation runs" not in page and "#confirmation" not in page
        assert f"candidates: {result.report['counts']['asked']} drawn" in page  # the counts stay


@pytest.mark.slow
def test_four_hundred_candidates_are_under_a_megabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.nas.verdict.RESAMPLES", 2)
    monkeypatch.setattr("t2tbuild.nas.report_sections.compute_correlations", lambda *_: [])  # slow for many candidates
    large_search(tmp_path, 400)
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 1_000_000
    assert [row[0] for row in Cells(page).rows] == [str(number) for number in range(400)]
    assert len(embedded(page)["entries"]) == 407


def test_only_measured_rank_correlations_have_a_row(tmp_path: Path) -> None:
    large_search(tmp_path / "many", 20)
    many = (tmp_path / "many" / "report.html").read_text()
    measured = [
        one for one in json.loads((tmp_path / "many" / "report.json").read_text())["correlations"] if one["tau"]
    ]
    section = re.search(r'<h2 id="correlations">.*?</section>', many, re.S)
    assert section and section[0].count("<tr>") == 1 + len(measured) > 1
    large_search(tmp_path / "few", 3)
    few = (tmp_path / "few" / "report.html").read_text()
    section = re.search(r'<h2 id="correlations">.*?</section>', few, re.S)
    assert section and "<tr>" not in section[0] and "needs five candidates" in section[0]
