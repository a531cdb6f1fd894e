"""The sampler of candidates: each candidate is within the budget and new before it is built or trained."""

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
from t2tbuild.nas.members import MAX_MEMBERS, PredictedMember
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import Source
from t2tbuild.nas.space import FILL, Assignment, Space, to_category
from t2tbuild.nas.storage import RECORD
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Sampler, Search
from t2tbuild.spec.space import Value
from t2tbuild.training.sampler import fold_in

SAMPLER_TRIES = 100
"""After this many draws of the Optuna sampler without a new candidate within the budget, uniform draws follow."""
UNIFORM_TRIES = 5_000
"""After this many uniform draws without a new candidate, a space that is too large to enumerate is exhausted."""


@dataclass(frozen=True)
class Draw:
    """A candidate, its source, and how many draws were rejected for it: out of budget, not new, or ranked below it."""

    model: ModelSpec
    key: str
    source: Source
    infeasible: int = 0
    duplicates: int = 0
    passed_over: int = 0


def trial_index(study: optuna.Study, number: int) -> int:
    """Return the index of a trial among the valid ones. Interrupted and unneeded trials ended as FAIL."""
    earlier = (trial for trial in study.get_trials(deepcopy=False) if trial.number < number)
    return sum(trial.state is not TrialState.FAIL for trial in earlier)


def source_of(index: int, random_fraction: float) -> Source:
    """Return the source of the candidate at an index. Random candidates are spread evenly."""
    return Source.RANDOM if int((index + 1) * random_fraction) > int(index * random_fraction) else Source.SAMPLER


