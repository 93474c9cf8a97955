"""Reading apt: the source lists, the releases behind them, and what of the stack a foreign release offers.

Which package comes from where is asked of `apt-cache` (policy, then madison), not read from the list files:
it knows every compression and exactly the sources that apt would use. Its cache stays in memory, so nothing
is written, and on a host without a foreign release one call is enough.
Runs on the target: Python 3.6, standard library.
"""

import os
import re
from typing import Any, Dict, List

from ..edges import Edges
from ..parse.apt import (
    Problem,
    Source,
    is_own_origin,
    list_file_stem,
    parse_deb822,
    parse_madison,
    parse_one_line,
    parse_policy,
)
from ..parse.machine import STACK_PACKAGE

_LISTS = "/var/lib/apt/lists"
_SOURCES = "/etc/apt/sources.list"
_PARTS = "/etc/apt/sources.list.d"
_APT_CACHE = ("apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
_APT_TIMEOUT_S = 120.0
# Names go to apt-cache as arguments; this many stay far below the system's limit.
_NAMES_A_CALL = 500


def read_apt(edges: Edges, distribution: str) -> Dict[str, Any]:
    """The observation's `apt`."""
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
    indexes = parse_policy(_apt_cache(edges, ["policy"]))
    for source in sources:
        source["fetched"] = all(_is_fetched(edges, uri, suite) for uri in source["uris"] for suite in source["suites"])
    releases: List[Dict[str, str]] = []
    for index in indexes:
        release = {key: index[key] for key in ("origin", "label", "codename", "suite", "site")}
        if release not in releases:
            releases.append(release)
    own = [index for index in indexes if is_own_origin(index["origin"], distribution)]
    foreign = [index for index in indexes if index not in own]
    return {
        "sources": sources,
        "problems": problems,
        "releases": releases,
        "foreign_packages": _foreign_packages(edges, foreign, sources, bool(own)) if foreign else [],
    }


def _list_files(edges: Edges) -> List[str]:
    """The source list files that apt reads: it passes over names with other characters or another ending."""
    files = [_SOURCES] if edges.exists(_SOURCES) else []
    for name in edges.names(_PARTS) or []:
        named = re.match(r"[A-Za-z0-9_.-]+\.(list|sources)$", name) and not name.startswith(".")
        # Like apt, which passes over what is no regular file.
        # Path.is_file fails at a link to itself before Python 3.8.
        if named and os.path.isfile(str(edges.path(f"{_PARTS}/{name}"))):  # noqa: PTH113 - as the line above says
            files.append(f"{_PARTS}/{name}")
    return files


def _is_fetched(edges: Edges, uri: str, suite: str) -> bool:
    """Whether `apt-get update` has brought this suite's release file; its packages are unknown until then."""
    stem = f"{_LISTS}/{list_file_stem(uri, suite)}"
    return edges.exists(stem + "_InRelease") or edges.exists(stem + "_Release")


def _apt_cache(edges: Edges, arguments: List[str]) -> str:
    """What apt-cache prints; a failure is a named problem and gives no text.

    Only madison may have nothing to say: of packages that no archive offers any more.
    """
    what, silent = "apt-cache " + arguments[0], arguments[0] == "madison"
    return edges.output([*_APT_CACHE, *arguments], _APT_TIMEOUT_S, what, silent) or ""


def _foreign_packages(
    edges: Edges, foreign: List[Dict[str, str]], sources: List[Source], own: bool
) -> List[Dict[str, Any]]:
    """The stack's packages that foreign releases offer: newest version of each index, and its source line.

    Where the distribution's `own` archive was read, it offers kernels at least, so apt-cache has something to list.
    """
    names = sorted({name for name in _apt_cache(edges, ["pkgnames"]).split() if STACK_PACKAGE.search(name)})
    by_index = {index["index"]: index for index in foreign}
    found: Dict[Any, Dict[str, Any]] = {}
    listed = 0
    for start in range(0, len(names), _NAMES_A_CALL):
        for row in parse_madison(_apt_cache(edges, ["madison", *names[start : start + _NAMES_A_CALL]])):
            listed += 1
            index = by_index.get(row["index"])
            if index is None:
                continue
            line = _source_of(index, sources)
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


def _source_of(index: Dict[str, str], sources: List[Source]) -> Any:
    """The source list entry that an index comes from, or None where it cannot be said."""
    wanted = _plain_uri(index["uri"])
    for source in sources:
        in_use = source["enabled"] and "deb" in source["types"]
        same_place = any(_plain_uri(uri) == wanted for uri in source["uris"])
        if in_use and same_place and index["suite_path"] in source["suites"]:
            return source
    return None


def _plain_uri(uri: str) -> str:
    """A URI without credentials and without slashes at its end, for comparing."""
    return uri.replace("//***@", "//").rstrip("/")
