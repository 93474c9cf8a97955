"""How the watch says what it has found: at each login, in the journal, as metrics, as a record. Pure.

Runs on the target: Python 3.6, standard library. Every word may come from a file of the host, so nothing in it may move
a cursor, end a line or leave a label.
"""

import json
from typing import List

from .judge import BROKEN, OK, UNREADABLE, State

REMEDY = "On the controller: ./run pytest verify/ names the cause and the command that fixes it."
EXIT = {OK: 0, "nothing to watch": 0, BROKEN: 1, UNREADABLE: 4}
#: systemd takes a number in such brackets, at the start of a line, as the line's priority.
_ERROR, _INFO = "<3>", "<6>"


def plain(text: str) -> str:
    """A text as one line in which nothing can move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def lines(state: State) -> List[str]:
    """What is wrong, a line each, and what to do; one line when nothing is. The notes come last."""
    notes = [f"gpuhost: {plain(note)}" for note in state.notes]
    if not state.findings:
        return [f"gpuhost: {state.status}", *notes]
    head = "gpuhost: THE GPU STACK OF THIS HOST IS BROKEN"
    if state.status == UNREADABLE:
        head = "gpuhost: THE GPU STACK OF THIS HOST CANNOT BE READ"
    return [head, *(f"  {f.id}: {plain(f.what)}" for f in state.findings), f"  {REMEDY}", *notes]


def journal(state: State) -> str:
    """For the service's output: at the priority of an error when something is wrong."""
    mark = _ERROR if state.findings else _INFO
    return "".join(f"{mark}{line}\n" for line in lines(state))


def motd(state: State) -> str:
    """For each login: nothing when nothing is wrong and nothing is to be known."""
    told = lines(state) if state.findings else lines(state)[1:]
    return "".join(f"{line}\n" for line in told) + "\n" if told else ""


def label(text: str) -> str:
    """A value of a label in Prometheus' text format."""
    return plain(text).replace("\\", "\\\\").replace('"', '\\"')


def metrics(state: State, when: float) -> str:
    """For node_exporter's textfile collector."""
    rows = [
        "# HELP gpuhost_watch_ok Whether the watch of gpuhost found nothing wrong.",
        "# TYPE gpuhost_watch_ok gauge",
        f"gpuhost_watch_ok {0 if state.findings else 1}",
        "# HELP gpuhost_watch_last_run_timestamp_seconds When the watch of gpuhost ran last.",
        "# TYPE gpuhost_watch_last_run_timestamp_seconds gauge",
        f"gpuhost_watch_last_run_timestamp_seconds {when:.0f}",
        "# HELP gpuhost_watch_finding A check of verify/ that would fail.",
        "# TYPE gpuhost_watch_finding gauge",
    ]
    rows += [f'gpuhost_watch_finding{{check="{label(name)}"}} 1' for name in sorted({f.id for f in state.findings})]
    return "\n".join(rows) + "\n"


def record(state: State, when: float) -> str:
    """The state as a file."""
    found = [{"id": f.id, "what": plain(f.what)} for f in state.findings]
    content = {"schema": 1, "when": int(when), "status": state.status, "findings": found}
    content["notes"] = [plain(note) for note in state.notes]
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
