"""report.json of a search as the page's scripts read it: what repeats among candidates is there once."""

from collections.abc import Hashable, Mapping
from typing import Any

from t2tbuild.spec.write import dump_data


class Distinct(dict[Hashable, int]):
    """Values in the order in which they were first met, with their places."""

    def place(self, value: Hashable) -> int:
        return self.setdefault(value, len(self))


def search_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """Every number is one of the report's. `yaml` and `parts` of a candidate are places in `lines` and `parts`."""
    lines, parts = Distinct(), Distinct()
    entries = [_entry(one, report, lines, parts) for one in (*report["candidates"], *report["repeats"])]
    return {
        "name": report["name"],
        "judged_by": report["judged_by"],
        "target": report["target"],
        "rungs": [rung["steps"] for rung in report["rungs"]],
        "limit": report["limits"].get("macs"),
        "winner": report["winner"]["number"],
        "asked": report["counts"]["asked"],
        "entries": entries,
        "lines": list(lines),
        "parts": list(parts),
        "timeline": report["timeline"],
    }


def _entry(one: Mapping[str, Any], report: Mapping[str, Any], lines: Distinct, parts: Distinct) -> dict[str, Any]:
    model = one["model"]
    backbone = model["backbone"] if model else {}
    return {
        "number": one["number"],
        "arm": one["arm"],
        "state": one["state"],
        "seed": one["seed"],
        "full": one["full"],
        "worker": one["worker"],
        "reason": one["reason"],
        "depth": backbone.get("depth") or sum(backbone.get("blocks", ())) or None,
        "width": backbone.get("embed_dim"),
        "macs": one["macs"],
        "params": one["params"],
        "predicted": one["predicted"] and one["predicted"]["top1"],
        "rungs": [[rung[name] for name in ("steps", "accuracy", "loss", "seconds")] for rung in one["rungs"]],
        "yaml": [lines.place(line) for line in yaml_of(model).splitlines()] if model else [],
        "parts": [parts.place(_part(part)) for part in report["parts"].get(one["key"], ())],
    }


def yaml_of(model: Mapping[str, Any]) -> str:
    """The spec of a model of a report as YAML text."""
    return dump_data({"version": 1, "model": model})


def _part(part: Mapping[str, Any]) -> tuple[Any, ...]:
    grid = tuple(part["grid"]) if part["grid"] else None
    return (part["name"], grid, part["tokens"], part["channels"], part["macs"])
