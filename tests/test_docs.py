"""docs/spec.md is what the models say, its examples load, and no link of the documents leads nowhere."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from t2tbuild.spec.load import read_any
from t2tbuild.spec.schema import json_schema

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
OUTSIDE_CODE = re.sub(r"^```.*?^```", "", REFERENCE, flags=re.S | re.M)
EXAMPLES = [block for block in re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.S | re.M) if "version: 1" in block]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_models_say(generate: ModuleType) -> None:
    assert generate.spec_reference() == REFERENCE, "run python docs/generate.py"


def test_the_diagram_is_that_of_the_model(generate: ModuleType) -> None:
    kept = (ROOT / "docs" / "diagram.svg").read_text(encoding="utf-8")
    assert generate.drawn_model() == kept, "run python docs/generate.py"


def test_every_field_of_every_node_has_its_row() -> None:
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


def test_every_mapping_links_to_its_own_section() -> None:
    headings = re.findall(r"^#+ (.+)$", OUTSIDE_CODE, re.M)
    anchors = [re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(anchors) == len(set(anchors))
    links = set(re.findall(r"\]\(#([^)]+)\)", REFERENCE))
    assert links
    assert links <= set(anchors)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_and_pictures_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (page.parent / link).exists()] == []


def anchors_of(page: Path) -> set[str]:
    """The headings of a page as its links name them."""
    outside_code = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", outside_code, re.M)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_into_pages_lead_to_headings() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [(page, *link) for page in pages for link in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())]
    assert links
    lost = [
        f"{page.name}: {to}#{at}" for page, to, at in links if at not in anchors_of(page.parent / to if to else page)
    ]
    assert lost == []
