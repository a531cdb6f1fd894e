"""report.html of a search: one file without anything from elsewhere, the verdict first."""

import io
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from t2tbuild.files import write_whole
from t2tbuild.report.pareto import draw_pareto
from t2tbuild.report.verdict_table import gain_lines, trained_again
from t2tbuild.search.record import Record
from t2tbuild.search.run import SearchResult
from t2tbuild.spec.units import short_count


def write_page(result: SearchResult) -> None:
    """Write report.html beside report.json, which holds every number shown."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "interval": _interval}
    template = environment.from_string(
        (files("t2tbuild.report") / "templates" / "search.html.j2").read_text(encoding="utf-8")
    )
    told = result.report
    kept = json.loads((result.run / "environment.json").read_text())
    text = template.render(
        name=result.spec.search.name,
        budget=f"budget: {result.budget.short}",
        trained_as=told["trained_as"],
        verdict=told["verdict"],
        outcome=told["outcome"],
        caution=told["caution"],
        again=trained_again(result).values(),
        lines=gain_lines(result),
        pareto=_svg(result),
        rungs=told["rungs"],
        correlations=told["correlations"],
        candidates=[_row(record, result) for record in result.records],
        best=(result.run / "best.yaml").read_text(encoding="utf-8"),
        command=" ".join(["t2tbuild", *kept["command"][1:]]),
        versions=", ".join(f"{name} {version}" for name, version in kept["packages"].items()),
    )
    write_whole(result.run / "report.html", text)


def _shape(record: Record) -> list[str]:
    backbone = record.model.backbone if record.model else None
    shape = [str(backbone.depth), str(backbone.embed_dim)] if backbone else ["", ""]
    return [*shape, *(short_count(count) if count else "" for count in (record.macs, record.params))]


def _row(record: Record, result: SearchResult) -> list[str]:
    depth, width, macs, params = _shape(record)
    losses = [f"{rung.loss:.3f}" for rung in record.rungs]
    losses += [""] * (len(result.spec.search.proxy.rungs) - len(losses))
    accuracy = "" if record.accuracy is None else f"{record.accuracy:.1%}"
    tokens = record.model.tokenizer.short if record.model else ""
    start = [record.number, str(record.arm), str(record.state), depth, width, tokens, macs, params]
    return [*start, *losses, accuracy, f"{record.seconds:.0f}", record.reason]


def _svg(result: SearchResult) -> str:
    """The picture as part of the page."""
    stream = io.StringIO()
    draw_pareto(result).savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(value: dict[str, Any] | None) -> str:
    return "" if value is None else f"{value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
