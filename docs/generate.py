"""Write docs/spec.md (the reference of the spec language), grid.svg and diagram.svg: .venv/bin/python docs/generate.py.

Fields, types, units, defaults, examples, descriptions and rules are taken from the pydantic models. The message of a
rule is that of a spec that violates it, see `VIOLATIONS`.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import product
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from t2tbuild import errors
from t2tbuild.cli.cp import cp
from t2tbuild.cli.init import DEFAULTS, Kind, init
from t2tbuild.cli.ls import ls
from t2tbuild.cli.schema import schema
from t2tbuild.cli.show import show
from t2tbuild.cli.validate import validate
from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.layout import Grid
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.report.figure import BLUE, GREEN, GREY, ORANGE, new_figure
from t2tbuild.spec.base import VERSIONS, Check, Node
from t2tbuild.spec.diagnostics import yaml_source
from t2tbuild.spec.diagnostics.introspect import kinds_of, nodes_in
from t2tbuild.spec.load import load_spec, read_any
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.modeline import MARK
from t2tbuild.spec.renamed import RENAMED
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.schema import json_schema
from t2tbuild.spec.tokenizer import ConvStage, Stage, Window
from t2tbuild.spec.units import BYTES_PATTERN, COUNT_PATTERN, TIME_PATTERN, parse_bytes, parse_count, parse_seconds
from t2tbuild.spec.write import dump_one_line

HERE = Path(__file__).parent
ROOTS: dict[type[Node], str] = {Spec: "Model and training specs", SearchSpec: "Search specs"}
SCHEMAS: dict[str, Any] = {"Spec": json_schema("spec"), "SearchSpec": json_schema("search")}
SCHEMAS |= SCHEMAS["SearchSpec"]["$defs"] | SCHEMAS["Spec"]["$defs"]
UNITS = {
    COUNT_PATTERN: "[count](#counts-and-times)",
    BYTES_PATTERN: "[bytes](#counts-and-times)",
    TIME_PATTERN: "[time](#counts-and-times)",
}
PLAIN = [{"type": "boolean"}, {"type": "number"}, {"type": "string"}]
STAGES = {Stage: "t2t", ConvStage: "conv"}  # two tokenizers have stages
PICTURED, SIDE = Window(patch_size=3, overlap=1), 8  # the grid in grid.svg

VIOLATIONS = {  # overrides of a shipped spec that violate a rule or cause a lint warning
    "_Classifier._one_name_per_class": ["model.label_names=[cat, dog]"],
    "ModelSpec._tokens_are_left": ["model.image_size=2"],
    "ModelSpec._fits_some_machine": ["model.backbone={depth: 1000, embed_dim: 65536, head_dim: 64}"],
    "Window._overlap_below_patch_size": ["model.tokenizer.stages.0.overlap=7"],
    "Window._padding_below_patch_size": ["model.tokenizer.stages.0.padding=7"],
    "Stage._attention_fits_token_dim": [],
    "Stage._random_features": ["model.tokenizer.stages.0.attention={kind: performer, kernel_ratio: 0.01}"],
    "T2TTokenizer._last_stage": ["model.tokenizer.stages.2.token_dim=64"],
    "ConvTokenizer._last_stage": ["model.tokenizer={kind: conv, stages: [{patch_size: 4}, {patch_size: 4}]}"],
    "BaseBackbone._one_of_num_heads_and_head_dim": ["model.backbone.head_dim=64"],
    "BaseBackbone._one_per_block": ["model.backbone.mlp_ratio=[3, 4]"],
    "BaseBackbone._heads_divide": ["model.backbone.num_heads=5"],
    "BaseBackbone._mlp_has_channels": ["model.backbone.mlp_ratio=0.001"],
    "BaseBackbone._squeeze_leaves_channels": ["model.backbone.squeeze_excite.reduction=385"],
    "BaseBackbone._ghost_halves_widths": ["model.backbone={depth: 14, embed_dim: 189, num_heads: 7, ghost: {}}"],
    "BaseBackbone._ghost_mlp_ratio_is_whole": ["model.backbone.ghost={}", "model.backbone.mlp_ratio=2.5"],
    "BaseBackbone._one_option_replaces_each": [],  # by extensions only
    "BaseBackbone._one_option_of_a_kind": [],  # by extensions only
    "Root._extensions_are_named": [],  # by extensions only
    "Ghost._ghost_is_used": ["model.backbone.ghost={attention: false, mlp: false}"],
    "DenseBackbone._at_most_a_thousand_blocks": [
        "model.backbone={kind: dense, blocks: [600, 600], growth_rate: 2, embed_dim: 64, num_heads: 2}"
    ],
    "TimmModel._arguments_of_timm": ["model={kind: timm, name: resnet50, args: {num_classes: 10}}"],
    "TrainSpec._warmup_below_epochs": ["train.warmup_epochs=15"],
    "TrainSpec._min_lr_below_lr": ["train.min_lr=0.1"],
    "TrainSpec._warmup_rises": ["train.warmup_lr=0.1"],
    "TrainSpec._accumulate_divides_batch": ["train.accumulate=7"],
    "TrainSpec._mixup_needs_pairs": ["train.mixup={}", "train.batch_size=63"],
    "TrainSpec._one_kind_of_lr_scaling": ["train.lr_scale={head: 10}", "train.layer_decay=0.75"],
    "TrainSpec._something_is_trained": ["train.freeze=[tokenizer, backbone, head]"],
    "TrainSpec._short_average": ["train.ema=0.99996"],
    "TrainSpec._no_part_twice": ["train.freeze=[tokenizer, tokenizer]"],
    "TrainSpec._batch_above_data": ["train.batch_size=2048"],
    "TrainSpec._warmup_lr_unused": ["train.warmup_epochs=0", "train.warmup_lr=1e-6"],
    "Sgd._nesterov_needs_momentum": ["train.optimizer={kind: sgd, momentum: 0, nesterov: true}"],
    "Distillation._teacher_is_named": ["train.distill.teacher='timm:'"],
    "Distillation._temperature_of_a_soft_loss": ["train.distill={teacher: resnet50, temperature: 2}"],
    "CifarData._crop_padding_below_side": ["train.data={kind: cifar10, image_size: 224, crop_padding: 224}"],
    "_Streamed._values_from_0_to_1": ["train.data={kind: folder, root: images, mean: [123.7, 0.456, 0.406]}"],
    "_Streamed._mean_and_std_of_the_same_channels": ["train.data={kind: folder, root: images, std: [0.5]}"],
    "_UserImages._validation_differs_from_training": ["train.data={kind: folder, root: images, validation: train}"],
    "_UserImages._holdout_without_validation": [
        "train.data={kind: folder, root: images, validation: val, holdout: 0.1}"
    ],
    "_UserImages._no_class_twice": ["train.data={kind: folder, root: images, classes: [cat, cat]}"],
    "TimmData._validation_differs_from_training": [
        "train.data={kind: timm, name: hfds/imagenet-1k, num_classes: 1000, validation: train}"
    ],
    "TimmData._no_pipes": ["train.data={kind: timm, name: wds/x, root: 'pipe:cat x', num_classes: 1000}"],
    "TimmData._shards_have_a_root": ["train.data={kind: timm, name: wds/imagenet, num_classes: 1000}"],
    "Mixup._mixes_something": ["train.mixup={mixup: 0, cutmix: 0}"],
    "Augmentation._crop_scale_rises": ["train.data={kind: folder, root: images, augment: {crop_scale: [0.5, 0.1]}}"],
    "Search._valid_space": ["search.space={tokenizer.stages.*.token_dim: {fill: [0.7, 1.0]}}"],
    "Search._valid_supernet": ["search.supernet={epochs: 20, budgets: [9G]}"],
    "SupernetSpec._one_of_epochs_and_steps": ["search.supernet={epochs: 20, steps: 2000}"],
    "SupernetSpec._sandwich_of_three": ["search.supernet={epochs: 20, members: 2}"],
    "SupernetSpec._validity_is_measured_or_off": ["search.supernet={epochs: 20, validity: 5}"],
    "SupernetSpec._budgets_rise": ["search.supernet={epochs: 20, budgets: [2G, 1G]}"],
    "Search._accuracy_is_an_objective": ["search.objectives=[macs]"],
    "Search._several_objectives_suit_the_sampler": ["search.sampler=gp", "search.objectives=[accuracy, macs]"],
    "ZeroCostProxies._unique_names": ["search.zero_cost.names=[snip, snip]"],
    "ZeroCostProxies._first_has_no_effect": ["search.zero_cost={first: 4}"],
    "Bounds._valid_bounds": ["search.budget.macs={max: 4G, min: 5G}"],
    "Budget._some_limit": ["search.budget={}"],
    "LatencyLimit._command_measures_alone": ["search.budget.latency={max: 10ms, command: ./measure.sh, threads: 1}"],
    "LatencyLimit._command_has_words": ['search.budget.latency={max: 10ms, command: "sh \'x"}'],
    "Choices._no_choice_twice": ["search.space={backbone.mlp_ratio: {choices: [2, 2]}}"],
    "Range._range_rises_in_steps": ["search.space={backbone.embed_dim: {low: 192, high: 600, step: 64}}"],
    "Fill._fractions_rise": ["search.space={backbone.depth: {fill: [0.9, 0.7]}}"],
    "Fill._range_rises_in_steps": ["search.space={backbone.depth: {fill: [0.7, 1.0], low: 8, high: 4}}"],
    "Proxy._rungs_rise": ["search.proxy.rungs=[120, 40]"],
    "Search._warm_up_ends": ["search.proxy.warmup_steps=280"],
    "Stage._hard_split": ["model.tokenizer.stages.0.overlap=0"],
    "BaseBackbone._narrow_heads": ["model.backbone.num_heads=32"],
    "BaseBackbone._uneven_heads": ["model.backbone.embed_dim=396", "model.backbone.num_heads=9"],
    "ModelSpec._pixels_left_out": ["model.image_size=230"],
    "ModelSpec._many_tokens": ["model.image_size=512", "model.tokenizer.stages.0.attention=transformer"],
}

PAGE = """\
<!-- Generated by docs/generate.py from the models in t2tbuild/spec; edit those instead. -->

