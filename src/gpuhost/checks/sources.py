"""Judge the apt sources of a host: which must not be there, and the command that takes one away. Pure.

`row` is the catalog's row of the host's platform, with the `codenames` of all releases of each distribution.
"""

import re
import shlex
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Union

from ..credentials import HIDDEN
from ..host.driver.offer import UPDATE
from ..host.parse.apt import is_own_origin
from ..types import Json

if TYPE_CHECKING:
    from ..shapes.observation import Apt, Observation, Release, Source, SourceRelease

#: What shows where each index comes from, where the probe could not tell the source of one.
NAMED_BY_APT = "apt-cache policy"
#: Where NVIDIA's own repositories are.
VENDORS = ("developer.download.nvidia.com", "developer.download.nvidia.cn")
#: Files that the distribution itself has written: a source in one may go, the file stays.
OWN_FILES = re.compile(r".*/sources\.list|.*/(debian|ubuntu)[^/]*\.(list|sources)")
#: What stands between the words of a field of a deb822 source: blanks, folds, and whole lines of comment.
GAP = r"(?:\s|^\x23.*$)"


def own_release(source: "Source", row: Json) -> bool:  # Json: a row of the catalog
    """Return whether all suites of the source are of the platform's own release."""
    return all(suite.split("/")[0] in row["suites"] for suite in source["suites"])


def names_another_release(suite: str, row: Json) -> bool:  # Json: a row of the catalog
    """Return whether the suite has the code name of a release, of any distribution, that is not this one.

    Ubuntu's are foreign on Debian too. What is made for this release, by whomever, has its code name first.
    """
    name = suite.split("/")[0].partition("-")[0]
    return name != row["codename"] and any(name in names for names in row["codenames"].values())


def is_own(release: "Union[SourceRelease, Release]", row: Json) -> bool:  # Json: a row of the catalog
    """Return whether a release file is of the distribution's own archive."""
    return is_own_origin(str(release["origin"]), str(row["distribution"]))


def other_releases(
    source: "Source",
    row: Json,  # Json: a row of the catalog
    releases: "Sequence[Release]" = (),
) -> List[str]:
    """The suites of a source that are of another release of the distribution, or of another distribution.

    Where apt has read a suite, its release file says so, whatever the suite is called: only a distribution's own
    archive counts, a third party's is judged by what it offers. A suite that apt has not read is judged by its name: a
    code name of another release, or a name that moves (stable, testing) and that one of `releases`, what apt has read,
    shows to be the distribution's own archive of another code name at that address.
    """
    if "deb" not in source["types"]:
        return []
    read = {r["release"].rstrip("/"): r for r in source["releases"] if r["origin"] or r["codename"]}
    sites = {site_of(uri) for uri in source["uris"]}
    moved = {
        r["suite"] for r in releases if r["site"] in sites and is_own(r, row) and r["codename"] not in row["suites"]
    }
    return [suite for suite in source["suites"] if is_of_another(suite, read.get(suite.rstrip("/")), moved, row)]


def is_of_another(
    suite: str,
    read: "Optional[SourceRelease]",
    moved: Set[str],
    row: Json,  # Json: a row of the catalog
) -> bool:
    """Return whether one suite is of another release; `read` is what its release file says."""
    if read is None:
        return suite.split("/")[0] in moved or names_another_release(suite, row)
    if is_own(read, row):
        return str(read["codename"] or suite).split("/")[0].partition("-")[0] != str(row["codename"])
    return any(is_own_origin(str(read["origin"]), other) for other in row["codenames"])


