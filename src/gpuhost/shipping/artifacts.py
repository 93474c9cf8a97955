"""Who fetches a file for a host: the host, or this controller once for all hosts.

Controller side.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError

VIA = ("auto", "controller", "target")


def controller_cache() -> Path:
    """Where this controller keeps what it has fetched."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "gpuhost" / "artifacts"


def target_fetches(via: str, local: bool) -> bool:
    """Return whether the host itself fetches; `local` is a host that is this machine."""
    if via not in VIA:
        raise UsageError(f"artifact_via is {via!r}.", f"Write one of: {', '.join(VIA)}.")
    return via == "target" or (via == "auto" and local)