# The spec language

A spec is a YAML file that describes a model, its training, or a search. `version` is the version of the language:
$versions. A field that is left out has the default in the tables below. An unknown key is an error. Every error has its
line and says what to write instead.

| command | what it does |
| --- | --- |
$commands

You can override any field on the command line by its dotted path. List items are numbered from 0:
`t2tbuild show t2t_vit_14 'model.image_size=[192, 256]' model.tokenizer.stages.0.token_dim=32`.
The value is read as YAML and validated like the file.

An editor with a YAML language server completes and checks a file if its first line names the schema. `t2tbuild init`
and `t2tbuild cp` write this line. For other files, save the schema beside the file and add the line:

```yaml
${mark}spec.schema.json
```

`t2tbuild schema > spec.schema.json` writes the schema of models and trainings, `t2tbuild schema search` that of
searches. A schema cannot express rules across fields; `t2tbuild validate` checks them.

## An example of each kind

`t2tbuild init --kind model`, `training` or `search` writes these files.

$examples

## From patches to a token grid

![$image pixels, patches of $window, and the resulting $grid tokens](grid.svg)

A window of `patch_size` pixels slides over the image with stride patch_size - overlap, so neighbouring patches share
`overlap` rows or columns. `padding` zeros are added on each side; the default is ceil(overlap / 2). The result has
floor((side + 2 padding - patch_size) / stride) + 1 tokens per side: here $sum. The next stage slides over this grid of
tokens. If the stride does not divide the padded side, the last rows and columns are not covered. Here they are only
padding, but patches of $hard, do not cover $left rows and $left columns of the same image, and `validate` warns.

