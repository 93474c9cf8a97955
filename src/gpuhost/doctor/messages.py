"""From words that a program printed to the diagnoses they may be signs of. Pure."""

import re
from typing import List, Pattern, Tuple

from .. import __version__
from ..diagnoses import apart
from ..diagnoses import table as diagnoses
from ..diagnoses.base import Diagnosis
from ..types import Json

SCHEMA = 1
#: More than anybody pastes.
LONGEST = 1 << 20
#: What * in a message stands for.
_ANYTHING = ".{0,200}?"


def pattern(message: str) -> Pattern[str]:
    """Return a message as a pattern: in any case, with any white space, and with * for a few words."""
    parts = [r"\s+".join(re.escape(word) for word in part.split()) for part in message.split("*")]
    return re.compile(rf"\s*{_ANYTHING}\s*".join(parts), re.IGNORECASE | re.DOTALL)


def named(text: str) -> List[Tuple[Diagnosis, str]]:
    """Return the diagnoses whose messages stand in a text, each with the longest of them.

    The longest message first, as the most telling one; of those with the same message the likeliest (`apart.RULE`).
    """
    found = []
    for one in diagnoses.TABLE:
        there = [message for message in one.messages if pattern(message).search(text[:LONGEST])]
        if there:
            found.append((one, max(there, key=len)))
    return sorted(found, key=lambda pair: (-len(pair[1]), apart.rank(pair[0])))


def pointed(text: str) -> Json:
    """Return what a text points to, as plain JSON (`data/doctor.schema.json`)."""
    rows = [
        {
            "diagnosis": one.id,
            "title": one.title,
            "message": message,
            "only": apart.BY_ID[one.id].only,
            "look": apart.BY_ID[one.id].look.replace("`", ""),
            "cause": one.cause,
            "fix": one.fix,
        }
        for one, message in named(text)
    ]
    return {"schema": SCHEMA, "doctor": __version__, "messages": rows}
