"""Consent to extensions: a spec, a run or a checkpoint is data, and code runs only if the user has allowed it."""

import hashlib
import importlib
import json
import os
import shutil
from pathlib import Path

import pytest
import timm
import typer

import t2tbuild.timm  # noqa: F401 - registers the models
from t2tbuild import build_model, load_search_spec, load_spec
from t2tbuild.errors import InputError, SpecError
from t2tbuild.nas import supervisor
from t2tbuild.spec.extension import consent
from t2tbuild.training import launch
from t2tbuild.weights.export import export_model
from t2tbuild.weights.formats import Format
from tests.own_extension import (
    SPEC,
    allow_own_file,
    allowed,
    error_of,
    forget_loaded,
    hostile_extension,
    own_state,
    run_command,
    write_extension,
)

__all__ = ["own_state"]  # the fixture of every test here

pytestmark = pytest.mark.usefixtures("own_state")


@pytest.mark.parametrize("form", ["beside", "absolute", "above", "symlink"])
def test_a_file_runs_only_with_consent(tmp_path: Path, form: str) -> None:
    marker = hostile_extension(tmp_path / "theirs")
    file = tmp_path / "theirs" / "mine.py"
    spec = tmp_path / "theirs" / "spec.yaml"
    if form == "symlink":
        (tmp_path / "theirs" / "link.py").symlink_to(file)
    names = {"beside": "mine.py", "absolute": str(file), "above": "../theirs/mine.py", "symlink": "./link.py"}
    spec.write_text(SPEC.format(name=names[form]))
    message = error_of(spec)
    assert "spec.yaml:2:14" in message and "mine.py is Python code that is not allowed yet" in message
    assert f"run t2tbuild check {file}, or pass --allow-extensions" in message
    assert not marker.exists()
    assert load_spec(spec, allow_extensions=True).extensions == (str(file),)
    assert marker.exists()


def test_consent_is_kept_for_copies(tmp_path: Path) -> None:
    spec = write_extension(tmp_path / "mine")
    load_spec(spec, allow_extensions=True)
    copied = shutil.copytree(tmp_path / "mine", tmp_path / "copy") / "spec.yaml"
    assert load_spec(spec).extensions != load_spec(copied).extensions
    marker = hostile_extension(copied.parent)
    assert "not allowed yet" in error_of(copied)  # an edited copy is another's code
    assert not marker.exists()


def test_an_option_allows_a_content_and_not_its_changes(tmp_path: Path) -> None:
    spec = write_extension(tmp_path / "mine")
    load_spec(spec, allow_extensions=True)
    assert load_spec(spec).extensions
    assert (allowed().files, list(allowed().sums.values())) == ({}, ["mine.py"])
    marker = hostile_extension(tmp_path / "mine")
    assert "not allowed yet" in error_of(spec)
    assert not marker.exists()


def test_an_own_file_that_was_checked_may_be_edited(tmp_path: Path) -> None:
    spec, file = write_extension(tmp_path), tmp_path / "mine.py"
    allow_own_file(file)
    load_spec(spec)
    text = file.read_text()
    file.write_text(text.replace('Literal["mean"] = "mean"', 'Literal["average"] = "average"'))
    spec.write_text(spec.read_text().replace("mean", "average"))
    attention = load_spec(spec).model.tokenizer.stages[0].attention  # type: ignore[union-attr]
    assert attention is not None and attention.kind == "average"
    assert len(allowed().sums) == 2  # copies of the edited file are allowed too
    file.write_text(text.replace('"""Mean of all tokens."""', '"""Mean."""'))
    spec.write_text(spec.read_text().replace("average", "mean"))
    assert load_spec(spec).extensions == (str(file),)