def foreign_sources(observation: "Observation", row: Json) -> List[Dict[str, str]]:  # Json: a row of the catalog
    """The sources that must not be there, each with `what` it is, what to `do`, and the `remedy`, a command.

    Those of another release, and those beside the distribution's own that offer a package of the stack. A host keeps a
    source of its release: where none would be left, the remedy opens the file instead.
    """
    found = []
    apt = observation["apt"]
    for source in apt["sources"]:
        others = other_releases(source, row, apt["releases"]) if source["enabled"] else []
        if others:
            what = (
                f"{source['file']} adds {', '.join(source['uris'])} {' '.join(others)}, which is not {row['codename']}."
            )
            if has_own_release(apt, row):
                found.append({"what": what, "do": "Remove it", "remedy": removal(source, apt, others)})
            else:
                do = f"No source of {row['codename']} is left, so put that in its place"
                found.append({"what": what, "do": do, "remedy": f"{by_editor(source)} && {UPDATE}"})
    for (file, line, site), names in offered(observation).items():
        at = [s for s in apt["sources"] if (s["file"], s["line"]) == (file, line)]
        # The probe gives no file where it cannot say which source an index comes from.
        search = f"grep -rlF -e {shlex.quote(site)} /etc/apt/sources.list /etc/apt/sources.list.d"
        what = f"{file or 'a source'}: {site or 'it'} is not the distribution's own and offers {', '.join(names[:3])}."
        if at:
            found.append({"what": what, "do": "Remove it", "remedy": removal(at[0], apt)})
        else:
            found.append({"what": what, "do": "Find it and remove it", "remedy": search if site else NAMED_BY_APT})
    return [item for number, item in enumerate(found) if item not in found[:number]]


def has_own_release(apt: "Apt", row: Json) -> bool:  # Json: a row of the catalog
    """Return whether a source in use names a suite of the platform's own release, at what may be its own archive."""
    return any(
        suite.split("/")[0] in row["suites"] and (not s["releases"] or any(is_own(r, row) for r in s["releases"]))
        for s in apt["sources"]
        if s["enabled"] and "deb" in s["types"]
        for suite in s["suites"]
    )


def offered(observation: "Observation") -> Dict[Any, List[str]]:
    """The packages of the stack that foreign sources offer, by the source's file, its line there, and its site."""
    found: Dict[Any, List[str]] = {}
    for package in observation["apt"]["foreign_packages"]:
        names = found.setdefault((package["file"], package["line"], str(package["site"])), [])
        if package["package"] not in names:
            names.append(package["package"])
    return found


def unknown_sources(observation: "Observation", row: Json) -> List[Dict[str, str]]:  # Json: a row of the catalog
    """Sources that apt has not read yet and that are not known to be the distribution's own; `remedy` removes one.

    The other way out is `UPDATE`, which lets apt read it.

    A source could offer the driver, and the next `apt-get update`, a role's included, would let it in. A personal
    archive names this very release as its suite, so the suite does not tell it from the distribution's archive.
    Hence such a source stops the run, where one that apt has read and that offers nothing does not.
    """
    found = []
    for source in unread(observation):
        if not other_releases(source, row, observation["apt"]["releases"]) and not vouched(source, observation, row):
            where = f"{source['file']} adds {', '.join(source['uris'])} {' '.join(source['suites'])}"
            what = f"{where}, which apt has not read yet, so what it offers is not known."
            found.append({"what": what, "remedy": removal(source, observation["apt"])})
    return found


def unread(observation: "Observation") -> "List[Source]":
    """The sources of packages in use that apt has never fetched."""
    return [s for s in observation["apt"]["sources"] if s["enabled"] and "deb" in s["types"] and not s["fetched"]]


def vouched(source: "Source", observation: "Observation", row: Json) -> bool:  # Json: a row of the catalog
    """Return whether an unread source is the distribution's own, as far as can be said.

    It is when it names this release at an address that another source, which apt has read, has shown to be the
    distribution's own. A host whose apt has read nothing at all (fresh from an image) shows nothing. There the suite
    has to do, `remarks` says so, and `verify/`, after the first `apt-get update`, judges the source by what it offers.
    """
    apt = observation["apt"]
    if not own_release(source, row):
        return False
    if not apt["releases"]:
        return True
    shown = {
        uri
        for one in apt["sources"]
        if one["releases"] and all(is_own(release, row) for release in one["releases"])
        for uri in one["uris"]
    }
    return all(uri in shown for uri in source["uris"])


def site_of(uri: str) -> str:
    """The host of a URI, as apt names a release's site."""
    return re.sub(r"^[^:]*:/*(?:[^/]*@)?([^/:]*).*$", r"\1", uri)


