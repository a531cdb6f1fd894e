"""The members that a supernet proposes as candidates, as the store keeps them for every worker."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from t2tbuild.nas.members import Member, Members
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.store.meta import SUPERNET
from t2tbuild.nas.store.store import Store

MAX_BYTES = 30_000
"""Proposals beyond this size are not kept: MySQL stores at most 65,535 bytes in a field."""


def to_plain(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Return members as plain data, for `from_plain`."""
    found: list[dict[str, Any]] = []
    size = 0
    for member in members:
        one = {"key": member.key, "params": dict(member.params)}
        size += len(json.dumps(one))
        if size > MAX_BYTES:
            break
        found.append(one)
    return found


def from_plain(proposals: Iterable[Mapping[str, Any]], members: Members) -> tuple[Member, ...]:
    """Return the members that `to_plain` wrote as plain data."""
    found = []
    for one in proposals:
        assignment = members.to_assignment(one["params"])
        found += [member for member in members.solve(assignment) if member.key == one["key"]]
    return tuple(found)


def read_proposals(store: Store, planned: Plan) -> tuple[Member, ...]:
    """Return the candidates of a supernet that decides, none where there is no such supernet."""
    stored = store.get_meta(SUPERNET) or {}
    return from_plain(stored.get("proposals", ()), planned.members)
