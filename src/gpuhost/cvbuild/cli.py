"""The command `build/opencv_cmake.py`: from a command line to a plan, and what to do with it."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, List, Optional, Protocol, Sequence, Tuple

from .. import errors
from ..host import files
from ..text import printable
from . import archs, compilers, install, keys, machine, make, options, plan, proof, resources, sources, toolkit
from . import recipe as recipes_file
from .failures import failure
from .recipe import Recipe

EPILOG = """\
exit codes: 0 done, 2 usage, 3 refused, 4 no card could be read, 5 damaged catalog, 6 damaged sources,
7 this machine cannot do it now. Each message begins with an id; docs/reference/opencv-options.md lists them.

examples:
  ./run python build/opencv_cmake.py                             for the cards of this machine
  ./run python build/opencv_cmake.py --gpu "Quadro P2000"        for a card that is elsewhere
  ./run python build/opencv_cmake.py --arch-bin 7.5 --dry-run    only say what would be done
"""


def parser() -> argparse.ArgumentParser:
    """The grammar."""
    p = argparse.ArgumentParser(
        prog="opencv_cmake.py",
        description="Build OpenCV with CUDA for exactly the cards that are there, as a wheel, and prove it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    card = p.add_argument_group("for which card (default: those of this machine)")
    card.add_argument("--gpu", action="append", metavar="CARD", help="a name, a PCI id (10de:1c30) or a capability")
    card.add_argument("--arch-bin", action="append", metavar="CC", help="a dotted compute capability, such as 6.1")
    card.add_argument("--ptx", action="append", default=[], metavar="CC", help="also PTX of this, for newer cards")
    card.add_argument("--elsewhere", action="store_true", help="the wheel is for another machine than this one")
    what = p.add_argument_group("what to build")
    what.add_argument("--opencv", type=number, metavar="VERSION", help="a release (default: the newest that fits)")
    what.add_argument(
        "--profile",
        choices=options.PROFILES,
        default="dnn",
        help="dnn: what a detector needs; video: also ONNX, cameras and video (FFmpeg); full: all",
    )
    what.add_argument(
        "--modules", metavar="LIST", default="", help="modules instead of the profile's, such as dnn,video"
    )
    what.add_argument("--nonfree", action="store_true", help="include patented algorithms")
    what.add_argument("--cpu", choices=tuple(machine.CPUS), help="instructions to use (default: this machine's best)")
    what.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="a further CMake option")
    what.add_argument("--recipe", type=Path, metavar="FILE", help="what was decided elsewhere (the role uses this)")
    tools = p.add_argument_group("with what")
    tools.add_argument("--cuda", type=Path, metavar="DIR", help="the CUDA toolkit (default: ROOT/current/cuda)")
    tools.add_argument("--cudnn", type=Path, metavar="DIR", help="cuDNN (default: ROOT/current/cudnn)")
    tools.add_argument("--rpath", action="append", default=[], metavar="DIR", help="where to find both at run time")
    tools.add_argument("--python", default=sys.executable, metavar="FILE", help="a Python with NumPy and C headers")
    tools.add_argument("--jobs", type=positive, metavar="N", help="compile jobs (default: from cores and memory)")
    tools.add_argument(
        "--sources", action="append", type=Path, default=[], metavar="FILE", help="instead of a download"
    )
    tools.add_argument("--assume-cuda", type=number, metavar="VERSION", help="with --dry-run: for a toolkit not here")
    tools.add_argument("--assume-cudnn", type=number, metavar="VERSION", help="with --dry-run: the same for cuDNN")
    where = p.add_argument_group("where")
    where.add_argument("--root", type=Path, metavar="DIR", help="the store (default: /opt/gpuhost)")
    where.add_argument("--work", type=Path, metavar="DIR", help="build trees (default: ROOT/cache/opencv)")
    where.add_argument("--ccache", type=Path, metavar="DIR", help="ccache's folder (default: ROOT/cache/ccache)")
    where.add_argument("--out", type=Path, metavar="DIR", help="copy the wheel there")
    where.add_argument("--into", type=Path, metavar="DIR", help="install into this virtual environment, and prove it")
    do = p.add_argument_group("how")
    do.add_argument("--dry-run", action="store_true", help="print the plan and the command lines")
    do.add_argument("--why", action="store_true", help="print every configure option with its origin and reason")
    do.add_argument("--print-recipe", action="store_true", help="print the recipe")
    do.add_argument("--print-key", action="store_true", help="print key and wheel as JSON, build nothing")
    do.add_argument("--prove", type=Path, metavar="WHEEL", help="only prove the wheel, installed in the one of --into")
    do.add_argument("--fresh", action="store_true", help="start over: sources, configure, build")
    return p


def positive(text: str) -> int:
    """A number of jobs."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def number(text: str) -> str:
    """A version in figures."""
    if not re.fullmatch(r"[0-9]{1,4}([.][0-9]{1,6}){0,3}", text):
        raise argparse.ArgumentTypeError(f"{printable(text, 60)} is not a version such as 4.14.0")
    return text


