from typing import Any

import pytest

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.cost.budget import is_within
from t2tbuild.cost.memory import predict_memory
from t2tbuild.errors import FieldError, InputError
from t2tbuild.nas.budget import Infeasible, require_feasible, solve, solved_range
from t2tbuild.nas.model_key import canonical
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy import describe_training, is_narrow, make_proxy_model, resolve_width
from t2tbuild.nas.solvable import require_solvable
from t2tbuild.nas.space import FILL, Space, to_category
from t2tbuild.spec import Budget, ModelSpec, SearchSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search

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


def test_the_number_of_heads_follows_the_width() -> None:
    space = space_of({"backbone.embed_dim": {"choices": [192, 640]}})
    assert space.model({"backbone.embed_dim": 192}).backbone.heads == (3,) * 14
    assert space.model({"backbone.embed_dim": 640}).backbone.heads == (10,) * 14


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no field 'backbone.embed_dm' \(did you mean backbone.embed_dim"):
        space_of({"backbone.embed_dm": {"choices": [192]}})


@pytest.mark.parametrize("path", ["name", "*"])
def test_the_name_of_a_model_cannot_be_searched(path: str) -> None:
    """Otherwise one model is two members."""
    with pytest.raises(InputError, match=r"search\.space\..*label.*\(remove it, and search .* backbone\.depth\)"):
        space_of({path: {"choices": ["a", "b"]}})


@pytest.mark.parametrize("width", [256, 384, 640])
def test_the_deepest_fits_and_one_more_block_does_not(width: int) -> None:
    _, space = default()
    budget = Budget.model_validate({"macs": 5_000_000_000})
    _, depth = solved_range(space, {"backbone.embed_dim": width}, budget)
    assert is_within(space.model({"backbone.embed_dim": width}, depth), budget)
    assert not is_within(space.model({"backbone.embed_dim": width}, depth + 1), budget)
    assert solve(space, {"backbone.embed_dim": width, FILL: 1.0}, budget).backbone.depth == depth
    assert solve(space, {"backbone.embed_dim": width, FILL: 0.7}, budget).backbone.depth == int(0.7 * depth + 0.5)


def test_every_limit_of_the_budget_holds() -> None:
    _, space = default()
    loose = Budget.model_validate({"macs": 5_000_000_000})
    tight = Budget.model_validate({"macs": 5_000_000_000, "params": 10_000_000})
    assignment = {"backbone.embed_dim": 384}
    (_, wide), (_, narrow) = solved_range(space, assignment, loose), solved_range(space, assignment, tight)
    assert narrow < wide
    assert predict_cost(space.model(assignment, narrow)).params <= 10_000_000


def test_activation_memory_is_a_limit_too() -> None:
    _, space = default()
    budget = Budget.model_validate({"activations": "40M"})
    _, depth = solved_range(space, {"backbone.embed_dim": 384}, budget)
    assert predict_memory(space.model({"backbone.embed_dim": 384}, depth)).activations <= 40_000_000
    assert predict_memory(space.model({"backbone.embed_dim": 384}, depth + 1)).activations > 40_000_000


def test_the_minimum_of_a_budget_holds() -> None:
    _, space = default()
    budget = Budget.model_validate({"macs": {"max": "5G", "min": "4800M"}})
    least, most = solved_range(space, {"backbone.embed_dim": 256}, budget)
    assert least <= most
    assert not is_within(space.model({"backbone.embed_dim": 256}, least - 1), budget)
    assert solve(space, {"backbone.embed_dim": 256, FILL: 0.1}, budget).backbone.depth == least
    with pytest.raises(Infeasible, match="no value lies between"):
        solved_range(space, {"backbone.embed_dim": 640}, Budget.model_validate({"macs": {"max": "5G", "min": "4999M"}}))


def test_no_depth_fits_a_budget_below_one_block() -> None:
    _, space = default()
    with pytest.raises(Infeasible, match="over budget at every depth"):
        solved_range(space, {"backbone.embed_dim": 640}, Budget.model_validate({"macs": 100_000_000}))


@pytest.mark.slow
def test_a_budget_below_the_smallest_names_its_cost() -> None:
    _, space = default()
    cost = min(predict_cost(space.model(assignment, 1)).macs for assignment in space.assignments())
    with pytest.raises(InputError, match=f"{cost:,}"):
        require_feasible(space, Budget.model_validate({"macs": cost - 1}))
    require_feasible(space, Budget.model_validate({"macs": cost}))


@pytest.mark.parametrize("path", ["backbone.drop_path", "backbone.num_heads"])
@pytest.mark.parametrize("macs", ["2G", "5G"])
def test_a_field_that_does_not_change_the_cost_cannot_be_solved(path: str, macs: str) -> None:
    """Whether or not the base is within the budget."""
    fields = {"backbone.mlp_ratio": {"choices": [2, 3]}, path: {"fill": [0.1, 0.2]}}
    search = Search.model_validate({"base": "t2t_vit_14", "budget": {"macs": macs}, "space": fields})
    with pytest.raises(FieldError, match=f"{path} does not change MACs.*cannot be solved from the budget") as caught:
        plan(SearchSpec(version=1, search=search))
    assert caught.value.path == ("search", "space", path)


def test_a_field_that_changes_one_limited_cost_can_be_solved() -> None:
    solved = space_of({"backbone.num_heads": {"fill": [0.5, 1.0]}})
    require_solvable(solved, Budget.model_validate({"params": "22M", "activations": "200MB"}))
    fields = {
        "backbone.squeeze_excite": {"choices": [None, {"reduction": 8}]},
        "backbone.mlp_ratio": {"choices": [2, 3]},
        "backbone.depth": {"fill": [0.5, 1.0]},
    }
    require_solvable(space_of(fields), Budget.model_validate({"macs": "5G"}))


@pytest.mark.parametrize(
    ("path", "value"), [("tokenizer.stages.0.patch_size", "4"), ("backbone.squeeze_excite.reduction", "1")]
)
def test_a_field_with_which_the_cost_falls_cannot_be_solved(path: str, value: str) -> None:
    """There is no largest value that fits, as all larger ones fit too."""
    fields = {"backbone.mlp_ratio": {"choices": [2, 3]}, path: {"fill": [0.5, 1.0]}}
    search = Search.model_validate({"base": "t2t_vit_14_se", "budget": {"macs": "5G"}, "space": fields})
    with pytest.raises(
        FieldError, match=f"MACs fall where {path} grows.* at {path.rpartition('.')[2]} {value}, "
    ) as caught:
        plan(SearchSpec(version=1, search=search))
    assert caught.value.path == ("search", "space", path)
    assert caught.value.hint.startswith("write {choices: [...]}")


def test_a_minimum_that_no_candidate_reaches_is_reported_at_its_place() -> None:
    space = space_of({"backbone.depth": {"fill": [0.5, 1.0]}})
    with pytest.raises(FieldError, match=r"no candidate has 900\.0G MACs or more") as caught:
        require_feasible(space, Budget.model_validate({"macs": {"min": "900G"}}))
    assert caught.value.path == ("search", "budget", "macs")


def test_a_cost_that_rises_at_first_can_be_solved_up_to_there() -> None:
    """From ratio 14 on, large outputs are recomputed in the backward pass, so activations take less memory."""
    path, limit = "backbone.mlp_ratio", Budget.model_validate({"activations": "200MB"})
    with pytest.raises(FieldError, match="bytes of activations fall") as caught:
        require_solvable(space_of({path: {"fill": [0.5, 1.0]}}), limit)
    assert caught.value.hint.startswith("write high: 13, or {choices")
    require_solvable(space_of({path: {"fill": [0.5, 1.0], "high": 13}}), limit)


def test_a_budget_that_no_field_can_meet_says_so() -> None:
    fixed = space_of({"backbone.drop_path": {"choices": [0.1, 0.2]}})
    message = r"every candidate has 4,800,254,784.*no field of search\.space changes"
    with pytest.raises(FieldError, match=message) as caught:
        require_feasible(fixed, Budget.model_validate({"macs": "2G"}))
    assert caught.value.path == ("search", "budget", "macs")
    some = space_of({"backbone.drop_path": {"choices": [0.1, 0.2]}, "backbone.mlp_ratio": {"choices": [2, 3]}})
    with pytest.raises(FieldError, match="the smallest of the space has"):
        require_feasible(some, Budget.model_validate({"macs": "2G"}))


@pytest.mark.slow
def test_limits_that_exclude_each_other_are_reported() -> None:
    _, space = default()
    costs = [predict_cost(space.model(assignment, 1)) for assignment in space.assignments()]
    macs, params = min(cost.macs for cost in costs), min(cost.params for cost in costs)
    assert not [cost for cost in costs if cost.macs == macs and cost.params == params]
    with pytest.raises(InputError, match=f"is within all limits.*{macs:,}.*{params:,}"):
        require_feasible(space, Budget.model_validate({"macs": macs, "params": params}))


def test_a_large_space_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    _, space = default()
    monkeypatch.setattr("t2tbuild.nas.budget.MAX_ENUMERATED", 10)
    assert len(require_feasible(space, Budget.model_validate({"macs": "5G"}))) == 2
    with pytest.raises(InputError, match="smallest of the space"):
        require_feasible(space, Budget.model_validate({"macs": 1}))


def test_fields_that_are_null_in_the_base_can_be_searched() -> None:
    space = space_of({"tokenizer.stages.*.padding": {"choices": [0, 1]}, "backbone.head_dim": {"choices": [32, 64]}})
    assert [path for path in space.dimensions if "padding" in path] == [
        f"tokenizer.stages.{index}.padding" for index in range(3)
    ]
    model = space.model({"tokenizer.stages.1.padding": 0, "backbone.head_dim": 32})
    assert model.tokenizer.stages[1].pad == 0
    assert model.backbone.heads == (12,) * 14


def test_a_narrow_proxy_keeps_depth_heads_and_stages() -> None:
    proxy_model = make_proxy_model(BASE, Proxy(), "cpu")
    assert (proxy_model.backbone.depth, proxy_model.backbone.embed_dim, proxy_model.backbone.heads) == (
        14,
        96,
        (6,) * 14,
    )
    assert [stage.token_dim for stage in proxy_model.tokenizer.stages] == [16, 16, None]
    assert (proxy_model.image, proxy_model.num_classes) == ((32, 32), 10)


def test_a_gpu_trains_the_candidate_itself_and_each_output_says_which() -> None:
    assert make_proxy_model(BASE, Proxy(), "cuda").backbone == BASE.backbone
    assert not is_narrow(Proxy(), "cuda")
    assert is_narrow(Proxy(width="quarter"), "cuda")
    assert resolve_width(Proxy(), "cpu").width == "quarter"
    assert resolve_width(Proxy(), "cuda").width == "full"
    assert "quarter of their width" in describe_training(Proxy(), "cpu")
    assert "full width" in describe_training(Proxy(), "cuda")


def test_a_proxy_too_small_for_the_tokenizer_is_refused() -> None:
    coarse = load_spec("t2t_vit_14", ["model.tokenizer.stages.0.patch_size=200", "model.tokenizer.stages.0.overlap=0"])
    with pytest.raises(InputError, match=r"cannot be trained at the proxy's 32 pixels: .*stage 0"):
        make_proxy_model(coarse.model, Proxy(), "cpu")


def test_names_and_equivalent_fields_do_not_change_the_key() -> None:
    by_heads = BASE.model_copy(update={"name": "other"})
    by_width = space_of({"backbone.embed_dim": {"choices": [384]}}).model({"backbone.embed_dim": 384})
    by_padding = load_spec("t2t_vit_14", ["model.tokenizer.stages.0.padding=2"]).model
    assert canonical(BASE) == canonical(by_heads) == canonical(by_width) == canonical(by_padding)
    deeper = BASE.model_copy(update={"backbone": BASE.backbone.model_copy(update={"depth": 15})})
    assert canonical(deeper) != canonical(BASE)


def test_a_distillation_token_is_kept_and_can_be_searched() -> None:
    """Proxy models keep the token of their candidate, and it makes another candidate."""
    base = BASE.model_copy(update={"distillation_token": True})
    space = space_of({"backbone.embed_dim": {"choices": [192]}}, base)
    assert space.model({"backbone.embed_dim": 192}, 3).distillation_token
    for device in ("cpu", "cuda"):
        proxy_model = make_proxy_model(base, Proxy(), device)
        assert (proxy_model.distillation_token, proxy_model.tokens) == (True, 2 + 2 * 2)
    tokens = space_of({"distillation_token": {"choices": [True, False]}})
    both = [tokens.model(assignment) for assignment in tokens.assignments()]
    assert [model.distillation_token for model in both] == [True, False]
    assert canonical(both[0]) != canonical(both[1]) == canonical(BASE)


def test_a_whole_mapping_may_be_a_value() -> None:
    space = space_of({"backbone.squeeze_excite": {"choices": [None, {"reduction": 8}]}})
    values = [space.model(assignment).backbone.squeeze_excite for assignment in space.assignments()]
    assert [one.reduction if one else None for one in values] == [None, 8]
    assert to_category({"reduction": 8}) == '{"reduction": 8}'
    assert to_category(None) is None


def test_a_value_for_each_block_is_cut_to_the_depth() -> None:
    space = space_of({"backbone.mlp_ratio": {"choices": [1, 2], "per": "block"}, "backbone.depth": {"choices": [2, 3]}})
    assert [path for path in space.dimensions if "mlp" in path] == [f"backbone.mlp_ratio.{block}" for block in range(3)]
    drawn = {"backbone.mlp_ratio.0": 1, "backbone.mlp_ratio.1": 2, "backbone.mlp_ratio.2": 2, "backbone.depth": 2}
    assert space.model(drawn).backbone.mlp_ratios == (1, 2)


def test_a_field_whose_condition_fails_is_not_drawn() -> None:
    fields = {
        "backbone.mlp_ratio": {"choices": [2, 4]},
        "backbone.embed_dim": {"choices": [192, 256], "when": {"backbone.mlp_ratio": 4}},
    }
    found = list(space_of(fields).assignments())
    assert [one.get("backbone.embed_dim") for one in found] == [None, 192, 256]


def test_a_field_that_does_not_exist_is_reported() -> None:
    space = space_of(
        {
            "tokenizer": {"choices": [{"kind": "patch", "patch_size": 16}]},
            "tokenizer.stages.0.token_dim": {"choices": [32]},
        }
    )
    with pytest.raises(Infeasible, match=r"no field tokenizer\.stages"):
        solve(space, next(space.assignments()), Budget.model_validate({"macs": "50G"}))


def test_layer_scale_is_searched() -> None:
    space = space_of({"backbone.layer_scale": {"choices": [None, 1e-5, 0.1]}})
    assert [space.model(one).backbone.layer_scale for one in space.assignments()] == [None, 1e-5, 0.1]
