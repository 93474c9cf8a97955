"""A request for the resolver: from what a machine is, or from cards and wishes that somebody names. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Dict, Sequence

from ..errors import UnreadableError, UsageError
from ..types import Json
from .candidates import COMPONENTS, Request
from .gpus import Gpu, from_observation
from .resolve import Resolver
from .versions import specifier

#: What the probe reads for a request, by the names in its `problems`; of Secure Boot it says itself when it is unknown.
READ = ("/etc/os-release", "/sys/bus/pci/devices*", "/lib/modules*", "/boot*", "/proc/cpuinfo")


def wishes(asked: Any) -> Dict[str, str]:
    """Return what `gpu_stack_wanted` asks for, by component; refuse a misspelt component and a version that is no text.

    YAML reads an unquoted 2.10 as the number 2.1, so a number is never taken for a version.
    """
    example = 'Write gpu_stack_wanted as in {tensorflow: "2.13", cuda: ">=11.2,<12"}.'
    if not isinstance(asked, dict):
        raise UsageError("gpu_stack_wanted is not a mapping of components to versions.", example)
    for name, text in asked.items():
        if name not in COMPONENTS:
            raise UsageError(f"gpu_stack_wanted names {name}; the components are {', '.join(COMPONENTS)}.", example)
        if not isinstance(text, str):
            raise UsageError(f"gpu_stack_wanted has {name}: {text} without quotes.", example)
    # Plain text: the plan, and with it the lock, must not carry Ansible's own kinds of string.
    return {str(name): str(text) for name, text in asked.items()}


def request_from(found: Resolver, platform: str, gpus: Sequence[Gpu], asked: Dict[str, str], **rest: Any) -> Request:
    """A request the resolver takes; an unknown platform or a malformed specifier is a `UsageError`."""
    known = found.catalog.platforms["platforms"]
    if platform not in known:
        raise UsageError(f"The platform '{platform}' is not in the catalog.", f"Known are {', '.join(known)} (--os).")
    wanted = {name: specifier(name, text) for name, text in asked.items()}
    return Request(
        platform,
        tuple(sorted(gpus, key=lambda g: (g.device or "", g.compute_capability))),
        wanted,
        dict(asked),
        **rest,
    )


def refuse_unread(observation: Json) -> None:
    """Refuse to plan from what could not be read: a missing figure would pass for a small one."""
    for problem in observation["problems"]:
        if any(fnmatchcase(problem["what"], source) for source in READ):
            raise UnreadableError(
                f"{problem['what']} could not be read: {problem['error']}", "Mend that on the machine, then plan again."
            )


def secure_boot(observation: Json) -> bool:
    """Whether Secure Boot is on; raises UnreadableError where that is not known, because a driver rests on it."""
    if observation["secure_boot"] == "unknown":
        raise UnreadableError(
            "Whether Secure Boot is on could not be read, and the driver's modules depend on it.",
            "Install mokutil on the machine (apt-get install mokutil), or say it: gpuhost plan --secure-boot or "
            "--no-secure-boot.",
        )
    return bool(observation["secure_boot"] == "enabled")


def request_of(found: Resolver, observation: Json, asked: Dict[str, str], **over: Any) -> Request:
    """The request that an observed machine makes; `over` replaces what was read."""
    refuse_unread(observation)
    boots = observation["kernel"]["boots"]
    base: Dict[str, Any] = {
        "kernel": boots if observation["gpus"] else None,
        "secure_boot": None,
        "avx": observation["cpu"]["avx"],
    }
    if observation["gpus"] and "secure_boot" not in over:
        base["secure_boot"] = secure_boot(observation)
    gpus = over.pop("gpus", None)
    platform = over.pop("platform", None)
    platform = observation["platform"]["id"] if platform is None else platform
    cards = (
        from_observation(found.catalog, observation["gpus"], observation["nvidia"]["smi"]["status"])
        if gpus is None
        else gpus
    )
    return request_from(found, platform, cards, asked, **{**base, **over})
