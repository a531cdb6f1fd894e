"""The user's own function that evaluates candidates, by its name in the spec. Torch-free, unless its module is not."""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t2tbuild.errors import FieldError
from t2tbuild.spec.search import Search


def require_function(search: Search, run: Path) -> None:
    """Raise FieldError where the function that a new search names cannot be loaded.

    An existing run may be complete; then it does not need the function.
    """
    if search.evaluator is not None and not (run / "spec.yaml").exists():
        load_function(search.evaluator)


def load_function(name: str) -> Callable[..., Any]:
    """Return the function that `search.evaluator` names as module:function.

    Modules of the working directory are found too. Raises FieldError where there is no such function.
    """
    path = ("search", "evaluator")
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the module is the user's, and may raise anything
        hint = f"correct {module_name}"
        if isinstance(error, ModuleNotFoundError) and error.name in (module_name, module_name.partition(".")[0]):
            hint = "start the search in the folder of its file"
        if module_name.endswith(".py"):
            hint = f"write {module_name.removesuffix('.py')}:{attribute}"
        message = f"the module {module_name} cannot be imported: {_describe_import_error(error)}"
        raise FieldError(path, "evaluator", message, hint) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        message = f"the module {module_name} has no function {attribute}"
        raise FieldError(path, "evaluator", message, "write module:function")
    found: Callable[..., Any] = function
    return found


def _describe_import_error(error: BaseException) -> str:
    """Return the error of an import, with the last line of a file that was executed."""
    if isinstance(error, ImportError | SyntaxError):  # their messages name the module or the line
        return str(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}{place}"
