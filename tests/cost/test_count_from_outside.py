"""docs/cost.md: the lines that give our count with plain fvcore, and the numbers that it states."""

import contextlib
import io

import pytest

from tests.documents import ROOT, code_blocks, read_page

PAGE = ROOT / "docs" / "cost.md"


@pytest.mark.slow
def test_the_recipe_gives_our_count() -> None:
    (recipe,) = (block for block in code_blocks(PAGE, "python") if "OP_HANDLES" in block)
    printed, names = io.StringIO(), dict[str, object]()
    with contextlib.redirect_stdout(printed):
        exec(recipe, names)
    plain, ours = map(int, printed.getvalue().split())
    assert f"print(plain, ours)  # {plain} {ours}\n" in recipe
    text = read_page(PAGE)
    assert f"fvcore alone counts {plain / 1e9:.2f}G MACs" in text
    assert f"`summarize` says {ours / 1e9:.2f}G" in text

    import timm

    import t2tbuild.timm

    spec = t2tbuild.load_spec("t2t_vit_14").model
    assert ours == t2tbuild.predict_cost(spec).macs
    of_timm = sum(one.numel() for one in timm.create_model("t2t_vit_14").parameters())
    assert f"is {t2tbuild.predict_cost(spec).params:,} for this model" in text
    assert f"it is {t2tbuild.predict_cost(spec).params - of_timm:,} less" in text
