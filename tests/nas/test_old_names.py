"""Studies and reports of earlier versions are read under their old names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from t2tbuild import load_spec
from t2tbuild.nas.old_names import REPORT_KEYS, with_new_names, with_old_names
from t2tbuild.nas.plan import plan
from t2tbuild.nas.record import Record, Rung, Source, State
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.store.open import SPEC, open_store
from t2tbuild.spec import SearchSpec

Tiny = Callable[..., SearchSpec]
RECORD = Record(
    "1",
    State.COMPLETED,
    load_spec("t2t_vit_14").model,
    source=Source.RANDOM,
    rungs=(Rung(40, 0.5, 1.0, 2.0),),
    passed_over=3,
)


@pytest.mark.parametrize(
    ("old", "new"),
    [("climbing", State.RUNNING), ("top", State.COMPLETED), ("stopped", State.PRUNED), ("failed", State.FAILED)],
)
def test_old_states(old: str, new: State) -> None:
    assert State(old) is new
    with pytest.raises(ValueError, match="lost"):
        State("lost")


def test_a_record_of_an_earlier_version() -> None:
    data = RECORD.to_json()
    assert (data["state"], data["source"]) == ("completed", "random")
    old = {{"source": "arm", "passed_over": "passed"}.get(key, key): value for key, value in data.items()}
    assert Record.from_json(old | {"state": "top"}) == RECORD
    with pytest.warns(DeprecationWarning, match="arm was renamed to source"):
        assert RECORD.arm == "random"
    with pytest.warns(DeprecationWarning, match="passed was renamed to passed_over"):
        assert RECORD.passed == 3


def test_report_keys_are_written_under_both_names_and_read_under_either() -> None:
    both = with_old_names({"proxy_metric": "loss", "name": "tiny"}, REPORT_KEYS)
    assert both == {"proxy_metric": "loss", "judged_by": "loss", "name": "tiny"}
    assert with_new_names({"judged_by": "loss"}, REPORT_KEYS) == {"proxy_metric": "loss"}


def test_a_study_of_an_earlier_version_is_joined(tmp_path: Path, tiny: Tiny) -> None:
    spec = tiny()
    planned = plan(spec)
    url = f"sqlite:///{tmp_path}/s.db"
    with open_store(url, spec, planned, CandidateSampler(spec.search, planned)) as store:
        text = store.get_meta(SPEC)
        assert "reduction_factor: 2" in text
        store.set_meta(SPEC, text.replace("reduction_factor: 2", "keep: 2"))
    with open_store(url, spec, planned, CandidateSampler(spec.search, planned)) as store:
        assert store.records() == ()
