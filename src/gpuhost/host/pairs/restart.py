"""The restart of a host that is its own controller: a run cannot reboot the machine that it runs on, and then go on.

So the machine is told to restart a minute later, and a mark tells a service of the next boot to run the rest
(`timer.py`). Runs on the target: Python 3.6, standard library.
"""

from ...errors import EnvironmentProblem
from .. import files
from ..edges import Edges
from ..store import unwritable
from ..units import why

#: What `gpuhost-update-resume.service` looks for, and deletes as it begins.
MARK = "state/restarting"
#: `shutdown` says so to whoever is logged in.
_TOLD = "gpuhost restarts this machine for an update. To cancel: shutdown -c"
_TIMEOUT_S = 60.0


def announce(edges: Edges, root: str) -> str:
    """Have this machine restart in a minute, and the update carried on with after it; return what is to come."""
    mark = edges.path(f"{root}/{MARK}")
    try:
        files.write_whole(mark, "")
    except OSError as error:
        raise unwritable(error, edges.path(root)) from error
    code, out, err = edges.run(["shutdown", "-r", "+1", _TOLD], _TIMEOUT_S)
    if code != 0:
        files.remove(mark)
        text = f"shutdown -r failed: {why(code, out, err)}"
        raise EnvironmentProblem(text, "Reboot this host, then type the same command again.")
    return "This machine restarts in a minute (shutdown -c cancels it), and the update is carried on with after that."
