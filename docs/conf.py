"""How Sphinx builds the documentation site: .venv/bin/sphinx-build -W --keep-going docs build/site."""

import re

from sphinx.application import Sphinx

from t2tbuild import __version__

project = "t2tbuild"
author = "the t2tbuild authors"
project_copyright = "the t2tbuild authors, Apache-2.0"
version = release = __version__
html_title = f"t2tbuild {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["notebooks"]
highlight_language = "sh"  # of indented blocks
default_role = "code"  # single backticks in docstrings
myst_heading_anchors = 4  # named as GitHub names them
copybutton_prompt_text = "$ "
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
linkcheck_ignore = [r"https?://"]  # every external link, as no network is there: tests/test_links.py checks their form

html_theme = "furo"  # light, dark, and search without a server
html_static_path = ["site"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5394", "color-brand-content": "#0b5394"},
    "dark_css_variables": {"color-brand-primary": "#8ab4f8", "color-brand-content": "#8ab4f8"},
}

ROOT_PAGES = {"CONTRIBUTING": "contributing", "CHANGELOG": "changelog", "SECURITY": "security", "README": "index"}
LINK = re.compile(rf"\]\((?:\.\./|docs/)?({'|'.join(ROOT_PAGES)})\.md")


def _lead_within_the_site(source: list[str]) -> None:
    """Lead links to the pages of the root to their copies in the site, and links from the root to docs/."""
    text = LINK.sub(lambda found: f"]({ROOT_PAGES[found[1]]}.md", source[0])
    source[0] = text.replace("](docs/", "](")


def setup(app: Sphinx) -> None:
    """Register what rewrites links, in pages and in what they include."""
    app.connect("source-read", lambda _app, _page, source: _lead_within_the_site(source))
    app.connect("include-read", lambda _app, _path, _page, source: _lead_within_the_site(source))
