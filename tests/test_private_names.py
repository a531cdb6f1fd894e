"""The package uses private names of its dependencies only where the list below gives a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "t2tbuild"

ALLOWED = {
    "_top_saved_tensors_default_hooks": "torch: recomputation must not replace the hooks of gradient checkpointing, "
    "and torch has no public way to ask for active hooks; without it recompute.py warns and saves as usual",
    "_version": "torch: autograd's own check for changes in place, which saved_tensors_hooks turn off",
    "timm.models._hub": "timm: save_config_for_hf writes config.json alone; the public save_for_hf also writes weights",
    "_trial_id": "optuna: the storage identifies trials by this number",
}
"""Private names of dependencies, each with the reason."""

PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
"""Documented names of the standard library: those of named tuples, and os._exit."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def private_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (name, line) for each private module that is imported and each private attribute of another object.

    Attributes of self and cls are our own. A chain of attributes counts once, as its last private name.
    """
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                if any(map(is_private, module.split("."))):
                    imported = [module]
                else:
                    imported = [f"{module}.{alias.name}" for alias in names]
            case ast.Attribute() if id(node) not in inner:
                yield from ((name, node.lineno) for name in _private_part(node))
                continue
            case _:
                continue
        for name in imported:
            if any(map(is_private, name.split("."))) and not name.startswith("t2tbuild."):
                yield name, node.lineno


def _private_part(node: ast.expr) -> list[str]:
    """Return the last private name of a chain of attributes, without one of self or cls."""
    while isinstance(node, ast.Attribute):
        of_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if is_private(node.attr) and not of_own:
            return [node.attr]
        node = node.value
    return []


def test_no_other_private_name_of_a_dependency_is_used() -> None:
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, line in private_names(ast.parse(path.read_text(encoding="utf-8")))
        if name not in ALLOWED
    ]
    assert not found, "\n".join(found)


def test_the_list_is_short_and_has_no_entry_that_nobody_uses() -> None:
    used = {
        name for path in PACKAGE.rglob("*.py") for name, _ in private_names(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(ALLOWED) <= 5
    assert not set(ALLOWED) - used


def test_private_names_are_found() -> None:
    code = """
import torch._dynamo
from timm.models._hub import save_for_hf
from optuna.storages import _rdb
from t2tbuild._lazy import lazy_names
class Ours(Base):
    def run(self, trial, row):
        self._own, row._replace(a=1)
        return torch._C._autograd._hooks(True).public, super()._stale(), trial._trial_id, trial.__dict__
"""
    assert sorted(name for name, _ in private_names(ast.parse(code))) == [
        "_hooks",
        "_stale",
        "_trial_id",
        "optuna.storages._rdb",
        "timm.models._hub",
        "torch._dynamo",
    ]
