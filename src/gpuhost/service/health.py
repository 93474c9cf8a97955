"""Whether the service can answer, and where it cannot, which known failure of the host that is and what fixes it."""

import re
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from .. import strict_json
from ..errors import GpuhostError, UnreadableError
from ..host.commands import run_command
from ..host.edges import Edges
from ..host.pairs import keep
from ..host.pairs.judge import told
from ..host.probe.gpu import sysfs_cards
from ..reading import UnfitFile
from ..text import printable
from ..types import Json
from ..yolo.table import DeviceError

STARTING, READY, REFUSED, FAILING, STOPPING = "starting", "ready", "refused", "failing", "stopping"
#: Travels with the service: which diagnosis stands at which check, with what fixes it (shipping/tree.py writes it).
TABLE = Path(__file__).resolve().parent / "diagnoses.json"
#: The record of the watch, in the folder of the records.
WATCHED = "watch.json"
#: The diagnoses of what the detector says of a device, by its codes: of OpenCV's build, which no fault of the driver
#: changes, and of what a fault of the driver may look like.
OF_BUILD, OF_DEVICE = {"not_built": "D18"}, {"fell_back": "D18", "no_card": "D29"}
#: CUDA says so whatever keeps it from the card. By itself it names nothing, unless there is none on the bus.
OF_ANYTHING, OF_NONE = "no CUDA-capable device is detected", "D38"
#: A diagnosis that the watch itself has named.
_NAMED = re.compile(r"\bD[0-9]{2}\b")
VERIFY = "On the controller: ./run pytest verify/ names the cause and the command that fixes it."
STARTS = "The networks are being opened and proved."
#: Of a finding of the watch, which names a few packages with two versions each and ends with what follows from it.
LONGEST = 1000


class Health:
    """The state of the service; the inference thread changes it, requests read it."""

    def __init__(self, records: Path, table: Path = TABLE) -> None:
        """Begin as starting."""
        self._lock = threading.Lock()
        self._records, self._table = records, table
        self.state, self.since = STARTING, time.monotonic()
        self._reason, self._remedy, self._code = STARTS, "Wait a moment.", ""

    @property
    def is_ready(self) -> bool:
        """Whether photos are taken."""
        return self.state == READY

    def prove(self) -> None:
        """The device has computed right."""
        self._set(READY, "", "", "")

    def refuse(self, problem: GpuhostError) -> None:
        """The device could not be proved, or the networks not be opened."""
        code = problem.code if isinstance(problem, DeviceError) else ""
        self._set(REFUSED, problem.message, problem.next_step, code)

    def fail(self, said: str) -> None:
        """A forward pass has failed on a device that was proved."""
        self._set(FAILING, f"A forward pass failed on the device: {said}.", "", "")

    def stop(self) -> None:
        """The service ends."""
        self._set(STOPPING, "The service is ending.", "Wait until it has started again.", "")

    def _set(self, state: str, reason: str, remedy: str, code: str) -> None:
        with self._lock:
            if state != self.state:
                self.since = time.monotonic()
            self.state, self._reason, self._remedy, self._code = state, reason, remedy, code

    def answer(self, detail: bool) -> Json:
        """Return the state as JSON; with `detail` also the cause, as far as the host's records tell it."""
        with self._lock:
            state, reason, remedy, code = self.state, self._reason, self._remedy, self._code
        found: Json = {"ready": state == READY, "state": state}
        undone = self._undone() if detail else ""
        if undone:
            found["update"] = undone
        if state == READY or not detail:
            return found
        found.update(reason=reason, diagnosis=None, remedy=remedy)
        if state in (REFUSED, FAILING):
            found.update(self._cause(code, reason, remedy))
        return found

    def _cause(self, code: str, reason: str, remedy: str) -> Json:
        """Return the diagnosis of OpenCV's build, else the one that the watch's record names or points to, else the one
        whose messages the device's own words have, else the one of its code.
        """
        table = _json(self._table) or {}
        rows: Dict[str, Json] = table.get("diagnoses", {})
        found: Json = {"remedy": f"{remedy} {VERIFY}".strip()}
        seen = self._findings()
        if seen:
            found["watch"] = [f"{check}: {what}" for check, what in seen]
        named = [OF_BUILD.get(code, "")]
        for check, what in seen:
            # What it says of the service is what the service itself has said before.
            named += [] if check.startswith("service.") else _NAMED.findall(what)
            named.append(table.get("checks", {}).get(check, ""))
        named += [name for name, row in rows.items() if any(said_in(reason, said) for said in row["messages"])]
        named += [OF_NONE] if OF_ANYTHING in reason and has_no_card() else []
        for name in [*named, OF_DEVICE.get(code, "")]:
            if name in rows:
                row = rows[name]
                return {**found, "diagnosis": name, "title": row["title"], "remedy": f"{row['fix']} {VERIFY}"}
        return found

    def _undone(self) -> str:
        """Return what became of the last update of kernel and driver, where the host has undone it; else ""."""
        record = _json(self._records / Path(keep.RECORD).name)
        return printable(told(record), LONGEST) if record is not None and keep.is_whole(record) else ""

    def _findings(self) -> List[Tuple[str, str]]:
        """Return what the watch of the host found wrong when it looked last."""
        record = _json(self._records / WATCHED) or {}
        found = record.get("findings")
        rows = found if isinstance(found, list) else []
        return [
            (str(row["id"]), printable(row.get("what", ""), LONGEST))
            for row in rows
            if isinstance(row, dict) and "id" in row
        ]


def has_no_card() -> bool:
    """Return whether the PCI bus shows no NVIDIA card."""
    try:
        return not sysfs_cards(Edges("/", run_command))
    except UnreadableError:
        return False


def said_in(reason: str, message: str) -> bool:
    """Return whether a diagnosis' message stands in what a device's library said, and tells it from others."""
    return message != OF_ANYTHING and message.lower() in reason.lower()


def _json(path: Path) -> Optional[Dict[str, Any]]:
    """Return the object in a file; None where it cannot be read: what says why nothing works must always answer."""
    try:
        found = strict_json.load(path)
    except (OSError, UnfitFile, ValueError):
        return None
    return found if isinstance(found, dict) else None
