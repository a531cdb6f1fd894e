"""What stands beneath each field in the source: its help.

Pydantic reads it at every start where `use_attribute_docstrings` is set, which takes a fifth of the start-up of a
command; here it is read when a schema is asked for.
"""

import ast
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator

from t2tbuild.spec.base import Node


def descriptions(node: type[Node]) -> dict[str, str]:
    """The help of each field of a node, its own and those that it takes over."""
    found: dict[str, str] = {}
    for kind in reversed(node.__mro__):
        if issubclass(kind, Node):
            found |= _of_module(kind.__module__).get(kind.__qualname__, {})
    return {field: text for field, text in found.items() if field in node.model_fields}


def every_node(above: type[Node] = Node) -> Iterator[type[Node]]:
    """All kinds of nodes that have been defined."""
    for node in above.__subclasses__():
        yield node
        yield from every_node(node)


@functools.cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """For each class of a module, the texts that stand beneath its annotated names."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {one.name: dict(_beneath(one)) for one in tree.body if isinstance(one, ast.ClassDef)}


def _beneath(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in itertools.pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
