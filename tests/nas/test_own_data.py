"""Searches on the user's own images."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from t2tbuild import load_search_spec, load_spec
from t2tbuild.errors import FieldError
from t2tbuild.nas.forecast import Forecast, forecast_search
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy_evaluator import images_folder
from t2tbuild.nas.run import search
from t2tbuild.spec import SearchSpec
from t2tbuild.spec.data import FolderData
from t2tbuild.training.data.image_cache import CacheProgress
from t2tbuild.training.reports import Notice
from t2tbuild.training.run_directory import resume_identity
from tests.command import run_t2tbuild
from tests.nas.conftest import FakeTrainer
from tests.training.photos import write_photos

Tiny = Callable[..., SearchSpec]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", train=24, validation=12, classes=3)


def own(photos: Path, *overrides: str) -> list[str]:
    return [f"search.proxy.data={{kind: folder, root: {photos}, image_size: 16}}", "search.trials=2", *overrides]


def results(run: Path) -> list[tuple[str, ...]]:
    """Return what candidates.csv has of each training: its number, model and results, to the last digit."""
    with (run / "candidates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [tuple(value for name, value in row.items() if name != "train_seconds") for row in rows]


def test_the_base_has_the_classes_of_the_data(photos: Path, tiny: Tiny) -> None:
    planned = plan(tiny(*own(photos)))
    assert planned.target == "data"
    assert planned.base.num_classes == 3
    assert planned.space.base.num_classes == 3
    assert plan(tiny()).base.num_classes == 1000


def test_missing_data_are_an_error_of_the_search(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(FieldError) as error:
        plan(tiny(*own(tmp_path / "nowhere")))
    assert error.value.path == ("search", "proxy", "data", "root")
    assert str(tmp_path / "nowhere") in error.value.message
    assert plan(tiny(*own(tmp_path / "nowhere")), to_read=True).base.num_classes == 1000


def test_images_of_files_have_a_small_default_size(photos: Path, tiny: Tiny) -> None:
    data = f"search.proxy.data={{kind: folder, root: {photos}}}"
    assert plan(tiny(data)).search.proxy.data.image_size == 64
    assert plan(tiny("search.proxy=quick", data)).search.proxy.data.image_size == 48
    assert plan(tiny("search.proxy=thorough", data)).search.proxy.data.image_size == 96


def test_a_preset_keeps_what_the_spec_gives_itself(photos: Path) -> None:
    quick = load_search_spec("deep_narrow", ["search.proxy=quick"]).search.proxy
    assert (quick.images, quick.rungs) == (5000, (40, 100, 200))
    ours = load_search_spec("deep_narrow", ["search.proxy={preset: quick, rungs: [5]}", *own(photos)]).search.proxy
    assert (ours.images, ours.rungs) == (5000, (5,))
    assert isinstance(ours.data, FolderData)


def test_the_folder_of_the_cache_is_no_part_of_a_search(
    photos: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (tiny(*own(photos, f"search.proxy.cache={tmp_path / name}")) for name in ("here", "there"))
    assert resume_identity(here) == resume_identity(there)
    plain = tiny(*own(photos)).search.proxy
    assert images_folder(plain, Path("run")) == Path("run/cache")
    monkeypatch.setenv("T2TBUILD_CACHE", "/shared")
    assert images_folder(plain, Path("run")) == Path("/shared/images")  # beside released/
    assert images_folder(here.search.proxy, Path("run")) == tmp_path / "here"


def test_a_forecast_counts_what_is_pruned(tiny: Tiny) -> None:
    pruned, all_trained = (
        forecast_search(tiny(f"search.proxy.scheduler={name}").search, 1.0, validation_images=0, workers=1)
        for name in ("asha", "never")
    )
    # the base with two seeds, two confirmations, and four candidates, of two steps; half of them end after one
    assert (pruned, all_trained) == (2 * 2 + 2 * 2 + 4 * 1.5, 2 * 2 + 2 * 2 + 4 * 2)


def test_a_forecast_names_a_timeout_that_is_shorter_than_the_training_of_the_base() -> None:
    def text(timeout: float | None) -> str:
        return str(Forecast(0.5, 128.0, 600.0, 42.0, (20.0, 60.0, 120.0), timeout))

    assert "about 10m for all trainings, the base's included, after 42s of preparation" in text(None)
    assert "timeout" not in text(642.0)
    assert text(300.0).endswith("; the timeout ends it after 5m; for all of it: --timeout 13m")
    short = "the timeout ends it after 100s, but not before the base is trained once (about 2m), and no candidate is"
    assert f"; {short}; for all of it: --timeout 13m" in text(100.0)


def test_a_search_without_a_test_split_claims_no_test_result(
    photos: Path, tmp_path: Path, tiny: Tiny, fake_trainer: type[FakeTrainer]
) -> None:
    result = search(tiny(*own(photos)), tmp_path / "run")
    assert result.test is None
    assert result.best.train is not None
    assert isinstance(result.best.train.data, FolderData)
    assert result.best.train.data.root == str(photos)
    assert result.best.train.data.image_size is None
    assert load_spec(tmp_path / "run" / "best.yaml") == result.best
    assert fake_trainer is not None


@pytest.mark.slow
def test_a_cache_made_before_changes_nothing(photos: Path, tmp_path: Path, tiny: Tiny) -> None:
    """A search from the command line makes its cache, and one from Python finds it."""
    tiny()
    shared = str(tmp_path / "shared")
    short = ["search.confirm=null", "search.proxy.seeds=1", "search.proxy.rungs=[1]", "search.zero_cost.names=[]"]
    arguments = ["tiny.yaml", *short, "search.proxy.data.image_size=16", "--data", "photos", "--trials", "2"]
    done = run_t2tbuild("search", *arguments, "--workers=1", "--out=first", cwd=tmp_path, T2TBUILD_CACHE=shared)
    assert done.returncode == 0, done.stderr
    assert "decoding train images into the cache: 24 of 24" in done.stderr
    assert "forecast: " in done.stderr
    assert done.stdout.splitlines()[-1] == "next: t2tbuild summarize first/best.yaml && t2tbuild train first/best.yaml"
    seen: list[CacheProgress | Notice] = []
    search(
        tiny(*short, *own(photos, f"search.proxy.cache={shared}/images")), tmp_path / "second", on_progress=seen.append
    )
    assert [type(one) for one in seen] == [Notice]  # the forecast
    assert results(tmp_path / "first") == results(tmp_path / "second")
