"""The work folder of one wheel: which steps are done, so that a killed run goes on instead of starting over."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator

from .. import strict_json
from ..host import files
from .failures import failure

#: The lock of the folder.
TURN = "lock"
ORDER = ("sources", "configure", "check", "build", "wheel")


class Work:
    """A folder with a stamp for each finished step; one counts only for the same key and after all before it."""

    def __init__(self, folder: Path, key: str) -> None:
        """Open the folder of a key; stamps of another key do not count."""
        self.folder = folder
        self.key = key
        self.file = folder / "steps.json"

    def stamps(self) -> Dict[str, Any]:
        """The finished steps with what each left; {} when there are none or they are of another key."""
        try:
            value = strict_json.load(self.file)
        except (OSError, ValueError):
            return {}
        return dict(value["steps"]) if isinstance(value, dict) and value.get("key") == self.key else {}

    def is_done(self, step: str) -> bool:
        """Return whether this step is finished, and every one before it."""
        stamps = self.stamps()
        return all(name in stamps for name in ORDER[: ORDER.index(step) + 1])

    def finish(self, step: str, left: Any, began: float) -> None:
        """Stamp a step with what it left, and take away the stamps of all later ones."""
        stamps = {name: value for name, value in self.stamps().items() if ORDER.index(name) < ORDER.index(step)}
        stamps[step] = {"left": left, "seconds": round(time.monotonic() - began, 1)}
        # What the stamp vouches for must be on the disk before it.
        os.sync()
        files.write_whole(self.file, json.dumps({"key": self.key, "steps": stamps}, indent=1, sort_keys=True) + "\n")

    def clear(self) -> None:
        """Start over: everything of this folder goes, the stamps first."""
        files.remove(self.file)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name != TURN:
                files.remove(path)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the folder for this run; another run that is at it is an error, not something to wait for unseen."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.held(self.folder / TURN, f"building OpenCV in {self.folder}"))
            except files.Busy as busy:
                raise failure("B-busy", busy.holder, "Wait for it, or give --work DIR.") from None
            yield
