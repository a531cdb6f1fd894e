"""Names of classes: they survive YAML, and are matched by name between a model and its data."""

from pathlib import Path

import pytest

from t2tbuild import load_spec
from t2tbuild.errors import FieldError
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.label_names import list_names, map_labels
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.spec.write import write_spec

ODD = ("1", "no", "null", "a: b", "é", "1e3", "x, y", "#k", "'q'", " s", "z\u2028x", "{a}", "~", "日本", "a\nb", "true")
ROOT = ("train", "data", "root")


def test_names_that_yaml_could_take_for_something_else_are_read_as_they_were(tmp_path: Path) -> None:
    spec = load_spec("t2t_vit_7")
    model = with_changes(spec.model, {"num_classes": len(ODD), "label_names": ODD}, "a test")
    write_spec(spec.model_copy(update={"model": model}), tmp_path / "named.yaml")
    assert load_spec(tmp_path / "named.yaml").model == model
    assert load_spec(tmp_path / "named.yaml", ["model.label_names=null"]).model.label_names is None


def test_other_classes_lose_the_names_and_another_image_size_does_not(small: ModelSpec) -> None:
    named = with_changes(small, {"num_classes": 2, "label_names": ("cat", "dog")}, "a test")
    assert with_changes(named, {"image_size": 64}, "a test").label_names == ("cat", "dog")
    assert with_changes(named, {"num_classes": 10}, "a test").label_names is None


def test_labels_go_by_name() -> None:
    found = map_labels(["cat", "dog", "hen"], ["hen", "cat"], ROOT)
    assert (found.classes, found.num_classes, found.missing) == ((2, 0), 3, ("dog",))


@pytest.mark.parametrize(("names", "value"), [(["cat", "Doog"], "dog"), (["cat", "DOG"], "dog"), (["xyz"], "cat, dog")])
def test_a_class_that_the_model_does_not_know_is_named_with_the_nearest(names: list[str], value: str) -> None:
    with pytest.raises(FieldError) as caught:
        map_labels(["cat", "dog"], names, ROOT)
    assert (caught.value.path, caught.value.rule) == (ROOT, "data-classes")
    assert f"'{names[-1]}'" in caught.value.message
    assert value in caught.value.message


def test_long_lists_and_long_names_are_cut() -> None:
    line = list_names([f"class{number}\nof many" for number in range(2000)])
    assert line.endswith("class7 of many, ... (2,000)")
    assert "\n" not in line
    assert len(list_names(["x" * 1000])) == 40
