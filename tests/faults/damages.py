"""Damages to a file of a search: of its database, its spec or its results."""

from pathlib import Path

from tests.database_file import open_database_file


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00garbage\xff" * 1000)


def flip_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    data[100] ^= 0xFF
    path.write_bytes(data)


def delete(path: Path) -> None:
    path.unlink(missing_ok=True)


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def break_record(path: Path) -> None:
    """A bit of a record's text, which SQLite does not notice."""
    edit_record(path, '"rungs"', '"runfs"')


def break_json(path: Path) -> None:
    edit_record(path, '"rungs":', '"rungs"')


def forge_key(path: Path) -> None:
    """The record of a stranger, whose key would name a folder outside."""
    edit_record(path, '"key": "', '"key": "../../../victim/')


def edit_record(path: Path, old: str, new: str) -> None:
    """Replace a text in every record of a database."""
    with open_database_file(path) as opened:
        change = "update trial_user_attributes set value_json = replace(value_json, ?, ?) where key = 'record'"
        opened.execute(change, (old, new))
