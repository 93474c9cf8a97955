"""A second reading of the facts, to judge plans by: it shares no code with the resolver.

It is written from the catalog's JSON and the words of the sources, and imports nothing of gpuhost. `check`
says what a plan breaks; `exists` searches the full product of all candidates; `best` names what the preferred
stack must start with. A request here is a plain `Ask`.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from packaging.specifiers import SpecifierSet

Json = Dict[str, Any]
Figures = Tuple[int, ...]
DATA = Path(__file__).parents[2] / "src" / "gpuhost" / "data"
TABLES = ("gpus", "drivers", "cuda", "cudnn", "tensorflow", "opencv", "platforms")
#: Open kernel modules: "can be used on any Turing or later GPU" (README of open-gpu-kernel-modules).
BEFORE_OPEN_MODULES = {"Tesla", "Fermi", "Kepler", "Maxwell", "Pascal", "Volta"}
#: glibc of the old names of wheel platforms (PEP 513, 571, 599).
MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


class Card(NamedTuple):
    """A card by PCI device id, or by nothing but its compute capability."""

    capability: str
    device: Optional[str] = None


class Ask(NamedTuple):
    """What is asked for, in plain values."""

    platform: str
    cards: Tuple[Card, ...] = ()
    wanted: Tuple[Tuple[str, str], ...] = ()
    kernel: Optional[str] = None
    secure_boot: Optional[bool] = None
    avx: Optional[bool] = None
    without: Tuple[str, ...] = ()


def read(folder: Path = DATA) -> Json:
    """All tables of a data folder, its environment `locks`, the names of its `toolkits`, and what `oldest_claims`
    says."""
    tables: Json = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in TABLES}
    locks = (json.loads(p.read_text("utf-8")) for p in sorted((folder / "environments").glob("*.json")))
    tables["locks"] = {"{environment}-{component}-{version}-{tag}".format(**found): found for found in locks}
    tables["toolkits"] = {path.stem for path in (folder / "wheels").glob("*.json")}
    tables["claimed_from"] = oldest_claims(tables)
    for row in (row for packages in tables["drivers"]["archives"].values() for row in packages):
        row.setdefault("claims", presumed_claims(tables, row))
    tables["card_capabilities"] = {chip["compute_capability"] for chip in tables["gpus"]["chips"].values()}
    return tables


def pinned(facts: Json, environment: str) -> Dict[str, str]:
    """The files of an environment lock, each with its sha256."""
    return {row["file"]: row["sha256"] for row in facts["locks"][environment]["packages"]}


def oldest_claims(facts: Json) -> Dict[str, int]:
    """For each device that a package of any archive claims: the oldest branch with which one does."""
    found: Dict[str, int] = {}
    for row in (row for packages in facts["drivers"]["archives"].values() for row in packages):
        for device in row.get("claims", ()):
            found[device] = min(int(row["branch"]), found.get(device, int(row["branch"])))
    return found


def speaks_against(card: Json, driver: str) -> bool:
    """Does NVIDIA's own list of a driver not have a card?"""
    first, without = card.get("first_listed_driver"), card.get("unlisted_up_to")
    too_old = first is not None and figures(driver) < figures(first)
    return too_old or (without is not None and figures(driver) <= figures(without))


def presumed_claims(facts: Json, row: Json) -> List[str]:
    """The devices that a package is taken to claim whose index nobody has read: of a generation that its branch serves
    with this kind of module, and no newer than the driver."""
    branch = facts["drivers"]["branches"][row["branch"]]
    eras = set(branch["generations"]) - set(branch["open_modules_only"])
    if row["package"].endswith("-open"):
        eras = set(branch["generations"]) - BEFORE_OPEN_MODULES
    found = []
    for device, card in facts["gpus"]["devices"].items():
        oldest = facts["claimed_from"].get(device)
        there = int(row["branch"]) >= oldest if oldest is not None else not speaks_against(card, row["version"])
        if there and generation(facts, card_of(facts, device)) in eras:
            found.append(device)
    return found


@functools.lru_cache(maxsize=None)
def figures(text: str) -> Figures:
    """The leading dotted figures: '4.15.0-213-generic' is (4, 15, 0), '8.6' is (8, 6)."""
    head = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(f) for f in head.group().split(".")) if head else ()


