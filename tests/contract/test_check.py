"""`t2tbuild check`: a correct extension passes, and a broken one fails the check that is about it, in plain words."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import run_t2tbuild

from t2tbuild.contract.checks import CHECKS, Report, Status, check_extension
from t2tbuild.errors import InputError
from t2tbuild.spec.extension import consent
from t2tbuild.spec.extension.load import load_file
from t2tbuild.spec.extension.registry import unregister

EXAMPLES = Path(__file__).parents[2] / "examples" / "extensions"

SOURCE = """
import random
from typing import Literal
import torch
from torch import nn
from t2tbuild import extension

class Pool(extension.Node):
    kind: Literal["pool"] = "pool"
    ratio: int = 2

class PoolModule(nn.Module):
    def __init__(self, in_dim, dim):
        super().__init__()
        self.value = nn.Linear(in_dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x, soft_split):
        v = soft_split.project(x, self.value)
        mean = v.mean(dim=1, keepdim=True)
        return v + self.proj(mean) * self.gain

def build(node, in_dim, dim):
    return PoolModule(in_dim, dim)

def forward(f, split, node, dim):
    v = f.project("value", split, dim)
    f.parameter("gain", dim)
    return f.add(v, f.linear("proj", f.apply("mean", [v], (1, dim)), dim))

EXTENSIONS = [extension.TokenAttention(node=Pool, build=build, forward=forward)]
"""
"""A correct extension: every token reads the mean of all tokens."""

OPTION = """
from typing import Literal
from torch import nn
from t2tbuild import extension
from t2tbuild.build import BlockModules

class Own(extension.Node):
    kind: Literal["own"] = "own"

def build(node):
    return BlockModules(mlp=lambda dim, hidden_dim: nn.Linear(dim, dim))

def mlp(f, x, shape):
    return f.linear("", x, x.shape[1])

def forward(node):
    return extension.BlockHooks(mlp=mlp)

EXTENSIONS = [extension.BlockOption(node=Own, build=build, forward=forward)]
"""

Check = Callable[..., Report]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """Check the source of an extension, after an edit, by the named checks or all."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    loaded = []

    def run_checks(source: str, old: str = "", new: str = "", *names: str) -> Report:
        assert old in source
        path = tmp_path / "pool.py"
        path.write_text(source.replace(old, new) if old else source)
        with consent.granting(True):
            found = load_file(path)
        loaded.extend(found.extensions)
        (one,) = found.extensions
        return check_extension(one, path, {name: CHECKS[name] for name in names} if names else None)

    yield run_checks
    for one in loaded:
        unregister(one)


def only_failure(report: Report) -> tuple[str, str]:
    (finding,) = [one for one in report.findings if one.status is Status.FAILED]
    return finding.check, finding.message


@pytest.mark.slow
def test_a_correct_extension_passes_every_check(check: Check) -> None:
    report = check(SOURCE)
    assert [(one.check, one.status) for one in report.findings] == [(name, Status.OK) for name in ("node", *CHECKS)]
    assert (report.kind, report.what, report.node) == ("pool", "token attention", "Pool")


PLAIN = [name for name in CHECKS if name != "export"]

