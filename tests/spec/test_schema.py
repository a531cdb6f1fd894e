"""The shipped JSON Schemas are up to date, and accept and reject what the loader does."""

import json
from typing import Any

import jsonschema
import pytest

from t2tbuild.spec import catalog
from t2tbuild.spec.diagnostics.yaml_source import read_file
from t2tbuild.spec.modeline import MARK
from t2tbuild.spec.schema import Kind, json_schema

SHIPPED = [
    *(("spec", name) for name in (*catalog.names("specs"), *catalog.names("training"))),
    *(("search", name) for name in catalog.names("search")),
]
GOOD: dict[str, Any] = {
    "version": 1,
    "model": {
        "name": "mine",
        "tokenizer": {"stages": [{"patch_size": 7, "overlap": 3}]},
        "backbone": {"depth": 2, "embed_dim": 64, "num_heads": 2},
    },
}


def editor(kind: Kind) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json_schema(kind))


@pytest.mark.parametrize("kind", ["spec", "search"])
def test_the_shipped_schema_is_up_to_date(kind: Kind) -> None:
    schema = json_schema(kind)
    jsonschema.Draft7Validator.check_schema(schema)
    assert json.loads(catalog.SCHEMAS[kind].read_text()) == schema, f"renew it: t2tbuild schema {kind}"


@pytest.mark.parametrize(("kind", "name"), SHIPPED)
def test_every_shipped_spec_names_its_schema_and_is_valid(kind: Kind, name: str) -> None:
    file = catalog.find(name)
    first = file.read_text().splitlines()[0]
    assert first.startswith(MARK)
    assert (file.parent / first.removeprefix(MARK)).resolve() == catalog.SCHEMAS[kind]
    assert [error.message for error in editor(kind).iter_errors(read_file(file).data)] == []


@pytest.mark.parametrize("kind", ["spec", "search"])
def test_every_field_has_a_description_a_default_and_an_example(kind: Kind) -> None:
    schema = json_schema(kind)
    missing = []
    for name, node in {kind: schema, **schema["$defs"]}.items():
        assert node["description"], name
        for field, about in node["properties"].items():
            refers = "$ref" in about
            missing += [(name, field, "description")] * ("description" not in about)
            missing += [(name, field, "examples")] * (not refers and "examples" not in about)
            missing += [(name, field, "default")] * ("default" not in about and field not in node.get("required", ()))
    assert missing == []


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        (("Stage", "patch_size"), "pixels or tokens"),
        (("PlainBackbone", "depth"), "blocks"),
        (("PlainBackbone", "embed_dim"), "channels"),
        (("TrainSpec", "warmup_epochs"), "epochs"),
        (("PaperRow", "macs"), "multiply-adds per image"),
    ],
)
def test_units_of_fields(field: tuple[str, str], unit: str) -> None:
    node, name = field
    assert json_schema("spec")["$defs"][node]["properties"][name]["unit"] == unit


def changed(path: str, value: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(GOOD))
    *above, last = path.split(".")
    node = made
    for part in above:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "passes"),
    [
        ("model.tokenizer.kind", "t2t", True),
        ("model.tokenizer", {"kind": "patch", "patch_size": 16}, True),
        ("model.tokenizer", {"patch_size": 16}, False),  # without a kind it is t2t
        ("model.backbone.drop_path", 0, True),
        ("model.backbone.drop_path", 0.5, True),
        ("model.backbone.drop_path", 1.0, False),
        ("model.backbone.num_heads", [2, 2], True),
        ("model.backbone.num_heads", "2", False),
        ("model.backbone.dpeth", 3, False),
        ("model.image_size", [32, 64], True),
        ("model.image_size", [32], False),
        ("model", "t2t_vit_14", True),
        ("model", {"kind": "timm", "name": "resnet50"}, True),
        ("model", {"kind": "tim", "name": "resnet50"}, False),
        ("weights", "file.pth", True),
        ("weights", {"reset_head": True}, False),
        ("paper", {"params": "21.5M"}, True),
        ("paper", [{"params": "21.5MB"}], False),
        ("version", 2, False),
        ("train", {"epochs": 3}, True),
        ("train", {"eopchs": 3}, False),
    ],
)
def test_the_schema_accepts_and_rejects_what_the_loader_does(path: str, value: Any, passes: bool) -> None:
    assert editor("spec").is_valid(changed(path, value)) == passes


@pytest.mark.parametrize(
    ("field", "value", "passes"),
    [
        ("activations", "150MB", True),
        ("activations", "1.5 GiB", True),
        ("activations", {"max": "150MB", "min": "100kB"}, True),
        ("activations", "150mb", False),
        ("macs", "150MB", False),
        ("params", {"max": "150MB"}, False),
    ],
)
def test_the_schema_accepts_bytes_for_activations_only(field: str, value: Any, passes: bool) -> None:
    space = {"backbone.depth": {"fill": [0.7, 1.0]}}
    search = {"version": 1, "search": {"base": "t2t_vit_14", "budget": {field: value}, "space": space}}
    assert editor("search").is_valid(search) == passes


def test_the_attention_of_a_stage_has_a_shorthand() -> None:
    for attention, passes in [
        ("performer", True),
        ({"kind": "performer", "kernel_ratio": 1}, True),
        ("softmax", False),
    ]:
        stage = {"patch_size": 7, "overlap": 3, "token_dim": 64, "attention": attention}
        stages = [stage, {"patch_size": 3, "overlap": 1}]
        assert editor("spec").is_valid(changed("model.tokenizer.stages", stages)) == passes
