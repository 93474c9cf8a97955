"""Faults and remedies on a bed: a remedy as it is typed, and the records of what was staged and healed, which the page
about diagnoses is made from.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from gpuhost.checks.base import ON_HOST, THEN_HERE

from .beds.ubuntu import UbuntuBed

BLACKLISTS = "grep -rlE '^blacklist nouveau' /etc/modprobe.d /lib/modprobe.d"


def old_initramfs(bed: UbuntuBed, kernel: str) -> None:
    """Make a host's initramfs while the blacklists of nouveau are away."""
    away = f"{BLACKLISTS} | xargs tar --create --absolute-names --remove-files --file /root/away.tar"
    bed.run(["sh", "-c", f"{away} && update-initramfs -u -k {kernel}"], timeout=300)
    bed.run(["tar", "--extract", "--absolute-names", "--file", "/root/away.tar"])


def places(remedy: str) -> Tuple[str, str]:
    """Return what of a remedy is typed on the host as root, and what then in the project's folder."""
    if not remedy.startswith(ON_HOST):
        return "", remedy
    command, _, here = remedy[len(ON_HOST) :].partition(f"\n{THEN_HERE}")
    return command, here


def answered(command: str) -> str:
    """Return the shell's line for a command as printed, which may end in a comment: apt asks, and a person answers."""
    return f"yes | {{ {command}\n}}"


def kept(record: Path, test: str, rows: List[Dict[str, str]]) -> Any:
    """Return the rows that a record holds; with GPUHOST_WRITE_FAULTS set these rows are written to it first."""
    if os.environ.get("GPUHOST_WRITE_FAULTS"):
        made = {"made": time.strftime("%Y-%m-%d"), "by": f"tests/e2e/{Path(test).name}", "healed": rows}
        record.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return json.loads(record.read_text(encoding="utf-8"))["healed"]
