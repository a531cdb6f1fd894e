"""t2tbuild visualize: what a model makes of an image, in pictures."""

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
from t2tbuild.cli.options import Json, Overrides, complete_name
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.write import writing
from t2tbuild.errors import InputError, T2TBuildError, is_memory_full
from t2tbuild.files import exists

if TYPE_CHECKING:
    from t2tbuild.report.visual.gallery import FeatureMaps, NamedFigure
    from t2tbuild.report.visual.loaded_model import LoadedModel, Picture
    from t2tbuild.spec import Spec
    from t2tbuild.spec.document import Document
    from t2tbuild.spec.weights import Weights

    Source = tuple[Document[Spec], Weights | None]

MOST_IMAGES = 32
LAST = "-1"


class What(StrEnum):
    """What is drawn."""

    FEATURES = "features"
    ATTENTION = "attention"
    TOKENS = "tokens"
    ALL = "all"


class Suffix(StrEnum):
    """What the pictures are written as."""

    PNG = "png"
    SVG = "svg"


def visualize(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC|RUN", help="A shipped name, a path, or a run.", autocompletion=complete_name)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder that the pictures go into.")],
    overrides: Overrides = None,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="PNG or JPEG, repeatable; else a sample photograph.")
    ] = None,
    what: Annotated[What, typer.Option(help="What is drawn.")] = What.ALL,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A checkpoint, safetensors, a run; else the run's or the spec's own."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="SPEC|RUN", help="Features beside this one's too.", autocompletion=complete_name),
    ] = None,
    block: Annotated[
        str, typer.Option(metavar="NUMBER|all", help="Whose attention is drawn, from 0; -1 is the last.")
    ] = LAST,
    token: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="The token that is followed, from 0,0; else the middle.")
    ] = None,
    suffixes: Annotated[
        list[Suffix] | None, typer.Option("--format", help="Repeatable; PNG where none is named.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw feature maps with dead channels framed, attention over the image, and the pixels behind a token.

    Example: t2tbuild visualize t2t_vit_14 --weights t2t_vit_14.pth.tar --against resnet50 --image dog.jpg --out seen
    """
    if against is not None and what not in (What.FEATURES, What.ALL):
        raise InputError(f"--against compares features, which --what {what} leaves out; leave one of them out")
    if what not in (What.ATTENTION, What.ALL) and block != LAST:
        raise InputError(f"--block is of attention, which --what {what} leaves out; leave one of them out")
    if what is What.FEATURES and token is not None:
        raise InputError("--token is of attention and tokens, which --what features leaves out")
    _require_images(image or [])
    require_folder(out)
    place, chosen = _block(block), None if token is None else _token(token)
    sources = [_source(spec, overrides, weights)] + ([_source(against, None, None)] if against is not None else [])
    if not image:
        stderr().print("no --image given: looking at scikit-learn's photograph china.jpg", soft_wrap=True)

    from t2tbuild.report.visual.gallery import draw_attention, draw_tokens, token_of

    looked = [_looked_at(source, image) for source in sources]
    subject, pictures = looked[0]
    token_of(subject, chosen)
    seen: list[FeatureMaps] = []
    jobs: list[Callable[[], list[NamedFigure]]] = []
    if what in (What.FEATURES, What.ALL):
        jobs.append(partial(_see, looked, seen))
    if _draws(what, What.ATTENTION, subject):
        jobs += [partial(draw_attention, subject, picture, chosen, place) for picture in pictures]
    if _draws(what, What.TOKENS, subject):
        jobs += [partial(draw_tokens, subject, picture, chosen) for picture in pictures]
    files = _write(out, jobs, list(dict.fromkeys(suffixes or [Suffix.PNG])))
    if as_json:
        print_json(_as_json(looked, seen, files))
    else:
        _print(out, files)


def _see(looked: Sequence[tuple[LoadedModel, list[Picture]]], seen: list[FeatureMaps]) -> list[NamedFigure]:
    """Run the models on their images, keep what was seen, and draw it."""
    from t2tbuild.report.visual.gallery import draw_features, extract

    seen += [extract(subject, pictures) for subject, pictures in looked]
    return draw_features(seen)


def _require_images(images: Sequence[Path]) -> None:
    if len(images) > MOST_IMAGES:
        raise InputError(f"--image: {len(images)} images; at most {MOST_IMAGES} are looked at together")
    for path in images:
        if not exists(path):
            raise InputError(f"--image {path!s:.80}: no such file")
        if not path.is_file():
            raise InputError(f"--image {path}: no file; name an image")


def _block(text: str) -> str:
    if not re.fullmatch(r"-?[0-9]{1,4}|all", text, re.ASCII):
        raise InputError(f"--block: {text!r:.60} is no block; write a number from 0, -1 for the last, or all")
    return text


def _token(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5}) ?, ?([0-9]{1,5})", text, re.ASCII)
    if match is None:
        raise InputError(f"--token: {text!r:.60} is no token; write its row and column, for example 7,7")
    return int(match[1]), int(match[2])


def _source(text: str, overrides: list[str] | None, named: str | None) -> Source:
    """The spec that is meant and its weights: those named, a run's newest, or the spec's own; None for fresh ones."""
    from t2tbuild import manifest
    from t2tbuild.spec.weights import LOCAL_DIR, Weights

    run = Path(text).parent if Path(text).name == "spec.yaml" else Path(text)
    of_run = run / "spec.yaml"
    document = open_spec(str(of_run) if of_run.is_file() else text, overrides)
    source = document.spec.weights
    if named is not None:
        source = Weights(file=named)
    elif of_run.is_file() and (run / "checkpoints").is_dir():
        newest, broken = manifest.latest_valid(run / "checkpoints", ("model.safetensors",))
        for message in broken:
            stderr().print(f"broken, so an earlier checkpoint is looked at: {message}", soft_wrap=True)
        source = Weights(file=str(newest or run))
    if source is not None and not Path(source.file.removeprefix(LOCAL_DIR)).exists():
        raise InputError(f"{source.file}: no such file or folder of weights")
    return document, source


def _looked_at(source: Source, images: Sequence[Path] | None) -> tuple[LoadedModel, list[Picture]]:
    """The model that is built, and the images at its size, no two of one name."""
    from t2tbuild.report.visual.loaded_model import load_model

    document, weights = source
    with document.placing():
        subject = load_model(document.spec, weights)
    message = " ".join(f"{value:.3g}" for value in (*subject.mean, *subject.std))
    stderr().print(f"{subject.title}; images of {subject.image} pixels, mean and deviation {message}", soft_wrap=True)
    pictures: dict[str, Picture] = {}
    paths: Sequence[Path | None] = images or (None,)
    for path in paths:
        picture = subject.picture(path)
        name = re.sub(r"[^\w.-]+", "_", picture.name)
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        unique = next(one for one in itertools.chain([name], numbered) if one not in pictures)
        pictures[unique] = picture.named(unique)
    return subject, list(pictures.values())


def _draws(what: What, kind: What, subject: LoadedModel) -> bool:
    """Whether pictures of a kind are drawn: where they are asked for, and with `all` where the model has any."""
    from t2tbuild.report.visual.attention import has_attention
    from t2tbuild.report.visual.loaded_model import windows_of

    if what is not What.ALL:
        return what is kind
    there = has_attention(subject.model) if kind is What.ATTENTION else bool(windows_of(subject.model))
    if not there:
        stderr().print(f"{subject.name} has no {kind} that can be drawn", soft_wrap=True)
    return there


def _write(
    out: Path, jobs: Sequence[Callable[[], list[NamedFigure]]], suffixes: Sequence[Suffix]
) -> list[tuple[Path, str]]:
    """Do the jobs one after another, and write what each draws; the files and what they show."""
    import matplotlib as mpl
    from rich.progress import Progress

    files = []
    console = stderr()
    as_written = mpl.rc_context({"text.parse_math": False})  # a path may hold dollar signs
    with (
        as_written,
        writing("--out", out),
        Progress(console=console, disable=not console.is_terminal, transient=True) as bar,
    ):
        out.mkdir(parents=True, exist_ok=True)
        for job in bar.track(jobs, description="pictures"):
            for drawn in _done(job):
                for suffix in suffixes:
                    path = out / f"{drawn.stem}.{suffix}"
                    drawn.figure.savefig(path)
                    files.append((path, drawn.shows))
    return files


def _done(job: Callable[[], list[NamedFigure]]) -> list[NamedFigure]:
    try:
        return job()
    except (MemoryError, RuntimeError) as error:
        if is_memory_full(error):
            raise T2TBuildError("out of memory; a smaller model.image_size or fewer images may fit") from error
        raise


def _print(out: Path, files: Sequence[tuple[Path, str]]) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("shows")
    for path, shows in files:
        table.add_row(path.name, shows)
    stdout().print(f"pictures in {out}", soft_wrap=True)
    stdout().print(table)


def _as_json(
    looked: Sequence[tuple[LoadedModel, list[Picture]]], seen: Sequence[FeatureMaps], files: Sequence[tuple[Path, str]]
) -> dict[str, Any]:
    """The files, and every number that they show of layers."""
    layers = {id(one.subject): one.figures for one in seen}
    return {
        "files": [{"file": str(path), "shows": shows} for path, shows in files],
        "models": [
            {
                "name": subject.name,
                "weights": subject.weights,
                "images": [picture.name for picture in pictures],
                "image_size": list(subject.image),
                "mean": list(subject.mean),
                "std": list(subject.std),
                "layers": [asdict(layer) | {"dead_share": layer.dead_share} for layer in layers.get(id(subject), ())],
            }
            for subject, pictures in looked
        ],
    }
