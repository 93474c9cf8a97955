"""Installing a wheel into an environment, with pip and nothing but this file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Sequence

from ..host import fatbin, files
from ..host.commands import CommandFailed
from . import code_in, machine, proof
from .archs import must_cover
from .commands import follow
from .failures import failure
from .proof import Proven
from .wheel import facts_of


def python_of(environment: Path) -> str:
    """The interpreter of a virtual environment."""
    path = environment / "bin" / "python"
    if not path.exists():
        raise failure("B-usage", f"{environment} is not a virtual environment.", "Name one: --into DIR")
    return str(path)


def install(wheel: Path, environment: Path, log: Path) -> None:
    """Install a wheel without its dependencies, because the environment's lock already brings NumPy."""
    python = python_of(environment)
    facts = facts_of(wheel)
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if not machine.runs_here(facts["cpu"], cpuinfo):
        raise failure(
            "B-wrong-processor",
            f"The wheel uses {facts['cpu']} instructions, this processor has {machine.processor(cpuinfo)}.",
            f"Build for it: --cpu {machine.processor(cpuinfo)}",
        )
    argv = [python, "-I", "-m", "pip", "install", "--no-index", "--no-deps", "--force-reinstall", str(wheel)]
    try:
        follow(argv, log, lambda _: None)
    except CommandFailed as error:
        last = " ".join(str(error).splitlines()[-3:])
        raise failure("B-not-installed", f"pip did not install the wheel: {last}", f"The log is {log}.") from None


def prove(wheel: Path, environment: Path, cards: Sequence[str]) -> Proven:
    """Prove the installed wheel; `cards` are the capabilities of the cards that are there."""
    facts = facts_of(wheel)
    must_cover(facts["code"], cards, f"The wheel {wheel.name}")
    return proof.prove(python_of(environment), facts, cards)


def look_into(wheel: Path, folder: Path) -> fatbin.Library:
    """What the module in a wheel holds, read from its own bytes."""
    with zipfile.ZipFile(str(wheel)) as archive:
        name = next(n for n in archive.namelist() if n.startswith("cv2/cv2") and n.endswith(".so"))
        return code_in.read(Path(archive.extract(name, str(folder))))


def written(path: Path, proven: Proven) -> None:
    """Leave a proof as JSON for whoever checks later."""
    files.write_whole(path, json.dumps({"held": proven.held, "unproven": proven.unproven}, indent=1) + "\n")
