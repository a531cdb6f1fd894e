"""Draws are within the budget, new, and a function of the seed and of finished trials."""

from collections import Counter
from collections.abc import Callable

import optuna
import pytest

from t2tbuild import load_search_spec, predict_cost
from t2tbuild.accuracy.features import shape_of
from t2tbuild.errors import FieldError, InputError
from t2tbuild.nas.budget import optuna_params
from t2tbuild.nas.members import enumerate_members
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Record, Source, State
from t2tbuild.nas.sampler import FeasibleSampler, source_of
from t2tbuild.nas.storage import RECORD
from t2tbuild.spec import ModelSpec, SearchSpec

Tiny = Callable[..., SearchSpec]
RATIO = "{backbone.mlp_ratio: {choices: [1, 2]}, "


def ask(spec: SearchSpec, count: int) -> list[tuple[ModelSpec, Source]]:
    """Ask for `count` candidates, and return for each a value that depends on the width."""
    planned = plan(spec)
    sampler = FeasibleSampler(spec.search, planned)
    directions = ["maximize"] * len(spec.search.objectives)
    study = optuna.create_study(sampler=sampler, directions=directions)
    found: list[tuple[ModelSpec, Source]] = []
    for _ in range(count):
        trial = study.ask()
        for name, distribution in sampler.infer_relative_search_space(study, study.trials[-1]).items():
            if name in trial.relative_params:
                trial._suggest(name, distribution)
        draw = sampler.chosen
        if draw is None:
            break
        trial.set_user_attr(RECORD, Record(str(trial.number), State.COMPLETED, draw.model, key=draw.key).to_json())
        study.tell(trial, [draw.model.backbone.embed_dim / 640] * len(directions))
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


def test_draws_are_a_function_of_the_seed() -> None:
    spec = load_search_spec("deep_narrow")
    assert ask(spec, 15) == ask(spec, 15)
    assert ask(load_search_spec("deep_narrow", ["search.seed=1"]), 15) != ask(spec, 15)


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
        if predict_cost(model := plan(spec).space.model({"backbone.mlp_ratio": ratio}, depth)).macs <= 5_000_000
    }
    assert set(enumerate_members(plan(spec).space, spec.search)) == wanted
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


def test_the_best_predicted_are_tried_first_with_different_backbones() -> None:
    spec = load_search_spec("deep_narrow", ["search.random_fraction=0"])
    predicted = [one for one in plan(spec).predicted if one.key != key_of(plan(spec).base)]
    models = [model for model, _ in ask(spec, 6)]
    shapes = [shape_of(model).key for model in models]
    assert len(set(shapes)) == 6
    base = shape_of(plan(spec).base).key
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
        assert predict_cost(model).macs <= 5_000_000
        assert predict_cost(model.model_copy(update={"backbone": wider})).macs > 5_000_000


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
    planned = plan(spec)
    sampler = FeasibleSampler(spec.search, planned)
    pools: list[int] = []

    def widest(draws: object) -> object:
        assert isinstance(draws, list)
        pools.append(len(draws))
        return max(draws, key=lambda draw: draw.model.backbone.embed_dim)

    sampler.choose_draw, sampler.pool = widest, 12  # type: ignore[assignment]
    study = optuna.create_study(sampler=sampler, direction="maximize")
    trial = study.ask()
    assert trial.relative_params["backbone.embed_dim"] >= 576
    assert pools == [12]
    assert sampler.chosen is not None
    assert sampler.chosen.model.backbone.embed_dim == trial.relative_params["backbone.embed_dim"]
