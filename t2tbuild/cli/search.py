"""t2tbuild search: search for the best model within a budget."""

from __future__ import annotations

import difflib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.data_changes import data_changes
from t2tbuild.cli.folder import require_run_folder
from t2tbuild.cli.options import (
    BudgetParams,
    DataOption,
    Device,
    Json,
    complete_spec_name,
    parse_count_option,
    parse_counts_option,
)
from t2tbuild.cli.search_progress import SearchProgress, describe_start, report_interrupt, resume_command
from t2tbuild.cli.spec import is_override, open_search_spec, print_warnings
from t2tbuild.cli.write import check_plot_path, report_write_errors
from t2tbuild.errors import InputError
from t2tbuild.files import exists
from t2tbuild.spec.units import format_count, parse_count, parse_seconds, plural, short_count
from t2tbuild.training.run_paths import require_unused

if TYPE_CHECKING:
    from t2tbuild.nas import SearchResult
    from t2tbuild.nas.plan import Plan
    from t2tbuild.spec import SearchSpec
    from t2tbuild.spec.data import AnyData
    from t2tbuild.spec.overrides import Override

Workers = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Worker processes; by default one per GPU, or one per CPU core without a GPU."),
]
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A database that machines share, postgresql://... or mysql://...; set "
                 "T2TBUILD_STORAGE instead to keep the password out of the command."),
]  # fmt: skip

BudgetsMacs = Annotated[
    str | None,
    typer.Option(metavar="COUNTS", help="Maximum multiply-adds of a model: 5G, 4.8G, 500M, 5e9. With a supernet also "
                 "several: 1G,2G,5G."),
]  # fmt: skip
AllowCommand = Annotated[
    bool, typer.Option("--allow-command", help="Run the command of the spec's latency limit; read it before.")
]

SUBCOMMANDS = ("status", "resume", "export", "repair")
"""Commands of `t2tbuild search` for a run."""

COMMAND = "search.budget.latency.command"
"""The field with a command. One that is given on the command line may run."""


def search(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="SPEC", help="A shipped name, or the path of a search spec.", autocompletion=complete_spec_name
        ),
    ] = "deep_narrow",
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. search.trials=8.")
    ] = None,
    budget_macs: BudgetsMacs = None,
    budget_params: BudgetParams = None,
    budget_latency: Annotated[
        str | None, typer.Option(metavar="TIME", help="Maximum latency of a forward pass: 10ms, 0.5s.")
    ] = None,
    latency_command: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Measure latency by this command: it gets an ONNX file, prints ms."),
    ] = None,
    allow_command: AllowCommand = False,
    data: DataOption = None,
    trials: Annotated[int | None, typer.Option(help="Number of candidates to train.")] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop training after this long: 5m, 90s, 2h.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the candidates, their weights and the sample order.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; a search in it is continued.")] = None,
    workers: Workers = None,
    storage: Storage = None,
    device: Device = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the size of the space and what fits; train nothing.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --explain: plot depth against width at equal MACs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search for the best model within a budget; no candidate over it is ever trained.

    Candidates are ranked by their ImageNet accuracy, predicted from published trainings, and by proxies whose validity
    was measured. Short trainings show that the candidates train. With --data they are ranked by short trainings on your
    images. The winner is written as a spec.

    Commands for a run: t2tbuild search status RUN, search resume RUN, search export RUN, search repair RUN.

    Example: t2tbuild search --budget-macs 5G --timeout 5m --out runs/five-giga

    Example: t2tbuild search --data photos/ --budget-macs 800M search.proxy=standard
    """
    require_run_folder(out)
    if out is not None:
        require_unused(out)
    check_plot_path("--plot", plot)
    if plot is not None and not explain:
        raise InputError("--plot needs --explain; a search writes its plots to the run directory")
    options: list[str | Override] = [*_options_to_overrides(budget_macs, budget_params, trials, timeout, seed)]
    if is_override(spec):
        spec, overrides = "deep_narrow", [spec, *(overrides or ())]
    _check_subcommand(spec)
    changes = _with_data(spec, overrides or [], data)
    changes = [*changes, *options, *_further_budgets(spec, changes, budget_macs)]
    if latency_command is not None and budget_latency is None:
        _require_limit(spec, changes)
    changes += latency_overrides(budget_latency, latency_command)
    document = open_search_spec(spec, changes)
    loaded = document.spec

    with report_interrupt(), document.located_errors():  # raises errors before torch is imported
        from t2tbuild.bench.measure_command import require_consent
        from t2tbuild.nas.evaluator_function import require_function
        from t2tbuild.nas.plan import plan
        from t2tbuild.nas.store.url import storage_url
        from t2tbuild.training.run_paths import default_run_directory

        planned = plan(loaded)
        print_warnings([document.warning(found) for found in planned.warnings])
        _print_choices(loaded.search.proxy.data, planned.search.proxy.data)
        storage_url(storage, Path())
        if explain:
            _print_space(loaded, planned, plot, as_json=as_json)
            return
        run = out or default_run_directory(loaded.search.name)
        require_function(loaded.search, run)
        typed = any(isinstance(one, str) and one.partition("=")[0].strip() == COMMAND for one in changes)
        limit = loaded.search.budget.latency
        if limit is not None and limit.command is not None and not (typed or allow_command):
            require_consent(limit.command)

    loaded = loaded.model_copy(update={"search": planned.search})  # with the target resolved
    with document.located_errors():
        run_search(loaded, run, workers, storage, device=device, as_json=as_json, allow_command=allow_command or typed)


def _print_choices(given: AnyData, resolved: AnyData) -> None:
    """Print what was chosen for the user's images; proxies have an augmentation of their own."""
    from t2tbuild.spec.data import UserImages
    from t2tbuild.training.data_notices import data_notices

    if isinstance(given, UserImages) and isinstance(resolved, UserImages):
        given = given.model_copy(update={"augment": resolved.augment})
    for text in data_notices(given, resolved):
        stderr().print(text, soft_wrap=True, markup=False)


