"""Load extensions by the names that a spec gives: a Python file, or an installed package. Files need consent."""

import contextlib
import hashlib
import importlib.metadata
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from t2tbuild.files import atomic_write
from t2tbuild.spec.diagnostics.introspect import closest_match, kinds_of
from t2tbuild.spec.diagnostics.scalars import format_value
from t2tbuild.spec.diagnostics.yaml_source import YamlSource
from t2tbuild.spec.extension import consent
from t2tbuild.spec.extension.registry import Extension, ExtensionError, Origin, register, require_node, unregister

GROUP = "t2tbuild.extensions"
"""Group of the entry points with which installed packages bring extensions."""
ATTRIBUTE = "EXTENSIONS"
"""Name of the list of extensions in a file."""


@dataclass(frozen=True)
class LoadedFile:
    """An extension file that was imported, with its content and what it brings."""

    path: Path
    source: bytes
    sha256: str
    extensions: tuple[Extension, ...]


_loaded: dict[str, LoadedFile] = {}  # by SHA-256
_by_path: dict[Path, LoadedFile] = {}


def load_named_extensions(source: YamlSource, beside: Path) -> None:
    """Load the extensions that a spec names, and make their paths absolute. A relative path starts from `beside`.

    Adds a problem to the source at the place of each entry that cannot be loaded.
    """
    named = source.data.get("extensions")
    for index, name in enumerate(named if isinstance(named, list) else ()):
        if isinstance(name, str):
            path = ("extensions", index)
            try:
                named[index] = load_extension(name, beside)
            except ExtensionError as error:
                source.problems.append(source.place(path).diagnostic(path, error.rule, error.message, error.hint))


def load_extension(name: str, beside: Path = Path()) -> str:
    """Load an extension by its name in a spec; return its absolute path, or the name of an installed package.

    Raises ExtensionError if there is none, if it needs consent, or if it cannot be imported.
    """
    if "://" in name:
        message = f"{format_value(name)} is a URL; an extension is a file on this machine"
        raise ExtensionError("extension-url", message, "download it, read it, and name the file")
    if not is_file_name(name):
        _load_package(name, beside)
        return name
    return str(load_file(_find_file(name, beside)).path)


def is_file_name(name: str) -> bool:
    """Whether the name of an extension in a spec means a file rather than an installed package."""
    return name.endswith(".py") or "/" in name or name.startswith(".") or not name.strip()


def read_file(path: Path) -> tuple[bytes, str]:
    """Return the content of a file and its SHA-256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExtensionError("extension-file", f"{path}: cannot be read: {error.strerror}") from None
    return content, hashlib.sha256(content).hexdigest()


def load_file(path: Path) -> LoadedFile:
    """Import a file, if there is consent, and register its extensions. A content that was imported is not run again."""
    source, sha256 = read_file(path)
    if not consent.check(path, sha256):
        message = f"{path.name} is Python code that is not allowed yet"
        raise ExtensionError(
            "extension-consent", message, f"read it, then run t2tbuild check {path}, or pass --allow-extensions"
        )
    found = _loaded.get(sha256) or LoadedFile(path, source, sha256, _import(path, source, sha256))
    _register_all(found.extensions, Origin(str(found.path), sha256))
    _loaded[sha256] = found
    _by_path[path] = LoadedFile(path, source, sha256, found.extensions)
    return _by_path[path]


def identify(name: str) -> str:
    """Return the name of an extension's file and its sum, equal for equal copies; of a package, its name."""
    if not is_file_name(name):
        return name
    path = Path(name)
    sha256 = _by_path[path].sha256 if path in _by_path else read_file(path)[1]
    return f"{path.name} {sha256[:16]}"


def copy_into_run(names: Sequence[str], run: Path) -> tuple[str, ...]:
    """Copy the extension files of a spec into a run's folder. Return their names, relative to the run."""
    return tuple(_copy(Path(name), run) if is_file_name(name) else name for name in names)


def _copy(path: Path, run: Path) -> str:
    """Write what was imported from a file into a run's folder, and return its name there."""
    loaded = _by_path.get(path)
    source, sha256 = (loaded.source, loaded.sha256) if loaded else read_file(path)
    target = run / consent.COPIES / path.name
    if target.exists() and target.read_bytes() != source:
        target = run / consent.COPIES / sha256[:16] / path.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, source.decode("utf-8"))
    return target.relative_to(run).as_posix()


