"""Read the attribute docstrings of spec fields, which are their help.

With `use_attribute_docstrings`, pydantic would read them at every start, a fifth of the start-up time of a command.
Here they are read only when a schema is built.
"""

import ast
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator

from t2tbuild.spec.base import Node


def field_descriptions(node: type[Node]) -> dict[str, str]:
    """Return the help of each field of a node, including inherited fields."""
    found: dict[str, str] = {}
    for kind in reversed(node.__mro__):
        if issubclass(kind, Node):
            found |= _module_docstrings(kind.__module__).get(kind.__qualname__, {})
    return {field: text for field, text in found.items() if field in node.model_fields}


def all_nodes(above: type[Node] = Node) -> Iterator[type[Node]]:
    """Return all node classes that are defined."""
    for node in above.__subclasses__():
        yield node
        yield from all_nodes(node)


@functools.cache
def _module_docstrings(name: str) -> dict[str, dict[str, str]]:
    """Return the attribute docstrings of each class of a module."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {one.name: dict(_attribute_docstrings(one)) for one in tree.body if isinstance(one, ast.ClassDef)}


def _attribute_docstrings(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in itertools.pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docs))):
                yield name, inspect.cleandoc(docs)
