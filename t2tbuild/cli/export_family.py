"""t2tbuild export RUN --budgets: a model for each budget, from the supernet of one search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import parse_counts_option
from t2tbuild.errors import InputError
from t2tbuild.spec.units import short_count
from t2tbuild.weights.formats import Format, export_size

if TYPE_CHECKING:
    from t2tbuild.nas.plan import Plan
    from t2tbuild.nas.supernet.family import FamilyMember
    from t2tbuild.nas.supernet.model import Supernet

FOLDER = "family"
"""The folder of a run directory that the models are written to without --out."""


@dataclass(frozen=True)
class FamilyOptions:
    """How the models are written: into the folder `out`, beside their weights in a further format."""

    out: Path
    kind: Format
    preprocess: bool
    half: bool
    force: bool

    def files_of(self, name: str) -> dict[str, Path]:
        """Return the files of a model: its spec, its weights, and the exported file or folder."""
        files = {"spec": f"{name}.yaml", "weights": f"{name}{Format.SAFETENSORS.suffix}"}
        if self.kind is not Format.SAFETENSORS:
            files["exported"] = f"{name}{self.kind.suffix}"
        return {key: self.out / file for key, file in files.items()}

    def require_new(self, name: str) -> None:
        """Raise InputError where a file of a model exists already, or cannot be written."""
        for key, path in self.files_of(name).items():
            kind = self.kind if key == "exported" else Format.SAFETENSORS
            if kind is not Format.SAFETENSORS:
                kind.require(path)
            kind.require_new(path, force=self.force)


def export_family(run: str, budgets: str, options: FamilyOptions, *, as_json: bool) -> None:
    """Write the best member of a run's supernet within each budget, each checked, and print what was written."""
    counts = parse_counts_option("--budgets", budgets)
    options.kind.require_packages(f"--format {options.kind}")

    from t2tbuild.nas.existing_run import load_run_spec
    from t2tbuild.nas.plan import plan

    folder = Path(run)
    planned = plan(load_run_spec(folder), to_read=True)

    from t2tbuild.nas.supernet.family import choose_family
    from t2tbuild.nas.supernet.loaded import load_supernet

    family = choose_family(planned, folder, counts)
    for member in family:
        options.require_new(member.model.name)
    supernet = load_supernet(planned, folder)
    records = [_export_member(member, supernet, planned, folder, options) for member in family]
    if as_json:
        print_json(records)
        return
    for record in records:
        stdout().print(_to_line(record), soft_wrap=True, markup=False)


def _export_member(
    member: FamilyMember, supernet: Supernet, planned: Plan, run: Path, options: FamilyOptions
) -> dict[str, Any]:
    """Write the files of a member, and return what was written as plain data."""
    from dataclasses import replace

    from t2tbuild.nas.supernet.family import extract_module
    from t2tbuild.training.preprocessing import data_preprocessing
    from t2tbuild.weights.export import export_model

    module, model = extract_module(supernet, member.model), member.model
    steps, files = data_preprocessing(planned.search.proxy.data, model), options.files_of(model.name)
    options.out.mkdir(parents=True, exist_ok=True)
    differences = [export_model(model, module, files["weights"], Format.SAFETENSORS, preprocessing=steps)]
    if (exported := files.get("exported")) is not None:
        inside = replace(steps, inside=options.preprocess)
        differences.append(export_model(model, module, exported, options.kind, preprocessing=inside, half=options.half))
    _write_member_spec(member, planned, run, files["spec"], files["weights"].name)
    result = member.result
    return {
        "name": model.name,
        "budget": member.budget,
        "macs": result.macs,
        "params": result.params,
        "inherited_accuracy": result.accuracy,
        "inherited_loss": result.loss,
        "format": str(options.kind),
        "bytes": export_size(exported or files["weights"]),
        "difference": max(differences),
        **{key: str(path) for key, path in files.items()},
    }


def _write_member_spec(member: FamilyMember, planned: Plan, run: Path, path: Path, weights: str) -> None:
    """Write the spec of a member with its weights, and with the data of the search where these are the user's own."""
    from t2tbuild.nas.conclude import make_best
    from t2tbuild.nas.existing_run import load_run_spec
    from t2tbuild.spec.weights import Weights
    from t2tbuild.spec.write import write_spec

    result = member.result
    note = (
        f"Extracted from the supernet of {run}: the best of its evaluated members within {member.budget:,} MACs.\n"
        f"The candidate has {result.macs:,} MACs and {result.params:,} parameters, counted by fvcore. With inherited\n"
        f"weights its validation accuracy is {result.accuracy:.4f}, its loss {result.loss:.4f}."
    )
    spec = make_best(member.model, load_run_spec(run).model_copy(update={"search": planned.search}))
    write_spec(spec.model_copy(update={"weights": Weights(file=weights)}), path, note)


def _to_line(record: dict[str, Any]) -> str:
    written = ", ".join(Path(record[key]).name for key in ("spec", "weights", "exported") if key in record)
    return (
        f"{record['name']}: {short_count(record['macs'])} of {short_count(record['budget'])} MACs, inherited accuracy "
        f"{record['inherited_accuracy']:.1%}; written: {Path(record['spec']).parent}/ {written}; loaded again, its "
        f"logits differ from torch's by {record['difference']:.1e}, relative"
    )


def require_alone(given: dict[str, object]) -> None:
    """Raise InputError for an option that does not fit --budgets."""
    for option, value in given.items():
        if value:
            raise InputError(f"{option} does not fit --budgets, whose weights and data are those of the search")
