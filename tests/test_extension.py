"""Extensions: files of the user's own that specs name. They run only with consent; their nodes work as shipped ones."""

import csv
import functools
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

import jsonschema
import pytest
import torch
from pydantic import ValidationError

from t2tbuild import build_model, extension, load_search_spec, load_spec, measure_cost, predict_accuracy, predict_cost
from t2tbuild.cost.counter import LARGE_MACS, is_built_for_real
from t2tbuild.cost.fit import Axis, fit
from t2tbuild.cost.model import EVERY_LEVEL
from t2tbuild.errors import CostError, FieldError, InputError, SpecError
from t2tbuild.nas.existing_run import load_run_spec, require_same_search
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.report.diagram import write_diagram
from t2tbuild.spec import ModelSpec, Spec, write_spec
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.extension import load as loading
from t2tbuild.spec.extension.registry import REGISTERED, Origin
from t2tbuild.spec.extension.user_errors import describe_extension_error
from t2tbuild.spec.schema import json_schema
from t2tbuild.training.device_memory import suggest_smaller_batch
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.run_directory import _is_new, require_same_spec, with_copied_extensions
from tests.own_extension import (
    MEAN,
    PLAIN,
    SPEC,
    error_of,
    forget_kinds,
    forget_loaded,
    hostile_extension,
    own_state,
    run_command,
    write_extension,
)

__all__ = ["own_state"]  # the fixture of every test here

pytestmark = pytest.mark.usefixtures("own_state")


# Names


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("https://example.com/mine.py", "extension-url", "is a URL; an extension is a file on this machine"),
        ("file:///tmp/mine.py", "extension-url", "is a URL"),
        ("folder/", "extension-file", "is a folder (name the .py file in it)"),
        ("minne.py", "extension-file", "no file 'minne.py' (did you mean mine.py?)"),
        ("./mine.txt", "extension-file", "is not a .py file"),
        ("/dev/null", "extension-file", "'/dev/null' is a device"),
        ("mine", "extension-package", "no installed package has extensions named 'mine' (did you mean mine.py?)"),
        ("other", "extension-package", "no installed package has extensions named 'other'"),
        ('"a\\0.py"', "extension-file", "is not a file name"),
    ],
)
def test_what_a_name_may_be(tmp_path: Path, name: str, rule: str, words: str) -> None:
    write_extension(tmp_path)
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
    message = error_of(tmp_path / "spec.yaml", allow_extensions=True)
    assert "spec.yaml:2:14" in message and words in message
    assert not [name for name in set(sys.modules) - before if name.startswith("t2tbuild_extension")]


NODE = "from typing import ClassVar, Literal\nfrom t2tbuild import extension\nclass A({base}):\n    kind: {kind}\n"
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
        ("extension.Node", 'Literal["a"]\n    x: "Undefined"', "TokenAttention", "A: name 'Undefined' is not defined"),
        (
            "extension.Node",
            'Literal["a"]\n    replaces: ClassVar = ("attn",)',
            "BlockOption",
            "replaces of A is ('attn',)",
        ),
        ("extension.Node", 'Literal["a"]\n    x: tuple[list[int], ...] = ()', "TokenAttention", "A.x is a list, dict"),
        ("extension.TokenizerNode", 'Literal["a"]', "Tokenizer", "A does not define summary, windows"),
    ],
)
def test_nodes_that_are_refused(tmp_path: Path, base: str, kind: str, what: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(NODE.format(base=base, kind=kind) + LIST.format(what=what))
    (tmp_path / "spec.yaml").write_text(PLAIN.format(name="mine.py"))
    assert words in error_of(tmp_path / "spec.yaml", allow_extensions=True)
    assert load_spec("t2t_vit_7").model.tokenizer.kind == "t2t"  # the language is unchanged


def test_a_kind_that_two_files_bring(tmp_path: Path) -> None:
    load_spec(write_extension(tmp_path / "one"), allow_extensions=True)
    message = error_of(write_extension(tmp_path / "two", first="# other"), allow_extensions=True)
    assert f"kind 'mean' of a token attention is in {tmp_path}/one/mine.py and in {tmp_path}/two/mine.py" in message
    load_spec(tmp_path / "one" / "spec.yaml")


def test_a_file_that_brings_a_kind_twice(tmp_path: Path) -> None:
    text = NODE.format(base="extension.Node", kind='Literal["a"]')
    both = "EXTENSIONS = [extension.TokenAttention(node=one, build=print) for one in (A, B)]\n"
    (tmp_path / "mine.py").write_text(text + "class B(extension.Node):\n    kind: Literal['a']\n" + both)
    (tmp_path / "spec.yaml").write_text(PLAIN.format(name="mine.py"))
    assert "defines kind 'a' 2 times (rename one)" in error_of(tmp_path / "spec.yaml", allow_extensions=True)


def _install(folder: Path, name: str = "mean", package: str = "t2tbuild_test_package") -> None:
    """Write a package with an entry point, as an installer would."""
    folder.mkdir(exist_ok=True)
    (folder / f"{package}.py").write_text(MEAN.format(first="", forward=""))
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{loading.GROUP}]\n{name} = {package}:EXTENSIONS\n")


