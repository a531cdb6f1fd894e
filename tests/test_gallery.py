"""docs/gallery.py makes a section of a run directory."""

import json
import re
import subprocess
import sys
from pathlib import Path

from t2tbuild import load_search_spec
from tests.documents import ROOT

REPORT = {
    "verdict": "No candidate is better.",
    "target": "imagenet",
    "seconds": 239.4,
    "outcome": "complete",
    "counts": {"asked": 8, "completed": 7, "trained_over_budget": 0},
    "winner": {
        "number": "base",
        "macs": 4_800_254_784,
        "params": 21_545_550,
        "model": {"backbone": {"depth": 14, "embed_dim": 384}},
    },
    "environment": {
        "command": ["/x/__main__.py", "search", "--budget-macs", "5G", "--out", "/tmp/here/five"],
        "device": "cpu",
        "cpus": 2,
        "packages": {"t2tbuild": "0.2.0", "torch": "2.15.0", "timm": "1.0.31", "optuna": "5.0.0"},
    },
}


def test_a_section_has_verdict_winner_spec_and_command(tmp_path: Path) -> None:
    run, unfinished = tmp_path / "five", tmp_path / "unfinished"
    run.mkdir()
    (run / "report.json").write_text(json.dumps(REPORT))
    (run / "spec.yaml").write_text((ROOT / "search" / "deep_narrow.yaml").read_text())
    (run / "best.yaml").write_text("# Found by t2tbuild\n" + (ROOT / "specs" / "t2t_vit_14.yaml").read_text())
    program = [sys.executable, str(ROOT / "docs" / "gallery.py"), "--check", str(run), str(unfinished)]
    page = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert f"left out, not finished: {unfinished}" in page
    assert "## deep_narrow, 5.00G MACs, seed 0" in page
    assert "**No candidate is better.**" in page
    assert "the base itself: depth 14, width 384, 4.80G MACs, 21.5M parameters" in page
    assert "\nt2tbuild search --budget-macs 5G --out runs/five\n" in page
    assert "embed_dim: 384" in page
    assert "Found by" not in page


def test_the_page_has_every_shipped_search_and_each_was_finished() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^## (\w+),", page, re.M))
    assert shown == {load_search_spec(str(path)).search.name for path in (ROOT / "search").glob("*.yaml")}
    assert set(re.findall(r"outcome: (\w+)", page)) <= {"complete", "converged", "exhausted"}
