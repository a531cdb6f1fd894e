"""t2tbuild visualize: draw the features, attention and receptive fields of a model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.folder import require_folder
from t2tbuild.cli.options import Json, Overrides, complete_spec_name
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.weights import WEIGHTS_HELP, choose_weights
from t2tbuild.cli.write import report_write_errors
from t2tbuild.errors import InputError, T2TBuildError, is_memory_full
from t2tbuild.files import exists

if TYPE_CHECKING:
    from t2tbuild.report.visual.gallery import FeatureMaps, NamedFigure
    from t2tbuild.report.visual.loaded_model import LoadedImage, LoadedModel
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.weights import Weights

    Source = tuple[Document[Spec], Weights | None]

MAX_IMAGES = 32
LAST_BLOCK = "-1"


class FigureKind(StrEnum):
    """Kinds of figures."""

    FEATURES = "features"
    ATTENTION = "attention"
    TOKENS = "tokens"
    ALL = "all"


class Suffix(StrEnum):
    """File formats of the figures."""

    PNG = "png"
    SVG = "svg"


def visualize(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC|RUN", help="A shipped name, a path, or a run.", autocompletion=complete_spec_name),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for the figures.")],
    overrides: Overrides = None,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="PNG or JPEG, repeatable; by default a sample photograph.")
    ] = None,
    what: Annotated[FigureKind, typer.Option(help="What to draw.")] = FigureKind.ALL,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=WEIGHTS_HELP),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC|RUN", help="Another model whose features to compare.", autocompletion=complete_spec_name
        ),
    ] = None,
    block: Annotated[
        str, typer.Option(metavar="NUMBER|all", help="The block whose attention to draw, from 0; -1 is the last.")
    ] = LAST_BLOCK,
    token: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="The token to draw, from 0,0; by default the middle one.")
    ] = None,
    suffixes: Annotated[
        list[Suffix] | None, typer.Option("--format", help="File format, repeatable; PNG by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw feature maps with dead channels framed, attention over the image, and receptive fields of tokens.

    Example: t2tbuild visualize t2t_vit_14 --weights released --against resnet50 --image dog.jpg --out seen
    """
    if against is not None and what not in (FigureKind.FEATURES, FigureKind.ALL):
        raise InputError(f"--against compares features, which --what {what} does not draw; leave one of them out")
    if what not in (FigureKind.ATTENTION, FigureKind.ALL) and block != LAST_BLOCK:
        raise InputError(f"--block is for attention, which --what {what} does not draw; leave one of them out")
    if what is FigureKind.FEATURES and token is not None:
        raise InputError(
            "--token is for attention and tokens, which --what features does not draw; leave one of them out"
        )
    _check_images(image or [])
    require_folder(out)
    block, position = _parse_block(block), None if token is None else _parse_token(token)
    sources = [_open_source(spec, overrides, weights)]
    if against is not None:
        sources.append(_open_source(against, None, None))
    if not image:
        stderr().print("no --image given: using scikit-learn's photograph china.jpg", soft_wrap=True)

    from t2tbuild.report.visual.gallery import draw_attention, draw_tokens, resolve_token

    loaded = [_load(source, image) for source in sources]
    model, images = loaded[0]
    resolve_token(model, position)
    maps: list[FeatureMaps] = []
    jobs: list[Callable[[], list[NamedFigure]]] = []
    if what in (FigureKind.FEATURES, FigureKind.ALL):
        jobs.append(partial(_draw_features, loaded, maps))
    if _should_draw(what, FigureKind.ATTENTION, model):
        jobs += [partial(draw_attention, model, one, position, block) for one in images]
    if _should_draw(what, FigureKind.TOKENS, model):
        jobs += [partial(draw_tokens, model, one, position) for one in images]
    files = _write(out, jobs, list(dict.fromkeys(suffixes or [Suffix.PNG])))
    if as_json:
        print_json(_to_json(loaded, maps, files))
    else:
        _print_files(out, files)


def _draw_features(
    loaded: Sequence[tuple[LoadedModel, list[LoadedImage]]], maps: list[FeatureMaps]
) -> list[NamedFigure]:
    """Run the models on their images, append their feature maps to `maps`, and draw them."""
    from t2tbuild.report.visual.gallery import draw_features, extract

    maps += [extract(model, images) for model, images in loaded]
    return draw_features(maps)


def _check_images(images: Sequence[Path]) -> None:
    if len(images) > MAX_IMAGES:
        raise InputError(f"--image: {len(images)} images; at most {MAX_IMAGES} are drawn together; name fewer")
    for path in images:
        if not exists(path):
            raise InputError(f"--image {path!s:.80}: no such file")
        if not path.is_file():
            raise InputError(f"--image {path}: not a file; name an image")


