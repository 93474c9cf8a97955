"""Reading what the distribution's own archives offer: the driver's packages, and the tools that a stack is built with.

apt is asked, not its list files: it knows every way to write a source and every compression. `apt-cache madison` says
which index a version comes from, so that what another archive offers under the same name is passed over, and
`apt-cache show` says the rest. Where apt has read no archive yet, as on a fresh machine, the lists are read into a
folder of the moment, as a dry run does: nothing of the machine's is written. Each answer is bounded (`commands.MOST`),
as is how many packages are asked about. Runs on the target: Python 3.6, standard library.
"""

from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from .. import files
from ..edges import Edges
from ..guard.rules import names_in
from ..parse.apt import is_own_origin, list_file_stem, parse_madison
from ..parse.kernels import image_of, is_kernel_package, names_a_kernel
from ..parse.offers import is_of_driver, is_tool, is_virtualbox, parse_offered, parse_release_date
from ..parse.versions import sort_versions
from .apt import APT_CACHE, APT_TIMEOUT_S, LISTS, NAMES_A_CALL, read_indexes
from .guard import installed_packages

Json = Dict[str, Any]
Rows = List[Dict[str, str]]
Pair = Tuple[str, str]  # a package and a version
Place = Tuple[int, str]  # the number of an archive, and a component
#: Packages that are asked about. Ubuntu 24.04 has some 500 of the driver's.
_MOST = 5000
#: From a metapackage to the last package of a kernel there are three steps.
_STEPS = 5
_SHOWN_ERRORS = 3
_UPDATE_TIMEOUT_S = 300.0


def read_offers(
    edges: Edges,
    indexes: Optional[Rows],
    distribution: str,
    architecture: str,
    kernels: List[str],
    fetch: bool = False,
    newer: bool = False,
) -> Optional[Json]:
    """Return what the own archives that apt has read offer: `archives`, `packages` and `tools`.

    `indexes` are those that apt has read (`read_indexes`); None where it did not say.
    `kernels` are the releases for which modules and headers are looked for. With `fetch` the lists are read where apt
    has none. With `newer` the packages that lead to kernels are read as well (`kernels`), and modules for the kernels
    that they lead to. None, and a named problem, where apt gives no answer or one that cannot be relied on: an empty
    list means that the archives offer nothing.
    """
    if indexes is None:
        return None
    own = own_of(indexes, distribution)
    if own or not fetch:
        return Lists(edges, ()).offers(own, architecture, kernels, newer)
    with files.temporary(0o755) as folder:  # apt's own user fetches into it
        aside = Lists(edges, ("-o", f"Dir::State::Lists={folder}"), str(folder))
        argv = ["apt-get", *APT_CACHE[1:], *aside.options, "update"]
        if edges.output(argv, _UPDATE_TIMEOUT_S, "apt-get update", silent=True) is None:
            return None
        fetched = read_indexes(edges, aside.options)
        return None if fetched is None else aside.offers(own_of(fetched, distribution), architecture, kernels, newer)


def own_of(indexes: Rows, distribution: str) -> Rows:
    """The indexes of the distribution's own archives."""
    return [row for row in indexes if is_own_origin(row["origin"], distribution)]


