"""Text to values: apt's source lists, in both formats, and what apt-cache says about releases and versions.

Every function is pure and total. Credentials in a URI never leave this module: `without_logins` runs on all text that
is handed out. Formats: sources.list(5). Runs on the target, so Python 3.6 and the standard library only.
"""

import re
from typing import Any, Dict, List, Optional, Tuple

from ...credentials import HIDDEN, without_logins

Source = Dict[str, Any]
Problem = Dict[str, Any]

# Origins of the distribution's own archives; Ubuntu's extended maintenance is served by Canonical as well.
# The rest of Ubuntu Pro has an origin for each of its services.
OWN_ORIGINS = {
    "ubuntu": r"Ubuntu(ESM|ESMApps|ESMInfra|FIPS|FIPSUpdates|FIPSPreview|CC|CCEAL|CIS|ROS|ROSUpdates|RealtimeKernel)?",
    "debian": r"Debian( Backports)?",
}

_SOURCE_TYPES = ("deb", "deb-src")
# Brackets and quotes keep blanks together, as in cdrom:[Ubuntu 18.04 LTS]/.
_WORD = re.compile(r'\s*((?:\[[^\]]*\]|"[^"]*"|[^\s\["])+)')
_POLICY_FILE = re.compile(r"^\s*(-?[0-9]+) (\S+) (.*?) ?Packages\s*$")
_YES = ("yes", "true", "with", "on", "enable", "1")
_NO = ("no", "false", "without", "off", "disable", "0")


def parse_one_line(text: str, file: str) -> Tuple[List[Source], List[Problem]]:
    """The sources of a `.list` file and what could not be read in it, with the line numbers."""
    sources: List[Source] = []
    problems: List[Problem] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        source, error = _one_line_source(line)
        if source is None:
            problems.append(_problem(file, number, raw, error))
        else:
            sources.append(dict(source, file=file, line=number))
    return sources, problems


def _one_line_source(line: str) -> Tuple[Optional[Source], str]:
    """One entry of the one-line format, or None and what is wrong with it."""
    kind, *others = line.split(None, 1)
    rest = others[0] if others else ""
    if kind not in _SOURCE_TYPES:
        return None, "The line begins with neither deb nor deb-src."
    rest = rest.strip()
    options: Dict[str, str] = {}
    if rest.startswith("["):
        inside, closed, rest = rest[1:].partition("]")
        if not closed:
            return None, "The options in square brackets do not end."
        options = dict(item.partition("=")[::2] for item in inside.split())
    words = _words(rest)
    if words is None:
        return None, "A quote or a square bracket does not end."
    if len(words) < 2:
        return None, "The line has no {}.".format("suite" if words else "URI")
    error = _entry_error([words[0]], [words[1]], words[2:])
    if error:
        return None, error
    return _source("one-line", [kind], [words[0]], [words[1]], words[2:], options.get("signed-by"), True), ""


def _words(text: str) -> Optional[List[str]]:
    """The words of an entry, or None when a quote or a bracket does not end."""
    words = []
    position = 0
    while text[position:].strip():
        found = _WORD.match(text, position)
        if found is None:
            return None
        words.append(found.group(1))
        position = found.end()
    return words


