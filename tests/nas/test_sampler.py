"""Draws are within the budget, new, and a function of the seed and of finished trials."""

from collections import Counter
from collections.abc import Callable, Sequence

import optuna
import pytest

from t2tbuild import load_search_spec, predict_cost
from t2tbuild.accuracy.features import shape_of
from t2tbuild.errors import FieldError, InputError
from t2tbuild.nas import members as members_module
from t2tbuild.nas.budget import optuna_params
from t2tbuild.nas.draw import Choice, Draw, source_of
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Source
from t2tbuild.nas.sampler import CandidateSampler, directions_of
from t2tbuild.nas.space import Assignment, Space
from t2tbuild.spec import ModelSpec, SearchSpec
from t2tbuild.spec.budget import Budget

Tiny = Callable[..., SearchSpec]
RATIO = "{backbone.mlp_ratio: {choices: [1, 2]}, "


def ask(spec: SearchSpec, count: int) -> list[tuple[ModelSpec, Source]]:
    """Draw `count` candidates, and finish each with a value that depends on the width."""
    planned = plan(spec)
    sampler = CandidateSampler(spec.search, planned)
    study = optuna.create_study(directions=directions_of(spec.search))
    found: list[tuple[ModelSpec, Source]] = []
    seen: set[str] = set()
    for index in range(count):
        draw = sampler.draw(index, study.get_trials(deepcopy=False), seen)
        if draw is None:
            break
        values = [draw.model.backbone.embed_dim / 640] * len(spec.search.objectives)
        distributions = {name: one for name, one in sampler.distributions.items() if name in draw.params}
        study.add_trial(
            optuna.create_trial(
                values=values, params=dict(draw.params), distributions=distributions, system_attrs=draw.system_attrs
            )
        )
        seen.add(draw.key)
        found.append((draw.model, draw.source))
    return found


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_every_draw_is_new_and_within_the_budget(sampler: str) -> None:
    spec = load_search_spec("deep_narrow", [f"search.sampler={sampler}"])
    models = [model for model, _ in ask(spec, 40)]
    assert len({key_of(model) for model in models}) == 40
    assert all(predict_cost(model).macs <= 5_000_000_000 for model in models)


@pytest.mark.slow
def test_draws_are_a_function_of_the_seed() -> None:
    spec = load_search_spec("deep_narrow", ["search.sampler=tpe"])
    assert ask(spec, 15) == ask(spec, 15)
    assert ask(load_search_spec("deep_narrow", ["search.sampler=tpe", "search.seed=1"]), 15) != ask(spec, 15)


def test_the_sampler_learns_and_uniform_draws_do_not() -> None:
    """The value rises with the width: after its random start TPE draws wide models, the random arm all widths."""
    drawn = ask(load_search_spec("deep_narrow", ["search.sampler=tpe"]), 60)[20:]
    width = {
        source: [model.backbone.embed_dim for model, who in drawn if who is source]
        for source in (Source.SAMPLER, Source.RANDOM)
    }
    mean = {source: sum(widths) / len(widths) for source, widths in width.items()}
    assert mean[Source.SAMPLER] > mean[Source.RANDOM] + 64
    assert len(set(width[Source.RANDOM])) >= 5


@pytest.mark.parametrize(("random_fraction", "wanted"), [(0.5, 5), (0.0, 0), (0.25, 2), (0.9, 9)])
def test_random_candidates_are_spread_evenly(random_fraction: float, wanted: int) -> None:
    sources = Counter(source_of(index, random_fraction) for index in range(10))
    assert sources[Source.RANDOM] == wanted


def test_brute_force_tries_every_member_once(tiny: Tiny) -> None:
    space = "search.space={backbone.mlp_ratio: {choices: [1, 2]}, backbone.depth: {fill: [0.1, 1.0], high: 3}}"
    spec = tiny(space, "search.sampler=brute_force")
    wanted = {
        key_of(model)
        for ratio in (1, 2)
        for depth in (1, 2, 3)
        if predict_cost(model := plan(spec).space.model({"backbone.mlp_ratio": ratio}, depth)).macs <= 3_000_000
    }
    assert {member.key for member in plan(spec).members} == wanted
    assert {key_of(model) for model, _ in ask(spec, 50)} == wanted - {key_of(plan(spec).base)}


@pytest.mark.parametrize(
    ("space", "sampler", "message"),
    [
        (
            "{backbone.mlp_ratio: {low: 1, high: 64}, backbone.depth: {low: 1, high: 600}}",
            "brute_force",
            "brute force tries every member, but the space has 38.4K assignments",
        ),
        (
            RATIO + "backbone.embed_dmi: {choices: [64], when: {backbone.mlp_ratio: 2}}}",
            "tpe",
            "embed_dmi",
        ),
        (
            RATIO + "backbone.num_heads: {choices: [5, 7], when: {backbone.mlp_ratio: 2}}}",
            "tpe",
            "no model is valid where its condition holds",
        ),
        (
            RATIO + "backbone.num_heads: {choices: [4], when: {backbone.mlp_ratio: 99}}}",
            "tpe",
            "its condition never holds",
        ),
    ],
)
def test_values_that_are_never_valid_are_refused(tiny: Tiny, space: str, sampler: str, message: str) -> None:
    with pytest.raises((InputError, FieldError), match=message):
        plan(tiny(f"search.space={space}", f"search.sampler={sampler}"))


