"""Invalid weights and paper sections, dense backbones, and specs that name others; see `bad_inputs.py`."""

from bad_inputs import DENSE, GOOD_TRAIN, Bad, Mistake, edit

# One or two lines for each input are easier to read than the formatter's nine.
# fmt: off
BAD_SECTIONS = (
    # Training specs, and specs that name others
    Bad("model of a missing spec", "version: 1\nmodel: nowhere\n", 2, 8, "file", "'nowhere'", kind="train"),
    Bad("model of a near name", "version: 1\nmodel: t2t_vit_15\n", 2, 8, "file", "'t2t_vit_15'"),
    Bad("model is empty", 'version: 1\nmodel: ""\n', 2, 8, "file"),
    Bad("model of a search spec", "version: 1\nmodel: deep_narrow\n", 2, 8, "base", "'deep_narrow'"),
    Bad("warmup_epochs over epochs", edit(GOOD_TRAIN, "warmup_epochs: 10", "warmup_epochs: 400"),
        6, 18, "warmup-below-epochs", "400 and 300", kind="train"),
    Bad("warmup_epochs as many as epochs",
        edit(GOOD_TRAIN, "epochs: 300\n  warmup_epochs: 10", "epochs: 1\n  warmup_epochs: 1"),
        6, 18, "warmup-below-epochs", "1 and 1", kind="train"),
    Bad("min_lr over lr", edit(GOOD_TRAIN, "min_lr: 1e-5", "min_lr: 1e-2"),
        8, 11, "min-lr-below-lr", "0.01 and 0.0005", kind="train"),
    Bad("learning_rate", edit(GOOD_TRAIN, "lr: 5e-4", "learning_rate: 5e-4"),
        7, 3, "unknown-key", "'learning_rate'", kind="train"),
    Bad("data as a word", edit(GOOD_TRAIN, "data: {kind: digits, image_size: 64}", "data: digits"),
        4, 9, "type", "'digits'", kind="train"),
    Bad("weights true", GOOD_TRAIN + "weights: true\n", 9, 10, "type", "true", kind="train"),
    Bad("weights without a file", GOOD_TRAIN + "weights: {reset_head: true}\n",
        9, 1, "missing-key", "'file'", kind="train"),
    Bad("weights grid of one", GOOD_TRAIN + "weights: {file: a.pth, grid: [12]}\n", 9, 30, "length", "1", kind="train"),
    Bad("paper macs in bytes", GOOD_TRAIN + "paper: {table: 1, macs: 4.8GB}\n",
        9, 25, "units", "'4.8GB'", kind="train"),
    Bad("timm argument that a field owns", "version: 1\nmodel: {kind: timm, name: resnet50, args: {num_classes: 10}}\n",
        2, 57, "arguments-of-timm"),
    Bad("dense of too many blocks", edit(DENSE, "[3, 6, 6, 4]", "[999, 2]"),
        7, 13, "at-most-a-thousand-blocks", "1001"),
    Bad("dense with heads that do not divide", edit(DENSE, "num_heads: 8", "num_heads: 7"),
        10, 16, "heads-divide", "128 and 7"),
    Bad("dense with depth", edit(DENSE, "blocks: [3, 6, 6, 4]", "depth: 19"), 5, 3, "missing-key", "'blocks'", more=(
        Mistake(7, 5, "unknown-key", "'depth'"),
        )),
)
# fmt: on
