"""Attention matrices checked against the outputs of the modules, and rollout against a calculation by hand."""

import pytest
import timm
import torch
from shipped import shallow
from torch import Tensor, nn

from t2tbuild import build_model, load_spec
from t2tbuild.errors import InputError
from t2tbuild.modules.attention import Attention
from t2tbuild.modules.ghost import GhostAttention
from t2tbuild.modules.performer import TokenPerformer
from t2tbuild.modules.soft_split import SoftSplit
from t2tbuild.modules.squeeze_excite import SqueezeExcite
from t2tbuild.modules.token_transformer import TokenAttention
from t2tbuild.report.visual.attention import attention_maps, has_attention, project_qkv, rollout
from t2tbuild.report.visual.draw_attention import draw_all_blocks, draw_block, draw_stages
from t2tbuild.report.visual.receptive_field import matching_token
from t2tbuild.spec import ModelSpec

SPLIT = SoftSplit(patch_size=3, stride=2, padding=1)
NORM = nn.LayerNorm(36)


def timms(**options: object) -> nn.Module:
    return timm.layers.attention.Attention(36, num_heads=3, qkv_bias=True, **options)


def squeezed() -> nn.Module:
    attention = Attention(dim=36, num_heads=3, qkv_bias=False)
    attention.follow("se_layer", SqueezeExcite(dim=36, reduction=4))
    return attention


MODULES = {
    "attention": lambda: Attention(dim=36, num_heads=3, qkv_bias=True),
    "squeeze-excite": squeezed,
    "ghost": lambda: GhostAttention(dim=36, num_heads=3, qkv_bias=True),
    "timm": timms,
    "timm, normed queries": lambda: timms(qk_norm=True, norm_layer=nn.LayerNorm),
    "timm, wide heads": lambda: timms(attn_head_dim=20),
    "token attention": lambda: TokenAttention(in_dim=36, dim=16),
    "performer": lambda: TokenPerformer(in_dim=36, dim=16, kernel_ratio=0.5, dropout=0.1),
}


def inputs_of(module: nn.Module, *, soft_split: bool) -> tuple[object, ...]:
    if not soft_split:
        return (torch.randn(2, 20, 36),)
    image = torch.randn(2, 4, 9, 7)  # split into tokens of 4 x 9 channels
    return (image, SPLIT) if isinstance(module, TokenPerformer) else (image, SPLIT, NORM)


CASES = [(name, False) for name in MODULES] + [("token attention", True), ("performer", True)]


@pytest.mark.parametrize(("name", "soft_split"), CASES)
@torch.no_grad()
def test_the_matrix_times_the_values_is_the_output_of_the_module(name: str, soft_split: bool) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().eval()
    for parameter in module.parameters():  # with the initial weights attention is almost uniform
        parameter.mul_(1 if name == "performer" else 3)
    inputs = inputs_of(module, soft_split=soft_split)
    found = project_qkv(module, inputs)
    matrix = found.matrix()
    assert torch.allclose(matrix.sum(dim=3), torch.ones(matrix.shape[:3]), atol=1e-5)
    assert (matrix >= 0).all()
    assert matrix.max() > 2 / matrix.shape[3]
    merged = (matrix @ found.v).transpose(1, 2).flatten(2)
    assert torch.allclose(_after(module, merged, found.v[:, 0]), module(*inputs), atol=1e-4)
    assert torch.allclose(found.matrix([3, 5]), matrix[:, :, [3, 5]], atol=1e-6)


def _after(module: nn.Module, merged: Tensor, v: Tensor) -> Tensor:
    """Return the output of a module for the concatenated A v of all heads."""
    match module:
        case TokenAttention():
            return v + module.proj(merged)
        case TokenPerformer():
            y = v + module.proj(merged)
            return y + module.mlp(module.norm2(y))
        case Attention() | GhostAttention():
            y = module.proj(merged)
            return module.se_layer(y) if module.followers else y
        case _:
            return module.proj(merged)  # type: ignore[no-any-return, operator]


def test_rollout_by_hand() -> None:
    eye = torch.eye(5)
    assert rollout([eye.expand(3, 5, 5)] * 7).equal(eye)
    first = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    second = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    # with the skip: [[1, 0], [.5, .5]], then mean [[.5, .5], [0, 1]] gives [[.75, .25], [0, 1]]
    assert rollout([first, second]).tolist() == [[0.875, 0.125], [0.5, 0.5]]
    random = torch.rand(4, 2, 6, 6).softmax(dim=3)
    assert torch.allclose(rollout(random).sum(dim=1), torch.ones(6), atol=1e-6)
    with pytest.raises(ValueError, match="no attention matrices"):
        rollout([])


