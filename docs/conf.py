"""How Sphinx builds the documentation site: .venv/bin/sphinx-build -W --keep-going docs build/site."""

import re

from sphinx.application import Sphinx
from sphinx.config import Config

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
# sphinx-build -b linkcheck checks foreign links only with -D check_foreign_links=1: elsewhere no network may be there.
linkcheck_ignore = [r"https?://"]
linkcheck_timeout = 30
linkcheck_retries = 3
linkcheck_workers = 2  # few enough that a host limits none of them; no host is exempt
linkcheck_rate_limit_timeout = 300  # seconds: a host that answers "too many requests" (429) is asked again for so long

html_theme = "furo"  # light, dark, and search without a server
html_static_path = ["site"]
html_favicon = "site/favicon.svg"
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


def _check_foreign_links(_app: Sphinx, config: Config) -> None:
    """Leave no link out of a linkcheck that is to check foreign ones."""
    if config.check_foreign_links:
        config.linkcheck_ignore = []


def setup(app: Sphinx) -> None:
    """Register what rewrites links, in pages and in what they include, and the option of a linkcheck."""
    app.add_config_value("check_foreign_links", False, "")
    app.connect("config-inited", _check_foreign_links)
    app.connect("source-read", lambda _app, _page, source: _lead_within_the_site(source))
    app.connect("include-read", lambda _app, _path, _page, source: _lead_within_the_site(source))
