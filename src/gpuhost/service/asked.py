"""What a request asks for beside its picture: model, lowest score, labels, and how long it may take. Pure."""

import math
import re
from typing import Dict, List, Optional, Sequence, Tuple
from urllib.parse import parse_qsl

from ..text import printable
from .answers import Refused

FIELDS = ("model", "min_confidence", "labels", "api_key")
MOST_PARAMETERS = 16
MOST_LABELS = 100
#: Less is worth no request.
SHORTEST_S = 1.0
#: What keys are called. In an address a key ends in logs and histories, so it opens nothing there.
SECRETS = frozenset(
    ("api_key", "apikey", "api-key", "key", "token", "access_token", "x-api-key", "authorization", "auth", "password")
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")
_NO_NUMBER = "Invalid value for min_confidence"
_TOO_LARGE = "min_confidence cannot be greater than 1"
_RANGE = "Use a number from 0 to 1, as 0.4."


def query_of(raw: bytes, known: Optional[Sequence[str]] = None) -> Dict[str, str]:
    """Return the parameters of an address; Refused where one stands twice, is a key, or is none of the `known`."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError as problem:
        raise Refused(
            400, "The query of the address cannot be read.", "Leave it out, or write it as a=b&c=d."
        ) from problem
    found: Dict[str, str] = {}
    for name, value in pairs:
        if name.lower() in SECRETS:
            raise Refused(
                400,
                "A key does not belong in the address, where logs keep it.",
                "Send it as Authorization: Bearer, as X-API-Key, or as the form field api_key; and replace it.",
            )
        if known is not None and name not in known:
            raise Refused(400, f"There is no parameter {printable(name, 60)}.", f"Use {', '.join(known) or 'none'}.")
        if name in found:
            raise Refused(400, f"The parameter {printable(name, 60)} is given twice.", "Give it once.")
        found[name] = value
    return found


def confidence_of(text: Optional[str], default: float, like_deepstack: bool) -> float:
    """Return the lowest score that is asked for. DeepStack lets a negative one pass, which then means 0."""
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None:
        raise Refused(
            400, f"A min_confidence of {printable(text, 40)!r} is not a number.", _RANGE, deepstack=_NO_NUMBER
        )
    value = float(text)
    if value > 1 or math.isinf(value):
        raise Refused(
            400, f"A min_confidence of {printable(text, 40)} is greater than 1.", _RANGE, deepstack=_TOO_LARGE
        )
    if value < 0 and not like_deepstack:
        raise Refused(400, f"A min_confidence of {printable(text, 40)} is below 0.", _RANGE)
    return max(0.0, value)


def labels_of(text: Optional[str], known: Sequence[str]) -> Tuple[str, ...]:
    """Return the labels that are asked for, separated by commas; Refused for one that the network does not have."""
    wanted: List[str] = [name.strip() for name in (text or "").split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or len(wanted) > MOST_LABELS:
        raise Refused(
            400,
            f"The network knows no {printable(', '.join(unknown[:3]), 120)}."
            if unknown
            else "These are too many labels.",
            "GET /v1/models lists the labels.",
        )
    return tuple(wanted)


def seconds_of(text: Optional[str], most: float) -> float:
    """Return how long a request may take: as its header says, and never longer than the setting."""
    if text is None or text == "":
        return most
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not value >= SHORTEST_S:
        raise Refused(400, "The header X-Deadline-S is not a number of seconds, 1 or more.", "Write it as 2.5.")
    return min(value, most)
