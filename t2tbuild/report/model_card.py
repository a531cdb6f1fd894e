"""The model card of a trained run: README.md of a repository of the Hugging Face Hub, made from the run's files."""

import re
from pathlib import Path
from typing import Any

import yaml

from t2tbuild.errors import InputError, T2TBuildError
from t2tbuild.files import is_file, read_json, redact
from t2tbuild.report.page import format_command
from t2tbuild.report.training_page import training_report
from t2tbuild.spec.data import AnyData
from t2tbuild.spec.label_names import list_names
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import plural, short_count
from t2tbuild.spec.weights import HF_HUB, RELEASED
from t2tbuild.weights.released import released_weights

UNKNOWN = "unknown"
"""The Hub's word for a licence that was not given."""
SOURCE = "https://github.com/yitu-opensource/T2T-ViT"

USE = """\
```python
import timm{imports}

model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
logits = model(transform(image).unsqueeze(0))  # image: a PIL image in RGB
```
"""


def model_card(run: Path, repository: str, licence: str, search: Path | None) -> str:
    """Return the model card of a run for a repository ORG/NAME: figures, use, search, data, training, spec, licence.

    `search` is the run of the search that found the model; left out, it is looked up in the command of the run.
    Absolute paths are shortened to their last part, passwords and tokens are removed. Raises InputError if no epoch is
    complete, or if `search` found another model.
    """
    spec, report = load_spec(run / "spec.yaml"), training_report(run)
    front = {
        "license": licence,
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "t2tbuild", *_kind_tags(spec)],
    }
    sections = [
        f"# {repository.rpartition('/')[2]}\n\n{_introduction(spec, report)}\n\n{_figures(spec, report)}",
        f"## Use\n\n{_use(spec, repository)}",
        _search_section(spec, search or find_search(report["environment"]), named=search is not None),
        f"## Data\n\n{_data(spec)}",
        f"## Training\n\n{_training(spec, report)}",
        f"## Spec\n\n```yaml\n{_without_paths(report['spec']).strip()}\n```",
        f"## Licence\n\n{_licence(spec, licence)}",
    ]
    body = "\n\n".join(section.strip() for section in sections if section)
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{body}\n"


def find_search(environment: dict[str, Any]) -> Path | None:
    """Return the run of the search whose best.yaml the command of a training names, if it is still there."""
    named = (Path(argument).parent for argument in environment["command"] if Path(argument).name == "best.yaml")
    return next((folder for folder in named if is_file(folder / "report.json")), None)


def _kind_tags(spec: Spec) -> list[str]:
    return ["t2t-vit"] if isinstance(spec.model, ModelSpec) else []


def _introduction(spec: Spec, report: dict[str, Any]) -> str:
    kind = "Tokens-to-Token vision transformer" if isinstance(spec.model, ModelSpec) else "timm model"
    return f"A {kind} (`{spec.model.name}`), trained with t2tbuild. {report['verdict']}"


def _figures(spec: Spec, report: dict[str, Any]) -> str:
    result = report["result"] or {}
    image = spec.model.image
    rows = [
        ("parameters", f"{report['params']:,} ({short_count(report['params'])})"),
        ("MACs", f"{report['macs']:,} ({short_count(report['macs'])}), one multiply-add counted as one"),
        ("image size", f"{image[0]} x {image[1]}, {plural(spec.model.in_chans, 'channel')}"),
        ("classes", f"{spec.model.num_classes:,}"),
        ("top-1, validation", f"{report['epochs'][-1]['validation_accuracy']:.2%}"),
    ]
    if result.get("test_accuracy") is not None:
        rows.append(("top-1, test (evaluated once)", f"{result['test_accuracy']:.2%}"))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _use(spec: Spec, repository: str) -> str:
    if not isinstance(spec.model, ModelSpec):
        return USE.format(imports="", repository=repository)
    extensions = f" It uses the extensions {', '.join(spec.extensions)}, which are not here." if spec.extensions else ""
    needs = (
        f"`import t2tbuild.timm` adds the architecture to timm's; without t2tbuild timm cannot build it.{extensions}"
    )
    imports = "\nimport t2tbuild.timm  # registers the architecture"
    return f"{USE.format(imports=imports, repository=repository)}\n{needs}"


