"""What the rules share."""

from __future__ import annotations

from typing import Callable, Optional

from ..candidates import Request
from ..gpus import Gpu


def each_card(request: Request, fails: Callable[[Gpu], Optional[str]]) -> Optional[str]:
    """The first card's complaint, so that a rule about cards reads as a rule about one card."""
    for gpu in request.gpus:
        text = fails(gpu)
        if text:
            return text
    return None
