"""`gpuhost plan`: from a command line, or from what a machine is, to a request, and the answer."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, Dict, List, Optional, Tuple, cast

from rich.console import Console

from ..errors import UnreadableError, UsageError
from ..host.probe.machine import observe
from ..planning import compare, plan, platforms, virtualbox
from ..planning.candidates import COMPONENTS, WITHOUT_GPU, Request
from ..planning.gpus import Gpu, parse
from ..planning.offers import resolver_for
from ..planning.request import refuse_architecture, request_from, request_of
from ..planning.resolve import Resolver, resolver
from ..report import terminal as render
from ..shapes.observation import Observation
from ..versions import release
from .observe import load
from .output import emit

EXIT_REFUSED = 3


def add_parser(commands: Any) -> None:
    """The grammar of the command."""
    p = commands.add_parser(
        "plan",
        help="say which stack a card gets on a platform, or why none",
        description="Resolve one pinned, mutually compatible stack. Without --gpu this machine is read.",
        epilog="Exit codes: 0 planned, 2 usage, 3 refused, 4 this machine could not be read, 5 damaged catalog.",
    )
    p.add_argument("--os", metavar="PLATFORM", help="the platform, such as ubuntu-18.04 (default: this machine's)")
    p.add_argument(
        "--as", metavar="PLATFORM", help="take this machine, whose release is not known, for one of PLATFORM"
    )
    p.add_argument(
        "--gpu",
        action="append",
        metavar="CARD",
        help="a name, a PCI id (10de:1c30) or a capability (6.1); again for each other card; 'none' for the CPU stack",
    )
    for name in COMPONENTS:
        p.add_argument(
            f"--{name}",
            metavar="SPEC",
            help=f"a version or specifier of {name}, such as 11.8 or '>=11.2,<12'"
            if name == "cuda"
            else f"the same for {name}",
        )
    p.add_argument(
        "--without",
        action="append",
        choices=WITHOUT_GPU,
        default=[],
        help="leave it out; with both, the plan is for the driver, CUDA and cuDNN alone",
    )
    p.add_argument(
        "--virtualbox",
        nargs="?",
        const="",
        metavar="SPEC",
        help="also say which VirtualBox goes beside it; without SPEC the release's own, as the catalog knows it",
    )
    p.add_argument("--kernel", metavar="VERSION", help="the kernel that will boot, such as 4.15.0-213-generic")
    boot = p.add_mutually_exclusive_group()
    boot.add_argument(
        "--secure-boot", dest="secure_boot", action="store_true", default=None, help="plan for Secure Boot"
    )
    boot.add_argument(
        "--no-secure-boot",
        dest="secure_boot",
        action="store_false",
        help="plan without it (default: as read, else not considered)",
    )
    p.add_argument("--require-gpu", action="store_true", help="no card is an error, not a CPU plan")
    p.add_argument("--observation", metavar="FILE", help="what gpuhost observe wrote of a machine, instead of this one")
    p.add_argument("--compare", nargs=2, metavar=("A", "B"), help="put two cards side by side")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for an issue or a wiki")
    p.set_defaults(run=lambda arguments: run(arguments, render.console(unbroken=arguments.markdown)))


def asked_for(arguments: argparse.Namespace) -> Dict[str, str]:
    """The components the user asked for, with the text given."""
    return {name: getattr(arguments, name) for name in COMPONENTS if getattr(arguments, name) is not None}


def without(arguments: argparse.Namespace, component: str) -> str:
    """The same command line with a component left out."""
    words = ["gpuhost", "plan"]
    for name in ("os", "as", "observation", *COMPONENTS, "virtualbox", "kernel"):
        if getattr(arguments, name) is not None and name != component:
            words += [f"--{name}", getattr(arguments, name)]
    for card in arguments.gpu or ():
        words += ["--gpu", card]
    if arguments.secure_boot is not None:
        words.append("--secure-boot" if arguments.secure_boot else "--no-secure-boot")
    words += ["--require-gpu"] if arguments.require_gpu else []
    for name in (*arguments.without, component):
        words += ["--without", name]
    return " ".join(map(shlex.quote, words))


def requested(found: Resolver, arguments: argparse.Namespace) -> Tuple[Resolver, Request]:
    """The request of a command line: typed cards, or this machine's; and what answers it.

    For this machine and its cards that is what its archive offers, else the catalog. The observation of a tree of files
    says nothing of an archive.
    """
    asked = asked_for(arguments)
    given: Dict[str, Any] = {"without": frozenset(arguments.without)}
    if arguments.kernel is not None:
        if len(release(arguments.kernel)) < 2:
            raise UsageError(
                f"'{arguments.kernel}' is not a kernel version.",
                "Write it as uname -r does: --kernel 4.15.0-213-generic",
            )
        given["kernel"] = arguments.kernel
    if arguments.secure_boot is not None:
        given["secure_boot"] = arguments.secure_boot
    typed: Optional[List[Gpu]] = None
    if arguments.compare:
        typed = []
    elif arguments.gpu:
        names = [g for g in arguments.gpu if g.strip().lower() != "none"]
        if names and len(names) != len(arguments.gpu):
            raise UsageError("--gpu none does not go with other cards.", "Leave one of them out.")
        typed = [parse(found.catalog, g) for g in names]
    if typed is not None and arguments.os is not None:
        if arguments.observation is not None:
            raise UsageError("--observation has no say beside both --os and cards.", "Leave one of them out.")
        return found, request_from(found, arguments.os, typed, asked, **given)
    taken = getattr(arguments, "as")
    if taken is not None and arguments.os is not None:
        raise UsageError("--as and --os both say for which platform to plan.", "Leave one of them out.")
    own = typed is None and arguments.os is None
    seen = observe(offers=own) if arguments.observation is None else load(arguments.observation)
    observation = cast(Observation, seen)
    if taken is not None:
        observation = platforms.taken_as(found.catalog, observation, taken)
    unknown = platforms.unknown(found.catalog, observation["platform"], "--as ")
    if unknown is not None and arguments.os is None:
        raise unknown
    if typed is None:
        request = request_of(found, observation, asked, platform=arguments.os, **given)
        own = own and "offers" in observation
        return resolver_for(observation, asked, own and bool(request.gpus)), request
    refuse_architecture(observation)
    return found, request_from(found, str(observation["platform"]["id"]), typed, asked, **given)


def run(arguments: argparse.Namespace, out: Console) -> int:
    """`gpuhost plan`."""
    found, request = requested(resolver(), arguments)
    if arguments.virtualbox is not None and (arguments.compare or arguments.json or arguments.markdown):
        raise UsageError("--virtualbox is printed as text only.", "Leave --compare, --json and --markdown out.")
    if arguments.compare:
        if arguments.gpu:
            raise UsageError("--compare takes its two cards itself.", "Leave --gpu out.")
        table = compare.side_by_side(found, request, [parse(found.catalog, g) for g in arguments.compare])
        emit(table) if arguments.json else render.show_comparison(out, table, arguments.markdown)
        return 0 if all(c["plan"]["status"] == "planned" for c in table["cards"]) else EXIT_REFUSED
    if arguments.require_gpu and not request.gpus:
        raise UnreadableError(
            "No NVIDIA card was found, and --require-gpu asks for one.",
            "No /sys/bus/pci/devices/*/vendor holds 0x10de: look at its seat and power, or leave --require-gpu out.",
        )
    made = plan.make(found, request, lambda name: without(arguments, name))
    emit(made) if arguments.json else render.show_plan(out, made, arguments.markdown)
    if arguments.virtualbox is not None:
        held = virtualbox.part(request.platform, arguments.virtualbox, kernel=request.kernel)
        for line in ["", *virtualbox.lines(held, request.kernel, request.platform)]:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0 if made["status"] == "planned" else EXIT_REFUSED
