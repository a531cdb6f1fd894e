"""The tour of the README, from a YAML to a trained winner, with shorter trainings."""

import json
import re
import shlex
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna_dashboard import wsgi

from t2tbuild import load_spec
from tests.command import run_t2tbuild
from tests.documents import README, read_page

pytestmark = pytest.mark.slow

SHORTER = {
    "search": [
        *("search.proxy.rungs=[2, 4]", "search.proxy.seeds=2", "search.trials=2", "search.zero_cost.pool=1"),
        *("--workers", "1"),
    ],
    "train": ["train.epochs=1", "train.data.image_size=32"],
}


def tour() -> list[list[str]]:
    section = read_page(README).partition("## Five minutes from a YAML to a trained winner")[2]
    block = re.search(r"^```sh\n(.*?)^```", section, re.S | re.M)
    assert block
    return [shlex.split(line, comments=True)[1:] for line in block[1].splitlines()]


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands of the tour ran."""
    folder = tmp_path_factory.mktemp("tour")
    for words in tour():
        shortened = [word for word in words if word not in ("--trials", "8")]
        done = run_t2tbuild(*shortened, *SHORTER.get(words[0], []), cwd=folder)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return folder


def test_the_tour_leads_to_a_trained_winner(toured: Path) -> None:
    assert load_spec(toured / "runs" / "winner" / "spec.yaml").model.image == (32, 32)
    assert (toured / "mine.svg").stat().st_size > 1000
    assert (toured / "runs" / "mine" / "report.html").is_file()
    assert (toured / "runs" / "winner" / "report.html").is_file()
    assert list((toured / "pictures").glob("*.png"))


def test_optuna_dashboard_opens_the_study(toured: Path) -> None:
    """Request the study and its trials, as the page of the dashboard does."""
    app: Any = wsgi(f"sqlite:///{toured / 'runs' / 'mine' / 'study.db'}")

    def answer(path: str) -> Any:
        environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": "after=0"}
        setup_testing_defaults(environ)
        statuses: list[str] = []
        body = b"".join(app(environ, lambda status, _headers, _error=None: statuses.append(status)))
        assert statuses == ["200 OK"]
        return json.loads(body)

    (study,) = [one for one in answer("/api/studies")["study_summaries"] if one["study_name"] == "lite"]
    assert len(answer(f"/api/studies/{study['study_id']}")["trials"]) == 2
