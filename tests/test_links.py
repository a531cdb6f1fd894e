"""Every link and picture of the documentation leads to a file and a heading that exist."""

from pathlib import Path

import pytest

from tests.documents import PAGES, README, anchors, local_links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, anchor in local_links(page):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


def test_the_readme_links_to_every_page() -> None:
    linked = {file for file, _ in local_links(README)}
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked
