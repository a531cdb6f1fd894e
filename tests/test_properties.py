"""Any valid spec builds, is counted, runs forward and backward, and survives YAML.

The default is a few specs, always the same. `T2TBUILD_FUZZ=2000 pytest tests/test_properties.py` tests more.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_specs import models

from t2tbuild import Spec, build_model, load_spec, measure_cost, predict_cost, write_spec
from t2tbuild.cost.model import EVERY_LEVEL, differences
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.extension import consent
from t2tbuild.spec.extension.load import load_file
from t2tbuild.spec.extension.registry import unregister

pytestmark = pytest.mark.slow

EXTENSIONS = Path(__file__).parent.parent / "examples" / "extensions"
EXAMPLES = int(os.environ.get("T2TBUILD_FUZZ", "60"))
reproducible = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@reproducible
@given(models(), st.integers(0, 2**31))
def test_builds_runs_and_every_trainable_parameter_gets_a_gradient(spec: ModelSpec, seed: int) -> None:
    torch.manual_seed(seed)
    model = build_model(spec).train()
    images = torch.randn(2, spec.in_chans, *spec.image)
    logits = model(images)
    assert logits.shape == (2, spec.num_classes)
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@reproducible
@given(models())
def test_closed_form_equals_fvcore_down_to_the_last_module(spec: ModelSpec) -> None:
    _require_fvcores_count(spec)


@pytest.fixture
def examples_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The extensions of examples/ are in the spec language."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    loaded = [load_file(path) for path in sorted(EXTENSIONS.glob("*.py")) if consent.record_own_file(path, "") == ""]
    assert len(loaded) == 3
    yield
    for one in (extension for file in loaded for extension in file.extensions):
        unregister(one)


@pytest.mark.usefixtures("examples_loaded")
@settings(
    reproducible,
    max_examples=max(20, EXAMPLES // 3),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(models(extensions=True))
def test_closed_form_equals_fvcore_with_extensions(spec: ModelSpec) -> None:
    _require_fvcores_count(spec)


def _require_fvcores_count(spec: ModelSpec) -> None:
    counted = measure_cost(build_model(spec), depth=EVERY_LEVEL)
    assert predict_cost(spec, EVERY_LEVEL) == counted
    assert differences(predict_cost(spec, EVERY_LEVEL), counted) == []


@settings(reproducible, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(models())
def test_yaml_round_trip(tmp_path: Path, spec: ModelSpec) -> None:
    write_spec(Spec(version=1, model=spec), tmp_path / "random.yaml")
    assert load_spec(tmp_path / "random.yaml").model == spec