$nodes
## Extensions

`extensions` at the top of a spec names what defines kinds of token attentions, tokenizers, block options or backbones
of your own: Python files, relative to the spec's file, or installed packages by the name of their entry point in the
group `t2tbuild.extensions`. [extending.md](extending.md) builds one.

```yaml
extensions: [my_attention.py]
model:
  tokenizer:
    stages:
      - {patch_size: 7, overlap: 3, token_dim: 64, attention: {kind: window, window: 7}}
```

Their fields are validated as those of shipped kinds are, with lines and spelling hints, and a search may vary them:
`tokenizer.stages.0.attention.window: {choices: [4, 7]}`. `t2tbuild schema --extension my_attention.py` prints the
schema with them. A spec that uses the model of another spec, or searches around it, has its extensions too.

Specs, runs and checkpoints are data; extensions are code. A file is imported only with your consent, whatever names it.
Read the file before. The option `--allow-extensions` of every command, in Python
`load_spec(path, allow_extensions=True)`, allows the contents that are loaded: their SHA-256 is kept in
`~/.local/state/t2tbuild/extensions.json` (below `XDG_STATE_HOME`, if that is set), which allows copies, and a changed
file needs consent again. `t2tbuild check my_attention.py` also keeps the path of your own file, which you may then
edit; a file in the folder of a run, of another user, or that others may write is allowed by its content only. A run
keeps copies of its extensions in `RUN/extensions/`, so that your own run resumes, evaluates and exports without the
option, and a run that somebody sent you does not run its code unasked. `T2TBUILD_ALLOW_EXTENSIONS=1` allows all that a
process loads and keeps nothing. Neither passes to workers and ranks: these get the SHA-256 of what their parent
process imported. An installed package needs no consent beyond its installation; those in the current folder are not
searched. A URL is never loaded. The weights of a checkpoint are tensors, and its config.json never imports a file.