#: What CMake, ninja, nvcc or the linker's search path take for something else in a path.
BREAKS = re.compile(r"[^\w@%+=./~^-]")


def check_paths(arguments: argparse.Namespace, root: Path, where: make.Places) -> None:
    """Refuse folders whose names would break the build hours later."""
    named = {
        "--root": root,
        "--work": where.work,
        "--ccache": where.ccache,
        "--cuda": arguments.cuda,
        "--cudnn": arguments.cudnn,
        "--python": arguments.python,
    }
    rpaths = [("--rpath", folder.replace("$ORIGIN", "")) for folder in arguments.rpath]
    for option, path in [*named.items(), *rpaths]:
        found = BREAKS.search(str(path or ""))
        if found:
            raise failure(
                "B-usage",
                f"{option}: CMake and nvcc break at {found.group()!r} in the path {printable(str(path), 200)}.",
                f"Name another: {option} {'FILE' if option == '--python' else 'DIR'}",
            )


class Known(Protocol):
    """What only the catalog knows: it stays on the controller, where gpuhost.cli.opencv has it."""

    def cards_here(self) -> List[str]:
        """Return the capabilities of this machine's cards; [] when there is none, an error when one is unreadable."""

    def capability(self, card: str) -> str:
        """Return the capability of a card by its name or PCI id."""

    def builds(self, series: str) -> List[str]:
        """Return the capabilities that a toolkit's series builds for."""

    def toolkit(self, platform: str, cards: List[str]) -> Tuple[str, str]:
        """Return the CUDA and the cuDNN that a plan has for cards on a platform."""

    def recipe(self, opencv: str, cuda: str, cudnn: str, platform: str, cards: List[str]) -> Recipe:
        """Return the recipe of an OpenCV release ("" for the newest that fits) for cards on a platform."""


def known(arguments: argparse.Namespace) -> Known:
    """The catalog, or a refusal where the builder runs without one."""
    if arguments.known is None:
        raise failure(
            "B-usage", "There is no catalog here to decide from.", "Give what was decided elsewhere: --recipe FILE"
        )
    found: Known = arguments.known
    return found


def cards_asked(arguments: argparse.Namespace) -> List[str]:
    """The capabilities that the command line names, by capability or by card."""
    found = [archs.checked(c.strip()) for text in arguments.arch_bin or [] for c in text.replace(";", ",").split(",")]
    return found + [known(arguments).capability(name) for name in arguments.gpu or []]


def chosen_cards(arguments: argparse.Namespace) -> Tuple[List[str], List[str]]:
    """What to build for, and the capabilities of the cards that are here (they must be covered unless --elsewhere)."""
    asked = cards_asked(arguments)
    if arguments.elsewhere:
        return asked, []
    try:
        here = known(arguments).cards_here()
    except errors.GpuhostError:
        # A machine whose cards cannot be read can still build for what the user says.
        if not asked:
            raise
        here = []
    return asked or here, here


def places(arguments: argparse.Namespace) -> Tuple[Path, make.Places]:
    """The store, and the folders of the build below it unless the user names others."""
    root: Path = (arguments.root or Path("/opt/gpuhost")).absolute()
    cache = root / "cache"
    work = (arguments.work or cache / "opencv").absolute()
    return root, make.Places(
        work, cache / "artifacts", cache / "wheels" / "opencv", (arguments.ccache or cache / "ccache").absolute()
    )


