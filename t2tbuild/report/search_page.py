"""report.html of a search: one file without anything from elsewhere, the verdict first."""

from typing import Any

from t2tbuild.files import atomic_write
from t2tbuild.nas.ranking import prediction
from t2tbuild.nas.record import BASE, Record
from t2tbuild.nas.run import SearchResult
from t2tbuild.report.diagram import write_diagram
from t2tbuild.report.figure import as_svg
from t2tbuild.report.page import command_of, render
from t2tbuild.report.pareto import draw_pareto, plot_pareto
from t2tbuild.report.search_data import search_data
from t2tbuild.report.verdict_table import PREDICTED, gain_lines, predicted_rows, trained_again
from t2tbuild.spec.units import short_count

SCRIPTS = ("entries.js", "scatter.js", "shape.js", "detail.js", "timeline.js", "table.js", "search.js")


def write_pictures(result: SearchResult) -> None:
    """Write all that a run directory of a search has to look at: diagram.svg of the winner, pareto.png, report.html."""
    write_diagram(result.best.model, result.run / "diagram.svg")
    plot_pareto(result, result.run / "pareto.png")
    write_page(result)


def write_page(result: SearchResult) -> None:
    """Write report.html beside report.json, which holds every number shown."""
    report = result.report
    text = render(
        "search.html.j2",
        search_data(report),
        SCRIPTS,
        report=report,
        budget=f"budget: {result.budget.short}",
        facts=_facts(result),
        winner="The winner: the base" if report["winner"]["number"] == BASE else f"The winner: {_name(result.winner)}",
        again=trained_again(result).values(),
        lines=gain_lines(result),
        predicted_columns=PREDICTED,
        predicted=predicted_rows(result) if result.verdict.prediction else [],
        pareto=as_svg(draw_pareto(result)),
        columns=_columns(result),
        candidates=[_row(record, result) for record in result.records],
        best=(result.run / "best.yaml").read_text(encoding="utf-8"),
        command=command_of(report["environment"]),
    )
    atomic_write(result.run / "report.html", text)


def _name(record: Record) -> str:
    return f"candidate {record.number}"


def _facts(result: SearchResult) -> list[tuple[str, str]]:
    winner, tally = result.winner, result.report["counts"]
    assert winner.model is not None
    backbone = winner.model.backbone
    return [
        ("winner", "the base" if winner.number == BASE else _name(winner)),
        ("depth, width", f"{backbone.depth}, {backbone.embed_dim}"),
        ("MACs", short_count(winner.macs or 0)),
        ("parameters", short_count(winner.params or 0)),
        ("trained", f"{tally['trained']} of {tally['asked']}"),
        ("stopped early", str(tally["stopped"])),
        ("over budget", str(tally["trained_over_budget"])),
        ("training time", f"{sum(record.seconds for record in (*result.records, *result.repeats)):.0f} s"),
    ]


def _columns(result: SearchResult) -> list[dict[str, Any]]:
    """Titles of the table of candidates, and by which key of its data a script sorts each."""
    named = {"number": "candidate", "arm": "drawn by", "state": "state", "depth": "depth", "width": "width"}
    named |= {"tokens": "tokens", "macs": "MACs", "params": "parameters"}
    named |= {"predicted": "predicted top-1"}
    named |= {f"loss{steps}": f"loss @{steps}" for steps in result.spec.search.proxy.rungs}
    named |= {"accuracy": "accuracy", "seconds": "seconds", "reason": "reason"}
    words = ("number", "arm", "state", "tokens", "reason")
    return [{"key": key, "title": title, "text": key in words} for key, title in named.items()]


def _row(record: Record, result: SearchResult) -> list[str]:
    backbone = record.model.backbone if record.model else None
    shape = [str(backbone.depth), str(backbone.embed_dim)] if backbone else ["", ""]
    tokens = record.model.tokenizer.short if record.model else ""
    costs = [short_count(count) if count else "" for count in (record.macs, record.params)]
    accuracy = prediction(record.model) if record.model else None
    predicted = f"{accuracy.top1:.1f}%" if accuracy is not None and accuracy.top1 is not None else ""
    losses = [f"{rung.loss:.3f}" for rung in record.rungs]
    losses += [""] * (len(result.spec.search.proxy.rungs) - len(losses))
    shown = "" if record.accuracy is None else f"{record.accuracy:.1%}"
    start = [record.number, str(record.arm), str(record.state), *shape, tokens, *costs]
    return [*start, predicted, *losses, shown, f"{record.seconds:.0f}", record.reason]
