"""SearchSpec -> run directory: the whole of a search, new or continued."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from t2tbuild.errors import InputError, SearchError
from t2tbuild.parts import Grid
from t2tbuild.search.plan import plan
from t2tbuild.search.proxy import describe, settle
from t2tbuild.search.record import BASE, Record, State, best_of, write_csv
from t2tbuild.search.storage import open_study, read_records
from t2tbuild.search.study import Explorer, Listener, Outcome
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Budget
from t2tbuild.spec.tree import SearchSpec, Spec
from t2tbuild.spec.write import write_spec
from t2tbuild.train.data import load_data
from t2tbuild.train.precision import pick_device
from t2tbuild.train.run_directory import default_folder, open_run


@dataclass(frozen=True)
class SearchResult:
    """What a search found. `best` is the winner's spec, also at `run`/best.yaml; `winner` its record.

    `outcome` says how it ended; `trained_as` says in words what was trained.
    """

    run: Path
    best: Spec
    winner: Record
    base: Record
    records: tuple[Record, ...]
    budget: Budget
    outcome: Outcome
    trained_as: str
    seconds: float

    @property
    def asked(self) -> int:
        """Candidates drawn, the base not counted."""
        return sum(record.number != BASE for record in self.records)

    def count(self, *states: State) -> int:
        """Candidates in any of the given states, the base not counted."""
        tally = Counter(record.state for record in self.records if record.number != BASE)
        return sum(tally[state] for state in states)


def search(spec: SearchSpec, out: str | Path | None = None, *, listener: Listener | None = None) -> SearchResult:
    """Search the space of `spec` within its budget and leave a run directory at `out`, by default a new one in runs/.

    A study that is already there is continued: the same spec and seed ask for the same candidates as an unbroken
    search. `listener` hears of each candidate already in the study, and of each new one when it starts, at every rung,
    and when it ends. An interrupt leaves the study as it is.

    Raises InputError when the budget lies below the smallest member of the space, or `out` holds something else, and
    SearchError when no candidate reached the top rung.

        >>> import tempfile
        >>> from t2tbuild import load_search_spec
        >>> tiny = ["search.trials=1", "search.proxy.rungs=[1]", "search.proxy.data.image_size=16"]
        >>> result = search(load_search_spec("deep_narrow", tiny), tempfile.mkdtemp())
        >>> result.winner.macs <= result.budget.macs
        True
    """
    started = time.perf_counter()
    planned, device = plan(spec), pick_device()
    what = spec.search.model_copy(update={"proxy": settle(spec.search.proxy, device.type)})
    spec = spec.model_copy(update={"search": what})
    trained_as = describe(what.proxy, device.type)
    run = Path(out) if out is not None else default_folder(what.name)
    with open_run(run, spec, device):
        study = open_study(run, what)
        _require_same_base(study, planned.base, run)
        side = what.proxy.data.image_size
        data = load_data(what.proxy.data, image=Grid(side, side), in_chans=planned.base.in_chans, device=device)

        def tell(record: Record) -> None:
            if record.state is not State.CLIMBING:
                write_csv(read_records(study), run / "candidates.csv", trained_as=trained_as)
            if listener is not None:
                listener(record)

        if listener is not None:
            for known in read_records(study):
                listener(known)
        outcome = Explorer(study, what, planned.space, data, device, tell).run()
        records = tuple(read_records(study))
        write_csv(records, run / "candidates.csv", trained_as=trained_as)
        winner = best_of(records)
        if winner is None or winner.model is None:
            raise SearchError(_no_winner(run, outcome, records))
        best = Spec(version=1, model=winner.model)
        write_spec(best, run / "best.yaml", note=_provenance(run, spec, winner, trained_as))
    return SearchResult(
        run=run,
        best=best,
        winner=winner,
        base=next(record for record in records if record.number == BASE),
        records=records,
        budget=what.budget,
        outcome=outcome,
        trained_as=trained_as,
        seconds=time.perf_counter() - started,
    )


def _require_same_base(study: optuna.Study, base: ModelSpec, run: Path) -> None:
    """A study stays with its base; a file that has changed since would make another search of it."""
    stored = [record for record in read_records(study) if record.number == BASE]
    if stored and stored[0].model != base:
        raise InputError(f"{run}: the base {base.name} has changed since this search began; choose another --out")


def _no_winner(run: Path, outcome: Outcome, records: Sequence[Record]) -> str:
    if outcome is Outcome.TIMEOUT:
        return f"{run}: no candidate reached the top rung in time; continue with the same command and --out {run}"
    reasons = Counter(record.reason or str(record.state) for record in records)
    told = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
    return f"{run}: no candidate reached the top rung: {told}"


def _provenance(run: Path, spec: SearchSpec, winner: Record, trained_as: str) -> str:
    who = "the base itself" if winner.number == BASE else f"candidate {winner.number}"
    return (
        f"Found by t2tbuild search {spec.search.name}, seed {spec.search.seed}: {who} of {run}.\n"
        f"{winner.params:,} parameters, {winner.macs:,} MACs, counted by fvcore.\n"
        f"Proxy validation accuracy {winner.accuracy:.4f}; trained were {trained_as}.\n"
        f"t2tbuild summarize {run}/best.yaml"
    )