def assume(arguments: argparse.Namespace, root: Path, cards: List[str]) -> None:
    """Assume, for a dry run where no toolkit is installed and none was named, the one that a plan would install."""
    named = arguments.cuda or arguments.cudnn or arguments.assume_cuda or arguments.assume_cudnn or arguments.recipe
    if named or not arguments.dry_run or (root / "current" / "cuda").exists():
        return
    if not cards:
        archs.choose([], [], [], "0.0", [], "")  # refuses, and says how to name a card
    arguments.assume_cuda, arguments.assume_cudnn = known(arguments).toolkit(platform_here(), cards)
    print(
        f"No toolkit is installed in {root}: this is for CUDA {arguments.assume_cuda} and cuDNN "
        f"{arguments.assume_cudnn}, as a plan has them. To install both: ./run ansible-playbook site.yml"
    )


def tool_kit(arguments: argparse.Namespace, root: Path) -> Tuple[toolkit.Toolkit, toolkit.Cudnn]:
    """Toolkit and cuDNN as they are here, or, for a dry run, as the catalog knows them."""
    cuda, cudnn = arguments.cuda or root / "current" / "cuda", arguments.cudnn or root / "current" / "cudnn"
    if not arguments.assume_cuda and not arguments.assume_cudnn:
        full = arguments.profile == "full"
        return toolkit.read_toolkit(cuda.absolute(), full), toolkit.read_cudnn(cudnn.absolute())
    if not arguments.dry_run or not arguments.assume_cuda or not arguments.assume_cudnn:
        raise failure(
            "B-usage", "--assume-cuda and --assume-cudnn go together, with --dry-run.", "Add what is missing."
        )
    series = ".".join(arguments.assume_cuda.split(".")[:2])
    return (
        toolkit.Toolkit(cuda, arguments.assume_cuda, known(arguments).builds(series), ""),
        toolkit.Cudnn(cudnn / "include", cudnn / "lib64" / "libcudnn.so", arguments.assume_cudnn),
    )


def the_recipe(arguments: argparse.Namespace, kit: toolkit.Toolkit, cudnn: toolkit.Cudnn, cards: List[str]) -> Recipe:
    """Return the recipe: the one in the given file, or the catalog's for the options given."""
    if arguments.recipe:
        return recipes_file.load(arguments.recipe)
    if not cards:
        archs.choose([], kit.builds, [], "0.0", [], "")
    return known(arguments).recipe(arguments.opencv or "", kit.series, cudnn.version, platform_here(), cards)


def platform_here() -> str:
    """This machine's platform, for the names of its packages."""
    from ..host.parse.machine import parse_os_release

    try:
        return str(parse_os_release(Path("/etc/os-release").read_text(encoding="utf-8"))["id"])
    except (OSError, errors.GpuhostError):
        return ""


