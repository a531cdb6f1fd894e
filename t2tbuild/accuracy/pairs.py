"""Pairs of published models whose order on ImageNet is known. Valid evidence must order them as published."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownPair:
    """Two published models, each as (source, name). The first is better when both are trained by `recipe`."""

    name: str
    better: tuple[str, str]
    worse: tuple[str, str]
    recipe: str


def _paper(name: str, better: str, worse: str) -> KnownPair:
    return KnownPair(name, ("t2t", better), ("t2t", worse), "t2t")


KNOWN_PAIRS = (
    _paper("T2T 14 x 384 over 4 x 768", "t2t_vit_14", "t2t_vit_14_wide"),
    _paper("ViT 16 x 384 over 8 x 768", "vit_dn", "vit_s16"),
    _paper("ViT 16 x 384 over 4 x 1024", "vit_dn", "vit_sw"),
    _paper("T2T over convolutions", "t2t_vit_14", "t2t_vit_c_14"),
    _paper("T2T over hard patches", "t2t_vit_14", "t2t_vit_14_wo_t2t"),
    _paper("convolutions over hard patches", "t2t_vit_c_14", "t2t_vit_14_wo_t2t"),
    KnownPair(
        "distilled ViT 12 x 384 over 36 x 192",
        ("deit", "deit_s_distilled"),
        ("cait", "cait_xxs36_224_dist"),
        "deit_300_disttoken",
    ),
)
"""Pairs from Tables 6 and 7 of the paper, and one in which the deeper model is worse: DeiT-S distilled (81.2) over
CaiT-XXS36 (79.8). Their recipes differ slightly, their MACs by a fifth."""