def starts(value: str, series: str) -> bool:
    """Does the version belong to the series?"""
    return figures(value)[: len(figures(series))] == figures(series)


def between(value: str, low: str, high: str) -> bool:
    """Is the version in the range, of which the upper end holds its whole series?"""
    return figures(low) <= figures(value) and figures(value)[: len(figures(high))] <= figures(high)


def demanded(ask: Ask, component: str, value: str) -> bool:
    """Does the version satisfy what the user asks of the component? A bare version means its series."""
    text = dict(ask.wanted).get(component)
    if text is None:
        return True
    if text[0].isdigit():
        return starts(value, text.replace(".*", ""))
    return SpecifierSet(text).contains(value, prereleases=True)


# --- cards --------------------------------------------------------------------------------------------------


def card_of(facts: Json, device: str) -> Card:
    """The card of a PCI device id."""
    chip = facts["gpus"]["devices"][device]["chip"]
    return Card(facts["gpus"]["chips"][chip]["compute_capability"], device)


def generation(facts: Json, card: Card) -> str:
    """The generation whose capabilities hold the card's."""
    rows = facts["gpus"]["generations"]
    return str(next(row["name"] for row in rows if card.capability in row["capabilities"]))


def of_cards(facts: Json) -> Set[str]:
    """The capabilities of cards; nvcc also builds for chips that are part of a system on a chip."""
    return set(facts["card_capabilities"])


def runs(code: Sequence[str], capability: str) -> str:
    """How compiled code gets onto a card: 'cubin' when it holds real code of the card's major version and at
    most its minor, 'ptx-jit' when it holds PTX of at most its capability, 'none' otherwise."""
    return reached(tuple(code), capability)


@functools.lru_cache(maxsize=None)
def reached(code: Tuple[str, ...], capability: str) -> str:
    """What `runs` says; kept, because few codes meet few capabilities many times."""
    card = figures(capability)
    split = [c.partition("_") for c in code]
    parsed = [(kind, (int(number[:-1]), int(number[-1]))) for kind, _, number in split]
    if any(kind == "sm" and at[0] == card[0] and at[1] <= card[1] for kind, at in parsed):
        return "cubin"
    return "ptx-jit" if any(kind == "compute" and at <= card for kind, at in parsed) else "none"


# --- what each release must satisfy by itself ---------------------------------------------------------------


def driver_faults(facts: Json, ask: Ask, row: Json) -> Iterator[str]:
    """Why a driver (an archive package has `claims`, a `.run` has `variant`) cannot serve the host."""
    branch = facts["drivers"]["branches"][row["branch"]]
    eras = [generation(facts, card) for card in ask.cards]
    if "claims" in row and row not in facts["drivers"]["archives"][ask.platform]:
        yield "driver: a package of another platform's archive"
    if row.get("variant") == "diagnostic":
        yield "driver: a field diagnostic"
    if not set(eras) <= set(branch["generations"]):
        yield "driver: the branch does not serve a card's generation"
    if set(branch["open_modules_only"]) & set(eras) and BEFORE_OPEN_MODULES & set(eras):
        yield "driver: one card needs the open modules, another cannot use them"
    if ask.kernel is not None and figures(ask.kernel)[:2] < figures(branch["min_kernel"]):
        yield "driver: the kernel is too old"
    if not demanded(ask, "driver", row["version"]):
        yield "driver: not what was asked for"
    for device in (card.device for card in ask.cards if card.device is not None):
        oldest = facts["claimed_from"].get(device)
        if "claims" in row:
            if device not in row["claims"]:
                yield f"driver: the package does not claim {device}"
        elif oldest is not None:
            if int(row["branch"]) < oldest:
                yield f"driver: the branch is older than any that claims {device}"
        elif speaks_against(facts["gpus"]["devices"][device], row["version"]):
            yield f"driver: NVIDIA's lists speak against it for {device}"