BROKEN = [
    ("no default", "ratio: int = 2", "ratio: int", PLAIN, "node", "Field(examples=[7])"),
    ("an error", "self.proj = nn.Linear(dim, dim)", "self.proj = nn.Linear(dim, None)", PLAIN, "builds",
        "pool.py, line 16"),
    ("random weights", "torch.ones(dim)", "torch.full((dim,), random.random())", PLAIN, "builds", "gain differs"),
    ("wrong width", "return v + self", "return torch.cat((v, v), 2) + 0 * self", PLAIN, "shapes",
        "pool.py, line 22: RuntimeError: The size of tensor a (96) must match"),
    ("wrong tokens", "return v + self", "return v[:, 1:] + self", PLAIN, "shapes",
        "tokens_to_token.attention1 returns shape [2, 251, 48], expected [2, 252, 48]"),
    ("not finite", "* self.gain", "* self.gain / 0", PLAIN, "shapes", "not finite"),
    ("wrong symbolic shape", "return f.add(", "return f.cat(v, ", PLAIN[:3], "symbolic shapes",
        "returns 252 tokens of 144 channels, the module 252 of 48"),
    ("no gradient", "self.proj(mean)", "self.proj(mean).detach()", PLAIN, "gradients",
        "tokens_to_token.attention1.proj.weight gets no gradient"),
    ("a gradient of zero", "* self.gain", "+ 0 * self.gain", PLAIN, "gradients", "gain is zero everywhere"),
    ("random output", "v = soft_split.project(x, self.value)", "v = torch.rand(()) + soft_split.project(x, self.value)",
        PLAIN, "deterministic", "two evaluations of the same images differ"),
    ("random training", "v = soft_split.project(x, self.value)",
        "v = self.training * random.random() + soft_split.project(x, self.value)", PLAIN, "deterministic",
        "two training passes with the same seed differ"),
    ("mixed images", "v.mean(dim=1, keepdim=True)", "v.mean(dim=(0, 1), keepdim=True)", PLAIN, "batch independence",
        "the module mixes images"),
    ("a wrong count", "(1, dim)), dim)", "(2, dim)), dim)", PLAIN, "counts",
        "token pool 1 > proj: the closed form gives 4,608 MACs"),
    ("a missing parameter", 'f.parameter("gain", dim)', "pass", PLAIN, "counts",
        "the closed form gives no such row; fvcore counts 0 MACs"),
    ("an unknown operator", "self.proj(mean)", "self.proj(torch.fft.fft(mean).real)", PLAIN, "counts", "fft"),
    ("no graph", "return v + self", "v = -v if v.sum() > 0 else v\n        return v + self", ["export"], "export",
        "torch.export fails"),
    ("a tensor on the CPU", "torch.ones(dim)", 'torch.ones(dim, device="cpu")', PLAIN, "meta device",
        "tokens_to_token.attention1.gain is on cpu"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "names", "expected", "words"), [pytest.param(*row[1:], id=row[0]) for row in BROKEN]
)
def test_a_broken_token_attention_fails_its_check(
    check: Check, old: str, new: str, names: list[str], expected: str, words: str
) -> None:
    name, message = only_failure(check(SOURCE, old, new, *names))
    assert name == expected
    assert words in message


def test_what_follows_a_failure_to_build_is_skipped(check: Check) -> None:
    report = check(SOURCE, "nn.Linear(dim, dim)", "nn.Linear(dim, None)")
    assert {one.status for one in report.findings[2:]} == {Status.SKIPPED}
    assert report.failed == 1


def test_without_a_symbolic_forward_the_counts_are_skipped_with_a_reason(check: Check) -> None:
    report = check(SOURCE, ", forward=forward", "", "builds", "shapes", "symbolic shapes", "counts")
    skipped = {one.check: one.message for one in report.findings if one.status is Status.SKIPPED}
    assert skipped.keys() == {"symbolic shapes", "counts"}
    assert "budgets are checked only after building" in skipped["counts"]
    assert report.failed == 0


def test_a_block_option_must_say_what_it_replaces(check: Check) -> None:
    name, message = only_failure(check(OPTION, "", "", *PLAIN))
    assert name == "builds"
    assert 'replaces: ClassVar = ("mlp",)' in message


def test_a_hook_of_a_block_option_keeps_the_shape(check: Check) -> None:
    replaced = OPTION.replace("kind: Lit", 'replaces = ("mlp",)\n    kind: Lit').replace(
        "replaces =", "replaces: ClassVar ="
    )
    replaced = replaced.replace("import Literal", "import ClassVar, Literal")
    assert check(replaced, "", "", "shapes", "symbolic shapes", "counts").failed == 0
    broken = replaced.replace("x.shape[1])", "2 * x.shape[1])")
    name, message = only_failure(check(broken, "", "", "symbolic shapes"))
    assert (name, "mlp of the symbolic forward returns" in message) == ("symbolic shapes", True)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["window_attention", "layer_scale_option", "re_attention"])
@pytest.mark.slow
def test_the_examples_pass(name: str, check: Check) -> None:
    report = check((EXAMPLES / f"{name}.py").read_text())
    assert {one.status for one in report.findings} == {Status.OK}
    assert len(report.findings) == 1 + len(CHECKS)