def run_search(
    spec: SearchSpec,
    run: Path,
    workers: int | None,
    storage: str | None,
    *,
    device: str | None = None,
    as_json: bool,
    allow_command: bool = False,
) -> None:
    """Run a search, show its progress, and print its result."""
    from t2tbuild.nas.existing_run import require_same_search

    require_same_search(run, spec)
    with report_interrupt(run, storage, spec):
        stderr().print(describe_start(spec.search, run, workers, storage), soft_wrap=True, markup=False)

        from t2tbuild.nas.run import search as search_spec  # imports torch, which takes seconds
        from t2tbuild.nas.supervisor import default_workers
        from t2tbuild.report.search_page import write_reports

        with SearchProgress(stderr(), spec) as progress:
            count = workers or default_workers(device)
            result = search_spec(
                spec,
                run,
                listener=progress.update,
                on_progress=progress.report,
                workers=count,
                storage=storage,
                device=device,
                allow_command=allow_command,
            )
    write_reports(result)
    if as_json:
        print_json(result_to_json(result))
    else:
        print_result(result)


def _check_subcommand(spec: str) -> None:
    """Raise InputError for a misspelled subcommand: `search statsu RUN` would look for a search spec named statsu."""
    from t2tbuild.spec import catalog

    near = difflib.get_close_matches(spec, SUBCOMMANDS, n=1) if spec.isalpha() else []
    if near and not exists(Path(spec)) and catalog.file_of(spec) is None:
        raise InputError(f"search {spec}: no such subcommand and no such search spec; did you mean search {near[0]}?")


def _options_to_overrides(
    macs: str | None, params: str | None, trials: int | None, timeout: str | None, seed: int | None
) -> list[str]:
    """Convert options to overrides of the search spec; errors name the option. Of several MACs the largest counts."""
    if macs is not None:
        parse_counts_option("--budget-macs", macs)
        macs = max(macs.split(","), key=parse_count).strip()
    parse_count_option("--budget-params", params)
    if timeout is not None:
        try:
            parse_seconds(timeout)
        except ValueError as error:
            raise InputError(f"--timeout: {error}") from None
    given = {"search.budget.macs": macs, "search.budget.params": params, "search.timeout": timeout}
    found = [f"{path}={text}" for path, text in given.items() if text is not None]
    found += [f"search.trials={trials}"] if trials is not None else []
    return found + ([f"search.seed={seed}"] if seed is not None else [])


