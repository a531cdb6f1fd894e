"""The files of a search's run directory: candidates.csv, best.yaml, front/ and report.json."""

import json
import math
import statistics
from pathlib import Path

from t2tbuild.files import atomic_write, nan_to_none
from t2tbuild.nas.candidates_csv import write_csv
from t2tbuild.nas.ranking import cached_prediction
from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.result import SearchResult
from t2tbuild.spec.extension.load import is_file_name
from t2tbuild.spec.root import Spec
from t2tbuild.spec.write import write_data
from t2tbuild.training.run_directory import read_environment, with_copied_extensions


def write_artifacts(result: SearchResult) -> None:
    """Write candidates.csv, best.yaml, report.json and, for several objectives, front/ into the run directory."""
    write_csv(
        [*result.reference_runs, *result.records],
        result.run / "candidates.csv",
        trained_as=result.trained_as,
        accuracy=cached_prediction,
        rank=result.ranking.value,
    )
    _write_model(result.best, result.run / "best.yaml", result.run, note=_describe_provenance(result))
    if len(result.spec.search.objectives) > 1:
        _write_front(result)
    atomic_write(result.run / "report.json", json.dumps(nan_to_none(result.report), indent=1) + "\n")


def _write_model(spec: Spec, path: Path, run: Path, note: str) -> None:
    """Write a found model with the data that it was found for, and the defaults of the recipe left out.

    It names the run's copies of its extensions.
    """
    names = with_copied_extensions(spec, run).extensions
    if path.parent != run:
        names = tuple(f"../{name}" if is_file_name(name) else name for name in names)
    data = spec.model_copy(update={"extensions": names}).model_dump(mode="json")
    if spec.train is not None:
        own = spec.train.data
        data["train"] = {"data": {"kind": own.kind} | own.model_dump(mode="json", exclude_defaults=True)}
    write_data(data, path, note)


def _write_front(result: SearchResult) -> None:
    """Write a spec for each model of the Pareto front into front/, and delete the others there."""
    folder, names = result.run / "front", set[str]()
    folder.mkdir(exist_ok=True)
    for record in result.front:
        assert record.model is not None
        names.add(f"{record.model.name}.yaml")
        _write_model(
            result.best.model_copy(update={"model": record.model}),
            folder / f"{record.model.name}.yaml",
            result.run,
            note=f"On the Pareto front of {result.run}: {_describe_objectives(record, result)}.",
        )
    for path in folder.glob("*.yaml"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _describe_objectives(record: Record, result: SearchResult) -> str:
    """Return a candidate's value of each objective, as text."""
    posterior = result.ranking.posterior(record)
    accuracy = f"{record.accuracy:.4f}" if posterior is None else f"predicted {posterior}"
    values = {"accuracy": accuracy, "macs": f"{record.macs:,}", "params": f"{record.params:,}"}
    values |= {"latency": f"{record.latency or 0:.4g} s", "activations": f"{record.activations or 0:,} bytes"}
    return ", ".join(f"{name} {values[name]}" for name in result.spec.search.objectives)


def _describe_provenance(result: SearchResult) -> str:
    """Return the comment at the top of best.yaml: the winner's cost and accuracy, the verdict, versions."""
    winner, search = result.winner, result.spec.search
    name = "the base itself" if winner.number == BASE else f"candidate {winner.number}"
    runs = [one for one in result.reference_runs if one.key == winner.key and one.state is State.COMPLETED]
    rungs = [one.rungs[-1] for one in runs if one.full] or [one.rungs[-1] for one in runs or [winner]]
    accuracy, loss = (statistics.fmean(getattr(rung, name) for rung in rungs) for name in ("accuracy", "loss"))
    loss_text = "" if math.isnan(loss) else f", loss {loss:.4f}"
    seeds = f"the mean of {len(rungs)} seeds" if len(rungs) > 1 else "one training"
    zero_cost = ", ".join(f"{name} {value:.4g}" for name, value in winner.scores.items())
    assert winner.model is not None
    environment = read_environment(result.run)
    versions = ", ".join(f"{name} {environment['packages'][name]}" for name in ("t2tbuild", "torch", "timm", "optuna"))
    best = result.run / "best.yaml"
    return (
        f"Found by t2tbuild search {search.name}, seed {search.seed}: {name} of {result.run}.\n"
        f"{winner.params:,} parameters, {winner.macs:,} MACs, counted by fvcore.\n"
        f"Proxy validation accuracy {accuracy:.4f}{loss_text}, {seeds}. Proxy training: {result.trained_as}.\n"
        f"Zero-cost proxies: {zero_cost or 'none'}.\n"
        f"Predicted ImageNet top-1: {cached_prediction(winner.model)}.\n"
        f"{result.verdict.sentence}\n"
        f"{versions}\n"
        f"{next_command(best, result.best)}"
    )


def next_command(best: Path, spec: Spec) -> str:
    """Return how the winner is trained. Datasets of a Python program have to be passed again."""
    if spec.train is None:
        return f"t2tbuild train {best} --data DIR"
    if spec.train.data.kind == "python":
        return f'train(load_spec("{best}"), data=(train_set, val_set))'
    return f"t2tbuild train {best}"
