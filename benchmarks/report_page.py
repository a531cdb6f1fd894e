"""Measure the size and the loading time of a large search's page: PYTHONPATH=. python benchmarks/report_page.py.

Measures how long t2tbuild takes to write the page, and how long Debian's headless Chromium takes to load it from a
file, to draw every figure, and to paint the first frame after that.

Measured on 2026-11-23, 2,000 candidates, Chromium 156, two cores of an AMD EPYC, not all theirs:

written in 1.8 s: 1.99 MB
loaded: median 0.52 s (0.50 to 0.70)
painted: median 0.67 s (0.64 to 0.89)

The page takes 0.27 s of a core. It would take 1.3 s if the table of candidates were laid out before it is visible.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from t2tbuild.report.search_page import write_search_page
from tests.report.browser import chromium
from tests.report.searches import large_search

PAINTED = """() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => {
  const [load] = performance.getEntriesByType("navigation");
  done({ loaded: load.loadEventEnd, painted: performance.now() });
})))"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--openings", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        run = Path(folder)
        result = large_search(run, options.candidates)
        started = time.perf_counter()
        write_search_page(result)
        print(f"written in {time.perf_counter() - started:.1f} s: {(run / 'report.html').stat().st_size / 1e6:.2f} MB")
        found = []
        for _ in range(options.openings):
            page = browser.new_page(viewport={"width": 1280, "height": 900}, offline=True)
            page.goto((run / "report.html").as_uri())
            page.wait_for_selector("#timeline svg")
            found.append(page.evaluate(PAINTED))
            page.close()
        for name in ("loaded", "painted"):
            times = sorted(one[name] / 1000 for one in found)
            print(f"{name}: median {statistics.median(times):.2f} s ({times[0]:.2f} to {times[-1]:.2f})")


if __name__ == "__main__":
    main()