def cuda_faults(facts: Json, ask: Ask, row: Json) -> Iterator[str]:
    """Why a toolkit cannot be used for the cards on the platform."""
    real = sorted(of_cards(facts) & set(row["capabilities"]))
    for card in ask.cards:
        if runs([f"sm_{c.replace('.', '')}" for c in real], card.capability) != "cubin":
            yield f"cuda: nvcc makes no code for {card.capability}"
    if not place(facts, ask, row).get("supported"):
        yield "cuda: not for this platform"
    compilers = [int(g) for g in facts["platforms"]["platforms"][ask.platform]["gcc"]["available"]]
    if not any((row["gcc_min"] or 0) <= g <= row["gcc_max"] for g in compilers):
        yield "cuda: no host compiler"
    if from_wheels(facts, ask, row) and f"cuda-{row['version']}" not in facts["toolkits"]:
        yield "cuda: wheels without a checksum"
    if not demanded(ask, "cuda", row["version"]):
        yield "cuda: not what was asked for"


def place(facts: Json, ask: Ask, cuda: Json) -> Json:
    """What the catalog says of this toolkit on the platform: the row that begins with it, or the nearest before."""
    rows = facts["cuda"]["platforms"].get(ask.platform, [])
    return max((r for r in rows if figures(r["from"]) <= figures(cuda["version"])), default={}, key=begins)


def begins(row: Json) -> Figures:
    """The release that a row about a platform begins with."""
    return figures(row["from"])


def from_wheels(facts: Json, ask: Ask, cuda: Json) -> bool:
    """Does the platform have no other way to this toolkit than NVIDIA's wheels?"""
    return "runfile" not in place(facts, ask, cuda).get("via", ["runfile"])


def own_cuda_faults(facts: Json, ask: Ask, row: Json) -> Iterator[str]:
    """Why a toolkit cannot be TensorFlow's own."""
    real = [f"sm_{c.replace('.', '')}" for c in sorted(of_cards(facts) & set(row["capabilities"]))]
    for card in ask.cards:
        if runs(real, card.capability) != "cubin":
            yield f"tensorflow: no library for {card.capability}"
    if not place(facts, ask, row).get("supported"):
        yield "tensorflow: its CUDA is not for this platform"
    if f"cuda-{row['version']}" not in facts["toolkits"]:
        yield "tensorflow: wheels of its CUDA without a checksum"


def own_cudnn_faults(facts: Json, ask: Ask, row: Json) -> Iterator[str]:
    """Why a cuDNN cannot be TensorFlow's own."""
    yield from cudnn_faults(facts, ask._replace(wanted=()), row)
    if not locked_cudnn(facts, row):
        yield "tensorflow: wheels of its cuDNN without a checksum"


def locked_cudnn(facts: Json, row: Json) -> bool:
    """Are NVIDIA's wheels of this cuDNN known by checksum?"""
    return f"cudnn-{row['version']}-cu{figures(row['cuda'])[0]}" in facts["toolkits"]


def cudnn_faults(facts: Json, ask: Ask, row: Json) -> Iterator[str]:
    """Why a cuDNN cannot serve the cards."""
    low, high = figures(row["capability_min"]), figures(row["capability_max"])
    for card in ask.cards:
        has = figures(card.capability)
        if has < low or (has > high and has[0] != high[0]):
            yield f"cudnn: no code for {card.capability}"
    if not demanded(ask, "cudnn", row["version"]):
        yield "cudnn: not what was asked for"


def wheel_needs(file: str) -> Figures:
    """The glibc a wheel needs, from its file name; one of several platform tags is enough."""
    tags = file[: -len(".whl")].split("-")[-1].split(".")
    found = [MANYLINUX.get(tag.split("_")[0]) for tag in tags]
    return min(old or tuple(int(f) for f in tag.split("_")[1:3]) for old, tag in zip(found, tags))


def tensorflow_faults(facts: Json, ask: Ask, row: Json, wheel: Json) -> Iterator[str]:
    """Why a TensorFlow wheel cannot be used on the host."""
    platform = facts["platforms"]["platforms"][ask.platform]
    for card in ask.cards:
        if runs(row["code"], card.capability) == "none":
            yield f"tensorflow: no code for {card.capability}"
    if wheel["tag"] not in ["cp" + p.replace(".", "") for p in platform["pythons"]]:
        yield "tensorflow: the archive has no such Python"
    if wheel_needs(wheel["file"]) > figures(platform["glibc"]):
        yield "tensorflow: glibc is too old"
    if ask.avx is False:
        yield "tensorflow: needs AVX"
    if not demanded(ask, "tensorflow", row["version"]):
        yield "tensorflow: not what was asked for"


