"""Invalid specs, and the place, rule and value of each mistake in them.

Each is a valid spec with some pieces replaced, or a whole text. `test_bad_inputs.py` checks all of them, and those
in `bad_sections.py`, `bad_searches.py` and `bad_trainings.py`. Its snapshot file has the exact messages and hints.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Mistake(NamedTuple):
    """A mistake. Line and column count from 1; 0 means the whole file. `value` is part of its message."""

    line: int
    column: int
    rule: str
    value: str = ""


@dataclass(frozen=True)
class Bad:
    """An input and its first mistake. `more` holds the others in the order of the file; there are no further ones."""

    name: str
    text: str | bytes
    line: int
    column: int
    rule: str
    value: str = ""
    kind: Literal["spec", "train", "search"] = "spec"
    more: tuple[Mistake, ...] = ()

    @property
    def mistakes(self) -> list[Mistake]:
        return [Mistake(self.line, self.column, self.rule, self.value), *self.more]

    @property
    def raw(self) -> bytes:
        return self.text if isinstance(self.text, bytes) else self.text.encode()

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def edit(good: str, *pieces: str) -> str:
    """Replace pieces of `good`, given as pairs of old and new: the first occurrence of each."""
    for old, new in zip(pieces[::2], pieces[1::2], strict=True):
        assert old in good, f"{old!r} is not in the spec"
        good = good.replace(old, new, 1)
    return good


NAME = "  name: mine\n"

STAGES = """\
      - {patch_size: 7, overlap: 3, token_dim: 64, attention: performer}
      - {patch_size: 3, overlap: 1, token_dim: 64, attention: performer}
      - {patch_size: 3, overlap: 1}
"""

BLOCKS = """\
    depth: 14
    embed_dim: 384
    num_heads: 6
    mlp_ratio: 3
"""

GOOD = f"""\
version: 1
model:
  name: mine
  tokenizer:
    kind: t2t
    stages:
{STAGES}  backbone:
{BLOCKS}"""

CONV = """\
version: 1
model:
  name: mine
  tokenizer:
    kind: conv
    stages:
      - {patch_size: 16}
  backbone: {depth: 12, embed_dim: 192, num_heads: 3}
"""

VIT = """\
version: 1
model:
  name: mine
  tokenizer: {kind: patch, patch_size: 16}
  backbone: {depth: 12, embed_dim: 192, num_heads: 3}
"""

DENSE = """\
version: 1
model:
  name: mine
  tokenizer: {kind: patch, patch_size: 16}
  backbone:
    kind: dense
    blocks: [3, 6, 6, 4]
    growth_rate: 64
    embed_dim: 128
    num_heads: 8
"""

GOOD_TRAIN = """\
version: 1
model: t2t_vit_7
train:
  data: {kind: digits, image_size: 64}
  epochs: 300
  warmup_epochs: 10
  lr: 5e-4
  min_lr: 1e-5
"""

SPACE = """\
    backbone.embed_dim: {low: 256, high: 512, step: 64}
    backbone.mlp_ratio: {choices: [2, 3, 4]}
    backbone.depth: {fill: [0.7, 1.0]}
"""

GOOD_SEARCH = f"""\
version: 1
search:
  name: mine
  base: t2t_vit_14
  budget: {{macs: 5G}}
  space:
{SPACE}  proxy: {{rungs: [40, 120, 280]}}
  trials: 12
  timeout: 5m
