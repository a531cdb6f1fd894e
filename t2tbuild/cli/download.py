"""t2tbuild download: fetch released weights by name, and list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Json
from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.weights.released import Released


def complete_released_name(incomplete: str) -> list[str]:
    """Return the names of released weights that start with what has been typed, for shell completion."""
    from t2tbuild.weights.released import released_weights

    return [name for name in released_weights() if name.startswith(incomplete)]


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Released weights such as t2t_vit_14, or hf-hub:ORG/NAME.",
            autocompletion=complete_released_name,
        ),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the names, and which are cached.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Download again, also what is cached.")] = False,
    as_json: Json = False,
) -> None:
    """Download released weights into the cache, and print where they are. Commands that name them do so themselves.

    The folder is t2tbuild/ in the platform's cache folder, or T2TBUILD_CACHE. An interrupted download is continued.
    T2TBUILD_OFFLINE=1 turns downloads off, T2TBUILD_RELEASES names a mirror: a URL, or a folder that has the files.

    Example: t2tbuild download t2t_vit_14
    """
    from t2tbuild.weights.released import released_weights

    if list_all and names:
        raise InputError(f"--list lists all names; leave out {names[0]}, or --list")
    if list_all:
        rows = list(released_weights().values())
        if as_json:
            print_json([_entry(one) for one in rows])
        else:
            from t2tbuild.report.released_table import released_table

            stdout().print(released_table(rows))
        return
    if not names:
        raise InputError(f"name what to download: {', '.join(released_weights())}; or list them with --list")
    for name in names:
        _require_known(name)  # before the first download
    fetched = [_fetch(name, force=force) for name in names]
    if as_json:
        print_json(fetched)
    else:
        for one in fetched:
            stdout().print(one["path"], soft_wrap=True)


def _require_known(name: str) -> None:
    from t2tbuild.spec.weights import HF_HUB
    from t2tbuild.weights.released import find_released
    from t2tbuild.weights.remote import require_known

    if name.startswith(HF_HUB):
        require_known(name)
    else:
        find_released(name)


def _fetch(name: str, *, force: bool) -> dict[str, object]:
    """Fetch one file or repository, print its licence, and return what is known of it."""
    from t2tbuild.cli.download_progress import DownloadProgress
    from t2tbuild.spec.weights import HF_HUB
    from t2tbuild.weights.released import fetch_released, find_released
    from t2tbuild.weights.remote import fetch

    from_hub = name.startswith(HF_HUB)
    with DownloadProgress(stderr(), name) as progress:
        path = fetch(name) if from_hub else fetch_released(name, progress.update, force=force)
    if from_hub:
        return {"name": name, "path": str(path)}
    released = find_released(name)
    stderr().print(f"{name}: {released.notice}", soft_wrap=True)
    return _entry(released)


def _entry(released: Released) -> dict[str, object]:
    """Return what is known of released weights, as plain data."""
    from t2tbuild.weights.download import kept_digest

    return {
        "name": released.name,
        "top1": released.top1,
        "data": released.data,
        "bytes": released.path.stat().st_size if released.is_cached else released.bytes,
        "sha256": kept_digest(released.path) or released.sha256 or None,
        "licence": released.licence,
        "holder": released.holder,
        "url": released.location,
        "path": str(released.path),
        "cached": released.is_cached,
        "note": released.note or None,
    }