A kind is known to a whole process, but a spec has to name the extension of every node in its model: it could not be
read again otherwise. Two versions of one file, as in two runs, need two commands.

An extension without a symbolic forward has no predicted costs. `summarize` then shows what fvcore counts, a search
checks its budget only after building each model, with a warning, and a field with `fill` is an error. The accuracy of a
model with an extension is never predicted: no published model has it.

## Counts and times

A count is a whole number above 0, with an optional suffix: $counts. A time is in seconds, with an optional suffix:
$times. There is no space before a suffix. A number of bytes may be written as a count or with a unit, after a space or
not: $bytes. MACs are multiply-adds, as fvcore counts them; if a source counts a
multiply-add as two FLOPs, halve its number.

## The YAML that is read

Scalars follow YAML 1.2, with decimal numbers only: `1e-3` is a number; `yes`, `1:30` and `0x1F` are text; only `true`
and `false` are booleans. Quoted scalars are text. A plain value is a number, a text or a boolean. Errors are:

- a number with a leading zero, such as `010`, which YAML 1.1 and 1.2 read differently;
- a duplicate key, a merge key `<<`, a tag such as `!!str`, an alias of a node that contains it;
- several documents in one file, text that is not UTF-8, tabs as indentation, NUL and other control characters;
- anything that is not a regular file: a folder, a device, a FIFO;
- a file larger than $mebibytes MiB or nested deeper than $levels levels; more than $values values or $aliases aliases.

## Warnings

A valid but unlikely value is a warning. With `t2tbuild validate --strict`, warnings are errors.

$warnings

For a search, `validate` also warns if only one candidate is within the budget. The name and arguments of a timm model
are checked when the model is built.

## Renamed fields

The old name of a field is accepted for one version, with a warning (rule `renamed`) at its place.

| old name | new name |
| --- | --- |
$renamed

## Exit codes

