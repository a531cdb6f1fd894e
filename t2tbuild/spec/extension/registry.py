"""Register extensions: a node of the user's own becomes a member of the spec's unions, beside the shipped kinds."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import Field
from pydantic.errors import PydanticUserError

from t2tbuild.errors import InputError
from t2tbuild.spec.backbone import BaseBackbone
from t2tbuild.spec.base import KIND_REQUIRED, Node, Shorthand, kind_shorthand
from t2tbuild.spec.diagnostics import partial_validation
from t2tbuild.spec.diagnostics.introspect import kinds_of, nodes_in
from t2tbuild.spec.diagnostics.yaml_source import KeyPath
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import BaseTokenizer, Stage


class ExtensionError(InputError):
    """An extension cannot be loaded or registered. `rule` names the reason for programs."""

    def __init__(self, rule: str, message: str, hint: str = "") -> None:
        self.rule, self.message, self.hint = rule, message, hint
        super().__init__(message + (f" ({hint})" if hint else ""))


@dataclass(frozen=True)
class Origin:
    """Where an extension comes from: a file with the SHA-256 of its content, or an installed package."""

    name: str
    sha256: str = ""


@dataclass(frozen=True)
class Extension:
    """A kind of node that a file adds to the spec language.

    Attributes:
        node: The class of the spec node, with a field `kind: Literal[...]`.
        build: The builder of its torch module.
        forward: Its symbolic forward, from which costs are predicted. Without one, fvcore counts the built model.
    """

    node: type[Node]
    build: Callable[..., Any]
    forward: Callable[..., Any] | None = field(default=None)

    KIND: ClassVar[str] = "extension"
    """What it is, in messages."""
    BASE: ClassVar[type[Node]] = Node
    """Base class of its node."""


class TokenAttention(Extension):
    """A token attention of the t2t tokenizer.

    `build(node, in_dim, dim)` returns a module with forward(x_BCHW, soft_split) -> [B, N, dim].
    `forward(f, tokens, node, token_dim)` is its symbolic forward; see t2tbuild/symbolic/token_attention.py.
    """

    KIND = "token attention"


class Tokenizer(Extension):
    """A tokenizer. Its node is a TokenizerNode.

    `build(node, in_chans, embed_dim)` returns a t2tbuild.modules.tokenizers.Tokenizer.
    `forward(node, image, in_chans, embed_dim)` yields rows and calls; see t2tbuild/symbolic/tokenizers.py.
    """

    KIND = "tokenizer"
    BASE = BaseTokenizer


class BlockOption(Extension):
    """An option of every block, as squeeze_excite is one. It is written in `backbone.options`.

    `build(node)` returns BlockModules, and `forward(node)` returns BlockHooks.
    """

    KIND = "block option"


class Backbone(Extension):
    """A backbone. Its node is a BackboneNode.

    `build(node)` returns the entries of the model's blocks with their output channels.
    `forward(node)` yields rows and calls; see t2tbuild/symbolic/backbones.py.
    """

    KIND = "backbone"
    BASE = BaseBackbone


REGISTERED: dict[type[Node], Extension] = {}
"""The extension of each registered node. Nodes of replaced extensions stay: their objects can still be built."""

_ORIGINS: dict[type[Node], Origin] = {}

_DEFINED: dict[str, frozenset[type[Node]]] = {}
"""The nodes that an extension defines now, by its name in specs: the absolute path of a file, or a package's name."""


def register(one: Extension, origin: Origin | None = None) -> None:
    """Add an extension to the spec language of this process.

    A kind that is registered from the same file again is replaced. Raises ExtensionError for a kind that ships or that
    another file defines, and for a node that is not one.
    """
    origin = origin or _origin_of(one.node)
    require_node(one, origin)
    members = _members(type(one))
    replaced: list[type[Node]] = []
    for other in members:
        shared = set(kinds_of(other)) & set(kinds_of(one.node))
        if other is one.node or not shared:
            continue
        before = _ORIGINS.get(other)
        if before is None:
            message = f"{origin.name}: kind '{min(shared)}' of a {one.KIND} ships with t2tbuild"
            raise ExtensionError("extension-kind", message, "choose another kind")
        if before.sha256 and before.sha256 == origin.sha256:
            return  # a copy of the file
        if before.name != origin.name:
            message = f"kind '{min(shared)}' of a {one.KIND} is in {before.name} and in {origin.name}"
            versions = Path(before.name).name == Path(origin.name).name
            hint = "two versions of one file: read them with two commands" if versions else "rename one of them"
            raise ExtensionError("extension-kind", message, f"{hint}, or name one of the files")
        replaced.append(other)
    _require_complete(one, origin)
    known = REGISTERED.get(one.node)
    REGISTERED[one.node], _ORIGINS[one.node] = one, origin
    _DEFINED[origin.name] = (_DEFINED.get(origin.name, frozenset()) - set(replaced)) | {one.node}
    if one.node in members and known == one:
        return
    if one.node.model_fields["kind"].default is not None and "json_schema_extra" not in one.node.model_config:
        one.node.model_config = {**one.node.model_config, **KIND_REQUIRED}
    try:
        _set_members(type(one), [*(node for node in members if node not in (*replaced, one.node)), one.node])
    except (PydanticUserError, TypeError, NameError) as error:  # NameError: an annotation that is not defined
        _forget(one.node)
        _set_members(type(one), members)
        message = f"{origin.name}: {one.node.__name__}: {str(error).splitlines()[0]}"
        raise ExtensionError("extension-node", message) from None


