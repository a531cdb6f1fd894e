"""Open an ONNX file with ONNX Runtime on the CPU. Torch-free."""

from pathlib import Path
from typing import Any

from t2tbuild.errors import InputError, first_line


def open_session(path: Path, threads: int | None = None) -> Any:
    """Return the session of a file, whose inference takes `threads` threads.

    Its threads sleep as soon as an inference ends. By default they wait in a loop for the next one, and take the cores
    from what is measured in turn with it. Raises InputError for a file that cannot be opened.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # one type for each cause, none of them public
        raise unreadable(path, "ONNX", error) from None


def unreadable(path: Path, kind: str, error: Exception) -> InputError:
    """Return the error of a file that a runtime cannot open as `kind`."""
    return InputError(f"{path}: not readable as {kind}: {describe_failure(error)}")


def describe_failure(error: Exception) -> str:
    """Return the first line of a runtime's error, or its type where it has no message."""
    return first_line(error, 200) or type(error).__name__