@pytest.mark.parametrize(
    ("file", "marks"),
    [
        ("mine.py", ["spec.yaml", "environment.json"]),
        ("mine.py", ["spec.yaml", "study.db"]),
        ("code/below/mine.py", ["spec.yaml", "metrics.jsonl"]),
        ("extensions/mine.py", ["spec.yaml"]),
        ("extensions/0123456789abcdef/mine.py", ["spec.yaml"]),
    ],
)
def test_a_file_in_a_run_is_allowed_by_its_content_only(tmp_path: Path, file: str, marks: list[str]) -> None:
    """A run that somebody sent may be replaced by another version of itself."""
    run, path = tmp_path / "run", tmp_path / "run" / file
    write_extension(path.parent)
    (path.parent / "spec.yaml").unlink()
    for mark in marks:
        (run / mark).write_text(SPEC.format(name=file))
    allow_own_file(path)
    assert load_spec(run / "spec.yaml").extensions == (str(path),)
    assert allowed().files == {}
    path.write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\n")
    assert "not allowed yet" in error_of(run / "spec.yaml")
    assert not (tmp_path / "marker").exists()


def test_a_path_that_becomes_part_of_a_run_is_allowed_no_longer(tmp_path: Path) -> None:
    spec = write_extension(tmp_path / "mine")
    allow_own_file(tmp_path / "mine" / "mine.py")
    assert list(allowed().files) == [str(tmp_path / "mine" / "mine.py")]
    (tmp_path / "mine" / "environment.json").write_text("{}")
    marker = hostile_extension(tmp_path / "mine")
    assert "not allowed yet" in error_of(spec)
    assert not marker.exists()


def test_the_variable_keeps_no_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_extension(tmp_path / "mine")
    monkeypatch.setenv(consent.ALLOW_VARIABLE, "1")
    load_spec(spec)
    monkeypatch.delenv(consent.ALLOW_VARIABLE)
    forget_loaded()
    assert not (tmp_path / "state").exists()
    assert "not allowed yet" in error_of(spec)


