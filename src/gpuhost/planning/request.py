"""A request for the resolver: from what a machine is, or from cards and wishes that somebody names. Pure."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, Dict, FrozenSet, Sequence, Tuple

from ..errors import RefusedError, UnreadableError, UsageError
from ..host.parse.kernels import headers_package, of_the_archive
from ..shapes.observation import Observation, OtherFunction
from .candidates import COMPONENTS, NAMES, WITHOUT_GPU, Request
from .catalog import Catalog
from .gpus import Gpu, from_observation
from .resolve import Resolver
from .versions import specifier

#: What the probe reads for a request, by the names in its `problems`; of Secure Boot it says itself when it is unknown.
READ = (
    "/etc/os-release",
    "/sys/bus/pci/devices*",
    "/lib/modules*",
    "/boot*",
    "/efi*",
    "/etc/default/grub*",
    "/proc/cpuinfo",
)


def wishes(asked: Any) -> Dict[str, str]:
    """Return what `gpu_stack_wanted` asks for, by component; refuse a misspelt component or a version that is not text.

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


def left_out(without: Any) -> FrozenSet[str]:
    """Return the components that `gpu_stack_without` leaves out; refuse anything else than some that can be."""
    if not isinstance(without, (list, tuple)) or not all(isinstance(name, str) for name in without):
        raise UsageError("gpu_stack_without is not a list of components.", "Write it as in [tensorflow].")
    for name in without:
        if name not in WITHOUT_GPU:
            text = f"gpu_stack_without names {name}, which is not a component that can be left out."
            raise UsageError(text, f"These can be: {', '.join(WITHOUT_GPU)}.")
    return frozenset(map(str, without))


def refuse_nothing(request: Request) -> None:
    """Refuse a request that demands a component and leaves it out, or that leaves nothing to plan."""
    for name in sorted(request.without & request.wanted.keys()):
        raise UsageError(f"{NAMES[name]} {request.asked[name]} is asked for and left out.", "Take one of both back.")
    if not request.components:
        text = "There is no card, and OpenCV and TensorFlow are left out: nothing is left to plan."
        raise RefusedError(text, "Take one of them back in, or leave this host alone.")


def platform_named(catalog: Catalog, text: str) -> str:
    """Return the platform that a person means, by its id, version, point release, code name or as os-release has it, in
    any case and spelling; else a `UsageError`.
    """
    known = catalog.platforms["platforms"]
    plain = re.sub(r"[\s_-]+|gnu/linux|\(.*\)|lts\b", "", text.casefold())
    for name, row in known.items():
        version = re.escape(row["version"]).replace(r"\.", r"\.?")
        if re.fullmatch(rf"({row['distribution']})?({version}(\.[0-9]+)?|{row['codename']})", plain):
            return str(name)
    raise UsageError(f"The platform '{text}' is not in the catalog.", f"Known are {', '.join(known)} (--os).")


def request_from(found: Resolver, platform: str, gpus: Sequence[Gpu], asked: Dict[str, str], **rest: Any) -> Request:
    """A request the resolver takes; an unknown platform or a malformed specifier is a `UsageError`."""
    platform = platform_named(found.catalog, platform)
    wanted = {name: specifier(name, text) for name, text in asked.items()}
    request = Request(
        platform,
        tuple(sorted(gpus, key=lambda g: (g.device or "", g.compute_capability))),
        wanted,
        dict(asked),
        **rest,
    )
    refuse_nothing(request)
    return request


def refuse_unread(observation: Observation) -> None:
    """Refuse to plan from what could not be read: a missing figure would pass for a small one."""
    for problem in observation["problems"]:
        if any(fnmatchcase(problem["what"], source) for source in READ):
            raise UnreadableError(
                f"{problem['what']} could not be read: {problem['error']}", "Fix that on the machine, then plan again."
            )


def refuse_architecture(observation: Observation) -> None:
    """Refuse to plan for a machine that no artifact of the catalog is for, or whose architecture is not known."""
    if not observation["machine"]:
        raise UnreadableError(
            "The architecture of the machine could not be read (uname -m).", "Look why on the machine."
        )
    if observation["machine"] != "x86_64":
        raise RefusedError(
            f"The machine is {observation['machine']}; every artifact of the catalog is for x86_64.",
            "To plan for another machine, say for which: gpuhost plan --os ubuntu-18.04 --gpu 'GTX 750 Ti'",
        )


def refuse_windows(observation: Observation) -> None:
    """Refuse to plan for a card that Windows lends to its subsystem for Linux."""
    if observation["wsl"] and (observation["wsl"]["card"] or observation["nvidia"]["unseen"]):
        raise RefusedError(
            "This is Windows' subsystem for Linux: the card and its driver are Windows' own, and no driver may be "
            "installed in here.",
            "For a stack without a card: gpuhost plan --gpu none",
        )


def refuse_contradiction(observation: Observation) -> None:
    """Refuse where nvidia-smi names a card that sysfs does not show: a plan without it would be a wrong one."""
    unseen = observation["nvidia"]["unseen"]
    if unseen:
        raise UnreadableError(
            f"nvidia-smi names a card at {', '.join(unseen)}, which is not on the PCI bus.",
            "Look for 'Xid' or 'fallen off the bus' in the kernel log (dmesg); in a container, run outside of it.",
        )


def remarks(observation: Observation) -> Tuple[Tuple[str, str], ...]:
    """What is to be said of a machine beside the plan for it."""
    found = []
    own = observation["platform"].get("own")
    if own:
        found.append(("platform", f"{own} is taken for {observation['platform']['id']}, which nobody has tried"))
    found += [
        ("gpu", f"{card['pci_address']} ({card['pci_id']}) is kept for a virtual machine ({keeper(card)}): left alone")
        for card in observation["other_functions"]
        if card["kind"] == "passed-through"
    ]
    found += [
        (
            "gpu",
            f"{card['pci_address']} ({card['pci_id']}) is removable: unplugged, the machine no longer matches its lock",
        )
        for card in observation["gpus"]
        if card.get("removable")
    ]
    off = switched_off(observation)
    if off:
        found.append(("gpu", off))
    kernel, distribution = observation["kernel"]["boots"], observation["platform"]["distribution"]
    if observation["gpus"] and kernel and not of_the_archive(kernel, distribution):
        text = f"kernel {kernel} is not one of {distribution}'s archive, so that the module builds for it is unproven"
        found.append(("driver", f"{text}; its headers are {headers_package(kernel)}"))
    if observation["gpus"] and observation["secure_boot"] == "not-enforced":
        text = "Secure Boot is on and shim does not validate (mokutil --enable-validation turns it on again)"
        found.append(("driver", f"{text}: the kernel loads unsigned modules, and the plan asks for no signature"))
    return tuple(found)


def switched_off(observation: Observation) -> str:
    """What to say of a laptop whose NVIDIA card is missing or off, where that can be a setting; else ""."""
    hybrid = observation.get("hybrid")
    prime, bbswitch = (hybrid["prime"], hybrid["bbswitch"]) if hybrid else (None, None)
    told = [f"prime-select query says {prime}"] if prime in ("intel", "on-demand") else []
    told += ["/proc/acpi/bbswitch says OFF"] if bbswitch == "OFF" else []
    if not told or (observation["gpus"] and bbswitch != "OFF" and prime != "intel"):
        return ""
    state = "is switched off" if observation["gpus"] else "is not on the PCI bus, perhaps because it is switched off"
    return f"the NVIDIA card of this laptop {state} ({', '.join(told)}): prime-select nvidia, reboot, and plan again"


def keeper(card: OtherFunction) -> str:
    """The kernel driver that keeps a card, or may alone have it."""
    return f"bound to {card['kernel_driver']}" if card["kernel_driver"] else "its driver is overridden"


def secure_boot(observation: Observation) -> bool:
    """Whether the kernel asks for signed modules.

    Raises UnreadableError where that is not known, because a driver rests on it.
    """
    if observation["secure_boot"] == "unknown":
        raise UnreadableError(
            "Whether Secure Boot is on could not be read, and the driver's modules depend on it.",
            "Install mokutil on the machine (apt-get install mokutil), or say it: gpuhost plan --secure-boot or "
            "--no-secure-boot.",
        )
    return observation["secure_boot"] in ("enabled", "lockdown")


def request_of(found: Resolver, observation: Observation, asked: Dict[str, str], **over: Any) -> Request:
    """The request that an observed machine makes; `over` replaces what was read.

    With both the platform and the cards replaced it is not for this machine any more.
    """
    refuse_unread(observation)
    gpus = over.pop("gpus", None)
    platform = over.pop("platform", None)
    if platform is None or gpus is None:
        refuse_architecture(observation)
    if gpus is None:
        refuse_windows(observation)
        refuse_contradiction(observation)
    boots = observation["kernel"]["boots"]
    base: Dict[str, Any] = {
        "kernel": boots if observation["gpus"] else None,
        "secure_boot": None,
        "avx": observation["cpu"]["avx"],
        "nvswitches": sum(one["kind"] == "nvswitch" for one in observation["other_functions"]) if gpus is None else 0,
        "remarks": remarks(observation) if gpus is None else (),
    }
    if observation["gpus"] and "secure_boot" not in over:
        base["secure_boot"] = secure_boot(observation)
    platform = observation["platform"]["id"] if platform is None else platform
    cards = (
        from_observation(found.catalog, observation["gpus"], observation["nvidia"]["smi"]["status"])
        if gpus is None
        else gpus
    )
    return request_from(found, platform, cards, asked, **{**base, **over})
