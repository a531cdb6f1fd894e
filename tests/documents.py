"""The documentation pages, and what tests read from them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [README, ROOT / "CONTRIBUTING.md", *GUIDES[1:]]


def read_page(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the fenced code blocks of a language in a page."""
    found = re.findall(rf"^```{language}\n(.*?)^```", read_page(page), re.S | re.M)
    assert found, f"{page.name} has no {language} block"
    return found


def without_code(text: str) -> str:
    """Return a page without its fenced code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(page: Path) -> list[str]:
    """Return the anchors of the headings of a page, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", without_code(read_page(page)), re.M)
    return [re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings]


def local_links(page: Path) -> list[tuple[str, str]]:
    """Return (file, anchor) of every link of a page that is not to the web; the file is empty within the page."""
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", without_code(read_page(page)))
    return [(file, anchor) for file, anchor in links if "://" not in file]
