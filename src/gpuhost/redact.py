"""Taking out of texts what a stranger must not read: names of hosts and users, addresses, serials, secrets. Pure.

The same name becomes the same stand-in (host-1, address-2) wherever it occurs in one bundle, so that what belongs
together can still be seen. In doubt something is taken out.
"""

import ipaddress
import re
from typing import Any, Dict, Iterable, List, Match, Pattern, Tuple

from .credentials import without_secrets

#: Servers that everybody uses; any other name in a URL may be somebody's own.
PUBLIC = (
    "ubuntu.com",
    "canonical.com",
    "launchpadcontent.net",
    "launchpad.net",
    "debian.org",
    "nvidia.com",
    "pypi.org",
    "pythonhosted.org",
    "github.com",
)
SECRET, KEY = "<secret>", "<key>"
_KEY_BLOCK = re.compile(r"(?is)-+ ?begin [^-]*(?:key|certificate)[^-]*-+.*?(?:-+ ?end [^-]*-+|\Z)")
_SECRET = re.compile(
    r"(?i)\b([a-z0-9_-]*(?:password|passwd|passphrase|token|secret|api[_-]?key|access[_-]?key|credentials?))"
    r"(\"?\s*[=:]\s*|\s+)(?!\s)(\"[^\"]*\"|'[^']*'|[^\s,;]+)"
)
_NETRC = re.compile(r"(?i)\b(machine|login)(\s+)([^\s:=]+)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_SERIAL = re.compile(r"(?i)\b(serial(?:[ _]?(?:number|no))?\.?\s*[=:]\s*)(?!<)\S+")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_UUID = re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])")
_MAC = re.compile(r"(?i)(?<![0-9a-f:])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![0-9a-f:])")
_V4 = re.compile(r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_V6 = re.compile(r"(?i)(?<![0-9a-z:.])[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:]*(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9a-z:])")
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://(?:\*\*\*@)?)(\[[^\]\s]*\]|[^/\s:\"'<>]+)")
_HOME = re.compile(r"(/home/|/Users/)([^/\s:\"']+)")


class Redactor:
    """Takes out of any number of texts; `counts` says how many different things of each kind it has met."""

    def __init__(self, hosts: Iterable[str] = (), users: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        """Know some names beforehand; `keep` are texts, such as versions, that only look like addresses."""
        self._keep = frozenset(keep)
        self._stand_ins: Dict[str, Dict[str, str]] = {}
        self._names: List[Tuple[Pattern[str], str]] = []
        for kind, names in (("host", hosts), ("user", users)):
            for name in sorted({n for n in names if n}, key=len, reverse=True):
                self._learned(kind, name)

    @property
    def counts(self) -> Dict[str, int]:
        """How many different things of each kind were taken out."""
        return {kind: len(found) for kind, found in sorted(self._stand_ins.items())}

    def _named(self, kind: str, value: str) -> str:
        """The stand-in of a value, the same each time."""
        known = self._stand_ins.setdefault(kind, {})
        return known.setdefault(value.lower(), f"{kind}-{len(known) + 1}")

    def _learned(self, kind: str, name: str) -> str:
        """The stand-in of a host's or user's name, which from now on is taken out wherever it stands as a word."""
        if name.lower() in self._stand_ins.get(kind, {}) or name in ("localhost", "root"):
            return self._stand_ins.get(kind, {}).get(name.lower(), name)
        more = r"(?:\.[A-Za-z0-9-]+)*" if kind == "host" else ""
        pattern = re.compile(rf"(?i)(?<![A-Za-z0-9]){re.escape(name)}{more}(?![A-Za-z0-9])")
        self._names.append((pattern, self._named(kind, name)))
        return self._named(kind, name)

    def text(self, text: str) -> str:
        """A text without any of it. A name that is learned from a text is taken out of those before it only when they
        are given again.
        """
        text = _KEY_BLOCK.sub(KEY, text)
        text = without_secrets(text)
        text = _NETRC.sub(self._netrc, text)
        text = _BEARER.sub(rf"\1 {SECRET}", text)
        text = _SECRET.sub(rf"\1\2{SECRET}", text)
        text = _SERIAL.sub(rf"\1{SECRET}", text)
        text = _URL.sub(self._server, text)
        text = _EMAIL.sub(lambda m: self._named("email", m.group(0)), text)
        text = _HOME.sub(lambda m: m.group(1) + self._user(m.group(2)), text)
        text = _UUID.sub(lambda m: self._named("uuid", m.group(0)), text)
        text = _MAC.sub(lambda m: self._named("hardware-address", m.group(0)), text)
        text = _V6.sub(self._address, text)
        text = _V4.sub(self._address, text)
        for pattern, stand_in in self._names:
            text = pattern.sub(stand_in, text)
        return text

    def _user(self, name: str) -> str:
        """The stand-in of a home folder's name; one that is a stand-in already stays."""
        return name if re.fullmatch(r"user-[0-9]+", name) else self._learned("user", name)

    def _netrc(self, match: Match[str]) -> str:
        """A server or a user in the words of .netrc."""
        name = match.group(3)
        if re.fullmatch(r"(host|user|address)-[0-9]+|<secret>", name):
            return match.group(0)
        return (
            match.group(1)
            + match.group(2)
            + self._learned({"machine": "host"}.get(match.group(1).lower(), "user"), name)
        )

    def _server(self, match: Match[str]) -> str:
        """A URL's server: public ones stay, and so does this machine."""
        name = match.group(2)
        known = name == "localhost" or any(name == p or name.endswith("." + p) for p in PUBLIC)
        if known or re.fullmatch(r"(host|address)-[0-9]+", name):
            return match.group(0)
        return match.group(1) + self._learned("host", name)

    def _address(self, match: Match[str]) -> str:
        """An IP address; what only looks like one stays, and so does this machine's own."""
        text = match.group(0)
        if text in self._keep:
            return text
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            return text
        return text if found.is_loopback or found.is_unspecified else self._named("address", text)

    def value(self, value: Any, under: str = "") -> Any:
        """A JSON value without any of it, its keys included; what stands `under` a key that speaks of a serial number
        or a secret is taken out whatever it is.
        """
        if isinstance(value, dict):
            return {self.text(str(k)): self.value(v, str(k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(inner, under) for inner in value]
        if re.search(r"(?i)serial|password|secret|token", under) and value not in (None, "", True, False):
            return SECRET
        return self.text(value) if isinstance(value, str) else value