def parse_deb822(text: str, file: str) -> Tuple[List[Source], List[Problem]]:
    """The sources of a `.sources` file and what could not be read in it.

    A source has the line where its stanza starts.
    """
    sources: List[Source] = []
    problems: List[Problem] = []
    for start, fields, stray in _stanzas(text):
        problems.extend(
            _problem(file, number, raw, "The line is not a field of the form Name: value.") for number, raw in stray
        )
        if not fields:
            continue
        lists = {name: fields.get(name, "").split() for name in ("types", "uris", "suites", "components")}
        missing = [name for name in ("types", "uris", "suites") if not lists[name]]
        error = ""
        if missing:
            error = "The stanza has no field {}.".format(missing[0].title().replace("Uris", "URIs"))
        elif any(kind not in _SOURCE_TYPES for kind in lists["types"]):
            error = "The stanza's Types holds something other than deb and deb-src."
        error = error or _entry_error(lists["uris"], lists["suites"], lists["components"])
        enabled = fields.get("enabled", "yes").strip().lower()
        if not error and enabled not in _YES + _NO:
            error = "The stanza's Enabled is neither yes nor no."
        if error:
            problems.append(_problem(file, start, "URIs: " + " ".join(lists["uris"]), error))
            continue
        signed_by = fields.get("signed-by", "").strip()
        # The key itself may stand in the file; it is long, and its presence says enough.
        signed_by = "inline" if "-----BEGIN" in signed_by else " ".join(signed_by.split())
        source = _source(
            "deb822",
            lists["types"],
            lists["uris"],
            lists["suites"],
            lists["components"],
            signed_by,
            enabled in _YES,
        )
        sources.append(dict(source, file=file, line=start))
    return sources, problems


def _stanzas(text: str) -> List[Tuple[int, Dict[str, str], List[Tuple[int, str]]]]:
    """The stanzas of a deb822 text: first line, fields by lower-case name, and lines that are not fields."""
    stanzas = []
    fields: Dict[str, str] = {}
    stray: List[Tuple[int, str]] = []
    start = 0
    name = ""
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        if raw.startswith("#"):
            continue
        if not raw.strip():
            if fields or stray:
                stanzas.append((start, fields, stray))
            fields, stray, start, name = {}, [], 0, ""
        elif raw[0] in " \t" and name:
            fields[name] += "\n" + raw.strip()
        elif re.match(r"[^\s:][^\s:]*\s*:", raw):
            name, _, value = raw.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
            start = start or number
        else:
            stray.append((number, raw))
    return stanzas


def _entry_error(uris: List[str], suites: List[str], components: List[str]) -> str:
    """What is wrong with an entry, or "": a suite that is a path takes no component, any other needs one."""
    bad = [uri for uri in uris if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S", uri.replace('"', ""))]
    if bad:
        return f"{without_logins(bad[0])} is no URI."
    paths = [suite for suite in suites if suite.endswith("/")]
    if paths and components:
        return f"The suite {without_logins(paths[0])} is a path (it ends in a slash) and takes no components."
    if len(paths) != len(suites) and not components:
        return f"The suite {without_logins(suites[0])} needs at least one component."
    return ""


def _source(
    form: str,
    types: List[str],
    uris: List[str],
    suites: List[str],
    components: List[str],
    signed_by: Optional[str],
    enabled: bool,
) -> Source:
    """One source in the observation's form, redacted."""
    return {
        "format": form,
        "types": types,
        "uris": [without_logins(uri) for uri in uris],
        "suites": [without_logins(suite) for suite in suites],
        "components": [without_logins(component) for component in components],
        "signed_by": without_logins(signed_by) if signed_by else None,
        "enabled": enabled,
    }


def _problem(file: str, line: int, text: str, error: str) -> Problem:
    """One named problem of a source list; line 0 stands for the file as a whole."""
    return {"file": file, "line": line, "text": without_logins(text.strip()), "error": error}


def list_file_stem(uri: str, suite: str, architecture: str = "") -> str:
    """How apt names the files of one suite below /var/lib/apt/lists, up to `_InRelease` or `_Release`.

    apt drops the scheme and the credentials, escapes some characters as %xx and writes _ for each slash, the first one
    of a local path included. It puts the architecture in for $(ARCH).
    """
    place = place_of(uri, architecture)
    rest = place.partition(":")[2]
    place = rest[2:] if rest.startswith("//") else rest
    place += "/" + (suite.strip("/") if suite.endswith("/") else "dists/" + suite)
    escaped = "".join(
        f"%{ord(char):02x}" if char in '\\|{}[]<>"^~_=!@#$%^&*' or ord(char) <= 0x20 else char
        for char in place.rstrip("/")
    )
    return escaped.replace("/", "_")


def place_of(uri: str, architecture: str = "") -> str:
    """A URI in the form in which two that mean the same place are equal: apt's own, where its output has one.

    Without credentials and slashes at the end, and a path of this machine with one slash: file:/srv for file:///srv.
    """
    plain = (
        without_logins(uri).replace(f"//{HIDDEN}@", "//", 1).replace("$(ARCH)", architecture or "$(ARCH)").rstrip("/")
    )
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*):///+", r"\1:/", plain)


