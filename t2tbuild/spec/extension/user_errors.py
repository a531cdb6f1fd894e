"""Describe an error that the code of an extension raised: the line of the user's file, and the error's message."""

import traceback
from pathlib import Path

from t2tbuild.errors import T2TBuildError


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or an empty string."""
    return (str(error).strip().splitlines() or [""])[0]


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
