"""Compare TrialReader with Optuna's RDBStorage: python benchmarks/read_trials.py [--running 100 1000].

A search in a PostgreSQL server has 500 ended trainings and many running ones, with records as large as those of a real
search. A worker that knows all of them reads them again, as at every draw and decision, by each of both in turns; in
between, one record is changed. Printed are medians in milliseconds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.distributions import IntDistribution
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec
from t2tbuild.nas.store import database
from t2tbuild.nas.store.trial_reader import TrialReader
from t2tbuild.nas.store.url import storage_url

ENDED, TURNS, RECORD_BYTES = 500, 15, 2500
FIELDS = {name: IntDistribution(0, 9) for name in ("depth", "width", "mlp_ratio", "heads", "fill")}


def main() -> None:
    """Print the table."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.nas import postgresql

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("--running", type=int, nargs="*", default=[10, 100, 1000])
    given = parser.parse_args()
    table = Table("running", "RDBStorage", "TrialReader", "ratio", title="medians in ms")
    with tempfile.TemporaryDirectory() as folder, postgresql.server() as server:
        for running in given.running:
            url = storage_url(server.database(f"t{running}"), Path(folder))
            theirs, ours = measure(url, running)
            table.add_row(str(running), f"{theirs:.1f}", f"{ours:.1f}", f"{ours / theirs:.2f}")
    Console(width=110).print(table)


def measure(url: str, running: int) -> tuple[float, float]:
    """Return the median milliseconds of reading all trials again, by RDBStorage and by TrialReader."""
    storage = database.connect(url, load_search_spec("deep_narrow").search)
    study = optuna.create_study(storage=storage, study_name="study")
    reader = TrialReader(storage, storage.get_study_id_from_name("study"))
    for number in range(ENDED + running):
        ended = number < ENDED
        trial = optuna.create_trial(
            state=TrialState.COMPLETE if ended else TrialState.RUNNING,
            value=1.0 if ended else None,
            params=dict.fromkeys(FIELDS, 1),
            distributions=FIELDS,
            user_attrs={"record": {"text": "x" * RECORD_BYTES}, "process": ["host", number, "start"]},
        )
        study.add_trial(trial)
    last = reader.read()[-1].trial_id
    study.get_trials(deepcopy=False)
    turns = []
    for turn in range(TURNS):
        storage.set_trial_user_attr(last, "record", {"text": str(turn) * RECORD_BYTES})
        turns.append((timed(lambda: study.get_trials(deepcopy=False)), timed(reader.read)))
    database.close(storage)
    theirs, ours = (statistics.median(times) for times in zip(*turns, strict=True))
    return theirs, ours


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
