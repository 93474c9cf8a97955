"""What compiled GPU code runs on which card: real code (cubin) and PTX, after NVIDIA's compatibility rules.

Source: CUDA C++ programming guide, binary and PTX compatibility. Real code for x.y runs on x.z with z >= y; PTX of any
lower capability is compiled by the driver at run time. Code for integrated chips (Tegra) is not for cards, and neither
is what card code has to run on.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

from typing import Iterable, List, Optional, Sequence, Tuple

from .versions import capability


def reach(code: Iterable[str], card: str) -> str:
    """How a binary with this code ('sm_60', 'compute_80') gets onto a card: 'cubin', 'ptx-jit' or 'none'."""
    real = [parse(c) for c in code if c.startswith("sm_")]
    virtual = [parse(c) for c in code if c.startswith("compute_")]
    major, minor = capability(card)
    if any(a == major and b <= minor for a, b in real):
        return "cubin"
    return "ptx-jit" if any(v <= (major, minor) for v in virtual) else "none"


def parse(name: str) -> Tuple[int, int]:
    """'sm_86' or 'compute_120' as the capability it is for."""
    figures = name.rpartition("_")[2]
    return int(figures[:-1]), int(figures[-1])


def target_for(card: str, builds: Sequence[str], integrated: Iterable[str]) -> Optional[str]:
    """The real architecture to compile for a card with a toolkit that builds `builds`.

    It is the card's own, else the highest lower one of the same major version that is not an integrated chip's, else
    None: the toolkit cannot build for the card.
    """
    if card in builds:
        return card
    major, minor = capability(card)
    skip = set(integrated)
    lower: List[str] = [c for c in builds if c not in skip and capability(c)[0] == major and capability(c)[1] <= minor]
    return max(lower, key=capability) if lower else None
