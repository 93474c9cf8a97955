"""Keeping the driver from loading by itself while a new one is on trial, and loading it all the same.

A driver that ends the machine as it loads would do so at each start, before anything could be done about it, wherever
the kernel of the old pair loads it as well. Runs on the target: Python 3.6, standard library.
"""

from pathlib import Path
from typing import Tuple

from .. import files
from ..edges import Edges
from ..probe.driver import MODULE_NAMES, modprobe_files

#: In the order of the names it comes before what distributions have there, and modprobe takes the first.
BLOCK = "/etc/modprobe.d/00-gpuhost-trial.conf"
_HEAD = (
    "# Written by gpuhost, role update: a new driver is on trial. gpuhost-pair.service loads it, and takes this away.\n"
)
_TIMEOUT_S = 120.0
#: The driver's further modules, which it loads as they are asked for.
BESIDE = ("nvidia-uvm",)


def text() -> str:
    """The text of the file."""
    return _HEAD + "".join(f"install {name} /bin/false\n" for name in MODULE_NAMES)


def is_blocked(edges: Edges) -> bool:
    """Return whether the driver is kept from loading by itself."""
    return edges.exists(BLOCK)


def block(edges: Edges) -> None:
    """Keep the driver from loading by itself."""
    files.write_whole(edges.path(BLOCK), text())


def unblock(edges: Edges) -> None:
    """Let it load again."""
    files.remove(edges.path(BLOCK))


def name_of(row: Tuple[str, str]) -> str:
    """The name of a file, which is what modprobe sorts by."""
    return Path(row[0]).name


def load(edges: Edges) -> str:
    """Load the driver past the file; return what modprobe said where it failed. Whether it works is judged apart."""
    with files.temporary() as folder:
        for number, (path, content) in enumerate(sorted(modprobe_files(edges).items(), key=name_of)):
            if path != BLOCK:
                files.write_whole(folder / f"{number:03}-{Path(path).name}", content)
        said = [edges.run(["modprobe", "-C", str(folder), name], _TIMEOUT_S) for name in ("nvidia", *BESIDE)]
    code, out, err = said[0]
    return "" if code == 0 else " ".join((err or out).split())[-300:]