def opencv_faults(facts: Json, ask: Ask, row: Json) -> Iterator[str]:
    """Why an OpenCV cannot be built for the cards, or on a host without one cannot be installed."""
    if not row["darknet_importer"]:
        yield "opencv: no Darknet importer"
    if not demanded(ask, "opencv", row["version"]):
        yield "opencv: not what was asked for"
    if not ask.cards:
        if not any(locked(facts, ask, wheel) for wheel in row["wheels"]):
            yield "opencv: no locked wheel"
        return
    if row["dnn_cuda"] is None:
        yield "opencv: no CUDA backend in its DNN module"
    elif any(figures(card.capability) < figures(row["dnn_cuda"]["capability_min"]) for card in ask.cards):
        yield "opencv: a card is below the floor"
    if building_python(facts, ask) is None:
        yield "opencv: no tools for a Python of the platform"
    has = [a.get("package", a["kind"]) for a in row["artifacts"]]
    if "opencv-contrib-python" not in has and not {"opencv-tarball", "opencv_contrib-tarball"} <= set(has):
        yield "opencv: sources without a checksum"


def building_python(facts: Json, ask: Ask) -> Optional[str]:
    """The newest Python of the platform for which there are locked tools to build OpenCV, and locked packages."""
    kinds: Dict[str, Set[str]] = {}
    for row in facts["locks"].values():
        kinds.setdefault(row["python"], set()).add(row["environment"])
    pythons = facts["platforms"]["platforms"][ask.platform]["pythons"]
    fit = [p for p in pythons if {"opencv_build", "opencv_cuda"} <= kinds.get(p, set())]
    return max(fit, key=figures, default=None)


def locked(facts: Json, ask: Ask, wheel: Json) -> List[str]:
    """The environment locks that pin this wheel of OpenCV for a Python of the platform, whose glibc runs
    it."""
    platform = facts["platforms"]["platforms"][ask.platform]
    if figures(wheel["glibc"]) > figures(platform["glibc"]):
        return []
    fit = [name for name, row in facts["locks"].items() if row["python"] in platform["pythons"]]
    return [name for name in fit if wheel["file"] in pinned(facts, name)]


# --- what goes together -------------------------------------------------------------------------------------


def driver_serves(driver: Json, cuda: Json) -> bool:
    """The driver is as new as the toolkit's own, or reaches the floor of minor-version compatibility."""
    floors = [cuda["driver_min"], cuda["driver_min_minor_compat"]]
    return any(floor is not None and figures(driver["version"]) >= figures(floor) for floor in floors)


def compiles(facts: Json, driver: Json, tensorflow: Json) -> bool:
    """The driver's own CUDA is at least the one that made TensorFlow's PTX; if it is not known: no."""
    newest = facts["drivers"]["branches"][driver["branch"]]["max_cuda"]
    return newest is not None and figures(newest) >= figures(tensorflow["tested"]["cuda"])


def needs_jit(ask: Ask, tensorflow: Json) -> bool:
    """Does TensorFlow reach some card only through PTX?"""
    return any(runs(tensorflow["code"], card.capability) == "ptx-jit" for card in ask.cards)


def pair_cudnn_cuda(cudnn: Json, cuda: Json) -> bool:
    """The cuDNN was built for this CUDA: its minor series, or from 8.1 on any of the major version."""
    return starts(cuda["version"], cudnn["cuda_supported"])


def pair_tensorflow_cuda(tensorflow: Json, cuda: Json) -> bool:
    """The CUDA series that TensorFlow is tested with, or one that its wheel asks for."""
    if starts(cuda["version"], tensorflow["tested"]["cuda"]):
        return True
    asked = tensorflow.get("takes", {"cuda": {"min": "99", "max": "99"}})["cuda"]
    return figures(cuda["version"]) >= figures(asked["min"]) and figures(cuda["version"])[:1] <= figures(asked["max"])


def pair_tensorflow_cudnn(tensorflow: Json, cudnn: Json) -> bool:
    """The tested cuDNN or a later one of its major version."""
    tested, has = figures(tensorflow["tested"]["cudnn"]), figures(cudnn["version"])
    return has[0] == tested[0] and has >= tested