def unregister(one: Extension) -> None:
    """Remove an extension from the spec language of this process."""
    members = _members(type(one))
    if one.node in members:
        _set_members(type(one), [node for node in members if node is not one.node])
    _forget(one.node)


def _forget(node: type[Node]) -> None:
    REGISTERED.pop(node, None)
    _ORIGINS.pop(node, None)
    for name, nodes in _DEFINED.items():
        _DEFINED[name] = nodes - {node}


def define(name: str, extensions: Sequence[Extension]) -> None:
    """Note what an extension defines, by its name in specs. Of a copy of a file, these are the nodes of the file."""
    kinds = {(type(one), kind) for one in extensions for kind in kinds_of(one.node)}
    members = {kind: _members(kind) for kind, _ in kinds}
    _DEFINED[name] = frozenset(node for what, kind in kinds for node in members[what] if kind in kinds_of(node))


def unnamed_extensions(node: object, names: Sequence[str]) -> Iterator[tuple[KeyPath, Node, str]]:
    """Yield the nodes of extensions that none of the named ones defines: path, node, and the name of what defines it.

    A model is read again only if its spec names the extensions of its nodes.
    """
    found = list(extension_nodes(node))
    if found:
        known = [_DEFINED.get(one) or _DEFINED.get(str(Path(one).resolve()), frozenset()) for one in names]
        defined = frozenset[type[Node]]().union(*known)
        yield from ((path, one, _ORIGINS[type(one)].name) for path, one in found if type(one) not in defined)


def is_extension(node: object) -> bool:
    """Whether a node comes from an extension."""
    return type(node) in REGISTERED


def has_extensions(model: object) -> bool:
    """Whether a node of a model comes from an extension."""
    return next(extension_nodes(model), None) is not None


def are_current(extensions: Sequence[Extension]) -> bool:
    """Whether the spec language has these extensions, rather than later ones of the same file."""
    return all(one.node in _members(type(one)) for one in extensions)


