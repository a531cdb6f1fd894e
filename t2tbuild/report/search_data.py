"""report.json of a search in a compact form for the page's scripts: repeated values are stored once."""

from collections.abc import Hashable, Mapping
from typing import Any

from t2tbuild.nas.old_names import REPORT_KEYS, with_new_names
from t2tbuild.nas.record import State
from t2tbuild.spec.write import dump_data


class UniqueValues(dict[Hashable, int]):
    """Distinct values in order of their first occurrence, with their indices."""

    def index_of(self, value: Hashable) -> int:
        """Return the index of a value; a new one is appended."""
        return self.setdefault(value, len(self))


def search_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the page. `yaml` and `parts` of a candidate are indices into `lines` and `parts`."""
    lines, parts = UniqueValues(), UniqueValues()
    report = with_new_names(dict(report), REPORT_KEYS)  # of an earlier version, perhaps
    entries = [_entry(one, report, lines, parts) for one in (*report["candidates"], *report["reference_runs"])]
    return {
        "name": report["name"],
        "proxy_metric": report["proxy_metric"],
        "target": report["target"],
        "rungs": [rung["steps"] for rung in report["rungs"]],
        "limit": report["limits"].get("macs"),
        "winner": report["winner"]["number"],
        "asked": report["counts"]["asked"],
        "entries": entries,
        "lines": list(lines),
        "parts": list(parts),
        "timeline": [span | {"state": str(State(span["state"]))} for span in report["timeline"]],
    }


def _entry(
    one: Mapping[str, Any], report: Mapping[str, Any], lines: UniqueValues, parts: UniqueValues
) -> dict[str, Any]:
    model = one["model"]
    backbone = model["backbone"] if model else {}
    return {
        "number": one["number"],
        "source": one.get("source") or one["arm"],
        "state": str(State(one["state"])),
        "seed": one["seed"],
        "full": one["full"],
        "worker": one["worker"],
        "reason": one["reason"],
        "depth": backbone.get("depth") or sum(backbone.get("blocks", ())) or None,
        "width": backbone.get("embed_dim"),
        "macs": one["macs"],
        "params": one["params"],
        "latency": one.get("latency") or one.get("predicted_latency"),
        "predicted": one["predicted"] and one["predicted"]["top1"],
        "rungs": [[rung[name] for name in ("steps", "accuracy", "loss", "seconds")] for rung in one["rungs"]],
        "yaml": [lines.index_of(line) for line in model_yaml(model).splitlines()] if model else [],
        "parts": [parts.index_of(_part(part)) for part in report["parts"].get(one["key"], ())],
    }


def model_yaml(model: Mapping[str, Any]) -> str:
    """Return the spec of a model in a report as YAML."""
    return dump_data({"version": 1, "model": model})


def _part(part: Mapping[str, Any]) -> tuple[Any, ...]:
    grid = tuple(part["grid"]) if part["grid"] else None
    return (part["name"], grid, part["tokens"], part["channels"], part["macs"])
