"""The symbolic forward by hand: names, shapes, costs, what is saved, and what is freed when."""

import pytest

from t2tbuild import load_spec, predict_cost
from t2tbuild.cost.peaks import inference_peak, saved_bytes
from t2tbuild.layout import Grid
from t2tbuild.spec import ModelSpec
from t2tbuild.symbolic.block import mlp
from t2tbuild.symbolic.forward import FULL, HALF, Forward, Operation, Split, Tensor, Value
from t2tbuild.symbolic.leaf import Leaf
from t2tbuild.symbolic.model import record
from tests.shipped import DISTINCT

N, C = 5, 8


def kinds(f: Forward) -> list[str]:
    return [step.kind if isinstance(step, Operation) else f"free {step.size}" for step in f.steps]


def test_a_layer_by_hand() -> None:
    f = Forward(batch_size=3)
    out = f.linear("fc", f.image(N, C), 4)
    (operation,) = f.steps
    assert isinstance(operation, Operation)
    assert (operation.kind, operation.name, operation.macs, operation.trained) == ("linear", "fc", N * C * 4, C * 4 + 4)
    assert (out.shape, out.value.size) == ((N, 4), 3 * N * 4 * FULL)
    assert list(operation.saved_for_backward) == list(operation.inputs)
    assert f.leaves == [Leaf("fc", N * C * 4, C * 4 + 4)]


def test_a_tensor_is_freed_when_python_drops_it() -> None:
    """An MLP holds its input, and drops each hidden layer once the next is there."""
    f = Forward()
    out = mlp(f, f.linear("in", f.image(N, C), C), 3 * C)
    hidden = 3 * N * C * FULL
    freed = [f"free {hidden}", f"free {hidden}", f"free {N * C * FULL}"]
    assert kinds(f) == ["linear", "linear", "gelu", freed[0], "linear", *freed[1:]]
    assert inference_peak(f.steps) == N * C * FULL + 2 * hidden
    assert out.shape == (N, C)


def test_the_image_is_never_freed() -> None:
    f = Forward()
    out = f.linear("fc", f.image(N, C), 4)
    del out
    assert kinds(f) == ["linear", f"free {N * 4 * FULL}"]


def test_views_share_a_storage() -> None:
    f = Forward()
    qkv = f.linear("qkv", f.image(N, C), 3 * C)
    q, k, v = f.chunk(qkv, 3)
    del qkv, q, k
    assert kinds(f) == ["linear", "view"]
    del v
    assert kinds(f)[-1] == f"free {3 * N * C * FULL}"


def test_own_parameters_and_products_follow_the_layers() -> None:
    def attend(f: Forward, x: Tensor) -> Tensor:
        f.parameter("w", 7, trained=False)
        return f.linear("proj", f.attention(x, x, x, 2), C)

    f = Forward()
    x = f.image(N, C)
    f.norm("norm2", f.module("attn", attend, f.norm("norm1", x)))
    assert [leaf.name for leaf in f.leaves] == ["norm1", "attn.proj", "attn.w", "attn.products", "norm2"]
    assert f.leaves[2:4] == [Leaf("attn.w", 0, 0, 7), Leaf("attn.products", 2 * N * N * C, 0)]


def test_autocast_casts_inputs_and_weights() -> None:
    f = Forward(width=HALF)
    out = f.linear("fc", f.image(N, C), 4)
    assert kinds(f) == ["cast", "cast", "linear", f"free {(4 * C + 4) * HALF}", f"free {N * C * HALF}"]
    assert out.width == HALF
    assert f.cast(out, HALF) is out


def test_training_draws_a_mask_where_inference_does_not() -> None:
    for training, expected in ((False, []), (True, ["mask", "dropout"])):
        f = Forward(training=training)
        x = f.image(N, C)
        assert (f.dropout(x, 0.1) is x) == (not training)
        assert [kind for kind in kinds(f) if not kind.startswith("free")] == expected
        assert f.dropout(x, 0) is x


def test_tokens_are_unfolded_a_few_images_at_a_time() -> None:
    """4 MiB of tokens at once in inference; in training, all."""
    images = 3
    for training, expected in ((False, ["project"]), (True, ["unfold", "norm", "linear"])):
        f = Forward(images, training=training)
        out = f.project("fc", Split(Grid(32, 32), 1024, f.image(64, 16)), 4, norm="norm")
        assert [step.kind for step in f.steps if isinstance(step, Operation)] == expected
        assert [leaf.name for leaf in f.leaves] == ["norm", "fc"]
        assert out.shape == (1024, 4)


@pytest.mark.parametrize("name", DISTINCT)
def test_the_operations_of_a_model_have_its_costs(name: str) -> None:
    """Multiply-adds of operations and leaves differ by the norms, which fvcore counts with 5 an element."""
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    f, cost = record(model, 1, training=False), predict_cost(model)
    operations = [step for step in f.steps if isinstance(step, Operation)]
    norms = sum(leaf.macs for leaf in f.leaves if "norm" in leaf.name)
    assert sum(leaf.macs for leaf in f.leaves) == cost.macs
    assert sum(one.macs for one in operations) == cost.macs - norms - _macs_of_last_norm(model)
    assert sum(leaf.trained for leaf in f.leaves) == cost.trainable_params
    assert sum(leaf.trained + leaf.frozen for leaf in f.leaves) == cost.params


def _macs_of_last_norm(model: ModelSpec) -> int:
    """Return the multiply-adds of the norm after the blocks, whose leaf has no name."""
    return 5 * model.tokens * model.backbone.out_dim


def test_every_tensor_of_a_model_is_freed_once() -> None:
    model = load_spec("t2t_vit_7").model
    assert isinstance(model, ModelSpec)
    freed = [id(step) for step in record(model, 1, training=False).steps if isinstance(step, Value)]
    assert len(freed) == len(set(freed))


def test_saved_tensors_are_counted_once() -> None:
    f = Forward()
    x = f.linear("a", f.image(N, C), C)
    f.add(f.linear("b", x, C), f.linear("c", x, C))
    assert saved_bytes(f.steps) == N * C * FULL
