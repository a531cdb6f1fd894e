"""t2tbuild search: a budget in, the best spec within it out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.folder import require_folder
from t2tbuild.cli.options import BudgetMacs, BudgetParams, Json, complete_name, count_option
from t2tbuild.cli.search_progress import SearchProgress
from t2tbuild.cli.spec import is_override, open_search_spec, warn
from t2tbuild.cli.write import require_picture, writing
from t2tbuild.errors import InputError
from t2tbuild.spec.units import parse_seconds, short_count

if TYPE_CHECKING:
    from t2tbuild.nas import SearchResult
    from t2tbuild.nas.plan import Plan
    from t2tbuild.spec import SearchSpec

Workers = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Processes; left out, one for each GPU, or without one for each CPU core."),
]
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A database that machines share: postgresql://... or mysql://...; or set "
                 "T2TBUILD_STORAGE, which keeps a password out of the command."),
]  # fmt: skip


def search(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="A shipped name or a path of a search spec.", autocompletion=complete_name),
    ] = "deep_narrow",
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. search.trials=8.")
    ] = None,
    budget_macs: BudgetMacs = None,
    budget_params: BudgetParams = None,
    trials: Annotated[int | None, typer.Option(help="Candidates to train.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Stop after this long: 5m, 90s, 2h.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of candidates, weights and order of samples.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; a study in it is continued.")] = None,
    workers: Workers = None,
    storage: Storage = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the size of the space and what fits, and train nothing.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --explain: depth against width at equal MACs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search for the best model within a budget; no candidate over it is ever trained.

    Candidates are ranked by the ImageNet accuracy that published trainings predict, and by proxies whose validity was
    measured; short trainings show that they train. The winner is written as a spec again.

    What there is to do with a run: t2tbuild search status RUN, search resume RUN, search export RUN, search repair RUN.

    Example: t2tbuild search --budget-macs 5G --timeout 5m --out runs/five-giga
    """
    require_folder(out)
    require_picture("--plot", plot)
    if plot is not None and not explain:
        raise InputError("--plot goes with --explain; the picture of a search is in its run directory")
    options = _overrides(budget_macs, budget_params, trials, timeout, seed)
    if is_override(spec):
        spec, overrides = "deep_narrow", [spec, *(overrides or ())]
    document = open_search_spec(spec, [*(overrides or ()), *options])
    loaded = document.spec

    from t2tbuild.nas.plan import plan
    from t2tbuild.nas.storage_url import storage_url

    with document.placing():  # its errors come before torch
        planned = plan(loaded)
        warn([document.warning(found) for found in planned.warnings])
        storage_url(storage, Path())
        if explain:
            _explain(loaded, planned, plot, as_json=as_json)
            return

    from t2tbuild.training.run_directory import default_folder

    loaded = loaded.model_copy(update={"search": planned.search})  # its target is settled
    run_search(loaded, out or default_folder(loaded.search.name), workers, storage, as_json=as_json)


def run_search(spec: SearchSpec, run: Path, workers: int | None, storage: str | None, *, as_json: bool) -> None:
    """Search, show what goes on, and tell what was found."""
    from t2tbuild.nas.run import search as search_spec
    from t2tbuild.nas.supervisor import default_workers
    from t2tbuild.report.search_page import write_pictures

    try:
        with SearchProgress(stderr(), spec) as progress:
            count = workers or default_workers()
            result = search_spec(spec, run, listener=progress.hear, workers=count, storage=storage)
    except KeyboardInterrupt:
        stderr().print(
            f"interrupted; nothing told is lost; continue with:\n{_again(run)}", soft_wrap=True, markup=False
        )
        raise
    write_pictures(result)
    if as_json:
        print_json(as_record(result))
    else:
        print_result(result)


def _overrides(
    macs: str | None, params: str | None, trials: int | None, timeout: str | None, seed: int | None
) -> list[str]:
    """The options as overrides of the search spec, each checked so that a mistake names its option."""
    count_option("--budget-macs", macs)
    count_option("--budget-params", params)
    if timeout is not None:
        try:
            parse_seconds(timeout)
        except ValueError as error:
            raise InputError(f"--timeout: {error}") from None
    given = {"search.budget.macs": macs, "search.budget.params": params, "search.timeout": timeout}
    found = [f"{path}={text}" for path, text in given.items() if text is not None]
    found += [f"search.trials={trials}"] if trials is not None else []
    return found + ([f"search.seed={seed}"] if seed is not None else [])


