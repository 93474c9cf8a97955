"""Which architectures to compile for: the union over the cards, each clamped to what this nvcc really builds."""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple, Sequence

from ..gpucode import reach, target_for
from ..versions import capability
from .failures import failure


class Architectures(NamedTuple):
    """Dotted capabilities: `real` code for each card, and the PTX asked for (usually none)."""

    real: List[str]
    ptx: List[str]

    @property
    def code(self) -> List[str]:
        """The same as compilers name code: ['sm_61', 'compute_61']."""
        return [f"sm_{flat(a)}" for a in self.real] + [f"compute_{flat(a)}" for a in self.ptx]


def flat(dotted: str) -> str:
    """'8.6' as '86'."""
    return dotted.replace(".", "")


def dotted(figures: str) -> str:
    """'86' as '8.6', '120' as '12.0'; a letter of a variant ('90a') is left out."""
    digits = figures.rstrip("abcdefghijklmnopqrstuvwxyz")
    return f"{digits[:-1]}.{digits[-1]}"


def listed_by_nvcc(said: str) -> List[str]:
    """The real architectures in what `nvcc --list-gpu-code` or `nvcc --help` says, dotted, lowest first."""
    found = {dotted(figures) for figures in re.findall(r"\bsm_(\d+)\b", said)}
    return sorted(found, key=capability)


def checked(text: str) -> str:
    """A capability as a user types it; '61', '6,1' or '7' is refused, because OpenCV would read it differently."""
    if not re.fullmatch(r"[0-9]{1,2}\.[0-9]", text):
        raise failure("B-usage", f"'{text}' is not a compute capability.", "Write it dotted: --arch-bin 6.1")
    return text


def choose(
    cards: Sequence[str], builds: Sequence[str], integrated: Iterable[str], floor: str, ptx: Sequence[str], who: str
) -> Architectures:
    """The architectures for cards of these capabilities, with an nvcc that builds `builds` and an OpenCV that takes
    `floor` and up. `who` names toolkit and OpenCV in messages ('CUDA 13.0 and OpenCV 4.14.0').
    """
    if not cards:
        raise failure(
            "D25-detection-failed",
            "No card was found and no architecture was given.",
            'Say what to build for: --arch-bin 6.1, or --gpu "Quadro P2000".',
        )
    real = set()
    for card in sorted(set(cards), key=capability):
        if capability(card) < capability(floor):
            raise failure(
                "D19-below-opencv-floor",
                f"The DNN CUDA backend takes capability {floor} or more, a card has {card} ({who}).",
                "Take a newer OpenCV (4.3.0 and later take 3.0), or another card.",
            )
        target = target_for(card, builds, integrated)
        if target is None:
            raise failure(
                "D26-not-for-this-cuda",
                f"This nvcc makes code for {', '.join(builds) or 'nothing'}; a card has {card} ({who}).",
                "Plan with another CUDA: gpuhost plan --gpu ... names one that builds for the card.",
            )
        real.add(target)
    for wanted in ptx:
        if wanted not in builds:
            raise failure(
                "D26-not-for-this-cuda",
                f"This nvcc makes no PTX for {wanted}; it knows {', '.join(builds)}.",
                "Correct --ptx.",
            )
    return Architectures(sorted(real, key=capability), sorted(set(ptx), key=capability))


def must_cover(code: Iterable[str], cards: Iterable[str], what: str) -> None:
    """Refuse code ('sm_70', 'compute_70') that does not run on every card."""
    code = sorted(code)
    for card in sorted(set(cards), key=capability):
        if reach(code, card) == "none":
            raise failure(
                "D17-card-not-covered",
                f"{what} has code for {', '.join(code) or 'no card'}; the card here is {card}.",
                f"Build for it: --arch-bin {card} (or leave --arch-bin out on the host that has the card).",
            )
