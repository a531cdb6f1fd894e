"""The scheduler: pure functions from the results so far to the next decision of a search.

A candidate is promoted or pruned at each rung, confirmation runs are planned at the end (reference_runs.py), and the
search stops when more candidates no longer help. Nothing here knows the store, torch or the clock.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Outcome, Record, State
from t2tbuild.nas.reference_runs import base_seed_std, plan_confirmations
from t2tbuild.spec.search import Search

MAX_OVER_BUDGET = 100
"""After this many candidates in a row that are over the budget when measured, at least, a search stops."""


class Action(Enum):
    """What a worker does next."""

    REFERENCE = auto()  # train the next reference run
    CANDIDATE = auto()  # train the next candidate of the queue
    DRAW = auto()  # draw a candidate into the queue
    CONFIRM = auto()  # queue the confirmation runs
    WAIT = auto()  # for the trainings of other workers
    END = auto()


@dataclass(frozen=True)
class Progress:
    """The state of a search, as far as the next action depends on it.

    `claimed` candidates are trained, running or waiting. `stop_reason` is set where more candidates no longer help.
    `time_for_candidates` ends earlier than `time_left`, so that the confirmation runs have time.
    """

    claimed: int
    trials: int
    waiting_candidates: int = 0
    waiting_references: int = 0
    running: int = 0
    exhausted: bool = False
    stop_reason: str = ""
    base_is_trained: bool = True
    to_confirm: int = 0
    time_for_candidates: bool = True
    time_left: bool = True


def next_action(progress: Progress) -> Action:
    """Return what a worker does next. The base is trained even without time left: a report needs it."""
    is_base_missing = not progress.base_is_trained and not progress.running
    if progress.waiting_references and (progress.time_left or is_base_missing):
        return Action.REFERENCE
    if progress.time_for_candidates:
        if progress.waiting_candidates:
            return Action.CANDIDATE
        if progress.claimed < progress.trials and not progress.exhausted and not progress.stop_reason:
            return Action.DRAW
    if not progress.time_left:
        return Action.END
    if progress.running:
        return Action.WAIT
    return Action.CONFIRM if progress.to_confirm else Action.END


def should_promote(score: float, peers: Sequence[float], reduction_factor: int, floor: float = 0.0) -> bool:
    """Whether to promote a candidate: it is in the best 1 / `reduction_factor` of those that reached the rung so far.

    Asynchronous successive halving (Li et al., MLSys 2020): no candidate waits for a rung to fill. `peers` are the
    scores of the other candidates at the rung. With fewer than `reduction_factor` of them, a candidate is promoted if
    none is better. A peer counts as better only by more than `floor`, the standard deviation of one model's scores over
    seeds.
    """
    better = sum(peer > score + floor for peer in peers)
    return better < max(1, (len(peers) + 1) // reduction_factor)


def promotes(record: Record, search: Search, records: Sequence[Record], reference_runs: Sequence[Record]) -> bool:
    """Whether to promote a candidate from the rung that it has just reached.

    Evidence that is not valid prunes no candidate. With Hyperband, candidates in turn skip the lower rungs.
    """
    proxy, reached, last = search.proxy, len(record.rungs), record.rungs[-1]
    index = int(record.number) if record.number.isdigit() else 0
    skipped = index % len(proxy.rungs) if proxy.scheduler == "hyperband" else 0
    if proxy.scheduler == "never" or reached <= skipped:
        return True
    ranking = rank(search, records, reference_runs)
    if not ranking.uses_training:
        return True
    others = [other for other in records if other.key != record.key and other.at(last.steps)]
    peers = [ranking.value(other, last.steps) for other in others]
    if ranking.uses_prediction:
        return should_promote(ranking.value(record, last.steps), peers, proxy.reduction_factor)
    floor = base_seed_std(reference_runs, last.steps, proxy.metric)
    if floor is None and any(one.number == BASE and one.state is State.RUNNING for one in reference_runs):
        return True  # the seed noise at this rung is not measured yet
    return should_promote(ranking.value(record, last.steps), peers, proxy.reduction_factor, floor or 0.0)


def rank(search: Search, records: Sequence[Record], reference_runs: Sequence[Record]) -> Ranking:
    """Return the ranking by all results so far. The base's first training is standardised with the candidates."""
    base = [record for record in reference_runs if record.number == BASE and record.seed == 0 and not record.full]
    return Ranking(search, [*records, *base])


def stop_reason(search: Search, records: Sequence[Record], reference_runs: Sequence[Record]) -> str:
    """Return why more candidates no longer help, empty while they may.

    They no longer help when the last `search.patience` trained candidates did not improve on the best before them by
    more than the seed noise; a failed one says nothing. Of candidates in exchangeable order, the next one beats all n
    before it with probability 1 / (n + 1), so a long wait is evidence. With several objectives there is no single best.
    Nor do they help when one after the other is over the budget when measured, as with a latency that none has.
    """
    over = count_over_budget(records)
    if over >= max(MAX_OVER_BUDGET, 4 * search.trials):
        return f"the last {over} candidates were over the budget when measured: {records[-1].reason}"
    if search.patience is None or len(search.objectives) > 1:
        return ""
    ranking = rank(search, records, reference_runs)
    floor = 0.0
    if not ranking.uses_prediction:
        floor = base_seed_std(reference_runs, search.proxy.rungs[-1], search.proxy.metric) or 0.0
    ended = [record for record in records if record.state in (State.COMPLETED, State.PRUNED)]
    since = count_since_improvement(ended, ranking.value, floor)
    if since < search.patience:
        return ""
    noise = f" by more than the seed noise of {floor:.2g}" if floor else ""
    return f"the last {since} candidates did not improve on the best before them{noise}"


def count_since_improvement(records: Sequence[Record], value: Callable[[Record], float], floor: float) -> int:
    """Return how many trained candidates came after the last that was better than all before by more than `floor`."""
    best, since = -math.inf, 0
    for record in records:
        reached = value(record) if record.state is State.COMPLETED else -math.inf
        if reached > best + floor:
            best, since = reached, 0
        elif best > -math.inf:
            since += 1
    return since


def count_over_budget(records: Sequence[Record]) -> int:
    """Return how many of the last candidates in a row were over the budget when they were measured."""
    return sum(1 for _ in itertools.takewhile(lambda record: record.state is State.INFEASIBLE, reversed(records)))


def count_claimed(records: Sequence[Record]) -> int:
    """Return how many candidates are trained, running or waiting."""
    return sum(record.state.trained or record.state is State.RUNNING for record in records)


def outcome_of(
    search: Search, records: Sequence[Record], reference_runs: Sequence[Record], *, exhausted: bool
) -> Outcome:
    """Return how a search ended: unfinished where anything is left to train."""
    if any(record.state is State.RUNNING for record in (*records, *reference_runs)):
        return Outcome.UNFINISHED
    if plan_confirmations(search, records, reference_runs):
        return Outcome.UNFINISHED
    if sum(record.state.trained for record in records) >= search.trials:
        return Outcome.COMPLETE
    if exhausted:
        return Outcome.EXHAUSTED
    return Outcome.CONVERGED if stop_reason(search, records, reference_runs) else Outcome.UNFINISHED
