"""The architecture as boxes, as an SVG and as text: costs equal those of summarize, and no text overlaps."""

import io
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from rich.console import Console

from t2tbuild import load_spec, predict_cost
from t2tbuild.report.architecture import Architecture, Box, Join, build_architecture
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.report.diagram_layout import BAR, BAR_END, Drawing, layout_drawing
from t2tbuild.report.diagram_text import TextDiagram
from t2tbuild.report.svg_primitives import Rect, Text
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.units import short_count
from t2tbuild.symbolic.row import BoxKind
from tests.shipped import OURS

SVG = "{http://www.w3.org/2000/svg}"
SOFT = "patch_size: 3, overlap: 1, token_dim: 64"
SIX = (
    "{stages: [{patch_size: 7, overlap: 3, token_dim: 64, attention: performer}, "
    f"{{{SOFT}, attention: transformer}}, {{patch_size: 3, overlap: 2, token_dim: 48, attention: performer}}, "
    f"{{{SOFT}, attention: performer}}, {{{SOFT}, attention: transformer}}, {{patch_size: 2, overlap: 1}}]}}"
)
ODD = {
    "six stages and a list a block": [
        "t2t_vit_14",
        f"model.tokenizer={SIX}",
        "model.backbone={depth: 6, embed_dim: 384, num_heads: [4, 4, 6, 6, 8, 12], mlp_ratio: [1, 2, 3, 4, 3, 2.5]}",
    ],
    "wide image, two learned tokens, one block": [
        "t2t_vit_14_se",
        "model.image_size=[96, 1024]",
        "model.distillation_token=true",
        "model.backbone.depth=1",
    ],
    "column": ["t2t_vit_7", "model.image_size=[4096, 32]"],
    "dense ghost with heads that grow": [
        "t2t_vit_dense",
        "model.backbone={kind: dense, blocks: [2, 1, 3], growth_rate: 64, embed_dim: 128, head_dim: 32, ghost: {}, "
        "squeeze_excite: {}}",
    ],
    "patches of one pixel": ["vit_s16", "model.tokenizer.patch_size=1", "model.image_size=32"],
    "one large patch": ["vit_s16", "model.tokenizer.patch_size=224"],
    "large numbers, long name": [
        "t2t_vit_24",
        f"model.name={'WM' * 32}",
        "model.image_size=4096",
        "model.backbone.depth=1000",
        "model.num_classes=1000000",
        "model.tokenizer.stages.1.attention=performer",
    ],
}


def model(name: str, *overrides: str) -> ModelSpec:
    found = load_spec(name, overrides).model
    assert isinstance(found, ModelSpec)
    return found


@pytest.fixture(params=[*OURS, *ODD])
def case(request: pytest.FixtureRequest) -> tuple[ModelSpec, Architecture]:
    found = model(*ODD.get(request.param, [request.param]))
    return found, build_architecture(found)


def costs(boxes: list[Box]) -> tuple[int, int]:
    return sum(box.params for box in boxes), sum(box.macs for box in boxes)


def test_figures_are_those_of_summarize(case: tuple[ModelSpec, Architecture]) -> None:
    spec, found = case
    cost = predict_cost(spec)
    shown = [(box.title, box.grid, box.tokens, box.channels, box.params, box.macs) for box in found.boxes]
    rows = [(*part[:4], part.params, part.macs) for part in cost.parts]
    assert shown == [(name.partition(" (")[0], *figures) for name, *figures in rows]
    assert (found.params, found.trainable_params, found.macs) == (cost.params, cost.trainable_params, cost.macs)
    assert sum(box.share for box in found.boxes) == pytest.approx(1)


def test_grids_and_channels_are_the_specs_own(case: tuple[ModelSpec, Architecture]) -> None:
    spec, found = case
    split = [box for box in found.boxes if box.window]
    assert tuple(box.grid for box in split) == spec.grids
    assert [box.window for box in split] == list(spec.tokenizer.windows)
    blocks = [box for box in found.boxes if box.kind is BoxKind.BLOCKS]
    assert {box.tokens for box in blocks} == {spec.tokens}
    assert blocks[-1].channels == spec.backbone.out_dim
    assert found.image == spec.image


def test_the_modules_of_the_blocks_add_up_to_the_blocks(case: tuple[ModelSpec, Architecture]) -> None:
    _, found = case
    inside = [box for branch in found.inside for box in branch.boxes]
    assert costs(inside) == costs([box for box in found.boxes if box.kind is BoxKind.BLOCKS])


