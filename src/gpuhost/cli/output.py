"""What the commands print as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any


def emit(value: Any) -> None:
    """Print JSON on standard output, untouched by terminal width."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