def middle(of: ModelSpec):  # type: ignore[no-untyped-def]
    last = of.grids[-1]
    return lambda grid: matching_token(last.height // 2, last.width // 2, last, grid)


def test_attention_of_a_rectangular_model(small: ModelSpec) -> None:
    spec = small.model_copy(update={"image_size": (32, 64), "distillation_token": True})
    image = torch.randn(1, 3, 32, 64)
    maps = attention_maps(build_model(spec), image, middle(spec))
    assert [block.name for block in maps.blocks] == ["block 0", "block 1"]
    assert (maps.prefix, maps.grid) == (2, (2, 4))
    for block in maps.blocks:
        assert torch.allclose(block.cls_attention.sum(dim=1), torch.ones(2), atol=1e-5)
        assert torch.allclose(block.mean.sum(dim=1), torch.ones(10), atol=1e-5)
        assert torch.allclose(block.cls_attention.mean(dim=0), block.mean[0], atol=1e-6)
    assert maps.rollout_of_cls.sum().item() == pytest.approx(1, abs=1e-5)
    assert maps.prefix_share(maps.rollout_of_cls) + maps.on_grid(maps.rollout_of_cls).sum() / 10 == pytest.approx(
        1, abs=1e-5
    )
    performer, transformer = maps.stages
    assert (performer.grid, performer.features, transformer.grid, transformer.features) == ((8, 16), 8, (4, 8), None)
    assert (performer.row, performer.column) == (6, 10)
    assert all(stage.weights.mean().item() == pytest.approx(1, abs=1e-5) for stage in maps.stages)


def test_the_titles_say_how_attention_was_computed(small: ModelSpec) -> None:
    maps = attention_maps(build_model(small), torch.randn(1, 3, 32, 32), middle(small))
    pixels = torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()
    title = draw_stages(maps.stages, pixels, "small, random weights (seed 0)").get_suptitle()
    assert "random weights" in title
    assert "Performer: computed as phi(q) phi(k)^T, normalised, from 8 random features" in title
    heads = draw_block(maps, maps.blocks[-1], pixels, "small")
    panels = [axes.get_title().split(":")[0] for axes in heads.axes[:4]]
    assert panels == ["image", "head 0", "head 1", "rollout of 2 blocks, own scale"]
    assert "class token, block 1" in heads.get_suptitle()
    assert len([axes for axes in draw_all_blocks(maps, pixels, "small").axes if len(axes.images) > 1]) == 4


def test_attention_of_dense_and_patch_models() -> None:
    dense, patch = shallow("t2t_vit_dense"), shallow("vit_s16")
    image = torch.randn(1, 3, 64, 64)
    assert len(attention_maps(build_model(dense), image, middle(dense)).blocks) == 4
    maps = attention_maps(build_model(patch), image, middle(patch))
    assert (len(maps.blocks), maps.stages, maps.grid) == (2, [], (4, 4))


def of_timm(name: str, args: str = "{}", size: str = "[64, 96]") -> nn.Module:
    model = load_spec("resnet50", [f"model.name={name}", f"model.args={args}", f"model.image_size={size}"]).model
    return build_model(model)


def test_attention_of_timm_vision_transformers() -> None:
    image = torch.randn(1, 3, 64, 96)
    distilled = attention_maps(of_timm("deit_tiny_distilled_patch16_224", "{depth: 2}"), image, lambda _: (0, 0))
    assert (distilled.prefix, distilled.grid, len(distilled.blocks)) == (2, (4, 6), 2)
    pooled = of_timm("vit_tiny_patch16_224", "{depth: 2, class_token: false, global_pool: avg}")
    maps = attention_maps(pooled, image, lambda _: (0, 0))
    assert (maps.prefix, maps.has_class_token) == (0, False)
    assert maps.rollout_of_cls.sum().item() == pytest.approx(1, abs=1e-5)
    pixels = torch.zeros(64, 96, 3, dtype=torch.uint8).numpy()
    assert "mean of all tokens" in draw_block(maps, maps.blocks[0], pixels, "vit").get_suptitle()


def test_a_cnn_has_no_attention() -> None:
    model = of_timm("resnet10t", size="64")
    assert not has_attention(model)
    with pytest.raises(InputError, match="ResNet has no attention"):
        attention_maps(model, torch.randn(1, 3, 64, 64), lambda _: (0, 0))
