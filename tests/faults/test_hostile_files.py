"""Runs, checkpoints and specs of strangers: no code runs, nothing is written outside, memory and time are bounded."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from t2tbuild import files as files_module
from t2tbuild import load_spec, manifest
from t2tbuild.errors import InputError, SpecError
from t2tbuild.nas.record import Record, State
from t2tbuild.spec.load import check_text
from t2tbuild.spec.weights import Weights
from t2tbuild.training.checkpoint import Checkpoint, save_checkpoint
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.weights.label_names import read_label_names
from t2tbuild.weights.metadata import KEY, ExportInfo, parse_metadata
from t2tbuild.weights.preprocessing import Preprocessing, default_preprocessing
from t2tbuild.weights.read import read_weights
from tests.faults.attack import Attack
from tests.faults.odd_files import ODD, ODD_NAMES

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.mark.parametrize("make", ODD, ids=ODD_NAMES)
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_checkpoint_of_odd_files_is_refused(stranger: Path, make: Callable[[Path], None], name: str) -> None:
    file = stranger / "checkpoints" / "step-000000001" / name
    file.unlink()
    make(file)
    with pytest.raises(InputError, match="no valid checkpoint is left"):
        read_weights(stranger)


MANIFESTS = [
    *("[]", "[1]", '"x"', "1", "null", "{}", '{"model.safetensors": 1}', '{"model.safetensors": {}}', "[" * 100_000),
    *('{"": "x"}', '{"..": "x"}', '{"a\\u0000b": "x"}', "1" * 10_000, '{"../../secret": "x"}', '{"/etc/passwd": "x"}'),
]


@pytest.mark.parametrize("text", MANIFESTS, ids=lambda text: text[:24])
def test_a_manifest_made_to_harm_is_an_invalid_one(stranger: Path, text: str) -> None:
    (stranger / "checkpoints" / "step-000000001" / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="no valid checkpoint is left") as error:
        read_weights(stranger)
    assert len(str(error.value)) < 1000


def test_saving_deletes_no_folder_that_is_not_a_checkpoint(tmp_path: Path) -> None:
    """Not one of the user's that ends in .old, and none outside that a link in the run leads to."""
    outside = tmp_path / "outside" / "step-000000000"
    run = tmp_path / "checkpoints"
    for path in (outside, run / "thesis.old"):
        path.mkdir(parents=True)
        (path / "manifest.json" if path == outside else path / "text").write_text("{}")
    (run / "step-000000000").symlink_to(outside)
    (run / ".step-000000003.tmp").symlink_to(outside.parent)
    for number in (1, 2, 3):
        checkpoint = Checkpoint({"w": torch.zeros(2)}, {}, {"epoch": number})
        save_checkpoint(run, f"step-{number:09}", checkpoint)
    assert (run / "thesis.old" / "text").exists()
    assert (outside / "manifest.json").read_text() == "{}"
    assert [path.name for path in outside.parent.iterdir()] == ["step-000000000"]


def test_the_key_of_a_record_cannot_leave_the_run() -> None:
    """A worker deletes the folder that is named by it."""
    record = Record("1", State.RUNNING, None, key="0123abc").to_json()
    assert Record.from_json(record).key == "0123abc"
    for key in ("../../victim", "/tmp/victim", "a/b", "..", "a\x00b"):
        with pytest.raises(ValueError, match="the key"):
            Record.from_json(record | {"key": key})
    for more in ({"seed": "../../victim"}, {"seed": 1.5}, {"full": "../victim"}):
        with pytest.raises(ValueError, match="the seed"):
            Record.from_json(record | more)


MODEL = load_spec("t2t_vit_7").model_copy(update={"train": None})


