"""Extensions: files of the user's own that specs name. They run only with consent; their nodes work as shipped ones."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import jsonschema
import pytest
import timm
import torch

import t2tbuild.timm
from t2tbuild import build_model, extension, load_search_spec, load_spec, measure_cost, predict_accuracy, predict_cost
from t2tbuild.cost.model import EVERY_LEVEL
from t2tbuild.errors import CostError, FieldError, InputError, SpecError
from t2tbuild.nas.existing_run import load_run_spec
from t2tbuild.nas.plan import plan
from t2tbuild.report.diagram import write_diagram
from t2tbuild.spec import ModelSpec, Spec, write_spec
from t2tbuild.spec.extension import consent
from t2tbuild.spec.extension import load as loading
from t2tbuild.spec.extension.registry import REGISTERED, Origin
from t2tbuild.spec.schema import json_schema
from t2tbuild.training.run_directory import require_same_spec, with_copied_extensions
from tests.command import run_t2tbuild

MEAN = '''
from typing import Literal

from torch import nn

from t2tbuild import extension

{first}


class MeanAttention(extension.Node):
    """Every token reads the mean of all tokens."""

    kind: Literal["mean"] = "mean"
    """Mean of all tokens."""
    depth: int = 1
    """Number of projections."""


class TokenMean(nn.Module):
    def __init__(self, in_dim, dim, depth):
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.value = nn.Linear(in_dim, dim)
        self.proj = nn.Sequential(*(nn.Linear(dim, dim) for _ in range(depth)))

    def forward(self, x_BCHW, soft_split):
        v_BNC = soft_split.project(x_BCHW, self.value, self.norm1)
        return v_BNC + self.proj(v_BNC.mean(dim=1, keepdim=True))


def build(node, in_dim, dim):
    return TokenMean(in_dim, dim, node.depth)


def forward(f, tokens, node, dim):
    v = f.project("value", tokens, dim, norm="norm1")
    mean = f.apply("mean", [v], (1, dim))
    for index in range(node.depth):
        mean = f.linear(f"proj.{{index}}", mean, dim)
    return f.add(v, mean)


EXTENSIONS = [extension.TokenAttention(node=MeanAttention, build=build{forward})]
'''

SPEC = """\
version: 1
extensions: [{name}]
model:
  name: tiny
  image_size: 32
  num_classes: 10
  tokenizer:
    stages:
      - {{patch_size: 7, overlap: 3, token_dim: 16, attention: {{kind: mean, depth: 2}}}}
      - {{patch_size: 3, overlap: 1, token_dim: 16, attention: mean}}
      - {{patch_size: 3, overlap: 1}}
  backbone: {{depth: 1, embed_dim: 32, num_heads: 2}}
"""

PLAIN = "version: 1\nextensions: [{name}]\nmodel: t2t_vit_7\n"


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user who has allowed nothing yet, and a process that has loaded nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(consent.ALLOW_VARIABLE, raising=False)
    before = set(REGISTERED)
    yield
    for node in set(REGISTERED) - before:
        extension.unregister(REGISTERED[node])
    loading._loaded.clear()
    loading._by_path.clear()


def _write(folder: Path, name: str = "mine.py", first: str = "", forward: bool = True) -> Path:
    """Write an extension and a spec that names it; return the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(MEAN.format(first=first, forward=", forward=forward" if forward else ""))
    (folder / "spec.yaml").write_text(SPEC.format(name=name))
    return folder / "spec.yaml"


def _hostile(folder: Path, name: str = "mine.py") -> Path:
    """Write an extension that creates the file `marker` in its folder when it is imported; return the marker's path."""
    _write(folder, name, first=f"open({str(folder / 'marker')!r}, 'w').close()")
    return folder / "marker"


def _error(spec: Path, **options: bool) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(spec, **options)
    return str(caught.value)