def _search_section(spec: Spec, search: Path | None, *, named: bool) -> str:
    """Return the section of the search that found the model; empty without one, or if it found another model."""
    if search is None:
        return ""
    try:
        report = read_json(search / "report.json")
        best = load_spec(search / "best.yaml").model
        verdict, name, counts = report["verdict"], report["name"], report["counts"]
    except (OSError, ValueError, KeyError, TypeError, T2TBuildError) as error:
        if named:
            raise InputError(f"--search {search}: not the run of a complete search: {error}") from None
        return ""
    ours, theirs = spec.model, best
    same = (
        isinstance(ours, ModelSpec)
        and isinstance(theirs, ModelSpec)
        and (ours.tokenizer, ours.backbone.model_copy(update={"drop_path": 0}))
        == (theirs.tokenizer, theirs.backbone.model_copy(update={"drop_path": 0}))
    )
    if not same:
        if named:
            raise InputError(f"--search {search}: found another model, {theirs.name}; leave it out, or name another")
        return ""
    limits = ", ".join(
        f"{measure} at most {limit:,}" for measure, limit in (report.get("limits") or {}).items() if limit
    )
    return (
        f"## Search\n\nFound by t2tbuild's search `{name}`: {plural(counts['asked'], 'candidate')}, {limits}. "
        f"Verdict: {verdict}"
    )


def _data(spec: Spec) -> str:
    assert spec.train is not None
    names = spec.model.label_names
    classes = f" The classes: {list_names(names)}." if names else ""
    return f"{_describe(spec.train.data)}{classes}"


def _describe(data: AnyData) -> str:
    where = getattr(data, "root", None) or getattr(data, "file", None) or getattr(data, "name", None)
    place = f", `{Path(str(where)).name}`" if where and Path(str(where)).name else ""
    return f"Trained on data of the kind `{data.kind}`{place}."


def _training(spec: Spec, report: dict[str, Any]) -> str:
    environment = report["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    lines = [
        "```sh",
        _without_paths(redact(format_command(environment))),
        "```",
        "",
        f"On {environment.get('device', 'an unknown device')} with {packages}.",
    ]
    if spec.weights is not None:
        lines.append(f"Initial weights: `{_without_paths(spec.weights.file)}`.")
    return "\n".join(lines)


def _licence(spec: Spec, licence: str) -> str:
    lines = ["No licence of these weights was given." if licence == UNKNOWN else f"These weights: {licence}."]
    distill = spec.train.distill if spec.train else None
    for weights, how in ((spec.weights, "trained from"), (distill.weights if distill else None, "distilled from")):
        start = "" if weights is None else weights.file
        released = released_weights().get(start.removeprefix(f"{RELEASED}:"))
        if released is not None:
            lines.append(
                f"They were {how} `{released.name}` of {released.holder}: {released.licence} ({released.url})."
            )
        elif start.startswith(HF_HUB):
            lines.append(f"They were {how} `{start}` of the Hugging Face Hub, whose card has its licence.")
    lines.append("t2tbuild: Apache-2.0.")
    if isinstance(spec.model, ModelSpec):
        lines.append(f"The architecture is that of T2T-ViT ({SOURCE}, Clear BSD License).")
    return "\n".join(lines)


def _without_paths(text: str) -> str:
    """Shorten absolute paths to their last part: they name users and machines.

    >>> _without_paths("root: /home/me/photos, see https://x.org/a")
    'root: photos, see https://x.org/a'
    """
    return re.sub(r"(?<![\w/:.~-])/(?:[^\s'\":,}/]+/)*([^\s'\":,}/]+)/?", r"\1", text)