#: One line an index, tabs between: what apt-get is asked to print of each that it has.
INDEX_FORMAT = "\t".join(f"$({name})" for name in ("REPO_URI", "RELEASE", "ORIGIN", "LABEL", "CODENAME", "SUITE"))


def parse_index_targets(text: str) -> List[Dict[str, str]]:
    """The releases that apt has read, from `apt-get indextargets --format INDEX_FORMAT`: an index is a line.

    Each has uri and release (the suite as its source names it), and origin, label, codename and suite as the release
    file says them. A field that this apt does not know stands there as it was asked for; it is empty then.
    """
    rows = []
    for line in without_logins(text).splitlines():
        cells = ["" if cell.startswith("$(") else cell.strip() for cell in line.split("\t")]
        if len(cells) == len(INDEX_FORMAT.split("\t")) and cells[0]:
            row = dict(zip(("uri", "release", "origin", "label", "codename", "suite"), cells))
            if row not in rows:
                rows.append(row)
    return rows


def parse_policy(text: str) -> List[Dict[str, str]]:
    """The releases that `apt-cache policy` (no arguments) lists, a row for each package index that apt has.

    `index` is apt's name for the index ("http://host/path bionic/main amd64") and joins with parse_madison.
    The machine's own list of installed packages is left out.
    """
    rows = []
    row: Optional[Dict[str, str]] = None
    for line in without_logins(text).splitlines():
        if line.startswith("Pinned packages"):
            break
        entry = _POLICY_FILE.match(line)
        words = line.split(None, 1)
        if entry:
            place = entry.group(3).split()
            row = {
                "index": _index_name(f"{entry.group(2)} {entry.group(3)}"),
                "uri": entry.group(2),
                "suite_path": _suite_path(place[0] if place else "/"),
                "origin": "",
                "label": "",
                "codename": "",
                "suite": "",
                "site": "",
            }
            rows.append(row)
        elif re.match(r"^\s*-?[0-9]+ ", line):
            row = None
        elif row is not None and words[:1] == ["release"] and len(words) == 2:
            # A value may hold a comma, so the line is split only where the next key begins.
            values = dict(item.partition("=")[::2] for item in re.split(r",(?=[a-z]=)", words[1]))
            row.update(
                origin=values.get("o", ""),
                label=values.get("l", ""),
                codename=values.get("n", ""),
                suite=values.get("a", ""),
            )
        elif row is not None and words[:1] == ["origin"] and len(words) == 2:
            row["site"] = words[1].strip()
    return rows


def _suite_path(place: str) -> str:
    """The suite as a source list names it: "bionic" from "bionic/main"; a path (it ends in a slash) stays."""
    return place if place.endswith("/") else place.rpartition("/")[0] or place


def parse_madison(text: str) -> List[Dict[str, str]]:
    """The rows of `apt-cache madison NAME...`: package, version, index; a package's newest version first."""
    rows = []
    for line in without_logins(text).splitlines():
        cells = [cell.strip() for cell in line.split(" | ", 2)]
        if len(cells) == 3 and all(cells) and cells[2].endswith("Packages"):
            rows.append({"package": cells[0], "version": cells[1], "index": _index_name(cells[2][: -len("Packages")])})
    return rows


def _index_name(text: str) -> str:
    """An index's name with single blanks, because apt prints two where a flat repository has no component."""
    return " ".join(text.split())


def is_own_origin(origin: str, distribution: str) -> bool:
    """Whether a release of this origin is the distribution's own archive."""
    return re.fullmatch(OWN_ORIGINS.get(distribution, r"(?!)"), origin) is not None
