"""What a bed takes over from the outer machine so that it reaches the same archives: pure, text in, text out.

Nothing here names an archive or a registry: sources, certificates, resolver and pip settings are those of
the machine the tests run on. What exists only there (a folder of wheels, a local index) is dropped, because a
bare host does not have it.
"""

from __future__ import annotations

import configparser
import io
import re
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from .commands import BedError

CODENAME = "bookworm"
SUITES = (CODENAME, CODENAME + "-updates", CODENAME + "-security")
UNSTABLE = "sid"
#: A mirror of unstable may be older than its index says that it is valid.
LATE = 'Acquire::Check-Valid-Until "false";'
COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

# Variables whose value is a file of certificates; in the bed they name its own bundle, with the same ones.
_CERTIFICATE_VARIABLE = re.compile(r"^(SSL_CERT_FILE|PIP_CERT|GIT_SSL_CAINFO|[A-Z_]+_CA_BUNDLE)$")
_PROXY_VARIABLE = re.compile(r"^(https?|all|no)_proxy$", re.IGNORECASE)
# apt's settings about reaching an archive; everything else of the machine's apt is its own taste.
_APT_SETTING = re.compile(
    r"^Acquire::(Check-Valid-Until|Check-Date|Max-FutureTime|Min-ValidTime|Retries|ForceIPv[46]|https?::[\w:-]+)"
    r' "([^"]*)";$'
)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Source(NamedTuple):
    """One apt source of Debian's own: where, which suites, which components."""

    uris: Tuple[str, ...]
    suites: Tuple[str, ...]
    components: Tuple[str, ...]


def debian_sources(files: Mapping[str, str], read_mirrors: Callable[[str], str]) -> List[Source]:
    """Debian's own entries among the apt source files (name -> text), one-line and deb822 format.

    An entry counts when its suites are CODENAME's, its components Debian's, and it is not signed by another
    key. `read_mirrors` returns the text of a mirror list (`mirror+file:` sources). BedError when none counts.
    """
    found: List[Source] = []
    for name, text in sorted(files.items()):
        entries = _deb822(text) if name.endswith(".sources") else _one_line(text)
        for fields in entries:
            source = _as_debian(fields, read_mirrors)
            if source is not None and source not in found:
                found.append(source)
    if not found:
        raise BedError(
            f"None of this machine's apt sources is Debian's for {CODENAME}. Run these tests on a "
            f"Debian machine whose /etc/apt names the suite {CODENAME}."
        )
    return found


def render_sources(sources: Iterable[Source]) -> str:
    """The sources as one deb822 file, signed by the archive keyring that every Debian carries."""
    return "\n".join(
        f"Types: deb\nURIs: {' '.join(s.uris)}\nSuites: {' '.join(s.suites)}\n"
        f"Components: {' '.join(s.components)}\nSigned-By: {KEYRING}\n"
        for s in sources
    )


def of_release(sources: Iterable[Source], codename: str) -> List[Source]:
    """The sources of another release of Debian, from where this machine has its own; unstable has one suite only."""
    if codename != UNSTABLE:
        return [s._replace(suites=tuple(suite.replace(CODENAME, codename) for suite in s.suites)) for s in sources]
    return [s._replace(suites=(UNSTABLE,), components=COMPONENTS) for s in sources if CODENAME in s.suites]


def apt_settings(dump: str) -> List[str]:
    """The lines of `apt-config dump` about reaching the archive, without those that name a local file."""
    return [
        line
        for line in dump.splitlines()
        for match in [_APT_SETTING.match(line)]
        if match is not None and not match.group(2).startswith("/")
    ]


def extra_certificates(outer: Iterable[str], known: str) -> List[str]:
    """The PEM certificates of the outer bundles (texts) that `known`, the bed's own bundle, does not hold."""
    have = {_squeeze(pem) for pem in _PEM.findall(known)}
    extra: List[str] = []
    for text in outer:
        for pem in _PEM.findall(text):
            if _squeeze(pem) not in have:
                have.add(_squeeze(pem))
                extra.append(pem + "\n")
    return extra


def certificate_files(environ: Mapping[str, str]) -> List[str]:
    """The certificate bundles that the outer machine uses: the system's and those its variables name."""
    named = [value for key, value in sorted(environ.items()) if _CERTIFICATE_VARIABLE.match(key) and value]
    return list(dict.fromkeys([BUNDLE, *named]))