def _find_file(name: str, beside: Path) -> Path:
    """Return the absolute path of an extension file. Raises ExtensionError if there is no such file."""
    try:
        path = (beside / name).resolve()
        kind = "file" if path.is_file() else "folder" if path.is_dir() else "" if not path.exists() else "device"
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
        raise ExtensionError("extension-file", f"{format_value(name)} is not a file name") from None
    if kind == "folder":
        raise ExtensionError("extension-file", f"{format_value(name)} is a folder", "name the .py file in it")
    if kind != "file":
        near = closest_match(path.name, [one.name for one in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
        hint = f"did you mean {near}?" if near else f"looked for {path}"
        raise ExtensionError("extension-file", f"no file {format_value(name)}", hint)
    if path.suffix != ".py":
        raise ExtensionError("extension-file", f"{format_value(name)} is not a .py file", "name a Python file")
    return path


def _import(path: Path, source: bytes, sha256: str) -> tuple[Extension, ...]:
    """Run the code of a file as a module of its own, and return its extensions. Output goes to stderr."""
    name = f"t2tbuild_extension_{sha256[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - the user has allowed this file
        return _extensions_of(module, path.name)
    except ExtensionError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_error(path, error) from None


def _import_error(path: Path, error: BaseException) -> ExtensionError:
    """Return the error of a file that raised: the last line of the file itself, and the words of the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines = [error.lineno]
        words = error.msg
    else:
        words = (str(error).splitlines() or [""])[0]
    place = f"{path.name}, line {lines[-1]}" if lines and lines[-1] else path.name
    reason = f"{place}: {type(error).__name__}" + (f": {words}" if words else "")
    return ExtensionError("extension-import", reason, "the file must import without an error")


def _load_package(name: str, beside: Path) -> None:
    """Load the extensions of an installed package by the name of its entry point."""
    points = importlib.metadata.entry_points(group=GROUP)
    if name not in points.names:
        known = sorted(points.names)
        if (beside / f"{name}.py").is_file():
            hint = f"did you mean {name}.py?"
        else:
            near = closest_match(name, known)
            hint = f"did you mean {near}?" if near else f"installed: {', '.join(known)}" if known else "name a .py file"
        raise ExtensionError("extension-package", f"no installed package brings extensions named {name!r:.60}", hint)
    point = points[name]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loaded = point.load()
    except (Exception, SystemExit) as error:
        words = (str(error).splitlines() or [""])[0]
        raise ExtensionError("extension-import", f"{point.value}: {type(error).__name__}: {words}") from None
    _register_all(_extensions_of(loaded, point.value), Origin(f"{point.value} ({name})"))


def _extensions_of(loaded: Any, name: str) -> tuple[Extension, ...]:
    """Return the extensions of a module, or of its list."""
    listed = getattr(loaded, ATTRIBUTE, None) if isinstance(loaded, ModuleType) else loaded
    if listed is None:
        hint = f"write {ATTRIBUTE} = [extension.TokenAttention(node=..., build=..., forward=...)]"
        raise ExtensionError("extension-list", f"{name} has no {ATTRIBUTE}", hint)
    if not isinstance(listed, list | tuple) or not listed or not all(isinstance(one, Extension) for one in listed):
        hint = "extension.TokenAttention, Tokenizer, BlockOption or Backbone"
        raise ExtensionError("extension-list", f"{name}: {ATTRIBUTE} must be a list of extensions", hint)
    return tuple(listed)


def _register_all(extensions: tuple[Extension, ...], origin: Origin) -> None:
    """Register all extensions of a file, or none if one is refused."""
    for one in extensions:
        require_node(one, origin)
    kinds = Counter((type(one), kind) for one in extensions for kind in kinds_of(one.node))
    for (_, kind), count in kinds.items():
        if count > 1:
            raise ExtensionError("extension-kind", f"{origin.name} brings kind '{kind}' {count} times", "rename one")
    done: list[Extension] = []
    try:
        for one in extensions:
            register(one, origin)
            done.append(one)
    except ExtensionError:
        for one in done:
            unregister(one)
        raise