def test_options_are_described() -> None:
    options = model(*ODD["dense ghost with heads that grow"])
    attention, mlp, dense = build_architecture(options).inside
    assert [box.title for box in attention.boxes] == ["norm", "attention", "squeeze-excite"]
    assert attention.boxes[1].detail == "3 to 7 heads of 32, ghost"
    assert attention.boxes[1].profile == (4, 6, 4, 3, 5, 7)
    assert mlp.boxes[1].detail == "ratio 4, ghost"
    assert dense.join is Join.CONCATENATE
    distilled = build_architecture(model("t2t_vit_7", "model.distillation_token=true"))
    assert [box.detail for box in distilled.boxes if box.kind is BoxKind.HEAD] == [
        "256 → 1,000 classes, from the class token",
        "256 → 1,000 classes, from the distillation token",
    ]
    lists = build_architecture(model("t2t_vit_7", "model.backbone.num_heads=[2, 2, 2, 4, 4, 8, 8]"))
    attention, _ = lists.inside
    assert attention.boxes[1].detail == "2 to 8 heads"
    assert attention.boxes[1].profile == (2, 2, 2, 4, 4, 8, 8)
    assert any("2 to 8 heads; block by block: 2 2 2 4 4 8 8" in line for line in printed(lists, 60))


def texts(drawing: Drawing) -> list[Text]:
    return [shape for group in drawing.groups for shape in group.shapes if isinstance(shape, Text)]


def test_no_text_is_outside_or_on_another(case: tuple[ModelSpec, Architecture]) -> None:
    drawing = layout_drawing(case[1])
    for text in texts(drawing):
        assert text.left >= 8 and text.right <= drawing.width - 8, text
        assert text.y - text.size >= 8 and text.y + 0.25 * text.size <= drawing.height - 8, text
    for one, other in combinations(texts(drawing), 2):
        if abs(one.y - other.y) < 0.9 * max(one.size, other.size):
            assert one.right <= other.left or other.right <= one.left, (one, other)


def test_boxes_lie_beside_each_other_and_hold_their_texts(case: tuple[ModelSpec, Architecture]) -> None:
    drawing = layout_drawing(case[1])
    boxes = []
    for group in drawing.groups:
        found = [shape for shape in group.shapes if isinstance(shape, Rect) and shape.css_class.startswith("box")]
        boxes += found
        for box in found:
            inside = [shape for shape in group.shapes if isinstance(shape, Text) and shape.x < box.x + box.width]
            assert inside
            assert all(box.x < text.left and text.right < box.x + box.width for text in inside)
            assert all(box.y < text.y - 0.7 * text.size and text.y < box.y + box.height for text in inside)
    assert len(boxes) == 1 + len(case[1].boxes) + sum(len(branch.boxes) for branch in case[1].inside)
    for above, below in pairwise(boxes):
        assert above.y + above.height < below.y


def test_bars_are_as_long_as_the_shares_of_macs() -> None:
    found = build_architecture(model("t2t_vit_14"))
    shapes = [shape for group in layout_drawing(found).groups for shape in group.shapes if isinstance(shape, Rect)]
    lengths = [shape.width / (BAR_END - BAR) for shape in shapes if shape.css_class == "bar attention"]
    assert lengths == [pytest.approx(share) for share in (156_144_576 / 4_800_254_784, 105_294_336 / 4_800_254_784)] + [
        pytest.approx(0.4258, abs=1e-4)
    ]


def test_the_svg_is_valid_and_has_every_number(case: tuple[ModelSpec, Architecture]) -> None:
    spec, found = case
    text = diagram_svg(spec)
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.findtext(f"{SVG}title") == f"Architecture of {spec.name}"
    message = root.findtext(f"{SVG}desc") or ""
    assert all(f"{box.params:,} parameters, {box.macs:,} MACs" in message for box in found.boxes)
    shown = [element.text for element in root.iter(f"{SVG}text")]
    wanted = [short_count(count) for box in found.boxes for count in (box.params, box.macs) if count]
    assert set(wanted) <= set(shown)
    assert short_count(spec_macs(spec)) in shown
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 100_000


def spec_macs(spec: ModelSpec) -> int:
    return predict_cost(spec).macs


def printed(found: Architecture, width: int, encoding: str = "utf-8") -> list[str]:
    stream = io.BytesIO()
    file = io.TextIOWrapper(stream, encoding=encoding)
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(TextDiagram(found))
    file.flush()
    return stream.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_every_number(case: tuple[ModelSpec, Architecture], width: int) -> None:
    _, found = case
    lines = printed(found, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for box in [*found.boxes, *(box for branch in found.inside for box in branch.boxes)]:
        assert {short_count(count) for count in (box.params, box.macs) if count} | {f"{box.share:.1%}"} <= set(words)
    assert lines[-1].split()[:3] == ["total", short_count(found.params), short_count(found.macs)]


def test_a_terminal_without_unicode_gets_ascii() -> None:
    found = build_architecture(model("t2t_vit_14"))
    lines = printed(found, 80, "ascii")
    assert "* soft split 1  ====###====" in "\n".join(lines)
    assert len(lines) == len(printed(found, 80))
