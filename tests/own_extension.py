"""An extension in a temporary folder, a spec that uses it, and a user who has allowed nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from t2tbuild import extension, load_spec
from t2tbuild.errors import SpecError
from t2tbuild.spec.extension import consent
from t2tbuild.spec.extension import load as loading
from t2tbuild.spec.extension.registry import REGISTERED
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

    def describe(self, token_dim):
        return f"mean of {{token_dim}} channels"


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


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user who has allowed nothing yet, and a process that has loaded nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(consent.ALLOW_VARIABLE, raising=False)
    forget_kinds()
    yield
    forget_kinds()


def write_extension(folder: Path, name: str = "mine.py", first: str = "", forward: bool = True) -> Path:
    """Write an extension and a spec that names it; return the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(MEAN.format(first=first, forward=", forward=forward" if forward else ""))
    (folder / "spec.yaml").write_text(SPEC.format(name=name))
    return folder / "spec.yaml"


def hostile_extension(folder: Path, name: str = "mine.py") -> Path:
    """Write an extension that creates the file `marker` in its folder when it is imported; return the marker's path."""
    write_extension(folder, name, first=f"open({str(folder / 'marker')!r}, 'w').close()")
    return folder / "marker"


def error_of(spec: Path, **options: bool) -> str:
    """Return the error of loading a spec."""
    with pytest.raises(SpecError) as caught:
        load_spec(spec, **options)
    return str(caught.value)


def run_command(*arguments: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run t2tbuild in a process."""
    return run_t2tbuild(*map(str, arguments), OMP_NUM_THREADS="1", **variables)


def forget_loaded() -> None:
    """Forget what this process has imported, as a new process would."""
    loading._loaded.clear()
    loading._by_path.clear()
    consent._used.clear()


def forget_kinds() -> None:
    """Forget the kinds of all extensions too."""
    for one in list(REGISTERED.values()):
        extension.unregister(one)
    forget_loaded()


def allow_own_file(path: Path) -> None:
    """Allow a file as `t2tbuild check` does."""
    assert consent.record_own_file(path, loading.read_file(path)[1]) == ""


def allowed() -> consent.AllowedList:
    """Return the list of consents."""
    return consent.read_list()
