"""Every input either loads or raises a SpecError, and every valid spec can be built and run.

The number of examples is small. `T2TBUILD_FUZZ=5000 pytest tests/spec/test_fuzz.py` runs more of each.
"""

import copy
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from t2tbuild import build_model, load_spec, predict_cost, write_spec
from t2tbuild.cli.diagnostics import print_diagnostics
from t2tbuild.errors import SpecError
from t2tbuild.nas.plan import plan
from t2tbuild.report.resolved import resolved_yaml
from t2tbuild.spec import ModelSpec, catalog
from t2tbuild.spec.diagnostics.yaml_source import read_text
from t2tbuild.spec.load import check_text, read_any
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.resolve import resolve

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("T2TBUILD_FUZZ", "0"))
OURS = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]
REAL_MACS = 500_000_000  # larger models run on the meta device, which checks shapes without computing


def examples(number: int) -> settings:
    """Return settings with a number of examples, which are always the same in CI."""
    wide = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=EXAMPLES or number, deadline=None, derandomize=not EXAMPLES, suppress_health_check=wide
    )


@contextmanager
def checked_spec_errors() -> Iterator[None]:
    """Check a SpecError that is raised in this context: it can be printed, and each mistake has a message and place."""
    try:
        yield
    except SpecError as error:
        check(error)


def check(error: SpecError) -> None:
    assert error.diagnostics
    print_diagnostics(Console(file=io.StringIO(), width=80), error.diagnostics)
    for diagnostic in error.diagnostics:
        assert diagnostic.message
        assert diagnostic.rule
        assert diagnostic.line >= 0
        assert not diagnostic.line or 1 <= diagnostic.column <= len(diagnostic.text) + 1


WORDS = [
    *("version", "model", "search", "train", "weights", "paper", "tokenizer", "backbone", "stages", "space", "budget"),
    *("kind", "depth", "embed_dim", "num_heads", "mlp_ratio", "patch_size", "overlap", "attention", "t2t", "dense"),
    *("1", "0", "-1", "1e9", "5G", "true", "null", ".nan", "performer", "t2t_vit_14", "[", "]", "{", "}", ": ", ", "),
    *(
        "\n",
        "\n  ",
        "\n    ",
        "\n- ",
        "- ",
        ":",
        "&a ",
        "*a",
        "!!str ",
        "'",
        '"',
        "#",
        "---\n",
        "\t",
        "|",
        ">",
        "? ",
        "%",
    ),
    *("\u2212", "\u201c", "\xa0", "\ufeff", "\x00", "\x1b[31m", "\u2028", "模", "010", "1:30", "<<: ", "0x1f", "1_000"),
]
yaml_like = st.lists(st.sampled_from(WORDS), max_size=40).map("".join)


@examples(400)
@given(st.one_of(yaml_like, yaml_like.map("version: 1\nmodel: ".__add__), st.text(max_size=200)))
def test_any_text_loads_or_raises_a_spec_error(text: str) -> None:
    with checked_spec_errors():
        check_text(text, Path("fuzz.yaml"))


@examples(200)
@given(st.one_of(st.binary(max_size=200), yaml_like.map(str.encode), yaml_like.map(lambda text: text.encode("utf-16"))))
def test_any_bytes_load_or_raise_a_spec_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "fuzz.yaml").write_bytes(raw)
    with checked_spec_errors():
        read_any(tmp_path / "fuzz.yaml")


@examples(200)
@given(st.text(max_size=60), st.sampled_from(["", "model.", "train.epochs=", "model.tokenizer.stages."]))
def test_any_override_applies_or_raises_a_spec_error(text: str, start: str) -> None:
    with checked_spec_errors():
        load_spec("t2t_vit_7", [start + text])


numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 24, 64, 100, 1000, 16384, 65536, 10**6, 10**9, 10**30]),
    st.integers(-10, 400),
    st.sampled_from([0.0, 0.1, 0.5, 1.5, 2.5, -0.5, 1e-9, 1e9, float("inf"), float("nan")]),
)
scalars = st.one_of(
    numbers, st.none(), st.booleans(), st.text(max_size=8), st.sampled_from(["performer", "transformer", "dense", "5G"])
)
FIELDS = [
    *WORDS[:18],
    *(
        "head_dim",
        "ghost",
        "squeeze_excite",
        "padding",
        "token_dim",
        "args",
        "blocks",
        "choices",
        "fill",
        "low",
        "high",
    ),
    *(
        "vit",
        "timm",
        "t2t",
        "conv",
        "patch",
        "plain",
        "dense",
        "performer",
        "Choices",
        "Range",
        "Fill",
        "digits",
        "int",
        "folder",
        "cifar10",
        "cifar100",
        "fake",
        "adamw",
        "sgd",
        "data",
        "augment",
        "teacher",
        "root",
    ),
]
values = st.recursive(
    st.one_of(numbers, scalars),
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(st.sampled_from([*WORDS, *FIELDS]), below, max_size=2)
    ),
    max_leaves=5,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every path of plain data except the root."""
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in below for place in ((*path, key), *places(value, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """Return the data of a shipped spec with one field changed, removed or added."""
    data: dict[str, Any] = copy.deepcopy(read_text(catalog.find(draw(st.sampled_from(names))).read_text(), "").data)
    data.pop("paper", None)
    *above, last = draw(st.sampled_from(places(data)))
    node: Any = data
    for part in above:
        node = node[part]
    what = draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
    if what == "remove":
        del node[last]
    elif what == "add" and isinstance(node, dict):  # including kinds, which pydantic adds to its paths
        node[draw(st.sampled_from(FIELDS))] = draw(values)
    else:
        node[last] = draw(values)
    return data


@examples(150)
@given(mutated([*OURS, *catalog.names("training")]))
def test_a_mutated_spec_is_rejected_or_builds_and_runs(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "mutated.yaml"
    path.write_text(as_yaml(data))
    spec = None
    with checked_spec_errors():
        spec = load_spec(path)
    if spec is None:
        return
    model = spec.model
    assert isinstance(model, ModelSpec)
    real = predict_cost(model).macs < REAL_MACS
    with torch.device("cpu" if real else "meta"), torch.no_grad():
        logits = build_model(model).eval()(torch.zeros(1, model.in_chans, *model.image))
    assert logits.shape == (1, model.num_classes)
    write_spec(spec, tmp_path / "again.yaml")
    assert load_spec(tmp_path / "again.yaml") == spec


@examples(150)
@given(mutated(catalog.names("training")))
def test_a_mutated_training_is_rejected_or_resolved(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "mutated.yaml"
    path.write_text(as_yaml(data))
    with checked_spec_errors():
        document = read_any(path)
        if isinstance(document.spec, Spec):
            with document.located_errors():
                resolved = resolve(document.spec)
            assert resolved.train == (document.spec.train or TrainSpec())
            assert resolved_yaml(document)


TIMM = [name for name in catalog.names("specs") if name not in OURS]


@examples(12)
@given(mutated(TIMM))
def test_a_mutated_spec_of_timm_is_rejected_or_builds_and_runs(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "mutated.yaml"
    path.write_text(as_yaml(data))
    with checked_spec_errors():
        document = read_any(path)
        model = document.spec.model
        device = torch.device("cpu" if model.image.tokens <= 300**2 else "meta")
        with document.located_errors(), torch.no_grad(), device:
            logits = build_model(model).eval()(torch.zeros(1, model.in_chans, *model.image))
        assert logits.shape == (1, model.num_classes)


odd_text = st.one_of(
    st.text(max_size=20), st.sampled_from(["1e5", "010", "0x1f", "yes", "~", "", " a", "a: b", "\x85y"])
)


@examples(200)
@given(
    odd_text,
    odd_text,
    st.dictionaries(odd_text.map("x".__add__), st.one_of(odd_text, numbers.filter(math.isfinite)), max_size=3),
)
def test_any_text_round_trips(tmp_path: Path, note: str, file: str, args: dict[str, Any]) -> None:
    model = {"kind": "timm", "name": "1e5", "args": args}
    data = {"version": 1, "model": model, "paper": [{"note": note, "variant": file}]}
    spec = Spec.model_validate(data)
    write_spec(spec, tmp_path / "written.yaml")
    assert load_spec(tmp_path / "written.yaml") == spec


@examples(100)
@given(mutated(catalog.names("search")))
def test_a_mutated_search_is_rejected_or_planned(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "mutated.yaml"
    path.write_text(as_yaml(data))
    with checked_spec_errors():
        document = read_any(path)
        if isinstance(document.spec, SearchSpec):
            with document.located_errors():
                plan(document.spec)


def as_yaml(value: Any) -> str:
    """Return plain data as flow YAML. This writer is independent of t2tbuild's own."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_yaml(str(key))}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return {"inf": ".inf", "nan": ".nan"}.get(repr(value), repr(value))
