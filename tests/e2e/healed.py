"""The records of what was staged and healed, which the page about diagnoses is made from."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List


def kept(record: Path, test: str, rows: List[Dict[str, str]]) -> Any:
    """Return the rows that a record holds; with GPUHOST_WRITE_FAULTS set these rows are written to it first."""
    if os.environ.get("GPUHOST_WRITE_FAULTS"):
        made = {"made": time.strftime("%Y-%m-%d"), "by": f"tests/e2e/{Path(test).name}", "healed": rows}
        record.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return json.loads(record.read_text(encoding="utf-8"))["healed"]
