"""Space statistics: exact for a small space, estimated with an interval for a large one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from t2tbuild import load_search_spec, predict_cost
from t2tbuild.nas import space_stats
from t2tbuild.nas.budget import Infeasible
from t2tbuild.nas.members import Members
from t2tbuild.nas.plan import plan
from t2tbuild.nas.space_stats import measure_space
from t2tbuild.report.space_plot import plot_space, space_lines
from t2tbuild.spec import SearchSpec, catalog
from t2tbuild.spec.budget import Budget

Tiny = Callable[..., SearchSpec]


def size_of(spec: SearchSpec) -> space_stats.SpaceStats:
    return measure_space(plan(spec).members, spec.search.seed)


def test_members_are_those_that_brute_force_would_try(tiny: Tiny) -> None:
    spec = tiny()
    size = size_of(spec)
    found = list(plan(spec).members)
    assert size.exact
    assert size.members == size.low == size.high == len(found)
    costs = [predict_cost(member.model).macs for member in found]
    assert (size.smallest.macs, size.largest.macs) == (min(costs), max(costs))
    assert max(costs) <= 3_000_000


def test_values_of_blocks_beyond_the_depth_add_no_members(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """2^2 models of two blocks and 2^3 of three, not 2^3 of each."""
    spec = tiny("search.space={backbone.mlp_ratio: {choices: [1, 2], per: block}, backbone.depth: {choices: [2, 3]}}")
    assert size_of(spec).members == len(list(plan(spec).members)) == 12
    monkeypatch.setattr(space_stats, "MAX_ENUMERATED", 1)
    drawn = size_of(spec)
    assert drawn.low <= 12 <= drawn.high


@pytest.mark.slow
def test_a_sample_estimates_the_exact_count(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """With conditions too, where draws are weighted by their inverse probability."""
    space = (
        "search.space={backbone.mlp_ratio: {choices: [1, 2, 3, 4]}, "
        "backbone.num_heads: {choices: [1, 2, 4, 8, 16], when: {backbone.mlp_ratio: [1, 2]}}, "
        "backbone.embed_dim: {choices: [16, 32, 48, 64, 80, 96]}, backbone.depth: {fill: [0.5, 1.0]}}"
    )
    spec = tiny(space)
    counted = size_of(spec)
    assert counted.assignments == (2 * 5 + 2) * 6
    monkeypatch.setattr(space_stats, "MAX_ENUMERATED", 1)
    drawn = size_of(spec)
    assert not drawn.exact
    assert drawn.low <= counted.members <= drawn.high
    assert drawn.assignments == pytest.approx(counted.assignments, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.names("search"))
def test_shipped_searches_have_members(name: str, tmp_path: Path) -> None:
    spec = load_search_spec(name)
    size = size_of(spec)
    assert size.members > 100
    limit = spec.search.budget.macs
    assert limit is not None
    assert limit.max is not None
    assert size.largest.macs <= limit.max
    assert predict_cost(plan(spec).base).macs <= limit.max, "the base"
    lines = space_lines(size, spec.search)
    assert ("counted" in lines[1]) == size.exact
    plot_space(size, spec.search, tmp_path / "space.png")
    assert (tmp_path / "space.png").read_bytes().startswith(b"\x89PNG")


def test_a_space_without_members_is_reported(tiny: Tiny) -> None:
    spec = tiny()
    none = Budget.model_validate({"macs": 1000})
    with pytest.raises(Infeasible, match="none of 192 assignments"):
        measure_space(Members(plan(spec).space, none))
