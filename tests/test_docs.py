"""docs/spec.md is generated from the spec models, and its examples load."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from t2tbuild.spec.load import read_any
from t2tbuild.spec.schema import json_schema
from tests.documents import ROOT, anchors, read_page

PAGE = ROOT / "docs" / "spec.md"
REFERENCE = read_page(PAGE)
EXAMPLES = [block for block in re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.S | re.M) if "version: 1" in block]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generate: ModuleType) -> None:
    assert generate.spec_reference() == REFERENCE, "run python docs/generate.py"


def test_the_diagram_is_up_to_date(generate: ModuleType) -> None:
    kept = (ROOT / "docs" / "diagram.svg").read_text(encoding="utf-8")
    assert generate.drawn_model() == kept, "run python docs/generate.py"


def test_every_field_of_every_node_has_a_row() -> None:
    spec, search = json_schema("spec"), json_schema("search")
    nodes = [spec, search, *(spec["$defs"] | search["$defs"]).values()]
    wanted = Counter(field for node in nodes for field in node["properties"])
    assert Counter(re.findall(r"^\| `(\w+)` \|", REFERENCE, re.M)) == wanted


def test_there_is_an_example_of_each_kind() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split()[2])
def test_the_examples_load_without_a_warning(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert read_any(tmp_path / "mine.yaml").warnings == []


def test_every_section_has_its_own_anchor() -> None:
    found = anchors(PAGE)
    assert len(found) == len(set(found))
