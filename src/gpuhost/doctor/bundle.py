"""What an issue needs of a host that nobody recognised: the report and what it was made from, redacted. Pure."""

import getpass
import json
import os
import socket
from typing import TYPE_CHECKING, List

from ..redact import Redactor
from ..types import Json

if TYPE_CHECKING:
    from ..shapes.observation import Observation
    from ..shapes.seen import Seen

ABOUT = (
    "What gpuhost's doctor saw of one machine. Names of machines and users, addresses, serial numbers, keys and "
    "secrets were taken out. Look through it before you pass it on."
)


def text(report: Json, seen: "Seen") -> str:
    """Return the bundle as the text of one file."""
    clean = Redactor(hosts(seen["machine"]["observation"]), users())
    parts = ("machine", "surroundings", "cuda", "heard", "python")
    content = {"report": report, **{name: seen.get(name) for name in parts}}
    # Twice: a name that is learned in the last part is taken out of the first one as well.
    clean.value(content)
    whole = {"about": ABOUT, **clean.value(content), "taken_out": clean.counts}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def hosts(observation: "Observation") -> List[str]:
    """The names of the machine that was read, and of this one."""
    return [str(observation["hostname"]), socket.gethostname()]


def users() -> List[str]:
    """Who runs this, and for whom."""
    try:
        return [getpass.getuser(), os.environ.get("SUDO_USER", "")]
    except (KeyError, OSError):
        return []
