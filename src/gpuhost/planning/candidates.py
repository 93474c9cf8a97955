"""The candidates a plan is chosen from: one small value per release, made from the catalog's rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, get_args

from packaging.specifiers import SpecifierSet

from ..shapes.lock import Component, Framework
from ..types import Json
from ..versions import capability, release
from .catalog import Catalog, wheels_name
from .gpus import Gpu, from_device
from .versions import version

NAMES = {"driver": "driver", "cuda": "CUDA", "cudnn": "cuDNN", "opencv": "OpenCV", "tensorflow": "TensorFlow"}
COMPONENTS: Tuple[Component, ...] = get_args(Component)
#: The components that a host without a GPU has, and that can be left out by choice.
WITHOUT_GPU: Tuple[Framework, ...] = get_args(Framework)


#: The components that a stack can have twice: for the host's programs, and for TensorFlow.
TOOLKITS = ("cuda", "cudnn")


class Place(NamedTuple):
    """A place in a stack: which component is there, and whether it serves the host's programs, TensorFlow, or both."""

    component: str
    host: bool
    tensorflow: bool


#: The ways to arrange a stack, the preferred one first: by the place's name. That is the component's, and begins with
#: `tensorflow.` for a toolkit that TensorFlow has of its own.
SHARED: Mapping[str, Place] = {
    "driver": Place("driver", True, True),
    "cuda": Place("cuda", True, True),
    "cudnn": Place("cudnn", True, True),
    "opencv": Place("opencv", True, False),
    "tensorflow": Place("tensorflow", False, True),
}
APART: Mapping[str, Place] = {
    **SHARED,
    "cuda": Place("cuda", True, False),
    "cudnn": Place("cudnn", True, False),
    "tensorflow.cuda": Place("cuda", False, True),
    "tensorflow.cudnn": Place("cudnn", False, True),
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """One release of one component; `row` is its catalog row, `key` tells it apart from its siblings.

    Compared by identity: it stands for one row of one catalog, and sets of candidates are asked a lot.
    """

    component: str
    version: str
    key: str
    row: Json = field(repr=False)

    @property
    def unverified(self) -> bool:
        """Return whether the row rests on something that no source that was read confirms."""
        return bool(self.row.get("unverified"))


@dataclass(frozen=True, eq=False)
class Driver(Candidate):
    """A driver package of a platform's archive, or a `.run` release (then `platform` is None).

    `claims`: the PCI device ids that the package claims; `claimed_from` (shared by all): the lowest branch with
    which any package of any archive claims a device.
    """

    platform: Optional[str]
    branch: str
    branch_row: Json = field(repr=False)
    claims: FrozenSet[str] = field(repr=False)
    claimed_from: Dict[str, int] = field(repr=False)

    @property
    def max_cuda(self) -> Optional[str]:
        """The newest CUDA this branch serves without minor-version compatibility (None: not known)."""
        value = self.branch_row["max_cuda"]
        return None if value is None else str(value)


@dataclass(frozen=True, eq=False)
class Toolkit(Candidate):
    """A release of CUDA or cuDNN; `wheels`: whether a lock of NVIDIA's wheels of it comes with this release.

    `platforms`: what the catalog says of a CUDA on each platform.
    """

    wheels: bool
    platforms: Dict[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class TensorFlow(Candidate):
    """A TensorFlow wheel for one Python."""

    tag: str
    wheel: Json = field(repr=False)

    @property
    def python(self) -> str:
        """'3.8' for the tag cp38."""
        return f"{self.tag[2]}.{self.tag[3:]}"


@dataclass(frozen=True)
class Request:
    """Everything a plan depends on besides the catalog."""

    platform: str
    gpus: Tuple[Gpu, ...] = ()
    wanted: Dict[str, SpecifierSet] = field(default_factory=dict)
    asked: Dict[str, str] = field(default_factory=dict)
    kernel: Optional[str] = None
    secure_boot: Optional[bool] = None
    avx: Optional[bool] = None
    nvswitches: int = 0
    remarks: Tuple[Tuple[str, str], ...] = ()
    """What the plan has to say of the machine it is for: what each is about, and a sentence."""
    without: FrozenSet[str] = frozenset()
    """The components that are left out by choice."""

    @property
    def concerned(self) -> Tuple[str, ...]:
        """The components that the request says anything of, whether the host will have them or not."""
        return tuple(name for name in COMPONENTS if name not in self.without)

    @property
    def components(self) -> Tuple[str, ...]:
        """The components that the host is to have."""
        return tuple(name for name in self.concerned if self.gpus or name in WITHOUT_GPU)

    @property
    def arrangements(self) -> Tuple[Mapping[str, Place], ...]:
        """The ways to arrange the stack, the preferred one first, without the places of what is left out."""
        ways = (SHARED, APART) if self.gpus and "tensorflow" not in self.without else (SHARED,)
        return tuple({n: place for n, place in way.items() if n not in self.without} for way in ways)

    @property
    def capabilities(self) -> List[str]:
        """The distinct compute capabilities, lowest first."""
        return sorted({g.compute_capability for g in self.gpus}, key=capability)


def claimed_from(packages: Iterable[Json]) -> Dict[str, int]:  # Json: rows of the catalog
    """Return for each PCI device id the lowest branch with which one of some driver packages claims it."""
    found: Dict[str, int] = {}
    for package in packages:
        for device in package.get("claims", ()):
            found[device] = min(int(package["branch"]), found.get(device, 1000))
    return found


def snapshot(catalog: Catalog) -> List[Json]:  # Json: rows of the catalog
    """Return the driver packages of the catalog's snapshots of all archives."""
    return [row for packages in catalog.drivers["archives"].values() for row in packages]


@functools.lru_cache(maxsize=2)
def cards(catalog: Catalog) -> Dict[str, Tuple[Gpu, Optional[int]]]:
    """Return all cards by device id, each with the lowest branch with which a package of a snapshot claims it."""
    lowest = claimed_from(snapshot(catalog))
    return {device: (from_device(catalog, device), lowest.get(device)) for device in catalog.gpus["devices"]}


def driven(catalog: Catalog, row: Json, branch: Json, listed: Iterable[str]) -> List[str]:  # Json: rows of the catalog
    """Return those of some devices that a package drives with its kind of module."""
    known = cards(catalog)
    generations = {d: known[d][0].generation for d in listed if d in known}
    if row.get("kernel_modules") == "open":
        return [d for d in listed if generations.get(d) in catalog.drivers["open_modules_generations"]]
    return [
        d for d in listed if row["modules_package"] is None or generations.get(d) not in branch["open_modules_only"]
    ]


def served(catalog: Catalog, row: Json, branch: Json) -> List[str]:  # Json: rows of the catalog
    """Return the devices of the generations that a branch serves, but for those that are newer than the driver."""
    found = []
    for device, (card, lowest) in cards(catalog).items():
        new_enough = int(row["branch"]) >= lowest if lowest else card.listed_too_late(row["version"]) is None
        if new_enough and card.generation in branch["generations"]:
            found.append(device)
    return found


def claims(catalog: Catalog, row: Json) -> FrozenSet[str]:  # Json: a row of the catalog
    """Return the devices that a package of a snapshot claims.

    Where its index was not read, these are those that its branch serves with its kind of module.
    """
    if "claims" in row:
        return frozenset(row["claims"])
    branch = catalog.drivers["branches"][row["branch"]]
    return frozenset(driven(catalog, row, branch, served(catalog, row, branch)))


def drivers(catalog: Catalog) -> List[Candidate]:
    """Every driver of every archive, and every `.run` release."""
    found: List[Candidate] = []
    branches = catalog.drivers["branches"]
    claimed = claimed_from(snapshot(catalog) + catalog.drivers.get("claimed_before", []))
    for platform, packages in catalog.drivers["archives"].items():
        for p in packages:
            key = f"{p['package']}={p['package_version']}"
            found.append(
                Driver(
                    "driver",
                    p["version"],
                    key,
                    p,
                    platform,
                    p["branch"],
                    branches[p["branch"]],
                    claims(catalog, p),
                    claimed,
                )
            )
    for r in catalog.drivers["runfiles"]:
        if r["variant"] == "diagnostic":
            continue  # a field diagnostic of the vendor, no release for users
        key = f"{r['version']}.run {r['variant']}"
        found.append(
            Driver("driver", r["version"], key, r, None, r["branch"], branches[r["branch"]], frozenset(), claimed)
        )
    return found


def tensorflows(catalog: Catalog) -> List[Candidate]:
    """Every TensorFlow wheel, newest release and newest Python first."""
    rows = [(r, w) for r in catalog.tensorflow["releases"] for w in r["wheels"]]
    rows.sort(key=lambda x: (version(x[0]["version"]), int(x[1]["tag"][3:])), reverse=True)
    return [TensorFlow("tensorflow", r["version"], f"{r['version']} {w['tag']}", r, w["tag"], w) for r, w in rows]


def newest_first(found: List[Candidate]) -> List[Candidate]:
    """Return candidates, what is verified before what is not, then newest first."""
    return sorted(
        found,
        key=lambda c: (not c.unverified, version(c.version), release(c.row.get("cuda", "0"))),
        reverse=True,
    )


def cudas(catalog: Catalog) -> List[Candidate]:
    """Every CUDA toolkit, newest first."""
    found: List[Candidate] = [
        Toolkit("cuda", v, v, r, wheels_name("cuda", v, "") in catalog.wheels, cuda_platforms(catalog, v))
        for v, r in ((r["version"], r) for r in catalog.cuda["releases"])
    ]
    return sorted(found, key=lambda c: version(c.version), reverse=True)


def cuda_platforms(catalog: Catalog, wanted: str) -> Dict[str, Json]:  # Json: rows of the catalog
    """Return what the catalog says of a CUDA release on each platform: the last row that begins no later."""
    return {platform: row_of(rows, wanted) for platform, rows in catalog.cuda["platforms"].items()}


def headers_clash(catalog: Catalog, cuda: str) -> Optional[str]:
    """Return from which glibc on the headers of a CUDA release or series clash with it; None where they do not."""
    found: Optional[str] = row_of(catalog.cuda["headers"], cuda)["clash_from_glibc"]
    return found


def row_of(rows: Sequence[Json], wanted: str) -> Json:  # Json: rows of the catalog
    """Return the row of a release where each holds from its own release on: the last that begins no later."""
    return [row for row in rows if version(row["from"]) <= version(wanted)][-1]


def cudnns(catalog: Catalog) -> List[Candidate]:
    """Every cuDNN for each CUDA that it is built for."""
    rows = [(r["version"], r["cuda"], r) for r in catalog.cudnn["packages"]]
    locked = {(v, cuda): wheels_name("cudnn", v, cuda) in catalog.wheels for v, cuda, _ in rows}
    return newest_first([Toolkit("cudnn", v, f"{v} {cuda}", r, locked[v, cuda]) for v, cuda, r in rows])


def virtualboxes(catalog: Catalog) -> List[Candidate]:
    """Every VirtualBox: the packages of the archives, then Oracle's own files; of each the newest first."""
    packages = [
        Candidate(
            "virtualbox",
            row["version"],
            f"{platform} {row['package_version']}",
            {**row, "platform": platform, "component": archive["component"]},
        )
        for platform, archive in catalog.virtualbox["archives"].items()
        for row in archive["packages"]
    ]
    own = [Candidate("virtualbox", row["version"], row["version"], row) for row in catalog.virtualbox["releases"]]
    return [c for found in (packages, own) for c in sorted(found, key=lambda c: version(c.version), reverse=True)]


@dataclass(frozen=True)
class Candidates:
    """All candidates of all components."""

    driver: List[Candidate]
    cuda: List[Candidate]
    cudnn: List[Candidate]
    opencv: List[Candidate]
    tensorflow: List[Candidate]
    #: What stands beside a stack and is chosen by itself.
    virtualbox: List[Candidate]

    def of(self, component: str) -> List[Candidate]:
        """The list of one component by its name."""
        found: List[Candidate] = getattr(self, component)
        return found

    @classmethod
    def of_catalog(cls, catalog: Catalog) -> Candidates:
        """Make the candidates of a catalog, each list in the order of preference as far as it is fixed."""
        opencv = [Candidate("opencv", r["version"], r["version"], r) for r in catalog.opencv["releases"]]
        return cls(
            driver=drivers(catalog),
            cuda=cudas(catalog),
            cudnn=cudnns(catalog),
            opencv=newest_first(opencv),
            tensorflow=tensorflows(catalog),
            virtualbox=virtualboxes(catalog),
        )


def as_driver(c: Candidate) -> Driver:
    """The candidate as a driver; the table of rules gives driver rules nothing else."""
    if not isinstance(c, Driver):
        raise TypeError(f"{c} is not a driver")
    return c


def as_toolkit(c: Candidate) -> Toolkit:
    """The candidate as a toolkit; the table of rules gives toolkit rules nothing else."""
    if not isinstance(c, Toolkit):
        raise TypeError(f"{c} is not a toolkit")
    return c


def as_tensorflow(c: Candidate) -> TensorFlow:
    """The candidate as a TensorFlow wheel; the table of rules gives TensorFlow rules nothing else."""
    if not isinstance(c, TensorFlow):
        raise TypeError(f"{c} is no TensorFlow")
    return c