"""

# Nested aliases: each list holds the one above ten times.
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)

# One or two lines for each input are easier to read than the formatter's nine.
# fmt: off
BAD_INPUTS = (
    # Keys
    Bad("unknown key, near", edit(GOOD, "depth: 14", "dpeth: 14"), 11, 5, "unknown-key", "'dpeth'"),
    Bad("unknown key, not near", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    colour: red"),
        15, 5, "unknown-key", "'colour'"),
    Bad("unknown key, hyphen for underscore", edit(GOOD, "embed_dim: 384", "embed-dim: 384"),
        12, 5, "unknown-key", "'embed-dim'"),
    Bad("unknown key in a stage", edit(GOOD, "overlap: 3,", "overlap: 3, stride: 4,"),
        7, 37, "unknown-key", "'stride'"),
    Bad("key of another place", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    image_size: 224"),
        15, 5, "unknown-key", "'image_size'"),
    Bad("key of another kind of backbone", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    growth_rate: 64"),
        15, 5, "unknown-key", "'growth_rate'"),
    Bad("key of another kind of tokenizer", edit(GOOD, "    kind: t2t\n", "    kind: t2t\n    patch_size: 16\n"),
        6, 5, "unknown-key", "'patch_size'"),
    Bad("kind left out, keys of another", edit(VIT, "kind: patch, ", ""), 4, 3, "missing-key", "'stages'", more=(
        Mistake(4, 15, "unknown-key", "'patch_size'"),
        )),
    Bad("key of a t2t stage in a conv stage", edit(GOOD, "kind: t2t", "kind: conv"),
        7, 52, "unknown-key", "'attention'", more=(
        Mistake(8, 52, "unknown-key", "'attention'"),
        )),
    Bad("missing key", edit(GOOD, "    depth: 14\n", ""), 10, 3, "missing-key", "'depth'"),
    Bad("missing version", edit(GOOD, "version: 1\n", ""), 1, 1, "missing-key", "'version'"),
    Bad("missing section", edit(GOOD, "  backbone:\n" + BLOCKS, ""), 2, 1, "missing-key", "'backbone'"),
    Bad("missing key in a stage", edit(GOOD, "{patch_size: 3, overlap: 1}\n", "{overlap: 1}\n"),
        9, 9, "missing-key", "'patch_size'"),
    Bad("duplicate key", edit(GOOD, "depth: 14", "depth: 14\n    depth: 15"), 12, 5, "duplicate-key", "'depth'"),
    # Types
    Bad("quoted number", edit(GOOD, "depth: 14", "depth: '14'"), 11, 12, "type", "'14'"),
    Bad("float that is whole, for an int", edit(GOOD, "depth: 14", "depth: 14.0"), 11, 12, "type", "14.0"),
    Bad("float for an int", edit(GOOD, "depth: 14", "depth: 14.5"), 11, 12, "type", "14.5"),
    Bad("list for an int", edit(GOOD, "depth: 14", "depth: [14]"), 11, 12, "type", "a list"),
    Bad("mapping for an int", edit(GOOD, "depth: 14", "depth: {blocks: 14}"), 11, 12, "type", "a mapping"),
    Bad("null for an int", edit(GOOD, "depth: 14", "depth:"), 11, 11, "type", "nothing"),
    Bad("true for an int", edit(GOOD, "depth: 14", "depth: true"), 11, 12, "type", "true"),
    Bad("word for an int", edit(GOOD, "depth: 14", "depth: deep"), 11, 12, "type", "'deep'"),
    Bad("number and unit", edit(GOOD, NAME, NAME + "  image_size: 224px\n"), 4, 15, "type", "'224px'"),
    Bad("224x224", edit(GOOD, NAME, NAME + "  image_size: 224x224\n"), 4, 15, "type", "'224x224'"),
    Bad("yes for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: yes"), 15, 15, "type", "'yes'"),
    Bad("no for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: no"), 15, 15, "type", "'no'"),
    Bad("on for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: on"), 15, 15, "type", "'on'"),
    Bad("off for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: Off"), 15, 15, "type", "'Off'"),
    Bad("1 for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: 1"), 15, 15, "type", "1"),
    Bad("number for text", edit(GOOD, "  name: mine\n", "  name: 14\n"), 3, 9, "type", "14"),
    Bad("null for text", edit(GOOD, "  name: mine\n", "  name:\n"), 3, 8, "type", "nothing"),
    Bad("text for a mapping", edit(GOOD, "backbone:\n" + BLOCKS, "backbone: plain\n"), 10, 13, "type", "'plain'"),
    Bad("number for a mapping", edit(GOOD, "backbone:\n" + BLOCKS, "backbone: 14\n"), 10, 13, "type", "14"),
    Bad("list for a mapping", edit(GOOD, BLOCKS, "    - depth: 14\n    - embed_dim: 384\n"), 11, 5, "type", "a list"),
    Bad("mapping for a list", edit(GOOD, STAGES, "      patch_size: 16\n"), 7, 7, "type", "a mapping"),
    Bad("number for a list", edit(CONV, "\n      - {patch_size: 16}", " 16"), 6, 13, "type", "16"),
    Bad("empty list of stages", edit(CONV, "\n      - {patch_size: 16}", " []"), 6, 13, "length", "0"),
    Bad("seven stages",
        edit(
            CONV,
            "\n      - {patch_size: 16}",
            "\n" + "      - {patch_size: 1, token_dim: 8}\n" * 6 + "      - {patch_size: 16}",
        ),
        7, 7, "length", "7"),
    # Names of classes
    Bad("label_names of two classes out of 1000", edit(GOOD, NAME, NAME + "  label_names: [cat, dog]\n"),
        4, 16, "one-name-per-class", "2"),
    Bad("label_names with one name twice",
        edit(GOOD, NAME, NAME + "  num_classes: 3\n  label_names: [cat, dog, cat]\n"),
        5, 16, "one-name-per-class", "'cat'"),
    Bad("label_names with a number", edit(GOOD, NAME, NAME + "  num_classes: 2\n  label_names: [0, one]\n"),
        5, 17, "type", "0"),
    Bad("label_names with an empty name", edit(GOOD, NAME, NAME + "  num_classes: 2\n  label_names: [a, '']\n"),
        5, 20, "length"),
    # Numbers
    Bad("1_000", edit(GOOD, NAME, NAME + "  num_classes: 1_000\n"), 4, 16, "type", "'1_000'"),
    Bad("1,000", edit(GOOD, NAME, NAME + "  num_classes: 1,000\n"), 4, 16, "type", "'1,000'"),
    Bad("0x10", edit(GOOD, "depth: 14", "depth: 0x10"), 11, 12, "type", "'0x10'"),
    Bad("0o17", edit(GOOD, "depth: 14", "depth: 0o17"), 11, 12, "type", "'0o17'"),
    Bad("1:30", edit(GOOD_TRAIN, "epochs: 300", "epochs: 1:30"), 5, 11, "type", "'1:30'", kind="train"),
    Bad("010", edit(GOOD, "depth: 14", "depth: 010"), 11, 12, "number"),
    Bad("5000 digits", edit(GOOD, "depth: 14", "depth: " + "9" * 5000), 11, 12, "number"),
    Bad(".nan for an int", edit(GOOD, "depth: 14", "depth: .nan"), 11, 12, "finite", ".nan"),
    Bad(".nan for a number", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: .nan"), 14, 16, "finite", ".nan"),
    Bad(".inf", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: .inf"), 14, 16, "finite", ".inf"),
    Bad("nan as a word", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: nan"), 14, 16, "type", "'nan'"),
    Bad("1e400", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 1e400"), 14, 16, "finite", "1e400"),
    Bad("decimal comma", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 2,5"), 14, 16, "type", "'2,5'"),
    # Ranges and sizes
    Bad("0 for depth", edit(GOOD, "depth: 14", "depth: 0"), 11, 12, "range", "0"),
    Bad("-1 for depth", edit(GOOD, "depth: 14", "depth: -1"), 11, 12, "range", "-1"),
    Bad("10^9 for depth", edit(GOOD, "depth: 14", "depth: 1000000000"), 11, 12, "range", "1000000000"),
    Bad("10^9 for embed_dim", edit(GOOD, "embed_dim: 384", "embed_dim: 1000000000"), 12, 16, "range", "1000000000"),
    Bad("a legal but absurd combination",
        edit(
            GOOD,
            "depth: 14\n    embed_dim: 384\n    num_heads: 6",
            "depth: 1000\n    embed_dim: 65536\n    num_heads: 1024",
        ),
        10, 3, "fits-some-machine"),
    Bad("an absurd image",
        edit(
            GOOD,
            NAME, NAME + "  image_size: 16384\n",
            "overlap: 3,", "overlap: 6,",
            "embed_dim: 384", "embed_dim: 6144",
        ),
        4, 15, "fits-some-machine"),
    Bad("image_size 16385", edit(GOOD, NAME, NAME + "  image_size: 16385\n"), 4, 15, "range", "16385"),
    Bad("image_size 0", edit(GOOD, NAME, NAME + "  image_size: 0\n"), 4, 15, "range", "0"),
    Bad("image_size of three", edit(GOOD, NAME, NAME + "  image_size: [224, 224, 3]\n"), 4, 15, "length", "3"),
    Bad("image_size of one", edit(GOOD, NAME, NAME + "  image_size: [224]\n"), 4, 15, "length", "1"),
    Bad("image too small, image_size written", edit(GOOD, NAME, NAME + "  image_size: 2\n"), 4, 15, "tokens-are-left"),
    Bad("image too small at stage 2",
        edit(GOOD, NAME, NAME + "  image_size: 16\n", "overlap: 1}", "overlap: 1, padding: 0}"),
        4, 15, "tokens-are-left"),
    Bad("image too small at stage 2, image_size not written",
        edit(GOOD, "{patch_size: 3, overlap: 1}", "{patch_size: 99, overlap: 1}"),
        9, 22, "tokens-are-left"),
    Bad("image too small for a patch tokenizer", edit(VIT, "patch_size: 16", "patch_size: 256"),
        4, 40, "tokens-are-left"),
    Bad("drop_path 1", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    drop_path: 1"), 15, 16, "range", "1"),
    Bad("drop_path 10%", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    drop_path: 10%"), 15, 16, "type", "'10%'"),
    Bad("patch_size 0", edit(GOOD, "patch_size: 7", "patch_size: 0"), 7, 22, "range", "0"),
    Bad("overlap as large as patch_size", edit(GOOD, "overlap: 3,", "overlap: 7,"),
        7, 34, "overlap-below-patch-size", "7 and 7"),
    Bad("padding as large as patch_size", edit(GOOD, "overlap: 3,", "overlap: 3, padding: 7,"),
        7, 46, "padding-below-patch-size", "7 and 7"),
    Bad("heads that do not divide", edit(GOOD, "num_heads: 6", "num_heads: 5"), 13, 16, "heads-divide", "384 and 5"),
    Bad("0 heads", edit(GOOD, "num_heads: 6", "num_heads: 0"), 13, 16, "range", "0"),
    Bad("head_dim that does not divide", edit(GOOD, "num_heads: 6", "head_dim: 50"),
        13, 15, "heads-divide", "384 and 50"),
    Bad("num_heads beside head_dim", edit(GOOD, "num_heads: 6", "num_heads: 6\n    head_dim: 64"),
        14, 15, "one-of-num-heads-and-head-dim"),
    Bad("neither num_heads nor head_dim", edit(GOOD, "    num_heads: 6\n", ""), 10, 3, "one-of-num-heads-and-head-dim"),
    Bad("list of heads of a wrong length", edit(GOOD, "num_heads: 6", "num_heads: [6, 6]"), 13, 16, "one-per-block"),
    Bad("list of heads with a wrong one",
        edit(GOOD, "num_heads: 6", "num_heads: [6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]"),
        13, 26, "heads-divide", "384 and 5"),
    Bad("list of heads with a word",
        edit(GOOD, "num_heads: 6", "num_heads: [6, six, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]"),
        13, 20, "type", "'six'"),
    Bad("mlp_ratio 0", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 0"), 14, 16, "range", "0"),
    Bad("ghost with mlp_ratio 2.5", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 2.5\n    ghost: {}"),
        14, 16, "ghost-mlp-ratio-is-whole", "2.5"),
    Bad("ghost with mlp_ratio 2.5 in a list",
        edit(GOOD, "mlp_ratio: 3", "mlp_ratio: [3, 3, 3, 2.5, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]\n    ghost: {}"),
        14, 26, "ghost-mlp-ratio-is-whole", "2.5"),
    Bad("ghost switched off", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    ghost: {attention: false, mlp: false}"),
        15, 12, "ghost-is-used"),
    Bad("ghost: true", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    ghost: true"), 15, 12, "type", "true"),
    Bad("ghost on an odd width",
        edit(GOOD, "embed_dim: 384\n    num_heads: 6", "embed_dim: 385\n    num_heads: 5\n    ghost: {}"),
        12, 16, "ghost-halves-widths", "385"),
    Bad("squeeze_excite: true", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    squeeze_excite: true"),
        15, 21, "type", "true"),
    Bad("squeeze_excite: 16", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    squeeze_excite: 16"), 15, 21, "type", "16"),
    Bad("squeeze reduction too large", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    squeeze_excite: {reduction: 400}"),
        15, 33, "squeeze-leaves-channels"),
    Bad("token_dim missing in an inner stage", edit(GOOD, "overlap: 3, token_dim: 64, ", "overlap: 3, "),
        7, 9, "last-stage"),
    Bad("token_dim in the last stage", edit(GOOD, "overlap: 1}\n", "overlap: 1, token_dim: 64}\n"),
        9, 48, "last-stage"),
    Bad("attention in the last stage", edit(GOOD, "overlap: 1}\n", "overlap: 1, attention: performer}\n"),
        9, 48, "last-stage"),
    # Kinds
    Bad("attention misspelt",
        edit(
            GOOD,
            "attention: performer}\n      - {patch_size: 3, overlap: 1}",
            "attention: preformer}\n      - {patch_size: 3, overlap: 1}",
        ),
        8, 63, "kind", "'preformer'"),
    Bad("attention of another name", edit(GOOD, "attention: performer}", "attention: linear}"),
        7, 63, "kind", "'linear'"),
    Bad("attention as a list", edit(GOOD, "attention: performer}", "attention: [performer]}"), 7, 63, "kind", "a list"),
    Bad("attention true", edit(GOOD, "attention: performer}", "attention: true}"), 7, 63, "kind", "true"),
    Bad("attention without a kind", edit(GOOD, "attention: performer}", "attention: {dropout: 0.1}}"),
        7, 52, "missing-key", "'kind'"),
    Bad("kind of attention misspelt",
        edit(GOOD, "attention: performer}", "attention: {kind: performr, kernel_ratio: 9}}"),
        7, 70, "kind", "'performr'", more=(
        Mistake(7, 94, "range", "9"),
        )),
    Bad("kind of tokenizer misspelt", edit(GOOD, "kind: t2t", "kind: t2"), 5, 11, "kind", "'t2'"),
    Bad("kind of backbone misspelt", edit(GOOD, "  backbone:\n", "  backbone:\n    kind: pain\n"),
        11, 11, "kind", "'pain'"),
    Bad("kind of model misspelt", edit(GOOD, "model:\n", "model:\n  kind: vti\n"), 3, 9, "kind", "'vti'"),
    Bad("kind of data misspelt", edit(GOOD_TRAIN, "kind: digits", "kind: digit"),
        4, 16, "kind", "'digit'", kind="train"),
    Bad("kind of data not near", edit(GOOD_TRAIN, "kind: digits", "kind: imagenet"),
        4, 16, "kind", "'imagenet'", kind="train"),
    Bad("kind is a number", edit(GOOD, "kind: t2t", "kind: 2"), 5, 11, "kind", "2"),
    Bad("kind is a list", edit(GOOD, "kind: t2t", "kind: [t2t]"), 5, 11, "kind", "a list"),
    Bad("kind is null", edit(GOOD, "kind: t2t", "kind:"), 5, 10, "kind", "nothing"),
    Bad("position misspelt", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    position: sinusiod"),
        15, 15, "choice", "'sinusiod'"),
    # Version and name
    Bad("unknown version", edit(GOOD, "version: 1", "version: 2"), 1, 10, "version", "2"),
    Bad("version quoted", edit(GOOD, "version: 1", "version: '1'"), 1, 10, "version", "'1'"),
    Bad("version 1.0", edit(GOOD, "version: 1", "version: 1.0"), 1, 10, "version", "1.0"),
    Bad("name with a slash", edit(GOOD, "name: mine", "name: ../../etc/passwd"), 3, 9, "name", "'../../etc/passwd'"),
    Bad("name that begins with _", edit(GOOD, "name: mine", "name: _mine"), 3, 9, "name", "'_mine'"),
    Bad("name of 65 characters", edit(GOOD, "name: mine", "name: " + "m" * 65),
        3, 9, "name", "'mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm..."),
    # Slips of typing
    Bad("no space after a key", edit(GOOD, "depth: 14", "depth:14"), 11, 5, "space", "'depth:'"),
    Bad("no space in braces", edit(GOOD, "{patch_size: 7,", "{patch_size:7,"), 7, 10, "unknown-key", "'patch_size:7'"),
    Bad("braces around a value", edit(GOOD, "depth: 14", "depth: {depth}"), 11, 12, "type", "a mapping"),
    Bad("double braces", edit(GOOD, "depth: 14", "depth: {{depth}}"), 11, 13, "key"),
    Bad("${DEPTH}", edit(GOOD, "depth: 14", "depth: ${DEPTH}"), 11, 12, "type", "'${DEPTH}'"),
    Bad("Unicode minus", edit(GOOD, "depth: 14", "depth: \u221214"), 11, 12, "type", "'\u221214'"),
    Bad("en dash as a bullet", edit(GOOD, "      - {patch_size: 7", "      \u2013 {patch_size: 7"),
        7, 7, "character", "'\u2013'"),
    Bad("curly quotes", edit(GOOD, "name: mine", "name: \u201cmine\u201d"), 3, 9, "name", "'\u201cmine\u201d'"),
    Bad("no-break space before a value", edit(GOOD, "depth: 14", "depth: \xa014"), 11, 12, "type", "'\\xa014'"),
    Bad("no-break space as indentation", edit(GOOD, "    depth: 14", "\xa0\xa0\xa0\xa0depth: 14"), 11, 1, "character"),
    Bad("wide colon", edit(GOOD, "depth: 14", "depth\uff1a 14"), 11, 10, "character", "'\uff1a'"),
    Bad("zero-width space in a key", edit(GOOD, "depth: 14", "dep\u200bth: 14"),
        11, 5, "unknown-key", "'dep\\u200bth'"),
    Bad("tab indentation", edit(GOOD, "    mlp_ratio: 3", "\tmlp_ratio: 3"), 14, 1, "tab"),
    Bad("unclosed bracket", edit(GOOD, "num_heads: 6", "num_heads: [6, 6"), 13, 16, "bracket", "']'"),
    Bad("unclosed brace",
        edit(
            GOOD,
            "attention: performer}\n      - {patch_size: 3, overlap: 1}",
            "attention: performer\n      - {patch_size: 3, overlap: 1}",
        ),
        8, 9, "bracket", "'}'"),
    Bad("brace too many", edit(GOOD, "{patch_size: 3, overlap: 1}\n", "{patch_size: 3, overlap: 1}}\n"),
        9, 36, "bracket", "'}'"),
    Bad("bracket for brace", edit(GOOD, "{patch_size: 3, overlap: 1}\n", "{patch_size: 3, overlap: 1]\n"),
        9, 9, "bracket", "'}'"),
    Bad("missing comma in braces", edit(GOOD, "{patch_size: 7, overlap: 3,", "{patch_size: 7 overlap: 3,"),
        7, 9, "bracket", "'}'"),
    Bad("unclosed quote", edit(GOOD, "name: mine", "name: 'mine"), 3, 9, "quote"),
    Bad("quote inside a word", edit(GOOD, "name: mine", "name: 'mi'ne'"), 3, 13, "quote"),
    Bad("unknown escape", edit(GOOD, "name: mine", 'name: "C:\\mine"'), 3, 12, "quote"),
    Bad("second colon", edit(GOOD, "name: mine", "name: mine: yours"), 3, 13, "yaml", "':'"),
    Bad("key without a colon", edit(GOOD, "depth: 14", "depth 14"), 11, 5, "yaml", "'key: value'"),
    Bad("equals sign for a colon", edit(GOOD, "depth: 14", "depth = 14"), 11, 5, "yaml", "'key: value'"),
    Bad("indented too far", edit(GOOD, "    embed_dim: 384", "      embed_dim: 384"), 12, 7, "indent"),
    Bad("indented too little", edit(GOOD, "    embed_dim: 384", "   embed_dim: 384"), 12, 4, "indent"),
    Bad("starts with @", edit(GOOD, "name: mine", "name: @mine"), 3, 9, "yaml", "'@'"),
    Bad("starts with *", edit(GOOD, "name: mine", "name: *"), 3, 9, "yaml", "'*'"),
    Bad("starts with &", edit(GOOD, "name: mine", "name: &"), 3, 9, "yaml", "'&'"),
    Bad("block scalar for a number", edit(GOOD, "depth: 14", "depth: |\n      14"), 11, 12, "type", "'14\\n'"),
    # What is legal YAML and refused
    Bad("undefined alias", edit(GOOD, "depth: 14", "depth: *depth"), 11, 12, "alias"),
    Bad("duplicate anchor", edit(GOOD, "depth: 14\n    embed_dim: 384", "depth: &n 14\n    embed_dim: &n 384"),
        12, 16, "alias"),
    Bad("alias recursion", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: &r [*r]"), 14, 16, "recursion"),
    Bad("billion laughs", LAUGHS, 5, 16, "aliases"),
    Bad("33 aliases", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: [&r 3" + ", *r" * 33 + "]"), 14, 151, "aliases"),
    Bad("merge key", edit(GOOD, "  backbone:\n", "  backbone:\n    <<: {depth: 14}\n"), 11, 5, "merge-key"),
    Bad("tag", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: !!python/object:os.system 3"),
        14, 16, "tag", "'tag:yaml.org,2002:python/object:os.system'"),
    Bad("two documents", GOOD + "---\n" + GOOD, 15, 1, "documents"),
    Bad("nested 33 deep", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: " + "[" * 31 + "]" * 31), 14, 45, "nesting"),
    Bad("20,001 values", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: [" + "3, " * 20_000 + "3]"), 14, 59879, "size"),
    Bad("number as a key", edit(GOOD, "depth: 14", "14: depth"), 10, 3, "missing-key", "'depth'", more=(
        Mistake(11, 5, "unknown-key", "'14'"),
        )),
    Bad("list as a key", edit(GOOD, "depth: 14", "[depth]: 14"), 11, 5, "key"),
    Bad("list at the root", "- version: 1\n- model: mine\n", 1, 1, "type"),
    Bad("scalar at the root", "a model of my own\n", 1, 1, "type"),
    # Text that is none
    Bad("NUL character", edit(GOOD, "depth: 14", "depth: 1\x00").encode(), 11, 13, "character"),
    Bad("control character", edit(GOOD, "name: mine", "name: mi\x1b[31mne"), 3, 11, "character"),
    Bad("form feed", edit(GOOD, "  name", "\x0c  name"), 3, 1, "character"),
    Bad("UTF-16", GOOD.encode("utf-16"), 1, 1, "encoding"),
    Bad("Latin-1", edit(GOOD, "name: mine", "name: caf\xe9").encode("latin-1"), 3, 12, "encoding"),
    Bad("over 1 MiB", (GOOD + "#" * 1_048_576).encode(), 0, 0, "size"),
    Bad("empty", "", 0, 0, "empty"),
    Bad("only comments", "# a spec, some day\n", 0, 0, "empty"),
    Bad("only ---", "---\n", 0, 0, "empty"),
    Bad("a mark and a wrong value", b"\xef\xbb\xbf" + edit(GOOD, "version: 1", "version: 2").encode(),
        1, 10, "version", "2"),
    Bad("CRLF and a wrong value", edit(GOOD, "depth: 14", "depth: 0").replace("\n", "\r\n"), 11, 12, "range", "0"),
    # Several at once
    Bad("misspelt depth and heads that do not divide",
        edit(GOOD, "depth: 14", "dpeth: 14", "num_heads: 6", "num_heads: 5"),
        11, 5, "unknown-key", "'dpeth'", more=(
        Mistake(13, 16, "heads-divide", "384 and 5"),
        )),
    Bad("five mistakes of five kinds",
        edit(
            GOOD,
            "version: 1", "version: 2",
            "name: mine", "name: my model",
            "overlap: 3,", "overlap: 7,",
            "depth: 14", "depth: ten",
            "num_heads: 6", "num_heads: 5",
        ),
        1, 10, "version", "2", more=(
        Mistake(3, 9, "name", "'my model'"),
        Mistake(7, 34, "overlap-below-patch-size", "7 and 7"),
        Mistake(11, 12, "type", "'ten'"),
        Mistake(13, 16, "heads-divide", "384 and 5"),
        )),
    Bad("a kind misspelt, and a field behind it", edit(GOOD, "kind: t2t", "kind: t2", "overlap: 3,", "overlap: three,"),
        5, 11, "kind", "'t2'", more=(
        Mistake(7, 34, "type", "'three'"),
        )),
    Bad("no such kind, and fields behind it",
        edit(GOOD, "    depth: 14", "    kind: swin\n    dpeth: 14", "num_heads: 6", "num_heads: x"),
        11, 11, "kind", "'swin'", more=(
        Mistake(12, 5, "unknown-key", "'dpeth'"),
        Mistake(14, 16, "type", "'x'"),
        )),
    Bad("model and train",
        GOOD.replace("depth: 14", "depth: 0") + "train: {epochs: 5, warmup_epochs: 5, lr: 1e-3, min_lr: 1}\n",
        11, 12, "range", "0", more=(
        Mistake(15, 35, "warmup-below-epochs", "5 and 5"),
        Mistake(15, 56, "min-lr-below-lr", "1 and 0.001"),
        )),
    Bad("two numbers with leading zeros", edit(GOOD, "depth: 14", "depth: 014", "num_heads: 6", "num_heads: 06"),
        11, 12, "number", more=(
        Mistake(13, 16, "number"),
        )),
    Bad("a kind for a key", edit(VIT, "{kind: patch, patch_size: 16}", "{t2t: {stages: [{patch_size: 16}]}}"),
        4, 3, "missing-key", "'stages'", more=(
        Mistake(4, 15, "unknown-key", "'t2t'"),
        )),
    Bad("a kind beside its kind", edit(VIT, "patch_size: 16}", "patch_size: 16, patch: [1, 2]}"),
        4, 44, "unknown-key", "'patch'"),
    Bad("a dimension's name for a field", edit(GOOD_SEARCH, "backbone.mlp_ratio: {", "Choices: {Choices: 1, "),
        8, 15, "unknown-key", "'Choices'", kind="search"),
    Bad("problems of YAML and of the rest",
        edit(GOOD, "depth: 14", "depth: 014", "num_heads: 6", "num_heads: 5", "name: mine",
            "name: mine\n  name: yours"),
        4, 3, "duplicate-key", "'name'", more=(
        Mistake(12, 12, "number"),
        Mistake(14, 16, "heads-divide", "384 and 5"),
        )),
    Bad("model missing and train wrong", "version: 1\nmodel: nowhere\ntrain: {epochs: ten}\n",
        2, 8, "file", "'nowhere'", more=(
        Mistake(3, 17, "type", "'ten'"),
        )),
    Bad("two fields that the base has not",
        edit(GOOD_SEARCH, "backbone.embed_dim", "embed_dim", "backbone.mlp_ratio", "backbone.mlp_ratoi"),
        7, 5, "space", "'embed_dim'", kind="search", more=(
        Mistake(8, 5, "space", "'backbone.mlp_ratoi'"),
        )),
    Bad("fill on a depth misspelt", edit(GOOD_SEARCH, "backbone.depth", "backbone.detph"),
        9, 5, "space", "'backbone.detph'", kind="search"),
    Bad("a file of weights that cannot be", edit(GOOD_TRAIN, "train:", 'weights: "a\\0b"\ntrain:'),
        3, 10, "file", "'a\\x00b'", kind="train"),
    Bad("a thousand choices and one",
        edit(GOOD_SEARCH, "choices: [2, 3, 4]", f"choices: [{', '.join(map(str, range(1001)))}]"),
        8, 35, "length", "1001", kind="search"),
)
# fmt: on
