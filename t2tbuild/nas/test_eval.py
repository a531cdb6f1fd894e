"""The test split, which nothing was chosen by, is looked at once a search has ended: for its winner and the base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from t2tbuild.nas.evaluator import Evaluator
from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.storage import creating
from t2tbuild.nas.store import Studies
from t2tbuild.nas.verdict import Verdict
from t2tbuild.nas.worker import folder_of

TEST = "test"


def look_at_test(run: Path, studies: Studies, load_judges: Callable[[], Evaluator], verdict: Verdict) -> None:
    """Evaluate the trainings of the winner and of the base on the test split, from their last checkpoints.

    It is done once for each winner: a search that goes on and finds another looks again, and its report counts that.
    Of several machines one does it, the first that has checkpoints of the winner; trainings whose checkpoints lie on
    another machine are left out.
    """
    winner = verdict.winner.key
    repeats = [record for record in studies.repeats() if record.state is State.TOP]
    base = next((record.key for record in repeats if record.number == BASE), None)
    if not any(record.key == winner and folder_of(run, record).is_dir() for record in repeats):
        return
    with creating(studies.url):
        kept: dict[str, Any] = studies.noted(TEST) or {"looks": 0, "winner": None}
        if kept["winner"] == winner:
            return
        found = {"looks": kept["looks"] + 1, "winner": winner}
        for role, key in (("of_winner", winner), ("of_base", base)):
            records = [record for record in repeats if record.key == key]
            found[role] = [
                message for record in records if (message := _tested(run, load_judges(), record)) is not None
            ]
        studies.note(TEST, found)


def _tested(run: Path, judges: Evaluator, record: Record) -> dict[str, float] | None:
    folder = folder_of(run, record)
    if not folder.is_dir():
        return None
    climber = judges.climber(record)
    if not climber.restore(folder):
        return None
    result = climber.test()
    return {"seed": record.seed, "accuracy": result.accuracy, "loss": result.loss}