def _command(*arguments: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return run_t2tbuild(*map(str, arguments), OMP_NUM_THREADS="1", **variables)


# Consent


@pytest.mark.parametrize("form", ["beside", "absolute", "above", "symlink"])
def test_a_file_runs_only_with_consent(tmp_path: Path, form: str) -> None:
    marker = _hostile(tmp_path / "theirs")
    file = tmp_path / "theirs" / "mine.py"
    spec = tmp_path / "theirs" / "spec.yaml"
    if form == "symlink":
        (tmp_path / "theirs" / "link.py").symlink_to(file)
    names = {"beside": "mine.py", "absolute": str(file), "above": "../theirs/mine.py", "symlink": "./link.py"}
    spec.write_text(SPEC.format(name=names[form]))
    message = _error(spec)
    assert "spec.yaml:2:14" in message and "mine.py is Python code that is not allowed yet" in message
    assert f"run t2tbuild check {file}, or pass --allow-extensions" in message
    assert not marker.exists()
    assert load_spec(spec, allow_extensions=True).extensions == (str(file),)
    assert marker.exists()


def test_consent_is_remembered_for_the_file_and_its_copies(tmp_path: Path) -> None:
    spec = _write(tmp_path / "mine")
    load_spec(spec, allow_extensions=True)
    copied = shutil.copytree(tmp_path / "mine", tmp_path / "copy") / "spec.yaml"
    assert load_spec(spec).extensions != load_spec(copied).extensions
    marker = _hostile(copied.parent)
    assert "not allowed yet" in _error(copied)  # an edited copy is another's code
    assert not marker.exists()


def test_an_own_file_may_be_edited(tmp_path: Path) -> None:
    spec = _write(tmp_path)
    load_spec(spec, allow_extensions=True)
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace('Literal["mean"] = "mean"', 'Literal["average"] = "average"'))
    spec.write_text(spec.read_text().replace("mean", "average"))
    attention = load_spec(spec).model.tokenizer.stages[0].attention  # type: ignore[union-attr]
    assert attention is not None and attention.kind == "average"
    (tmp_path / "mine.py").write_text(text.replace('"""Mean of all tokens."""', '"""Mean."""'))
    spec.write_text(spec.read_text().replace("average", "mean"))
    assert load_spec(spec).extensions == (str(tmp_path / "mine.py"),)


def test_a_damaged_list_of_consents_allows_nothing(tmp_path: Path) -> None:
    spec = _write(tmp_path)
    for text in ("", "[1]", '{"files": 3, "sha256": {}}', '{"files": {}}'):
        consent.state_file().parent.mkdir(parents=True, exist_ok=True)
        consent.state_file().write_text(text)
        assert "not allowed yet" in _error(spec)
    load_spec(spec, allow_extensions=True)
    assert str(tmp_path / "mine.py") in json.loads(consent.state_file().read_text())["files"]