def planned(arguments: argparse.Namespace) -> Tuple[plan.Plan, make.Places, List[str]]:
    """The whole plan of a command line, its folders, and the cards that are here."""
    root, where = places(arguments)
    check_paths(arguments, root, where)
    sources.check_given(arguments.sources)
    modules = options.check_modules([m.strip() for m in arguments.modules.split(",") if m.strip()])
    cpu = machine.processor(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    if arguments.recipe:
        cards = list(recipes_file.load(arguments.recipe).cards)
        here: List[str] = []
    else:
        cards, here = chosen_cards(arguments)
    assume(arguments, root, cards)
    kit, cudnn = tool_kit(arguments, root)
    recipe = the_recipe(arguments, kit, cudnn, cards)
    who = f"CUDA {kit.series} and OpenCV {recipe.opencv}"
    code = archs.choose(cards, kit.builds, recipe.integrated, recipe.capability_min, arguments.ptx, who)
    archs.must_cover(code.code, here, "What was asked for")
    toolkit.check_toolkit(kit, cudnn, recipe.cuda, recipe.cudnn, recipe.opencv)
    assumed = bool(arguments.assume_cuda)
    found = compilers.found_on(os.environ.get("PATH", ""))
    if assumed:
        compiler = compilers.Compiler("g++", "gcc", 0, "")
    else:
        compiler = compilers.choose(found, recipe.gcc, recipe.gcc_packages, kit.series)
    wishes = plan.Wishes(
        arguments.profile,
        modules,
        arguments.nonfree,
        arguments.cpu or cpu,
        options.parse_more(arguments.option),
        tuple(arguments.rpath),
    )
    made = plan.make(
        recipe,
        wishes,
        code,
        kit,
        cudnn,
        compiler,
        machine.python(arguments.python),
        machine.tools(recipe.cmake_min, arguments.python),
        machine.glibc(),
    )
    return made, where, here


def show(made: plan.Plan, where: make.Places, arguments: argparse.Namespace) -> None:
    """--dry-run and --why."""
    for line in plan.told(made):
        print(line)
    if arguments.why:
        print()
        for o in options.options(made.settings("opencv_contrib/modules", where.work)):
            print(f"{o.argument}\n    {o.origin}: {o.reason}")
    if arguments.dry_run:
        print("\n" + " ".join(shlex.quote(a) for a in made.configure(where.work)))
        folder = plan.build_folder(where.work, made.key)
        print(" ".join([made.tools.ninja, "-C", str(folder), "-j", str(arguments.jobs or "N")]))


def carry_out(arguments: argparse.Namespace) -> int:
    """Everything that a command line asks for."""
    if arguments.prove:
        if not arguments.into:
            raise failure("B-usage", "--prove needs the environment that the wheel is in.", "Add --into DIR")
        told(install.prove(arguments.prove, arguments.into.absolute(), []))
        return 0
    made, where, here = planned(arguments)
    if arguments.print_recipe:
        print(json.dumps(made.recipe.as_json(), indent=1))
        return 0
    if arguments.print_key:
        wheel = keys.kept(where.wheels, made.key)
        print(json.dumps({"key": made.key, "wheel": keys.described(wheel) if wheel else None}))
        return 0
    if arguments.dry_run or arguments.why:
        show(made, where, arguments)
        return 0
    for line in plan.told(made):
        make.say_step("plan", line)
    jobs = resources.here(made.wishes.profile, arguments.jobs)
    wheel = make.copy_to(make.build(made, where, jobs, arguments.fresh, arguments.sources), arguments.out)
    make.say_step("wheel", str(wheel))
    if arguments.into:
        into(arguments.into.absolute(), wheel, here)
    else:
        unproved(wheel)
    print(wheel)
    return 0


def into(environment: Path, wheel: Path, here: Sequence[str]) -> None:
    """Install, prove, and say what held and what could not be asked."""
    with tempfile.TemporaryDirectory() as folder:
        install.install(wheel, environment, Path(folder) / "pip.log")
    told(install.prove(wheel, environment, here))


def told(proven: proof.Proven) -> None:
    """Say what was proved, and what not."""
    for line in proven.held:
        make.say_step("proof", line)
    for line in proven.unproven:
        make.say_step("NOT PROVED", line)


def unproved(wheel: Path) -> None:
    """Without an environment only the library's own bytes can be asked."""
    with tempfile.TemporaryDirectory() as folder:
        library = install.look_into(wheel, Path(folder))
    code = ", ".join(f"{name} ({times} times)" for name, times in library.code.items())
    make.say_step("proof", f"the library holds code for exactly {code}")
    make.say_step("NOT PROVED", "nothing was imported: give an environment (--into DIR)")


def interrupted(_: int, __: Any) -> None:
    """A polite end of this process ends what it has started too."""
    raise KeyboardInterrupt


def main(argv: Optional[Sequence[str]] = None, catalog: Optional[Known] = None) -> int:
    """The entry point: every known failure becomes one paragraph and its exit code.

    Without a `catalog` everything that it would decide comes from --recipe.
    """
    signal.signal(signal.SIGTERM, interrupted)
    os.umask(files.UMASK)
    try:
        return carry_out(parser().parse_args(argv, argparse.Namespace(known=catalog)))
    except errors.GpuhostError as error:
        sys.stderr.write(f"error: {error.message}\n{error.next_step}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command goes on where this one stopped\n")
        return errors.EXIT_INTERRUPTED
