"""Bad inputs: what a person may have typed, and what is then told: the place, the rule, the message, the hint.

Each is a good spec with one piece replaced, or a whole text. `tests/spec/test_bad_inputs.py` reads them all, and those
of the train section in `bad_trainings.py`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Told(NamedTuple):
    """What is told of one mistake; line and column count from 1, 0 means the whole file."""

    line: int
    column: int
    rule: str
    message: str
    hint: str


@dataclass(frozen=True)
class Bad:
    """An input and its first mistake; `more` holds the others in the order of the file. Nothing else is told."""

    name: str
    text: str | bytes
    line: int
    column: int
    rule: str
    message: str
    hint: str
    kind: Literal["spec", "train", "search"] = "spec"
    more: tuple[Told, ...] = ()

    @property
    def reported(self) -> list[Told]:
        return [Told(self.line, self.column, self.rule, self.message, self.hint), *self.more]

    @property
    def raw(self) -> bytes:
        return self.text if isinstance(self.text, bytes) else self.text.encode()

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def edit(good: str, *pieces: str) -> str:
    """`good` with pieces replaced: old, new, and perhaps further pairs; of each old the first that stands there."""
    for old, new in zip(pieces[::2], pieces[1::2], strict=True):
        assert old in good, f"{old!r} is not in the spec"
        good = good.replace(old, new, 1)
    return good


NAME = "  name: mine\n"
DATA = "'digits', 'folder', 'cifar10', 'cifar100', 'timm', 'fake'"
LATER = "version 1 is the first of the language, and a later one needs a later t2tbuild"

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

# Ten times ten times ten: each line's list holds the one above ten times.
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)

# Two lines an input read better than the nine that the formatter would make of it.
# fmt: off
BAD_INPUTS = (
    # Keys
    Bad("unknown key, near", edit(GOOD, "depth: 14", "dpeth: 14"), 11, 5, "unknown-key",
        "unknown key 'dpeth' in model.backbone", "did you mean 'depth'?"),
    Bad("unknown key, not near", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    colour: red"), 15, 5, "unknown-key",
        "unknown key 'colour' in model.backbone",
        "known: kind, depth, embed_dim, num_heads, head_dim, mlp_ratio, qkv_bias, position, "
        "drop_path, squeeze_excite, ghost"),
    Bad("unknown key, hyphen for underscore", edit(GOOD, "embed_dim: 384", "embed-dim: 384"), 12, 5, "unknown-key",
        "unknown key 'embed-dim' in model.backbone", "did you mean 'embed_dim'?"),
    Bad("unknown key in a stage", edit(GOOD, "overlap: 3,", "overlap: 3, stride: 4,"), 7, 37, "unknown-key",
        "unknown key 'stride' in model.tokenizer.stages.0",
        "known: patch_size, overlap, padding, token_dim, attention"),
    Bad("key of another place", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    image_size: 224"), 15, 5, "unknown-key",
        "unknown key 'image_size' in model.backbone", "it belongs in model"),
    Bad("key of another kind of backbone",
        edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    growth_rate: 64"),
        15, 5, "unknown-key",
        "unknown key 'growth_rate' in model.backbone", "it is a field of kind: dense"),
    Bad("key of another kind of tokenizer",
        edit(GOOD, "    kind: t2t\n", "    kind: t2t\n    patch_size: 16\n"),
        6, 5, "unknown-key",
        "unknown key 'patch_size' in model.tokenizer", "it is a field of kind: patch"),
    Bad("kind left out, keys of another", edit(VIT, "kind: patch, ", ""), 4, 3, "missing-key",
        "missing key 'stages' in model.tokenizer",
        "write stages: [{patch_size: 7, overlap: 3, token_dim: 64, attention: performer}, "
        "{patch_size: 3, overlap: 1}]", more=(
        Told(4, 15, "unknown-key", "unknown key 'patch_size' in model.tokenizer", "it is a field of kind: patch"),
        )),
    Bad("key of a t2t stage in a conv stage", edit(GOOD, "kind: t2t", "kind: conv"), 7, 52, "unknown-key",
        "unknown key 'attention' in model.tokenizer.stages.0", "it is a field of kind: t2t", more=(
        Told(8, 52, "unknown-key", "unknown key 'attention' in model.tokenizer.stages.1",
        "it is a field of kind: t2t"),
        )),
    Bad("missing key", edit(GOOD, "    depth: 14\n", ""), 10, 3, "missing-key",
        "missing key 'depth' in model.backbone", "write depth: 14"),
    Bad("missing version", edit(GOOD, "version: 1\n", ""), 1, 1, "missing-key",
        "missing key 'version' in the spec", "write version: 1"),
    Bad("missing section", edit(GOOD, "  backbone:\n" + BLOCKS, ""), 2, 1, "missing-key",
        "missing key 'backbone' in model", "write backbone: {depth: 14, embed_dim: 384, num_heads: 6, mlp_ratio: 3}"),
    Bad("missing key in a stage", edit(GOOD, "{patch_size: 3, overlap: 1}\n", "{overlap: 1}\n"), 9, 9, "missing-key",
        "missing key 'patch_size' in model.tokenizer.stages.2", "write patch_size: 7"),
    Bad("duplicate key", edit(GOOD, "depth: 14", "depth: 14\n    depth: 15"), 12, 5, "duplicate-key",
        "key 'depth' stands twice, in line 11 (depth: 14) and here", "remove one of the two"),
    # Types
    Bad("quoted number", edit(GOOD, "depth: 14", "depth: '14'"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '14'", "remove the quotes"),
    Bad("float that is whole, for an int", edit(GOOD, "depth: 14", "depth: 14.0"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got 14.0", "write 14"),
    Bad("float for an int", edit(GOOD, "depth: 14", "depth: 14.5"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got 14.5", "write 14 or 15"),
    Bad("list for an int", edit(GOOD, "depth: 14", "depth: [14]"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got a list", "write for example 14"),
    Bad("mapping for an int", edit(GOOD, "depth: 14", "depth: {blocks: 14}"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got a mapping", "write for example 14"),
    Bad("null for an int", edit(GOOD, "depth: 14", "depth:"), 11, 11, "type",
        "model.backbone.depth must be a whole number, got nothing", "write for example 14"),
    Bad("true for an int", edit(GOOD, "depth: 14", "depth: true"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got true", "write for example 14"),
    Bad("word for an int", edit(GOOD, "depth: 14", "depth: deep"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got 'deep'", "write for example 14"),
    Bad("number and unit", edit(GOOD, NAME, NAME + "  image_size: 224px\n"), 4, 15, "type",
        "model.image_size must be a whole number, got '224px'", "write 224"),
    Bad("224x224", edit(GOOD, NAME, NAME + "  image_size: 224x224\n"), 4, 15, "type",
        "model.image_size must be a whole number, got '224x224'", "write [224, 224]"),
    Bad("yes for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: yes"), 15, 15, "type",
        "model.backbone.qkv_bias must be true or false, got 'yes'", "yes is text in YAML 1.2; write true"),
    Bad("no for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: no"), 15, 15, "type",
        "model.backbone.qkv_bias must be true or false, got 'no'", "no is text in YAML 1.2; write false"),
    Bad("on for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: on"), 15, 15, "type",
        "model.backbone.qkv_bias must be true or false, got 'on'", "on is text in YAML 1.2; write true"),
    Bad("off for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: Off"), 15, 15, "type",
        "model.backbone.qkv_bias must be true or false, got 'Off'", "Off is text in YAML 1.2; write false"),
    Bad("1 for a bool", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    qkv_bias: 1"), 15, 15, "type",
        "model.backbone.qkv_bias must be true or false, got 1", "write true"),
    Bad("number for text", edit(GOOD, "  name: mine\n", "  name: 14\n"), 3, 9, "type",
        "model.name must be text, got 14", "put it in quotes: '14'"),
    Bad("null for text", edit(GOOD, "  name: mine\n", "  name:\n"), 3, 8, "type",
        "model.name must be text, got nothing", "write for example t2t_vit_14"),
    Bad("text for a mapping", edit(GOOD, "backbone:\n" + BLOCKS, "backbone: plain\n"), 10, 13, "type",
        "model.backbone must be a mapping, got 'plain'", "write kind: plain and its other fields beneath"),
    Bad("number for a mapping", edit(GOOD, "backbone:\n" + BLOCKS, "backbone: 14\n"), 10, 13, "type",
        "model.backbone must be a mapping, got 14",
        "write for example {depth: 14, embed_dim: 384, num_heads: 6, mlp_ratio: 3}"),
    Bad("list for a mapping", edit(GOOD, BLOCKS, "    - depth: 14\n    - embed_dim: 384\n"), 11, 5, "type",
        "model.backbone must be a mapping, got a list", "write its fields without '- '"),
    Bad("mapping for a list", edit(GOOD, STAGES, "      patch_size: 16\n"), 7, 7, "type",
        "model.tokenizer.stages must be a list, got a mapping", "put '- ' before each item"),
    Bad("number for a list", edit(CONV, "\n      - {patch_size: 16}", " 16"), 6, 13, "type",
        "model.tokenizer.stages must be a list, got 16",
        "write for example [{patch_size: 7, overlap: 3, token_dim: 64}, {patch_size: 3, overlap: 1}]"),
    Bad("empty list of stages", edit(CONV, "\n      - {patch_size: 16}", " []"), 6, 13, "length",
        "model.tokenizer.stages must list at least 1, got 0",
        "write for example [{patch_size: 7, overlap: 3, token_dim: 64}, {patch_size: 3, overlap: 1}]"),
    Bad("seven stages",
        edit(
            CONV,
            "\n      - {patch_size: 16}",
            "\n" + "      - {patch_size: 1, token_dim: 8}\n" * 6 + "      - {patch_size: 16}",
        ),
        7, 7, "length",
        "model.tokenizer.stages must list at most 6, got 7", "write at most 6"),
    # Numbers
    Bad("1_000", edit(GOOD, NAME, NAME + "  num_classes: 1_000\n"), 4, 16, "type",
        "model.num_classes must be a whole number, got '1_000'", "write 1000"),
    Bad("1,000", edit(GOOD, NAME, NAME + "  num_classes: 1,000\n"), 4, 16, "type",
        "model.num_classes must be a whole number, got '1,000'", "write 1000"),
    Bad("0x10", edit(GOOD, "depth: 14", "depth: 0x10"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '0x10'", "write 16"),
    Bad("0o17", edit(GOOD, "depth: 14", "depth: 0o17"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '0o17'", "write 15"),
    Bad("1:30", edit(GOOD_TRAIN, "epochs: 300", "epochs: 1:30"), 5, 11, "type",
        "train.epochs must be a whole number, got '1:30'", "1:30 is text in YAML 1.2; write 90", kind="train"),
    Bad("010", edit(GOOD, "depth: 14", "depth: 010"), 11, 12, "number",
        "010 has a leading zero", "write 10"),
    Bad("5000 digits", edit(GOOD, "depth: 14", "depth: " + "9" * 5000), 11, 12, "number",
        "a number of 5,000 digits", "write fewer"),
    Bad(".nan for an int", edit(GOOD, "depth: 14", "depth: .nan"), 11, 12, "finite",
        "model.backbone.depth must be a finite number, got .nan", "write for example 14"),
    Bad(".nan for a number", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: .nan"), 14, 16, "finite",
        "model.backbone.mlp_ratio must be a finite number, got .nan", "write for example 3"),
    Bad(".inf", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: .inf"), 14, 16, "finite",
        "model.backbone.mlp_ratio must be a finite number, got .inf", "write for example 3"),
    Bad("nan as a word", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: nan"), 14, 16, "type",
        "model.backbone.mlp_ratio must be a number, got 'nan'", "write for example 3"),
    Bad("1e400", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 1e400"), 14, 16, "finite",
        "model.backbone.mlp_ratio must be a finite number, got 1e400", "write for example 3"),
    Bad("decimal comma", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 2,5"), 14, 16, "type",
        "model.backbone.mlp_ratio must be a number, got '2,5'", "write 2.5"),
    # Ranges and sizes
    Bad("0 for depth", edit(GOOD, "depth: 14", "depth: 0"), 11, 12, "range",
        "model.backbone.depth must be at least 1, got 0", "write at least 1"),
    Bad("-1 for depth", edit(GOOD, "depth: 14", "depth: -1"), 11, 12, "range",
        "model.backbone.depth must be at least 1, got -1", "write at least 1"),
    Bad("10^9 for depth", edit(GOOD, "depth: 14", "depth: 1000000000"), 11, 12, "range",
        "model.backbone.depth must be at most 1000, got 1000000000",
        "it would have 1.5e+15 parameters, 5.9 PB in float32"),
    Bad("10^9 for embed_dim", edit(GOOD, "embed_dim: 384", "embed_dim: 1000000000"), 12, 16, "range",
        "model.backbone.embed_dim must be at most 65536, got 1000000000",
        "it would have 1.4e+20 parameters, 560 EB in float32"),
    Bad("a legal but absurd combination",
        edit(
            GOOD,
            "depth: 14\n    embed_dim: 384\n    num_heads: 6",
            "depth: 1000\n    embed_dim: 65536\n    num_heads: 1024",
        ),
        10, 3, "fits-some-machine",
        "the model would have 42.9T parameters, 172 TB in float32",
        "at most 1.00T parameters, 4.0 TB in float32 are built"),
    Bad("an absurd image",
        edit(
            GOOD,
            NAME, NAME + "  image_size: 16384\n",
            "overlap: 3,", "overlap: 6,",
            "embed_dim: 384", "embed_dim: 6144",
        ),
        4, 15, "fits-some-machine",
        "one image would make an activation of 3.7 TB in float32",
        "write a smaller image_size, larger strides or fewer channels"),
    Bad("image_size 16385", edit(GOOD, NAME, NAME + "  image_size: 16385\n"), 4, 15, "range",
        "model.image_size must be at most 16384, got 16385", "write at most 16384"),
    Bad("image_size 0", edit(GOOD, NAME, NAME + "  image_size: 0\n"), 4, 15, "range",
        "model.image_size must be at least 1, got 0", "write at least 1"),
    Bad("image_size of three", edit(GOOD, NAME, NAME + "  image_size: [224, 224, 3]\n"), 4, 15, "length",
        "model.image_size must list at most 2, got 3", "write for example 224 or [192, 256]"),
    Bad("image_size of one", edit(GOOD, NAME, NAME + "  image_size: [224]\n"), 4, 15, "length",
        "model.image_size must list at least 2, got 1", "write for example 224 or [192, 256]"),
    Bad("image too small, image_size written", edit(GOOD, NAME, NAME + "  image_size: 2\n"), 4, 15, "tokens-are-left",
        "image_size 2 x 2 leaves no token at stage 0: a patch of 7 with padding 2 does not "
        "fit the image of 2 x 2",
        "write a larger image_size or a smaller patch_size"),
    Bad("image too small at stage 2",
        edit(GOOD, NAME, NAME + "  image_size: 16\n", "overlap: 1}", "overlap: 1, padding: 0}"),
        4, 15, "tokens-are-left",
        "image_size 16 x 16 leaves no token at stage 2: a patch of 3 with padding 0 does not "
        "fit the grid of 2 x 2",
        "write a larger image_size or a smaller patch_size"),
    Bad("image too small at stage 2, image_size not written",
        edit(GOOD, "{patch_size: 3, overlap: 1}", "{patch_size: 99, overlap: 1}"),
        9, 22, "tokens-are-left",
        "image_size 224 x 224 leaves no token at stage 2: a patch of 99 with padding 1 does "
        "not fit the grid of 28 x 28",
        "write a larger image_size or a smaller patch_size"),
    Bad("image too small for a patch tokenizer",
        edit(VIT, "patch_size: 16", "patch_size: 256"),
        4, 40, "tokens-are-left",
        "image_size 224 x 224 leaves no token at stage 0: a patch of 256 with padding 0 does "
        "not fit the image of 224 x 224",
        "write a larger image_size or a smaller patch_size"),
    Bad("drop_path 1", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    drop_path: 1"), 15, 16, "range",
        "model.backbone.drop_path must be below 1, got 1", "write for example 0.1"),
    Bad("drop_path 10%", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    drop_path: 10%"), 15, 16, "type",
        "model.backbone.drop_path must be a number, got '10%'", "write 0.1"),
    Bad("patch_size 0", edit(GOOD, "patch_size: 7", "patch_size: 0"), 7, 22, "range",
        "model.tokenizer.stages.0.patch_size must be at least 1, got 0", "write at least 1"),
    Bad("overlap as large as patch_size", edit(GOOD, "overlap: 3,", "overlap: 7,"), 7, 34, "overlap-below-patch-size",
        "overlap must be below patch_size, got 7 and 7", "write at most 6"),
    Bad("padding as large as patch_size",
        edit(GOOD, "overlap: 3,", "overlap: 3, padding: 7,"),
        7, 46, "padding-below-patch-size",
        "padding must be below patch_size, got 7 and 7", "write at most 6, else a patch is nothing but zeros"),
    Bad("heads that do not divide", edit(GOOD, "num_heads: 6", "num_heads: 5"), 13, 16, "heads-divide",
        "embed_dim must be divisible by num_heads, got 384 and 5", "nearest that work: 4, 6"),
    Bad("0 heads", edit(GOOD, "num_heads: 6", "num_heads: 0"), 13, 16, "range",
        "model.backbone.num_heads must be at least 1, got 0", "write at least 1"),
    Bad("head_dim that does not divide", edit(GOOD, "num_heads: 6", "head_dim: 50"), 13, 15, "heads-divide",
        "embed_dim must be divisible by head_dim, got 384 and 50", "nearest that work: 48, 64"),
    Bad("num_heads beside head_dim",
        edit(GOOD, "num_heads: 6", "num_heads: 6\n    head_dim: 64"),
        14, 15, "heads-said-once",
        "num_heads and head_dim say the same thing twice", "keep one of them"),
    Bad("neither num_heads nor head_dim", edit(GOOD, "    num_heads: 6\n", ""), 10, 3, "heads-said-once",
        "num_heads is missing", "write num_heads: 6, or head_dim: 64"),
    Bad("list of heads of a wrong length", edit(GOOD, "num_heads: 6", "num_heads: [6, 6]"), 13, 16, "one-per-block",
        "num_heads lists 2 values for 14 blocks", "write one per block"),
    Bad("list of heads with a wrong one",
        edit(GOOD, "num_heads: 6", "num_heads: [6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]"),
        13, 26, "heads-divide",
        "embed_dim must be divisible by num_heads, got 384 and 5", "nearest that work: 4, 6"),
    Bad("list of heads with a word",
        edit(GOOD, "num_heads: 6", "num_heads: [6, six, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]"),
        13, 20, "type",
        "model.backbone.num_heads.1 must be a whole number, got 'six'", "write for example 6"),
    Bad("mlp_ratio 0", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 0"), 14, 16, "range",
        "model.backbone.mlp_ratio must be above 0, got 0", "write for example 3"),
    Bad("ghost with mlp_ratio 2.5",
        edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 2.5\n    ghost: {}"),
        14, 16, "ghost-mlp-ratio-is-whole",
        "a ghost MLP needs a whole mlp_ratio, got 2.5", "write 2, or ghost: {mlp: false}"),
    Bad("ghost with mlp_ratio 2.5 in a list",
        edit(GOOD, "mlp_ratio: 3", "mlp_ratio: [3, 3, 3, 2.5, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]\n    ghost: {}"),
        14, 26, "ghost-mlp-ratio-is-whole",
        "a ghost MLP needs a whole mlp_ratio, got 2.5", "write 2, or ghost: {mlp: false}"),
    Bad("ghost switched off",
        edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    ghost: {attention: false, mlp: false}"),
        15, 12, "ghost-somewhere",
        "ghost is switched off in attention and in mlp", "remove ghost"),
    Bad("ghost: true", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    ghost: true"), 15, 12, "type",
        "model.backbone.ghost must be a mapping, got true", "write {} for its defaults"),
    Bad("ghost on an odd width",
        edit(GOOD, "embed_dim: 384\n    num_heads: 6", "embed_dim: 385\n    num_heads: 5\n    ghost: {}"),
        12, 16, "ghost-halves-widths",
        "ghost attention computes half of the channels, which an odd width has not, got 385",
        "write widths that 2 and the heads divide, or ghost: {attention: false}"),
    Bad("squeeze_excite: true", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    squeeze_excite: true"), 15, 21, "type",
        "model.backbone.squeeze_excite must be a mapping, got true", "write {} for its defaults"),
    Bad("squeeze_excite: 16", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    squeeze_excite: 16"), 15, 21, "type",
        "model.backbone.squeeze_excite must be a mapping, got 16", "write for example {reduction: 16}"),
    Bad("squeeze reduction too large",
        edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    squeeze_excite: {reduction: 400}"),
        15, 33, "squeeze-leaves-channels",
        "a width of 384 over a reduction of 400 leaves no channel", "write at most 384"),
    Bad("token_dim missing in an inner stage",
        edit(GOOD, "overlap: 3, token_dim: 64, ", "overlap: 3, "),
        7, 9, "last-stage",
        "stage 0 has no token_dim; every stage but the last is followed by a token attention", "write token_dim: 64"),
    Bad("token_dim in the last stage", edit(GOOD, "overlap: 1}\n", "overlap: 1, token_dim: 64}\n"), 9, 48, "last-stage",
        "the last stage takes no token_dim; it is projected to the backbone's embed_dim", "remove token_dim"),
    Bad("attention in the last stage",
        edit(GOOD, "overlap: 1}\n", "overlap: 1, attention: performer}\n"),
        9, 48, "last-stage",
        "the last stage takes no attention; it is projected to the backbone's embed_dim", "remove attention"),
    # Kinds
    Bad("attention misspelt",
        edit(
            GOOD,
            "attention: performer}\n      - {patch_size: 3, overlap: 1}",
            "attention: preformer}\n      - {patch_size: 3, overlap: 1}",
        ),
        8, 63, "kind",
        "model.tokenizer.stages.1.attention must be one of 'performer', 'transformer', got 'preformer'",
        "did you mean 'performer'?"),
    Bad("attention of another name", edit(GOOD, "attention: performer}", "attention: linear}"), 7, 63, "kind",
        "model.tokenizer.stages.0.attention must be one of 'performer', 'transformer', got 'linear'", ""),
    Bad("attention as a list", edit(GOOD, "attention: performer}", "attention: [performer]}"), 7, 63, "kind",
        "model.tokenizer.stages.0.attention must be one of 'performer', 'transformer', got a list",
        "write for example performer"),
    Bad("attention true", edit(GOOD, "attention: performer}", "attention: true}"), 7, 63, "kind",
        "model.tokenizer.stages.0.attention must be one of 'performer', 'transformer', got true",
        "write for example performer"),
    Bad("attention without a kind",
        edit(GOOD, "attention: performer}", "attention: {dropout: 0.1}}"),
        7, 52, "missing-key",
        "missing key 'kind' in model.tokenizer.stages.0.attention", "write kind: performer"),
    Bad("kind of attention misspelt",
        edit(GOOD, "attention: performer}", "attention: {kind: performr, kernel_ratio: 9}}"),
        7, 70, "kind",
        "model.tokenizer.stages.0.attention.kind must be one of 'performer', 'transformer', "
        "got 'performr'",
        "did you mean 'performer'?", more=(
        Told(7, 94, "range", "model.tokenizer.stages.0.attention.kernel_ratio must be at most 8, got 9",
        "write at most 8"),
        )),
    Bad("kind of tokenizer misspelt", edit(GOOD, "kind: t2t", "kind: t2"), 5, 11, "kind",
        "model.tokenizer.kind must be one of 't2t', 'conv', 'patch', got 't2'", "did you mean 't2t'?"),
    Bad("kind of backbone misspelt", edit(GOOD, "  backbone:\n", "  backbone:\n    kind: pain\n"), 11, 11, "kind",
        "model.backbone.kind must be one of 'plain', 'dense', got 'pain'", "did you mean 'plain'?"),
    Bad("kind of model misspelt", edit(GOOD, "model:\n", "model:\n  kind: vti\n"), 3, 9, "kind",
        "model.kind must be one of 'vit', 'timm', got 'vti'", "did you mean 'vit'?"),
    Bad("kind of data misspelt", edit(GOOD_TRAIN, "kind: digits", "kind: digit"), 4, 16, "kind",
        f"train.data.kind must be one of {DATA}, got 'digit'", "did you mean 'digits'?", kind="train"),
    Bad("kind of data not near", edit(GOOD_TRAIN, "kind: digits", "kind: imagenet"), 4, 16, "kind",
        f"train.data.kind must be one of {DATA}, got 'imagenet'", "", kind="train"),
    Bad("kind is a number", edit(GOOD, "kind: t2t", "kind: 2"), 5, 11, "kind",
        "model.tokenizer.kind must be one of 't2t', 'conv', 'patch', got 2", ""),
    Bad("kind is a list", edit(GOOD, "kind: t2t", "kind: [t2t]"), 5, 11, "kind",
        "model.tokenizer.kind must be one of 't2t', 'conv', 'patch', got a list", "did you mean 't2t'?"),
    Bad("kind is null", edit(GOOD, "kind: t2t", "kind:"), 5, 10, "kind",
        "model.tokenizer.kind must be one of 't2t', 'conv', 'patch', got nothing", ""),
    Bad("position misspelt", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: 3\n    position: sinusiod"), 15, 15, "choice",
        "model.backbone.position must be one of 'sinusoid', 'learned', got 'sinusiod'", "did you mean 'sinusoid'?"),
    # Version and name
    Bad("unknown version", edit(GOOD, "version: 1", "version: 2"), 1, 10, "version",
        "version must be 1, got 2", LATER),
    Bad("version quoted", edit(GOOD, "version: 1", "version: '1'"), 1, 10, "version",
        "version must be 1, got '1'", "remove the quotes"),
    Bad("version 1.0", edit(GOOD, "version: 1", "version: 1.0"), 1, 10, "version",
        "version must be 1, got 1.0", "write 1"),
    Bad("name with a slash", edit(GOOD, "name: mine", "name: ../../etc/passwd"), 3, 9, "name",
        "model.name must be letters, digits, '.', '_' and '-', at most 64, the first a "
        "letter or digit, got '../../etc/passwd'",
        "write for example t2t_vit_14"),
    Bad("name that begins with _", edit(GOOD, "name: mine", "name: _mine"), 3, 9, "name",
        "model.name must be letters, digits, '.', '_' and '-', at most 64, the first a "
        "letter or digit, got '_mine'",
        "write for example t2t_vit_14"),
    Bad("name of 65 characters", edit(GOOD, "name: mine", "name: " + "m" * 65), 3, 9, "name",
        "model.name must be letters, digits, '.', '_' and '-', at most 64, the first a "
        "letter or digit, got 'mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm...",
        "write for example t2t_vit_14"),
    # Slips of typing
    Bad("no space after a key", edit(GOOD, "depth: 14", "depth:14"), 11, 5, "space",
        "no space after 'depth:'", "write depth: and a space"),
    Bad("no space in braces", edit(GOOD, "{patch_size: 7,", "{patch_size:7,"), 7, 10, "unknown-key",
        "unknown key 'patch_size:7' in model.tokenizer.stages.0", "write patch_size: and a space"),
    Bad("braces around a value", edit(GOOD, "depth: 14", "depth: {depth}"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got a mapping",
        "braces make a mapping; write the value without them"),
    Bad("double braces", edit(GOOD, "depth: 14", "depth: {{depth}}"), 11, 13, "key",
        "a key must be a word", "write key: value"),
    Bad("${DEPTH}", edit(GOOD, "depth: 14", "depth: ${DEPTH}"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '${DEPTH}'",
        "nothing is filled in here; write the value itself, or give it on the command line as key=value"),
    Bad("Unicode minus", edit(GOOD, "depth: 14", "depth: \u221214"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '\u221214'",
        "'\u2212' (U+2212) is a minus sign of typography; write -14"),
    Bad("en dash as a bullet", edit(GOOD, "      - {patch_size: 7", "      \u2013 {patch_size: 7"), 7, 7, "character",
        "'\u2013' (U+2013) is a dash", "write - {patch_size: 7, overlap: 3, token_dim: 64, attention: perf"),
    Bad("curly quotes", edit(GOOD, "name: mine", "name: \u201cmine\u201d"), 3, 9, "name",
        "model.name must be letters, digits, '.', '_' and '-', at most 64, the first a "
        "letter or digit, got '\u201cmine\u201d'",
        "'\u201c' (U+201C) is a curly quote; write mine"),
    Bad("no-break space before a value", edit(GOOD, "depth: 14", "depth: \xa014"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '\\xa014'", "(U+00A0) is a no-break space; write 14"),
    Bad("no-break space as indentation", edit(GOOD, "    depth: 14", "\xa0\xa0\xa0\xa0depth: 14"), 11, 1, "character",
        "(U+00A0) is a no-break space", "write depth: 14"),
    Bad("wide colon", edit(GOOD, "depth: 14", "depth\uff1a 14"), 11, 10, "character",
        "'\uff1a' (U+FF1A) is a wide colon", "write depth: 14"),
    Bad("zero-width space in a key", edit(GOOD, "depth: 14", "dep\u200bth: 14"), 11, 5, "unknown-key",
        "unknown key 'dep\\u200bth' in model.backbone", "(U+200B) is an invisible space; write depth"),
    Bad("tab indentation", edit(GOOD, "    mlp_ratio: 3", "\tmlp_ratio: 3"), 14, 1, "tab",
        "a tab cannot indent YAML", "use spaces"),
    Bad("unclosed bracket", edit(GOOD, "num_heads: 6", "num_heads: [6, 6"), 13, 16, "bracket",
        "the bracket that is opened here is not closed by ']'",
        "close it with ], and put commas between what stands inside"),
    Bad("unclosed brace",
        edit(
            GOOD,
            "attention: performer}\n      - {patch_size: 3, overlap: 1}",
            "attention: performer\n      - {patch_size: 3, overlap: 1}",
        ),
        8, 9, "bracket",
        "the bracket that is opened here is not closed by '}'",
        "close it with }, and put commas between what stands inside"),
    Bad("brace too many",
        edit(GOOD, "{patch_size: 3, overlap: 1}\n", "{patch_size: 3, overlap: 1}}\n"),
        9, 36, "bracket",
        "'}' closes nothing that is open", "remove it"),
    Bad("bracket for brace",
        edit(GOOD, "{patch_size: 3, overlap: 1}\n", "{patch_size: 3, overlap: 1]\n"),
        9, 9, "bracket",
        "the bracket that is opened here is not closed by '}'",
        "close it with }, and put commas between what stands inside"),
    Bad("missing comma in braces",
        edit(GOOD, "{patch_size: 7, overlap: 3,", "{patch_size: 7 overlap: 3,"),
        7, 9, "bracket",
        "the bracket that is opened here is not closed by '}'",
        "close it with }, and put commas between what stands inside"),
    Bad("unclosed quote", edit(GOOD, "name: mine", "name: 'mine"), 3, 9, "quote",
        "the quote that is opened here is never closed", "close it in the same line"),
    Bad("quote inside a word", edit(GOOD, "name: mine", "name: 'mi'ne'"), 3, 13, "quote",
        "text after the closing quote", "write '' for a ' between single quotes"),
    Bad("unknown escape", edit(GOOD, "name: mine", 'name: "C:\\mine"'), 3, 12, "quote",
        "a backslash between double quotes begins an escape, and \\m is none", "use single quotes"),
    Bad("second colon", edit(GOOD, "name: mine", "name: mine: yours"), 3, 13, "yaml",
        "a second ':' in one line", "put the text in quotes, or start a new line"),
    Bad("key without a colon", edit(GOOD, "depth: 14", "depth 14"), 11, 5, "yaml",
        "a line that is neither 'key: value' nor '- item'", "write key: value"),
    Bad("equals sign for a colon", edit(GOOD, "depth: 14", "depth = 14"), 11, 5, "yaml",
        "a line that is neither 'key: value' nor '- item'", "write key: value"),
    Bad("indented too far", edit(GOOD, "    embed_dim: 384", "      embed_dim: 384"), 12, 7, "indent",
        "this does not go on with what stands above it", "indent it as the lines it belongs to, with spaces"),
    Bad("indented too little", edit(GOOD, "    embed_dim: 384", "   embed_dim: 384"), 12, 4, "indent",
        "this does not go on with what stands above it", "indent it as the lines it belongs to, with spaces"),
    Bad("starts with @", edit(GOOD, "name: mine", "name: @mine"), 3, 9, "yaml",
        "a value cannot start with '@'", "put it in quotes"),
    Bad("starts with *", edit(GOOD, "name: mine", "name: *"), 3, 9, "yaml",
        "a value cannot start with '*'", "put it in quotes"),
    Bad("starts with &", edit(GOOD, "name: mine", "name: &"), 3, 9, "yaml",
        "a value cannot start with '&'", "put it in quotes"),
    Bad("block scalar for a number", edit(GOOD, "depth: 14", "depth: |\n      14"), 11, 12, "type",
        "model.backbone.depth must be a whole number, got '14\\n'", "write 14"),
    # What is legal YAML and refused
    Bad("undefined alias", edit(GOOD, "depth: 14", "depth: *depth"), 11, 12, "alias",
        "an alias of an anchor that is nowhere", "write the value out"),
    Bad("anchor that stands twice",
        edit(GOOD, "depth: 14\n    embed_dim: 384", "depth: &n 14\n    embed_dim: &n 384"),
        12, 16, "alias",
        "an anchor that stands twice", "write the value out"),
    Bad("alias recursion", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: &r [*r]"), 14, 16, "recursion",
        "an alias of what it stands in", "write the value out"),
    Bad("billion laughs", LAUGHS, 5, 16, "aliases",
        "more than 32 aliases", "write the values out"),
    Bad("33 aliases", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: [&r 3" + ", *r" * 33 + "]"), 14, 151, "aliases",
        "more than 32 aliases", "write the values out"),
    Bad("merge key", edit(GOOD, "  backbone:\n", "  backbone:\n    <<: {depth: 14}\n"), 11, 5, "merge-key",
        "a merge key", "YAML 1.2 has no merge keys; write the fields out"),
    Bad("tag", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: !!python/object:os.system 3"), 14, 16, "tag",
        "tag 'tag:yaml.org,2002:python/object:os.system'", "a spec is plain YAML; remove the tag"),
    Bad("two documents", GOOD + "---\n" + GOOD, 15, 1, "documents",
        "several documents in one file", "one spec per file; remove the line ---"),
    Bad("nested 33 deep", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: " + "[" * 31 + "]" * 31), 14, 45, "nesting",
        "nested deeper than 32 levels", "a spec needs six"),
    Bad("20,001 values", edit(GOOD, "mlp_ratio: 3", "mlp_ratio: [" + "3, " * 20_000 + "3]"), 14, 59879, "size",
        "more than 20,000 values", "a spec has a hundred"),
    Bad("number as a key", edit(GOOD, "depth: 14", "14: depth"), 10, 3, "missing-key",
        "missing key 'depth' in model.backbone", "write depth: 14", more=(
        Told(11, 5, "unknown-key", "unknown key '14' in model.backbone",
        "known: kind, depth, embed_dim, num_heads, head_dim, mlp_ratio, qkv_bias, position, "
        "drop_path, squeeze_excite, ghost"),
        )),
    Bad("list as a key", edit(GOOD, "depth: 14", "[depth]: 14"), 11, 5, "key",
        "a key must be a word", "write key: value"),
    Bad("list at the root", "- version: 1\n- model: mine\n", 1, 1, "type",
        "a spec must be a mapping", "write model: and its fields beneath"),
    Bad("scalar at the root", "a model of my own\n", 1, 1, "type",
        "a spec must be a mapping", "write model: and its fields beneath"),
    # Text that is none
    Bad("NUL character", edit(GOOD, "depth: 14", "depth: 1\x00").encode(), 11, 13, "character",
        "character U+0000 cannot stand in YAML", "remove it"),
    Bad("control character", edit(GOOD, "name: mine", "name: mi\x1b[31mne"), 3, 11, "character",
        "character U+001B cannot stand in YAML", "remove it"),
    Bad("form feed", edit(GOOD, "  name", "\x0c  name"), 3, 1, "character",
        "character U+000C cannot stand in YAML", "remove it"),
    Bad("UTF-16", GOOD.encode("utf-16"), 1, 1, "encoding",
        "UTF-16 text", "save the file as UTF-8"),
    Bad("Latin-1", edit(GOOD, "name: mine", "name: caf\xe9").encode("latin-1"), 3, 12, "encoding",
        "not UTF-8 text: byte 0xe9", "save the file as UTF-8"),
    Bad("over 1 MiB", (GOOD + "#" * 1_048_576).encode(), 0, 0, "size",
        "larger than 1 MiB", "a spec is a few lines of YAML"),
    Bad("empty", "", 0, 0, "empty",
        "spec is empty", "t2tbuild init writes one"),
    Bad("only comments", "# a spec, some day\n", 0, 0, "empty",
        "spec is empty", "t2tbuild init writes one"),
    Bad("only ---", "---\n", 0, 0, "empty",
        "spec is empty", "t2tbuild init writes one"),
    Bad("a mark and a wrong value", b"\xef\xbb\xbf" + edit(GOOD, "version: 1", "version: 2").encode(), 1, 10, "version",
        "version must be 1, got 2", LATER),
    Bad("CRLF and a wrong value", edit(GOOD, "depth: 14", "depth: 0").replace("\n", "\r\n"), 11, 12, "range",
        "model.backbone.depth must be at least 1, got 0", "write at least 1"),
    # Training specs, and specs that name others
    Bad("model of a missing spec", "version: 1\nmodel: nowhere\n", 2, 8, "file",
        "model 'nowhere': no such file and no such shipped name", "t2tbuild ls shows the shipped names",
        kind="train"),
    Bad("model of a near name", "version: 1\nmodel: t2t_vit_15\n", 2, 8, "file",
        "model 't2t_vit_15': no such file and no such shipped name",
        "did you mean t2t_vit_19 or t2t_vit_14 or t2t_vit_12?"),
    Bad("model is empty", 'version: 1\nmodel: ""\n', 2, 8, "file",
        "model '': the name is empty", "t2tbuild ls shows the shipped names"),
    Bad("model of a search spec", "version: 1\nmodel: deep_narrow\n", 2, 8, "base",
        "model 'deep_narrow' is a search spec, and a model spec is wanted",
        "name a model spec; t2tbuild ls shows them"),
    Bad("warmup_epochs over epochs",
        edit(GOOD_TRAIN, "warmup_epochs: 10", "warmup_epochs: 400"),
        6, 18, "warmup-below-epochs",
        "warmup_epochs must be below epochs, got 400 and 300", "write at most 299", kind="train"),
    Bad("warmup_epochs as many as epochs",
        edit(GOOD_TRAIN, "epochs: 300\n  warmup_epochs: 10", "epochs: 1\n  warmup_epochs: 1"),
        6, 18, "warmup-below-epochs",
        "warmup_epochs must be below epochs, got 1 and 1", "write at most 0", kind="train"),
    Bad("min_lr over lr", edit(GOOD_TRAIN, "min_lr: 1e-5", "min_lr: 1e-2"), 8, 11, "min-lr-below-lr",
        "min_lr must not be above lr, got 0.01 and 0.0005", "write 5e-06", kind="train"),
    Bad("learning_rate", edit(GOOD_TRAIN, "lr: 5e-4", "learning_rate: 5e-4"), 7, 3, "unknown-key",
        "unknown key 'learning_rate' in train", "did you mean 'lr'?", kind="train"),
    Bad("data as a word", edit(GOOD_TRAIN, "data: {kind: digits, image_size: 64}", "data: digits"), 4, 9, "type",
        "train.data must be a mapping, got 'digits'", "write kind: digits and its other fields beneath",
        kind="train"),
    Bad("weights true", GOOD_TRAIN + "weights: true\n", 9, 10, "type",
        "weights must be a mapping, got true", "write for example 81.5_T2T_ViT_14.pth.tar", kind="train"),
    Bad("weights without a file", GOOD_TRAIN + "weights: {reset_head: true}\n", 9, 1, "missing-key",
        "missing key 'file' in weights", "write file: 81.5_T2T_ViT_14.pth.tar", kind="train"),
    Bad("weights grid of one", GOOD_TRAIN + "weights: {file: a.pth, grid: [12]}\n", 9, 30, "length",
        "weights.grid must list at least 2, got 1", "write for example [12, 16]", kind="train"),
    Bad("paper macs in bytes", GOOD_TRAIN + "paper: {table: 1, macs: 4.8GB}\n", 9, 25, "units",
        "paper.macs: '4.8GB' reads as bytes, but MACs and parameters are counted", "write 4.8G", kind="train"),
    Bad("timm argument that a field owns",
        "version: 1\nmodel: {kind: timm, name: resnet50, args: {num_classes: 10}}\n",
        2, 57, "arguments-of-timm",
        "args cannot hold num_classes", "write model.num_classes"),
    Bad("dense of too many blocks", edit(DENSE, "[3, 6, 6, 4]", "[999, 2]"), 7, 13, "at-most-a-thousand-blocks",
        "at most 1000 blocks in all, got 1001", "write fewer"),
    Bad("dense with heads that do not divide", edit(DENSE, "num_heads: 8", "num_heads: 7"), 10, 16, "heads-divide",
        "the width 128 of a block must be divisible by num_heads, got 128 and 7", "nearest that work: 4, 8"),
    Bad("dense with depth", edit(DENSE, "blocks: [3, 6, 6, 4]", "depth: 19"), 5, 3, "missing-key",
        "missing key 'blocks' in model.backbone", "write blocks: [3, 6, 6, 4]", more=(
        Told(7, 5, "unknown-key", "unknown key 'depth' in model.backbone", "it is a field of kind: plain"),
        )),
    # Search specs
    Bad("unknown field, near", edit(GOOD_SEARCH, "backbone.mlp_ratio", "backbone.mpl_ratio"), 8, 5, "space",
        "the base t2t_vit_14 has no field 'backbone.mpl_ratio'",
        "did you mean backbone.mlp_ratio or backbone.position or backbone.depth?", kind="search"),
    Bad("unknown field, not near", edit(GOOD_SEARCH, "backbone.mlp_ratio", "colour"), 8, 5, "space",
        "the base t2t_vit_14 has no field 'colour'", "t2tbuild show t2t_vit_14 lists its fields", kind="search"),
    Bad("field with model.", edit(GOOD_SEARCH, "backbone.mlp_ratio", "model.backbone.mlp_ratio"), 8, 5, "space",
        "the base t2t_vit_14 has no field 'model.backbone.mlp_ratio'",
        "did you mean backbone.mlp_ratio or backbone.position or backbone.drop_path?", kind="search"),
    Bad("field without its section", edit(GOOD_SEARCH, "backbone.mlp_ratio", "mlp_ratio"), 8, 5, "space",
        "the base t2t_vit_14 has no field 'mlp_ratio'", "did you mean backbone.mlp_ratio?", kind="search"),
    Bad("empty space", edit(GOOD_SEARCH, "  space:\n" + SPACE, "  space: {}\n"), 6, 10, "length",
        "search.space must list at least 1, got 0",
        "write for example {backbone.depth: {fill: [0.7, 1.0]}}", kind="search"),
    Bad("missing space", edit(GOOD_SEARCH, "  space:\n" + SPACE, ""), 2, 1, "missing-key",
        "missing key 'space' in search", "write space: {backbone.depth: {fill: [0.7, 1.0]}}", kind="search"),
    Bad("empty budget", edit(GOOD_SEARCH, "{macs: 5G}", "{}"), 5, 11, "some-limit",
        "the budget is empty", "write macs: 5G, params: 22M, or both", kind="search"),
    Bad("budget as a count", edit(GOOD_SEARCH, "{macs: 5G}", "5G"), 5, 11, "type",
        "search.budget must be a mapping, got '5G'", "write for example {macs: 5G}", kind="search"),
    Bad("budget key misspelt", edit(GOOD_SEARCH, "{macs: 5G}", "{mac: 5G}"), 5, 12, "unknown-key",
        "unknown key 'mac' in search.budget", "did you mean 'macs'?", kind="search"),
    Bad("budget 5GB", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: 5GB}"), 5, 18, "units",
        "search.budget.macs: '5GB' reads as bytes, but MACs and parameters are counted", "write 5G", kind="search"),
    Bad("budget 5 G", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: 5 G}"), 5, 18, "units",
        "search.budget.macs: '5 G' is not a count", "write 5G", kind="search"),
    Bad("budget 5g", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: 5g}"), 5, 18, "units",
        "search.budget.macs: '5g' is not a count", "write 5G", kind="search"),
    Bad("budget 5 GFLOPs", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: 5 GFLOPs}"), 5, 18, "units",
        "search.budget.macs: '5 GFLOPs' is not a count of MACs",
        "write 5G, or 2.5G where a multiply-add was counted as two FLOPs", kind="search"),
    Bad("budget -5G", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: -5G}"), 5, 18, "units",
        "search.budget.macs: a count must be above zero, got -5G", "write for example 5G, 500M or 5e9",
        kind="search"),
    Bad("budget 0", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: 0}"), 5, 18, "units",
        "search.budget.macs: a count must be above zero, got 0", "write for example 5G, 500M or 5e9", kind="search"),
    Bad("budget nan", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: nan}"), 5, 18, "units",
        "search.budget.macs: 'nan' is not a count", "write for example 5G, 500M or 5e9", kind="search"),
    Bad("budget [5G]", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: [5G]}"), 5, 18, "units",
        "search.budget.macs: a count is wanted, got a list", "write for example 5G, 500M or 5e9", kind="search"),
    Bad("budget true", edit(GOOD_SEARCH, "{macs: 5G}", "{macs: true}"), 5, 18, "units",
        "search.budget.macs: a count is wanted, got true", "write for example 5G, 500M or 5e9", kind="search"),
    Bad("timeout '1:30'", edit(GOOD_SEARCH, "timeout: 5m", "timeout: '1:30'"), 12, 12, "units",
        "search.timeout: '1:30' is not a length of time", "write for example 5m, 90s or 2h", kind="search"),
    Bad("timeout 5 minutes", edit(GOOD_SEARCH, "timeout: 5m", "timeout: 5 minutes"), 12, 12, "units",
        "search.timeout: '5 minutes' is not a length of time", "write 5m", kind="search"),
    Bad("timeout 0", edit(GOOD_SEARCH, "timeout: 5m", "timeout: 0"), 12, 12, "units",
        "search.timeout: 0 is not a length of time", "write for example 5m, 90s or 2h", kind="search"),
    Bad("timeout true", edit(GOOD_SEARCH, "timeout: 5m", "timeout: true"), 12, 12, "units",
        "search.timeout: true is not a length of time", "write for example 5m, 90s or 2h", kind="search"),
    Bad("fill from 0", edit(GOOD_SEARCH, "[0.7, 1.0]", "[0, 1]"), 9, 29, "range",
        "search.space.backbone.depth.fill.0 must be above 0, got 0", "write for example 0.7", kind="search"),
    Bad("fill in percent", edit(GOOD_SEARCH, "[0.7, 1.0]", "[70%, 100%]"), 9, 29, "type",
        "search.space.backbone.depth.fill.0 must be a number, got '70%'", "write 0.7", kind="search", more=(
        Told(9, 34, "type", "search.space.backbone.depth.fill.1 must be a number, got '100%'", "write 1"),
        )),
    Bad("fill of one", edit(GOOD_SEARCH, "[0.7, 1.0]", "[0.7]"), 9, 28, "length",
        "search.space.backbone.depth.fill must list at least 2, got 1", "write for example [0.7, 1.0]",
        kind="search"),
    Bad("fill as a number", edit(GOOD_SEARCH, "[0.7, 1.0]", "0.7"), 9, 28, "type",
        "search.space.backbone.depth.fill must be a list, got 0.7", "write for example [0.7, 1.0]", kind="search"),
    Bad("fill with .nan", edit(GOOD_SEARCH, "[0.7, 1.0]", "[.nan, 1]"), 9, 29, "finite",
        "search.space.backbone.depth.fill.0 must be a finite number, got .nan",
        "write for example 0.7", kind="search"),
    Bad("two fills",
        edit(GOOD_SEARCH, "{choices: [2, 3, 4]}", "{fill: [0.5, 1.0]}"),
        9, 21, "space-holds-together",
        "one field alone can be solved from the budget, and backbone.mlp_ratio is already",
        "write {choices: [...]}", kind="search"),
    Bad("fill of several fields",
        edit(GOOD_SEARCH, "backbone.depth: {fill: [0.7, 1.0]}", "tokenizer.stages.*.token_dim: {fill: [0.7, 1.0]}"),
        9, 35, "space-holds-together",
        "one field is solved from the budget, not several: tokenizer.stages.*.token_dim",
        "e.g. backbone.depth", kind="search"),
    Bad("a value for each block of a width",
        edit(GOOD_SEARCH, "step: 64}", "step: 64, per: block}"), 7, 62, "space-holds-together",
        "backbone.embed_dim has no value for each block",
        "write per: block for backbone.num_heads or backbone.mlp_ratio", kind="search"),
    Bad("a condition on a later field",
        edit(GOOD_SEARCH, "step: 64}", "step: 64, when: {backbone.mlp_ratio: 3}}"), 7, 84, "space-holds-together",
        "backbone.mlp_ratio is drawn after backbone.embed_dim, which depends on it", "write it first", kind="search"),
    Bad("budget with min above max", edit(GOOD_SEARCH, "macs: 5G", "macs: {max: 4G, min: 5G}"), 5, 33,
        "bounds-hold-something", "min must not be above max, got 5G and 4G", "swap them", kind="search"),
    Bad("budget with neither bound", edit(GOOD_SEARCH, "macs: 5G", "macs: {}"), 5, 18,
        "bounds-hold-something", "no limit is given", "write max: 5G, min: 4G, or both", kind="search"),
    Bad("bound that is no count", edit(GOOD_SEARCH, "macs: 5G", "macs: {max: 5GB}"), 5, 24, "units",
        "search.budget.macs.max: '5GB' reads as bytes, but MACs and parameters are counted", "write 5G", kind="search"),
    Bad("search without accuracy", f"{GOOD_SEARCH}  objectives: [macs]\n", 13, 15, "accuracy-is-sought",
        "a search without accuracy needs no training", "add accuracy", kind="search"),
    Bad("unknown score", f"{GOOD_SEARCH}  scores: {{names: [naswott]}}\n", 13, 20, "choice",
        "search.scores.names.0 must be one of 'naswot', 'params', 'macs', 'depth', 'weight_norm', 'snip', 'grad_norm', "
        "'synflow', 'dss', got 'naswott'", "did you mean 'naswot'?", kind="search"),
    Bad("score twice", f"{GOOD_SEARCH}  scores: {{names: [snip, snip]}}\n", 13, 26, "no-score-twice",
        "names lists snip twice", "remove one of the two", kind="search"),
    Bad("unknown target", f"{GOOD_SEARCH}  target: accuracy\n", 13, 11, "choice",
        "search.target must be one of 'auto', 'imagenet', 'data', got 'accuracy'", "", kind="search"),
    Bad("unknown sampler", f"{GOOD_SEARCH}  sampler: bayes\n", 13, 12, "choice",
        "search.sampler must be one of 'predicted', 'tpe', 'random', 'nsga2', 'gp', 'brute_force', got 'bayes'", "",
        kind="search"),
    Bad("fill with high below low",
        edit(GOOD_SEARCH, "{fill: [0.7, 1.0]}", "{fill: [0.7, 1.0], low: 9, high: 3}"),
        9, 54, "range-rises-in-steps",
        "high must not be below low, got 3 and 9", "swap them", kind="search"),
    Bad("low over high",
        edit(GOOD_SEARCH, "low: 256, high: 512, step: 64", "low: 512, high: 256, step: 64"),
        7, 42, "range-rises-in-steps",
        "high must not be below low, got 256 and 512", "swap them", kind="search"),
    Bad("step misses high", edit(GOOD_SEARCH, "high: 512", "high: 500"), 7, 42, "range-rises-in-steps",
        "high is not low plus a multiple of step 64, got 500", "write 448", kind="search"),
    Bad("step 0", edit(GOOD_SEARCH, "step: 64", "step: 0"), 7, 53, "range",
        "search.space.backbone.embed_dim.step must be at least 1, got 0", "write at least 1", kind="search"),
    Bad("high missing", edit(GOOD_SEARCH, "low: 256, high: 512, step: 64", "low: 256"), 7, 5, "missing-key",
        "missing key 'high' in search.space.backbone.embed_dim", "write high: 640", kind="search"),
    Bad("range beyond the field", edit(GOOD_SEARCH, "high: 512", "high: 131072"), 7, 42, "range",
        "backbone.embed_dim must be at most 65536, got 131072",
        "it would have 2.41T parameters, 9.6 TB in float32", kind="search"),
    Bad("choice of the wrong type", edit(GOOD_SEARCH, "[2, 3, 4]", "[2, three, 4]"), 8, 39, "type",
        "backbone.mlp_ratio must be a number, got 'three'", "write for example 3", kind="search"),
    Bad("choice that is a mapping", edit(GOOD_SEARCH, "[2, 3, 4]", "[2, {a: 3}, 4]"), 8, 39, "type",
        "backbone.mlp_ratio must be a number, got a mapping", "write for example 3", kind="search"),
    Bad("misspelt choice",
        edit(
            GOOD_SEARCH,
            "backbone.mlp_ratio: {choices: [2, 3, 4]}",
            "tokenizer.stages.*.attention: {choices: [performer, transformr]}",
        ),
        8, 57, "kind",
        "tokenizer.stages.0.attention must be one of 'transformer', 'performer', got 'transformr'",
        "did you mean 'transformer'?", kind="search"),
    Bad("choices with a repeat", edit(GOOD_SEARCH, "[2, 3, 4]", "[2, 3, 2]"), 8, 42, "no-choice-twice",
        "lists the choice 2 twice", "remove one of the two", kind="search"),
    Bad("empty choices", edit(GOOD_SEARCH, "[2, 3, 4]", "[]"), 8, 35, "length",
        "search.space.backbone.mlp_ratio.choices must list at least 1, got 0",
        "write for example [2, 3, 4]", kind="search"),
    Bad("bare list for a dimension", edit(GOOD_SEARCH, "{choices: [2, 3, 4]}", "[2, 3, 4]"), 8, 25, "dimension",
        "search.space.backbone.mlp_ratio must be {choices: [...]}, {low: ..., high: ..., "
        "step: ...} or {fill: [..., ...]}",
        "", kind="search"),
    Bad("dimension misspelt", edit(GOOD_SEARCH, "{choices: [2, 3, 4]}", "{choice: [2, 3, 4]}"), 8, 25, "dimension",
        "search.space.backbone.mlp_ratio must be {choices: [...]}, {low: ..., high: ..., "
        "step: ...} or {fill: [..., ...]}",
        "", kind="search"),
    Bad("no member is valid",
        edit(GOOD_SEARCH, "backbone.mlp_ratio: {choices: [2, 3, 4]}", "backbone.num_heads: {choices: [999]}"),
        6, 3, "space",
        "no member is a valid model; of the first, embed_dim must be divisible by num_heads, got 256 and 999 "
        "(nearest that work: 256)", "change its values, or add the field that they need", kind="search"),
    Bad("log in a range", edit(GOOD_SEARCH, "step: 64", "step: 64, log: true"), 7, 57, "unknown-key",
        "unknown key 'log' in search.space.backbone.embed_dim", "known: when, per, low, high, step", kind="search"),
    Bad("base that does not exist", edit(GOOD_SEARCH, "base: t2t_vit_14", "base: t2t_vit_41"), 4, 9, "file",
        "search.base 't2t_vit_41': no such file and no such shipped name",
        "did you mean t2t_vit_24 or t2t_vit_19 or t2t_vit_14?", kind="search"),
    Bad("base as a path that does not exist",
        edit(GOOD_SEARCH, "base: t2t_vit_14", "base: ./nowhere/mine.yaml"),
        4, 9, "file",
        "search.base './nowhere/mine.yaml': no such file and no such shipped name",
        "t2tbuild ls shows the shipped names", kind="search"),
    Bad("base of timm", edit(GOOD_SEARCH, "base: t2t_vit_14", "base: resnet50"), 4, 9, "base",
        "resnet50 is a model of timm, which has no fields to search", "name one of ours", kind="search"),
    Bad("base is a search", edit(GOOD_SEARCH, "base: t2t_vit_14", "base: deep_narrow"), 4, 9, "base",
        "search.base 'deep_narrow' is a search spec, and a model spec is wanted",
        "name a model spec; t2tbuild ls shows them", kind="search"),
    Bad("base missing", edit(GOOD_SEARCH, "  base: t2t_vit_14\n", ""), 2, 1, "missing-key",
        "missing key 'base' in search", "write base: t2t_vit_14", kind="search"),
    Bad("base empty", edit(GOOD_SEARCH, "base: t2t_vit_14", "base: ''"), 4, 9, "file",
        "search.base '': the name is empty", "t2tbuild ls shows the shipped names", kind="search"),
    Bad("budget below the smallest", edit(GOOD_SEARCH, "5G", "100M"), 5, 18, "budget",
        "no candidate has 100.0M macs or fewer; the smallest of the space has 414,507,712",
        "write at least 414.51M, or widen search.space", kind="search"),
    Bad("params below the smallest", edit(GOOD_SEARCH, "{macs: 5G}", "{params: 1M}"), 5, 20, "budget",
        "no candidate has 1.00M params or fewer; the smallest of the space has 1,152,206",
        "write at least 1.16M, or widen search.space", kind="search"),
    Bad("rungs fall", edit(GOOD_SEARCH, "[40, 120, 280]", "[280, 120, 40]"), 10, 18, "rungs-rise",
        "rungs must rise, got [280, 120, 40]", "write [40, 100, 200]", kind="search"),
    Bad("proxy images too small",
        edit(GOOD_SEARCH, "t2t_vit_14", "vit_s16", "rungs", "data: {image_size: 8}, rungs", "5G", "50G"),
        10, 30, "purpose",
        "vit_s16 cannot be trained at the proxy's 8 pixels: image_size 8 x 8 leaves no token "
        "at stage 0: a patch of 16 with padding 0 does not fit the image of 8 x 8 (write a "
        "larger image_size or a smaller patch_size)",
        "write a larger search.proxy.data.image_size", kind="search"),
    Bad("rungs with a word", edit(GOOD_SEARCH, "[40, 120, 280]", "[40, many]"), 10, 23, "type",
        "search.proxy.rungs.1 must be a whole number, got 'many'", "write for example 100", kind="search"),
    Bad("no rungs", edit(GOOD_SEARCH, "[40, 120, 280]", "[]"), 10, 18, "length",
        "search.proxy.rungs must list at least 1, got 0", "write for example [40, 100, 200]", kind="search"),
    Bad("width misspelt", edit(GOOD_SEARCH, "rungs:", "width: quater, rungs:"), 10, 18, "choice",
        "search.proxy.width must be one of 'quarter', 'auto', 'full', got 'quater'",
        "did you mean 'quarter'?", kind="search"),
    Bad("proxy key at the wrong place",
        edit(GOOD_SEARCH, "trials: 12", "trials: 12\n  rungs: [40]"),
        12, 3, "unknown-key",
        "unknown key 'rungs' in search", "it belongs in search.proxy", kind="search"),
    Bad("search is null", "version: 1\nsearch:\n", 2, 8, "type",
        "search must be a mapping, got nothing", "write its fields beneath, indented", kind="search"),
    Bad("several", edit(GOOD_SEARCH, "5G", "5GB", "5m", "5 minutes", "trials: 12", "trails: 12"), 5, 18, "units",
        "search.budget.macs: '5GB' reads as bytes, but MACs and parameters are counted", "write 5G",
        kind="search", more=(
        Told(11, 3, "unknown-key", "unknown key 'trails' in search", "did you mean 'trials'?"),
        Told(12, 12, "units", "search.timeout: '5 minutes' is not a length of time", "write 5m"),
        )),
    # Several at once
    Bad("misspelt depth and heads that do not divide",
        edit(GOOD, "depth: 14", "dpeth: 14", "num_heads: 6", "num_heads: 5"),
        11, 5, "unknown-key",
        "unknown key 'dpeth' in model.backbone", "did you mean 'depth'?", more=(
        Told(13, 16, "heads-divide", "embed_dim must be divisible by num_heads, got 384 and 5",
        "nearest that work: 4, 6"),
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
        1, 10, "version",
        "version must be 1, got 2", LATER, more=(
        Told(3, 9, "name", "model.name must be letters, digits, '.', '_' and '-', at most 64, the first a "
        "letter or digit, got 'my model'",
        "write for example t2t_vit_14"),
        Told(7, 34, "overlap-below-patch-size", "overlap must be below patch_size, got 7 and 7", "write at most 6"),
        Told(11, 12, "type", "model.backbone.depth must be a whole number, got 'ten'", "write for example 14"),
        Told(13, 16, "heads-divide", "embed_dim must be divisible by num_heads, got 384 and 5",
        "nearest that work: 4, 6"),
        )),
    Bad("a kind misspelt, and a field behind it",
        edit(GOOD, "kind: t2t", "kind: t2", "overlap: 3,", "overlap: three,"),
        5, 11, "kind",
        "model.tokenizer.kind must be one of 't2t', 'conv', 'patch', got 't2'", "did you mean 't2t'?", more=(
        Told(7, 34, "type", "model.tokenizer.stages.0.overlap must be a whole number, got 'three'",
        "write for example 3"),
        )),
    Bad("no such kind, and fields behind it",
        edit(GOOD, "    depth: 14", "    kind: swin\n    dpeth: 14", "num_heads: 6", "num_heads: x"),
        11, 11, "kind",
        "model.backbone.kind must be one of 'plain', 'dense', got 'swin'", "", more=(
        Told(12, 5, "unknown-key", "unknown key 'dpeth' in model.backbone", "did you mean 'depth'?"),
        Told(14, 16, "type", "model.backbone.num_heads must be a whole number, got 'x'", "write for example 6"),
        )),
    Bad("model and train",
        GOOD.replace("depth: 14", "depth: 0") + "train: {epochs: 5, warmup_epochs: 5, lr: 1e-3, min_lr: 1}\n",
        11, 12, "range",
        "model.backbone.depth must be at least 1, got 0", "write at least 1", more=(
        Told(15, 35, "warmup-below-epochs", "warmup_epochs must be below epochs, got 5 and 5", "write at most 4"),
        Told(15, 56, "min-lr-below-lr", "min_lr must not be above lr, got 1 and 0.001", "write 1e-05"),
        )),
    Bad("two numbers with leading zeros",
        edit(GOOD, "depth: 14", "depth: 014", "num_heads: 6", "num_heads: 06"),
        11, 12, "number",
        "014 has a leading zero", "write 14", more=(
        Told(13, 16, "number", "06 has a leading zero", "write 6"),
        )),
    Bad("a kind for a key", edit(VIT, "{kind: patch, patch_size: 16}", "{t2t: {stages: [{patch_size: 16}]}}"),
        4, 3, "missing-key",
        "missing key 'stages' in model.tokenizer",
        "write stages: [{patch_size: 7, overlap: 3, token_dim: 64, attention: performer}, {patch_size: 3, overlap: 1}]",
        more=(
        Told(4, 15, "unknown-key", "unknown key 't2t' in model.tokenizer", "write kind: t2t and its fields beside it"),
        )),
    Bad("a kind beside its kind", edit(VIT, "patch_size: 16}", "patch_size: 16, patch: [1, 2]}"), 4, 44, "unknown-key",
        "unknown key 'patch' in model.tokenizer", "write kind: patch and its fields beside it"),
    Bad("a dimension's name for a field", edit(GOOD_SEARCH, "backbone.mlp_ratio: {", "Choices: {Choices: 1, "),
        8, 15, "unknown-key",
        "unknown key 'Choices' in search.space.Choices",
        "did you mean 'choices', which is there already?", kind="search"),
    Bad("problems of YAML and of the rest",
        edit(GOOD, "depth: 14", "depth: 014", "num_heads: 6", "num_heads: 5", "name: mine",
            "name: mine\n  name: yours"),
        4, 3, "duplicate-key",
        "key 'name' stands twice, in line 3 (name: mine) and here", "remove one of the two", more=(
        Told(12, 12, "number", "014 has a leading zero", "write 14"),
        Told(14, 16, "heads-divide", "embed_dim must be divisible by num_heads, got 384 and 5",
        "nearest that work: 4, 6"),
        )),
    Bad("model missing and train wrong", "version: 1\nmodel: nowhere\ntrain: {epochs: ten}\n", 2, 8, "file",
        "model 'nowhere': no such file and no such shipped name", "t2tbuild ls shows the shipped names", more=(
        Told(3, 17, "type", "train.epochs must be a whole number, got 'ten'", "write for example 300"),
        )),
    Bad("two fields that the base has not",
        edit(GOOD_SEARCH, "backbone.embed_dim", "embed_dim", "backbone.mlp_ratio", "backbone.mlp_ratoi"),
        7, 5, "space",
        "the base t2t_vit_14 has no field 'embed_dim'", "did you mean backbone.embed_dim?", kind="search", more=(
        Told(8, 5, "space", "the base t2t_vit_14 has no field 'backbone.mlp_ratoi'",
        "did you mean backbone.mlp_ratio or backbone.drop_path or backbone.depth?"),
        )),
    Bad("fill on a depth misspelt", edit(GOOD_SEARCH, "backbone.depth", "backbone.detph"), 9, 5,
        "space", "the base t2t_vit_14 has no field 'backbone.detph'",
        "did you mean backbone.depth or backbone.drop_path or backbone.kind?", kind="search"),
    Bad("a file of weights that cannot be", edit(GOOD_TRAIN, "train:", 'weights: "a\\0b"\ntrain:'), 3, 10, "file",
        "'a\\x00b' is not a file name", "name a file of weights", kind="train"),
    Bad("a thousand choices and one",
        edit(GOOD_SEARCH, "choices: [2, 3, 4]", f"choices: [{', '.join(map(str, range(1001)))}]"), 8, 35, "length",
        "search.space.backbone.mlp_ratio.choices must list at most 1000, got 1001", "write at most 1000",
        kind="search"),
)
# fmt: on
