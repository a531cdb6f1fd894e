from typing import Any

import pytest

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.cost.fit import fits
from t2tbuild.errors import InputError
from t2tbuild.search.budget import deepest, require_feasible
from t2tbuild.search.ladder import goes_on
from t2tbuild.search.proxy import describe, is_twin, settle, stand_in
from t2tbuild.search.record import canonical
from t2tbuild.search.space import Space
from t2tbuild.spec import Budget, ModelSpec, SearchSpec
from t2tbuild.spec.search import Proxy, Search

BASE = load_spec("t2t_vit_14").model


def space_of(fields: dict[str, Any], base: ModelSpec = BASE) -> Space:
    search = Search.model_validate({"base": "t2t_vit_14", "budget": {"macs": "5G"}, "space": fields})
    return Space(search, base)


def default() -> tuple[SearchSpec, Space]:
    spec = load_search_spec("deep_narrow")
    return spec, Space(spec.search, BASE)


def test_a_star_is_every_stage_that_has_the_field() -> None:
    _, space = default()
    assert [path for path in space.dimensions if "stages" in path] == [
        "tokenizer.stages.0.attention",
        "tokenizer.stages.1.attention",
        "tokenizer.stages.0.token_dim",
        "tokenizer.stages.1.token_dim",
    ]
    assert space.size == 7 * 3 * 2 * 2 * 3 * 3