@pytest.mark.slow
def test_a_lower_bound_holds_too() -> None:
    spec = load_search_spec("deep_narrow", ["search.budget.macs={max: 5G, min: 4800M}"])
    models = [model for model, _ in ask(spec, 30)]
    assert all(4_800_000_000 <= predict_cost(model).macs <= 5_000_000_000 for model in models)


def test_conditional_fields_are_drawn_where_their_condition_holds() -> None:
    models = [model for model, _ in ask(load_search_spec("cnn_options", ["search.sampler=tpe"]), 40)]
    kinds = Counter(model.backbone.kind for model in models)
    assert set(kinds) == {"plain", "dense"}
    assert len({model.backbone.growth_rate for model in models if model.backbone.kind == "dense"}) > 1
    assert any(model.backbone.ghost for model in models)
    assert any(model.backbone.squeeze_excite for model in models)


@pytest.mark.slow
def test_the_best_predicted_are_tried_first_with_different_backbones() -> None:
    space = "{backbone.embed_dim: {choices: [256, 320, 384, 448]}, backbone.depth: {fill: [0.8, 1.0]}}"
    spec = load_search_spec("deep_narrow", ["search.random_fraction=0", f"search.space={space}"])
    planned = plan(spec)
    predicted = [one for one in planned.predicted if one.key != key_of(planned.base)]
    models = [model for model, _ in ask(spec, 6)]
    shapes = [shape_of(model).key for model in models]
    assert len(set(shapes)) == 6
    base = shape_of(planned.base).key
    assert shapes == [one for one in dict.fromkeys(one.shape.key for one in predicted) if one != base][:6]


def test_blocks_may_differ() -> None:
    models = [model for model, _ in ask(load_search_spec("per_block"), 12)]
    assert all(len(model.backbone.heads) == model.backbone.depth for model in models)
    assert any(len(set(model.backbone.mlp_ratios)) > 2 for model in models)
    assert len({model.backbone.depth for model in models}) > 1


def test_the_stage_list_may_be_searched() -> None:
    models = [model for model, _ in ask(load_search_spec("tokenizer"), 20)]
    assert len({len(model.tokenizer.windows) for model in models}) == 2
    assert len({model.tokenizer.windows[0].patch_size for model in models}) > 1


def test_a_width_can_be_solved_as_a_depth_is(tiny: Tiny) -> None:
    space = "search.space={backbone.embed_dim: {fill: [1.0, 1.0], low: 32, high: 256, step: 32}, "
    space += "backbone.mlp_ratio: {choices: [1, 2, 3]}}"
    spec = tiny(space)
    for model, _ in ask(spec, 3):
        wider = model.backbone.model_copy(
            update={"embed_dim": model.backbone.embed_dim + 32, "num_heads": None, "head_dim": 32}
        )
        assert predict_cost(model).macs <= 3_000_000
        assert predict_cost(model.model_copy(update={"backbone": wider})).macs > 3_000_000


def test_an_enqueued_model_has_optuna_params() -> None:
    spec = load_search_spec("deep_narrow")
    planned = plan(spec)
    params = optuna_params(planned.space, planned.base, spec.search.budget)
    assert params is not None
    assert params["backbone.embed_dim"] == 384
    assert params["tokenizer.stages.0.attention"] == "performer"
    shallow = planned.base.model_copy(update={"backbone": planned.base.backbone.model_copy(update={"depth": 3})})
    assert optuna_params(planned.space, shallow, spec.search.budget) is None


def test_choose_draw_picks_from_the_pool() -> None:
    spec = load_search_spec("deep_narrow", ["search.random_fraction=0", "search.sampler=tpe"])
    pools: list[int] = []

    def widest(draws: Sequence[Draw]) -> Draw:
        pools.append(len(draws))
        return max(draws, key=lambda draw: draw.model.backbone.embed_dim)

    draw = CandidateSampler(spec.search, plan(spec)).draw(0, [], set(), pool=12, choose=Choice("snip", widest))
    assert draw is not None
    assert draw.params["backbone.embed_dim"] == draw.model.backbone.embed_dim >= 576
    assert (pools, draw.passed_over) == ([12], 11)
    assert draw.chosen_by == draw.record().chosen_by == "snip"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_the_last_members_of_a_space_are_found_at_once(tiny: Tiny, sampler: str) -> None:
    """Where all but one member were drawn, no draw is wasted on the others."""
    spec = tiny(f"search.sampler={sampler}", "search.random_fraction=0")
    planned = plan(spec)
    members = [member for member in planned.members if member.key != key_of(planned.base)]
    drawer = CandidateSampler(spec.search, planned)
    for left in members[:: len(members) // 5]:
        draw = drawer.draw(0, [], {member.key for member in members} - {left.key})
        assert draw is not None
        assert draw.key == left.key
    assert drawer.draw(0, [], {member.key for member in members}) is None


def test_the_nearest_assignments_come_first(tiny: Tiny) -> None:
    planned = plan(tiny())
    given = planned.members.assignments[0]
    near = list(planned.members.nearest(given))
    assert near[0] == given
    assert len(near) == len(planned.members.assignments)
    differences = [sum(one[path] != given[path] for path in given) for one in near]
    assert differences[1] == 1
    assert differences[-1] >= len(given) - 1


def test_an_assignment_is_solved_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[object] = []
    solve = members_module.solved_values

    def counted(space: Space, assignment: Assignment, budget: Budget) -> tuple[int, range]:
        solved.append(tuple(assignment.items()))
        return solve(space, assignment, budget)

    monkeypatch.setattr(members_module, "solved_values", counted)
    ask(tiny("search.sampler=tpe"), 60)
    assert len(solved) == len(set(solved))