def test_workers_import_only_what_their_parent_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the user's variable allows all, and between the parent's reading of a file and the worker's."""
    spec = write_extension(tmp_path / "mine")
    monkeypatch.setenv(consent.ALLOW_VARIABLE, "1")
    load_spec(spec)
    started: list[dict[str, str]] = []
    monkeypatch.setattr("subprocess.Popen", lambda _command, **options: started.append(options["env"]))
    supervisor._start_worker(tmp_path / "run", "sqlite://", 0, 1, 0.0)
    monkeypatch.setattr(launch, "elastic_launch", lambda *_: lambda *_: started.append(dict(os.environ)))
    monkeypatch.setattr("logging.disable", lambda _: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert launch.launch_ranks(2, ["train"]) == 0
    sha256 = hashlib.sha256((tmp_path / "mine" / "mine.py").read_bytes()).hexdigest()
    assert [one[consent.ALLOW_VARIABLE] for one in started] == [sha256, sha256]

    monkeypatch.setenv(consent.ALLOW_VARIABLE, sha256)
    forget_loaded()
    load_spec(spec)
    marker = hostile_extension(tmp_path / "mine")
    assert "not allowed yet" in error_of(spec)
    assert not marker.exists()


def test_ranks_do_not_inherit_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("sys.argv", ["t2tbuild", "train", "t2t_vit_7", "--allow-extensions", "--gpus", "2"])
    monkeypatch.setattr(launch, "launch_ranks", lambda count, arguments: given.extend((count, *arguments)) or 0)
    spec = load_spec("t2t_vit_7", ["train.batch_size=64"])
    with pytest.raises(typer.Exit):
        importlib.import_module("t2tbuild.cli.train")._launch(2, spec)
    assert given == [2, "train", "t2t_vit_7", "--gpus", "2"]


def test_a_damaged_list_of_consents_allows_nothing(tmp_path: Path) -> None:
    spec = write_extension(tmp_path)
    path = consent.state_file()
    assert path is not None
    for text in ("", "[1]", '{"files": 3, "sha256": {}}', '{"files": {}}'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        assert "not allowed yet" in error_of(spec)
    load_spec(spec, allow_extensions=True)
    assert list(allowed().sums.values()) == ["mine.py"]


def test_a_list_that_others_may_write_allows_nothing(tmp_path: Path) -> None:
    spec, path = write_extension(tmp_path / "mine"), consent.state_file()
    assert path is not None
    load_spec(spec, allow_extensions=True)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o602)
    forget_loaded()
    assert "not allowed yet" in error_of(spec)
    with pytest.warns(UserWarning, match="extensions.json: other users may write it; run chmod go-w"):
        load_spec(spec, allow_extensions=True)


def test_a_file_that_others_may_write_is_allowed_by_its_content_only(tmp_path: Path) -> None:
    spec, file = write_extension(tmp_path / "mine"), tmp_path / "mine" / "mine.py"
    file.chmod(0o666)
    assert "other users may write it" in consent.reason_against_path(file)
    allow_own_file(file)
    assert (allowed().files, load_spec(spec).extensions) == ({}, (str(file),))


def test_consent_that_cannot_be_kept_holds_for_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("a file")
    spec = write_extension(tmp_path / "mine")
    with pytest.warns(UserWarning, match=r"spec.yaml:2:14.* holds for this process only: .*cannot be written"):
        assert load_spec(spec, allow_extensions=True).extensions
    assert load_spec(spec).extensions
    forget_loaded()
    assert "not allowed yet" in error_of(spec)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", _no_home)
    with pytest.warns(UserWarning, match="there is no home folder to keep it in"):
        assert load_spec(spec, allow_extensions=True).extensions
    forget_loaded()
    assert "not allowed yet" in error_of(spec)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_hint_quotes_the_path(tmp_path: Path) -> None:
    spec = write_extension(tmp_path / "a $(b) folder")
    file = tmp_path / "a $(b) folder" / "mine.py"
    hint = f"run t2tbuild check '{file}', or pass --allow-extensions, in Python allow_extensions=True"
    assert hint in error_of(spec)


def test_an_override_and_a_named_spec_need_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = hostile_extension(tmp_path / "theirs")
    named = tmp_path / "mine.yaml"
    named.write_text("version: 1\nmodel: theirs/spec.yaml\n")
    assert f"{tmp_path}/theirs/spec.yaml:2:14" in error_of(named)
    search = tmp_path / "search.yaml"
    space = "search:\n  base: theirs/spec.yaml\n  space: {backbone.depth: {choices: [1, 2]}}\n  budget: {macs: 1G}\n"
    search.write_text("version: 1\n" + space)
    with pytest.raises(SpecError, match="not allowed yet"):
        load_search_spec(search)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="not allowed yet"):
        load_spec("t2t_vit_7", ["extensions=[theirs/mine.py]"])
    assert not marker.exists()
    assert load_spec(named, allow_extensions=True).extensions == (str(tmp_path / "theirs" / "mine.py"),)
    assert load_search_spec(search).extensions == (str(tmp_path / "theirs" / "mine.py"),)


@pytest.mark.slow
def test_a_checkpoint_is_data(tmp_path: Path) -> None:
    """A config.json that names a file and one of its kinds imports nothing, whoever reads it."""
    marker = hostile_extension(tmp_path / "theirs")
    model = load_spec("t2t_vit_7", ["model.image_size=32", "model.backbone.depth=1", "model.num_classes=10"]).model
    folder = tmp_path / "theirs" / "exported"
    export_model(model, build_model(model), folder, Format.TIMM)
    config = json.loads((folder / "config.json").read_text())
    spec = config["model_args"]["spec"]
    spec["tokenizer"]["stages"][0]["attention"] = {"kind": "mean"}
    for names in ({}, {"extensions": [str(tmp_path / "theirs" / "mine.py")]}):
        config["model_args"]["spec"] = spec | names
        (folder / "config.json").write_text(json.dumps(config | names))
        hint = "it uses extensions .*mine.py.*: load a spec that names them first" if names else ""
        with pytest.raises(InputError, match=f"spec: .*{hint}"):
            timm.create_model(f"local-dir:{folder}", pretrained=True)
    done = run_command("evaluate", "t2t_vit_7", "model.backbone.depth=1", "train.data.kind=digits",
                       "train.data.image_size=32", "--weights", folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
