"""Receptive fields of tokens against those found by gradients."""

import pytest
import torch

from t2tbuild import load_spec
from t2tbuild.layout import Grid
from t2tbuild.modules.soft_split import SoftSplit
from t2tbuild.report.visual.receptive_field import (
    Span,
    Window,
    matching_token,
    overlap,
    receptive_box,
    receptive_spans,
    token_grids,
)
from t2tbuild.spec import ModelSpec


def windows_of_spec(name: str) -> list[Window]:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    return [(window.patch_size, window.stride, window.pad) for window in model.tokenizer.windows]


def pixels_by_gradient(image: Grid, windows: list[Window], token: int) -> torch.Tensor:
    """Return the pixels with a nonzero gradient of a token, through soft splits whose channels are summed."""
    pixels = torch.ones(1, 1, *image, dtype=torch.float64, requires_grad=True)
    below = pixels
    for (patch_size, stride, padding), grid in zip(windows, token_grids(image, windows), strict=True):
        tokens = SoftSplit(patch_size=patch_size, stride=stride, padding=padding)(below)
        below = tokens.sum(dim=2).reshape(1, 1, *grid)
    (gradient,) = torch.autograd.grad(below.flatten()[token], pixels)
    return gradient[0, 0] > 0


def test_spans_by_hand() -> None:
    """Windows of 7 every 4, padding 2: the first has pixels -2 to 4, clipped; then of 3 of these every 2."""
    assert receptive_spans(16, [(7, 4, 2)]) == [Span(0, 5), Span(2, 9), Span(6, 13), Span(10, 16)]
    assert receptive_spans(16, [(7, 4, 2), (3, 2, 1)]) == [Span(0, 9), Span(2, 16)]
    assert overlap(Span(0, 5), Span(2, 9)) == 3
    assert overlap(Span(0, 5), Span(6, 9)) == 0


@pytest.mark.parametrize(
    ("windows", "image"),
    [
        (windows_of_spec("t2t_vit_14"), Grid(48, 48)),
        (windows_of_spec("t2t_vit_14"), Grid(37, 64)),
        (windows_of_spec("t2t_vit_c_14"), Grid(40, 24)),
        (windows_of_spec("vit_s16"), Grid(32, 56)),
        (
            [(5, 3, 0), (2, 1, 1)],
            Grid(21, 13),
        ),  # with rows and columns outside all windows, and padding of an even window
    ],
)
def test_receptive_fields_are_the_pixels_with_gradients(windows: list[Window], image: Grid) -> None:
    for stage in range(1, len(windows) + 1):
        grid = token_grids(image, windows[:stage])[-1]
        for token in {0, grid.width - 1, grid.tokens // 2 + grid.width // 2, grid.tokens - 1} & set(range(grid.tokens)):
            rows, columns = receptive_box(image, windows[:stage], *divmod(token, grid.width))
            predicted = torch.zeros(*image, dtype=torch.bool)
            predicted[slice(*rows), slice(*columns)] = True
            assert pixels_by_gradient(image, windows[:stage], token).equal(predicted)


def test_grids_are_those_of_the_spec() -> None:
    model = load_spec("t2t_vit_14", ["model.image_size=[192, 256]"]).model
    assert isinstance(model, ModelSpec)
    assert tuple(token_grids(model.image, windows_of_spec("t2t_vit_14"))) == model.grids


def test_the_matching_token_of_another_grid() -> None:
    assert matching_token(7, 7, Grid(14, 14), Grid(56, 56)) == (30, 30)
    assert matching_token(0, 3, Grid(2, 4), Grid(1, 2)) == (0, 1)
