"""Checks of CUDA itself, as any program meets it: its library loads, it finds the cards, and a card computes."""

from typing import TYPE_CHECKING, Callable, Dict, List, Tuple

from ..host import computing
from ..types import present
from .base import DRIVER, FAIL, Check, Outcome, held, skipped
from .card import LOOK, closed, signs
from .driver import REBOOT, driver
from .found import CONTAINER, MACHINE, NOT_SEEN, is_ours, missing_traces, place
from .host import observation

if TYPE_CHECKING:
    from ..shapes.answers import CudaAnswer
    from ..shapes.seen import Seen

#: What has to be collected for these checks.
PART = "cuda"
#: CUDA's answers where there is no card for it, where a driver is too old, and where library and module differ.
NO_DEVICE, TOO_OLD, OTHER_VERSION = 100, (3, 35), 803
#: Its answers where the switches between the cards are not set up, and where its device nodes cannot be opened.
NOT_READY, NOT_OPENED = 802, (NO_DEVICE, 304, 999)
#: Its answers where the toolkit's own libcuda is loaded and cannot work with this driver or card.
COMPAT = (OTHER_VERSION, 804)
#: Why CUDA is asked nothing more. That it is a fault, `library` says where it is one.
NO_LIBRARY = "libcuda.so.1 does not load"


def answer(seen: "Seen") -> "CudaAnswer":
    """What CUDA said (`host.probe.cuda`)."""
    return present(seen["cuda"])


def init_code(seen: "Seen") -> int:
    """What cuInit or cuDeviceGetCount gave; 0 where both went well or were not reached."""
    calls = (answer(seen)["init"], answer(seen)["counted"])
    return next((call["code"] for call in calls if call is not None and call["code"]), 0)


def library(seen: "Seen") -> Outcome:
    """Judge whether a program finds libcuda."""
    found = answer(seen)
    if found["library"]:
        return held(True, "libcuda.so.1 loads", found["library"], "")
    if missing_traces(seen):
        return skipped("libcuda.so.1 loads", f"{computing.unloaded(found)}; and {NOT_SEEN}")
    return held(False, "libcuda.so.1 loads", computing.unloaded(found), "")


def answers(seen: "Seen") -> Outcome:
    """Judge whether CUDA starts and sees every card."""
    found, cards = answer(seen), len(observation(seen)["gpus"])
    required = f"cuInit succeeds, and CUDA sees {cards or 'a'} card{'s' if cards > 1 else ''}"
    if not found["library"]:
        return skipped(required, NO_LIBRARY)
    said = computing.refused(found)
    if said:
        more = f"loaded is {found['library']}" if init_code(seen) else ""
        return held(False, required, "; ".join(filter(None, (said, more, more and closed(seen)))), "")
    count = found["count"] or 0
    hidden = found["variables"].get("CUDA_VISIBLE_DEVICES")
    actual = f"CUDA {found['version']} sees {count}"
    actual += f"; CUDA_VISIBLE_DEVICES is '{hidden}'" if hidden is not None else ""
    if place(seen) == CONTAINER and count:
        return held(True, required, actual + ": a container may be given fewer than the machine has", "")
    actual += ": a program sees one instance at most where MIG is enabled" if signs(seen)["mig"] and count else ""
    return held(computing.sees_all(found, cards, bool(signs(seen)["mig"])), required, actual, "")


def computes(seen: "Seen") -> Outcome:
    """Judge whether each card that CUDA sees does something."""
    if not answer(seen)["library"]:
        return skipped("each card fills memory that is read back right", NO_LIBRARY)
    wrong = computing.wrong(answer(seen))
    names = ", ".join(f"{card['name']} ({card['capability']})" for card in answer(seen)["devices"])
    return held(not wrong, "each card fills memory that is read back right", "; ".join(wrong) or names, "")


def stale_specifications(seen: "Seen") -> Dict[str, List[str]]:
    """The CDI specifications that name libraries of another driver than the installed one, with their versions."""
    library = driver(seen)["library"]
    found = seen["surroundings"]["cdi"] if library is not None else {}
    return {name: versions for name, versions in sorted(found.items()) if versions != [library]}


def containers(seen: "Seen") -> Outcome:
    """Judge whether containers are given the libraries of the driver that is installed."""
    required, library = "a CDI specification names the installed driver's libraries", driver(seen)["library"]
    if not seen["surroundings"]["cdi"] or library is None:
        return skipped(required, "there is no CDI specification with a driver's libraries here")
    stale = stale_specifications(seen)
    told = "; ".join(f"{name} names {', '.join(versions)}, installed is {library}" for name, versions in stale.items())
    return held(not stale, required, told or f"it names {library}", "")


def is_proved(seen: "Seen") -> bool:
    """Return whether CUDA works on every card here, as far as a program can tell."""
    if seen.get("cuda") is None or (place(seen) == MACHINE and not observation(seen)["gpus"]):
        return False
    return all(judge(seen).status == "pass" for judge in (library, answers, computes))


def check(
    identity: str,
    title: str,
    purpose: str,
    judge: "Callable[[Seen], Outcome]",
    needs: Tuple[str, ...],
    remedy: str,
) -> Check:
    """One of these checks; a lock has no say in what CUDA does. `remedy` is for hosts that gpuhost has set up."""

    def judged(seen: "Seen") -> Outcome:
        if seen.get("cuda") is None:
            return skipped(title, "CUDA was not asked")
        outcome = judge(seen)
        return outcome._replace(remediation=remedy) if outcome.status == FAIL and is_ours(seen) else outcome

    return Check(identity, title, purpose, judged, (), needs, PART, True, judged)


CHECKS = (
    check(
        "cuda.library",
        "A program finds the driver's library",
        "CUDA begins with libcuda.so.1, which comes with the driver and not with the toolkit.",
        library,
        ("driver.match", "driver.nodes"),
        DRIVER,
    ),
    check(
        "cuda.answers",
        "CUDA sees the cards",
        "nvidia-smi can work where CUDA does not.",
        answers,
        ("cuda.library", "driver.cards"),
        REBOOT,
    ),
    check(
        "cuda.computes",
        "Each card computes",
        "A card that is listed need not do anything.",
        computes,
        ("cuda.answers",),
        LOOK,
    ),
)
#: What only the doctor asks.
ASKED = (
    Check(
        "cuda.cdi",
        "Containers are given this driver",
        "A specification that was made for an older driver gives containers libraries that fit no module.",
        containers,
        ("/etc/cdi*", "/var/run/cdi*"),
        ("driver.match",),
        PART,
        True,
        containers,
        risk=True,
    ),
)
