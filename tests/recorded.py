"""The recorded hosts as the probe sees them, for tests of what is decided from an observation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

from gpuhost.host.probe.machine import observe

HOSTS = Path(__file__).resolve().parent / "hosts"


def observed(name: str, root: Path = HOSTS) -> Dict[str, Any]:
    """The observation of `tests/hosts/<name>`; `root` is another folder that holds a changed copy of it."""
    recorded = json.loads((root / name / "commands.json").read_text(encoding="utf-8"))
    answers = {tuple(one["argv"]): (one["rc"], one["out"], one["err"]) for one in recorded}

    def run(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        return answers[tuple(argv)]

    return observe(str(root / name / "fs"), run)