def environment(environ: Mapping[str, str], visible: Sequence[str] = ()) -> Dict[str, str]:
    """The variables a bed's commands get from the outer machine: pip's, certificates' and proxies'.

    `visible` are the folders of the outer machine that are bound into the bed at the same path.
    """
    kept: Dict[str, str] = {}
    for key, value in environ.items():
        if _CERTIFICATE_VARIABLE.match(key):
            kept[key] = BUNDLE
        elif _PROXY_VARIABLE.match(key):
            kept[key] = value
        elif key.startswith("PIP_") and key != "PIP_CONFIG_FILE":
            words = _reachable(value, visible)
            if words:
                kept[key] = words
    return kept


def pip_conf(texts: Iterable[str], visible: Sequence[str] = ()) -> str:
    """The outer machine's pip configuration files, weakest first, as the one a bed gets ("" for none)."""
    merged = configparser.RawConfigParser()
    for text in texts:
        merged.read_string(text)
    for section in merged.sections():
        for key, value in merged.items(section):
            kept = BUNDLE if key == "cert" else _reachable(value, visible)
            if kept:
                merged.set(section, key, kept)
            else:
                merged.remove_option(section, key)
        if not merged.options(section):
            merged.remove_section(section)
    out = io.StringIO()
    merged.write(out)
    return out.getvalue()


def loopback_proxies(env: Mapping[str, str]) -> List[str]:
    """The proxy variables that name this very machine, which a bed with a network of its own cannot reach."""
    local = ("localhost", "127.", "::1")
    return [
        key
        for key, value in sorted(env.items())
        if _PROXY_VARIABLE.match(key)
        and key.lower() != "no_proxy"
        and (urlsplit(value if "//" in value else "//" + value).hostname or "").startswith(local)
    ]


def nameservers(resolv_conf: str) -> List[str]:
    """The name servers that resolv.conf text gives, in order."""
    return re.findall(r"^\s*nameserver\s+(\S+)", resolv_conf, re.MULTILINE)


def _as_debian(fields: Mapping[str, str], read_mirrors: Callable[[str], str]) -> Optional[Source]:
    """One parsed entry as a Source, or None when it is not Debian's for CODENAME."""
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return None
    if fields.get("signed-by", KEYRING).strip() != KEYRING:
        return None
    suites = tuple(s.rstrip("/") for s in fields.get("suites", "").split() if s.rstrip("/") in SUITES)
    components = tuple(c for c in fields.get("components", "").split() if c in COMPONENTS)
    uris: List[str] = []
    for uri in fields.get("uris", "").split():
        if uri.startswith("mirror+file:"):
            lines = read_mirrors(urlsplit(uri).path).splitlines()
            uris.extend(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))
        elif uri.startswith(("http://", "https://")):
            uris.append(uri)
    return Source(tuple(uris), suites, components) if uris and suites and components else None


def _deb822(text: str) -> List[Dict[str, str]]:
    """The stanzas of a .sources file as {lower-case field: value}."""
    stanzas: List[Dict[str, str]] = []
    for block in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = re.findall(r"(?m)^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", block)
        stanzas.append({key.lower(): value.strip() for key, value in fields})
    return stanzas


def _one_line(text: str) -> List[Dict[str, str]]:
    """The `deb …` lines of a sources.list as the same fields that a .sources stanza has."""
    entries: List[Dict[str, str]] = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            options = dict(word.split("=", 1) for word in (match.group(1) or "").split() if "=" in word)
            entry = {"types": "deb", "uris": match[2], "suites": match[3], "components": match[4]}
            if "signed-by" in options:
                entry["signed-by"] = options["signed-by"]
            entries.append(entry)
    return entries


def _reachable(value: str, visible: Sequence[str]) -> str:
    """`value` without the words that name a local place, unless that place is one of `visible`."""
    words: List[str] = []
    for word in value.split():
        path = urlsplit(word).path if word.startswith("file:") else word
        local = path.startswith(("/", "~", "./", "../"))
        if not local or any(path == place or path.startswith(place.rstrip("/") + "/") for place in visible):
            words.append(word)
    return "\n".join(words) if len(words) > 1 and "\n" in value else " ".join(words)


def _squeeze(pem: str) -> str:
    """A certificate without white space, so that line lengths do not matter."""
    return "".join(pem.split())
