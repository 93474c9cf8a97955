"""What the watch on a host finds wrong: the cheap part of verify/, from what the host itself knows it should be.

What should be is on the host already: the lock of the generation in force, the driver's record and the guard's. Each
finding has the id of the check in verify/ that is about the same thing. One cause is one finding, as there: what
follows from a fault is not reported. Pure. Runs on the target: Python 3.6, standard library.
"""

from collections import Counter
from typing import Any, List, NamedTuple, Tuple

from ...text import few
from ...types import Json
from ..driver.judge import Packages, altered, another_kernel, is_module, mismatch
from ..virtualbox import judge as vbox

OK, BROKEN, NOTHING, UNREADABLE = "ok", "broken", "nothing to watch", "unreadable"


class Finding(NamedTuple):
    """One thing that is wrong: the id of verify's check, and what was found."""

    id: str
    what: str


class State(NamedTuple):
    """What the watch says of a host. `notes` are what a person should know although nothing is wrong."""

    status: str
    findings: List[Finding]
    notes: Tuple[str, ...] = ()


def judge(seen: Json) -> State:
    """The state of a host, from what `watch_read.read` gives."""
    has_virtualbox = seen.get("virtualbox") is not None
    beside = virtualbox(seen["virtualbox"], seen["guard"]["held"]) if has_virtualbox else []
    if seen["generation"] is None:
        if not seen["left"]:
            return State(BROKEN if beside else OK if has_virtualbox else NOTHING, beside)
        return State(BROKEN, [Finding("lock.provisioned", f"nothing is in force, and there is {few(seen['left'])}")])
    plan = planned(seen["stack"])
    if plan is None:
        what = f"the record of generation {seen['generation']} (stack.json) is missing or damaged"
        return State(BROKEN, [Finding("lock.generation", what)])
    if not plan["gpus"] and seen.get("service") is None and not has_virtualbox:
        return State(NOTHING, [])
    found = cards(seen["stack"]["cards"], seen["cards"]) + chain(seen, bool(seen["cards"])) if plan["gpus"] else []
    # A service without its driver cannot be ready, and that is reported already.
    if not any(one.id.startswith("driver.") for one in found):
        found += service(seen.get("service"), seen["generation"])
    # The guard's own finding names the same packages.
    told = any(one.id == "guard.holds" for one in found)
    found += [one for one in beside if not (told and one.id == "virtualbox.kept")]
    return State(BROKEN if found else OK, found)


def service(found: Any, generation: int) -> List[Finding]:
    """Return a finding where the detection service does not serve what is in force, or is not ready."""
    if found is None:
        return []
    if found["generation"] is None:
        return [Finding("service.unit", f"the detection service does not run: {found['why']}")]
    if found["generation"] != generation:
        return [Finding("service.unit", f"the detection service runs from generation {found['generation']}")]
    return [Finding("service.ready", found["why"])] if found["why"] else []


def virtualbox(found: Json, held: List[str]) -> List[Finding]:
    """The first fault of VirtualBox, and beside it packages of it that are not on hold."""
    record = found["record"]
    if not is_record(record):
        return [Finding("virtualbox.one", "there is no complete record of a VirtualBox that gpuhost installed")]
    free = sorted(set(record["packages"]) - set(held))
    kept = [Finding("virtualbox.kept", "not on hold: " + few(free))] if free else []
    checks = [("one", few([need.what for need in vbox.together(found)] or vbox.replaced(found)))]
    if found["kernel"] is not None:
        checks.append(("modules", few([need.what for need in vbox.missing(found)])))
    checks.append(("release", few([need.what for need in vbox.other_release(found, record)])))
    if found["loaded"] is None:
        checks.append(("loaded", "vboxdrv is not loaded"))
    elif found["loaded"] != record["version"]:
        checks.append(("release", f"vboxdrv {found['loaded'] or 'of unknown release'} is loaded"))
    first = [Finding(f"virtualbox.{name}", what) for name, what in checks if what][:1]
    return first + kept


