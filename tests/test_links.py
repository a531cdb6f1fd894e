"""Every link and picture of the documentation leads to a file and a heading that exist."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.documents import PAGES, ROOT, anchors, local_links, read_page, without_code

INDEX = ROOT / "docs" / "index.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, anchor in local_links(page):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


def test_the_index_links_to_every_page() -> None:
    """By a sentence, and by a table of contents, which the site shows."""
    pages = {page.name for page in PAGES if page.parent.name == "docs"} - {INDEX.name}
    assert pages <= {file for file, _ in local_links(INDEX)}
    contents = re.findall(r"^```{toctree}\n(.*?)^```", read_page(INDEX), re.S | re.M)
    listed = re.findall(r"^(?:.*<)?(\w+)>?$", "".join(contents), re.M)
    assert sorted(f"{name}.md" for name in listed) == sorted(pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_addresses_are_well_formed(page: Path) -> None:
    """Tests have no network: whether an address answers is not checked."""
    for address in re.findall(r"\]\((\w+:[^)\s]*)\)", without_code(read_page(page))):
        parts = urlsplit(address)
        assert parts.scheme == "https", address
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), address
