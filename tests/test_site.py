"""The documentation site builds without a warning, links lead somewhere, a browser shows it, its reference is whole."""

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as BrowserPage

import t2tbuild
from tests.documents import ROOT, read_page
from tests.local_server import LocalServer, QuietHandler, serving
from tests.report.browser import CHROMIUM, chromium

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with chromium() as running:
        yield running


class _Site(QuietHandler, SimpleHTTPRequestHandler):
    """A handler that answers with files of a folder."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serving(server := LocalServer(partial(_Site, directory=str(site)))):
        yield server.url


@contextmanager
def opening(browser: Browser, address: str, width: int) -> Iterator[BrowserPage]:
    """Open a page of the site; afterwards check that the console has no error and that no other host was asked."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    opened, errors, hosts = context.new_page(), [], set()
    opened.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    opened.goto(address)
    yield opened
    assert errors == []
    assert hosts == {urlsplit(address).netloc}
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("name", ["index", "get_started", "searching", "gallery"])
def test_a_page_is_as_wide_as_the_screen(address: str, browser: Browser, name: str, width: int) -> None:
    with opening(browser, f"{address}/{name}.html", width) as page:
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []


@pytest.mark.slow
def test_a_reader_searches_the_site(address: str, browser: Browser) -> None:
    with opening(browser, f"{address}/index.html", 1280) as page:
        page.locator(".sidebar-search").fill("supernet")
        page.keyboard.press("Enter")
        found = page.locator("#search-results li a")
        expect(found.first).to_be_visible()
        assert any("supernet.html" in link.get_attribute("href") for link in found.all())


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_reader_takes_the_dark_site(address: str, browser: Browser, width: int) -> None:
    def brightness() -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    with opening(browser, f"{address}/get_started.html", width) as page:
        assert brightness() > 600
        page.locator(".theme-toggle:visible").first.click()
        expect(page.locator("body")).to_have_attribute("data-theme", "dark")
        assert brightness() < 150


class _Host(QuietHandler):
    """A foreign host: it has one page, and one that is not there."""

    def do_HEAD(self) -> None:  # noqa: N802
        self.start(404 if "gone" in self.path else 200, {"Content-Length": "0"})

    do_GET = do_HEAD  # noqa: N815


@pytest.mark.slow
@pytest.mark.parametrize("asked", [False, True])
def test_a_linkcheck_reads_foreign_links_only_if_it_is_asked_to(asked: bool, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with serving(server := LocalServer(_Host)):
        links = f"[here]({server.url}/page) and [there]({server.url}/gone)"
        (tmp_path / "source" / "index.md").write_text(f"# A page\n\n{links}\n")
        more = ["-D", "check_foreign_links=1"] if asked else []
        command = [sys.executable, "-m", "sphinx", "-b", "linkcheck", "-q", "-c", str(DOCS), *more]
        ended = subprocess.run(
            [*command, str(tmp_path / "source"), str(tmp_path / "out")], cwd=ROOT, capture_output=True
        )
    report = (tmp_path / "out" / "output.txt").read_text()
    assert (ended.returncode, "gone" in report) == ((1, True) if asked else (0, False))
    assert "/page" not in report


def test_the_reference_has_every_public_name() -> None:
    listed = set(re.findall(r"^\.\. auto\w+:: t2tbuild\.(\w+)", read_page(DOCS / "api.md"), re.M))
    assert set(t2tbuild.__all__) <= listed
