"""Which members of a supernet are evaluated, trained alone and confirmed, and whose latency is measured."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from t2tbuild import predict_cost
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.supernet.evolution import mutate, propose
from t2tbuild.nas.supernet.inherited import choose_parents, front, order_proposals, search_inherited, within
from t2tbuild.nas.supernet.latency import MEASURED, spread
from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.nas.supernet.results import InheritedResult, StandaloneResult
from t2tbuild.nas.supernet.standalone import choose_confirmations, choose_random
from t2tbuild.spec.budget import Budget
from tests.nas.supernets import loss_of, with_supernet

LATENCY = {"max": "50ms"}
LATENCIES = (("a", 0.3, 0.1), ("b", None, 0.2), ("c", 0.2, 0.3))


def evaluate_all(seen: dict[str, InheritedResult]) -> Callable[[Sequence[SupernetMember]], dict[str, InheritedResult]]:
    def evaluate(chosen: Sequence[SupernetMember]) -> dict[str, InheritedResult]:
        assert not {one.key for one in chosen} & seen.keys()
        for one in chosen:
            seen[one.key] = InheritedResult(one.key, one.macs, one.params, None, 0.5, loss_of(one.model), one.values)
        return dict(seen)

    return evaluate


def test_offspring_differ_in_one_or_two_fields(planned: Plan, members: Sequence[SupernetMember]) -> None:
    rng, space = random.Random(0), planned.space
    parent = space.locate(members[0].model)
    assert parent is not None
    changes = [
        sum(child[path] != parent[path] for path in parent) for child in (mutate(space, parent, rng) for _ in range(50))
    ]
    assert set(changes) == {0, 1, 2}  # none where the solved field alone changes


def test_offspring_are_new_and_within_the_budget(planned: Plan, members: Sequence[SupernetMember]) -> None:
    seen = {one.key for one in members[:100]}
    found = propose(planned.members, [members[0].member], seen, 20, random.Random(0))
    assert len({one.key for one in found}) == 20
    assert not {one.key for one in found} & seen
    assert all(predict_cost(one.model).macs <= 3_000_000 for one in found)


@pytest.mark.parametrize("sampler", ["predicted", "tpe"])
def test_a_search_by_inherited_loss_beats_random_members(
    planned: Plan, members: Sequence[SupernetMember], sampler: str
) -> None:
    evolved: dict[str, InheritedResult] = {}
    planned = replace(planned, search=planned.search.model_copy(update={"sampler": sampler}))
    planned = with_supernet(planned, candidates=80, budgets=())
    found = search_inherited(planned, members, evaluate_all(evolved))
    assert [one.key for one in found] == list(evolved)
    assert len(found) == 80
    alike = replace(planned, search=planned.search.model_copy(update={"sampler": "random"}))
    at_random: dict[str, InheritedResult] = {}
    search_inherited(alike, members, evaluate_all(at_random))
    best, other = ([one.loss for one in within(list(each.values()), 0)[:10]] for each in (evolved, at_random))
    assert all(mine < theirs for mine, theirs in zip(best, other, strict=True))


def test_a_small_space_is_evaluated_once_and_whole(planned: Plan, members: Sequence[SupernetMember]) -> None:
    found = search_inherited(with_supernet(planned, candidates=5_000), members, evaluate_all({}))
    assert {one.key for one in found} == {one.key for one in members}


def test_the_front_and_the_best_within_a_limit() -> None:
    results = [
        InheritedResult(key, macs, params, None, 0.5, loss)
        for key, macs, params, loss in (("a", 3, 1, 0.1), ("b", 2, 5, 0.2), ("c", 1, 9, 0.3), ("d", 3, 9, math.nan))
    ]
    assert [one.key for one in front(results, "macs")] == ["a", "b", "c"]
    assert [one.key for one in front(results, "params")] == ["a"]
    assert front(results, "latency") == []
    assert [one.key for one in within(results, 2)] == ["b", "c"]
    assert [one.key for one in within(results, 0)] == ["a", "b", "c"]  # d failed
    assert within(results[3:], 0) == []


def test_members_over_the_limit_on_latency_have_no_offspring(planned: Plan, members: Sequence[SupernetMember]) -> None:
    results = {
        one.key: InheritedResult(one.key, one.macs, one.params, latency, 0.5, index, one.values)
        for index, (one, latency) in enumerate(zip(members, (0.2, 0.01, None, math.inf), strict=False))
    }
    search = planned.search.model_copy(update={"budget": Budget.model_validate({"macs": "3M", "latency": LATENCY})})
    assert [one.key for one in choose_parents(search, members, results)] == [one.key for one in members[1:3]]
    too_slow = {key: replace(one, latency=0.2) for key, one in results.items()}
    assert len(choose_parents(search, members, too_slow)) == 4  # something has to be changed
    assert len(choose_parents(planned.search, members, results)) == 4


def test_a_latency_that_is_not_known_is_the_largest(planned: Plan) -> None:
    results = [InheritedResult(key, 1, 1, latency, 0.5, loss) for key, latency, loss in LATENCIES]
    search = planned.search.model_copy(update={"objectives": ("accuracy", "latency")})
    assert [one.key for one in order_proposals(search, results)] == ["a", "c", "b"]
    assert [one.key for one in order_proposals(planned.search, results)] == ["a", "b", "c"]


def test_half_of_the_random_members_have_equal_macs(planned: Plan, members: Sequence[SupernetMember]) -> None:
    chosen = choose_random(members, with_supernet(planned, validity=20).search)
    assert len({one.key for one in chosen}) == 20
    assert chosen == choose_random(members, with_supernet(planned, validity=20).search)
    later = [one.macs for one in chosen[10:]]
    assert min(later) >= 0.95 * max(later)


def test_the_best_of_each_budget_and_random_members_are_confirmed(planned: Plan) -> None:
    results = [InheritedResult(str(loss), 3_000_000 - loss * 500_000, 1, None, 0.5, loss) for loss in range(6)]
    alone = [StandaloneResult(key, 1, 1, 1, 1, 0.0, 0.5, 0.1, 0.5, 1.0) for key in ("4", "0", "5", "2")]
    chosen = choose_confirmations(planned.search, results, alone)
    assert [(one.key, one.why, one.budget) for one in chosen] == [
        ("0", "best", 3_000_000),
        ("1", "best", 3_000_000),
        ("3", "best", 1_800_000),
        ("4", "random", 0),
        ("5", "random", 0),
    ]


@pytest.mark.parametrize("count", [1, 5, MEASURED, 2 * MEASURED - 1, 1000])
def test_members_whose_latency_is_measured_are_spread_over_all(members: Sequence[SupernetMember], count: int) -> None:
    pool = (list(members) * 1000)[:count]
    chosen = spread(pool)
    assert len(chosen) == min(count, MEASURED)
    assert chosen[0] is pool[0]
    assert chosen[-1] is pool[-1]