def preprocessing_of(folder: Path, config: object) -> Preprocessing:
    """Return the preprocessing of a folder of weights with a config.json."""
    save_file({"w": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return find_preprocessing(MODEL, Weights(file=str(folder)))


ODD_STEPS = [
    *({"shrink": 10**9}, {"shrink": 0}, {"shrink": "9"}, {"shrink": True}, {"crop_pct": 1e-9}),
    *({"crop_pct": float("nan")}, {"interpolation": []}),
    *({"mean": "abc"}, {"mean": [10**400] * 3}, {"std": {}}, {"crop_pct": "x"}),
]


@pytest.mark.parametrize("steps", ODD_STEPS, ids=lambda steps: str(steps)[:30])
def test_odd_steps_in_a_config_are_the_usual_ones(tmp_path: Path, steps: dict[str, object]) -> None:
    known = {"mean": [0.1, 0.2, 0.3]}
    usual = default_preprocessing(MODEL.model, {} if "mean" in steps else known)
    assert preprocessing_of(tmp_path, {"pretrained_cfg": known | steps}) == usual


@pytest.mark.parametrize("config", [[], {"pretrained_cfg": []}, {"pretrained_cfg": {}, "preprocessing": [1]}], ids=str)
def test_a_config_of_odd_parts_is_none(tmp_path: Path, config: object) -> None:
    assert preprocessing_of(tmp_path, config) == default_preprocessing(MODEL.model)


@pytest.mark.parametrize("steps", [*ODD_STEPS[:7], {"image": [10**9, 1]}, {"image": []}, {"in_chans": 0}], ids=str)
def test_odd_steps_in_the_metadata_of_a_file_are_refused(steps: dict[str, object]) -> None:
    info = ExportInfo("x", None, default_preprocessing(load_spec("t2t_vit_7").model))
    whole = json.loads(info.to_metadata()[KEY])
    assert parse_metadata(json.dumps(whole)) == info
    with pytest.raises(ValueError, match="damaged"):
        parse_metadata(json.dumps(whole | {"preprocessing": whole["preprocessing"] | steps}))
    with pytest.raises(ValueError, match="damaged"):
        parse_metadata("[1]")


def test_a_huge_json_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("1")
    assert files_module.read_json(tmp_path / "x.json") == 1
    os.truncate(tmp_path / "x.json", files_module.MAX_JSON + 1)
    with pytest.raises(ValueError, match="more than 100,000,000"):
        files_module.read_json(tmp_path / "x.json")


@pytest.mark.slow
def test_a_model_that_the_machine_has_no_memory_for_is_refused_before_it_is_built(
    stranger: Path, attack: Attack
) -> None:
    text = (stranger / "spec.yaml").read_text()
    (stranger / "spec.yaml").write_text(
        text.replace("embed_dim: 32", "embed_dim: 32768").replace("depth: 1", "depth: 60")
    )
    Image.new("RGB", (32, 32)).save(stranger / "a.png")
    for command in ("predict", "evaluate", "export"):
        more = {"predict": [stranger / "a.png"], "export": ["--out", stranger / "x.onnx"]}.get(command, [])
        assert "need" in attack.refuse(command, stranger, *more).text


SPECS = {
    "aliases of aliases": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)),
    "a line of a mebibyte": "version: 1\nmodel: " + "m" * 1_040_000,
    # As a file it is refused for its size, as text for its value.
    "a line of 2 MB": "version: 1\nmodel: " + "m" * 2_000_000,
    "a surrogate": 'version: 1\nmodel: "\\ud800"\n',
    "a NUL": "version: 1\nmodel: a\0b\n",
    "an escaped NUL": 'version: 1\nmodel: "a\\0b"\n',
    "an escaped escape": 'version: 1\nmodel: "\\e[2J"\n',
    "nesting": "[" * 10_000 + "]" * 10_000,
    "a Python object": "version: 1\nmodel: !!python/object/apply:os.system ['touch ran']\n",
    "a merge of itself": "a: &a\n  <<: *a\n",
    "a number of 100,000 digits": "version: 1\nmodel: {image_size: " + "9" * 100_000 + "}\n",
    "a year": "version: 1\nmodel: {image_size: 0000-00-00}\n",
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_made_to_harm_is_refused_with_few_lines(name: str, tmp_path: Path, attack: Attack) -> None:
    (tmp_path / "x.yaml").write_text(SPECS[name])
    with pytest.raises(SpecError):
        check_text(SPECS[name], Path("x.yaml"))
    ended = attack.refuse("validate", tmp_path / "x.yaml")
    assert len(ended.text) < 10_000
    assert not (Path.cwd() / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", "a\\b", "a\x00b", "x" * 300, "", "a\nb", "\x1b[2J"]
)
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    """Names of models and searches become names of folders."""
    with pytest.raises(SpecError):
        load_spec("t2t_vit_7", [f"model.name={json.dumps(name)}"])


def test_a_config_that_is_nested_too_deeply_has_no_classes(tmp_path: Path, stranger: Path) -> None:
    checkpoint = stranger / "checkpoints" / "step-000000001"
    (checkpoint / "config.json").write_text("[" * 100_000)
    manifest.write_manifest(checkpoint, ["model.safetensors", "config.json"])
    assert read_label_names(checkpoint) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