def _parse_block(text: str) -> str:
    if not re.fullmatch(r"-?[0-9]{1,4}|all", text, re.ASCII):
        raise InputError(f"--block: {text!r:.60} is not a block; write a number from 0, -1 for the last, or all")
    return text


def _parse_token(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5}) ?, ?([0-9]{1,5})", text, re.ASCII)
    if match is None:
        raise InputError(f"--token: {text!r:.60} is not a token; write its row and column, for example 7,7")
    return int(match[1]), int(match[2])


def _open_source(text: str, overrides: list[str] | None, file: str | None) -> Source:
    """Read the spec of a model, and choose its weights; None stands for random initialisation."""
    document = open_spec(text, overrides)
    return document, choose_weights(text, document.spec, file)


def _load(source: Source, paths: Sequence[Path] | None) -> tuple[LoadedModel, list[LoadedImage]]:
    """Build the model, and load the images at its size with unique names."""
    from t2tbuild.report.visual.loaded_model import load_model

    document, weights = source
    with document.located_errors():
        model = load_model(document.spec, weights)
    normalization = " ".join(f"{value:.3g}" for value in (*model.mean, *model.std))
    stderr().print(f"{model.title}; images of {model.image} pixels, mean and std {normalization}", soft_wrap=True)
    images: dict[str, LoadedImage] = {}
    for path in paths or (None,):
        image = model.load_image(path)
        name = re.sub(r"[^\w.-]+", "_", image.name)
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        unique = next(one for one in itertools.chain([name], numbered) if one not in images)
        images[unique] = image.named(unique)
    return model, list(images.values())


def _should_draw(what: FigureKind, kind: FigureKind, model: LoadedModel) -> bool:
    """Return whether to draw a kind of figure: if requested, and with `all` if the model supports it."""
    from t2tbuild.report.visual.attention import has_attention
    from t2tbuild.report.visual.loaded_model import windows_of

    if what is not FigureKind.ALL:
        return what is kind
    supported = has_attention(model.module) if kind is FigureKind.ATTENTION else bool(windows_of(model.module))
    if not supported:
        stderr().print(f"{model.name} has no {kind} that can be drawn", soft_wrap=True)
    return supported


def _write(
    out: Path, jobs: Sequence[Callable[[], list[NamedFigure]]], suffixes: Sequence[Suffix]
) -> list[tuple[Path, str]]:
    """Run the jobs and write their figures; return the files and what they show."""
    import matplotlib as mpl
    from rich.progress import Progress

    files = []
    console = stderr()
    no_math = mpl.rc_context({"text.parse_math": False})  # a path may contain dollar signs
    with (
        no_math,
        report_write_errors("--out", out),
        Progress(console=console, disable=not console.is_terminal, transient=True) as bar,
    ):
        out.mkdir(parents=True, exist_ok=True)
        for job in bar.track(jobs, description="figures"):
            for drawn in _run_job(job):
                for suffix in suffixes:
                    path = out / f"{drawn.stem}.{suffix}"
                    drawn.figure.savefig(path)
                    files.append((path, drawn.shows))
    return files


def _run_job(job: Callable[[], list[NamedFigure]]) -> list[NamedFigure]:
    try:
        return job()
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            raise T2TBuildError("out of memory; try a smaller model.image_size or fewer images") from error
        raise


def _print_files(out: Path, files: Sequence[tuple[Path, str]]) -> None:
    from t2tbuild.report.table import Column, ColumnTable

    table = ColumnTable([Column("file"), Column("shows", 1)])
    for path, shows in files:
        table.add_row(path.name, shows)
    stdout().print(f"figures in {out}", soft_wrap=True)
    stdout().print(table)


def _to_json(
    loaded: Sequence[tuple[LoadedModel, list[LoadedImage]]],
    maps: Sequence[FeatureMaps],
    files: Sequence[tuple[Path, str]],
) -> dict[str, Any]:
    """Return the files, and the statistics of every layer that they show."""
    layers = {id(one.model): one.stats for one in maps}
    return {
        "files": [{"file": str(path), "shows": shows} for path, shows in files],
        "models": [
            {
                "name": model.name,
                "weights": model.weights,
                "images": [image.name for image in images],
                "image_size": list(model.image),
                "mean": list(model.mean),
                "std": list(model.std),
                "layers": [asdict(layer) | {"dead_share": layer.dead_share} for layer in layers.get(id(model), ())],
            }
            for model, images in loaded
        ],
    }
