"""The documentation site builds without a warning; its links lead somewhere, and its reference is complete."""

import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import t2tbuild
from tests.documents import ROOT, read_page

DOCS = ROOT / "docs"


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src") and tag in ("a", "img", "link", "script"):
                self.links.add(value)
            elif value and name == "id":
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = pytest.importorskip("sphinx.cmd.build")
    out = tmp_path_factory.mktemp("site")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Sphinx's own parts; -W is about those of the pages
        assert build.main(["-W", "--keep-going", "-q", str(DOCS), str(out)]) == 0
    return out


@pytest.mark.slow
def test_the_links_of_the_site_lead_to_pages_and_anchors(site: Path) -> None:
    pages = {path: Page(path) for path in site.glob("*.html")}
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= {path.name for path in pages}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if not parts.scheme:
                target = site / unquote(parts.path) if parts.path else path
                assert target.exists(), f"{path.name}: {link}"
                assert target not in pages or not parts.fragment or parts.fragment in pages[target].anchors, link


@pytest.mark.slow
def test_the_site_is_searched_without_a_server(site: Path) -> None:
    assert "soft" in (site / "searchindex.js").read_text(encoding="utf-8")
    assert 'id="search-results"' in (site / "search.html").read_text(encoding="utf-8")


def test_the_reference_has_every_public_name() -> None:
    listed = set(re.findall(r"^\.\. auto\w+:: t2tbuild\.(\w+)", read_page(DOCS / "api.md"), re.M))
    assert set(t2tbuild.__all__) <= listed
