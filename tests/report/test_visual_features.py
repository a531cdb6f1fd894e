"""Dead channels and redundancy, counted by hand; and the feature maps that models of each kind give."""

import pytest
import torch

from t2tbuild.parts import Grid
from t2tbuild.report.visual.features import (
    Layer,
    dead_channels,
    figures_of,
    redundancy,
    spatial_deviation,
)


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
    # the median is 0.06, so up to 0.003 is dead: the zeros and the faint one; what one image alone wakes is alive
    assert dead_channels(maps).tolist() == [False, False, False, True, True, False]
    counted = figures_of(Layer("made up", maps))
    assert (counted.dead, counted.channels, counted.grid) == (2, 6, Grid(2, 2))
    assert counted.dead_share == pytest.approx(1 / 3)


def test_a_large_constant_is_dead_and_so_is_its_rounding() -> None:
    maps = by_hand()[:, [0, 1, 2, 4]]
    assert dead_channels(maps).tolist() == [False, False, False, True]
    maps[:, 3] += 1e-4 * torch.randn(2, 2, 2)
    assert dead_channels(maps).tolist() == [False, False, False, True]


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
