"""The supernet: members are slices that equal stand-alone models, and training continues to the same bits."""

import copy
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from t2tbuild import build_model, load_spec, measure_cost, write_spec
from t2tbuild.errors import InputError
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy_evaluator import load_proxy_data
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.pool import SupernetMember, pool
from t2tbuild.nas.supernet.ranks import train_on_ranks
from t2tbuild.nas.supernet.sampling import add_counts, members_of_step
from t2tbuild.nas.supernet.sliceable import is_held, largest_sizes, not_sliceable
from t2tbuild.nas.supernet.trainer import SupernetTrainer
from t2tbuild.spec import ModelSpec, SearchSpec
from t2tbuild.spec.supernet import SupernetSpec
from t2tbuild.training.distributed import DistributedContext
from tests import random_specs
from tests.nas.conftest import tiny_search

CPU = torch.device("cpu")
TOLERANCE = 1e-5


def shape(width: int, depth: int, *, base: str = "t2t_vit_7", **fields: Any) -> ModelSpec:
    """Return a small model of the shipped base, with heads of 16 channels."""
    values = {"embed_dim": width, "depth": depth, "num_heads": width // 16} | fields
    changes = [f"model.backbone.{name}={value}" for name, value in values.items()]
    return load_spec(base, ["model.image_size=32", "model.num_classes=10", *changes]).model  # type: ignore[return-value]


def perturbed(supernet: Supernet) -> Supernet:
    """Return the supernet with all values changed, so that none is zero or one by initialisation."""
    for index, tensor in enumerate(supernet.tensors.values()):
        generator = torch.Generator().manual_seed(index)
        tensor.data += 0.05 * torch.randn(tensor.shape, generator=generator)
    return supernet


def distance(supernet: Supernet, model: ModelSpec) -> float:
    """Return the largest difference of the logits of a subnet and of the stand-alone model with its weights."""
    alone = build_model(model).eval()
    alone.load_state_dict(supernet.extract(model))
    images = torch.randn(2, model.in_chans, *model.image, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float((supernet.subnet(model).eval()(images) - alone(images)).abs().max())


def test_a_member_has_the_leading_channels_of_queries_keys_and_values_each() -> None:
    supernet = perturbed(Supernet([shape(64, 2)]))
    whole = supernet.extract(shape(64, 2))["blocks.0.attn.qkv.weight"]
    part = supernet.extract(shape(32, 1))["blocks.0.attn.qkv.weight"]
    assert torch.equal(part, torch.cat([whole[start : start + 32, :32] for start in (0, 64, 128)]))
    assert set(supernet.extract(shape(32, 1))) == set(build_model(shape(32, 1)).state_dict())


def test_gradients_reach_only_the_tensors_of_the_member() -> None:
    supernet = Supernet([shape(64, 2)])
    supernet.subnet(shape(32, 1))(torch.randn(2, 3, 32, 32)).square().sum().backward()
    gradient = supernet.tensors["blocks/0/mlp/fc1/weight"].grad
    assert gradient is not None
    assert gradient[:64, :32].abs().min() > 0
    assert gradient[64:].abs().max() == gradient[:, 32:].abs().max() == 0
    assert supernet.tensors["blocks/1/mlp/fc1/weight"].grad is None


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_members_equal_stand_alone_models(data: st.DataObject) -> None:
    drawn = [data.draw(random_specs.models()) for _ in range(3)]
    first = drawn[0]
    same = {"image_size": first.image_size, "in_chans": first.in_chans, "num_classes": first.num_classes}
    members = [member for one in drawn if not_sliceable(one) is None and (member := _changed(one, same)) is not None]
    assume(members)
    slimmer = [_slimmer(member) for member in members]
    torch.manual_seed(0)
    supernet = perturbed(Supernet(members))
    for member in (*members, *slimmer):
        assert supernet.holds(member)
        assert distance(supernet, member) <= TOLERANCE
    for member, slim in zip(members, slimmer, strict=True):
        sizes = [sum(one.numel() for one in supernet.extract(model).values()) for model in (member, slim)]
        assert sizes[1] < sizes[0] or member.backbone.mlp_dims == (1,)


def _changed(model: ModelSpec, changes: dict[str, Any]) -> ModelSpec | None:
    try:
        return ModelSpec.model_validate(model.model_dump() | changes | {"label_names": None})
    except ValueError:  # its tokenizer needs a larger image
        return None


def _slimmer(model: ModelSpec) -> ModelSpec:
    """Return a model of one block, with one hidden channel in its MLP."""
    backbone = model.backbone
    one_channel = {"mlp_ratio": 1 / backbone.embed_dim, "num_heads": backbone.heads[0], "head_dim": None}
    return ModelSpec.model_validate(
        model.model_dump() | {"backbone": backbone.model_dump() | {"depth": 1} | one_channel}
    )


KINDS = [
    shape(64, 2),
    shape(48, 3, mlp_ratio="[1, 3, 2]", layer_scale=0.1),
    shape(32, 2, base="t2t_vit_t_14", qkv_bias="true"),
    shape(32, 2, base="t2t_vit_c_14", squeeze_excite="{reduction: 4}"),
    shape(32, 2, base="vit_s16", position="learned"),
]


def test_kinds_that_differ_have_tensors_of_their_own_and_count_as_stand_alone_models() -> None:
    supernet = perturbed(Supernet(KINDS))
    frozen = copy.deepcopy(supernet).requires_grad_(False)  # fvcore takes the tensors of a subnet for constants
    for model in [*KINDS, shape(16, 1, mlp_ratio=1.5)]:
        assert distance(supernet, model) <= TOLERANCE
        subnet = frozen.subnet(model).eval()
        assert measure_cost(subnet).macs == measure_cost(build_model(model)).macs
    performer, transformer = (
        supernet.extract(model)["tokens_to_token.attention1.norm1.weight"] for model in (KINDS[0], KINDS[2])
    )
    assert not torch.equal(performer, transformer)


def test_a_model_that_is_too_large_is_no_member() -> None:
    supernet = Supernet([shape(32, 2)])
    assert not supernet.holds(shape(48, 2))
    with pytest.raises(InputError, match=r"is not a member of the supernet: it has no blocks\.2"):
        supernet.subnet(shape(32, 3))


@pytest.mark.parametrize(
    ("base", "changes", "path"),
    [
        ("t2t_vit_dense", [], ("backbone", "kind")),
        ("t2t_vit_16_ghost", [], ("backbone", "ghost")),
    ],
)
def test_what_cannot_be_sliced_is_named(base: str, changes: list[str], path: tuple[str, ...]) -> None:
    model = load_spec(base, changes).model
    assert isinstance(model, ModelSpec)
    found = not_sliceable(model)
    assert found is not None
    assert found.path == path
    assert "cannot be sliced" in found.reason


def members_of(spec: SearchSpec) -> tuple[SupernetMember, ...]:
    return pool(plan(spec))


@pytest.fixture
def spec(tmp_path: Path) -> SearchSpec:
    return tiny_search(tmp_path, "search.supernet={steps: 4}", "search.proxy.width=full")


def test_the_sandwich_rule_trains_largest_smallest_and_a_random_member(spec: SearchSpec) -> None:
    members, supernet = members_of(spec), SupernetSpec(steps=1, members=4)
    assert spec.search.budget.macs is not None
    counts: dict[str, Counter[Any]] = {}
    for step in range(300):
        chosen = members_of_step(members, supernet, counts, seed=0, step=step)
        assert chosen == members_of_step(members, supernet, counts, seed=0, step=step)
        assert [one.macs for one in chosen] == sorted((one.macs for one in chosen), reverse=True)
        assert all(one.macs <= (spec.search.budget.macs.max or 0) for one in chosen)
        assert chosen[0].macs >= 0.95 * members[-1].macs
        assert chosen[-1].macs <= 1.05 * members[0].macs
        add_counts(counts, chosen)
    for path, found in counts.items():
        values = {one.values[path] for one in members}
        assert set(found) == values, f"a value of {path} was never trained"


def test_no_value_starves_under_random_sampling(spec: SearchSpec) -> None:
    members, counts = members_of(spec), dict[str, Counter[Any]]()
    supernet = SupernetSpec(steps=1, sampling="random", members=2)
    for step in range(300):
        add_counts(counts, members_of_step(members, supernet, counts, seed=1, step=step))
    for path in ("backbone.embed_dim", "backbone.mlp_ratio"):
        assert min(counts[path].values()) > 0.4 * max(counts[path].values())


def test_blocks_that_a_member_lacks_are_not_counted(tmp_path: Path) -> None:
    space = "{backbone.depth: {choices: [1, 3]}, backbone.mlp_ratio: {choices: [1, 2], per: block}}"
    members = members_of(tiny_search(tmp_path, "search.supernet={steps: 1}", f"search.space={space}"))
    assert {one.model.backbone.num_blocks for one in members} == {1, 3}
    for one in members:
        assert (
            len([path for path in one.values if path.startswith("backbone.mlp_ratio.")])
            == one.model.backbone.num_blocks
        )


def test_a_supernet_of_quarter_width_holds_every_proxy_model(tmp_path: Path) -> None:
    spec = tiny_search(tmp_path, "search.supernet={steps: 1}", "search.proxy.width=quarter")
    planned = plan(spec)
    members = pool(planned)
    trained = SupernetTrainer(members, load_proxy_data(planned, CPU), planned.search, DistributedContext(CPU))
    assert all(trained.supernet.holds(trained.proxy_model(one.model)) for one in members[::20])


def test_members_beyond_a_sample_are_held_or_found_out(spec: SearchSpec) -> None:
    models = [one.model for one in members_of(spec)]
    sizes = largest_sizes(models[::2])
    supernet = Supernet(models[::2])
    for model in models[1::80]:
        assert is_held(model, sizes) == supernet.holds(model)
    deep = models[0].model_copy(update={"backbone": models[0].backbone.model_copy(update={"depth": 99})})
    assert not is_held(deep, sizes)


class Interrupted(Exception):  # noqa: N818
    pass


def interrupt_after(calls: int) -> Callable[[], None]:
    count = itertools.count(1)

    def check() -> None:
        if next(count) > calls:
            raise Interrupted

    return check


def trainer(spec: SearchSpec, every: int = 50) -> SupernetTrainer:
    planned = plan(spec)
    return SupernetTrainer(
        pool(planned)[::every], load_proxy_data(planned, CPU), planned.search, DistributedContext(CPU)
    )


def test_an_interrupted_training_continues_to_the_same_bits(spec: SearchSpec, tmp_path: Path) -> None:
    whole = trainer(spec)
    whole.train(lambda: None, tmp_path / "whole")
    with pytest.raises(Interrupted):
        trainer(spec).train(interrupt_after(2), tmp_path / "parts")
    continued = trainer(spec)
    continued.train(lambda: None, tmp_path / "parts")
    assert continued.step == whole.step == 4
    assert continued.counts == whole.counts
    for ours, theirs in ((whole.supernet, continued.supernet), (whole.averaged(), continued.averaged())):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1] != ""


def test_a_batch_is_learned(spec: SearchSpec) -> None:
    faster = spec.search.proxy.model_copy(update={"lr": 3e-3, "warmup_steps": 0})
    trained = trainer(spec.model_copy(update={"search": spec.search.model_copy(update={"proxy": faster})}))
    images, labels = next(iter(trained.data.train_batches(trained.sampler, epoch=0, step=0, epochs=1)))
    losses = [float(trained.train_step(images, labels)) for _ in range(20)]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.slow
@pytest.mark.nightly
def test_two_ranks_train_as_one_does_on_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2TBUILD_DEVICE", "cpu")
    spec = tiny_search(
        tmp_path,
        "search.supernet={steps: 3}",
        "search.proxy.width=full",
        "search.proxy.warmup_steps=0",
        "search.space={backbone.embed_dim: {choices: [64, 96]}, backbone.depth: {choices: [1, 2]}}",
        "search.budget.macs=8M",
    )
    base = tmp_path / "small.yaml"
    base.write_text(base.read_text().replace("performer", "transformer"))  # without dropout
    (tmp_path / "run").mkdir()
    write_spec(spec, tmp_path / "run" / "spec.yaml")
    train_on_ranks(tmp_path / "run", 2)
    first, alone, together = (trainer(spec, every=1) for _ in range(3))
    assert together.restore(tmp_path / "run" / "supernet")
    assert together.step == 3
    alone.train(lambda: None, tmp_path / "alone")
    values = [torch.cat([one.flatten() for one in each.supernet.parameters()]) for each in (first, alone, together)]
    assert (values[2] - values[1]).norm() < 0.05 * (values[1] - values[0]).norm()
