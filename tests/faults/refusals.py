"""A PostgreSQL server that refuses connections: in recovery, without connections left, or by its pg_hba.conf."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from tests.nas.postgresql import Server

USER = "plain"
"""A user without the privileges of tester, whom no limit of connections stops."""


def make_database(server: Server, name: str) -> str:
    """Make a database of the plain user, and return its URL."""
    url = server.database(name)
    if not ask(server, f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'"):
        ask(server, f"CREATE ROLE {USER} LOGIN")
    ask(server, f"ALTER DATABASE {name} OWNER TO {USER}")
    return url.replace("//tester:", f"//{USER}:")


def ask(server: Server, statement: str) -> list[tuple[object, ...]]:
    """Run a statement as the administrator, through the server's socket."""
    address = {"host": str(server.folder), "port": server.port, "user": "tester", "dbname": "postgres"}
    with psycopg.connect(**address, autocommit=True) as connection:  # type: ignore[arg-type]
        done = connection.execute(statement)
        return list(done.fetchall()) if done.description else []


def _end_connections(server: Server, name: str) -> None:
    ask(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


@dataclass(frozen=True)
class Refusal:
    """A way to refuse every connection to a database, and what the server says then."""

    text: str
    begin: Callable[[Server, str], None]
    end: Callable[[Server, str], None]

    def require(self, url: str) -> None:
        """Check that the server refuses connections as it should."""
        with pytest.raises(psycopg.OperationalError, match=self.text):
            psycopg.connect(url).close()


def _enter_recovery(server: Server, _name: str) -> None:
    """Restart the server as a standby, which waits for a primary that is not there, and answers no query: 57P03."""
    server.stop("fast")
    (server.folder / "data" / "standby.signal").touch()
    server.start("-c", "hot_standby=off")


def _leave_recovery(server: Server, _name: str) -> None:
    server.control("promote")


def _allow_no_connection(server: Server, name: str) -> None:
    """Allow no connection to the database, as where all are taken: 53300."""
    ask(server, f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    _end_connections(server, name)


def _allow_connections(server: Server, name: str) -> None:
    ask(server, f"ALTER DATABASE {name} CONNECTION LIMIT -1")


ACCESS = "local all all trust\nhost all all 127.0.0.1/32 {}\n"


def _set_access(server: Server, method: str) -> None:
    (server.folder / "data" / "pg_hba.conf").write_text(ACCESS.format(method))
    before = ask(server, "SELECT pg_conf_load_time()")
    server.control("reload")
    until = time.monotonic() + 20
    while ask(server, "SELECT pg_conf_load_time()") == before:
        assert time.monotonic() < until
        time.sleep(0.05)


def _reject(server: Server, name: str) -> None:
    """Reject every connection over the network: 28000."""
    _set_access(server, "reject")
    _end_connections(server, name)


def _trust(server: Server, _name: str) -> None:
    _set_access(server, "trust")


REFUSALS = {
    "recovery": Refusal("not accepting connections", _enter_recovery, _leave_recovery),
    "connections": Refusal("too many connections", _allow_no_connection, _allow_connections),
    "rejected": Refusal("pg_hba.conf rejects connection", _reject, _trust),
}
