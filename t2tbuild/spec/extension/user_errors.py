"""Describe an error that the code of an extension raised: the line of the user's file, and the error's message."""

import shlex
import sys
import traceback
from pathlib import Path

from t2tbuild.errors import T2TBuildError, first_line

MODULE_PREFIX = "t2tbuild_extension_"
"""The names of the modules of extension files start with this."""


def describe_extension_error(error: BaseException) -> str:
    """Return the error and the line of the extension file that raised it; empty if none took part."""
    loaded = {one.__file__ for name, one in list(sys.modules.items()) if name.startswith(MODULE_PREFIX)}
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if frame.filename in loaded]
    if not files:
        return ""
    return f"{describe_user_error(error, Path(files[-1]))}; run t2tbuild check {shlex.quote(files[-1])}"


def describe_user_error(error: BaseException, path: Path) -> str:
    """Return the error of a user's file, with the last line of the file that took part: mine.py, line 3: KeyError."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    message = first_line(error)
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines, message = [error.lineno], error.msg
    place = f"{path.name}, line {lines[-1]}" if lines and lines[-1] else path.name
    if isinstance(error, T2TBuildError):
        return f"{place}: {message}"
    return f"{place}: {type(error).__name__}" + (f": {message}" if message else "")
