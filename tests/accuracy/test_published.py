"""published.yaml: printed figures, each with its source."""

import re
from collections import Counter

import pytest
from pydantic import ValidationError

from t2tbuild import predict_cost
from t2tbuild.accuracy.published import (
    FILE,
    IMAGENET,
    PublishedModel,
    Row,
    published_models,
    reserved_sources,
    sources,
)
from t2tbuild.accuracy.read import read_data

FURTHEST = 0.05
"""Share by which our counts may differ from printed ones without a note."""


def test_there_are_enough_trainings_on_imagenet_alone() -> None:
    found = [one for one in published_models() if one.recipe.data == IMAGENET]
    assert len(found) >= 150
    assert len({one.source for one in found}) >= 30


def test_each_row_names_a_source_and_its_place() -> None:
    named = sources()
    assert {one.source for one in published_models()} == set(named)
    assert all(source["title"] and source["read_from"] for source in named.values())
    assert all(one.where for one in published_models())
    assert reserved_sources() <= set(named)


def test_no_row_is_duplicated() -> None:
    counts = Counter((one.source, one.name, one.recipe.name, one.where) for one in published_models())
    assert [row for row, count in counts.items() if count > 1] == []


def test_printed_costs_are_ours_or_a_note_says_by_how_much_they_differ() -> None:
    different = [one for one in published_models() if _furthest(one) > FURTHEST]
    assert len(different) >= 60
    assert [(one.source, one.name) for one in different if not re.search(r"ours: .*[+-]\d+%", one.note)] == []


def _furthest(published: PublishedModel) -> float:
    cost = predict_cost(published.model)
    printed = [(published.params, cost.params), (published.macs, cost.macs)]
    return max((abs(ours / theirs - 1) for theirs, ours in printed if theirs), default=0.0)


def test_the_papers_rows_are_the_papers_tables() -> None:
    paper = {one.name: one for one in published_models() if one.source == "t2t"}
    # Tables 1 and 6, as printed: parameters in millions, MACs in G, top-1 in percent.
    for name, params, macs, top1 in (
        ("t2t_vit_14", 21.5, 4.8, 81.5),
        ("t2t_vit_24", 64.1, 13.8, 82.3),
        ("vit_s16", 48.6, 10.1, 78.1),
        ("vit_dn", 24.5, 5.5, 79.0),
    ):
        row = paper[name]
        assert (row.params, row.macs, row.top1) == (params * 1e6, macs * 1e9, top1), name


def test_trainings_with_more_data_or_a_teacher_are_marked() -> None:
    recipes = {one.recipe for one in published_models()}
    assert any(recipe.teacher for recipe in recipes)
    assert {"in21k", "cifar100"} <= {recipe.data for recipe in recipes}


def test_what_is_from_memory_or_from_a_chart_is_marked_as_uncertain() -> None:
    silent = [one for one in published_models() if not one.uncertain and re.search("from memory|chart", one.note)]
    assert [(one.source, one.name) for one in silent] == []
    assert all(one.note for one in published_models() if one.uncertain)  # the note says why


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"uncertain": ["epoch"]}, "uncertain"),
        ({"uncertain": "epochs"}, "uncertain"),
        ({"top1": 815}, "top1"),
        ({"top1": "81.5"}, "top1"),
        ({"uncertainty": ["epochs"]}, "uncertainty"),
    ],
)
def test_a_row_is_validated(changes: dict[str, object], field: str) -> None:
    row = read_data(FILE)["rows"][0]
    assert Row.model_validate(row).top1 == row["top1"]
    with pytest.raises(ValidationError) as error:
        Row.model_validate(row | changes)
    assert error.value.errors()[0]["loc"][0] == field
