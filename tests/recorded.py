"""What real machines said in each state of Secure Boot, for the tests that need those words (tests/data/secureboot)."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, Dict, Tuple

RECORDS = Path(__file__).resolve().parent / "data/secureboot"
NAMES = sorted(path.stem for path in RECORDS.glob("*.json"))


@functools.lru_cache(maxsize=None)
def _record(name: str) -> Any:
    """One record."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def said(name: str, *argv: str) -> Tuple[int, str, str]:
    """Return how a command of a record ended, and what it printed, the last time that it was asked."""
    found = [one for one in _record(name)["commands"] if one["argv"] == list(argv)][-1]
    return found["rc"], found["out"], found["err"]


def files(name: str) -> Dict[str, bytes]:
    """Return the files of a record."""
    return {
        path: bytes.fromhex(text[len("hex:") :]) if text.startswith("hex:") else text.encode()
        for path, text in _record(name)["files"].items()
    }


def write(name: str, root: Path, *parts: str) -> None:
    """Write the files of a record below `root`; with `parts`, those whose path holds one of them."""
    for path, data in files(name).items():
        if not parts or any(part in path for part in parts):
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def modinfo(version: str, kernel: str, path: str, signer: str = "") -> str:
    """Return what modinfo says of NVIDIA's module, in the recorded words, with these values in the place of its own.

    Without a signer it is a module without a signature: of one, the fields of the signature are left out (see
    hello_unsigned in each record).
    """
    text = said("not-enrolled", "modinfo", "nvidia-current")[1]
    values = {
        "filename": path,
        "version": version,
        "vermagic": f"{kernel} SMP preempt mod_unload modversions ",
        "signer": signer,
    }
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^({name}: +).*$", lambda found, value=value: found.group(1) + value, text)
        assert count == 1, name
    return text if signer else re.sub(r"(?ms)^sig_id:.*?^(?=parm:)", "", text)
