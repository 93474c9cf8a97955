"""The users who are to have VirtualBox: their group, and the notice of newer releases switched off.

Both are given back by name: what a user was or had before stays. Runs on the target: Python 3.6, standard library.
"""

import grp
import pwd
from pathlib import Path
from typing import List, Optional, Sequence

from ...errors import EnvironmentProblem, RefusedError
from ...types import Json
from .. import files
from ..commands import Run
from ..probe.virtualbox import GROUP

#: Documented for `VBoxManage setextradata`: the date of the next look for a newer release.
NOTICE, NEVER = "GUI/UpdateDate", "never"
#: As it stands in a user's settings.
OFF = f'<ExtraDataItem name="{NOTICE}" value="{NEVER}"/>'
_TIMEOUT_S = 120.0


class Users:
    """Some users by name; `run` runs commands."""

    def __init__(self, names: Sequence[str], run: Run) -> None:
        """Nothing is read yet."""
        self.names, self.run = list(names), run

    def refuse_unknown(self) -> None:
        """Refuse a name that the host does not know, before anything is changed."""
        for name in self.names:
            try:
                pwd.getpwnam(name)
            except KeyError:
                raise RefusedError(
                    f"There is no user {name} on this host. Nothing was changed.", "Fix virtualbox_users."
                ) from None

    def group_is_there(self) -> bool:
        """Return whether the group is there."""
        return self.members() is not None

    def members(self) -> Optional[List[str]]:
        """The members of the group; None where there is no such group."""
        try:
            return list(grp.getgrnam(GROUP).gr_mem)
        except KeyError:
            return None

    def lacking(self) -> List[str]:
        """What is not yet so, as sentences."""
        there = self.members() or []
        found = [f"{name} is not in the group {GROUP}" for name in self.names if name not in there]
        return found + [f"{name} is notified of newer releases" for name in self.names if not self.is_silent(name)]

    def is_silent(self, name: str) -> bool:
        """Return whether a user is no longer notified of newer releases.

        Read from the user's settings: VBoxManage itself would begin new logs there each time that it is asked.
        """
        settings = config(name)
        return settings.is_file() and OFF in settings.read_text(encoding="utf-8", errors="replace")

    def present(self, record: Json) -> Json:
        """Let them in and switch the notice off; who was let in (`joined`) and whose was switched off (`silenced`).

        Of the latter, `fresh` are those who had no settings before.
        """
        joined, silenced = list(record.get("joined", [])), list(record.get("silenced", []))
        for name in self.names:
            if name not in (self.members() or []):
                self.must(["usermod", "-a", "-G", GROUP, name], f"{name} could not be let into the group {GROUP}")
                joined.append(name)
            if not self.is_silent(name):
                fresh = not config(name).is_file()
                self.must(as_user(name, "setextradata", "global", NOTICE, NEVER), f"the notice of {name} stays on")
                silenced.append({"name": name, "fresh": fresh})
        return {"joined": sorted(set(joined)), "silenced": silenced}

    def must(self, argv: Sequence[str], what: str) -> None:
        """Run a command that has to succeed."""
        code, out, err = self.run(argv, _TIMEOUT_S)
        if code != 0:
            said = " ".join((err or out).split())[-300:]
            raise EnvironmentProblem(f"{what}: {said}", "Fix it, then run the same command again.")

    def give_back(self, record: Json) -> None:
        """Take them out of the group who were let in, and their settings back to what they were."""
        for row in record.get("silenced", ()):
            settings = config(row["name"])
            if not settings.is_file():
                continue
            if row["fresh"] and "<MachineEntry" not in settings.read_text(encoding="utf-8", errors="replace"):
                files.remove(settings.parent)  # nothing but what our own call has made
            else:
                self.run(as_user(row["name"], "setextradata", "global", NOTICE), _TIMEOUT_S)
        for name in record.get("joined", ()):
            if name in (self.members() or []):
                self.must(["gpasswd", "-d", name, GROUP], f"{name} could not be taken out of the group {GROUP}")

    def drop_group(self, record: Json) -> None:
        """Delete the group that the packages have made, where nobody is in it."""
        if record.get("group") is False and self.members() == []:
            self.run(["groupdel", GROUP], _TIMEOUT_S)


def config(name: str) -> Path:
    """Where a user's settings of VirtualBox are."""
    return Path(pwd.getpwnam(name).pw_dir) / ".config/VirtualBox/VirtualBox.xml"


def as_user(name: str, *words: str) -> List[str]:
    """VBoxManage as a user: its settings are the user's own."""
    return ["runuser", "-u", name, "--", "env", f"HOME={pwd.getpwnam(name).pw_dir}", "VBoxManage", *words]