def extension_nodes(node: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Yield the nodes of extensions in a node and below it, each with its path."""
    if not REGISTERED:
        return
    if isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from extension_nodes(item, (*path, index))
    elif isinstance(node, Node):
        if is_extension(node):
            yield path, node
        for name in type(node).model_fields:
            yield from extension_nodes(getattr(node, name), (*path, name))


def name_of(node: Node) -> str:
    """Return the kind of an extension's node with what it is: token attention window."""
    extension = REGISTERED.get(type(node))
    return f"{extension.KIND if extension else 'node'} {getattr(node, 'kind', type(node).__name__)}"


def entry_of(table: Mapping[type[Any], Any], node: Node, of_extension: Callable[[Extension], Any]) -> Any:
    """Return the entry of a node's class in a table of the package, else that of its extension, else None."""
    found = table.get(type(node))
    extension = REGISTERED.get(type(node)) if found is None else None
    return of_extension(extension) if extension else found


def source_names(model: object) -> list[str]:
    """Return the names of the files, without their folders, and of the packages that define a model's nodes."""
    names = (Path(_ORIGINS[type(node)].name).name for _, node in extension_nodes(model))
    return list(dict.fromkeys(names))


def without_forward(model: object) -> list[str]:
    """Return the names of a model's nodes that have no symbolic forward, so that its costs are not predicted."""
    names = (name_of(node) for _, node in extension_nodes(model) if REGISTERED[type(node)].forward is None)
    return list(dict.fromkeys(names))


def _origin_of(node: type[Node]) -> Origin:
    """Return the file that defines a node."""
    file = getattr(sys.modules.get(node.__module__), "__file__", None)
    if file is None or not Path(file).is_file():
        return Origin(node.__module__)
    return Origin(file, hashlib.sha256(Path(file).read_bytes()).hexdigest())


def require_node(one: Extension, origin: Origin) -> None:
    """Raise ExtensionError if the node of an extension is not a spec node with a kind."""
    if type(one) not in _MEMBERS:
        raise ExtensionError("extension-node", f"{origin.name}: {type(one).__name__} is not a kind of extension")
    name = getattr(one.node, "__name__", repr(one.node))
    if not (inspect.isclass(one.node) and issubclass(one.node, one.BASE)):
        message = f"{origin.name}: {name} is not a node of a {one.KIND}"
        raise ExtensionError("extension-node", message, f"derive it from extension.{_BASES[one.BASE]}")
    for name_needed in ("depth", "embed_dim") if isinstance(one, Backbone) else ():
        if name_needed not in one.node.model_fields and not hasattr(one.node, name_needed):
            message = f"{origin.name}: {name} has no {name_needed}"
            raise ExtensionError("extension-node", message, "add a field or property")
    kind = one.node.model_fields.get("kind")
    if kind is None or get_origin(kind.annotation) is not Literal:
        message = f"{origin.name}: {name} has no field kind"
        raise ExtensionError("extension-node", message, 'write kind: Literal["window"] = "window"')
    replaces = getattr(one.node, "replaces", ())
    if isinstance(one, BlockOption) and not (isinstance(replaces, tuple) and {*replaces} <= {"attention", "mlp"}):
        message = f"{origin.name}: replaces of {name} is {replaces!r:.60}"
        raise ExtensionError("extension-node", message, 'write replaces: ClassVar = ("attention",), or ("mlp",)')
    for what, function in (("build", one.build), ("forward", one.forward)):
        if not callable(function) and not (what == "forward" and function is None):
            raise ExtensionError("extension-node", f"{origin.name}: {what} of {name} is not a function")


def _is_mutable(annotation: Any) -> bool:
    """Whether a type is a list, dictionary or set, or has one inside. Nodes are hashed."""
    mutable = (list, dict, set)
    return (get_origin(annotation) or annotation) in mutable or any(map(_is_mutable, get_args(annotation)))


def _require_complete(one: Extension, origin: Origin) -> None:
    """Raise ExtensionError if objects of a node cannot be made or hashed."""
    for name, info in one.node.model_fields.items():
        if _is_mutable(info.annotation):
            message = f"{origin.name}: {one.node.__name__}.{name} is a list, dictionary or set"
            hint = "a node is hashed: write a tuple, Annotated[tuple[int, ...], extension.ListAsTuple]"
            raise ExtensionError("extension-node", message, hint)
    if missing := sorted(getattr(one.node, "__abstractmethods__", ())):
        message = f"{origin.name}: {one.node.__name__} does not define {', '.join(missing)}"
        raise ExtensionError("extension-node", message, f"see the {one.KIND}s that ship, in t2tbuild/spec")


_BASES: dict[type[Node], str] = {Node: "Node", BaseTokenizer: "TokenizerNode", BaseBackbone: "BackboneNode"}


def _attention_union(union: Any, kinds: list[str]) -> Any:
    return Annotated[union, Field(discriminator="kind"), kind_shorthand, Shorthand({"enum": kinds})] | None


def _union(union: Any, _kinds: list[str]) -> Any:
    return union


def _tuple_of_unions(union: Any, _kinds: list[str]) -> Any:
    return tuple[Annotated[union, Field(discriminator="kind")], ...]


_MEMBERS: dict[type[Extension], tuple[type[Node], str, Callable[[Any, list[str]], Any]]] = {
    TokenAttention: (Stage, "attention", _attention_union),
    Tokenizer: (ModelSpec, "tokenizer", _union),
    BlockOption: (BaseBackbone, "options", _tuple_of_unions),
    Backbone: (ModelSpec, "backbone", _union),
}
"""For each kind of extension: the node and the field that its nodes enter, and the annotation of the field."""


def _members(kind: type[Extension]) -> list[type[Node]]:
    """Return the node classes that the field of an extension accepts."""
    owner, name, _ = _MEMBERS[kind]
    return [node for node in nodes_in(owner.model_fields[name].annotation) if node is not Node]


def _set_members(kind: type[Extension], members: Sequence[type[Node]]) -> None:
    """Let the field of an extension accept these node classes, and rebuild the nodes that contain it."""
    owner, name, annotate = _MEMBERS[kind]
    union: Any = Union[tuple(members)] if members else Node  # noqa: UP007
    kinds = [one for node in members for one in kinds_of(node)]
    annotation = annotate(union, kinds) if members else tuple[Node, ...]
    owners = [node for node in (owner, *_subclasses(owner)) if name in node.model_fields]
    for node in owners:
        node.model_fields[name].annotation = annotation
    for node in _containing(owners):
        node.model_rebuild(force=True)
    partial_validation.forget()


def _containing(owners: Sequence[type[Node]]) -> list[type[Node]]:
    """Return the nodes that contain one of `owners`, and these, each after the nodes below it."""
    order: dict[type[Node], bool] = {}

    def visit(node: type[Node]) -> bool:
        if node not in order:
            order[node] = node in owners
            below = [visit(one) for info in node.model_fields.values() for one in nodes_in(info.annotation)]
            contains = order.pop(node) or any(below)
            order[node] = contains  # after the nodes below it
        return order[node]

    for node in _subclasses(Node):
        visit(node)
    return [node for node, contains in order.items() if contains and not inspect.isabstract(node)]


def _subclasses(above: type[Node]) -> Iterator[type[Node]]:
    for node in above.__subclasses__():
        yield node
        yield from _subclasses(node)
