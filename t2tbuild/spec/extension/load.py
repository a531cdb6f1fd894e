"""Load extensions by the names that a spec gives: a Python file, or an installed package. Files need consent."""

import contextlib
import hashlib
import importlib.metadata
import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from t2tbuild.errors import first_line
from t2tbuild.files import atomic_write
from t2tbuild.spec.diagnostics.introspect import closest_match, kinds_of
from t2tbuild.spec.diagnostics.scalars import format_value
from t2tbuild.spec.diagnostics.yaml_source import YamlSource
from t2tbuild.spec.extension import consent
from t2tbuild.spec.extension.registry import (
    Extension,
    ExtensionError,
    Origin,
    are_current,
    define,
    register,
    require_node,
    unregister,
)
from t2tbuild.spec.extension.user_errors import MODULE_PREFIX, describe_user_error

GROUP = "t2tbuild.extensions"
"""Group of the entry points with which installed packages provide extensions."""
ATTRIBUTE = "EXTENSIONS"
"""Name of the list of extensions in a file."""


@dataclass(frozen=True)
class LoadedFile:
    """An extension file that was imported, with its content and what it defines."""

    path: Path
    source: bytes
    sha256: str
    extensions: tuple[Extension, ...]
    not_kept: str = ""
    """The reason why the consent to this content could not be kept, if so."""


_loaded: dict[str, LoadedFile] = {}  # by SHA-256
_by_path: dict[Path, LoadedFile] = {}


def load_named_extensions(source: YamlSource, beside: Path) -> None:
    """Load the extensions that a spec names, and make their paths absolute. A relative path starts from `beside`.

    Adds a problem to the source at the place of each entry that cannot be loaded, and a warning where consent could not
    be kept.
    """
    named = source.data.get("extensions")
    for index, name in enumerate(named if isinstance(named, list) else ()):
        if not isinstance(name, str):
            continue
        path = ("extensions", index)
        place = source.place(path)
        try:
            loaded = load_extension(name, beside)
        except ExtensionError as error:
            source.problems.append(place.diagnostic(path, error.rule, error.message, error.hint))
            continue
        if loaded is not None:
            named[index] = str(loaded.path)
            if loaded.not_kept:
                message = f"the consent to {loaded.path.name} holds for this process only: {loaded.not_kept}"
                source.add_warning(place.diagnostic(path, "extension-consent", message))


def load_extension(name: str, beside: Path = Path()) -> LoadedFile | None:
    """Load an extension by its name in a spec; return its file, or None for an installed package.

    Raises ExtensionError if there is none, if it needs consent, or if it cannot be imported.
    """
    if "://" in name:
        message = f"{format_value(name)} is a URL; an extension is a file on this machine"
        raise ExtensionError("extension-url", message, "download it, read it, and name the file")
    if is_file_name(name):
        return load_file(find_file(name, beside))
    _load_package(name, beside)
    return None


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
    if not consent.is_allowed(path, sha256):
        message = f"{path.name} is Python code that is not allowed yet"
        by_option = "or pass --allow-extensions, in Python allow_extensions=True"
        hint = f"read it, then run t2tbuild check {shlex.quote(str(path))}, {by_option}"
        raise ExtensionError("extension-consent", message, hint)
    known = _loaded.get(sha256)
    extensions = known.extensions if known else _import(path, source, sha256)
    same = known is not None and are_current(known.extensions)  # a copy of the file that is registered
    _register_all(extensions, Origin(str(known.path if known and same else path), sha256))
    define(str(path), extensions)
    not_kept = consent.record_content(path, sha256)
    loaded = LoadedFile(path, source, sha256, extensions, not_kept)
    _loaded.setdefault(sha256, loaded)
    _by_path[path] = loaded
    return loaded


def identify(name: str) -> str:
    """Return the name of an extension's file and its sum, equal for equal copies; of a package, its name."""
    if not is_file_name(name):
        return name
    path = Path(name)
    return f"{path.name} {_by_path[path].sha256[:16]}" if path in _by_path else _identify_file(path)


def identify_in_run(name: str, run: Path) -> str:
    """Return the same of an extension by its name in a run's spec. Files are read, and not imported."""
    return _identify_file(find_file(name, run)) if is_file_name(name) else name


def _identify_file(path: Path) -> str:
    return f"{path.name} {read_file(path)[1][:16]}"


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
        atomic_write(target, source)
    return target.relative_to(run).as_posix()


def find_file(name: str, beside: Path) -> Path:
    """Return the absolute path of an extension file. Raises ExtensionError if there is no such file."""
    try:
        path = (beside / name).resolve()
        kind = "file" if path.is_file() else "folder" if path.is_dir() else "" if not path.exists() else "device"
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
        raise ExtensionError("extension-file", f"{format_value(name)} is not a file name") from None
    if kind == "device":
        raise ExtensionError("extension-file", f"{format_value(name)} is a device or a pipe", "name a Python file")
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
    name = f"{MODULE_PREFIX}{sha256[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user has allowed this file
        return _extensions_of(module, path.name)
    except ExtensionError:
        del sys.modules[name]
        raise
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        message = describe_user_error(error, path)
        raise ExtensionError("extension-import", message, "the file must import without an error") from None


def _load_package(name: str, beside: Path) -> None:
    """Load the extensions of an installed package by the name of its entry point."""
    points = _installed_points()
    found = [point for point in points if point.name == name]
    if not found:
        known = sorted({point.name for point in points})
        if (beside / f"{name}.py").is_file():
            hint = f"did you mean {name}.py?"
        else:
            near = closest_match(name, known)
            hint = f"did you mean {near}?" if near else f"installed: {', '.join(known)}" if known else "name a .py file"
        raise ExtensionError("extension-package", f"no installed package has extensions named {name!r:.60}", hint)
    point, *others = found
    if others:
        values = ", ".join(one.value for one in found)
        message = f"several installed packages have extensions named {name!r:.60}: {values}"
        raise ExtensionError("extension-package", message, "uninstall all but one")
    try:
        with _without_current_folder(), contextlib.redirect_stdout(sys.stderr):
            loaded = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"{point.value}: {type(error).__name__}: {first_line(error)}"
        raise ExtensionError("extension-import", message) from None
    extensions = _extensions_of(loaded, point.value)
    _register_all(extensions, Origin(f"{point.value} ({name})"))
    define(name, extensions)


def _installed_points() -> list[importlib.metadata.EntryPoint]:
    """Return the entry points of extensions, without those of the current folder.

    `python -m` searches that folder first, and it may be a stranger's.
    """
    found: dict[tuple[Path, str, str], importlib.metadata.EntryPoint] = {}
    here = Path.cwd().resolve()
    for distribution in importlib.metadata.distributions():
        folder = Path(str(distribution.locate_file(""))).resolve()
        if folder != here:
            for point in distribution.entry_points.select(group=GROUP):
                found[folder, point.name, point.value] = point  # a folder may be on the path twice
    return list(found.values())


@contextlib.contextmanager
def _without_current_folder() -> Iterator[None]:
    """Do not import from the current folder where `python -m` has put it first."""
    before, here = sys.path, Path.cwd().resolve()
    sys.path = list(itertools.dropwhile(lambda one: Path(one).resolve() == here, before))
    try:
        yield
    finally:
        sys.path = before


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
            raise ExtensionError("extension-kind", f"{origin.name} defines kind '{kind}' {count} times", "rename one")
    done: list[Extension] = []
    try:
        for one in extensions:
            register(one, origin)
            done.append(one)
    except ExtensionError:
        for one in done:
            unregister(one)
        raise
