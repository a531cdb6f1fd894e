"""Rooms that are also verbs.

`t2tbuild.train` is a package and, as DESIGN has it, the function that a user calls. Python binds a package's name to
the module as soon as anything in it is imported, so the module itself is made callable and both meanings hold in any
order of imports.
"""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A module that calls its main function; `help` and `inspect.signature` show that function's signature."""

    __signature__: inspect.Signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(module_name: str, function: Callable[..., Any]) -> None:
    """Let the module `module_name` be called as `function`, which bears the module's own short name."""
    module = sys.modules[module_name]
    module.__class__ = _CallableModule
    module.__dict__["__signature__"] = inspect.signature(function)