def test_an_installed_package_needs_its_name_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "spec.yaml").write_text(SPEC.format(name="mean"))
    spec = load_spec(tmp_path / "spec.yaml")
    assert spec.extensions == ("mean",)
    assert Spec(version=1, extensions=("mean",), model=spec.model) == spec
    (tmp_path / "spec.yaml").write_text(SPEC.format(name="meen"))
    assert "named 'meen' (did you mean mean?)" in error_of(tmp_path / "spec.yaml")
    _install(tmp_path / "more", package="t2tbuild_other_package")
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    (tmp_path / "spec.yaml").write_text(SPEC.format(name="mean"))
    message = error_of(tmp_path / "spec.yaml")
    assert "several installed packages have extensions named 'mean': t2tbuild_" in message
    assert "uninstall all but one" in message


def test_a_package_in_the_current_folder_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python -m t2tbuild` searches the current folder first."""
    _install(tmp_path / "theirs")
    (tmp_path / "theirs" / "t2tbuild_test_package.py").write_text("open('marker', 'w').close()")
    (tmp_path / "theirs" / "spec.yaml").write_text(SPEC.format(name="mean"))
    monkeypatch.chdir(tmp_path / "theirs")
    for entry in ("", str(tmp_path / "theirs")):
        monkeypatch.syspath_prepend(entry)
        assert "no installed package has extensions named 'mean'" in error_of(tmp_path / "theirs" / "spec.yaml")
    _install(tmp_path / "site")  # now the package is installed, but its module is found in the current folder first
    sys.path.append(str(tmp_path / "site"))  # monkeypatch restores it
    assert load_spec(tmp_path / "theirs" / "spec.yaml").extensions == ("mean",)
    assert not (tmp_path / "theirs" / "marker").exists()


# Names in the spec itself


def test_own_extensions_and_those_of_a_named_spec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_extension(tmp_path / "theirs")
    own = tmp_path / "own.py"
    own.write_text(MEAN.format(first="", forward="").replace('["mean"] = "mean"', '["own"] = "own"'))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    theirs, named = str(tmp_path / "theirs" / "mine.py"), "model: theirs/spec.yaml\n"
    search = "search:\n  base: theirs/spec.yaml\n  space: {backbone.depth: {choices: [1, 2]}}\n  budget: {macs: 1G}\n"
    path = tmp_path / "spec.yaml"
    for rest, load in ((named, load_spec), (search, load_search_spec)):
        for names, expected in (("", (theirs,)), (" []", (theirs,)), (" [own.py]", (str(own), theirs))):
            path.write_text(f"version: 1\nextensions:{names}\n{rest}")
            assert load(path, allow_extensions=True).extensions == expected
        for names, message in (
            ("[3]", "spec.yaml:2:14: error: extensions.0 must be text, got 3"),
            ("[missing.py]", "spec.yaml:2:14: error: no file 'missing.py'"),
            ("{a: 1}", "spec.yaml:2:13: error: extensions must be a list"),
        ):
            path.write_text(f"version: 1\nextensions: {names}\n{rest}")
            with pytest.raises(SpecError) as caught:
                load(path)
            assert message in str(caught.value)


def test_a_spec_names_the_extensions_of_its_nodes(tmp_path: Path) -> None:
    """A process knows the kinds of all specs that it has read; another process reads this spec alone."""
    spec = load_spec(write_extension(tmp_path / "mine"), allow_extensions=True)
    path = tmp_path / "unnamed.yaml"
    path.write_text(SPEC.format(name="mine.py").replace("extensions: [mine.py]\n", ""))
    message = error_of(path)
    reason = f"token attention mean is defined by {tmp_path}/mine/mine.py, which extensions does not name"
    assert "unnamed.yaml:8:" in message and reason in message
    with pytest.raises(ValidationError, match="which extensions does not name"):
        Spec(version=1, model=spec.model)
    assert Spec(version=1, extensions=spec.extensions, model=spec.model) == spec
    space = "tokenizer.stages.0.attention: {choices: [performer, mean]}"
    search = f"version: 1\nsearch:\n  base: t2t_vit_7\n  space: {{{space}}}\n  budget: {{macs: 5G}}\n"
    (tmp_path / "search.yaml").write_text(search)
    with pytest.raises(FieldError, match="which extensions does not name") as caught:
        plan(load_search_spec(tmp_path / "search.yaml"))
    assert caught.value.path == ("search", "space")


# The language


def test_errors_have_lines_and_hints_as_for_shipped_kinds(tmp_path: Path) -> None:
    spec = write_extension(tmp_path)
    spec.write_text(
        spec.read_text().replace("kind: mean, depth: 2", "kind: maen, deth: 2").replace(": mean}", ": meen}")
    )
    message = error_of(spec, allow_extensions=True)
    assert "spec.yaml:9:70: error: model.tokenizer.stages.0.attention.kind must be one of 'mean'" in message
    assert "got 'maen' (did you mean 'mean'?)" in message
    assert "unknown key 'deth' in model.tokenizer.stages.0.attention (did you mean 'depth'?)" in message
    assert "spec.yaml:10:63" in message and "got 'meen' (did you mean 'mean'?)" in message
    spec.write_text(SPEC.format(name="mine.py").replace("depth: 2", "depth: two"))
    assert "model.tokenizer.stages.0.attention.depth must be a whole number, got 'two'" in error_of(spec)


def test_a_node_of_an_extension_works_like_a_shipped_one(tmp_path: Path) -> None:
    spec = load_spec(write_extension(tmp_path), allow_extensions=True)
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
    load_spec(write_extension(tmp_path), allow_extensions=True)
    schema = json_schema("spec")
    assert schema["$defs"]["MeanAttention"]["properties"]["depth"]["description"] == "Number of projections."
    import yaml

    good = yaml.safe_load(SPEC.format(name="mine.py"))
    jsonschema.validate(good, schema)
    good["model"]["tokenizer"]["stages"][0]["attention"]["depth"] = "two"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good, schema)


def test_the_schema_command_takes_extensions(tmp_path: Path) -> None:
    write_extension(tmp_path)
    refused = run_command("schema", "--extension", tmp_path / "mine.py")
    assert refused.returncode == 2 and "not allowed yet" in refused.stderr
    printed = run_command("schema", "--extension", tmp_path / "mine.py", "--allow-extensions")
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
        (["diagram"], 1, "error: token attention mean has no symbolic forward"),
        (["fit", "--budget-macs", "10M"], 2, "cannot be fitted: token attention mean has no symbolic forward"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_commands_without_a_symbolic_forward(tmp_path: Path, command: list[str], code: int, words: str) -> None:
    spec = write_extension(tmp_path, forward=False)
    name, *options = command
    done = run_command(name, spec, *options, "--allow-extensions")
    assert done.returncode == code and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_symbolic_forward_fvcore_counts(tmp_path: Path) -> None:
    spec = load_spec(write_extension(tmp_path, forward=False), allow_extensions=True)
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
    write_extension(tmp_path)
    (tmp_path / "search.yaml").write_text(SEARCH.replace("DEPTH", "{fill: [0.5, 1.0]}"))
    planned = plan(load_search_spec(tmp_path / "search.yaml", allow_extensions=True))
    assert "tokenizer.stages.0.attention.depth" in planned.space.dimensions
    assert {member.model.tokenizer.stages[0].attention.depth for member in planned.members} == {1, 2, 3}  # type: ignore[union-attr]
    assert planned.predicted == [] and planned.target == "data"


def test_a_search_without_symbolic_forward_checks_its_budget_after_building(tmp_path: Path) -> None:
    write_extension(tmp_path, forward=False)
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


def test_every_kind_of_a_space_is_examined(tmp_path: Path) -> None:
    """The kind without a symbolic forward is the last value of the first of several fields."""
    spec, path = write_extension(tmp_path, forward=False), tmp_path / "search.yaml"
    own = ("{kind: mean, depth: 2}", "attention: mean")
    spec.write_text(spec.read_text().replace(own[0], "performer").replace(own[1], "attention: performer"))
    searched = SEARCH.replace(".attention.depth: {choices: [1, 2, 3]}", ".attention: {choices: [performer, mean]}")
    depth = "{low: 1, high: 12}\n    backbone.mlp_ratio: {choices: [1, 2, 3, 4, 5, 6, 7, 8]}"
    path.write_text(searched.replace("DEPTH", depth))
    planned = plan(load_search_spec(path, allow_extensions=True))
    assert planned.space.size > 64 and "not-predicted" in {one.rule for one in planned.warnings}


def test_explain_without_a_symbolic_forward(tmp_path: Path) -> None:
    write_extension(tmp_path, forward=False)
    path = tmp_path / "search.yaml"
    path.write_text(SEARCH.replace("DEPTH", "{choices: [1, 2]}"))
    done = run_command("search", path, "--explain", "--allow-extensions")
    assert done.returncode == 0, done.stderr
    assert "search: 6 assignments of 2 fields at most; how many are within the budget is known only" in done.stdout
    assert "base tiny: " in done.stdout


TOKENIZER = """
from typing import Literal
from t2tbuild import extension

class Own(extension.TokenizerNode):
    kind: Literal["own"] = "own"
    rate: float = 0.5

    @property
    def windows(self):
        return (extension.Window(patch_size=8),)

    @property
    def summary(self):
        return "own"

EXTENSIONS = [extension.Tokenizer(node=Own, build=print)]
"""


def test_the_key_of_a_model_has_the_fields_of_an_own_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TOKENIZER)
    tokenizer, keys = "{kind: own, rate: RATE}", set()
    for rate in ("0.1", "0.2"):
        model = f"{{name: a, tokenizer: {tokenizer}, backbone: {{depth: 1, embed_dim: 32, num_heads: 2}}}}"
        (tmp_path / "a.yaml").write_text(f"version: 1\nextensions: [own.py]\nmodel: {model.replace('RATE', rate)}\n")
        own = load_spec(tmp_path / "a.yaml", allow_extensions=True).model
        assert isinstance(own, ModelSpec)
        keys |= {key_of(own), key_of(own.model_copy(update={"name": "b"}))}
    assert len(keys) == 2


# Block options


OPTION = """
from typing import Literal
from torch import nn
from t2tbuild import extension
from t2tbuild.build import BlockModules

class A(extension.Node):
    kind: Literal["a"] = "a"

class B(extension.Node):
    kind: Literal["b"] = "b"

def build(node):
    return BlockModules(CHANGE)

EXTENSIONS = [extension.BlockOption(node=A, build=build), extension.BlockOption(node=B, build=build)]
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("mlp=lambda dim, _: nn.Identity()", "2 block options replace the mlp of a block"),
        ("after_attention=('own', lambda dim: nn.Identity())", "2 modules of a block would have the name 'own'"),
        ("after_branch=('own', lambda dim: nn.Identity())", "2 modules of a block would have the name 'own'"),
    ],
)
def test_block_options_that_exclude_each_other(tmp_path: Path, change: str, words: str) -> None:
    (tmp_path / "own.py").write_text(OPTION.replace("CHANGE", change))
    path = tmp_path / "spec.yaml"
    path.write_text("version: 1\nextensions: [own.py]\nmodel: t2t_vit_7\n")
    overrides = ["model.image_size=64", "model.backbone.depth=1", "model.backbone.options=[{kind: a}]"]
    spec = load_spec(path, overrides, allow_extensions=True)
    build_model(spec.model)
    both = load_spec(path, [*overrides[:2], "model.backbone.options=[{kind: a}, {kind: b}]"])
    with pytest.raises(FieldError, match=words):
        build_model(both.model)
    with pytest.raises(SpecError, match="a is given twice"):
        load_spec(path, ["model.backbone.options=[{kind: a}, {kind: a}]"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("after_attention=('proj', lambda dim: nn.Identity())", "a module named 'proj' to Attention, which has one"),
        ("after_branch=('norm', lambda dim: nn.Identity())", "2 modules of a block would have the name 'norm'"),
    ],
)
def test_a_block_option_cannot_overwrite_a_module(tmp_path: Path, change: str, words: str) -> None:
    (tmp_path / "own.py").write_text(OPTION.replace("CHANGE", change))
    path = tmp_path / "spec.yaml"
    path.write_text("version: 1\nextensions: [own.py]\nmodel: t2t_vit_7\n")
    spec = load_spec(path, ["model.backbone.options=[{kind: a}]"], allow_extensions=True)
    with torch.device("meta"), pytest.raises(FieldError, match=words):
        build_model(spec.model)


# Runs


def test_a_run_has_copies_that_its_user_may_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(write_extension(tmp_path / "mine"), allow_extensions=True)
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
    forget_loaded()
    assert "mine.py is Python code that is not allowed yet" in error_of(run / "spec.yaml")
    load_spec(run / "spec.yaml", allow_extensions=True)
    load_spec(run / "spec.yaml")
    marker = hostile_extension(run / "extensions")  # consent was for the content of the copy
    assert "not allowed yet" in error_of(run / "spec.yaml")
    assert not marker.exists()


def test_a_run_of_an_edited_extension_is_another_run(tmp_path: Path) -> None:
    """As another process finds it: it has loaded the edited file, and not the copy."""
    path, run, file = write_extension(tmp_path / "mine"), tmp_path / "run", tmp_path / "mine" / "mine.py"
    (run / "checkpoints").mkdir(parents=True)
    spec = load_spec(path, allow_extensions=True)
    write_spec(with_copied_extensions(spec, run), run / "spec.yaml")
    assert not _is_new(run, spec)
    before = (run / "extensions" / "mine.py").read_bytes()
    file.write_text(file.read_text() + "# edited\n")
    forget_kinds()
    edited = load_spec(path, allow_extensions=True)
    with pytest.raises(InputError, match="holds a run of another spec") as caught:
        _is_new(run, edited)
    assert "\n-- mine.py " in str(caught.value) and "\n+- mine.py " in str(caught.value)
    assert (run / "extensions" / "mine.py").read_bytes() == before


def test_a_search_of_an_edited_extension_is_another_search(tmp_path: Path) -> None:
    write_extension(tmp_path)
    (tmp_path / "search.yaml").write_text(SEARCH.replace("DEPTH", "{choices: [1, 2]}"))
    run, file = tmp_path / "run", tmp_path / "mine.py"
    run.mkdir()
    (run / "study.db").touch()
    spec = load_search_spec(tmp_path / "search.yaml", allow_extensions=True)
    write_spec(with_copied_extensions(spec, run), run / "spec.yaml")
    require_same_search(run, spec)
    file.write_text(file.read_text() + "# edited\n")
    forget_kinds()
    with pytest.raises(InputError, match="holds a run of another spec"):
        require_same_search(run, load_search_spec(tmp_path / "search.yaml", allow_extensions=True))


def test_two_versions_of_a_file_need_two_commands(tmp_path: Path) -> None:
    load_spec(write_extension(tmp_path / "one"), allow_extensions=True)
    message = error_of(write_extension(tmp_path / "two", first="# other"), allow_extensions=True)
    assert "two versions of one file: read them with two commands, or name one of the files" in message


def test_a_copy_has_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = write_extension(tmp_path)
    content = b"# -*- coding: latin-1 -*-\n# \xe9\r\n" + (tmp_path / "mine.py").read_bytes()
    (tmp_path / "mine.py").write_bytes(content)
    with_copied_extensions(load_spec(path, allow_extensions=True), tmp_path / "run")
    assert (tmp_path / "run" / "extensions" / "mine.py").read_bytes() == content


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
    spec, run = write_extension(tmp_path / "mine"), tmp_path / "run"
    changes = ("train.epochs=1", "train.data.kind=digits", "train.batch_size=512", "train.data.image_size=32")
    refused = run_command("train", spec, "--out", run, *changes)
    assert refused.returncode == 2 and "not allowed yet" in refused.stderr and "Traceback" not in refused.stderr
    assert not run.exists()
    trained = run_command("train", spec, "--out", run, *changes, "--allow-extensions")
    assert trained.returncode == 0, trained.stderr
    assert (run / "extensions" / "mine.py").exists()
    resumed = run_command("train", spec, "--out", run, *changes)
    assert resumed.returncode == 0 and "is complete" in resumed.stderr
    assert run_command("evaluate", run).returncode == 0
    exported = run_command("export", run, "--format", "timm", "--out", tmp_path / "exported")
    assert exported.returncode == 0 and "differ from torch's by 0.0e+00" in exported.stdout
    marker = tmp_path / "marker"
    (run / "extensions" / "mine.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    for command in ("evaluate", "report", "train"):
        stranger = run_command(command, run)
        assert stranger.returncode == 2 and "not allowed yet" in stranger.stderr
    assert not marker.exists()


@pytest.mark.nightly
@pytest.mark.slow
def test_search_workers_load_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the content, which the user has allowed before."""
    write_extension(tmp_path, forward=False)
    path, run = tmp_path / "search.yaml", tmp_path / "run"
    (tmp_path / "deep.yaml").write_text(SPEC.format(name="mine.py").replace("{depth: 1", "{depth: 60"))
    search = SEARCH.replace("macs: 10M", "macs: 2M").replace("spec.yaml\n", "spec.yaml\n  enqueue: [deep.yaml]\n")
    path.write_text(search.replace("DEPTH", "{choices: [1, 60]}"))
    load_search_spec(path, allow_extensions=True)
    done = run_command("search", path, "--out", run, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "extensions: [extensions/mine.py]" in (run / "spec.yaml").read_text()
    assert isinstance(load_spec(run / "best.yaml"), Spec)
    load_run_spec(run)
    with (run / "candidates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    deep = [row for row in rows if row["depth"] == "60"]
    assert {row["state"] for row in deep} == {"infeasible"}  # over the budget, as fvcore counts it
    assert {row["reason"] for row in deep} == {"macs over budget, so not trained"}
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    forget_loaded()
    with pytest.raises(SpecError, match="not allowed yet"):
        load_run_spec(run)


def test_origin_of_a_registered_node_is_its_file(tmp_path: Path) -> None:
    load_spec(write_extension(tmp_path), allow_extensions=True)
    (one,) = [found for node, found in REGISTERED.items() if node.__name__ == "MeanAttention"]
    extension.register(one)  # again, from the same file: no error
    other = type("Other", (one.node,), {"__module__": __name__})
    with pytest.raises(extension.ExtensionError, match="mean"):
        extension.register(extension.TokenAttention(node=other, build=print), Origin("other.py", "0"))


# Mistakes around extensions


def test_an_old_copy_does_not_replace_the_edited_file(tmp_path: Path) -> None:
    spec, copy = write_extension(tmp_path / "mine"), write_extension(tmp_path / "copy")
    load_spec(spec, allow_extensions=True)
    (tmp_path / "mine" / "mine.py").write_text(MEAN.format(first="edited = True", forward=""))
    edited = load_spec(spec, allow_extensions=True)
    assert "two versions of one file: read them with two commands" in error_of(copy, allow_extensions=True)
    assert Spec(version=1, extensions=edited.extensions, model=edited.model) == edited


def test_a_name_in_a_run_that_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(InputError, match=r"'pipe\.py' is a device or a pipe"):
        loading.identify_in_run("pipe.py", tmp_path)


def test_a_large_model_with_an_extension_is_counted_in_memory(tmp_path: Path) -> None:
    """It may have convolutions, which cannot be traced on the meta device."""
    model = load_spec(write_extension(tmp_path), allow_extensions=True).model
    assert isinstance(model, ModelSpec)
    large = model.model_copy(update={"image_size": 8192})
    assert predict_cost(large).macs > LARGE_MACS and is_built_for_real(large)


def test_out_of_memory_without_a_symbolic_forward(tmp_path: Path) -> None:
    spec = load_spec(write_extension(tmp_path, forward=False), ["train={}"], allow_extensions=True)
    hint = suggest_smaller_batch(spec, DistributedContext(torch.device("cpu")), torch.float32)
    assert "half as many should fit" in hint
    with pytest.raises(FieldError, match="cannot be fitted: token attention mean has no symbolic forward"):
        fit(spec.model, Budget(macs=10**9), Axis.DEPTH)


def test_equal_nodes_stay_equal_after_a_cached_property() -> None:
    class Own(extension.Node):
        kind: Literal["own"] = "own"

        @functools.cached_property
        def double(self) -> str:
            return self.kind * 2

    used = Own()
    assert used.double == "ownown" and used == Own() and hash(used) == hash(Own())
    assert used != 1


def test_an_error_of_the_users_code_has_its_line(tmp_path: Path) -> None:
    spec, own = write_extension(tmp_path), tmp_path / "mine.py"
    text, loop = own.read_text(), "for index in range(node.depth):\n        mean ="
    own.write_text(text.replace(loop, "for index in [{}[0]]:\n        mean ="))
    line = text[: text.index(loop)].count("\n") + 1
    with pytest.raises(KeyError) as caught:
        predict_cost(load_spec(spec, allow_extensions=True).model)
    assert f"mine.py, line {line}: KeyError: 0; run t2tbuild check " in describe_extension_error(caught.value)
    assert describe_extension_error(KeyError(0)) == ""