def pair_opencv(opencv: Json, other: Json, which: str) -> bool:
    """OpenCV builds with this 'cuda' or 'cudnn'."""
    bounds = opencv["dnn_cuda"]
    return bounds is None or between(other["version"], bounds[which]["min"], bounds[which]["max"])


# --- the judge ----------------------------------------------------------------------------------------------


def check(facts: Json, ask: Ask, plan: Json) -> List[str]:
    """Everything a plan (status 'planned') breaks; an empty list is the verdict 'sound'."""
    if plan["status"] != "planned":
        return ["not a plan"]
    faults = []
    if plan["without"] != sorted(ask.without):
        faults.append("the plan leaves out what was not left out, or does not say it")
    wanted = [name for name in ("opencv", "tensorflow") if name not in ask.without]
    faults += [f"{name}: there or not" for name in ("opencv", "tensorflow") if (plan[name] is None) == (name in wanted)]
    if faults:
        return faults
    tensorflow, opencv = None, None
    if "tensorflow" in wanted:
        tensorflow, wheel = planned_tensorflow(facts, plan)
        faults += tensorflow_faults(facts, ask, tensorflow, wheel)
        faults += misquoted("tensorflow", plan["tensorflow"], wheel, "file", "sha256")
        faults += lock_faults(facts, "tensorflow", plan["tensorflow"])
    if "opencv" in wanted:
        opencv = next(r for r in facts["opencv"]["releases"] if r["version"] == plan["opencv"]["version"])
        faults += opencv_faults(facts, ask, opencv)
    if not ask.cards:
        own = [plan["tensorflow"][name] for name in ("cuda", "cudnn")] if tensorflow else []
        if any(part is not None for part in [plan["driver"], plan["cuda"], plan["cudnn"], *own]) or plan["gpus"]:
            faults.append("a CPU plan names a GPU component")
        if opencv is None:
            return faults
        names = [name for w in opencv["wheels"] for name in locked(facts, ask, w)]
        if plan["opencv"]["environment"] not in names:
            faults.append("opencv: the environment is not a lock of this release")
        return [*faults, *lock_faults(facts, "opencv", plan["opencv"])]
    driver = planned_driver(facts, ask, plan)
    if driver is None:
        return [*faults, "driver: the platform has no such release"]
    cuda, cudnn = planned_toolkit(facts, plan)
    faults += [
        *driver_faults(facts, ask, driver),
        *cuda_faults(facts, ask, cuda),
        *cudnn_faults(facts, ask, cudnn),
    ]
    together = {
        "driver and cuda": driver_serves(driver, cuda),
        "cudnn and cuda": pair_cudnn_cuda(cudnn, cuda),
        "cudnn comes as cuda does": not from_wheels(facts, ask, cuda) or locked_cudnn(facts, cudnn),
    }
    if opencv is not None:
        together["opencv and cuda"] = pair_opencv(opencv, cuda, "cuda")
        together["opencv and cudnn"] = pair_opencv(opencv, cudnn, "cudnn")
        faults += built_faults(facts, ask, plan, cuda)
    if tensorflow is not None:
        together["driver and PTX"] = not needs_jit(ask, tensorflow) or compiles(facts, driver, tensorflow)
        if plan["tensorflow"]["cuda"] or plan["tensorflow"]["cudnn"]:
            cuda, cudnn = planned_toolkit(facts, plan["tensorflow"])
            faults += [*own_cuda_faults(facts, ask, cuda), *own_cudnn_faults(facts, ask, cudnn)]
            together["driver and own cuda"] = driver_serves(driver, cuda)
            together["own cudnn and own cuda"] = pair_cudnn_cuda(cudnn, cuda)
        together["tensorflow and cuda"] = pair_tensorflow_cuda(tensorflow, cuda)
        together["tensorflow and cudnn"] = pair_tensorflow_cudnn(tensorflow, cudnn)
    faults += [name for name, holds in together.items() if not holds]
    host = planned_toolkit(facts, plan)
    faults += misquoted("cudnn", plan["cudnn"], host[1], "file", "url", "sha256")
    faults += misquoted("driver", plan["driver"], driver, "file", "url", "sha256", "size")
    if plan["cuda"]["source"] == "runfile":
        faults += misquoted("cuda", plan["cuda"], host[0]["runfile"], "file", "url", "sha256")
    return [*faults, *module_faults(facts, ask, plan, driver)]