def _further_budgets(spec: str, changes: list[str | Override], macs: str | None) -> list[Override]:
    """Return the override for all but the largest of several --budget-macs. Raises InputError without a supernet."""
    further = [] if macs is None else parse_counts_option("--budget-macs", macs)[:-1]
    if not further:
        return []
    from t2tbuild.spec.load import read_search_spec  # not open_search_spec: the spec is read again
    from t2tbuild.spec.overrides import Override

    if read_search_spec(spec, changes).spec.search.supernet is None:
        message = "several budgets need a supernet, whose one training serves them all"
        raise InputError(f"--budget-macs: {message}; add search.supernet.epochs=20, or name one budget")
    counts = ", ".join(str(format_count(one)) for one in further)
    return [Override(f"search.supernet.budgets=[{counts}]", f"--budget-macs {macs}")]


def latency_overrides(limit: str | None, command: str | None) -> list[str]:
    """Convert the options of a latency limit to overrides. Raises InputError that names the option."""
    found = []
    if limit is not None:
        try:
            parse_seconds(limit)
        except ValueError as error:
            raise InputError(f"--budget-latency: {error}") from None
        found.append(f"search.budget.latency.max={limit}")
    return found + ([f"{COMMAND}={json.dumps(command)}"] if command is not None else [])


def _require_limit(spec: str, changes: list[str | Override]) -> None:
    """Raise InputError for --latency-command where neither the spec nor an override has a limit for it."""
    from t2tbuild.spec.load import read_search_spec  # not open_search_spec: the spec is read again

    if read_search_spec(spec, changes).spec.search.budget.latency is None:
        raise InputError("--latency-command needs a limit to measure for; add one, for example --budget-latency 10ms")


def _with_data(spec: str, overrides: list[str], data: str | None) -> list[str | Override]:
    """Return overrides with those of --data: before the fields of the data, and after a whole proxy or whole data."""
    if data is None:
        return [*overrides]
    from t2tbuild.spec.load import read_search_spec  # not open_search_spec: the spec is read again

    fields = ("search", "search.proxy", "search.proxy.data")
    whole = [one for one in overrides if one.partition("=")[0].strip() in fields]
    current = read_search_spec(spec, whole).spec.search.proxy.data
    named = data_changes(data, current, "search.proxy.data")
    return [*whole, *named, *(one for one in overrides if one not in whole)]


def _print_space(spec: SearchSpec, planned: Plan, plot: Path | None, *, as_json: bool) -> None:
    """Print the size of the space, what fits, and what is predicted best."""
    from dataclasses import asdict

    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.nas.budget import Infeasible
    from t2tbuild.nas.space_stats import measure_space
    from t2tbuild.nas.unpredicted import reason_not_counted
    from t2tbuild.report.space_plot import (
        base_line,
        base_to_json,
        plot_space,
        predicted_table,
        reason_not_predicted,
        space_lines,
        space_table,
    )

    if reason := reason_not_counted(planned.warnings):
        if plot is not None:
            raise InputError(f"--plot: {reason}")
        _print_uncounted_space(spec, planned, as_json=as_json)
        return
    try:
        size = measure_space(planned.members, spec.search.seed)
    except Infeasible as error:
        raise InputError(f"search.space: {error}; raise the budget or widen the space") from None
    if plot is not None:
        with report_write_errors("--plot", plot):
            plot_space(size, spec.search, plot)
    if as_json:
        ends = {"smallest": size.smallest, "largest": size.largest}
        models = {name: vars(end) | {"model": end.model.model_dump(mode="json")} for name, end in ends.items()}
        best = [predict_accuracy(one.member.model) for one in planned.predicted[:1]]
        accuracies = {"base": predict_accuracy(planned.base), "best": best[0] if best else None}
        predicted = {name: one and asdict(one) for name, one in accuracies.items()}
        data = asdict(size) | {"looked_at": size.sampled}  # its key of earlier versions, for one version
        about = {"base": base_to_json(planned), "target": planned.target, "predicted": predicted}
        print_json(data | models | about)
        return
    for line in [*space_lines(size, spec.search), base_line(planned)]:
        stdout().print(line, soft_wrap=True, markup=False)
    stdout().print(space_table(size))
    if planned.predicted:
        stdout().print(predicted_table(planned, spec.search))
    evidence = "predicted ImageNet accuracy" if planned.target == "imagenet" else "trainings on the proxy's data"
    stdout().print(f"candidates will be ranked by {evidence} (search.target: {planned.target})", soft_wrap=True)
    if (missing := reason_not_predicted(planned)) is not None:
        stdout().print(missing, soft_wrap=True, markup=False)
    if plot is not None:
        stderr().print(f"written: {plot}", soft_wrap=True)


