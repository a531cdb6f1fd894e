"""The largest model within a budget along one axis."""

import contextlib

import pytest

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.cost.bisection import largest
from t2tbuild.cost.budget import is_within
from t2tbuild.cost.fit import Axis, Fit, fit
from t2tbuild.errors import FieldError
from t2tbuild.nas.budget import Infeasible, solved_range
from t2tbuild.nas.space import Space
from t2tbuild.spec import ModelSpec, catalog
from t2tbuild.spec.budget import Budget

OURS = {name: spec for name in catalog.names("specs") if isinstance(spec := load_spec(name).model, ModelSpec)}
PATHS = {Axis.TOKEN_DIM: "tokenizer", Axis.IMAGE_SIZE: "image_size"}


def ours(name: str, *overrides: str) -> ModelSpec:
    model = load_spec(name, overrides).model
    assert isinstance(model, ModelSpec)
    return model


@pytest.mark.parametrize("limit", range(9))
def test_largest_is_the_last_that_fits(limit: int) -> None:
    asked: list[int] = []

    def within(value: int) -> bool:
        asked.append(value)
        return value <= limit

    assert largest(range(1, 8), within) == (min(limit, 7) or None)
    assert len(asked) <= 3  # of seven


def fits_of(model: ModelSpec, budget: Budget) -> dict[Axis, Fit]:
    """Return the fit along each axis of a model."""
    found = {}
    for axis in Axis:
        with contextlib.suppress(FieldError):
            found[axis] = fit(model, budget, axis)
    return found


@pytest.mark.parametrize("name", OURS)
def test_the_best_is_within_the_next_is_over_and_nothing_else_changes(name: str) -> None:
    model = OURS[name]
    budget = Budget(macs=round(predict_cost(model).macs * 1.3))
    found = fits_of(model, budget)
    assert len(found) >= 3
    for axis, one in found.items():
        assert is_within(one.best.model, budget)
        assert one.best.cost == predict_cost(one.best.model)
        assert one.over is None or not is_within(one.over.model, budget)
        before, after = model.model_dump(), one.best.model.model_dump()
        changed = {field for field in before if before[field] != after[field]}
        assert changed <= {PATHS.get(axis, "backbone")}


@pytest.mark.slow
def test_axes_of_models() -> None:
    plenty = Budget(macs=10**12)
    both = {Axis.DEPTH, Axis.EMBED_DIM, Axis.MLP_RATIO, Axis.IMAGE_SIZE}
    assert set(fits_of(OURS["t2t_vit_14"], plenty)) == both | {Axis.TOKEN_DIM}
    assert set(fits_of(OURS["vit_b16"], plenty)) == both
    assert set(fits_of(OURS["t2t_vit_dense"], plenty)) == both - {Axis.DEPTH} | {Axis.GROWTH_RATE, Axis.TOKEN_DIM}
    assert fit(OURS["t2t_vit_16_ghost"], plenty, Axis.MLP_RATIO).best.value == 64


def test_the_heads_follow_the_width() -> None:
    best = fit(ours("t2t_vit_14"), Budget(macs=3 * 10**9), Axis.EMBED_DIM).best.model.backbone
    assert (best.out_dim, best.heads[0], best.head_dim) == (256, 4, 64)


def test_a_rectangle_keeps_its_shape_and_whole_patches() -> None:
    found = fit(ours("t2t_vit_14", "model.image_size=[192, 256]"), Budget(macs=9 * 10**9), Axis.IMAGE_SIZE)
    assert found.best.model.image == (240, 320)
    assert found.over is not None
    assert found.over.model.image == (288, 384)


def test_both_limits_are_kept() -> None:
    model = ours("t2t_vit_14")
    loose = fit(model, Budget(macs=10 * 10**9), Axis.DEPTH).best
    tight = fit(model, Budget(macs=10 * 10**9, params=21_545_550), Axis.DEPTH).best
    assert loose.value > tight.value == 14
    assert tight.cost == predict_cost(model)


@pytest.mark.slow
def test_the_search_solves_the_depth_as_fit_does() -> None:
    search = load_search_spec("deep_narrow").search
    space = Space(search, ours("t2t_vit_14"))
    assert space.solved is not None
    for assignment in list(space.assignments())[::5]:
        shallow = space.model(assignment, 1)
        try:
            _, most = solved_range(space, assignment, search.budget)
        except Infeasible:
            assert not is_within(shallow, search.budget)
        else:
            assert most == min(fit(shallow, search.budget, Axis.DEPTH).best.value, space.solved.fill.high)


@pytest.mark.parametrize(
    ("overrides", "axis", "fact"),
    [
        (
            ["model.backbone.depth=2", "model.backbone.mlp_ratio=[3, 3]"],
            Axis.DEPTH,
            "mlp_ratio lists one value per block",
        ),
        ([], Axis.GROWTH_RATE, "t2t_vit_14 has no growth_rate: its backbone is plain, its tokenizer t2t"),
    ],
)
def test_an_axis_that_a_model_lacks_is_refused(overrides: list[str], axis: Axis, fact: str) -> None:
    with pytest.raises(FieldError) as caught:
        fit(ours("t2t_vit_14", *overrides), Budget(macs=10**9), axis)
    assert fact in caught.value.message


def test_a_budget_that_nothing_meets_names_the_smallest() -> None:
    with pytest.raises(FieldError, match=r"the smallest depth, 1, has 626,603,328 MACs, over 1\.00M"):
        fit(ours("t2t_vit_14"), Budget(macs=10**6), Axis.DEPTH)


@pytest.mark.parametrize(
    ("name", "overrides", "axis", "best"),
    [
        ("t2t_vit_14", ["model.backbone.squeeze_excite.reduction=128"], Axis.EMBED_DIM, 384),  # 64 leaves no channel
        ("vit_dense", [], Axis.GROWTH_RATE, 32),  # transitions halve the widths that other rates make unevenly
    ],
)
def test_invalid_values_are_skipped(name: str, overrides: list[str], axis: Axis, best: int) -> None:
    found = fit(ours(name, *overrides), Budget(macs=5 * 10**9), axis)
    assert found.best.value == best
    assert is_within(found.best.model, Budget(macs=5 * 10**9))


def test_no_other_image_of_an_odd_shape() -> None:
    with pytest.raises(FieldError, match="no other image_size is valid"):
        fit(ours("t2t_vit_14", "model.image_size=[2039, 2053]"), Budget(macs=5 * 10**9), Axis.IMAGE_SIZE)
