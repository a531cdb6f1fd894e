"""t2tbuild search: a budget in, the best spec within it out."""

from __future__ import annotations

import math
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import minutes, print_json, stderr, stdout
from t2tbuild.cli.folder import require_folder
from t2tbuild.cli.options import BudgetMacs, BudgetParams, Json, complete_name, count_option
from t2tbuild.cli.spec import is_override, open_search_spec, warn
from t2tbuild.errors import InputError
from t2tbuild.spec.units import parse_seconds, short_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from t2tbuild.search import Record, SearchResult
    from t2tbuild.spec import SearchSpec


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
    as_json: Json = False,
) -> None:
    """Search for the best model within a budget; no candidate over it is ever trained.

    Candidates are ranked by short trainings on scikit-learn's digits; the winner is written as a spec again.

    Example: t2tbuild search --budget-macs 5G --timeout 5m --out runs/five-giga
    """
    require_folder(out)
    options = _overrides(budget_macs, budget_params, trials, timeout, seed)
    if is_override(spec):
        spec, overrides = "deep_narrow", [spec, *(overrides or ())]
    document = open_search_spec(spec, [*(overrides or ()), *options])
    loaded = document.spec

    from t2tbuild.search.plan import plan

    with document.placing():  # its errors come before torch
        warn([document.warning(found) for found in plan(loaded).warnings])

    from t2tbuild.report.pareto import plot_pareto
    from t2tbuild.search.run import search as search_spec
    from t2tbuild.train.run_directory import default_folder

    run = out or default_folder(loaded.search.name)
    try:
        with _Progress(stderr(), loaded) as progress:
            result = search_spec(loaded, run, listener=progress.hear)
    except KeyboardInterrupt:
        stderr().print(f"interrupted; the study is in {run}; continue with:\n{_again(run)}", soft_wrap=True)
        raise
    plot_pareto(result, run / "pareto.png")
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)


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


def _again(run: Path) -> str:
    arguments = sys.argv[1:]
    return shlex.join(["t2tbuild", *arguments, *([] if "--out" in arguments else ["--out", str(run)])])


def _print(result: SearchResult) -> None:
    from t2tbuild.search import Outcome

    console, winner, base = stdout(), result.winner, result.base
    assert winner.model is not None and winner.macs is not None and winner.params is not None
    console.print(
        f"trained: {result.trained_as}; one seed each: a ranking that favours what learns fast, no proof",
        soft_wrap=True,
    )
    if base.accuracy is None:
        console.print(f"base: {base.reason}")
    elif winner.number != base.number:
        console.print(f"base: {base.accuracy:.1%} with {short_count(base.macs or 0)} MACs")
    console.print(
        f"{'winner: the base itself,' if winner.number == base.number else f'winner: candidate {winner.number},'} "
        f"{winner.accuracy:.1%} with {short_count(winner.macs)} MACs and {short_count(winner.params)} parameters: "
        f"depth {winner.model.backbone.depth}, width {winner.model.backbone.embed_dim}",
        soft_wrap=True,
    )
    if result.outcome is Outcome.TIMEOUT:
        console.print(f"stopped by the timeout; continue with: {_again(result.run)}", soft_wrap=True)
    elif result.outcome is Outcome.EXHAUSTED:
        console.print("stopped early: the space gives no new candidate", soft_wrap=True)
    best = shlex.quote(str(result.run / "best.yaml"))
    console.print(f"written: {result.run}/best.yaml, candidates.csv, pareto.png", soft_wrap=True)
    console.print(f"next: t2tbuild summarize {best} && t2tbuild train {best}", soft_wrap=True)


def _as_json(result: SearchResult) -> dict[str, object]:
    from t2tbuild.search import State

    return {
        "run": str(result.run),
        "best": str(result.run / "best.yaml"),
        "winner": result.winner.to_json(),
        "base": result.base.to_json(),
        "budget": {"macs": result.budget.macs, "params": result.budget.params},
        "trained_as": result.trained_as,
        "asked": result.asked,
        "trained": result.count(State.TOP, State.STOPPED, State.FAILED),
        "infeasible": result.count(State.INFEASIBLE),
        "duplicates": result.count(State.DUPLICATE),
        "failed": result.count(State.FAILED),
        "outcome": str(result.outcome),
        "seconds": round(result.seconds, 1),
    }


class _Progress:
    """A live table on a terminal, a line a candidate elsewhere."""

    def __init__(self, console: Console, spec: SearchSpec) -> None:
        self.console, self.what = console, spec.search
        self.records: dict[str, Record] = {}
        self.started = time.monotonic()
        self.before: int | None = None
        self.live: Live | None = None
        if console.is_terminal:
            from rich.live import Live

            self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> _Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def hear(self, record: Record) -> None:
        from t2tbuild.report.candidates_table import candidates_table
        from t2tbuild.search.record import BASE, State

        self.records[record.number] = record
        done = sum(known.number != BASE and known.state.trained for known in self.records.values())
        if record.state is State.CLIMBING and self.before is None:
            self.before = done  # of an earlier process
        new, passed = done - (self.before or 0), time.monotonic() - self.started
        left = "?"
        if self.before is not None and new:
            ends = max(0.0, (self.what.timeout or math.inf) - passed)
            left = minutes(min(ends, passed / (new + 1) * (self.what.trials - done)))
        title = f"{self.what.name}: {done} of {self.what.trials} candidates, {minutes(passed)}, ETA {left}"
        if self.live:
            self.live.update(
                candidates_table([*self.records.values()], title=title, rungs=self.what.proxy.rungs), refresh=True
            )
        elif record.rungs or record.state is not State.CLIMBING:
            self.console.print(f"{_line(record)}  [{title}]", soft_wrap=True, markup=False)


def _line(record: Record) -> str:
    shape = f"depth {record.model.backbone.depth} width {record.model.backbone.embed_dim}" if record.model else ""
    macs = f"{short_count(record.macs)} MACs" if record.macs else ""
    rungs = " ".join(f"@{rung.steps} {rung.accuracy:.1%}" for rung in record.rungs)
    return "  ".join(
        part for part in (f"{record.number:>4}", shape, macs, rungs, str(record.state), record.reason) if part
    )
