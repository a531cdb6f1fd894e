"""Run the command line in a process of its own that starts at once.

The process is forked from a server that has torch and timm loaded, which takes a new one up to ten seconds. What a
command imports, and when, is tested in new processes elsewhere.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["t2tbuild.nas.run", "t2tbuild.report.search_page", "t2tbuild.training.loop"])


def _main(arguments: list[str], cwd: str, environment: dict[str, str], streams: tuple[str, str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    sys.argv = ["t2tbuild", *arguments]
    from t2tbuild.cli import main

    main()


def run_t2tbuild(
    *arguments: str, cwd: Path | None = None, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `t2tbuild ARGUMENTS` in a folder and return its exit code and output, like subprocess.run."""
    with tempfile.NamedTemporaryFile() as stdout, tempfile.NamedTemporaryFile() as stderr:
        variables = os.environ | {"COLUMNS": "100"} | environment
        given = (list(arguments), str(cwd or Path.cwd()), variables, (stdout.name, stderr.name))
        process = FORKS.Process(target=_main, args=given)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout, stdout.read(), stderr.read())
        code = process.exitcode
        assert code is not None
        return subprocess.CompletedProcess(arguments, code, stdout.read().decode(), stderr.read().decode())
