"""Checks of a Python environment that the user names to the doctor: whether its frameworks can use the card."""

import re
from functools import partial
from typing import TYPE_CHECKING, List

from ..gpucode import reach
from ..types import Json
from .base import Check, Outcome, held, skipped
from .host import observation

if TYPE_CHECKING:
    from ..shapes.seen import Seen

NAMES = {"opencv": "OpenCV", "tensorflow": "TensorFlow", "torch": "PyTorch"}
_CODE = re.compile(r"(sm|compute)_[0-9]{2,3}\Z")


def environment(seen: "Seen") -> Json:  # Json: what doctor.python collects, which no schema describes
    """What the environment said; empty where none was named."""
    return dict(seen.get("python") or {})


def framework(seen: "Seen", name: str) -> Json:  # Json: what host.probe.frameworks says, which no schema describes
    """What a framework of it said; empty where it has none."""
    return dict(environment(seen).get("frameworks", {}).get(name) or {})


def words(seen: "Seen", name: str) -> str:
    """The error and the telling lines of a framework, as one text."""
    found = framework(seen, name)
    return "\n".join([str(found.get("error") or ""), *found.get("said", [])])


def capabilities(seen: "Seen") -> List[str]:
    """The compute capabilities of the cards, as CUDA or nvidia-smi says them."""
    cuda = seen.get("cuda")
    of_cuda = [card["capability"] for card in cuda["devices"]] if cuda is not None else []
    of_smi = [card["compute_capability"] or "" for card in observation(seen)["gpus"]]
    return sorted({text for text in of_cuda or of_smi if text})


def uncovered(seen: "Seen", name: str) -> List[str]:
    """The capabilities of cards that a framework holds no code for; none where it does not say what it holds."""
    code = [text for text in framework(seen, name).get("code", []) if _CODE.match(str(text))]
    return [card for card in capabilities(seen) if code and reach(code, card) == "none"]


def is_for_processor(seen: "Seen", name: str) -> bool:
    """Return whether it is a build without CUDA."""
    found = framework(seen, name)
    return bool(found) and found.get("version") is not None and found.get("cuda") is None


def starts(seen: "Seen") -> Outcome:
    """Judge whether the environment's Python answers."""
    found = environment(seen)
    if not found:
        return skipped("a Python environment", "no environment was named (--python)")
    actual = found["error"] or f"Python {found['python']} in {found['prefix']}"
    return held(found["error"] is None, f"{found['path']} is a Python from 3.6 on that starts", actual, "")


def uses_card(name: str, seen: "Seen") -> Outcome:
    """Judge whether a framework of the environment can use the card."""
    found, title = framework(seen, name), NAMES[name]
    required = f"{title} is built with CUDA, holds code for the card, and computes on it"
    if not found:
        return skipped(required, f"the environment has no {title}" if environment(seen) else "no environment was named")
    told = f"{title} {found['version'] or ''}".strip() + f" ({found['module']})"
    more = f"; it says: {found['said'][-1]}" if found["said"] else ""
    if found["version"] is None:
        return held(False, required, f"{told}: {found['error']}{more}", "")
    if found["cuda"] is None:
        return held(False, required, f"{told} is built without CUDA", "")
    missing = uncovered(seen, name)
    if missing:
        return held(False, required, f"{told} holds {', '.join(found['code'])}, the card is {', '.join(missing)}", "")
    if found["error"] or not found["cards"]:
        return held(False, required, f"{told} sees {found['cards'] or 0} cards; {found['error'] or ''}{more}", "")
    libraries = ", ".join(path.rpartition("/")[2] for path in found["libraries"][:6])
    return held(True, required, f"{told}, CUDA {found['cuda']}, {found['cards']} card(s); loaded: {libraries}", "")


ASKED = (
    Check(
        "python.starts",
        "The environment's Python starts",
        "A virtual environment leads to a Python that may be gone.",
        starts,
        (),
        (),
        "python",
        False,
        starts,
    ),
    *(
        Check(
            f"python.{name}",
            f"{title} can use the card",
            "A framework may be a build for the CPU, for other cards, or for another CUDA.",
            partial(uses_card, name),
            (),
            ("python.starts", "cuda.computes"),
            "python",
            True,
            partial(uses_card, name),
        )
        for name, title in NAMES.items()
    ),
)