def removal(source: "Source", apt: "Apt", suites: Sequence[str] = ()) -> str:
    """The command that takes a source away, and nothing else: its suites given, or all of it.

    `apt` is what was observed of apt. A third party's file that holds only this source goes as a whole; otherwise the
    command looks for the source's own words, so a second call finds nothing more to remove. An observation masks
    passwords (`***@`). Suites beside which a masked one stays cannot be written back; then an editor is opened.
    """
    file = shlex.quote(str(source["file"]))
    part = [suite for suite in source["suites"] if suite in suites]
    kept = [suite for suite in source["suites"] if suite not in suites] if part else []
    if not kept and is_alone(source, apt):
        edit = f"rm {file}"
    elif source["format"] == "one-line":
        words = rf"{literal(source['uris'][0])}/*\s+{literal(source['suites'][0])}"
        edit = "sed -E -i --follow-symlinks " + shlex.quote(rf"\#^\s*deb(-src)?\s+(\[[^]]*\]\s*)?{words}(\s|$)#d")
        edit += f" {file}"
    elif any(HIDDEN in suite for suite in kept):
        edit = by_editor(source)
    else:
        edit = f"perl -0777 -i -ne {shlex.quote(stanza_program(source, kept))} {file}"
    return f"{edit} && {UPDATE}"


def one_update(remedies: Sequence[str]) -> str:
    """Several of these commands as one, with apt's lists read once, at the end."""
    last = f" && {UPDATE}"
    edits = [remedy[: -len(last)] if remedy.endswith(last) else remedy for remedy in dict.fromkeys(remedies)]
    updates = [UPDATE] if any(remedy.endswith(last) for remedy in remedies) else []
    return " && ".join([*dict.fromkeys(edits), *updates])


def by_editor(source: "Source") -> str:
    """The command that opens a source's file."""
    return f"${{EDITOR:-nano}} {shlex.quote(str(source['file']))}"


def is_alone(source: "Source", apt: "Apt") -> bool:
    """Return whether the source is all that its file holds, and the file is not one that the distribution wrote."""
    file, same = source["file"], (source["uris"], source["suites"])
    if OWN_FILES.fullmatch(str(file)) or any(problem["file"] == file for problem in apt["problems"]):
        return False
    alike = [(s["uris"], s["suites"]) == same for s in apt["sources"] if s["file"] == file]
    return bool(alike) and all(alike)


def stanza_program(source: "Source", kept: Sequence[str]) -> str:
    """The perl program that prints a deb822 file without the stanzas that have exactly the source's URIs and suites.

    With `kept` these suites stay, and so does the stanza. Comments decide nothing, and other stanzas stay as they are.
    """
    uris, suites = field("URIs", source["uris"]), field("Suites", source["suites"])
    stanzas = r"split m{((?:^\s*\n)+)}m"
    if not kept:
        return f"print grep {{ !(m{{{uris}}}m && m{{{suites}}}m) }} {stanzas}"
    left = " ".join(map(perl_literal, kept))
    return f"print map {{ s{{{suites}}}{{$1{left}$2}}m if m{{{uris}}}m; $_ }} {stanzas}"


def field(name: str, words: Sequence[str]) -> str:
    """A regular expression of perl's for a field that holds exactly these words.

    Its two groups are what stands before and after them.
    """
    exactly = f"{GAP}+".join(map(perl_literal, words))
    return rf"^((?i:{name})[ \t]*:{GAP}*){exactly}({GAP}*)(?=^[^\s\x23]|\z)"


def literal(word: str) -> str:
    """A word as a regular expression of sed -E with # around it; a masked password matches any."""
    return r"\S*@".join(re.sub(r"([\\^$.\[\](){}*+?|#])", r"\\\1", part) for part in word.split(f"{HIDDEN}@"))


def perl_literal(word: str) -> str:
    """A word as perl's regular expressions and strings have it; a masked password matches any."""
    return r"\S*\x40".join(
        "".join(
            chr(byte) if (chr(byte).isalnum() and byte < 128) or chr(byte) in "_/:-" else f"\\x{byte:02x}"
            for byte in part.encode("utf-8", "surrogateescape")
        )
        for part in word.split(f"{HIDDEN}@")
    )