def test_heads_follow_the_width() -> None:
    space = space_of({"backbone.embed_dim": {"choices": [192, 640]}})
    assert space.model({"backbone.embed_dim": 192}).backbone.heads == (3,) * 14
    assert space.model({"backbone.embed_dim": 640}).backbone.heads == (10,) * 14


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no field 'backbone.embed_dm' \(did you mean backbone.embed_dim"):
        space_of({"backbone.embed_dm": {"choices": [192]}})


@pytest.mark.parametrize("width", [256, 384, 640])
def test_the_deepest_fits_and_one_more_block_does_not(width: int) -> None:
    _, space = default()
    budget = Budget(macs=5_000_000_000)
    depth = deepest(space, {"backbone.embed_dim": width}, budget)
    assert depth is not None
    assert fits(space.model({"backbone.embed_dim": width}, depth), budget)
    assert not fits(space.model({"backbone.embed_dim": width}, depth + 1), budget)


def test_every_limit_of_the_budget_holds() -> None:
    _, space = default()
    loose, tight = Budget(macs=5_000_000_000), Budget(macs=5_000_000_000, params=10_000_000)
    assignment = {"backbone.embed_dim": 384}
    wide, narrow = deepest(space, assignment, loose), deepest(space, assignment, tight)
    assert wide is not None
    assert narrow is not None
    assert narrow < wide
    assert predict_cost(space.model(assignment, narrow)).params <= 10_000_000


def test_no_depth_fits_a_budget_below_one_block() -> None:
    _, space = default()
    assert deepest(space, {"backbone.embed_dim": 640}, Budget(macs=100_000_000)) is None


def test_a_budget_below_the_smallest_names_its_cost() -> None:
    _, space = default()
    cost = min(predict_cost(space.model(assignment, 1)).macs for assignment in space.assignments())
    with pytest.raises(InputError, match=f"{cost:,}"):
        require_feasible(space, Budget(macs=cost - 1))
    require_feasible(space, Budget(macs=cost))


def test_limits_that_exclude_each_other_are_told() -> None:
    _, space = default()
    costs = [predict_cost(model) for model in space.members()]
    macs, params = min(cost.macs for cost in costs), min(cost.params for cost in costs)
    assert not [cost for cost in costs if cost.macs == macs and cost.params == params]
    with pytest.raises(InputError, match=f"keeps both limits.*{macs:,}.*{params:,}"):
        require_feasible(space, Budget(macs=macs, params=params))


def test_no_verdict_is_given_on_a_space_too_large_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    _, space = default()
    monkeypatch.setattr("t2tbuild.search.budget.ENUMERATED", 10)
    require_feasible(space, Budget(macs=1))


def test_fields_that_are_null_in_the_base_can_be_searched() -> None:
    space = space_of({"tokenizer.stages.*.padding": {"choices": [0, 1]}, "backbone.head_dim": {"choices": [32, 64]}})
    assert [path for path in space.dimensions if "padding" in path] == [
        f"tokenizer.stages.{index}.padding" for index in range(3)
    ]
    model = space.model({"tokenizer.stages.1.padding": 0, "backbone.head_dim": 32})
    assert model.tokenizer.stages[1].pad == 0
    assert model.backbone.heads == (12,) * 14


def test_who_climbs_on_by_hand() -> None:
    """Each among the best one in three of those that came so far; the first ones when none was better."""
    accuracies = [0.5, 0.4, 0.45, 0.3, 0.47, 0.48, 0.6]
    climbs = [goes_on(accuracy, accuracies[:index], keep=3) for index, accuracy in enumerate(accuracies)]
    assert climbs == [True, False, False, False, False, True, True]


def test_a_twin_keeps_depth_heads_and_stages() -> None:
    twin = stand_in(BASE, Proxy(), "cpu")
    assert (twin.backbone.depth, twin.backbone.embed_dim, twin.backbone.heads) == (14, 96, (6,) * 14)
    assert [stage.token_dim for stage in twin.tokenizer.stages] == [16, 16, None]
    assert (twin.image, twin.num_classes) == ((64, 64), 10)


def test_a_gpu_trains_the_candidate_itself_and_each_output_says_which() -> None:
    assert stand_in(BASE, Proxy(), "cuda").backbone == BASE.backbone
    assert not is_twin(Proxy(), "cuda")
    assert is_twin(Proxy(width="quarter"), "cuda")
    assert settle(Proxy(), "cpu").width == "quarter"
    assert settle(Proxy(), "cuda").width == "full"
    assert "quarter-width twins" in describe(Proxy(), "cpu")
    assert "candidates themselves" in describe(Proxy(), "cuda")


def test_a_proxy_too_small_for_the_tokenizer_is_refused() -> None:
    coarse = load_spec("t2t_vit_14", ["model.tokenizer.stages.0.patch_size=200", "model.tokenizer.stages.0.overlap=0"])
    with pytest.raises(InputError, match=r"cannot be trained at the proxy's 64 pixels: .*stage 0"):
        stand_in(coarse.model, Proxy(), "cpu")


def test_names_and_spellings_do_not_make_another_model() -> None:
    by_heads = BASE.model_copy(update={"name": "other"})
    by_width = space_of({"backbone.embed_dim": {"choices": [384]}}).model({"backbone.embed_dim": 384})
    by_padding = load_spec("t2t_vit_14", ["model.tokenizer.stages.0.padding=2"]).model
    assert canonical(BASE) == canonical(by_heads) == canonical(by_width) == canonical(by_padding)
    deeper = BASE.model_copy(update={"backbone": BASE.backbone.model_copy(update={"depth": 15})})
    assert canonical(deeper) != canonical(BASE)


def test_a_distillation_token_is_kept_and_can_be_searched() -> None:
    """Twins and proxies have the token of their candidate, and with and without it are two candidates."""
    base = BASE.model_copy(update={"distillation_token": True})
    space = space_of({"backbone.embed_dim": {"choices": [192]}}, base)
    assert space.model({"backbone.embed_dim": 192}, 3).distillation_token
    for device in ("cpu", "cuda"):
        twin = stand_in(base, Proxy(), device)
        assert (twin.distillation_token, twin.tokens) == (True, 2 + 4 * 4)
    both = list(space_of({"distillation_token": {"choices": [True, False]}}).members())
    assert [model.distillation_token for model in both] == [True, False]
    assert canonical(both[0]) != canonical(both[1]) == canonical(BASE)
