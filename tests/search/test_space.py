from typing import Any

import pytest

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.errors import InputError
from t2tbuild.search.budget import deepest, find_smallest, fits, require_feasible
from t2tbuild.search.proxy import describe, is_twin, stand_in
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
    with pytest.raises(InputError, match=r"no field 'backbone.embed_dm'; did you mean backbone.embed_dim"):
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


def test_the_smallest_member_is_the_smallest_of_all() -> None:
    _, space = default()
    smallest = find_smallest(space, "macs")
    costs = [predict_cost(space.model(assignment, 1)).macs for assignment in space.assignments()]
    assert smallest.cost == min(costs)


def test_a_large_space_is_walked_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    _, space = default()
    all_of_them = find_smallest(space, "macs")
    monkeypatch.setattr("t2tbuild.search.budget.ENUMERATED", 0)
    assert find_smallest(space, "macs").cost == all_of_them.cost


def test_a_budget_below_the_smallest_names_its_cost() -> None:
    _, space = default()
    cost = find_smallest(space, "macs").cost
    with pytest.raises(InputError, match=f"{cost:,}"):
        require_feasible(space, Budget(macs=cost - 1))
    require_feasible(space, Budget(macs=cost))


def test_a_twin_keeps_depth_heads_and_stages() -> None:
    twin = stand_in(BASE, Proxy(), "cpu")
    assert (twin.backbone.depth, twin.backbone.embed_dim, twin.backbone.heads) == (14, 96, (6,) * 14)
    assert [stage.token_dim for stage in twin.tokenizer.stages] == [16, 16, None]
    assert (twin.image, twin.num_classes) == ((64, 64), 10)


def test_a_gpu_trains_the_candidate_itself_and_each_output_says_which() -> None:
    assert stand_in(BASE, Proxy(), "cuda").backbone == BASE.backbone
    assert not is_twin(Proxy(), "cuda")
    assert is_twin(Proxy(width="quarter"), "cuda")
    assert "quarter-width twins" in describe(Proxy(), "cpu")
    assert "candidates themselves" in describe(Proxy(), "cuda")


def test_a_proxy_too_small_for_the_tokenizer_is_refused() -> None:
    coarse = load_spec("t2t_vit_14", ["model.tokenizer.stages.0.patch_size=200", "model.tokenizer.stages.0.overlap=0"])
    with pytest.raises(InputError, match=r"cannot be trained at the proxy's 64 pixels: .*stage 0"):
        stand_in(coarse.model, Proxy(), "cpu")


def test_names_and_spellings_do_not_make_another_model() -> None:
    by_heads = BASE.model_copy(update={"name": "other"})
    by_width = space_of({"backbone.embed_dim": {"choices": [384]}}).model({"backbone.embed_dim": 384})
    assert canonical(BASE) == canonical(by_heads) == canonical(by_width)
    deeper = BASE.model_copy(update={"backbone": BASE.backbone.model_copy(update={"depth": 15})})
    assert canonical(deeper) != canonical(BASE)