def test_a_state_folder_that_cannot_be_written_holds_for_one_call(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    spec = _write(tmp_path / "mine")
    assert load_spec(spec, allow_extensions=True).extensions
    assert "not allowed yet" in _error(spec)


def test_an_override_and_a_named_spec_need_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = _hostile(tmp_path / "theirs")
    named = tmp_path / "mine.yaml"
    named.write_text("version: 1\nmodel: theirs/spec.yaml\n")
    assert f"{tmp_path}/theirs/spec.yaml:2:14" in _error(named)
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


def test_a_checkpoint_is_data(tmp_path: Path) -> None:
    marker = _hostile(tmp_path)
    spec = load_spec("t2t_vit_7").model.model_dump(mode="json")
    spec["tokenizer"]["stages"][0]["attention"] = {"kind": "mean"}
    for more in ({}, {"extensions": [str(tmp_path / "mine.py")]}):
        with pytest.raises(InputError, match="spec: "):
            timm.create_model(t2tbuild.timm.ANY, spec=spec | more)
    assert not marker.exists()


# Names


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("https://example.com/mine.py", "extension-url", "is a URL; an extension is a file on this machine"),
        ("file:///tmp/mine.py", "extension-url", "is a URL"),
        ("folder/", "extension-file", "is a folder (name the .py file in it)"),
        ("minne.py", "extension-file", "no file 'minne.py' (did you mean mine.py?)"),
        ("./mine.txt", "extension-file", "is not a .py file"),
        ("/dev/null", "extension-file", "no file '/dev/null'"),
        ("mine", "extension-package", "no installed package brings extensions named 'mine' (did you mean mine.py?)"),
        ("other", "extension-package", "no installed package brings extensions named 'other'"),
        ("'a\\0.py'", "extension-file", ""),
    ],
)
def test_what_a_name_may_be(tmp_path: Path, name: str, rule: str, words: str) -> None:
    _write(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine.txt").write_text("")
    spec = tmp_path / "other.yaml"
    spec.write_text(PLAIN.format(name=name))
    with pytest.raises(SpecError) as caught:
        load_spec(spec, allow_extensions=True)
    (found,) = caught.value.diagnostics
    assert (found.rule, found.line, found.column, found.path) == (rule, 2, 14, "extensions.0")
    assert words in str(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ndef (:\n", "mine.py, line 2: SyntaxError: "),
        ("x = 1\n\ny = undefined\n", "mine.py, line 3: NameError: name 'undefined' is not defined"),
        ("import no_such_package\n", "mine.py, line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("import sys\nsys.exit(0)\n", "mine.py, line 2: SystemExit: 0"),
        ("raise ValueError\n", "mine.py, line 1: ValueError"),
        ("x = 1\n", "mine.py has no EXTENSIONS"),
        ("EXTENSIONS = [1]\n", "EXTENSIONS must be a list of extensions"),
        ("EXTENSIONS = []\n", "EXTENSIONS must be a list of extensions"),
        ("\x00", "mine.py: "),
    ],
)
def test_a_file_that_brings_nothing(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    (tmp_path / "spec.yaml").write_text(PLAIN.format(name="mine.py"))
    before = set(sys.modules)
    message = _error(tmp_path / "spec.yaml", allow_extensions=True)
    assert "spec.yaml:2:14" in message and words in message
    assert not [name for name in set(sys.modules) - before if name.startswith("t2tbuild_extension")]


NODE = "from typing import Literal\nfrom t2tbuild import extension\nclass A({base}):\n    kind: {kind}\n"
LIST = "EXTENSIONS = [extension.{what}(node=A, build=print)]\n"


@pytest.mark.parametrize(
    ("base", "kind", "what", "words"),
    [
        ("extension.Node", 'Literal["performer"]', "TokenAttention", "kind 'performer' of a token attention ships"),
        ("extension.TokenizerNode", 'Literal["t2t"]', "Tokenizer", "kind 't2t' of a tokenizer ships with t2tbuild"),
        ("extension.Node", "str", "TokenAttention", "A has no field kind"),
        ("extension.Node", 'Literal["a"]', "Tokenizer", "A is not a node of a tokenizer (derive it from extension.Tok"),
        ("object", 'Literal["a"]', "TokenAttention", "A is not a node of a token attention"),
        ("extension.Node", 'Literal["a"]\n    x: object.__init__', "TokenAttention", "A: "),
    ],
)
def test_nodes_that_are_refused(tmp_path: Path, base: str, kind: str, what: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(NODE.format(base=base, kind=kind) + LIST.format(what=what))
    (tmp_path / "spec.yaml").write_text(PLAIN.format(name="mine.py"))
    assert words in _error(tmp_path / "spec.yaml", allow_extensions=True)
    assert load_spec("t2t_vit_7").model.tokenizer.kind == "t2t"  # the language is unchanged


def test_a_kind_that_two_files_bring(tmp_path: Path) -> None:
    load_spec(_write(tmp_path / "one"), allow_extensions=True)
    message = _error(_write(tmp_path / "two", first="# other"), allow_extensions=True)
    assert f"kind 'mean' of a token attention is in {tmp_path}/one/mine.py and in {tmp_path}/two/mine.py" in message
    load_spec(tmp_path / "one" / "spec.yaml")


def test_a_file_that_brings_a_kind_twice(tmp_path: Path) -> None:
    text = NODE.format(base="extension.Node", kind='Literal["a"]')
    both = "EXTENSIONS = [extension.TokenAttention(node=one, build=print) for one in (A, B)]\n"
    (tmp_path / "mine.py").write_text(text + "class B(extension.Node):\n    kind: Literal['a']\n" + both)
    (tmp_path / "spec.yaml").write_text(PLAIN.format(name="mine.py"))
    assert "brings kind 'a' 2 times (rename one)" in _error(tmp_path / "spec.yaml", allow_extensions=True)


def test_an_installed_package_needs_its_name_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "t2tbuild_test_package.py"
    package.write_text(MEAN.format(first="", forward=""))
    monkeypatch.syspath_prepend(str(tmp_path))
    points = EntryPoints([EntryPoint("mean", "t2tbuild_test_package:EXTENSIONS", loading.GROUP)])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == loading.GROUP else ())
    (tmp_path / "spec.yaml").write_text(SPEC.format(name="mean"))
    assert load_spec(tmp_path / "spec.yaml").extensions == ("mean",)
    (tmp_path / "spec.yaml").write_text(SPEC.format(name="meen"))
    assert "named 'meen' (did you mean mean?)" in _error(tmp_path / "spec.yaml")


# The language


def test_errors_have_lines_and_hints_as_for_shipped_kinds(tmp_path: Path) -> None:
    spec = _write(tmp_path)
    spec.write_text(
        spec.read_text().replace("kind: mean, depth: 2", "kind: maen, deth: 2").replace(": mean}", ": meen}")
    )
    message = _error(spec, allow_extensions=True)
    assert "spec.yaml:9:70: error: model.tokenizer.stages.0.attention.kind must be one of 'mean'" in message
    assert "got 'maen' (did you mean 'mean'?)" in message
    assert "unknown key 'deth' in model.tokenizer.stages.0.attention (did you mean 'depth'?)" in message
    assert "spec.yaml:10:63" in message and "got 'meen' (did you mean 'mean'?)" in message
    spec.write_text(SPEC.format(name="mine.py").replace("depth: 2", "depth: two"))
    assert "model.tokenizer.stages.0.attention.depth must be a whole number, got 'two'" in _error(spec)


def test_a_node_of_an_extension_works_like_a_shipped_one(tmp_path: Path) -> None:
    spec = load_spec(_write(tmp_path), allow_extensions=True)
    model = spec.model
    assert isinstance(model, ModelSpec)
    counted = measure_cost(build_model(model), depth=EVERY_LEVEL)
    assert predict_cost(model, EVERY_LEVEL) == counted
    assert [part.name for part in predict_cost(model).parts][1] == "token mean 1"
    assert build_model(model)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    write_spec(spec, tmp_path / "again.yaml")
    assert load_spec(tmp_path / "again.yaml") == spec
    write_diagram(model, tmp_path / "model.svg")
    assert "token mean 2" in (tmp_path / "model.svg").read_text()
    accuracy = predict_accuracy(model.model_copy(update={"image_size": 224}))
    assert accuracy.top1 is None
    assert accuracy.reason == "no published model has the token attention mean of an extension"


def test_the_schema_has_the_fields_of_a_loaded_extension(tmp_path: Path) -> None:
    assert "MeanAttention" not in json_schema("spec")["$defs"]
    load_spec(_write(tmp_path), allow_extensions=True)
    schema = json_schema("spec")
    assert schema["$defs"]["MeanAttention"]["properties"]["depth"]["description"] == "Number of projections."
    import yaml

    good = yaml.safe_load(SPEC.format(name="mine.py"))
    jsonschema.validate(good, schema)
    good["model"]["tokenizer"]["stages"][0]["attention"]["depth"] = "two"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good, schema)


def test_the_schema_command_takes_extensions(tmp_path: Path) -> None:
    _write(tmp_path)
    refused = _command("schema", "--extension", tmp_path / "mine.py")
    assert refused.returncode == 2 and "not allowed yet" in refused.stderr
    printed = _command("schema", "--extension", tmp_path / "mine.py", "--allow-extensions")
    assert "MeanAttention" in json.loads(printed.stdout)["$defs"]


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (
            ["summarize"],
            0,
            "counted by fvcore; token attention mean has no symbolic forward, so its budgets are checked",
        ),
        (["summarize", "--fast"], 2, "--fast: token attention mean has no symbolic forward"),
        (["show"], 0, "token attention mean: no symbolic forward"),
        (["compare"], 0, "tiny"),
        (["diagram"], 1, "error: mean has no symbolic forward"),
        (["fit", "--budget-macs", "10M"], 1, "error: mean has no symbolic forward"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_commands_without_a_symbolic_forward(tmp_path: Path, command: list[str], code: int, words: str) -> None:
    spec = _write(tmp_path, forward=False)
    name, *options = command
    done = _command(name, spec, *options, "--allow-extensions")
    assert done.returncode == code and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_symbolic_forward_fvcore_counts(tmp_path: Path) -> None:
    spec = load_spec(_write(tmp_path, forward=False), allow_extensions=True)
    assert isinstance(spec.model, ModelSpec)
    with pytest.raises(CostError, match="mean has no symbolic forward"):
        predict_cost(spec.model)
    assert measure_cost(build_model(spec.model)).params > 0
    write_diagram(spec.model, tmp_path / "model.svg")
    assert not (tmp_path / "model.svg").exists()


SEARCH = """\
version: 1
search:
  base: spec.yaml
  budget: {macs: 10M}
  space:
    tokenizer.stages.0.attention.depth: {choices: [1, 2, 3]}
    backbone.depth: DEPTH
  proxy: {data: {kind: digits}, rungs: [1], batch_size: 8, seeds: 1}
  trials: 2
  confirm: null
"""


def test_search_over_the_fields_of_an_extension(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "search.yaml").write_text(SEARCH.replace("DEPTH", "{fill: [0.5, 1.0]}"))
    planned = plan(load_search_spec(tmp_path / "search.yaml", allow_extensions=True))
    assert "tokenizer.stages.0.attention.depth" in planned.space.dimensions
    assert {member.model.tokenizer.stages[0].attention.depth for member in planned.members} == {1, 2, 3}  # type: ignore[union-attr]
    assert planned.predicted == [] and planned.target == "data"


def test_a_search_without_symbolic_forward_checks_its_budget_after_building(tmp_path: Path) -> None:
    _write(tmp_path, forward=False)
    path = tmp_path / "search.yaml"
    path.write_text(SEARCH.replace("DEPTH", "{choices: [1, 2]}"))
    planned = plan(load_search_spec(path, allow_extensions=True))
    (warning,) = [one for one in planned.warnings if one.rule == "not-predicted"]
    assert "token attention mean has no symbolic forward" in warning.message
    assert "budgets are checked only after each model is built, by fvcore" in warning.message
    path.write_text(SEARCH.replace("DEPTH", "{fill: [0.5, 1.0]}"))
    with pytest.raises(FieldError, match="so no field is solved from the budget"):
        plan(load_search_spec(path))
    path.write_text(SEARCH.replace("DEPTH", "{choices: [1, 2]}").replace("macs: 10M", "activations: 1G"))
    with pytest.raises(FieldError, match="leave activations out"):
        plan(load_search_spec(path))


# Runs


def test_a_run_has_copies_that_its_user_may_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(_write(tmp_path / "mine"), allow_extensions=True)
    run = tmp_path / "run"
    run.mkdir()
    stored = with_copied_extensions(spec, run)
    assert stored.extensions == ("extensions/mine.py",)
    write_spec(stored, run / "spec.yaml")
    shutil.rmtree(tmp_path / "mine")
    again = load_spec(run / "spec.yaml")
    assert again.extensions == (str(run / "extensions" / "mine.py"),)
    require_same_spec(run, again, spec)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    assert "mine.py is Python code that is not allowed yet" in _error(run / "spec.yaml")
    load_spec(run / "spec.yaml", allow_extensions=True)
    load_spec(run / "spec.yaml")
    marker = _hostile(run / "extensions")  # consent was for the content of the copy
    assert "not allowed yet" in _error(run / "spec.yaml")
    assert not marker.exists()


def test_a_run_of_an_edited_extension_is_another_run(tmp_path: Path) -> None:
    path = _write(tmp_path / "mine")
    spec, run = load_spec(path, allow_extensions=True), tmp_path / "run"
    run.mkdir()
    write_spec(with_copied_extensions(spec, run), run / "spec.yaml")
    stored = load_spec(run / "spec.yaml")
    (tmp_path / "mine" / "mine.py").write_text((tmp_path / "mine" / "mine.py").read_text() + "# edited\n")
    loading._loaded.clear()
    loading._by_path.clear()
    with pytest.raises(InputError, match="holds a run of another spec"):
        require_same_spec(run, stored, spec)


def test_two_files_of_one_name_are_both_copied(tmp_path: Path) -> None:
    for folder, text in (("a", "x = 1\n"), ("b", "x = 2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    names = loading.copy_into_run([f"{tmp_path}/a/mine.py", f"{tmp_path}/b/mine.py", "package"], tmp_path / "run")
    assert names[0] == "extensions/mine.py" and names[2] == "package"
    assert (tmp_path / "run" / names[1]).read_text() == "x = 2\n"
    assert loading.copy_into_run([f"{tmp_path}/b/mine.py"], tmp_path / "run") == (names[1],)


@pytest.mark.slow
def test_train_evaluate_and_a_stranger(tmp_path: Path) -> None:
    spec, run = _write(tmp_path / "mine"), tmp_path / "run"
    changes = ("train.epochs=1", "train.data.kind=digits", "train.batch_size=512", "train.data.image_size=32")
    refused = _command("train", spec, "--out", run, *changes)
    assert refused.returncode == 2 and "not allowed yet" in refused.stderr and "Traceback" not in refused.stderr
    assert not run.exists()
    trained = _command("train", spec, "--out", run, *changes, "--allow-extensions")
    assert trained.returncode == 0, trained.stderr
    assert (run / "extensions" / "mine.py").exists()
    resumed = _command("train", spec, "--out", run, *changes)
    assert resumed.returncode == 0 and "is complete" in resumed.stderr
    assert _command("evaluate", run).returncode == 0
    marker = tmp_path / "marker"
    (run / "extensions" / "mine.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    for command in ("evaluate", "report", "train"):
        stranger = _command(command, run)
        assert stranger.returncode == 2 and "not allowed yet" in stranger.stderr
    assert not marker.exists()


@pytest.mark.slow
def test_search_workers_load_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, forward=False)
    (tmp_path / "search.yaml").write_text(SEARCH.replace("DEPTH", "{choices: [1, 60]}"))
    run = tmp_path / "run"
    done = _command("--allow-extensions", "search", tmp_path / "search.yaml", "--out", run, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "extensions: [extensions/mine.py]" in (run / "spec.yaml").read_text()
    assert isinstance(load_spec(run / "best.yaml"), Spec)  # consent was recorded for the copies
    load_run_spec(run)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    with pytest.raises(SpecError, match="not allowed yet"):
        load_run_spec(run)


def test_origin_of_a_registered_node_is_its_file(tmp_path: Path) -> None:
    load_spec(_write(tmp_path), allow_extensions=True)
    (one,) = [found for node, found in REGISTERED.items() if node.__name__ == "MeanAttention"]
    extension.register(one)  # again, from the same file: no error
    other = type("Other", (one.node,), {"__module__": __name__})
    with pytest.raises(extension.ExtensionError, match="mean"):
        extension.register(extension.TokenAttention(node=other, build=print), Origin("other.py", "0"))