def _print_uncounted_space(spec: SearchSpec, planned: Plan, *, as_json: bool) -> None:
    """Print the size of a space whose costs are not predicted. A warning has the reason already."""
    from t2tbuild.report.space_plot import base_line, base_to_json

    if as_json:
        about = {"base": base_to_json(planned), "target": planned.target}
        print_json({"assignments": planned.space.size, "members": None} | about)
        return
    fields = f"{planned.space.size:,} assignments of {plural(len(spec.search.space), 'field')} at most"
    unknown = "how many are within the budget is known only after building"
    for line in (f"{spec.search.name}: {fields}; {unknown}", base_line(planned)):
        stdout().print(line, soft_wrap=True, markup=False)


def print_result(result: SearchResult) -> None:
    """Print the verdict, the evidence for it, and the next commands."""
    from t2tbuild.nas import Outcome
    from t2tbuild.report.supernet import load_supernet_view, supernet_tables
    from t2tbuild.report.verdict_table import gain_lines, verdict_table

    console, winner = stdout(), result.winner
    assert winner.model is not None and winner.macs is not None and winner.params is not None
    console.print(result.verdict.sentence, style="bold", soft_wrap=True, markup=False)
    label = "winner: the base itself," if winner.number == result.base.number else f"winner: candidate {winner.number},"
    console.print(
        f"{label} {short_count(winner.macs)} MACs, {short_count(winner.params)} parameters: "
        f"depth {winner.model.backbone.depth}, width {winner.model.backbone.embed_dim}",
        soft_wrap=True,
    )
    if (table := verdict_table(result)) is not None:
        console.print(table)
    if (view := load_supernet_view(result)) is not None:
        for shown in supernet_tables(view):
            console.print(shown)
    for line in [*gain_lines(result), *([str(result.latency)] if result.latency else [])]:
        console.print(line, soft_wrap=True, markup=False)
    if result.outcome is Outcome.TIMEOUT:
        command = resume_command(result.run, result.spec)
        has_confirmations = result.verdict.prediction is None and result.spec.search.confirm is not None
        part = ", a part of which is kept for confirmation runs" if has_confirmations else ""
        console.print(f"stopped by the timeout{part}; continue with: {command}", soft_wrap=True, markup=False)
    elif result.outcome is Outcome.UNFINISHED:
        console.print(
            f"unfinished; show its progress with: t2tbuild search status {result.run}", soft_wrap=True, markup=False
        )
    elif result.outcome is Outcome.EXHAUSTED:
        console.print("stopped early: the space has no new candidate", soft_wrap=True)
    elif result.outcome is Outcome.CONVERGED:
        console.print(f"stopped early: {result.stop_reason} (search.patience)", soft_wrap=True, markup=False)
    best = shlex.quote(str(result.run / "best.yaml"))
    drawn = ["diagram.svg"] if (result.run / "diagram.svg").exists() else []
    files = ["best.yaml", *drawn, *(["front/"] if len(result.spec.search.objectives) > 1 else [])]
    files += ["report.html", "report.json", "candidates.csv", "pareto.png", *(["supernet/"] if view else [])]
    console.print(f"written: {result.run}/{', '.join(files)}", soft_wrap=True, markup=False)
    if view is not None and result.spec.search.proxy.width == "full":
        budgets = ",".join(str(format_count(int(limit))) for limit in view.report["best"] if int(limit))
        command = f"t2tbuild export {shlex.quote(str(result.run))} --budgets {budgets or 'COUNTS'}"
        console.print(f"a model for each budget, with inherited weights: {command}", soft_wrap=True, markup=False)
    option = "" if result.best.train is not None else " --data DIR"
    if option:
        line = "for DIR, name your images: a folder of images, DIR/CLASS/*.jpg or with train and val, or a CSV file"
        console.print(line, soft_wrap=True)
    console.print(f"next: t2tbuild summarize {best} && t2tbuild train {best}{option}", soft_wrap=True)


def result_to_json(result: SearchResult) -> dict[str, object]:
    """Convert a result to plain data: its report without the parts about single candidates, which report.json has."""
    left_out = ("candidates", "reference_runs", "repeats", "parts", "timeline")
    report = {key: value for key, value in result.report.items() if key not in left_out}
    return {"run": str(result.run), "best": str(result.run / "best.yaml")} | report
