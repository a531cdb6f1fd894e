"""Dead channels and redundancy against calculations by hand, and the feature maps of each kind of model."""

import pytest
import torch
from shipped import shallow

from t2tbuild import build_model, load_spec
from t2tbuild.layout import Grid
from t2tbuild.report.visual.draw_features import draw_layer_stats, draw_layers, draw_side_by_side
from t2tbuild.report.visual.features import (
    Layer,
    dead_channels,
    extract_layers,
    measure_layer,
    noise_redundancy,
    redundancy,
    spatial_deviation,
)
from t2tbuild.spec import ModelSpec


def by_hand() -> torch.Tensor:
    """Two images of seven channels on a grid of 2 x 2; channel c of image b swings by `swing` about `offset`.

    Deviations, the larger of two images': 1, 2, 1, 0, 0, 0.002, 0.06; their median is 0.06.
    """
    offset = torch.tensor([0.0, 5.0, 0.0, 0.0, 900.0, 0.0, 0.0])
    swing = torch.tensor([[1, 2, 0, 0, 0, 0.002, 0.06], [1, 0, 1, 0, 0, 0.001, 0.01]])
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    return offset[None, :, None, None] + swing[:, :, None, None] * pattern


def test_dead_channels_are_those_counted_by_hand() -> None:
    maps = by_hand()[:, [0, 1, 2, 3, 5, 6]]
    assert spatial_deviation(maps).tolist() == pytest.approx([1, 2, 1, 0, 0.002, 0.06])
    # the median is 0.06, so up to 0.003 is dead: the zeros and the faint one; one that varies in any image is alive
    assert dead_channels(maps).tolist() == [False, False, False, True, True, False]
    counted = measure_layer(Layer("made up", maps))
    assert (counted.dead, counted.channels, counted.grid) == (2, 6, Grid(2, 2))
    assert counted.dead_share == pytest.approx(1 / 3)


def test_a_large_constant_is_dead_and_so_is_its_rounding() -> None:
    maps = by_hand()[:, [0, 1, 2, 4]]
    assert dead_channels(maps).tolist() == [False, False, False, True]
    maps[:, 3] += 1e-4 * torch.randn(2, 2, 2)
    assert dead_channels(maps).tolist() == [False, False, False, True]


def test_one_outlier_kills_no_other_channel() -> None:
    maps = 0.01 * torch.randn(1, 64, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[0, 0, 0, 0] = 2e4
    assert not dead_channels(maps).any()


def test_where_most_are_flat_the_rest_are_alive() -> None:
    maps = torch.zeros(1, 5, 2, 2)
    maps[0, 2, 0, 0] = 1
    assert dead_channels(maps).tolist() == [True, True, False, True, True]
    assert dead_channels(torch.zeros(1, 3, 2, 2)).all()


def test_redundancy_by_hand() -> None:
    """Of a, -2a + 3 and b, which a does not correlate with, |r| is 1, 0 and 0."""
    a, b = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    maps = torch.stack([a, 3 - 2 * a, b])[None]
    assert redundancy(maps) == pytest.approx(1 / 3)
    with_a_dead_one = torch.cat((maps, torch.zeros(1, 1, 2, 2)), dim=1)
    assert redundancy(with_a_dead_one) == pytest.approx(1 / 3)
    assert redundancy(torch.stack([a, a])[None]) == pytest.approx(1)
    assert redundancy(a[None, None]) is None
    torch.manual_seed(0)
    noise = redundancy(torch.randn(2, 200, 14, 14))
    assert noise == pytest.approx(noise_redundancy(Grid(14, 14)), rel=0.02)


@pytest.mark.parametrize(
    ("name", "first", "blocks"),
    [
        ("t2t_vit_7", ["stage 1", "stage 2", "tokens"], 2),
        ("t2t_vit_c_14", ["stage 1", "stage 2", "tokens"], 2),
        ("vit_s16", ["tokens"], 2),
        ("t2t_vit_dense", ["stage 1", "stage 2", "tokens"], 7),
    ],
)
def test_our_models_have_a_map_for_each_stage_and_block(name: str, first: list[str], blocks: int) -> None:
    spec = shallow(name)
    model = build_model(spec).eval()
    images = torch.randn(2, 3, 64, 64)
    layers = extract_layers(model, images)
    assert [layer.name for layer in layers[: len(first)]] == first
    assert len(layers) == len(first) + blocks
    assert [layer.grid for layer in layers[: len(first)]] == list(spec.grids)
    assert all(layer.grid == spec.grids[-1] for layer in layers[len(first) :])
    tokens = model.tokens_to_token(images).transpose(1, 2).unflatten(2, spec.grids[-1])
    assert torch.allclose(layers[len(first) - 1].maps, tokens, atol=1e-5)


def test_prefix_tokens_are_not_in_maps_and_images_may_be_rectangular() -> None:
    overrides = ["model.image_size=[48, 96]", "model.distillation_token=true", "model.backbone.depth=1"]
    model = load_spec("t2t_vit_7", overrides).model
    layers = extract_layers(build_model(model), torch.randn(1, 3, 48, 96))
    assert isinstance(model, ModelSpec)
    assert [layer.grid for layer in layers] == [*model.grids, model.grids[-1]]


@pytest.mark.parametrize(
    ("name", "args", "names", "channels"),
    [
        ("resnet10t", "{}", ["act1", "layer1", "layer2", "layer3", "layer4"], [64, 64, 128, 256, 512]),
        ("resnet26", "{}", ["act1", "layer1.0", "layer1.1", "layer2.0"], [64, 256, 256, 512]),
        ("vit_tiny_patch16_224", "{depth: 2}", ["blocks.0", "blocks.1"], [192, 192]),
        ("mobilenetv3_small_100", "{}", ["bn1", "blocks.0", "blocks.1.0"], [16, 16, 24]),
    ],
)
def test_feature_maps_of_timm_models(name: str, args: str, names: list[str], channels: list[int]) -> None:
    overrides = [f"model.name={name}", f"model.args={args}", "model.image_size=[64, 96]"]
    torch.manual_seed(0)
    layers = extract_layers(build_model(load_spec("resnet50", overrides).model), torch.randn(1, 3, 64, 96))
    assert [layer.name for layer in layers][: len(names)] == names
    assert [layer.channels for layer in layers][: len(names)] == channels
    assert all(layer.grid.width == 1.5 * layer.grid.height for layer in layers)


def test_figures_have_a_panel_per_layer_and_a_frame_per_dead_channel() -> None:
    layers = [Layer("one", by_hand()), Layer("two", torch.randn(1, 60, 4, 6))]
    figure = draw_layers(layers, "made up")
    first, second = (axes for axes in figure.axes if axes.images)
    assert first.get_title() == "one: 7 channels, 2 x 2, 3 dead"
    assert (len(first.patches), len(second.patches)) == (3, 0)
    stats = [measure_layer(layer) for layer in layers]
    bars = draw_layer_stats(
        [("made up", stats), ("other", [measure_layer(Layer("one channel", torch.ones(1, 1, 2, 2)))])]
    )
    assert [patch.get_width() for patch in bars.axes[0].patches] == pytest.approx([300 / 7, 0])
    assert [text.get_text() for text in bars.axes[3].texts] == ["-"]
    assert "3 of 67 dead (4.5%)" in bars.axes[0].get_title(loc="left")
    image = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    beside = draw_side_by_side([("left", image, layers), ("right", image, layers)])
    assert len([axes for axes in beside.axes if axes.images]) == 8
