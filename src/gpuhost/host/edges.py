"""The probe's two edges: files below a root, and commands. Whatever cannot be read becomes a named problem.

Runs on the target, so Python 3.6 and the standard library only.
"""

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from .. import strict_json
from ..reading import UnfitFile, content, last
from .commands import Run

# dpkg reads on past some damages of its database, and says so in these words only.
_DAMAGED = re.compile(r"^dpkg(-query)?: (warning|error): parsing file", re.MULTILINE)
_LONGEST_ERROR = 500
#: dpkg's list of a full desktop has 10 MB.
_LARGEST_FILE = 256 << 20


class Edges:
    """A machine as the probe sees it: `root`, the folder its files are read below, and `run`, its commands.

    `problems` gathers what was there but could not be read, as {"what": file or command, "error": sentence}.
    """

    def __init__(self, root: str, run: Run) -> None:
        """Keep both edges; no file is read yet."""
        self._root = Path(root)
        self.run = run
        self.problems: List[Dict[str, str]] = []

    def problem(self, what: str, error: str) -> None:
        """Name something that could not be read."""
        self.problems.append({"what": what, "error": error[:_LONGEST_ERROR]})

    def output(self, argv: Sequence[str], timeout: float, what: str, silent: bool = False) -> Optional[str]:
        """Return what a command prints; None, and a problem of the name `what`, where that is nothing to rely on.

        That is where it fails, where it prints nothing (unless it may be `silent`), and where dpkg warns that its
        database is damaged.
        """
        code, out, err = self.run(argv, timeout)
        said = " ".join(err.split())
        if code != 0:
            self.problem(what, said or f"It ended with status {code}.")
        elif _DAMAGED.search(err):
            self.problem(what, said)
        elif not out.strip() and not silent:
            self.problem(what, "It printed nothing." + (f" It warned: {said}" if said else ""))
        else:
            return out
        return None

    def path(self, name: str) -> Path:
        """Where the absolute path `name` of the machine lies below the root."""
        return self._root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether there is something at this path (a link that leads nowhere counts as well).

        Where that cannot be determined, it is a problem.
        """
        try:
            self.path(name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self.problem(name, f"It cannot be looked for: {error.strerror}.")
            return False
        return True

    def data(self, name: str) -> Optional[bytes]:
        """The file's bytes; None when it is not there, or cannot be read, which is then a problem."""
        try:
            return content(self.path(name), _LARGEST_FILE)
        except UnfitFile as error:
            self.problem(name, str(error))
        except (FileNotFoundError, NotADirectoryError):
            if self.exists(name):
                self.problem(name, "It is a link that leads nowhere.")
        except OSError as error:
            self.problem(name, f"It cannot be read: {error.strerror}.")
        return None

    def end(self, name: str, count: int) -> Optional[bytes]:
        """The last bytes of a file, however large it is; None when it is not there, or, a problem, not readable."""
        try:
            return last(self.path(name), count)
        except UnfitFile as error:
            self.problem(name, str(error))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.problem(name, f"It cannot be read: {error.strerror}.")
        return None

    def text(self, name: str) -> Optional[str]:
        """The file's text; bytes that are not UTF-8 become the replacement character."""
        data = self.data(name)
        return None if data is None else data.decode("utf-8", "replace")

    def record(self, name: str) -> Optional[Dict[str, Any]]:
        """The JSON object in a file; None when there is no such file, and a problem when it holds anything else."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = strict_json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self.problem(name, "It is not a JSON object.")
            return None
        return value

    def names(self, name: str) -> Optional[List[str]]:
        """The names in a folder, sorted; None when it is not there or, which is a problem, not readable."""
        try:
            return sorted(entry.name for entry in self.path(name).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            if self.exists(name):
                self.problem(name, "It does not lead to a folder.")
            return None
        except OSError as error:
            self.problem(name, f"The folder cannot be read: {error.strerror}.")
            return None

    def link_name(self, name: str) -> Optional[str]:
        """The last part of what a symbolic link points to; None when there is no such link."""
        try:
            return Path(os.readlink(str(self.path(name)))).name
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.problem(name, f"The link cannot be read: {error.strerror}.")
            return None
