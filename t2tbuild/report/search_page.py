"""report.html of a search."""

from typing import Any

from t2tbuild.files import atomic_write
from t2tbuild.nas.ranking import cached_prediction
from t2tbuild.nas.record import BASE, Record
from t2tbuild.nas.result import SearchResult
from t2tbuild.report.diagram import write_diagram
from t2tbuild.report.figure import as_svg
from t2tbuild.report.page import format_command, render
from t2tbuild.report.pareto import draw_pareto, plot_pareto
from t2tbuild.report.search_data import search_data
from t2tbuild.report.supernet import (
    BEST,
    TRAINED,
    SupernetView,
    best_rows,
    draw_front,
    draw_validity,
    load_supernet_view,
    plot_supernet,
    trained_rows,
)
from t2tbuild.report.verdict_table import PREDICTED, confirmation_rows, gain_lines, predicted_rows
from t2tbuild.spec.units import milliseconds, short_count

SCRIPTS = ("entries.js", "scatter.js", "shape.js", "detail.js", "timeline.js", "table.js", "search.js")


def write_reports(result: SearchResult) -> None:
    """Write the reports of a search into its run directory: the winner's diagram.svg, pareto.png, report.html."""
    write_diagram(result.best.model, result.run / "diagram.svg")
    plot_pareto(result, result.run / "pareto.png")
    if (view := load_supernet_view(result)) is not None:
        plot_supernet(view, result.run)
    write_search_page(result)


def write_search_page(result: SearchResult) -> None:
    """Write report.html; all its numbers are in report.json."""
    report, view = result.report, load_supernet_view(result)
    text = render(
        "search.html.j2",
        search_data(report),
        SCRIPTS,
        report=report,
        budget=f"budget: {result.budget.summary}",
        facts=_facts(result),
        winner="Winner: the base" if report["winner"]["number"] == BASE else f"Winner: {_name(result.winner)}",
        confirmation=list(confirmation_rows(result).values()),
        lines=gain_lines(result),
        predicted_columns=PREDICTED,
        predicted=predicted_rows(result) if result.verdict.prediction else [],
        supernet=None if view is None else _supernet(view),
        pareto=as_svg(draw_pareto(result)),
        columns=_columns(result),
        candidates=[_row(record, result) for record in result.records],
        best=(result.run / "best.yaml").read_text(encoding="utf-8"),
        command=format_command(report["environment"]),
    )
    atomic_write(result.run / "report.html", text)


def _supernet(view: SupernetView) -> dict[str, Any]:
    """Return what the section of the supernet shows."""
    return {
        "sentence": view.sentence,
        "validity": as_svg(draw_validity(view)) if view.alone else "",
        "front": as_svg(draw_front(view)),
        "correlations": view.correlations,
        "tables": [("Best member within each budget", BEST, best_rows(view)), ("Trained", TRAINED, trained_rows(view))],
    }


def _name(record: Record) -> str:
    return f"candidate {record.number}"


def _facts(result: SearchResult) -> list[tuple[str, str]]:
    winner, counts = result.winner, result.report["counts"]
    assert winner.model is not None
    backbone = winner.model.backbone
    return [
        ("winner", "the base" if winner.number == BASE else _name(winner)),
        ("depth, width", f"{backbone.depth}, {backbone.embed_dim}"),
        ("MACs", short_count(winner.macs or 0)),
        ("parameters", short_count(winner.params or 0)),
        ("trained", f"{counts['trained']} of {counts['asked']}"),
        ("pruned", str(counts["pruned"])),
        ("over budget", str(counts["trained_over_budget"])),
        ("training time", f"{sum(record.seconds for record in (*result.records, *result.reference_runs)):.0f} s"),
    ]


def _columns(result: SearchResult) -> list[dict[str, Any]]:
    """Return the columns of the table of candidates; a script sorts them by their keys."""
    named = {"number": "candidate", "source": "source", "state": "state", "depth": "depth", "width": "width"}
    named |= {"tokens": "tokens", "macs": "MACs", "params": "parameters"}
    named |= {"latency": "latency, ms"} if _has_latency(result) else {}
    named |= {"predicted": "predicted top-1"}
    named |= {f"loss{steps}": f"loss @{steps}" for steps in result.spec.search.proxy.rungs}
    named |= {"accuracy": "accuracy", "seconds": "seconds", "reason": "reason"}
    words = ("number", "source", "state", "tokens", "reason")
    return [{"key": key, "title": title, "text": key in words} for key, title in named.items()]


def _has_latency(result: SearchResult) -> bool:
    """Whether latencies were measured or predicted."""
    return any(one.measures.get("latency") is not None for one in result.records)


def _latency(record: Record) -> str:
    """Return the latency in ms; one that was not measured is said to be predicted."""
    seconds = record.measures.get("latency")
    return "" if seconds is None else f"{milliseconds(seconds)}{'' if record.latency else ' (predicted)'}"


def _row(record: Record, result: SearchResult) -> list[str]:
    backbone = record.model.backbone if record.model else None
    shape = [str(backbone.depth), str(backbone.embed_dim)] if backbone else ["", ""]
    tokens = record.model.tokenizer.summary if record.model else ""
    costs = [short_count(count) if count else "" for count in (record.macs, record.params)]
    costs += [_latency(record)] if _has_latency(result) else []
    accuracy = cached_prediction(record.model) if record.model else None
    predicted = f"{accuracy.top1:.1f}%" if accuracy is not None and accuracy.top1 is not None else ""
    losses = [f"{rung.loss:.3f}" for rung in record.rungs]
    losses += [""] * (len(result.spec.search.proxy.rungs) - len(losses))
    shown = "" if record.accuracy is None else f"{record.accuracy:.1%}"
    start = [record.number, str(record.source), str(record.state), *shape, tokens, *costs]
    return [*start, predicted, *losses, shown, f"{record.seconds:.0f}", record.reason]