class FeasibleSampler(BaseSampler):
    """Draws from an Optuna sampler until a candidate is valid, within the budget and new.

    A draw is a function of the seed, the trial's index and the finished trials, so with one worker a continued study
    samples the same candidates as an uninterrupted one. `chosen` is the last draw, None where no new candidate was
    found. `choose_draw` picks the best of `pool` draws of the Optuna sampler. The base is never drawn: it is trained
    anyway.
    """

    def __init__(self, search: Search, plan: Plan) -> None:
        self._search, self._plan, self._space, self._base = search, plan, plan.space, key_of(plan.base)
        self.choose_draw: Callable[[Sequence[Draw]], Draw] | None = None
        self._distributions = build_distributions(plan.space)
        self._sampler: BaseSampler = RandomSampler()
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
        if RECORD in trial.user_attrs or "fixed_params" in trial.system_attrs:  # enqueued or retried
            return {}
        index = trial_index(study, trial.number)
        seed = fold_in(self._search.seed, index) % 2**32
        self._sampler = make_sampler(self._search.sampler, seed)
        is_random = self._search.sampler in ("random", "brute_force")
        source = Source.RANDOM if is_random else source_of(index, self._search.random_fraction)
        found = self._find(study, trial, source, random.Random(seed))  # noqa: S311
        if found is None:
            return {}
        self.chosen, params = found
        return params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def _find(
        self, study: optuna.Study, trial: FrozenTrial, source: Source, rng: random.Random
    ) -> tuple[Draw, dict[str, Any]] | None:
        """Return the best of the first `pool` draws that are valid and new, with its parameters."""
        seen = known_keys(study) | {self._base}
        infeasible = duplicates = 0
        if self._search.sampler == "brute_force":
            return self._draw_untried(seen, source, rng, 0, 0)
        if source is Source.SAMPLER and self._uses_prediction:
            predicted = self._next_predicted(seen)
            if predicted is not None:
                return Draw(predicted.member.model, predicted.key, source), dict(predicted.member.params)
        found: list[tuple[Draw, dict[str, Any]]] = []
        pool = self.pool if source is Source.SAMPLER and self.choose_draw else 1
        small = self._space.size <= MAX_MEMBERS
        for attempt in range(SAMPLER_TRIES + (SAMPLER_TRIES if small else UNIFORM_TRIES)):
            if source is Source.RANDOM or attempt >= SAMPLER_TRIES:
                assignment = draw_uniform(self._space, rng)
            else:
                assignment = self._draw_from_sampler(study, trial)
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
            params = {path: to_category(value) for path, value in assignment.items()}
            found.append((Draw(model, key, source), params))
            if len(found) == pool:
                break
        if not found:
            return self._draw_untried(seen, source, rng, infeasible, duplicates)
        draws = [draw for draw, _ in found]
        best = draws[0] if len(found) == 1 or self.choose_draw is None else self.choose_draw(draws)
        params = found[draws.index(best)][1]
        return replace(best, infeasible=infeasible, duplicates=duplicates, passed_over=len(found) - 1), params

    def _draw_from_sampler(self, study: optuna.Study, trial: FrozenTrial) -> Assignment:
        given = self._sampler.infer_relative_search_space(study, trial)
        several = {name: one for name, one in self._distributions.items() if not one.single()}
        common = several if isinstance(self._sampler, TPESampler) and not self._conditional else given
        relative = self._sampler.sample_relative(study, trial, common)

        def pick(path: str, values: Sequence[Value]) -> Value:
            if len(values) == 1:
                return values[0]
            if path not in relative:
                relative[path] = self._sampler.sample_independent(study, trial, path, self._distributions[path])
            return next(value for value in values if to_category(value) == relative[path])

        assignment = self._space.draw(pick)
        if self._space.solved is not None:
            distribution = self._distributions[FILL]
            low, high = self._space.solved.fill.fill
            drawn = relative.get(FILL)
            if drawn is None and low < high:
                drawn = self._sampler.sample_independent(study, trial, FILL, distribution)
            assignment[FILL] = low if drawn is None else drawn
        return assignment

    @property
    def _conditional(self) -> bool:
        return any(dimension.when for dimension in self._space.dimensions.values())

    @property
    def _uses_prediction(self) -> bool:
        """Whether candidates are taken by their predicted accuracy instead of from an Optuna sampler."""
        search = self._search
        return search.sampler == "predicted" and self._plan.target == "imagenet" and len(search.objectives) == 1

    def _next_predicted(self, seen: set[str]) -> PredictedMember | None:
        """Return the best predicted member that is not in the study, of a new backbone while there is one."""
        left = [one for one in self._plan.predicted if one.key not in seen]
        drawn = {one.shape.key for one in self._plan.predicted if one.key in seen}
        drawn.add(shape_of(self._plan.base).key)
        return next((one for one in left if one.shape.key not in drawn), left[0] if left else None)

    def _draw_untried(
        self, seen: set[str], source: Source, rng: random.Random, infeasible: int, duplicates: int
    ) -> tuple[Draw, dict[str, Any]] | None:
        """Return a random member that was not drawn yet. None where there is none, or the space is not enumerated."""
        rest = [member for key, member in self._plan.members.items() if key not in seen]
        if not rest:
            return None
        member = rng.choice(rest)
        return Draw(member.model, key_of(member.model), source, infeasible, duplicates), dict(member.params)


def make_sampler(sampler: Sampler, seed: int) -> BaseSampler:
    """Return the Optuna sampler that a spec names. `brute_force` draws from the untried members instead."""
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


def build_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the Optuna distribution of each field."""
    found: dict[str, BaseDistribution] = {}
    for path, dimension in space.dimensions.items():
        values = dimension.values
        if isinstance(values, range):
            found[path] = optuna.distributions.IntDistribution(values[0], values[-1], step=values.step)
        else:
            found[path] = CategoricalDistribution([to_category(value) for value in values])
    if space.solved is not None:
        found[FILL] = FloatDistribution(*space.solved.fill.fill)
    return found


def draw_uniform(space: Space, rng: random.Random) -> Assignment:
    """Draw an assignment in which every value of a field is equally likely."""
    assignment = space.draw(lambda _path, values: values[rng.randrange(len(values))])
    if space.solved is not None:
        assignment[FILL] = rng.uniform(*space.solved.fill.fill)
    return assignment


def known_keys(study: optuna.Study) -> set[str]:
    """Return the keys of all candidates that were drawn, interrupted ones included: they will be continued."""
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs[RECORD]["key"] for trial in trials if RECORD in trial.user_attrs}
