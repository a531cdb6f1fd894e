"""The scripts of benchmarks/ and docs/ import only names that exist."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "docs").glob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_imported_name_exists(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("t2tbuild", "tests"):
            for alias in node.names:
                try:
                    importlib.import_module(f"{node.module}.{alias.name}")
                except ImportError:
                    module = importlib.import_module(node.module)
                    assert hasattr(module, alias.name), f"line {node.lineno}: {node.module} has no {alias.name}"
