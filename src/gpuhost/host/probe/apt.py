"""Reading apt: the source lists, the releases behind them, and what of the stack a foreign release offers.

Which releases apt has read is asked of `apt-get indextargets`, and which package comes from where of `apt-cache`
(policy, then madison), not read from the list files: apt knows every way to write a source, every compression, and
exactly the sources that it would use. The source files are read as well, because a remedy names the file and the line.
Only where apt fails, which is a problem then, the names of its list files say what it has read. Its cache stays in
memory, so nothing is written, and on a host without a foreign release two calls are enough.
Runs on the target: Python 3.6, standard library.
"""

import os
import re
from typing import Any, Dict, Iterable, List, Optional, Sequence

from ..edges import Edges
from ..parse.apt import (
    INDEX_FORMAT,
    Problem,
    Source,
    is_own_origin,
    list_file_stem,
    parse_deb822,
    parse_index_targets,
    parse_madison,
    parse_one_line,
    parse_policy,
    place_of,
)
from ..parse.machine import is_stack_package

LISTS = "/var/lib/apt/lists"
_SOURCES = "/etc/apt/sources.list"
_PARTS = "/etc/apt/sources.list.d"
APT_CACHE = ("apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
APT_TIMEOUT_S = 600.0
_RELEASE = ("origin", "label", "codename", "suite")
# Names go to apt-cache as arguments; this many stay far below the system's limit.
NAMES_A_CALL = 500


def read_indexes(edges: Edges, options: Sequence[str] = ()) -> Optional[List[Dict[str, str]]]:
    """The package indexes that apt, with these options, has read, as its policy lists them; None, and a named problem,
    where it does not answer.
    """
    said = edges.output([*APT_CACHE, *options, "policy"], APT_TIMEOUT_S, "apt-cache policy")
    return None if said is None else parse_policy(said)


def read_apt(
    edges: Edges, distribution: str, indexes: Optional[List[Dict[str, str]]], architecture: str = "amd64"
) -> Dict[str, Any]:
    """The observation's `apt`; `indexes` are those of `read_indexes`, `architecture` is dpkg's name of the machine's
    own.
    """
    indexes = indexes or []
    sources: List[Source] = []
    problems: List[Problem] = []
    for name in _list_files(edges):
        before = len(edges.problems)
        text = edges.text(name)
        if text is None:
            for unread in edges.problems[before:]:
                problems.append({"file": name, "line": 0, "text": "", "error": unread["error"]})
            continue
        parse = parse_deb822 if name.endswith(".sources") else parse_one_line
        found, wrong = parse(text, name)
        sources.extend(found)
        problems.extend(wrong)
    targets = _targets(edges, sources, indexes, architecture)
    for source in sources:
        places = [(uri, suite) for uri in source["uris"] for suite in source["suites"]]
        known = [_releases_of(targets, uri, suite, architecture) for uri, suite in places]
        source["fetched"] = all(
            found or _is_fetched(edges, uri, suite, architecture) for found, (uri, suite) in zip(known, places)
        )
        source["releases"] = _each_once(release for found in known for release in found)
    releases = _each_once({key: index[key] for key in (*_RELEASE, "site")} for index in indexes)
    own = [index for index in indexes if is_own_origin(index["origin"], distribution)]
    foreign = [index for index in indexes if index not in own]
    return {
        "sources": sources,
        "problems": problems,
        "releases": releases,
        "foreign_packages": _foreign_packages(edges, foreign, sources, bool(own), architecture) if foreign else [],
    }


def _list_files(edges: Edges) -> List[str]:
    """The source list files that apt reads: it passes over names with other characters or another ending."""
    files = [_SOURCES] if edges.exists(_SOURCES) else []
    for name in edges.names(_PARTS) or []:
        named = re.match(r"[A-Za-z0-9_.-]+\.(list|sources)$", name) and not name.startswith(".")
        # Like apt, which passes over what is not a regular file.
        # Path.is_file fails at a link to itself before Python 3.8.
        if named and os.path.isfile(str(edges.path(f"{_PARTS}/{name}"))):  # noqa: PTH113 - as the line above says
            files.append(f"{_PARTS}/{name}")
    return files


def _targets(
    edges: Edges, sources: List[Source], indexes: List[Dict[str, str]], architecture: str
) -> List[Dict[str, str]]:
    """The releases that apt has read, each with the place that its source names.

    Where apt cannot say it, those that its cache still shows; without a source there is nothing to ask for.
    """
    argv = ["apt-get", "indextargets", "--format", INDEX_FORMAT]
    said = edges.output(argv, APT_TIMEOUT_S, "apt-get indextargets", silent=True) if sources else ""
    cached = [{**{key: i[key] for key in _RELEASE}, "uri": i["uri"], "release": i["suite_path"]} for i in indexes]
    if said is not None and not said.strip() and indexes:
        edges.problem("apt-get indextargets", "It names no index, and apt-cache shows some.")
        said = None
    if said is None:
        return cached
    # An apt that does not say a release's origin there says it in its policy.
    listed = [target for target in parse_index_targets(said) if target["origin"] or target["codename"]]
    unsaid = [target for target in parse_index_targets(said) if target not in listed]
    return listed + (cached if unsaid else []) + unsaid


def _releases_of(targets: List[Dict[str, str]], uri: str, suite: str, architecture: str) -> List[Dict[str, str]]:
    """What the release files behind one suite of a source say."""
    place, path = place_of(uri, architecture), suite.rstrip("/")
    return [
        {key: target[key] for key in (*_RELEASE, "release")}
        for target in targets
        if place_of(target["uri"], architecture) == place and target["release"].rstrip("/") == path
    ]


def _each_once(rows: Iterable[Dict[str, str]]) -> List[Dict[str, str]]:
    """The rows in their order, each once."""
    found: List[Dict[str, str]] = []
    for row in rows:
        if row not in found:
            found.append(row)
    return found


def _is_fetched(edges: Edges, uri: str, suite: str, architecture: str) -> bool:
    """Whether `apt-get update` has brought this suite's release file; its packages are unknown until then."""
    stem = f"{LISTS}/{list_file_stem(uri, suite, architecture)}"
    return edges.exists(stem + "_InRelease") or edges.exists(stem + "_Release")


def _apt_cache(edges: Edges, arguments: List[str]) -> str:
    """What apt-cache prints; a failure is a named problem and gives no text.

    Only madison may have nothing to say: of packages that no archive offers any more.
    """
    what, silent = "apt-cache " + arguments[0], arguments[0] == "madison"
    return edges.output([*APT_CACHE, *arguments], APT_TIMEOUT_S, what, silent) or ""


def _foreign_packages(
    edges: Edges, foreign: List[Dict[str, str]], sources: List[Source], own: bool, architecture: str
) -> List[Dict[str, Any]]:
    """The stack's packages that foreign releases offer: newest version of each index, and its source line.

    Where the distribution's `own` archive was read, it offers kernels at least, so apt-cache has something to list.
    """
    names = sorted({name for name in _apt_cache(edges, ["pkgnames"]).split() if is_stack_package(name)})
    by_index = {index["index"]: index for index in foreign}
    found: Dict[Any, Dict[str, Any]] = {}
    listed = 0
    for start in range(0, len(names), NAMES_A_CALL):
        for row in parse_madison(_apt_cache(edges, ["madison", *names[start : start + NAMES_A_CALL]])):
            listed += 1
            index = by_index.get(row["index"])
            if index is None:
                continue
            line = _source_of(index, sources, architecture)
            entry = {
                "package": row["package"],
                "site": index["site"],
                "version": row["version"],
                "file": line["file"] if line else None,
                "line": line["line"] if line else None,
            }
            # madison lists a package's newest version first, so the first row of an index is the one to keep.
            found.setdefault((row["package"], row["index"]), entry)
    if own and not listed:
        edges.problem("apt-cache madison", "It lists no package, not even the distribution's own.")
    return [found[key] for key in sorted(found)]


def _source_of(index: Dict[str, str], sources: List[Source], architecture: str) -> Any:
    """The source list entry that an index comes from, or None where it cannot be said."""
    wanted = place_of(index["uri"], architecture)
    for source in sources:
        in_use = source["enabled"] and "deb" in source["types"]
        same_place = any(place_of(uri, architecture) == wanted for uri in source["uris"])
        same_suite = index["suite_path"].rstrip("/") in [suite.rstrip("/") for suite in source["suites"]]
        if in_use and same_place and same_suite:
            return source
    return None
