"""The decisions of a search, without store, torch or clock: promote, prune, stop, and what a worker does next."""

from dataclasses import replace

import pytest

from t2tbuild import load_search_spec, load_spec
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.record import BASE, Outcome, Record, Rung, State
from t2tbuild.nas.scheduler import (
    Action,
    Progress,
    count_since_improvement,
    next_action,
    outcome_of,
    promotes,
    should_promote,
    stop_reason,
)
from t2tbuild.spec import ModelSpec, SearchSpec

MODEL = load_spec("t2t_vit_14").model
assert isinstance(MODEL, ModelSpec)


def data_search(*overrides: str) -> SearchSpec:
    return load_search_spec("deep_narrow", ["search.target=data", "search.confirm=null", *overrides])


def record(number: int, *losses: float, state: State = State.COMPLETED, seed: int = 0) -> Record:
    """Return the record of a candidate of its own model, with a loss at each rung of 40, 100 and 200 steps."""
    assert isinstance(MODEL, ModelSpec)
    model = MODEL.model_copy(update={"num_classes": number + 2})
    rungs = tuple(Rung(steps, 0.5, loss, 1.0) for steps, loss in zip((40, 100, 200), losses, strict=False))
    return Record(str(number), state, model, key=key_of(model), rungs=rungs, seed=seed)


def base_runs(*losses: float) -> list[Record]:
    return [replace(record(0, loss, loss, loss, seed=seed), number=BASE) for seed, loss in enumerate(losses)]


READY = Progress(claimed=3, trials=8)


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, Action.DRAW),
        ({"waiting_references": 1, "waiting_candidates": 1}, Action.REFERENCE),
        (
            {
                "time_for_candidates": False,
                "time_left": False,
                "waiting_references": 1,
                "base_is_trained": False,
                "running": 1,
            },
            Action.END,
        ),
        ({"waiting_candidates": 1}, Action.CANDIDATE),
        ({"claimed": 8}, Action.END),
        ({"claimed": 8, "waiting_candidates": 1}, Action.CANDIDATE),
        ({"claimed": 8, "running": 1, "to_confirm": 3}, Action.WAIT),
        ({"claimed": 8, "to_confirm": 3}, Action.CONFIRM),
        ({"exhausted": True}, Action.END),
        ({"stop_reason": "no improvement"}, Action.END),
        ({"stop_reason": "no improvement", "to_confirm": 3}, Action.CONFIRM),
        ({"time_for_candidates": False, "waiting_candidates": 2, "to_confirm": 3}, Action.CONFIRM),
        ({"time_for_candidates": False, "running": 1}, Action.WAIT),
        ({"time_for_candidates": False, "time_left": False, "running": 1, "to_confirm": 1}, Action.END),
        ({"time_for_candidates": False, "time_left": False, "waiting_references": 1}, Action.END),
        (
            {"time_for_candidates": False, "time_left": False, "waiting_references": 1, "base_is_trained": False},
            Action.REFERENCE,
        ),
    ],
)
def test_what_a_worker_does_next(changes: dict[str, object], action: Action) -> None:
    assert next_action(replace(READY, **changes)) is action  # type: ignore[arg-type]


def test_promotion_by_hand() -> None:
    """Promoted are the best third of those so far, and the first ones if none was better."""
    scores = [0.5, 0.4, 0.45, 0.3, 0.47, 0.48, 0.6]
    promoted = [should_promote(score, scores[:index], reduction_factor=3) for index, score in enumerate(scores)]
    assert promoted == [True, False, False, False, False, True, True]


def test_differences_within_seed_noise_prune_no_candidate() -> None:
    scores = [0.5, 0.49, 0.3]
    assert [
        should_promote(score, scores[:index], reduction_factor=3, floor=0.05) for index, score in enumerate(scores)
    ] == [
        True,
        True,
        False,
    ]


def test_a_candidate_is_promoted_among_those_at_its_rung() -> None:
    search = data_search("search.proxy.reduction_factor=2").search
    others, base = [record(1, 1.0), record(2, 1.2), record(3, 1.4)], base_runs(1.1, 1.1)
    assert promotes(record(4, 0.9), search, others, base)
    assert promotes(record(4, 1.1), search, others, base)
    assert not promotes(record(4, 1.3), search, others, base)
    assert promotes(record(4, 1.3), search, others, base_runs(1.0, 1.6)), "the difference is within the seed noise"


def test_no_candidate_is_pruned_before_the_noise_is_known_or_by_invalid_evidence() -> None:
    others, worst = [record(1, 1.0), record(2, 1.2), record(3, 1.4)], record(4, 2.0)
    running = replace(base_runs(1.0)[0], state=State.RUNNING)
    assert promotes(worst, data_search().search, others, [running])
    assert not promotes(worst, data_search().search, others, base_runs(1.0, 1.01))
    imagenet = load_search_spec("deep_narrow", ["search.target=imagenet"]).search
    assert promotes(worst, imagenet, others, base_runs(1.0, 1.01))


def test_hyperband_skips_the_lower_rungs_in_turn() -> None:
    search = data_search("search.proxy.scheduler=hyperband").search
    others, base = [record(number, 1.0, 1.0) for number in (1, 2, 6)], base_runs(1.0, 1.01)
    assert [promotes(record(number, 2.0), search, others, base) for number in (3, 4, 5)] == [False, True, True]
    assert [promotes(record(number, 2.0, 2.0), search, others, base) for number in (3, 4, 5)] == [False, False, True]
    never = data_search("search.proxy.scheduler=never").search
    assert promotes(record(3, 9.0), never, others, base)


def test_candidates_since_the_last_improvement_by_hand() -> None:
    def value(one: Record) -> float:
        return -one.rungs[-1].loss

    losses = [1.0, 0.9, 0.5, 0.48, 0.6, 0.47, 0.3]
    found = [record(number, 9.0, 9.0, loss) for number, loss in enumerate(losses)]
    assert [count_since_improvement(found[:end], value, 0.0) for end in range(1, 8)] == [0, 0, 0, 0, 1, 0, 0]
    assert [count_since_improvement(found[:end], value, 0.1) for end in range(1, 8)] == [0, 1, 0, 1, 2, 3, 0]
    pruned = [record(number, 0.1, state=State.PRUNED) for number in (8, 9)]
    assert count_since_improvement([*found, *pruned], value, 0.0) == 2
    assert count_since_improvement(pruned, value, 0.0) == 0, "nothing was completed yet"


def test_a_search_stops_when_more_candidates_no_longer_help() -> None:
    search = data_search("search.patience=3", "search.trials=50").search
    losses = [1.0, 0.5, 0.49, 0.51, 0.495]
    records, base = [record(number, 9.0, 9.0, loss) for number, loss in enumerate(losses)], base_runs(0.98, 1.02)
    assert stop_reason(search, records[:4], base) == ""
    reason = stop_reason(search, records, base)
    assert reason.startswith(
        "the last 3 candidates did not improve on the best before them by more than the seed noise"
    )
    assert outcome_of(search, records, base, exhausted=False) is Outcome.CONVERGED
    assert stop_reason(data_search("search.patience=null").search, records * 9, base) == ""
    several = data_search("search.patience=3", "search.objectives=[accuracy, macs]").search
    assert stop_reason(several, records, base) == ""
    assert outcome_of(several, records, base, exhausted=False) is Outcome.UNFINISHED
