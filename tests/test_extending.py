"""docs/extending.md, the example extensions, and what a new kind of token attention takes inside the package."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from documents import ROOT, code_blocks

from t2tbuild import build_model, load_spec, measure_cost, predict_cost
from t2tbuild.cli.check import check
from t2tbuild.contract.checks import CHECKS
from t2tbuild.cost.model import EVERY_LEVEL
from t2tbuild.modules.attention import softmax_attention
from t2tbuild.report.architecture import build_architecture
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.extension.registry import REGISTERED, unregister

PAGE = ROOT / "docs" / "extending.md"
EXAMPLES = ROOT / "examples" / "extensions"


@pytest.fixture(autouse=True)
def forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep consent in a temporary folder, and forget the extensions afterwards."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = set(REGISTERED)
    yield
    for one in [one for node, one in REGISTERED.items() if node not in before]:
        unregister(one)


def test_the_page_builds_the_example() -> None:
    """The Python blocks of the page are the statements of the example after its docstring, in order."""
    statements = ast.parse((EXAMPLES / "window_attention.py").read_text()).body[1:]
    assert ast.dump(ast.parse("\n".join(code_blocks(PAGE, "python")))) == ast.dump(ast.Module(statements, []))


def test_the_page_lists_every_check() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| [^|]+ \|$", PAGE.read_text(), re.M)
    assert [row for row in rows if row not in ("check", "consent")] == ["node", *CHECKS]


def test_the_spec_of_the_page_works(tmp_path: Path) -> None:
    (spec,) = code_blocks(PAGE, "yaml")
    (tmp_path / "my_attention.py").write_text("\n\n".join(code_blocks(PAGE, "python")))
    (tmp_path / "model.yaml").write_text(spec)
    model = load_spec(
        tmp_path / "model.yaml", ["model.image_size=64", "model.backbone.depth=1"], allow_extensions=True
    ).model
    assert isinstance(model, ModelSpec)
    assert predict_cost(model, EVERY_LEVEL) == measure_cost(build_model(model), depth=EVERY_LEVEL)
    assert "windows of 7 x 7 tokens" in build_architecture(model).boxes[1].detail


WINDOWS = {"kind": "window", "window": 5, "num_heads": 2}


def example_model(tmp_path: Path, *, size: tuple[int, int] = (40, 56), **backbone: object) -> ModelSpec:
    stages = [{"patch_size": 7, "overlap": 3, "token_dim": 8, "attention": WINDOWS}, {"patch_size": 3, "overlap": 1}]
    model = {
        "name": "own",
        "image_size": list(size),
        "num_classes": 3,
        "tokenizer": {"kind": "t2t", "stages": stages},
        "backbone": {"depth": 2, "embed_dim": 24, "num_heads": 3, "mlp_ratio": 2} | backbone,
    }
    data = {"version": 1, "extensions": [str(path) for path in sorted(EXAMPLES.glob("*.py"))], "model": model}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(data))
    found = load_spec(tmp_path / "own.yaml", allow_extensions=True).model
    assert isinstance(found, ModelSpec)
    return found


OPTIONS = [
    {},
    {"options": [{"kind": "re_attention"}]},
    {"options": [{"kind": "re_attention"}], "squeeze_excite": {"reduction": 4}, "qkv_bias": True},
    {"options": [{"kind": "layer_scale", "init": 0.5}, {"kind": "re_attention"}], "ghost": {"attention": False}},
    {"options": [{"kind": "layer_scale"}], "layer_scale": 0.1, "ghost": {}},
]


@pytest.mark.parametrize("backbone", OPTIONS)
@pytest.mark.parametrize("size", [(40, 56), (33, 72)])
def test_counts_of_the_examples_equal_fvcore(
    backbone: dict[str, object], size: tuple[int, int], tmp_path: Path
) -> None:
    """On grids that no window divides, and beside the options that ship."""
    model = example_model(tmp_path, size=size, **backbone)
    built = build_model(model)
    assert predict_cost(model, EVERY_LEVEL) == measure_cost(built, depth=EVERY_LEVEL)
    assert built(torch.randn(2, 3, *size)).shape == (2, 3)


def test_window_attention_by_its_formula(tmp_path: Path) -> None:
    """A window of the whole grid attends to all tokens; tokens of two windows do not see each other."""
    model = example_model(tmp_path)
    attention, split = (
        build_model(model).eval().tokens_to_token.get_submodule(n) for n in ("attention1", "soft_split0")
    )
    x = torch.randn(2, 3, 40, 56)  # 10 x 14 tokens: 2 x 3 windows of 5
    changed = x.clone()
    changed[:, :, :4, :4] += 1  # reaches the tokens of the first window only
    with torch.no_grad():
        moved = (attention(x, split) - attention(changed, split)).abs().sum(dim=2).unflatten(1, (10, 14)) > 0
        attention.window = 20  # one window; zeros complete it
        q, k, v = attention.qkv(attention.norm1(split(x))).chunk(3, dim=2)
        k, v_padded = (F.pad(one, (0, 0, 0, 400 - 140)) for one in (k, v))
        z = v + attention.proj(softmax_attention(q, k, v_padded, 2))
        torch.testing.assert_close(attention(x, split), z + attention.mlp(attention.norm2(z)))
    assert moved[:, 0, 0].all()
    assert not moved[:, 5:].any()
    assert not moved[:, :, 5:].any()


def test_re_attention_with_the_identity_is_attention(tmp_path: Path) -> None:
    """Without mixing and with a norm that does nothing, it is softmax attention."""
    option = {"options": [{"kind": "re_attention"}]}
    mixed = build_model(example_model(tmp_path, **option)).blocks[0].get_submodule("attn")
    plain = build_model(example_model(tmp_path)).blocks[0].get_submodule("attn")
    with torch.no_grad():
        mixed.theta.copy_(torch.eye(3))
        mixed.norm = torch.nn.Identity()
    plain.load_state_dict(mixed.state_dict(), strict=False)
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(mixed(x), plain(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["window_attention", "layer_scale_option", "re_attention"])
def test_the_command_passes_on_the_examples(name: str) -> None:
    with pytest.raises(Exception) as end:  # noqa: PT011 - typer.Exit
        check(str(EXAMPLES / f"{name}.py"))
    assert getattr(end.value, "exit_code", None) == 0


TOY: dict[str, list[tuple[str, str]]] = {
    "t2tbuild/spec/tokenizer.py": [
        (
            "TokenAttention = Annotated[\n    PerformerAttention | TransformerAttention,",
            '''class ToyAttention(ShorthandNode):
    """Every token reads the mean of all tokens."""

    model_config = KIND_REQUIRED

    kind: Literal["toy"] = "toy"
    """Mean of all tokens."""

    def describe(self, token_dim: int) -> str:
        """Describe the attention of a stage in the diagram."""
        return f"mean of {token_dim} channels"


TokenAttention = Annotated[
    PerformerAttention | TransformerAttention | ToyAttention,''',
        ),
        ('["performer", "transformer"]', '["performer", "transformer", "toy"]'),
    ],
    "t2tbuild/modules/toy.py": [
        (
            "",
            '''"""The toy attention."""

from torch import Tensor, nn

from t2tbuild.modules.soft_split import SoftSplit


class TokenToy(nn.Module):
    """v + proj(mean_n(v)) with v = value(x)."""

    def __init__(self, *, in_dim: int, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(in_dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BCHW: Tensor, soft_split: SoftSplit) -> Tensor:
        v_BNC = soft_split.project(x_BCHW, self.value)
        return v_BNC + self.proj(v_BNC.mean(dim=1, keepdim=True))
''',
        )
    ],
    "t2tbuild/build.py": [
        (
            "def _build_token_performer(",
            """def _build_token_toy(_node: spec_tokenizer.ToyAttention, in_dim: int, dim: int) -> nn.Module:
    return TokenToy(in_dim=in_dim, dim=dim)


