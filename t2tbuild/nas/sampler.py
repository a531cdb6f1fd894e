"""Who draws candidates: each lies within the budget and is new before anything of it is built or trained."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from t2tbuild.accuracy.features import shape_of
from t2tbuild.nas.budget import Infeasible, solve
from t2tbuild.nas.members import MEMBERS, Predicted
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import Source, key_of
from t2tbuild.nas.space import FILL, Assignment, Space, category
from t2tbuild.nas.storage import RECORD
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Sampler, Search
from t2tbuild.spec.space import Value
from t2tbuild.training.sampler import fold_in

TRIES = 100
"""Draws of the sampler of which one must be new and within the budget; else chance draws."""
CHANCES = 5_000
"""Draws of chance after which a space that is too large to look at each member counts as exhausted."""


@dataclass(frozen=True)
class Draw:
    """A candidate, who drew it, and how many draws beside it were out of budget, not new, or passed over."""

    model: ModelSpec
    key: str
    arm: Source
    infeasible: int = 0
    duplicates: int = 0
    passed: int = 0


def place_of(study: optuna.Study, number: int) -> int:
    """The place of a trial among those that count: what was interrupted or is surplus ended as FAIL and does not."""
    earlier = (trial for trial in study.get_trials(deepcopy=False) if trial.number < number)
    return sum(trial.state is not TrialState.FAIL for trial in earlier)


def arm_of(place: int, baseline: float) -> Source:
    """Who draws the candidate at a place: chance takes its share evenly."""
    return Source.RANDOM if int((place + 1) * baseline) > int(place * baseline) else Source.SAMPLER


class FeasibleSampler(BaseSampler):
    """Draws from an Optuna sampler until a candidate is valid, within the budget, and none that was drawn before.

    What it draws is a function of the seed, of the trial's place and of the trials that ended before, so that a study
    that was stopped and continued by one worker asks for the candidates of an unbroken one. `chosen` is the last draw;
    None when no new candidate was found. Of the sampler's own draws `prefer` chooses among `pool`. The base is never
    drawn: it is trained anyway.
    """

    def __init__(self, search: Search, plan: Plan) -> None:
        self._search, self._plan, self._space, self._base = search, plan, plan.space, key_of(plan.base)
        self.prefer: Callable[[Sequence[Draw]], Draw] | None = None
        self._distributions = distributions_of(plan.space)
        self._inner: BaseSampler = RandomSampler()
        self.chosen: Draw | None = None
        self.pool = 1

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        self.chosen = None
        if RECORD in trial.user_attrs or "fixed_params" in trial.system_attrs:  # enqueued, or tried again
            return {}
        place = place_of(study, trial.number)
        seed = fold_in(self._search.seed, place) % 2**32
        self._inner = make_inner(self._search.sampler, seed)
        drawn_by_chance = self._search.sampler in ("random", "brute_force")
        arm = Source.RANDOM if drawn_by_chance else arm_of(place, self._search.baseline)
        found = self._find(study, trial, arm, random.Random(seed))  # noqa: S311
        if found is None:
            return {}
        self.chosen, params = found
        return params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _find(
        self, study: optuna.Study, trial: FrozenTrial, arm: Source, chance: random.Random
    ) -> tuple[Draw, dict[str, Any]] | None:
        """The first draw that may be trained; of a pool of them the one that is preferred."""
        seen = keys_in(study) | {self._base}
        infeasible = duplicates = 0
        if self._search.sampler == "brute_force":
            return self._any_other(seen, arm, chance, 0, 0)
        if arm is Source.SAMPLER and self._by_prediction:
            predicted = self._best_predicted(seen)
            if predicted is not None:
                return Draw(predicted.member.model, predicted.key, arm), dict(predicted.member.params)
        found: list[tuple[Draw, dict[str, Any]]] = []
        pool = self.pool if arm is Source.SAMPLER and self.prefer else 1
        small = self._space.size <= MEMBERS
        for attempt in range(TRIES + (TRIES if small else CHANCES)):
            if arm is Source.RANDOM or attempt >= TRIES:
                assignment = draw_by_chance(self._space, chance)
            else:
                assignment = self._by_sampler(study, trial)
            try:
                model = solve(self._space, assignment, self._search.budget)
            except Infeasible:
                infeasible += 1
                continue
            key = key_of(model)
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            params = {path: category(value) for path, value in assignment.items()}
            found.append((Draw(model, key, arm), params))
            if len(found) == pool:
                break
        if not found:
            return self._any_other(seen, arm, chance, infeasible, duplicates)
        draws = [draw for draw, _ in found]
        best = draws[0] if len(found) == 1 or self.prefer is None else self.prefer(draws)
        message = replace(best, infeasible=infeasible, duplicates=duplicates, passed=len(found) - 1)
        return message, found[draws.index(best)][1]

    def _by_sampler(self, study: optuna.Study, trial: FrozenTrial) -> Assignment:
        given = self._inner.infer_relative_search_space(study, trial)
        several = {name: one for name, one in self._distributions.items() if not one.single()}
        common = several if isinstance(self._inner, TPESampler) and not self._conditional else given
        relative = self._inner.sample_relative(study, trial, common)

        def pick(path: str, values: Sequence[Value]) -> Value:
            if len(values) == 1:
                return values[0]
            if path not in relative:
                relative[path] = self._inner.sample_independent(study, trial, path, self._distributions[path])
            return next(value for value in values if category(value) == relative[path])

        assignment = self._space.draw(pick)
        if self._space.solved is not None:
            distribution = self._distributions[FILL]
            low, high = self._space.solved.fill.fill
            drawn = relative.get(FILL)
            if drawn is None and low < high:
                drawn = self._inner.sample_independent(study, trial, FILL, distribution)
            assignment[FILL] = low if drawn is None else drawn
        return assignment

    @property
    def _conditional(self) -> bool:
        return any(dimension.when for dimension in self._space.dimensions.values())

    @property
    def _by_prediction(self) -> bool:
        """Whether the candidates of the best predicted accuracy are tried, and not what an Optuna sampler draws."""
        search = self._search
        return search.sampler == "predicted" and self._plan.target == "imagenet" and len(search.objectives) == 1

    def _best_predicted(self, seen: set[str]) -> Predicted | None:
        """The best predicted member that is not in the study, of a new backbone as long as there is one."""
        left = [one for one in self._plan.predicted if one.key not in seen]
        drawn = {one.shape.key for one in self._plan.predicted if one.key in seen}
        drawn.add(shape_of(self._plan.base).key)
        return next((one for one in left if one.shape.key not in drawn), left[0] if left else None)

    def _any_other(
        self, seen: set[str], arm: Source, chance: random.Random, infeasible: int, duplicates: int
    ) -> tuple[Draw, dict[str, Any]] | None:
        """Of a space that is small enough to look at each member, one that was not drawn yet."""
        rest = [member for key, member in self._plan.members.items() if key not in seen]
        if not rest:
            return None
        member = chance.choice(rest)
        return Draw(member.model, key_of(member.model), arm, infeasible, duplicates), dict(member.params)


def make_inner(sampler: Sampler, seed: int) -> BaseSampler:
    """The sampler of Optuna that a spec names. `brute_force` picks among what is left, so it needs none."""
    match sampler:
        case "tpe" | "predicted":
            return TPESampler(seed=seed)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=16)
        case "gp":
            return GPSampler(seed=seed)
        case "random" | "brute_force":
            return RandomSampler(seed=seed)
        case _:
            assert_never(sampler)


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """What each field is drawn from, as Optuna has it."""
    found: dict[str, BaseDistribution] = {}
    for path, dimension in space.dimensions.items():
        values = dimension.values
        if isinstance(values, range):
            found[path] = optuna.distributions.IntDistribution(values[0], values[-1], step=values.step)
        else:
            found[path] = CategoricalDistribution([category(value) for value in values])
    if space.solved is not None:
        found[FILL] = FloatDistribution(*space.solved.fill.fill)
    return found


def draw_by_chance(space: Space, chance: random.Random) -> Assignment:
    """An assignment in which every value of a field is equally likely."""
    assignment = space.draw(lambda _path, values: values[chance.randrange(len(values))])
    if space.solved is not None:
        assignment[FILL] = chance.uniform(*space.solved.fill.fill)
    return assignment


def keys_in(study: optuna.Study) -> set[str]:
    """The candidates that were ever drawn; those of interrupted trainings wait to be trained on."""
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs[RECORD]["key"] for trial in trials if RECORD in trial.user_attrs}
