"""Refuse a torch.export archive (.pt2) that could run code when it is loaded.

`torch.export.load` unpickles whatever an archive marks as pickled, evaluates its expressions of sizes as Python, and
calls the functions that its graph names. So everything that it reads is checked against what `t2tbuild export` writes:
raw tensors, operators of tensors, and arithmetic of sizes.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEMBER = re.compile(
    r"\.data/(version|serialization_id)|byteorder|archive_(format|version)|extra/\w+|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt",
    re.ASCII,
)
"""Members of an archive below its top folder: tensors and text, but no pickled, compiled or custom objects."""

RAW = re.compile(r"(weight|tensor)_\d+", re.ASCII)

OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file)[a-z_]\w*\.\w+|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|torch\.(_?sym_(min|max|int|float|not|ite|sum|sqrt))|math\.(ceil|floor|trunc)|round",
    re.ASCII,
)
"""What a graph may call: functions of tensors and numbers."""

TEXT = re.compile(r"[\w.:+-]*", re.ASCII)
"""Names of tensors, classes and devices."""

NAMES = {
    *("L", "args", "inf", "torch", "math"),
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Min", "Max", "Abs", "floor", "ceiling"),
    *("Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat"),
    *("RoundToInt", "RoundDecimal", "IntTrueDiv", "FloatTrueDiv", "FloatPow", "PowByNatural", "ToFloat", "Identity"),
    *("ModularIndexing", "Where", "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan"),
    *("GreaterThan", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "true", "false", "sym_min", "sym_max"),
    *("One", "Half", "NegativeOne", "Zero", "round", "min", "max"),
}
"""Names in expressions of sizes."""
ATTRIBUTES = {
    *("size", "stride", "storage_offset", "ndim", "sym_min", "sym_max", "sym_int", "sym_float", "sym_not", "sym_ite"),
    *("trunc", "floor", "ceil", "sqrt"),
}
ARITHMETIC = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.Attribute, ast.Subscript),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)
CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


class UnsafeArchiveError(Exception):
    """What an archive holds that could run code."""


def check_archive(path: Path) -> None:
    """Raise UnsafeArchiveError if an archive holds more than tensors, their operators and arithmetic of sizes.

    Runs nothing of it. Raises errors of zipfile, json and others for a damaged archive.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        top = names[0].partition("/")[0] if names else ""
        if len({*names}) != len(names):  # one reader may take the first of two, another the last
            raise UnsafeArchiveError("a member twice")
        for name in names:
            folder, _, member = name.partition("/")
            if folder != top or not MEMBER.fullmatch(member):
                raise UnsafeArchiveError(f"the member {name!r:.80}")
        for kind in ("weights", "constants"):
            _check_tensors(json.loads(archive.read(f"{top}/data/{kind}/model_{kind}_config.json")))
        _check_sample_inputs(archive.read(f"{top}/data/sample_inputs/model.pt"))
        _check_program(json.loads(archive.read(f"{top}/models/model.json")))


def _check_tensors(config: dict[str, Any]) -> None:
    for entry in config["config"].values():
        if entry["use_pickle"] or not RAW.fullmatch(entry["path_name"]):
            raise UnsafeArchiveError("pickled objects")


def _check_sample_inputs(pickled: bytes) -> None:
    """Load the sample inputs as tensors; torch would try it without that restriction next."""
    import torch

    if pickled:
        try:
            torch.load(io.BytesIO(pickled), weights_only=True)
        except Exception:
            raise UnsafeArchiveError("sample inputs that are not tensors") from None


def _check_program(program: Any) -> None:
    for key, value in _walk(program):
        if not TEXT.fullmatch(key):
            raise UnsafeArchiveError(f"the name {key!r:.80}")
        if key in ("expr_str", "guards_code"):
            for text in value if isinstance(value, list) else [value]:
                _check_arithmetic(text)
        elif key in ("in_spec", "out_spec"):
            _check_containers(value)
        elif key == "as_operator" or (key == "target" and isinstance(value, _Call)):
            if not OPERATOR.fullmatch(value):
                raise UnsafeArchiveError(f"a call of {value!r:.80}")
        elif isinstance(value, str) and not TEXT.fullmatch(value):
            raise UnsafeArchiveError(f"the text {value!r:.80}")


class _Call(str):
    """The target of a node of the graph."""

    __slots__ = ()


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of nested data with its value if that is no dictionary, and the values of lists under theirs.

    Left out are the notes of nodes on the code that they come from, which nothing runs.
    """
    if isinstance(value, dict):
        is_node = {"target", "inputs", "outputs"} <= value.keys()
        for name, inner in value.items():
            if name == "metadata" and is_node:
                continue
            yield name, None
            yield from _walk(_Call(inner) if name == "target" and is_node else inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, key)
    else:
        yield key, value


def _check_arithmetic(text: Any) -> None:
    """Raise UnsafeArchiveError unless a text is a Python expression of numbers, sizes and NAMES alone."""
    if text is None:
        return
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise UnsafeArchiveError(f"the expression {text!r:.80}") from None
    for node in ast.walk(tree):
        if (
            not isinstance(node, ARITHMETIC)
            or (isinstance(node, ast.Name) and node.id not in NAMES)
            or (isinstance(node, ast.Attribute) and node.attr not in ATTRIBUTES)
            or (isinstance(node, ast.Constant) and isinstance(node.value, str) and not TEXT.fullmatch(node.value))
        ):
            raise UnsafeArchiveError(f"the expression {text!r:.80}")


def _check_containers(text: Any) -> None:
    """Raise UnsafeArchiveError unless a description of arguments has plain containers: torch imports other types."""
    if text is None:
        return
    for key, value in _walk(json.loads(text)):
        plain = value in CONTAINERS if key == "type" else value is None or isinstance(value, int) or key == "context"
        if not plain or (key == "context" and not re.fullmatch(r'null|\[("\w+"(, "\w+")*)?\]', value or "null")):
            raise UnsafeArchiveError(f"arguments of the type {value!r:.80}")