def planned_toolkit(facts: Json, part: Json) -> Tuple[Json, Json]:
    """The rows of CUDA and cuDNN that a plan, or TensorFlow's part of one, means."""
    cuda = next(r for r in facts["cuda"]["releases"] if r["version"] == part["cuda"]["version"])
    meant = (part["cudnn"]["version"], part["cudnn"]["cuda"])
    return cuda, next(r for r in facts["cudnn"]["packages"] if (r["version"], r["cuda"]) == meant)


def lock_faults(facts: Json, component: str, part: Json) -> Iterator[str]:
    """The environment lock that a plan names, if it names one, pins the very wheel the plan says, for its
    Python."""
    name = part["environment"]
    if name is None:
        return
    if facts["locks"][name]["python"] != part["python"]:
        yield f"{component}: the lock is for another Python"
    if pinned(facts, name).get(part["file"]) != part["sha256"]:
        yield f"{component}: the lock pins another file"


def misquoted(component: str, part: Json, row: Json, *names: str) -> List[str]:
    """Where a part of the plan says something else than the row it stands for."""
    return [f"{component}: {name} differs" for name in names if part.get(name) != row.get(name)]


def planned_tensorflow(facts: Json, plan: Json) -> Tuple[Json, Json]:
    """The release row and the wheel row that a plan means."""
    part = plan["tensorflow"]
    release = next(r for r in facts["tensorflow"]["releases"] if r["version"] == part["version"])
    tag = "cp" + part["python"].replace(".", "")
    return release, next(w for w in release["wheels"] if w["tag"] == tag)


def planned_driver(facts: Json, ask: Ask, plan: Json) -> Optional[Json]:
    """The driver row that a plan means, or None when the platform has no such release."""
    part = plan["driver"]
    if part["source"] == "archive":
        keys, rows = ("package", "package_version"), facts["drivers"]["archives"][ask.platform]
    else:
        keys, rows = ("version", "variant"), facts["drivers"]["runfiles"]
    return next((row for row in rows if all(row[k] == part[k] for k in keys)), None)


def built_faults(facts: Json, ask: Ask, plan: Json, cuda: Json) -> Iterator[str]:
    """OpenCV must be built for every card: for its own capability, or the highest lower one of its major."""
    if plan["opencv"]["python"] != building_python(facts, ask):
        yield "opencv: not for the newest Python that it can be built for"
    targets = plan["opencv"]["cuda_arch_bin"]
    wanted = set()
    for card in ask.cards:
        has = figures(card.capability)
        real = of_cards(facts) & set(cuda["capabilities"])
        fit = [c for c in real if has[0] == figures(c)[0] and figures(c) <= has]
        wanted.add(max(fit, key=figures, default=card.capability))
    if set(targets) != wanted or targets != sorted(targets, key=figures):
        yield f"opencv: built for {targets}, not for {sorted(wanted)}"


def module_faults(facts: Json, ask: Ask, plan: Json, driver: Json) -> Iterator[str]:
    """The kernel module's flavour and origin, and what Secure Boot needs, after the archive's own words."""
    part = plan["driver"]
    eras = {generation(facts, card) for card in ask.cards}
    needs_open = bool(eras & set(facts["drivers"]["branches"][driver["branch"]]["open_modules_only"]))
    needs_open = needs_open or str(part.get("package")).endswith("-open")
    if (part["kernel_modules"] == "open") != needs_open:
        yield "driver: the wrong flavour of kernel modules"
    signed = "signed" if has_signed(facts, ask, driver) else "dkms"
    if part["modules_from"] != signed:
        yield f"driver: modules from {part['modules_from']}, not from {signed}"
    expected = {"signed": "signed", "dkms": "own-key"}[signed] if ask.secure_boot else None
    if part["secure_boot"] != expected:
        yield f"driver: Secure Boot wants {expected}"


def has_signed(facts: Json, ask: Ask, driver: Json) -> bool:
    """Does the archive hold a signed module of this driver for the kernel?

    `linux-modules-nvidia-BRANCH-KVER-generic` exists for the kernels of the platform's meta packages only.
    """
    if not driver.get("signed_modules"):
        return False
    if ask.kernel is None:
        return True
    kernels = facts["platforms"]["platforms"][ask.platform].get("kernels", [])
    return ask.kernel in [k["abi"] + "-generic" for k in kernels if k["flavour"] in driver["signed_modules"]]


