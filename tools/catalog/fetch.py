"""Bytes of a public address, or of a recording of it."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from gpuhost.credentials import without_secrets
from gpuhost.errors import ArtifactError, EnvironmentProblem
from gpuhost.host import https
from gpuhost.reading import content
from gpuhost.text import printable

LIMIT = 64 << 20
SECONDS = 120


class Fetch:
    """Read addresses from the network, or with `recorded` from the files HOST/PATH below that folder alone."""

    def __init__(self, recorded: Optional[Path] = None) -> None:
        """Choose where to read from."""
        self.recorded = recorded

    def get(self, url: str, accept: str = "*/*", limit: int = LIMIT) -> bytes:
        """Return what is at an address, at most `limit` bytes."""
        if self.recorded is not None:
            return self._recorded(url, limit)
        try:
            return https.body(url, accept, limit)[0] if urlsplit(url).scheme == "https" else _plain(url, accept, limit)
        except (ArtifactError, EnvironmentProblem, https.Interrupted, OSError, ValueError) as error:
            said = printable(without_secrets(str(error)), 200)
            text = f"{https.shown(url)} does not answer: {said}."
            raise EnvironmentProblem(text, "Try again later.") from None

    def _recorded(self, url: str, limit: int) -> bytes:
        """Return a recording."""
        parts = urlsplit(url)
        path = parts.path + ("index" if parts.path.endswith("/") else "")
        file = Path(f"{self.recorded}/{parts.netloc}{path}")
        try:
            return content(file, limit)
        except (OSError, ValueError) as error:
            text = f"{url} is not recorded: {printable(error, 200)}."
            raise EnvironmentProblem(text, "Record it, or leave out --recorded.") from None


def _plain(url: str, accept: str, limit: int) -> bytes:
    """Return what is at an address without encryption, as Debian's archive has it: its files are signed."""
    headers = {"Accept": accept, "User-Agent": "gpuhost"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - importers give http and https
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - as above
        data: bytes = answer.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    return data
