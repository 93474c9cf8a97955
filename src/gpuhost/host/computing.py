"""Whether what CUDA answered (`probe.cuda`) is right: one judgement for verify/, the doctor and an update on trial.

Each function returns what is wrong, nothing where nothing is. Pure. Runs on the target: Python 3.6, standard library.
"""

from typing import TYPE_CHECKING, List

if TYPE_CHECKING:
    from ..shapes.answers import CudaAnswer


def unloaded(found: "CudaAnswer") -> str:
    """Why no program finds libcuda."""
    return "" if found["library"] else found["error"] or found["ended"] or "libcuda.so.1 does not load"


def refused(found: "CudaAnswer") -> str:
    """What keeps CUDA from starting, or from counting its cards."""
    for name, said in (("cuInit", found["init"]), ("cuDeviceGetCount", found["counted"])):
        if said is None:
            return found["ended"] or "CUDA gave no answer"
        if said["code"]:
            words = ": ".join(word for word in (said["name"], said["text"]) if word)
            return f"{name} gave {said['code']}" + (f" ({words})" if words else "")
    return ""


def sees_all(found: "CudaAnswer", cards: int, has_mig: bool) -> bool:
    """Return whether CUDA sees these cards; where MIG is enabled, a program sees one instance at most."""
    return (found["count"] or 0) >= (1 if has_mig else max(cards, 1))


def wrong(found: "CudaAnswer") -> List[str]:
    """What the cards did that were asked to compute."""
    told = [f"{card['name']}: {card['error']}" for card in found["devices"] if card["error"]]
    if not found["devices"] or found["ended"]:
        told.append(found["ended"] or "no card was asked")
    return told