# --- brute force --------------------------------------------------------------------------------------------

Truth = Any  # a NumPy array of bool


class Tables:
    """All candidates of a catalog, and which go together, as arrays of bool (T, C, N, O, D: the axes)."""

    def __init__(self, facts: Json) -> None:
        """Make the arrays of the pairs; the request does not matter for them, but for the PTX."""
        self.facts = facts
        self.tensorflow = [(r, w) for r in facts["tensorflow"]["releases"] for w in r["wheels"]]
        self.cuda: List[Json] = facts["cuda"]["releases"]
        self.cudnn: List[Json] = facts["cudnn"]["packages"]
        self.opencv: List[Json] = facts["opencv"]["releases"]
        packages = [r for rows in facts["drivers"]["archives"].values() for r in rows]
        self.driver = packages + facts["drivers"]["runfiles"]
        wheels = [r for r, _ in self.tensorflow]
        self.tc = product(wheels, self.cuda, pair_tensorflow_cuda)
        self.tn = product(wheels, self.cudnn, pair_tensorflow_cudnn)
        self.nc = product(self.cudnn, self.cuda, pair_cudnn_cuda)
        self.oc = product(self.opencv, self.cuda, lambda o, c: pair_opencv(o, c, "cuda"))
        self.on = product(self.opencv, self.cudnn, lambda o, n: pair_opencv(o, n, "cudnn"))
        self.dc = product(self.driver, self.cuda, driver_serves)
        self.dt = product(self.driver, wheels, lambda d, t: compiles(facts, d, t))

    def sound(self, ask: Ask) -> Tuple[Truth, Truth, Truth, Truth, Truth]:
        """Which candidates of T, C, N, O and D have no fault of their own."""
        facts = self.facts
        t = np.array([not any(tensorflow_faults(facts, ask, r, w)) for r, w in self.tensorflow])
        c = np.array([not any(cuda_faults(facts, ask, r)) for r in self.cuda])
        n = np.array([not any(cudnn_faults(facts, ask, r)) for r in self.cudnn])
        o = np.array([not any(opencv_faults(facts, ask, r)) for r in self.opencv])
        d = np.array([not any(driver_faults(facts, ask, r)) for r in self.driver])
        return t, c, n, o, d

    def host_side(self, ask: Ask) -> Truth:
        """Which (CUDA, cuDNN) can be the host's, with some OpenCV where one is wanted: shape C x N."""
        _, c, n, o, _ = self.sound(ask)
        wheels = np.array([from_wheels(self.facts, ask, row) for row in self.cuda])
        locked_rows = np.array([locked_cudnn(self.facts, row) for row in self.cudnn])
        found: Truth = self.nc.T & c[:, None] & n[None, :] & (locked_rows[None, :] | ~wheels[:, None])
        return found if "opencv" in ask.without else found & joined(self.oc[o], self.on[o])

    def shared(self, ask: Ask) -> Truth:
        """Every (TensorFlow, CUDA) with one toolkit for all: shape T x C; with TensorFlow left out, 1 x C."""
        t, _, _, _, d = self.sound(ask)
        host = self.host_side(ask)
        if "tensorflow" in ask.without:
            served: Truth = host.any(axis=1) & self.dc[d].any(axis=0)
            return served[None, :]
        with_cudnn = joined(self.tn.T, host.T)  # T x C
        found: Truth = t[:, None] & self.tc & with_cudnn & joined(self.drives(ask) & d[:, None], self.dc)
        return found

    def apart(self, ask: Ask) -> Truth:
        """Every (TensorFlow, its own CUDA, the host's CUDA) that one driver serves: shape T x C x C."""
        t, _, _, _, d = self.sound(ask)
        c = np.array([not any(own_cuda_faults(self.facts, ask, row)) for row in self.cuda])
        n = np.array([not any(own_cudnn_faults(self.facts, ask, row)) for row in self.cudnn])
        own = t[:, None] & c[None, :] & self.tc & joined(self.tn.T, (self.nc & n[:, None]))
        host = self.host_side(ask).any(axis=1)
        found = np.zeros((len(t), len(c), len(c)), dtype=bool)
        for i in np.flatnonzero(own.any(axis=1)):
            drivers = d & self.drives(ask)[:, i]
            found[i] = own[i][:, None] & host[None, :] & joined(self.dc[drivers], self.dc[drivers])
        return found

    def drives(self, ask: Ask) -> Truth:
        """Which drivers can compile what each TensorFlow needs compiled: shape D x T."""
        jit = np.array([needs_jit(ask, r) for r, _ in self.tensorflow])
        found: Truth = self.dt | ~jit[None, :]
        return found

    def preferred(self, ask: Ask, fit: Truth, drivers: Truth, tested: str = "") -> int:
        """Of the toolkits that fit: one of the tested series, one that one of these drivers serves from the
        archive, then the newest."""
        rows = self.facts["drivers"]["archives"][ask.platform]
        archive = drivers & np.array([row in rows for row in self.driver])
        served = self.dc[archive].any(axis=0)
        versions = [row["version"] for row in self.cuda]
        fits = np.flatnonzero(fit)
        return int(max(fits, key=lambda j: (starts(versions[j], tested), served[j], figures(versions[j]))))


