"""t2tbuild push: publish a trained run on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.folder import require_folder
from t2tbuild.cli.options import Json
from t2tbuild.cli.write import report_write_errors


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a training.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository; it is created if need be.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the files and print the model card; publish nothing.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            metavar="ID",
            help="Licence of the weights: apache-2.0, mit, cc-by-4.0, other; else unknown.",
        ),
    ] = None,
    search: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="The search that found the model; by default that of the run's command."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default RUN/hub.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a README.md that the repository has.")] = False,
    as_json: Json = False,
) -> None:
    """Publish the newest weights of a run on the Hugging Face Hub, with timm's config and a model card.

    The card has the spec, cost, accuracy, verdict of the search, data, command and licence of the run. The token is
    that of `hf auth login` or HF_TOKEN.

    Example: t2tbuild push runs/winner my-org/my-model --licence apache-2.0 --dry-run
    """
    from t2tbuild.weights.hub import require_repository, require_token

    require_repository(repository)
    require_folder(out)
    if not dry_run:
        require_token()

    from t2tbuild.report.hub_folder import CARD, require_licence, require_run, write_hub_folder

    if licence is not None:
        require_licence(licence)
    require_run(run)
    folder = out or run / "hub"
    with report_write_errors("--out", folder):
        written = write_hub_folder(run, folder, repository, licence, search)
    found: dict[str, object] = {"repository": repository, "files": [str(path) for path in written], "url": None}
    stderr().print(
        f"written: {', '.join(f'{path} ({path.stat().st_size:,} bytes)' for path in written)}", soft_wrap=True
    )
    if dry_run:
        stderr().print(f"{repository}: nothing was published", soft_wrap=True)
    else:
        from t2tbuild.weights.hub import upload_folder

        uploaded = upload_folder(folder, repository, private=private, replace_card=force)
        if uploaded.kept_card:
            stderr().print(f"{repository} has a {CARD}, which stays; --force replaces it", soft_wrap=True)
        found["url"] = uploaded.url
    if as_json:
        print_json(found)
    elif dry_run:
        stdout().print((folder / CARD).read_text(encoding="utf-8"), soft_wrap=True)
    else:
        stdout().print(found["url"], soft_wrap=True)
