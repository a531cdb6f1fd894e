"""Evaluate the winner and the base on the test split, once, at the end of a search."""

from pathlib import Path
from typing import Any

from t2tbuild.nas.evaluator import make_candidate, trial_folder
from t2tbuild.nas.old_names import TEST_KEYS, with_new_names
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.store.lock import search_lock
from t2tbuild.nas.store.meta import TEST
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.verdict import Verdict


def evaluate_on_test(run: Path, store: Store, evaluator: ProxyEvaluator, verdict: Verdict) -> None:
    """Evaluate the reference runs of the winner and of the base on the test split, from their last checkpoints.

    Each winner is evaluated once. A search that is continued and finds another winner evaluates again, and the report
    counts the evaluations. Of several machines, the first with checkpoints of the winner evaluates; runs whose
    checkpoints are on another machine are left out.
    """
    winner = verdict.winner.key
    reference_runs = [record for record in store.reference_runs() if record.state is State.COMPLETED]
    base = next((record.key for record in reference_runs if record.number == BASE), None)
    if not any(record.key == winner and trial_folder(run, record).is_dir() for record in reference_runs):
        return
    with search_lock(store.url):
        before = read_test_results(store) or {"evaluations": 0, "winner": None}
        if before["winner"] == winner:
            return
        found = {"evaluations": before["evaluations"] + 1, "winner": winner}
        for role, key in (("of_winner", winner), ("of_base", base)):
            records = [record for record in reference_runs if record.key == key]
            results = (_evaluate_run(run, evaluator, record) for record in records)
            found[role] = [result for result in results if result is not None]
        store.set_meta(TEST, found)


def _evaluate_run(run: Path, evaluator: ProxyEvaluator, record: Record) -> dict[str, float] | None:
    folder = trial_folder(run, record)
    if not folder.is_dir():
        return None
    trainer = evaluator.make_trainer(make_candidate(record, evaluator.search, run, lambda: None))
    if not trainer.restore(folder) or trainer.step != evaluator.search.proxy.rungs[-1]:
        return None
    result = trainer.test()
    return {"seed": record.seed, "accuracy": result.accuracy, "loss": result.loss}


def read_test_results(store: Store) -> dict[str, Any] | None:
    """Return the stored results on the test split, None where it was not evaluated."""
    stored: dict[str, Any] | None = store.get_meta(TEST)
    return stored and with_new_names(stored, TEST_KEYS)
