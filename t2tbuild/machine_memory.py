"""The memory of this machine, or this process's limit where that is lower."""

import os
import resource
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int:
    """Return the bytes of the machine's memory, or this process's limit (ulimit, cgroup) if it is lower."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits += [allowed] * (allowed != resource.RLIM_INFINITY)
    text = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else ""
    limits += [int(text)] if text.isdigit() else []  # "max" means no limit
    return min(limits)