def planned(stack: Any) -> Any:
    """The plan in the lock of the generation, as far as it is read here; None when it has none."""
    if not isinstance(stack, dict) or not isinstance(stack.get("plan"), dict):
        return None
    rows, gpus = stack.get("cards"), stack["plan"].get("gpus")
    if not isinstance(gpus, list) or not isinstance(rows, list):
        return None
    whole = all(isinstance(row, dict) and isinstance(row.get("pci_id"), str) for row in rows)
    # A plan without a card for a host with one is cut.
    return stack["plan"] if whole and (gpus or not rows) else None


def cards(locked: List[Json], present: List[str]) -> List[Finding]:
    """Return a finding where the cards in the machine are not those of the lock, by PCI id."""
    wanted, there = Counter(row["pci_id"] for row in locked), Counter(present)
    if wanted == there:
        return []
    return [Finding("lock.cards", f"locked are {listed(wanted)}, in the machine are {listed(there)}")]


def listed(ids: "Counter[str]") -> str:
    """Cards by id and number."""
    return ", ".join(f"{n} x {i}" if n > 1 else i for i, n in sorted(ids.items())) or "none"


def chain(seen: Json, has_card: bool) -> List[Finding]:
    """The driver from what is installed to what is loaded: the first fault, and those that do not depend on it."""
    record, packages = seen["driver"]["record"], seen["guard"]["stack"]
    if not is_record(record):
        return [Finding("driver.installed", "there is no complete record of a driver that gpuhost installed")]
    told = altered(record, Packages(packages))
    if told:
        follows = mismatch(seen["loaded"], seen["driver"]["library"])
        return [Finding("driver.installed", "; ".join(filter(None, [few(told), follows])))]
    return guarded(seen["guard"]) + next_boot(seen, record, has_card)


def is_record(record: Any) -> bool:
    """Return whether it is the driver role's record, as far as it is read here."""
    if not isinstance(record, dict) or not isinstance(record.get("packages"), dict):
        return False
    return all(isinstance(record.get(name), str) for name in ("version", "kernel"))


def guarded(found: Json) -> List[Finding]:
    """Return findings where there is no guard, or a package of the driver or its kernel is not on hold."""
    packages = found["stack"]
    free = sorted(set(packages) - set(found["held"]))
    if free or found["record"] is None or not packages:
        what = "not on hold: " + few(free) if free else "there is no record of a guard, or nothing that it guards"
        return [Finding("guard.holds", what)]
    return []


def next_boot(seen: Json, record: Json, has_card: bool) -> List[Finding]:
    """Return findings where the kernel that boots next will not find the driver, or the one that runs lacks it."""
    kernel, module = seen["driver"]["kernel"], seen["driver"]["module"]
    if kernel != record["kernel"]:
        what = f"{kernel or 'no kernel'} will boot, the driver was made for {record['kernel']}"
        return [Finding("kernel.boots", what)]
    if not is_module(module, record["version"]):
        there = "there is none" if module is None else f"there is {module['version'] or 'one of unknown version'}"
        return [Finding("driver.module", f"the module {record['version']} for kernel {kernel}: {there}")]
    return now(seen, record) if has_card else []


def now(seen: Json, record: Json) -> List[Finding]:
    """Return findings where the driver is not loaded, or by another kernel, not of one version with its library, or not
    reachable.
    """
    version, other = record["version"], another_kernel(seen["running"], record["kernel"])
    if seen["loaded"] is None:
        return [Finding("driver.loaded", "the nvidia module is not loaded")]
    library = seen["driver"]["library"]
    if seen["loaded"] != version:
        what = f"driver {seen['loaded'] or 'of unknown version'} is loaded, the record has {version}"
        return [Finding("driver.loaded", f"{what}; the library is {library}")]
    if other:
        return [Finding("driver.loaded", other)]
    if library != version:
        return [Finding("driver.match", f"the library is {library or 'missing'}, loaded is {version}")]
    count = len([name for name in seen["nodes"] if name[len("nvidia") :].isdigit()])
    if "nvidiactl" not in seen["nodes"] or count < len(seen["cards"]):
        return [Finding("driver.nodes", f"/dev has {', '.join(seen['nodes']) or 'no nvidia nodes'}")]
    return []
