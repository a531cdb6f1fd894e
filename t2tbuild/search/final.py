"""The test split, which nothing was chosen by, is looked at once a search has ended: for its winner and the base."""

import shutil
from pathlib import Path
from typing import Any

from t2tbuild.search.judges import Judges
from t2tbuild.search.record import BASE, Record, State
from t2tbuild.search.studies import Studies
from t2tbuild.search.verdict import Verdict
from t2tbuild.search.worker import folder_of

TEST = "test"


def look_at_test(run: Path, studies: Studies, judges: Judges, verdict: Verdict) -> None:
    """Evaluate the trainings of the winner and of the base on the test split, from their last checkpoints.

    It is done once for each winner: a search that goes on and finds another looks again, and its report counts that.
    Trainings whose checkpoints lie on another machine are left out. The checkpoints are not needed after it.
    """
    kept: dict[str, Any] = studies.noted(TEST) or {"looks": 0, "winner": None}
    if kept["winner"] == verdict.winner.key:
        return
    base = next((record.key for record in studies.repeats() if record.number == BASE), None)
    found = {"looks": kept["looks"] + 1, "winner": verdict.winner.key}
    for role, key in (("of_winner", verdict.winner.key), ("of_base", base)):
        records = [record for record in studies.repeats() if record.key == key and record.state is State.TOP]
        found[role] = [told for record in records if (told := _tested(run, judges, record)) is not None]
    studies.note(TEST, found)
    for child in (run / "trials").glob("*"):
        if base is None or not child.name.startswith(base):  # the base may be compared with another winner
            shutil.rmtree(child, ignore_errors=True)


def _tested(run: Path, judges: Judges, record: Record) -> dict[str, float] | None:
    folder = folder_of(run, record)
    if not folder.is_dir():
        return None
    climber = judges.climber(record)
    if not climber.restore(folder):
        return None
    result = climber.test()
    return {"seed": record.seed, "accuracy": result.accuracy, "loss": result.loss}
