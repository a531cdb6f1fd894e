"""ls, show, cp, init, schema, validate, and shell completion."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from t2tbuild import load_search_spec, load_spec
from t2tbuild.spec import catalog
from t2tbuild.spec.load import read_any
from t2tbuild.spec.modeline import MARK
from t2tbuild.spec.root import SearchSpec, Spec
from tests.command import run_t2tbuild

SHIPPED = catalog.all_names()


def t2tbuild(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_t2tbuild(*arguments, cwd=cwd, **{"COLUMNS": "120"} | environment)


@pytest.mark.slow
def test_ls_lists_everything_that_ships(tmp_path: Path) -> None:
    listed = json.loads(t2tbuild("ls", "--json", cwd=tmp_path).stdout)
    assert [entry["name"] for section in listed.values() for entry in section] == SHIPPED
    found = {entry["name"]: entry for entry in listed["models"]}
    assert found["t2t_vit_14"] == {
        "name": "t2t_vit_14",
        "kind": "t2t performer, plain",
        "params": 21_545_550,
        "macs": 4_800_254_784,
        "counted": True,
        "predicted_top1": 81.7,
        "paper": "Tables 1, 2, 5, 6, 7: 81.5%",
    }
    assert not found["resnet50"]["counted"]
    trained = {entry["name"]: entry for entry in listed["training"]}
    assert trained["t2t_vit_14_cifar100"] == {
        "name": "t2t_vit_14_cifar100",
        "model": "t2t_vit_14",
        "data": "cifar100",
        "epochs": 60,
        "weights or teacher": "released:t2t_vit_14",
        "paper": "88.4%",
    }
    recipes = [(trained[name]["data"], trained[name]["epochs"], trained[name]["paper"]) for name in trained]
    assert ("imagenet", 310, "82.3%") in recipes
    assert trained["t2t_vit_7_distilled_imagenet"]["paper"] == "73.1%"
    assert trained["t2t_vit_7_distilled_imagenet"]["weights or teacher"] == "timm:regnety_160.deit_in1k"
    assert trained["t2t_vit_7_digits"]["paper"] is None
    table = t2tbuild("ls", "models", cwd=tmp_path).stdout
    row = next(line for line in table.splitlines() if "t2t_vit_16_ghost" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[0] == "t2t_vit_16_ghost"
    assert cells[1].startswith("t2t performer, plain")  # what does not fit goes on in the next line
    assert cells[2:] == ["16.3M", "3.82G", "78.8%", "Table 6: 79.5%"]
    assert "~4.30G" in table
    assert "deep_narrow" not in table


@pytest.mark.parametrize("name", SHIPPED)
def test_show_prints_a_spec_that_loads_to_the_same(tmp_path: Path, name: str) -> None:
    from t2tbuild.report.resolved import resolved_yaml

    document = read_any(name)
    (tmp_path / "shown.yaml").write_text(resolved_yaml(document))
    assert read_any(tmp_path / "shown.yaml").spec == document.spec


@pytest.mark.slow
def test_show_gives_the_origin_of_each_value(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nmodel: t2t_vit_7\ntrain:\n  epochs: 3\n")
    lines = t2tbuild("show", "mine.yaml", "model.backbone.depth=5", cwd=tmp_path).stdout.splitlines()
    origins = {line.split("#")[0].strip(): line.rpartition("# ")[2] for line in lines}
    assert origins["epochs: 3"] == "mine.yaml:4"
    assert origins["batch_size: 64"] == "default"
    assert origins["depth: 5"] == "override 'model.backbone.depth=5'"
    assert origins["embed_dim: 256"] == f"{catalog.find('t2t_vit_7')}:20"
    assert origins["kind: performer"] == f"{catalog.find('t2t_vit_7')}:15"
    assert lines[0] == "# 224 x 224 -> 56 x 56 -> 28 x 28 -> 14 x 14; 197 tokens with the class token; 4 heads"
    both = t2tbuild("show", "mine.yaml", "model.distillation_token=true", cwd=tmp_path).stdout.splitlines()
    assert "; 198 tokens with the class and the distillation token; " in both[0]
    records = json.loads(t2tbuild("show", "mine.yaml", "--json", cwd=tmp_path).stdout)
    assert {"path": "train.epochs", "value": 3, "origin": "mine.yaml:4"} in records


@pytest.mark.parametrize("name", SHIPPED)
def test_cp_keeps_every_comment_and_finds_the_schema(tmp_path: Path, name: str) -> None:
    from t2tbuild.cli.cp import cp

    cp(name, tmp_path / "mine.yaml", force=False)
    text = (tmp_path / "mine.yaml").read_text()
    modeline, origin, *lines = text.splitlines()
    assert Path(modeline.removeprefix(MARK)).is_file()
    assert origin == f"# Copied from {name}."
    _, *shipped_lines = re.sub(r"^paper:.*\n(  .*\n)*", "", catalog.find(name).read_text(), flags=re.M).splitlines()
    changed = [(before, after) for before, after in zip(shipped_lines, lines, strict=True) if before != after]
    assert changed in ([], [(f"  name: {name}", "  name: mine")])
    copied, shipped = read_any(tmp_path / "mine.yaml").spec, read_any(name).spec
    if isinstance(shipped, SearchSpec):
        assert copied == shipped.model_copy(update={"search": shipped.search.model_copy(update={"name": "mine"})})
        return
    assert isinstance(copied, Spec)
    if shipped.weights:  # a relative path of weights starts at the spec; released weights keep their name
        released = shipped.weights.file.startswith("released:")
        file = shipped.weights.file if released else str(tmp_path / Path(shipped.weights.file).name)
        assert copied.weights and copied.weights.file == file
    model = shipped.model.model_copy(update={"name": "mine" if changed else shipped.model.name})
    reference = re.search(r"^model: (\w+)", text, re.M)
    paper = load_spec(reference[1]).paper if reference else ()  # those of the model that it refers to
    assert copied == shipped.model_copy(update={"model": model, "weights": copied.weights, "paper": paper})


@pytest.mark.slow
def test_a_copy_is_not_the_papers_model(tmp_path: Path) -> None:
    t2tbuild("cp", "t2t_vit_14", "mine.yaml", cwd=tmp_path)
    done = t2tbuild("compare", "mine.yaml", "t2t_vit_14", "--json", cwd=tmp_path)
    copy, original = json.loads(done.stdout)
    assert (copy["model"], original["model"]) == ("mine", "t2t_vit_14")
    assert copy["macs"] == original["macs"]
    assert (copy["paper_macs"], original["paper_macs"]) == (None, 4_800_000_000)
    assert "Copied from t2t_vit_14" in (tmp_path / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("file", "name"), [("12.yaml", "12"), ("yes.yaml", "yes"), ("a b.yaml", "a_b"), ("é.yaml", "copy")]
)
def test_any_file_name_gives_a_valid_model_name(tmp_path: Path, file: str, name: str) -> None:
    assert t2tbuild("cp", "t2t_vit_7", file, cwd=tmp_path).returncode == 0
    assert load_spec(tmp_path / file).model.name == name


def test_a_copied_timm_model_keeps_the_name_by_which_timm_knows_it(tmp_path: Path) -> None:
    assert t2tbuild("cp", "resnet50", "mine.yaml", cwd=tmp_path).returncode == 0
    spec = load_spec(tmp_path / "mine.yaml")
    assert (spec.model.name, spec.paper) == ("resnet50", ())


@pytest.mark.slow
def test_cp_replaces_a_file_only_with_force(tmp_path: Path) -> None:
    assert t2tbuild("cp", "t2t_vit_7", "deep/mine.yaml", cwd=tmp_path).returncode == 0
    again = t2tbuild("cp", "t2t_vit_14", "deep/mine.yaml", cwd=tmp_path)
    assert again.returncode == 2
    assert "deep/mine.yaml: exists already" in again.stderr
    assert "--force" in again.stderr
    assert load_spec(tmp_path / "deep/mine.yaml").model.backbone.depth == 7
    assert t2tbuild("cp", "t2t_vit_14", "deep/mine.yaml", "--force", cwd=tmp_path).returncode == 0
    assert load_spec(tmp_path / "deep/mine.yaml").model.backbone.depth == 14
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mine.yaml"]


@pytest.mark.slow
def test_cp_writes_no_spec_that_would_be_invalid_in_its_folder(tmp_path: Path) -> None:
    t2tbuild("init", "mine.yaml", cwd=tmp_path)
    (tmp_path / "t.yaml").write_text("version: 1\nmodel: mine.yaml\n")
    assert t2tbuild("cp", "t.yaml", "u.yaml", cwd=tmp_path).returncode == 0
    moved = t2tbuild("cp", "t.yaml", "deep/u.yaml", cwd=tmp_path)
    assert moved.returncode == 2
    assert "deep/u.yaml:4:8: error: model 'mine.yaml': no such file" in moved.stderr
    assert not (tmp_path / "deep").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x" * 300, "a\nb/" + "y" * 300, "README.md/x.yaml", "link.yaml"])
def test_invalid_paths_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "README.md").touch()
    (tmp_path / "link.yaml").symlink_to("nowhere.yaml")
    for arguments in (["cp", "t2t_vit_7", target], ["init", target]):
        done = t2tbuild(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "link.yaml"]


@pytest.mark.slow
def test_init_writes_the_values_of_its_options(tmp_path: Path) -> None:
    done = t2tbuild("init", "m.yaml", "--image-size", "[64, 96]", "--num-classes", "10", "--depth", "3", cwd=tmp_path)
    assert done.stdout == "m.yaml: written; next: t2tbuild summarize m.yaml\n"
    model = load_spec(tmp_path / "m.yaml").model
    assert (model.image, model.num_classes, model.backbone.depth) == ((64, 96), 10, 3)
    assert t2tbuild("init", "--kind", "training", "--model", "m.yaml", cwd=tmp_path).stdout.startswith(
        "training.yaml: "
    )
    assert load_spec(tmp_path / "training.yaml").model == model
    assert t2tbuild("init", "--kind", "search", "--name", "mine", "--budget-macs", "2G", cwd=tmp_path).returncode == 0
    assert t2tbuild("validate", "m.yaml", "training.yaml", "mine.yaml", "--strict", cwd=tmp_path).returncode == 0
    assert load_search_spec(tmp_path / "mine.yaml").search.base == "t2t_vit_12"  # T2T-ViT-14 is over the budget
    wrong = t2tbuild("init", "w.yaml", "--kind", "search", "--budget-macs", "2GB", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "reads as bytes" in wrong.stderr
    strange = t2tbuild("init", "w.yaml", "--kind", "search", "--depth", "3", cwd=tmp_path)
    assert (strange.returncode, strange.stderr.partition(";")[0]) == (2, "error: --depth is not used in a search spec")
    assert not (tmp_path / "w.yaml").exists()


@pytest.mark.slow
def test_init_checks_what_it_writes(tmp_path: Path) -> None:
    done = t2tbuild("init", "a b.yaml", "--kind", "search", "--model", "vit_s16", "--budget-macs", "8G", cwd=tmp_path)
    assert done.stdout == "a b.yaml: written; next: t2tbuild search 'a b.yaml'\n"
    assert t2tbuild("validate", "a b.yaml", cwd=tmp_path).returncode == 0
    done = t2tbuild("init", "small.yaml", "--kind", "search", "--budget-macs", "5M", cwd=tmp_path)
    assert done.returncode == 2
    assert "small.yaml:7:18: error: no candidate has 5.00M MACs or fewer" in done.stderr
    assert t2tbuild("init", "wide.yaml", "--embed-dim", "512", cwd=tmp_path).returncode == 0
    assert load_spec(tmp_path / "wide.yaml").model.backbone.heads[0] == 8
    done = t2tbuild("init", "x.yaml", "--kind", "modle", cwd=tmp_path)
    assert (done.returncode, done.stderr.rpartition("; ")[2]) == (2, "did you mean model?\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["schema", "show t2t_vit_7", "ls search", "validate t2t_vit_7"])
def test_a_closed_or_full_stream_causes_no_traceback(tmp_path: Path, command: str) -> None:
    line = f"{sys.executable} -m t2tbuild {command}"
    for into, code in ((">&-", 0), (">/dev/full", 1)):
        done = subprocess.run(f"{line} {into}", shell=True, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_init_asks_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "t2tbuild", "init"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, close_fds=True)
    os.close(theirs)
    os.write(ours, b"modle\nmodel\ntiny\nbig\n32\n10\n2\n64\n5\n4\n")  # three wrong answers, each asked again
    output = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            output += os.read(ours, 4096)
        except OSError:  # the process has closed its end
            break
    os.close(ours)
    assert process.wait(30) == 0, output.decode()
    assert b"kind: must be one of model, training, search, got 'modle'; did you mean model?" in output
    assert b"Number of classes [1000]: " in output
    assert b"model.image_size must be a whole number, got 'big'; write for example 224" in output
    assert b"must be divisible by num_heads, got 64 and 5; nearest num_heads: 4, 8; nearest embed_dim: 60, 65" in output
    model = load_spec(tmp_path / "tiny.yaml").model
    assert (model.name, model.image_size, model.num_classes, model.backbone.heads) == ("tiny", 32, 10, (4, 4))


@pytest.mark.slow
def test_validate_reports_the_errors_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nmodel: t2t_vit_7\ntrain: {eopchs: 3, seed: '1'}\n")
    (tmp_path / "b.yaml").write_text(
        "version: 1\nsearch: {base: t2t_vit_7, budget: {macs: 1M}, space: {backbone.depth: {fill: [0.5, 1]}}}\n"
    )
    (tmp_path / "c.yaml").write_text("version: 1\nmodel: t2t_vit_14_resnext\n")
    done = t2tbuild("validate", "a.yaml", "b.yaml", "c.yaml", "t2t_vit_7", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert "a.yaml:3:9: error: unknown key 'eopchs' in train" in done.stdout
    assert "a.yaml:3:26: error: train.seed must be a whole number, got '1'" in done.stdout
    assert "b.yaml:2:42: error: no candidate has 1.00M MACs or fewer" in done.stdout
    assert "warning: heads of 12 channels" in done.stdout
    assert done.stdout.endswith("3 errors and 1 warning in 3 files\n")
    records = json.loads(t2tbuild("validate", "a.yaml", "--json", cwd=tmp_path).stdout)
    fields = ["file", "line", "column", "path", "rule", "message", "hint", "severity"]
    assert [list(record) for record in records] == [fields] * 2
    assert records[0] | {"message": ""} == {
        "file": "a.yaml",
        "line": 3,
        "column": 9,
        "path": "train.eopchs",
        "rule": "unknown-key",
        "message": "",
        "hint": "did you mean 'epochs'?",
        "severity": "error",
    }


@pytest.mark.slow
def test_validate_strict_treats_warnings_as_errors(tmp_path: Path) -> None:
    assert t2tbuild("validate", "t2t_vit_14_resnext", cwd=tmp_path).returncode == 0
    assert t2tbuild("validate", "t2t_vit_14_resnext", "--strict", cwd=tmp_path).returncode == 2
    done = t2tbuild("validate", "t2t_vit_14", "deep_narrow", "--strict", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "all 2 specs are valid\n")
    done = t2tbuild("validate", "t2t_vit_14", "model.backbone.depth=0", cwd=tmp_path)
    assert done.returncode == 2
    assert "model.backbone.depth must be at least 1, got 0" in done.stdout


def test_a_budget_that_one_candidate_meets_causes_a_warning(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "version: 1\nsearch:\n  base: t2t_vit_7\n  budget: {macs: 1.2G}\n"
        "  space: {backbone.depth: {choices: [7, 8, 9]}}\n"
    )
    done = t2tbuild("validate", "one.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "one.yaml:4:11: warning: only one candidate lies within the budget: depth 7, embed_dim 256" in done.stdout


def complete(words: str, cwd: Path) -> list[str]:
    """Return the completions that bash gets after these words."""
    count = len(words.split(" ")) - 1
    environment = {"_T2TBUILD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    code = "import sys; sys.argv[0] = 't2tbuild'; from t2tbuild.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=os.environ | environment
    )
    return done.stdout.split()


@pytest.mark.slow
def test_the_shell_completes_commands_names_and_files(tmp_path: Path) -> None:
    (tmp_path / "t2t_mine.yaml").touch()
    (tmp_path / "t2t_notes.txt").touch()
    (tmp_path / "t2t_runs").mkdir()
    assert "validate" in complete("t2tbuild va", tmp_path)
    offered = complete("t2tbuild summarize t2t_", tmp_path)
    assert set(offered) >= {"t2t_vit_14", "t2t_vit_7_digits", "t2t_mine.yaml", "t2t_runs/"}
    assert "t2t_notes.txt" not in offered
    assert complete("t2tbuild search deep", tmp_path) == ["deep_narrow"]
    assert complete("t2tbuild summarize ./t2t_m", tmp_path) == ["./t2t_mine.yaml"]
    assert complete("t2tbuild summarize nowhere/", tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [("sumarize", "summarize"), ("valdate", "validate"), ("comapre", "compare"), ("shw", "show")],
)
def test_an_unknown_command_suggests_the_nearest(tmp_path: Path, typed: str, suggestion: str) -> None:
    done = t2tbuild(typed, cwd=tmp_path)
    assert done.returncode == 2
    assert f"Did you mean '{suggestion}'" in done.stderr


def test_errors_are_printed_as_json_with_json(tmp_path: Path) -> None:
    done = t2tbuild("summarize", "t2t_vit_7", "model.backbone.depth=0", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert [record["rule"] for record in json.loads(done.stdout)] == ["range"]
    done = t2tbuild("compare", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["rule"] == "input"