def _build_token_performer(""",
        ),
        (
            "    PerformerAttention: _build_token_performer,",
            "    PerformerAttention: _build_token_performer,\n    spec_tokenizer.ToyAttention: _build_token_toy,",
        ),
        (
            "from t2tbuild.modules.vit import",
            "from t2tbuild.modules.toy import TokenToy\nfrom t2tbuild.modules.vit import",
        ),
    ],
    "t2tbuild/symbolic/token_attention.py": [
        (
            "TOKEN_ATTENTIONS: dict",
            '''def toy(f: Forward, tokens: Split, _node: ToyAttention, dim: int) -> Tensor:
    """Record the forward pass of `TokenToy`."""
    v = f.project("value", tokens, dim)
    return f.add(v, f.linear("proj", f.apply("mean", [v], (1, dim)), dim))


TOKEN_ATTENTIONS: dict''',
        ),
        ("    PerformerAttention: performer,", "    PerformerAttention: performer,\n    ToyAttention: toy,"),
        (
            "import PerformerAttention, TransformerAttention",
            "import PerformerAttention, ToyAttention, TransformerAttention",
        ),
    ],
    "tests/modules/test_toy.py": [
        (
            "",
            '''"""The toy attention works in the whole package."""

import timm
import torch

import t2tbuild.timm
from t2tbuild import build_model, load_spec, measure_cost, predict_accuracy, predict_cost, write_spec
from t2tbuild.cost.fit import Axis, fit
from t2tbuild.cost.memory import predict_memory
from t2tbuild.cost.model import EVERY_LEVEL
from t2tbuild.modules.attention import softmax_attention
from t2tbuild.report.architecture import build_architecture
from t2tbuild.spec.schema import json_schema

OVERRIDES = ["model.image_size=64", "model.tokenizer.stages.0.attention=toy"]


def test_toy(tmp_path) -> None:
    spec = load_spec("t2t_vit_7", OVERRIDES)
    model, built = spec.model, build_model(spec.model)
    assert type(built.tokens_to_token.attention1).__name__ == "TokenToy"
    assert predict_cost(model, EVERY_LEVEL) == measure_cost(built, depth=EVERY_LEVEL)
    assert predict_memory(model, 2).training > predict_memory(model, 1).training
    box = build_architecture(model).boxes[1]
    assert (box.title, box.detail) == ("token toy 1", "147 → 64 channels, mean of 64 channels")
    assert "ToyAttention" in json_schema("spec")["$defs"]
    write_spec(spec, tmp_path / "toy.yaml")
    assert load_spec(tmp_path / "toy.yaml").model == model
    assert timm.create_model("t2t_vit_spec", spec=model.model_dump())(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert predict_accuracy(model).top1 is None
''',
        )
    ],
}
"""What a new token attention takes: the text that is replaced in each file, or the content of a new file."""


@pytest.mark.slow
def test_a_token_attention_inside_the_package_changes_five_files(tmp_path: Path) -> None:
    """Node, module, builder, symbolic forward, test. The schema and docs/spec.md are generated from the node."""
    shutil.copytree(ROOT / "t2tbuild", tmp_path / "t2tbuild", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("specs", "search"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name, changes in TOY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        path.write_text(text)
    assert len(TOY) <= 5
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/modules/test_toy.py"]
    variables = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