def test_the_command(tmp_path: Path) -> None:
    """Exit code 1 on a failed check, 2 on a user's error; the file is allowed afterwards."""
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    path = tmp_path / "pool.py"
    path.write_text("print('noise')\n" + SOURCE.replace("return v + self", "return v[:, 1:] + self"))
    done = run_t2tbuild("check", "pool.py", "--json", cwd=tmp_path, **environment)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert [one["check"] for one in found["extensions"][0]["checks"] if one["status"] == "failed"] == ["shapes"]
    allowed = json.loads((tmp_path / "state" / "t2tbuild" / "extensions.json").read_text())
    assert str(path.resolve()) in json.dumps(allowed)

    text = run_t2tbuild("check", "pool.py", cwd=tmp_path, **environment)
    assert "FAILED  shapes: tokens_to_token.attention1 returns shape" in text.stdout
    assert "pool.py: 1 check failed" in text.stdout


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.py", None, "no file 'none.py'"),
        ("empty.py", "", "has no EXTENSIONS"),
        ("broken.py", "x = 1\n1 / 0\n", "broken.py, line 2: ZeroDivisionError"),
        ("model.yaml", "version: 1\n", "an extension is a Python file"),
        ("https://example.org/a.py", None, "is a URL"),
    ],
)
def test_an_error_of_the_user_exits_with_2(
    name: str, content: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t2tbuild.cli.check import check as command

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        command(name)
    assert words in str(error.value)
    assert error.value.exit_code == 2


TOKENIZER_AND_BACKBONE = """
from typing import Literal
from pydantic import Field
from torch import nn
from t2tbuild import extension
from t2tbuild.modules.tokenizers import Tokenizer

class Squares(extension.TokenizerNode):
    kind: Literal["squares"] = "squares"
    side: int = Field(default=8, ge=2, le=64, examples=[4])

    @property
    def windows(self):
        return (extension.Window(patch_size=self.side),)

    @property
    def summary(self):
        return f"squares of {self.side}"

class SquaresModule(Tokenizer):
    def __init__(self, side, in_chans, embed_dim):
        super().__init__([(side, side, 0)])
        self.project = nn.Conv2d(in_chans, embed_dim, side, side)

    def forward(self, x):
        return self.project(x).flatten(2).transpose(1, 2)

def squares(node, image, in_chans, embed_dim):
    grid = node.windows[0].grid(image)
    modules = ("tokens_to_token.project",)
    yield extension.Row(f"squares of {node.side}", modules, extension.BoxKind.LINEAR, "one convolution", grid)
    yield convolution, grid.tokens, node.side, embed_dim

def convolution(f, x, tokens, kernel, dim):
    return f.convolution("", x, tokens, kernel, dim)

class Mixer(extension.BackboneNode):
    kind: Literal["mixer"] = "mixer"
    depth: int = Field(ge=1, le=64, examples=[2, 3])
    embed_dim: int = Field(ge=8, le=4096, examples=[16])

    @property
    def widths(self):
        return (self.embed_dim,) * self.depth

    @property
    def unique_widths(self):
        return (self.embed_dim,)

    @property
    def num_blocks(self):
        return self.depth

    @property
    def out_dim(self):
        return self.embed_dim

class MixerBlock(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.mean = nn.Linear(dim, dim)

    def forward(self, x):
        y = self.norm(x)
        return x + self.mean(y.mean(dim=1, keepdim=True)) + self.down(self.up(y).relu())

def build_backbone(node):
    return [MixerBlock(node.embed_dim, hidden) for hidden in node.mlp_dims], list(node.widths)

def mixer(node):
    names = tuple(f"blocks.{index}" for index in range(node.depth))
    yield extension.Row(f"mixer blocks x {node.depth}", names, extension.BoxKind.BLOCKS, "mean of tokens, MLP")
    for hidden in node.mlp_dims:
        yield mixer_block, hidden

def mixer_block(f, x, hidden):
    y = f.norm("norm", x)
    up = f.apply("relu", [f.linear("up", y, hidden)], saves_output=True)
    down = f.linear("down", up, x.shape[1])
    mean = f.linear("mean", f.apply("mean", [y], (1, x.shape[1])), x.shape[1])
    return f.add(f.add(x, mean), down)

def build_squares(node, in_chans, embed_dim):
    return SquaresModule(node.side, in_chans, embed_dim)

TOKENIZER = extension.Tokenizer(node=Squares, build=build_squares, forward=squares)
BACKBONE = extension.Backbone(node=Mixer, build=build_backbone, forward=mixer)
EXTENSIONS = [TOKENIZER]
"""


@pytest.mark.parametrize("name", ["TOKENIZER", "BACKBONE"])
@pytest.mark.slow
def test_a_tokenizer_and_a_backbone_pass_every_check(name: str, check: Check) -> None:
    report = check(TOKENIZER_AND_BACKBONE, "[TOKENIZER]", f"[{name}]")
    assert [one for one in report.findings if one.status is not Status.OK] == []
