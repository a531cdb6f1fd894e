"""The sampler of candidates: each is new and within the budget before it is built or trained."""

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, assert_never

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.validity import PREDICTOR
from t2tbuild.nas.draw import Choice, Draw, source_of
from t2tbuild.nas.members import Member, PredictedMember
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.record import Source
from t2tbuild.nas.space import FILL, Assignment, Space, to_category
from t2tbuild.spec.search import Sampler, Search
from t2tbuild.spec.space import Value
from t2tbuild.training.seeds import fold_in

QUICK_TRIES = 30
"""Random assignments that are tried before all of an enumerated space are shuffled."""
UNIFORM_TRIES = 5_000
"""After this many uniform draws without a new candidate, a space that is too large to enumerate is exhausted."""


class CandidateSampler:
    """Draws complete candidates: predicted, at random, or where an Optuna sampler points to.

    `proposals`, of a supernet that decides, come before all that are not drawn at random.

    A draw is a function of the seed, the index and the finished trials, so a continued search samples the same
    candidates as an uninterrupted one. The base is never drawn: it is trained anyway. Optuna's samplers see a study of
    their own in memory, with a copy of each finished trial. Where they suggest an assignment without a new member, the
    nearest one with a new member is taken.
    """

    def __init__(self, search: Search, plan: Plan) -> None:
        self._search, self._plan, self._space = search, plan, plan.space
        self._members, self._base = plan.members, key_of(plan.base)
        self.distributions = build_distributions(plan.space)
        self.proposals: tuple[Member, ...] = ()
        self._study: optuna.Study | None = None
        self._copied: set[int] = set()
        self._intersection_space = IntersectionSearchSpace(include_pruned=True)

    def draw(
        self,
        index: int,
        finished: Iterable[FrozenTrial],
        seen: set[str],
        *,
        pool: int = 1,
        choose: Choice | None = None,
    ) -> Draw | None:
        """Return the candidate at an index, None where the space has no new one.

        `seen` has the keys of all candidates before it. `finished` is read only where an Optuna sampler suggests, which
        learns from it. `choose` picks one of `pool` draws of the Optuna sampler.
        """
        seed = fold_in(self._search.seed, index) % 2**32
        rng = random.Random(seed)  # noqa: S311
        seen = seen | {self._base}
        if self._search.sampler in ("random", "brute_force"):
            return self._draw_random(seen, rng)
        if source_of(index, self._search.random_fraction) is Source.RANDOM:
            return self._draw_random(seen, rng)
        if (proposed := next((one for one in self.proposals if one.key not in seen), None)) is not None:
            return Draw(proposed, Source.SAMPLER, chosen_by="supernet")
        if self._uses_prediction and (predicted := self._next_predicted(seen)) is not None:
            return Draw(predicted.member, Source.SAMPLER, chosen_by=PREDICTOR)
        return self._draw_best(finished, seen, seed, rng, pool if choose else 1, choose)

    def _draw_best(
        self,
        finished: Iterable[FrozenTrial],
        seen: set[str],
        seed: int,
        rng: random.Random,
        pool: int,
        choose: Choice | None,
    ) -> Draw | None:
        study = self._sync(finished, seed)
        suggestions = self._suggest(study)
        draws: list[Draw] = []
        while len(draws) < pool and (draw := self._draw_suggested(*next(suggestions), seen, rng)) is not None:
            draws.append(draw)
            seen.add(draw.key)
        suggestions.close()
        if not draws:
            return None
        best = draws[0] if choose is None or len(draws) == 1 else replace(choose.pick(draws), chosen_by=choose.kind)
        rejected = {name: sum(getattr(draw, name) for draw in draws) for name in ("infeasible", "duplicates")}
        return replace(best, passed_over=len(draws) - 1, **rejected)

    def _suggest(self, study: optuna.Study) -> Generator[tuple[Assignment, Mapping[str, Any]], None, None]:
        """Yield suggestions of the Optuna sampler for one trial, each with what the sampler notes on the trial."""
        asked = study.ask()
        trial = study.get_trials(deepcopy=False)[-1]
        fields = self._relative_search_space(study, trial)
        try:
            while True:
                relative_params = study.sampler.sample_relative(study, trial, fields)
                assignment = self._assign(study, trial, relative_params)
                yield assignment, study.get_trials(deepcopy=False)[-1].system_attrs
        finally:
            study.tell(asked, state=TrialState.FAIL)  # the sampler does not learn from it; the finished trial is copied

    def _relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the fields that the Optuna sampler samples together."""
        if self._search.sampler in ("tpe", "predicted") and len(self._search.objectives) == 1:
            # TPE is multivariate for one objective (Optuna 5); its own search space reads every trial again
            common = self._intersection_space.calculate(study)
            return {path: distribution for path, distribution in common.items() if not distribution.single()}
        return study.sampler.infer_relative_search_space(study, trial)

    def _assign(self, study: optuna.Study, trial: FrozenTrial, relative_params: Mapping[str, Any]) -> Assignment:
        """Return an assignment of the values that were sampled together, and of one alone for each other field."""

        def sample(path: str) -> Any:
            if path in relative_params:
                return relative_params[path]
            return study.sampler.sample_independent(study, trial, path, self.distributions[path])

        def pick(path: str, values: Sequence[Value]) -> Value:
            if len(values) == 1:
                return values[0]
            sampled = sample(path)
            return next(value for value in values if to_category(value) == sampled)

        assignment = self._space.draw(pick)
        if self._space.solved is not None:
            assignment[FILL] = sample(FILL)
        return assignment

    def _draw_suggested(
        self, assignment: Assignment, attrs: Mapping[str, Any], seen: set[str], rng: random.Random
    ) -> Draw | None:
        """Return the new candidate nearest to what the Optuna sampler suggests."""
        fill = assignment.get(FILL)

        def pick(members: Sequence[Member]) -> Member:
            return min(members, key=lambda one: abs(one.params[FILL] - fill)) if fill is not None else members[0]

        listed = self._members.nearest(assignment) if self._members.assignments else self._uniform(rng, assignment)
        return self._first_new(listed, seen, pick, Source.SAMPLER, attrs)

    def _draw_random(self, seen: set[str], rng: random.Random) -> Draw | None:
        """Return a random new candidate: every assignment that has one is equally likely."""
        if self._members.assignments:
            quick = (rng.choice(self._members.assignments) for _ in range(QUICK_TRIES))
            listed: Iterator[Assignment] = (one for some in (quick, self._members.shuffled(rng)) for one in some)
        else:
            listed = self._uniform(rng)
        return self._first_new(listed, seen, rng.choice, Source.RANDOM, {})

    def _uniform(self, rng: random.Random, *first: Assignment) -> Iterator[Assignment]:
        yield from first
        for _ in range(UNIFORM_TRIES):
            yield self._space.draw_uniform(rng)

    def _first_new(
        self,
        assignments: Iterator[Assignment],
        seen: set[str],
        pick: Callable[[Sequence[Member]], Member],
        source: Source,
        attrs: Mapping[str, Any],
    ) -> Draw | None:
        """Return a new member of the first assignment that has one."""
        infeasible = duplicates = 0
        for assignment in assignments:
            members = self._members.solve(assignment)
            new = [member for member in members if member.key not in seen]
            if new:
                return Draw(pick(new), source, attrs, infeasible, duplicates)
            infeasible += not members
            duplicates += bool(members)
        return None

    def _sync(self, finished: Iterable[FrozenTrial], seed: int) -> optuna.Study:
        """Return the study in memory with a copy of each finished trial, and a sampler with the seed of a draw."""
        if self._study is None:
            self._study = optuna.create_study(directions=directions_of(self._search))
        for trial in finished:
            if trial.number not in self._copied:
                self._copied.add(trial.number)
                self._study.add_trial(trial)
        self._study.sampler = make_sampler(self._search.sampler, seed)
        return self._study

    @property
    def _uses_prediction(self) -> bool:
        """Whether candidates are taken by their predicted accuracy instead of from an Optuna sampler."""
        search = self._search
        return search.sampler == "predicted" and self._plan.target == "imagenet" and len(search.objectives) == 1

    def _next_predicted(self, seen: set[str]) -> PredictedMember | None:
        """Return the best predicted member that is not in the study, of a new backbone while there is one."""
        drawn = {self._backbones[key] for key in seen if key in self._backbones}
        drawn.add(shape_of(self._plan.base).key)
        left = [one for one in self._plan.predicted if one.key not in seen]
        return next((one for one in left if self._backbones[one.key] not in drawn), left[0] if left else None)

    @cached_property
    def _backbones(self) -> dict[str, str]:
        """The backbone of each predicted member, by its key."""
        return {one.key: one.shape.key for one in self._plan.predicted}


def make_sampler(sampler: Sampler, seed: int) -> BaseSampler:
    """Return the Optuna sampler that a spec names."""
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


def directions_of(search: Search) -> list[StudyDirection]:
    """Return the direction of each objective."""
    maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    return [maximize if objective == "accuracy" else minimize for objective in search.objectives]


def build_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the Optuna distribution of each field."""
    found: dict[str, BaseDistribution] = {}
    for path, dimension in space.dimensions.items():
        values = dimension.values
        if isinstance(values, range):
            found[path] = IntDistribution(values[0], values[-1], step=values.step)
        else:
            found[path] = CategoricalDistribution([to_category(value) for value in values])
    if space.solved is not None:
        found[FILL] = FloatDistribution(*space.solved.fill.fill)
    return found
