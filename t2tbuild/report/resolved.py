"""A spec with all defaults filled in, and the origin of each value."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2tbuild.cost.predict import try_predict_cost
from t2tbuild.spec.base import FULL, Node
from t2tbuild.spec.data import UserImages
from t2tbuild.spec.diagnostics.yaml_source import KeyPath, Place, format_path
from t2tbuild.spec.document import Document
from t2tbuild.spec.extension.registry import without_forward
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import short_count
from t2tbuild.spec.write import dump_one_line

COLUMN = 44  # at which the origins start, unless a value is longer


def resolved_yaml(document: Document[Node]) -> str:
    """Return YAML that loads to an equal spec; a comment after each value names its file and line, or default."""
    lines = []
    for text, path in _lines(_data(document), (), ""):
        origin = "" if path is None else f"# {_origin(document, path)}"
        lines.append(f"{text:{COLUMN}}  {origin}".rstrip())
    return "".join(f"{line}\n" for line in [*_derived(document.spec), *lines])


def resolved_values(document: Document[Node]) -> list[dict[str, Any]]:
    """Return each value with its dotted path and its origin, as plain data."""
    return [
        {"path": format_path(path), "value": value, "origin": _origin(document, path)}
        for path, value in _leaves(_data(document), ())
    ]


def _data(document: Document[Node]) -> dict[str, Any]:
    data: dict[str, Any] = document.spec.model_dump(mode="json", context=FULL)
    return data


def _derived(spec: Node) -> Iterator[str]:
    """Return derived values as comments: grids, tokens, cost."""
    if isinstance(spec, Spec) and isinstance(spec.model, ModelSpec):
        model = spec.model
        cost, heads = try_predict_cost(model), dict.fromkeys(model.backbone.heads)
        grids = " -> ".join(map(str, (model.image, *model.grids)))
        prefix = "the class and the distillation token" if model.distillation_token else "the class token"
        yield f"# {grids}; {model.tokens} tokens with {prefix}; {', '.join(map(str, heads))} heads"
        if spec.train:
            data = spec.train.data
            image = model.model_copy(update={"image_size": data.image_size or model.image_size}).image
            classes = "those of its files" if isinstance(data, UserImages) else data.num_classes
            yield f"# trained on {data.kind}; images: {image}; classes: {classes}"
        if cost is None:
            yield f"# {', '.join(without_forward(model))}: no symbolic forward; t2tbuild summarize counts the model"
        else:
            yield f"# {short_count(cost.params)} parameters, {short_count(cost.macs)} MACs"


def _is_flat(value: Any) -> bool:
    """Return whether a value is written on one line: a scalar, a list of scalars, or empty."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not value or (not isinstance(value, dict) and not any(isinstance(item, dict | list) for item in inner))


def _lines(data: dict[str, Any], path: KeyPath, indent: str) -> Iterator[tuple[str, KeyPath | None]]:
    """Return lines of block YAML, each with the path of the value that ends on it."""
    for key, value in data.items():
        here = (*path, key)
        if _is_flat(value):
            yield f"{indent}{dump_one_line(key)}: {dump_one_line(value)}", here
            continue
        yield f"{indent}{dump_one_line(key)}:", None
        if isinstance(value, dict):
            yield from _lines(value, here, indent + "  ")
            continue
        for index, item in enumerate(value):
            first, *rest = (
                _lines(item, (*here, index), indent + "    ")
                if isinstance(item, dict) and item
                else [(f"{indent}    {dump_one_line(item)}", (*here, index))]
            )
            yield f"{indent}  - {first[0].lstrip()}", first[1]
            yield from rest


def _leaves(data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if _is_flat(data):
        yield path, data
    else:
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _leaves(value, (*path, key))


def _origin(document: Document[Node], path: KeyPath) -> str:
    """Return the place where a value is written, or "default"."""
    source = document.source
    if place := source.values.get(path):
        return _format_place(place)
    rows = source.data.get("paper")
    if path[0] == "paper" and isinstance(rows, dict) and (place := source.values.get(("paper", *path[2:]))):
        return _format_place(place)  # a single row, written without a list
    short = source.values.get(path[:-1])  # attention: performer, weights: FILE
    if short and path[-1] in ("kind", "file") and isinstance(source.value_at(path[:-1]), str):
        return _format_place(short)
    return "default"


def _format_place(place: Place) -> str:
    if not place.line:
        return place.file  # an override
    file = os.path.relpath(place.file) if Path(place.file).is_relative_to(Path.cwd()) else place.file
    return f"{file}:{place.line}"
