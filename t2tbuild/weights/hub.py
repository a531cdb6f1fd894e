"""Read weights from the Hugging Face Hub, and publish them. Torch-free; huggingface_hub is imported when used.

What is read lies in the cache of huggingface_hub (HF_HOME, HF_HUB_CACHE). HF_ENDPOINT names another server.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2tbuild._version import __version__
from t2tbuild.errors import DownloadError, InputError, UploadError, first_line
from t2tbuild.spec.weights import HF_HUB, WEIGHT_FILES
from t2tbuild.weights.cache import is_offline

CONFIG, CARD = "config.json", "README.md"
ENDPOINT = "HF_ENDPOINT"
MAX_REPOSITORY = 96
REPOSITORY = re.compile(
    r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?/[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII
)
LOGIN = "log in with: hf auth login, or set HF_TOKEN"


def parse_repository(name: str) -> tuple[str, str | None]:
    """Return ORG/NAME and the revision of `ORG/NAME@REVISION`. Raises InputError for what the Hub does not allow."""
    repository, at, revision = name.partition("@")
    require_repository(repository)
    if at and not revision:
        raise InputError(f"{name!r:.100}: the revision is empty; write a branch, a tag or a commit after the @")
    return repository, revision or None


def require_repository(name: str) -> None:
    """Raise InputError unless the Hub allows ORG/NAME as the name of a repository."""
    if len(name) > MAX_REPOSITORY or not REPOSITORY.fullmatch(name) or name.endswith(".git"):
        rule = f"letters, digits, - _ and ., not -- or .., not - or . at an end; at most {MAX_REPOSITORY} characters"
        raise InputError(f"{name!r:.120} is not a repository of the Hub; write ORG/NAME: {rule}")


def fetch_repository(name: str) -> Path:
    """Return the cached folder of a repository with its weights and config.json; download them if they are not there.

    Raises InputError if there is no such repository, and offline if it is not cached; DownloadError if the download
    fails.
    """
    repository, revision = parse_repository(name)
    for file in WEIGHT_FILES:
        found = _fetch_file(repository, file, revision)
        if found is not None:
            with contextlib.suppress(DownloadError, InputError):  # weights can be read without it
                _fetch_file(repository, CONFIG, found.parent.name)
            return found.parent
    if is_offline():
        raise InputError(
            f"{HF_HUB}{name} is not cached, and downloads are turned off (T2TBUILD_OFFLINE or HF_HUB_OFFLINE); turn "
            "them on, or name a file of weights"
        )
    raise InputError(f"{HF_HUB}{name}: the repository has no {' or '.join(WEIGHT_FILES)}; name another")


def _fetch_file(repository: str, file: str, revision: str | None) -> Path | None:
    """Return a file of a repository in the cache; None if the repository, or offline the cache, does not have it."""
    from huggingface_hub import errors, hf_hub_download

    shown = f"{HF_HUB}{repository}" + (f"@{revision}" if revision else "")
    try:
        return Path(
            hf_hub_download(
                repository, file, revision=revision, local_files_only=is_offline(), endpoint=os.environ.get(ENDPOINT)
            )
        )
    except errors.LocalEntryNotFoundError as error:
        if is_offline():
            return None
        cause: Any = error.__cause__ or error
        raise DownloadError(f"{shown}: the Hub cannot be reached: {_describe(cause)}; try again") from None
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError:
        raise InputError(f"{shown}: access must be asked for on its page; then {LOGIN}") from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{shown}: no such repository, or a private one; check the name, or {LOGIN}") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{shown}: no such revision; name a branch, a tag or a commit") from None
    except Exception as error:  # the HTTP library's own
        raise DownloadError(f"{shown}: {file} cannot be downloaded: {_describe(error)}") from None


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


@dataclass(frozen=True)
class Uploaded:
    """The address of what was published; `kept_card` says that the repository's own README.md was left as it is."""

    url: str
    kept_card: bool


def require_token() -> None:
    """Raise InputError where nothing can be published: offline, or without a token."""
    if is_offline():
        raise InputError("publishing needs a network, and it is turned off (T2TBUILD_OFFLINE or HF_HUB_OFFLINE)")
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(f"publishing needs a token that may write; {LOGIN}; or see the files with --dry-run")


def upload_folder(folder: Path, repository: str, *, private: bool, replace_card: bool) -> Uploaded:
    """Publish a folder as one commit in a repository, which is created if need be.

    A README.md that the repository has is kept unless `replace_card`. Raises InputError if the Hub refuses the token,
    and UploadError for other failures.
    """
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=os.environ.get(ENDPOINT), library_name="t2tbuild", library_version=__version__)
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)  # None: the default of the organisation
        kept = not replace_card and api.file_exists(repository, CARD)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Add model",
            ignore_patterns=[CARD] if kept else None,
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError(
                f"{repository}: the Hub refuses the token (HTTP {status}): it may not write there; {LOGIN}"
            ) from None
        raise UploadError(f"{repository}: cannot be published: {_describe(error)}") from None
    except Exception as error:  # the HTTP library's own
        raise UploadError(f"{repository}: cannot be published: {_describe(error)}; try again") from None
    return Uploaded(str(commit.commit_url).partition("/commit/")[0], kept)