def _explain(spec: SearchSpec, planned: Plan, plot: Path | None, *, as_json: bool) -> None:
    """Show what the space holds."""
    from dataclasses import asdict

    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.nas.budget import Infeasible
    from t2tbuild.nas.space_stats import measure_space
    from t2tbuild.report.space_plot import plot_space, predicted_table, space_lines, space_table, why_not_predicted

    try:
        size = measure_space(planned.space, spec.search)
    except Infeasible as error:
        raise InputError(f"search.space: {error}; raise the budget or widen the space") from None
    if plot is not None:
        with writing("--plot", plot):
            plot_space(size, spec.search, plot)
    if as_json:
        ends = {"smallest": size.smallest, "largest": size.largest}
        models = {name: vars(end) | {"model": end.model.model_dump(mode="json")} for name, end in ends.items()}
        best = [predict_accuracy(one.member.model) for one in planned.predicted[:1]]
        accuracies = {"base": predict_accuracy(planned.base), "best": best[0] if best else None}
        predicted = {name: one and asdict(one) for name, one in accuracies.items()}
        print_json(asdict(size) | models | {"target": planned.target, "predicted": predicted})
        return
    for line in space_lines(size, spec.search):
        stdout().print(line, soft_wrap=True, markup=False)
    stdout().print(space_table(size))
    if planned.predicted:
        stdout().print(predicted_table(planned, spec.search))
    what = "predicted ImageNet accuracy" if planned.target == "imagenet" else "trainings on the proxy's data"
    stdout().print(f"candidates will be ranked by {what} (search.target: {planned.target})", soft_wrap=True)
    if (missing := why_not_predicted(planned)) is not None:
        stdout().print(missing, soft_wrap=True, markup=False)
    if plot is not None:
        stderr().print(f"written: {plot}", soft_wrap=True)


def _again(run: Path) -> str:
    """The command that goes on with a run; a storage that was named has to be named again."""
    command = ["t2tbuild", "search", "resume", str(run)]
    named = any(argument.split("=")[0] == "--storage" for argument in sys.argv)
    return shlex.join(command) + (" --storage URL  (the same)" if named else "")


def print_result(result: SearchResult) -> None:
    """The verdict first, then what it rests on, and what to do next."""
    from t2tbuild.nas import Outcome
    from t2tbuild.report.verdict_table import gain_lines, verdict_table

    console, winner = stdout(), result.winner
    assert winner.model is not None and winner.macs is not None and winner.params is not None
    console.print(result.verdict.sentence, style="bold", soft_wrap=True, markup=False)
    named = "winner: the base itself," if winner.number == result.base.number else f"winner: candidate {winner.number},"
    console.print(
        f"{named} {short_count(winner.macs)} MACs, {short_count(winner.params)} parameters: "
        f"depth {winner.model.backbone.depth}, width {winner.model.backbone.embed_dim}",
        soft_wrap=True,
    )
    console.print(verdict_table(result))
    for line in gain_lines(result):
        console.print(line, soft_wrap=True, markup=False)
    if result.outcome is Outcome.TIMEOUT:
        console.print(f"stopped by the timeout; continue with: {_again(result.run)}", soft_wrap=True, markup=False)
    elif result.outcome is Outcome.UNFINISHED:
        console.print(f"unfinished; look with: t2tbuild search status {result.run}", soft_wrap=True, markup=False)
    elif result.outcome is Outcome.EXHAUSTED:
        console.print("stopped early: the space gives no new candidate", soft_wrap=True)
    best = shlex.quote(str(result.run / "best.yaml"))
    files = ["best.yaml", "diagram.svg", *(["front/"] if len(result.spec.search.objectives) > 1 else [])]
    files += ["report.html", "report.json", "candidates.csv", "pareto.png"]
    console.print(f"written: {result.run}/{', '.join(files)}", soft_wrap=True, markup=False)
    console.print(f"next: t2tbuild summarize {best} && t2tbuild train {best}", soft_wrap=True)


def as_record(result: SearchResult) -> dict[str, object]:
    """A search's result as plain data: the report without what is told of each candidate, which is in report.json."""
    each = ("candidates", "repeats", "parts", "timeline")
    message = {key: value for key, value in result.report.items() if key not in each}
    return {"run": str(result.run), "best": str(result.run / "best.yaml")} | message