def joined(left: Truth, right: Truth) -> Truth:
    """For each pair of columns: is there a row that holds both? Shape K x A and K x B to A x B."""
    found: Truth = (left.T.astype(np.float32) @ right.astype(np.float32)) > 0
    return found


def product(first: Sequence[Json], second: Sequence[Json], together: Callable[[Json, Json], bool]) -> Truth:
    """The truth of a relation over all pairs: shape first x second."""
    return np.array([[together(a, b) for b in second] for a in first], dtype=bool)


_MADE: Dict[int, Tables] = {}


def tables(facts: Json) -> Tables:
    """The arrays of a catalog, made once for each."""
    found = _MADE.get(id(facts))
    if found is None or found.facts is not facts:
        found = _MADE[id(facts)] = Tables(facts)
    return found


def exists(facts: Json, ask: Ask) -> bool:
    """Is there any stack at all? Without a GPU: any TensorFlow wheel and any locked OpenCV wheel."""
    made = tables(facts)
    if ask.cards:
        return bool(made.shared(ask).any()) or ("tensorflow" not in ask.without and bool(made.apart(ask).any()))
    t, _, _, o, _ = made.sound(ask)
    return bool(("tensorflow" in ask.without or t.any()) and ("opencv" in ask.without or o.any()))


def best(facts: Json, ask: Ask) -> Optional[Tuple[Optional[str], Optional[str], Optional[str]]]:
    """The newest TensorFlow of any stack, its newest Python tag, and the host's CUDA with both; None: no stack.

    One toolkit for all comes before two. What is left out, or not there on a host without a card, is None.
    """
    made = tables(facts)
    if not exists(facts, ask):
        return None
    t, _, _, _, d = made.sound(ask)
    if not ask.cards:
        return (None, None, None) if "tensorflow" in ask.without else (*newest(made, t)[1:], None)
    cube = made.shared(ask)
    if "tensorflow" in ask.without:
        return None, None, made.cuda[made.preferred(ask, cube[0], d)]["version"]
    split = not cube.any()
    cube = made.apart(ask) if split else cube
    index, release, tag = newest(made, cube.reshape(len(t), -1).any(axis=1))
    fit, drivers = cube[index], d & made.drives(ask)[:, index]
    tested = made.tensorflow[index][0]["tested"]["cuda"]
    if split:
        own = made.preferred(ask, fit.any(axis=1), drivers, tested)
        fit, drivers, tested = fit[own], drivers & made.dc[:, own], ""
    return release, tag, made.cuda[made.preferred(ask, fit, drivers, tested)]["version"]


def newest(made: Tables, fit: Truth) -> Tuple[int, str, str]:
    """The newest TensorFlow that fits, with its newest Python: its index, version and tag."""
    rows = [(i, *made.tensorflow[i]) for i in np.flatnonzero(fit)]
    index, release, wheel = max(rows, key=lambda x: (figures(x[1]["version"]), int(x[2]["tag"][3:])))
    return int(index), release["version"], wheel["tag"]
