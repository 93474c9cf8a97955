"""Running NVIDIA's CUDA runfile so that it leaves nothing outside the folder it was told to use.

Runs on the target: Python 3.6, standard library. As root the installer may write logs, a link /usr/local/cuda and an
entry for the linker. What was there before is written down first, so that a run that is killed is tidied by the next.
"""

import json
import os
from pathlib import Path
from typing import Callable, List

from ...types import Json
from .. import files, making, store, venvs
from ..commands import run_command

# Where the installer is known to write beside its prefix, as patterns below /.
OUTSIDE = (
    "usr/local/cuda",
    "usr/local/cuda-*",
    "etc/ld.so.conf.d/*cuda*",
    "etc/profile.d/*cuda*",
    "var/log/cuda-installer.log",
    "var/log/cuda-uninstaller.log",
    "var/log/nvidia",
    "tmp/cuda-installer.log",
    "tmp/cuda_install_*.log",
    "tmp/cuda-uninstaller.log",
)
# From 10.1 on the installer crashes when it finds this file and has not made it.
STALE = "tmp/cuda-installer.log"
LDCONFIG_S = 120.0


def outside(top: Path) -> Json:
    """What is there now: path -> the target of a link, or None for anything else."""
    found: Json = {}
    for pattern in OUTSIDE:
        for path in top.glob(pattern):
            found[str(path)] = os.readlink(str(path)) if path.is_symlink() else None
    return found


def tidy(record: Path, top: Path) -> List[str]:
    """Remove what came since the record was written and set changed links back; the paths. The record goes last."""
    before = store.read_json(record)
    if before is None:
        return []
    done = []
    now = outside(top)
    for path in sorted(set(now) | set(before)):
        if path not in before or (before[path] is not None and now.get(path) != before[path]):
            files.remove(Path(path))
            if path in before:
                files.link(before[path], Path(path))
            done.append(path)
    files.remove(record)
    return done


def command(runfile: Path, folder: Path, scratch: Path, options: List[str]) -> List[str]:
    """The installer's command line."""
    return ["sh", str(runfile), *[o.replace("PREFIX", str(folder)) for o in options], f"--tmpdir={scratch}"]


def install(
    root: Path, folder: Path, spec: Json, runfile: Path, log: Path, say: Callable[[str], None], top: Path = Path("/")
) -> None:
    """Install into the folder; the unpacking goes to the store's own disk, for /tmp is often too small."""
    record, scratch = root / "state" / "runfile.json", making.scratch_of(folder)
    tidy(record, top)
    files.remove(scratch)
    files.make_folder(scratch)
    files.remove(top / STALE)
    files.write_whole(record, json.dumps(outside(top), indent=1, sort_keys=True) + "\n")
    say("running NVIDIA's installer, which is silent for some minutes")
    try:
        venvs.run(command(runfile, folder, scratch, spec["options"]), log)
    finally:
        cleared = tidy(record, top)
        files.remove(scratch)
    if any("ld.so.conf.d" in path for path in cleared):
        say("rebuilding the linker's cache")
        run_command(["ldconfig"], LDCONFIG_S)  # the role's own linker step tells when this fails