class Lists:
    """The package lists of apt, in their usual place or, with `options`, in the folder `place`."""

    def __init__(self, edges: Edges, options: Sequence[str], place: str = LISTS) -> None:
        """Nothing is read yet."""
        self.edges, self.options, self.place = edges, options, place

    def said(self, verb: str, words: Sequence[str] = (), silent: bool = False) -> Optional[str]:
        """What apt-cache prints; None, and a named problem, where it fails or, unless `silent`, has nothing to say."""
        argv = [*APT_CACHE, *self.options, verb, *words]
        return self.edges.output(argv, APT_TIMEOUT_S, f"apt-cache {verb}", silent)

    def offers(self, own: Rows, architecture: str, kernels: List[str], newer: bool = False) -> Optional[Json]:
        """What these indexes offer; None, and a named problem, where that cannot be read."""
        before = len(self.edges.problems)
        archives, places = self.archives(own, architecture)
        names = sorted(set((self.said("pkgnames") or "").split())) if own else []
        more: Json = {"kernels": self.kernels(places)} if newer else {}
        offered = more["kernels"]["packages"] if newer else []
        images = [image_of(row["package"]) for row in offered]
        kernels = [*kernels, *sorted({name for name in images if name} - set(kernels))]
        drivers = [name for name in names if is_of_driver(name, kernels) or is_virtualbox(name)]
        tools = [name for name in names if is_tool(name, kernels)]
        count = len(drivers) + len(tools)
        if count > _MOST:
            self.edges.problem("apt-cache pkgnames", f"It names {count} packages of drivers and tools.")
        if len(self.edges.problems) > before:
            return None
        listed = self.listed(drivers + tools, places)
        packages = self.packages(listed, set(drivers))
        if len(self.edges.problems) > before:
            return None
        newest: Dict[str, str] = {}
        for name, version in sorted(listed):
            if name in tools:
                newest[name] = sort_versions([version, newest.get(name, version)])[-1]
        return {"archives": archives, "packages": packages, "tools": newest, **more}

    def kernels(self, places: Dict[str, Place]) -> Json:
        """The installed packages that lead to kernels (`leading`, linux-generic and the like) with what they depend on,
        and `packages`, what the archives offer of them and of the kernels that those lead to.
        """
        leading = [
            {"package": name, "version": package.version, "depends": package.depends.strip(", ")}
            for name, package in sorted(installed_packages(self.edges).items())
            if is_kernel_package(name) and not names_a_kernel(name) and ":" not in name
            if any(is_kernel_package(other) for other in names_in(package.depends))
        ]
        found: Dict[str, List[Json]] = {}
        waiting = {row["package"] for row in leading}
        for _ in range(_STEPS):
            rows = self.packages(self.listed(sorted(waiting), places), waiting)
            for name in waiting:
                found[name] = [row for row in rows if row["package"] == name]
            needed = {name for row in rows for name in names_in(row["depends"]) if is_kernel_package(name)}
            waiting = needed - set(found)
        packages = [row for name in sorted(found) for row in found[name]]
        if len(packages) > _MOST:
            self.edges.problem("apt-cache show", f"It shows {len(packages)} packages of kernels.")
        return {"leading": leading, "packages": packages}

    def archives(self, own: Rows, architecture: str) -> Tuple[List[Json], Dict[str, Place]]:
        """The archives, a row for each suite, and for each index which of them it belongs to and its component."""
        archives: List[Json] = []
        places: Dict[str, Place] = {}
        for row in own:
            named = {key: row[key] for key in ("origin", "label", "codename", "suite", "site")}
            named["release"] = row["suite_path"]
            number = next((n for n, other in enumerate(archives) if named.items() <= other.items()), len(archives))
            if number == len(archives):
                stem = f"{self.place}/{list_file_stem(row['uri'], row['suite_path'], architecture)}"
                ends = [end for end in ("_InRelease", "_Release") if self.edges.exists(stem + end)]
                text = self.edges.text(stem + ends[0]) if ends else None
                archives.append({**named, "date": parse_release_date(text or ""), "components": []})
            component = row["index"].split(" ")[1].rpartition("/")[2] if " " in row["index"] else ""
            if component not in archives[number]["components"]:
                archives[number]["components"].append(component)
            places[row["index"]] = (number, component)
        return archives, places

    def listed(self, names: List[str], places: Dict[str, Place]) -> Dict[Pair, Place]:
        """The versions of these packages that the indexes of `places` offer, each with the place of the first.

        `apt-cache madison` may have nothing to say: of names that only a dependency, or a package that is installed,
        mentions.
        """
        found: Dict[Pair, Place] = {}
        for start in range(0, len(names), NAMES_A_CALL):
            said = self.said("madison", names[start : start + NAMES_A_CALL], silent=True)
            if said is None:
                break
            for row in parse_madison(said):
                if row["index"] in places:
                    found.setdefault((row["package"], row["version"]), places[row["index"]])
        return found

    def packages(self, listed: Dict[Pair, Place], names: Set[str]) -> List[Json]:
        """The listed packages of these names, each with its archive's number and its component."""
        pairs = sorted(pair for pair in listed if pair[0] in names)
        found: Dict[Pair, Json] = {}
        wrong: List[str] = []
        for start in range(0, len(pairs), NAMES_A_CALL):
            said = self.said("show", [f"{name}={version}" for name, version in pairs[start : start + NAMES_A_CALL]])
            if said is None:
                return []
            rows, errors = parse_offered(said)
            wrong += errors
            for row in rows:
                pair = (row["package"], row["version"])
                if found.setdefault(pair, row)["sha256"] != row["sha256"]:
                    wrong.append(f"{pair[0]} {pair[1]} is offered with two different contents.")
        lost = [pair for pair in pairs if pair not in found]
        if lost and not wrong:
            wrong.append(f"It does not show {lost[0][0]} {lost[0][1]}, which apt-cache madison lists.")
        if wrong:
            self.edges.problem("apt-cache show", " ".join(wrong[:_SHOWN_ERRORS]))
            return []
        return [{**found[pair], "archive": listed[pair][0], "component": listed[pair][1]} for pair in pairs]
