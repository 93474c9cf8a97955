"""One exception per kind of failure a user can meet: what went wrong, what to type next, and the exit code.

Kept to Python 3.6 and the standard library, because modules that run on a target raise these too.
"""

from typing import Any, Dict

from .credentials import without_secrets

#: The exit code of a program that Ctrl-C has ended: what a shell says of it.
EXIT_INTERRUPTED = 130


class GpuhostError(Exception):
    """A failure that is shown to the user as one paragraph, without a traceback."""

    exit_code = 1

    def __init__(self, message, next_step=""):
        # type: (str, str) -> None
        """Keep what is wrong (`message`, one sentence) and what the user can do about it (`next_step`).

        A message may quote an address or what another program said: no login, token or cookie stays in it.
        """
        self.message = without_secrets(message)
        super().__init__(self.message)
        self.next_step = next_step

    def __str__(self):
        # type: () -> str
        """Both halves on one line, as a log or an Ansible failure shows them."""
        return f"{self.message} {self.next_step}".strip()

    def record(self) -> Dict[str, Dict[str, Any]]:
        """Return what is printed in place of the answer where JSON was asked for."""
        return {"error": {"message": self.message, "next_step": self.next_step, "exit_code": self.exit_code}}


class UsageError(GpuhostError):
    """The command line asks for something that cannot be understood (an unknown card, a malformed specifier)."""

    exit_code = 2


class RefusedError(GpuhostError):
    """No stack satisfies what was asked; the message names the rules that block it."""

    exit_code = 3


class UnreadableError(GpuhostError):
    """The machine, or a card in it, is there but cannot be read or mapped."""

    exit_code = 4


class CatalogError(GpuhostError):
    """A file of the catalog is missing, is not JSON or breaks its schema."""

    exit_code = 5


class ArtifactError(GpuhostError):
    """A download is missing, truncated or not the file its checksum promises."""

    exit_code = 6


class EnvironmentProblem(GpuhostError):
    """The host cannot do the work now: no space, no network, no permission, a device that this build cannot serve."""

    exit_code = 7


class LockError(GpuhostError):
    """The lock is damaged, of another version, or speaks of another card than the one that is there."""

    exit_code = 8
