"""Hypothesis strategies for random specs of the whole language. Each model builds and runs in milliseconds."""

import math
from typing import Any

from hypothesis import strategies as st
from pydantic import ValidationError

from t2tbuild.spec import ModelSpec


@st.composite
def stages(draw: st.DrawFn, *, attention: bool, extensions: bool) -> list[dict[str, Any]]:
    """Draw one to six stages with any valid patch size, overlap and padding. The total stride is at most 24."""
    count = draw(st.integers(1, 6))
    found, stride_left = [], 24
    for index in range(count):
        patch = draw(st.integers(1, 7))
        stride = draw(st.integers(1, min(patch, stride_left)))
        stride_left //= stride
        stage: dict[str, Any] = {"patch_size": patch, "overlap": patch - stride}
        default = math.ceil(stage["overlap"] / 2)
        padding = draw(st.one_of(st.none() if default < patch else st.nothing(), st.integers(0, patch - 1)))
        if padding is not None:
            stage["padding"] = padding
        if index < count - 1:
            stage["token_dim"] = draw(st.integers(2, 12))
        if index < count - 1 and attention:
            short = st.sampled_from(["performer", "transformer"])
            ratio = st.sampled_from([0.5, 0.7, 1, 2.3])
            dropout = st.sampled_from([0, 0.1, 0.3])
            detailed = st.builds(lambda m, p: {"kind": "performer", "kernel_ratio": m, "dropout": p}, ratio, dropout)
            heads = [number for number in (1, 2, 3) if stage["token_dim"] % number == 0]
            windows = st.builds(
                lambda side, number: {"kind": "window", "window": side, "num_heads": number},
                st.integers(1, 6),
                st.sampled_from(heads),
            )
            stage["attention"] = draw(st.one_of(short, detailed, *[windows, windows] * extensions))
        found.append(stage)
    return found


@st.composite
def tokenizers(draw: st.DrawFn, *, extensions: bool) -> dict[str, Any]:
    """Draw any tokenizer. The default kind is t2t."""
    kind = draw(st.sampled_from(["t2t", None, "conv", "patch"]))
    if kind == "patch":
        return {"kind": kind, "patch_size": draw(st.integers(1, 9))}
    fields = {"kind": kind} if kind else {}
    return fields | {"stages": draw(stages(attention=kind != "conv", extensions=extensions))}


@st.composite
def backbones(draw: st.DrawFn, *, extensions: bool) -> dict[str, Any]:
    """Draw any backbone with any options. Widths are multiples of the heads, and even for ghost attention."""
    odd = draw(st.booleans())  # any width, with a single head
    heads = 1 if odd else draw(st.integers(1, 3))
    groups = draw(st.one_of(st.none(), st.lists(st.integers(1, 2), min_size=1, max_size=4)))
    depth = draw(st.integers(1, 3)) if groups is None else sum(groups)
    unit = 1 if odd else 2 * heads * (1 if groups is None else 16)  # transitions halve the width
    least = 8 if odd else 1
    shape: dict[str, Any] = {"embed_dim": unit * draw(st.integers(least, 3 * least))}
    if groups is None:
        shape |= {"depth": depth}
    else:
        shape |= {"kind": "dense", "blocks": groups, "growth_rate": unit * draw(st.integers(least, 2 * least))}
    ghost = draw(st.sampled_from([None, {"attention": False}, *([] if odd else [{}, {"mlp": False}])]))
    ratio = st.sampled_from([1, 2, 3] if ghost is not None and ghost.get("mlp", True) else [0.7, 1, 1.5, 2, 2.3, 3])
    squeeze = st.one_of(st.none(), st.integers(1, 2).map(lambda reduction: {"reduction": reduction}))
    several = st.lists(st.sampled_from([1, heads] if odd else [1, 2 * heads, heads]), min_size=depth, max_size=depth)
    mixed = [{"kind": "re_attention"}] * (ghost is None or not ghost.get("attention", True))
    own = st.lists(st.sampled_from([{"kind": "layer_scale", "init": 0.5}, *mixed]), unique_by=lambda one: one["kind"])
    by_number = st.one_of(st.just(heads), several).map(lambda number: {"num_heads": number})
    by_width = st.sampled_from([1] if odd else [1, 2]).map(lambda channels: {"head_dim": channels})
    return (
        shape
        | draw(st.one_of(by_number, by_width))
        | {
            "mlp_ratio": draw(st.one_of(ratio, st.lists(ratio, min_size=depth, max_size=depth))),
            "qkv_bias": draw(st.booleans()),
            "position": draw(st.sampled_from(["sinusoid", "learned"])),
            "drop_path": draw(st.sampled_from([0, 0.2])),
            "squeeze_excite": draw(squeeze),
            "ghost": ghost,
            "layer_scale": draw(st.sampled_from([None, None, 1e-5, 1])),
        }
        | ({"options": draw(own)} if extensions else {})
    )


@st.composite
def models(draw: st.DrawFn, *, extensions: bool = False) -> ModelSpec:
    """Draw any small valid model, with square or rectangular images. Images grow until every stage has a token.

    With `extensions`, it may have those of examples/extensions, which must be loaded.
    """
    data = {
        "name": "random",
        "image_size": [draw(st.integers(1, 28)), draw(st.integers(1, 28))],
        "in_chans": draw(st.integers(1, 5)),
        "num_classes": draw(st.integers(1, 5)),
        "tokenizer": draw(tokenizers(extensions=extensions)),
        "backbone": draw(backbones(extensions=extensions)),
        "distillation_token": draw(st.booleans()),
    }
    while True:
        try:
            return ModelSpec.model_validate(data)
        except ValidationError as error:
            if "leaves no token" not in str(error):
                raise
            data["image_size"] = [side * 2 for side in data["image_size"]]
