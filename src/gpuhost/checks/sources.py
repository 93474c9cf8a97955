"""Judge the apt sources of a host: which must not be there, and the command that takes one away. Pure.

`row` is the catalog's row of the host's platform, with the `codenames` of all releases of each distribution.
"""

import re
import shlex
from typing import Any, Dict, List, Optional, Sequence, Set

from ..host.parse.apt import is_own_origin
from ..types import Json

#: What shows where each index comes from, where the probe could not tell the source of one.
NAMED_BY_APT = "apt-cache policy"


def own_release(source: Json, row: Json) -> bool:
    """Return whether all suites of the source are of the platform's own release."""
    return all(suite.split("/")[0] in row["suites"] for suite in source["suites"])


def names_another_release(suite: str, row: Json) -> bool:
    """Return whether the suite has the code name of a release, of any distribution, that is not this one.

    Ubuntu's are foreign on Debian too. What is made for this release, by whomever, has its code name first.
    """
    name = suite.split("/")[0].partition("-")[0]
    return name != row["codename"] and any(name in names for names in row["codenames"].values())


def is_own(release: Json, row: Json) -> bool:
    """Return whether a release file is of the distribution's own archive."""
    return is_own_origin(str(release["origin"]), str(row["distribution"]))


def other_releases(source: Json, row: Json, releases: Sequence[Json] = ()) -> List[str]:
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


def is_of_another(suite: str, read: Optional[Json], moved: Set[str], row: Json) -> bool:
    """Return whether one suite is of another release; `read` is what its release file says."""
    if read is None:
        return suite.split("/")[0] in moved or names_another_release(suite, row)
    if is_own(read, row):
        return str(read["codename"] or suite).split("/")[0].partition("-")[0] != str(row["codename"])
    return any(is_own_origin(str(read["origin"]), other) for other in row["codenames"])


def foreign_sources(observation: Json, row: Json) -> List[Dict[str, str]]:
    """The sources that must not be there, each with what it is and the command that removes it.

    Those of another release, and those beside the distribution's own that offer a package of the stack.
    """
    found = []
    sources = observation["apt"]["sources"]
    for source in sources:
        others = other_releases(source, row, observation["apt"]["releases"]) if source["enabled"] else []
        if others:
            what = f"{source['file']} adds {', '.join(source['uris'])} {' '.join(others)}"
            remedy = removal(source, sources, others)
            found.append({"what": f"{what}, which is not {row['codename']}.", "remedy": remedy})
    for (file, line, site), names in offered(observation).items():
        at = [s for s in sources if (s["file"], s["line"]) == (file, line)]
        # The probe gives no file where it cannot say which source an index comes from.
        search = f"grep -rl {shlex.quote(site)} /etc/apt/sources.list /etc/apt/sources.list.d" if site else NAMED_BY_APT
        what = f"{file or 'a source'}: {site or 'it'} is not the distribution's own and offers {', '.join(names[:3])}."
        found.append({"what": what, "remedy": removal(at[0], sources) if at else search})
    return [item for number, item in enumerate(found) if item not in found[:number]]


def offered(observation: Json) -> Dict[Any, List[str]]:
    """The packages of the stack that foreign sources offer, by the source's file, its line there, and its site."""
    found: Dict[Any, List[str]] = {}
    for package in observation["apt"]["foreign_packages"]:
        names = found.setdefault((package["file"], package["line"], str(package["site"])), [])
        if package["package"] not in names:
            names.append(package["package"])
    return found


def unknown_sources(observation: Json, row: Json) -> List[Dict[str, str]]:
    """Sources that apt has not read yet and that are not known to be the distribution's own, with the two ways out.

    A source could offer the driver, and the next `apt-get update`, a role's included, would let it in. A personal
    archive names this very release as its suite, so the suite does not tell it from the distribution's archive.
    Hence such a source stops the run, where one that apt has read and that offers nothing does not.
    """
    found = []
    sources = observation["apt"]["sources"]
    for source in unread(observation):
        if not other_releases(source, row, observation["apt"]["releases"]) and not vouched(source, observation, row):
            where = f"{source['file']} adds {', '.join(source['uris'])} {' '.join(source['suites'])}"
            what = f"{where}, which apt has not read yet, so what it offers is not known."
            found.append({"what": what, "remedy": f"apt-get update; or {removal(source, sources)}"})
    return found


def unread(observation: Json) -> List[Json]:
    """The sources of packages in use that apt has never fetched."""
    return [s for s in observation["apt"]["sources"] if s["enabled"] and "deb" in s["types"] and not s["fetched"]]


def vouched(source: Json, observation: Json, row: Json) -> bool:
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


def removal(source: Json, sources: Sequence[Json] = (), suites: Sequence[str] = ()) -> str:
    """The command that takes a source away, and nothing else: its suites given, or all of it.

    `sources` are all of the host: a file that holds only this one can go as a whole. The other commands look for the
    source's own words, so a second call finds nothing more to remove. An observation masks passwords (`***@`).
    """
    file, same = str(source["file"]), (source["uris"], source["suites"])
    part = [s for s in source["suites"] if s in suites] if len(suites) < len(source["suites"]) else []
    alike = [(s["uris"], s["suites"]) == same for s in sources if s["file"] == file]
    if alike and all(alike) and not part and not file.endswith("/sources.list"):
        return f"rm {shlex.quote(file)} && apt-get update"
    uris, rest = [literal(uri) for uri in source["uris"]], [literal(suite) for suite in part or source["suites"]]
    if source["format"] == "one-line":
        line = rf"^\s*deb(-src)?\s+(\[[^]]*\]\s*)?{uris[0]}/*\s+{rest[0]}(\s|$)"
        edit = "sed -E -i " + shlex.quote(rf"\#{line}#d")
    else:
        there = " && ".join(rf"m{{(?<!\S){word}(?!\S)}}" for word in uris + rest)
        taken = " ".join(rf"s{{(?<!\S){word}(?!\S)}}{{}};" for word in rest)
        program = f"if ({there}) {{ {taken} }} print" if part else f"print unless {there}"
        edit = "perl -00 -i -ne " + shlex.quote(program)
    return f"{edit} {shlex.quote(file)} && apt-get update"


def literal(word: str) -> str:
    """A word as a regular expression that sed -E and perl read alike; a masked password matches any."""
    return r"\S*\@".join(re.sub(r"([^\w:/-])", r"\\\1", part) for part in word.split("***@"))
