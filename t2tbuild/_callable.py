"""Rooms that are also verbs.

`t2tbuild.train` is a package and, as DESIGN has it, the function that a user calls. Python binds a package's name to
the module as soon as anything in it is imported, so the module itself is made callable and both meanings hold in any
order of imports.
"""

import inspect
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A module that calls its main function, the one of its own short name."""

    def _main(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._main()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._main())


def make_callable(module_name: str) -> None:
    """Let the module `module_name` be called as the function in it that bears its short name."""
    sys.modules[module_name].__class__ = _CallableModule
