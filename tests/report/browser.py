"""Debian's Chromium without a window, for tests and benchmarks."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, sync_playwright

CHROMIUM = shutil.which("chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; CHROMIUM is there."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def hover(mark: Locator) -> None:
    """Move the pointer to a mark of a figure once the page has stopped scrolling, for a scroll hides the tooltip."""
    mark.scroll_into_view_if_needed()
    mark.page.evaluate("() => new Promise((end) => requestAnimationFrame(() => requestAnimationFrame(end)))")
    mark.hover(force=True)