$exits
`t2tbuild validate` exits with 2 if it finds an error or, with `--strict`, a warning.
"""


class Section(NamedTuple):
    """A node of the spec language and its dotted paths."""

    node: type[Node]
    paths: list[str]
    title: str

    @property
    def link(self) -> str:
        """Anchor of the section, as GitHub names headings."""
        return "#" + re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


def sections() -> dict[str, Section]:
    """Return every node that is reachable from the roots, by the name of its class, in the order of the fields."""
    found: dict[str, Section] = {}

    def visit(node: type[Node], path: str, title: str) -> None:
        if node.__name__ in found:
            found[node.__name__].paths.append(path)
            return
        found[node.__name__] = Section(node, [path], title)
        for name, info in node.model_fields.items():
            here, below = f"{path}.{name}".lstrip("."), nodes_in(info.annotation)
            for child in below:
                visit(child, here, f"{here}: {_kind(child)}" if len(below) > 1 or child in STAGES else here)

    for root, title in ROOTS.items():
        visit(root, "", title)
    return found


def _kind(node: type[Node]) -> str:
    """Return what distinguishes a node from others of the same field: its kind, else its class."""
    if node in STAGES:
        return STAGES[node]
    return " and ".join(kinds_of(node)) or node.__name__.lower()


def spec_reference() -> str:
    """Return the text of docs/spec.md."""
    nodes, window, image = sections(), PICTURED, Grid(SIDE, SIDE)
    hard, grid = Window(patch_size=window.patch_size), window.grid(image)
    return Template(PAGE).substitute(
        versions=", ".join(f"`version: {version}`, {what}" for version, what in VERSIONS.items()),
        commands="\n".join(_command(command) for command in (validate, show, init, cp, ls, schema)),
        mark=MARK,
        examples="\n\n".join(f"### A {kind}\n\n```yaml\n{_example(kind)}```" for kind in Kind),
        image=image,
        window=window,
        grid=grid,
        sum=f"floor(({SIDE} + 2 * {window.pad} - {window.patch_size}) / {window.stride}) + 1 = {grid.height}",
        hard=hard,
        left=hard.left_out(image).height,
        nodes="\n".join(line for section in nodes.values() for line in _node(section, nodes)),
        counts=", ".join(f"`{text}` is {parse_count(text):,}" for text in ("5G", "21.5M", "300K", "1T", "5e9")),
        bytes=", ".join(f"`{text}` is {parse_bytes(text):,}" for text in ("150MB", "1.5 GB", "64kB", "150MiB")),
        times=", ".join(f"`{text}` is {parse_seconds(text):g}" for text in ("90s", "5m", "2h", "90")),
        mebibytes=yaml_source.MAX_BYTES // 2**20,
        levels=yaml_source.MAX_LEVELS,
        values=f"{yaml_source.MAX_VALUES:,}",
        aliases=yaml_source.MAX_ALIASES,
        renamed="\n".join(_row(f"`{old}`", f"`{new}`") for old, new in RENAMED.items()),
        warnings="\n".join(_lint_warnings(nodes)),
        exits=inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1].partition(": ")[2].replace("\n", " "),
    )


def _command(command: Callable[..., None]) -> str:
    summary, *_, example = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return _row(f"`{example.removeprefix('Example: ')}`", summary)


def _example(kind: Kind) -> str:
    text = (files("t2tbuild.spec") / "templates" / f"{kind}.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(DEFAULTS | {"file": f"{kind}.yaml"})


def _node(section: Section, nodes: dict[str, Section]) -> Iterator[str]:
    if section.node is Node:
        yield f"### {section.title}\n\nThe node of an extension, with its `kind`: [extending.md](extending.md).\n"
        return
    node, schema = section.node, SCHEMAS[section.node.__name__]
    yield f"{'##' if node in ROOTS else '###'} {section.title}\n"
    yield inspect.cleandoc(node.__doc__ or "") + "\n"
    if more := set(section.paths[1:]) - {section.paths[0]}:
        yield f"Also at {', '.join(f'`{path}`' for path in sorted(more))}.\n"
    yield "| field | type | unit | default | example | meaning |\n| --- | --- | --- | --- | --- | --- |"
    for name, info in node.model_fields.items():
        field = schema["properties"][name]
        examples = " or ".join(_code(example) for example in info.examples or field.get("examples", ()))
        default = "required" if name in schema.get("required", ()) else _default(info.default, field)
        yield _row(f"`{name}`", _words(field, nodes), field.get("unit", ""), default, examples, field["description"])
    yield ""
    if node.rules:
        base = _base(section.paths[0])
        yield f"Rules across fields; overrides are of `{base}` and violate the rule, and the message follows:\n"
        yield from (f"- {_describe_rule(name, check)}" for name, check in node.rules.items())
        yield ""


def _words(schema: dict[str, Any], nodes: dict[str, Section]) -> str:
    """Describe the values of a field."""
    if schema in (True, {}):
        return "any value"
    choices = schema.get("anyOf", schema.get("oneOf", [schema]))
    if any(choice.get("pattern") in UNITS for choice in choices):
        return next(UNITS[choice["pattern"]] for choice in choices if choice.get("pattern") in UNITS)
    if "oneOf" in schema:
        links = [nodes[choice["$ref"].rpartition("/")[2]] for choice in choices]
        return "mapping: " + _or([f"[{_kind(link.node)}]({link.link})" for link in links])
    if "anyOf" in schema:
        null = " or null" if {"type": "null"} in choices and schema.get("default", 0) is not None else ""
        plain = [choice for choice in choices if choice in PLAIN]
        if len(plain) > 1:
            others = [_words(choice, nodes) for choice in choices if choice not in [*PLAIN, {"type": "null"}]]
            return ", or ".join([f"plain value{null}", *others])
        return ", or ".join(_words(choice, nodes) for choice in choices if choice != {"type": "null"}) + null
    if "$ref" in schema:
        return f"[mapping]({nodes[schema['$ref'].rpartition('/')[2]].link})"
    if "enum" in schema or "const" in schema:
        return _or([_code(value) for value in schema.get("enum", [schema.get("const")])])
    match schema["type"]:
        case "array":
            items = schema["items"][0] if isinstance(schema["items"], list) else schema["items"]
            least, most = schema.get("minItems", 0), schema.get("maxItems")
            many = "" if most is None else f"{most} " if least == most else f"{least} to {most} "
            return f"list of {many}" + re.sub("(number|mapping|value|null)", r"\1s", _words(items, nodes))
        case "object":
            return f"mapping of names to {_words(schema['additionalProperties'], nodes)}"
        case "string":
            return f"text like `{schema['pattern']}`" if "pattern" in schema else "text"
        case "boolean":
            return "`true` or `false`"
        case kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(schema)


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _bounds(schema: dict[str, Any]) -> str:
    """Describe the bounds of a number."""
    if {"minimum", "maximum"} <= schema.keys():
        return f" {schema['minimum']:,} to {schema['maximum']:,}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {schema[key]:,}" for key, word in words.items() if key in schema]
    return f" {' and '.join(bounds)}" if bounds else ""


def _default(value: Any, field: dict[str, Any]) -> str:
    plain = field["default"]
    return "all defaults" if isinstance(value, Node) else "none" if plain in (None, [], {}) else _code(plain)


def _code(value: Any) -> str:
    return f"`{value:g}`" if isinstance(value, float) else f"`{dump_one_line(value)}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _base(path: str) -> str:
    return "deep_narrow" if path.startswith("search") else "t2t_vit_14"


def _describe_rule(name: str, check: Check) -> str:
    """Describe a rule or lint check: its name, overrides that violate it, and the message."""
    overrides = VIOLATIONS[check.__qualname__]
    if not overrides:
        return f"**{name.replace('-', ' ')}**: {(check.__doc__ or '').rstrip('.').lower()}"
    diagnostic = next(one for one in _diagnostics(overrides) if one.rule == name)
    shown = " ".join(f"`{override}`" for override in overrides)
    return f"**{name.replace('-', ' ')}**: {shown}: {diagnostic.message} ({diagnostic.hint})"


def _diagnostics(overrides: list[str]) -> list[Diagnostic]:
    """Return the diagnostics of a shipped spec with overrides."""
    try:
        return read_any(_base(overrides[0]), overrides).warnings
    except SpecError as error:
        return list(error.diagnostics)


def _lint_warnings(sections: dict[str, Section]) -> Iterator[str]:
    lints = dict.fromkeys(item for section in sections.values() for item in section.node.lints.items())
    yield from (f"- {_describe_rule(name, check)}" for name, check in lints)


def drawn_model() -> str:
    """Return docs/diagram.svg, the diagram of T2T-ViT-14 for the README."""
    model = load_spec("t2t_vit_14").model
    assert isinstance(model, ModelSpec)
    return diagram_svg(model)


def draw_grid(file: Path) -> None:
    """Draw three patches of the grid in docs/spec.md, and the resulting tokens beside it."""
    window, image = PICTURED, Grid(SIDE, SIDE)
    tokens, start, stride = window.grid(image), -window.pad, window.stride
    colours = {(0, 0): BLUE, (0, 1): ORANGE, (1, 0): GREEN}
    beside, end = SIDE + window.pad + 3, SIDE + window.pad
    figure = new_figure(8.6, 5)
    axes = figure.subplots()
    for row, column in product(range(start, end), repeat=2):
        inside = 0 <= row < SIDE and 0 <= column < SIDE
        _square(axes, row, column, 1, ec=GREY, lw=0.6, fc="white", hatch="" if inside else "////")
    for index, ((row, column), colour) in enumerate(colours.items()):
        top, left, inset = row * stride + start, column * stride + start, 0.05 * index
        _square(axes, top, left, window.patch_size, fc=(colour, 0.3), ec="none")
        _square(axes, top + inset, left + inset, window.patch_size - 2 * inset, fc="none", ec=colour, lw=2.5)
    for row, column in product(range(tokens.height), range(tokens.width)):
        colour = colours.get((row, column))
        style = {"fc": (colour, 0.3), "ec": colour, "lw": 2.5, "zorder": 3} if colour else {"fc": "white", "ec": GREY}
        _square(axes, row * stride, beside + column * stride, stride, **style)
    measures = {"overlap": (start + stride, window.overlap), "stride": (start, stride)}
    measures["patch_size"] = (start, window.patch_size)
    for above, (name, (left, length)) in enumerate(reversed(measures.items())):
        y = start - 0.7 - 0.9 * above
        axes.errorbar(left + length / 2, y, xerr=length / 2, color="black", capsize=4, lw=1)
        axes.text(start + window.patch_size + 0.4, y, f"{name} {length}", va="center")
    axes.annotate("", (beside - 0.5, SIDE / 2), (end + 0.5, SIDE / 2), arrowprops={"arrowstyle": "->", "lw": 1.5})
    below = {"ha": "center", "va": "top"}
    axes.text(SIDE / 2, end + 0.4, f"{image} pixels; hatched: padding {window.pad}, zeros", **below)
    axes.text(beside + tokens.width * stride / 2, end + 0.4, f"{tokens} tokens", **below)
    axes.set(xlim=(start - 0.2, beside + tokens.width * stride + 0.2), ylim=(end + 1.2, start - 3), aspect="equal")
    axes.set_axis_off()
    with mpl.rc_context({"svg.hashsalt": "t2tbuild", "svg.fonttype": "none", "hatch.linewidth": 0.5}):
        figure.savefig(file, facecolor="white", metadata={"Date": None} if file.suffix == ".svg" else None)


def _square(axes: Axes, row: float, column: float, side: float, **style: Any) -> None:
    axes.add_patch(Rectangle((column, row), side, side, **style))


if __name__ == "__main__":
    (HERE / "spec.md").write_text(spec_reference(), encoding="utf-8")
    draw_grid(HERE / "grid.svg")
    (HERE / "diagram.svg").write_text(drawn_model(), encoding="utf-8")
