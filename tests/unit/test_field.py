"""The cases of tests/field: what public bug reports show, through the probe, the plan and the checks to the answer."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import fastjsonschema
import pytest

from gpuhost.errors import GpuhostError
from gpuhost.host.driver.judge import unready
from gpuhost.host.driver.modules import owns_key
from gpuhost.host.driver.packages import wanted_names
from gpuhost.host.edges import Edges
from gpuhost.host.guard import rules
from gpuhost.host.parse.apt import INDEX_FORMAT
from gpuhost.host.parse.nvidia import sort_out
from gpuhost.host.probe.driver import kept_out as kept_out_by
from gpuhost.host.probe.driver import parse_modinfo
from gpuhost.host.probe.machine import observe
from gpuhost.host.probe.signs import telling_lines
from gpuhost.planning import gpus, plan, preflight
from gpuhost.planning.catalog import DATA, shipped, validator
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver

from ..example_hosts import folder_of
from .collected import judged
from .faults import fresh

Json = Dict[str, Any]
Answer = Tuple[int, str, str]
TESTS = Path(__file__).resolve().parents[1]
CASES = sorted(path.parent for path in (TESTS / "field").glob("*/expected.json"))
CARD = "0000:01:00.0"
UBUNTU, SECURE, DEBIAN = "ubuntu1804-h200", "ubuntu1804-rtx3090-secureboot", "debian12-no-gpu"


class Host:
    """A copy of an example host, to be made the case's."""

    def __init__(self, root: Path, base: str) -> None:
        """Copy its files; its commands are read."""
        self.root = Path(shutil.copytree(folder_of(base) / "fs", root / "fs", symlinks=True))
        rows = json.loads((folder_of(base) / "commands.json").read_text(encoding="utf-8"))
        self.answers: Dict[Tuple[str, ...], Answer] = {tuple(r["argv"]): (r["rc"], r["out"], r["err"]) for r in rows}

    def put(self, name: str, text: str) -> None:
        """Write one file of the host."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def say(self, start: str, out: str, code: int = 0) -> None:
        """Let the commands that begin so answer this; one that was never asked for is added as it stands."""
        found = [argv for argv in self.answers if " ".join(argv).startswith(start)]
        for argv in found or [tuple(start.split())]:
            self.answers[argv] = (code, out, "")

    def cards(self, *rows: Tuple[str, str, str], subsystem: str = "0x11b3", kind: str = "0x030000") -> None:
        """Put cards on the bus: address, device, and the kernel driver that has it ("" for none)."""
        for address, device, driver in rows:
            folder = f"/sys/bus/pci/devices/{address}"
            for name, value in (("vendor", "0x10de"), ("device", f"0x{device}"), ("class", kind)):
                self.put(f"{folder}/{name}", value + "\n")
            self.put(f"{folder}/subsystem_vendor", "0x10de\n")
            self.put(f"{folder}/subsystem_device", subsystem + "\n")
            if driver:
                (self.root / folder.lstrip("/") / "driver").symlink_to(f"../../drivers/{driver}")

    def without_card(self) -> None:
        """Take the recorded card and its sound out."""
        for function in "01":
            shutil.rmtree(self.root / f"sys/bus/pci/devices/{CARD[:-1]}{function}", ignore_errors=True)

    def archive(self, *rows: Tuple[str, str, str, str, str, str]) -> None:
        """Let apt have read more: place, suite, origin, label, code name, and the suite of its release file."""
        (asked,) = [argv for argv in self.answers if argv[:2] == ("apt-get", "indextargets")]
        assert asked[-1] == INDEX_FORMAT
        self.answers[asked] = (0, self.answers[asked][1] + "".join("\t".join(row) + "\n" for row in rows), "")
        (policy,) = [argv for argv in self.answers if argv[-1] == "policy"]
        said = "".join(
            f" 500 {place.rstrip('/')} {suite}{'' if suite.endswith('/') else '/main amd64'} Packages\n"
            f"     release o={origin},a={archive},n={codename},l={label}\n"
            for place, suite, origin, label, codename, archive in rows
        )
        before, pinned, after = self.answers[policy][1].partition("Pinned packages:")
        self.answers[policy] = (0, before + said + pinned + after, "")

    def run(self, argv: Sequence[str], timeout: float) -> Answer:
        """The host's answer."""
        return self.answers[tuple(argv)]

    def seen(self) -> Json:
        """What the probe sees of it."""
        found = observe(str(self.root), self.run)
        validator(DATA / "observation.schema.json")(found)
        return found


def made(observation: Json, **over: Any) -> Json:
    """The plan for an observed machine."""
    return plan.make(resolver(), request_of(resolver(), observation, {}, **over))


def noted(made_plan: Json, words: str) -> str:
    """The words, where a note of the plan has them; else all notes."""
    texts = [note["text"] for note in made_plan["notes"]]
    return words if any(words in text for text in texts) else str(texts)


def refused(observation: Json) -> Tuple[int, str]:
    """How the plan for a machine ends: with which exit code, and what it says."""
    try:
        return 0, str(made(observation)["gpus"])
    except GpuhostError as error:
        return error.exit_code, str(error)


def holds(text: str, words: str) -> str:
    """The words, where the text has them; else the text."""
    return words if words in text else text


def verdict(check: str, **changes: Any) -> List[Optional[str]]:
    """How a check of verify/ ends on the healthy host with these changes ("part__key"), and its diagnosis."""
    seen = fresh("gpu")
    parts = {"observation": seen["machine"]["observation"], **seen["machine"]["installed"]}
    for name, value in changes.items():
        place, _, key = name.partition("__")
        parts[place][key] = value
    result = judged(seen)[check]
    return [result.status, result.diagnosis]


def sources(host: Host) -> Json:
    """What preflight says."""
    observation = host.seen()
    return {"problems": preflight.problems(observation), "remarks": len(preflight.remarks(observation))}


def text(case: Path, name: str) -> str:
    """One input of a case."""
    return (case / name).read_text(encoding="utf-8")


def modinfo(case: Path, root: Path, wanted: Json) -> Json:
    """An old modinfo does not tell the signer."""
    module = parse_modinfo(text(case, "modinfo.txt"))
    state = {
        "kernel": "4.15.0-213-generic",
        "module": module,
        "library": module["version"],
        "headers": True,
        "nouveau": {"blacklisted": True, "in_initramfs": False, "loaded": False},
    }
    driver = {"version": module["version"], "kernel_modules": "proprietary", "modules_package": "p"}
    needs = {
        kind: [need.diagnosis for need in unready(state, dict(driver, modules_from=kind), "enabled", "own key")]
        for kind in ("signed", "dkms")
    }
    judgement = verdict("driver.signed", observation__secure_boot="enabled", driver__module=module)
    return {"signed": module["signed"], "signer": module["signer"], "needs": needs, "driver.signed": judgement}


def shim(case: Path, root: Path, wanted: Json) -> Json:
    """mokutil's two lines; and the same from the firmware's variables, which are asked first."""
    states, host = [], Host(root, SECURE)
    (variable,) = host.root.glob("sys/firmware/efi/efivars/SecureBoot-*")
    (variable.parent / "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23").write_bytes(b"\6\0\0\0\1")
    states.append(host.seen())
    variable.unlink()
    host.say("mokutil --sb-state", text(case, "mokutil.txt"))
    states.append(host.seen())
    assert states[0]["secure_boot"] == states[1]["secure_boot"]
    planned = made(states[1])
    module = {**fresh("gpu")["machine"]["installed"]["driver"]["module"], "signed": False, "signer": ""}
    judgement = verdict("driver.signed", observation__secure_boot=states[1]["secure_boot"], driver__module=module)
    note = noted(planned, "shim does not validate") == "shim does not validate"
    asks = planned["driver"]["secure_boot"]
    return {"secure_boot": states[1]["secure_boot"], "asks": asks, "note": note, "driver.signed": judgement}


def mirror(case: Path, root: Path, wanted: Json) -> Json:
    """A cloud image's sources, as apt 2.6 names them; and the names of its list files where apt fails."""
    host = Host(root, DEBIAN)
    for path in (host.root / "etc/apt/sources.list.d").iterdir():
        path.unlink()
    host.put("/etc/apt/sources.list.d/debian.sources", text(case, "debian.sources"))
    host.say("apt-get indextargets", "")
    host.say(
        "apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= policy", "Package files:\nPinned packages:\n"
    )
    place = "mirror+file:/etc/apt/mirrors/debian{}.list/"
    rows = [(place.format(""), suite, "Debian", "Debian", suite, "oldstable") for suite in SUITES[:3]]
    rows.append((place.format("-security"), SUITES[3], "Debian", "Debian-Security", SUITES[3], "oldstable-security"))
    host.archive(*rows)
    found = sources(host)
    host.say("apt-get indextargets", "", code=100)
    for suite in SUITES:
        file = "debian-security.list" if suite.endswith("security") else "debian.list"
        host.put(f"/var/lib/apt/lists/_etc_apt_mirrors_{file}_dists_{suite}_InRelease", "")
    (problem,) = preflight.problems(host.seen())
    assert problem.startswith("apt-get indextargets could not be read")
    return found


SUITES = ("bookworm", "bookworm-updates", "bookworm-backports", "bookworm-security")


def toolkit(case: Path, root: Path, wanted: Json) -> Json:
    """The container toolkit's own list, with $(ARCH) in it."""
    host, file = Host(root, UBUNTU), "nvidia-container-toolkit.list"
    host.put("/etc/apt/sources.list.d/" + file, text(case, file))
    host.archive(("https://nvidia.github.io/libnvidia-container/stable/deb/amd64/", "/", "NVIDIA", "t", "", ""))
    start = "apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "
    names = "nvidia-container-toolkit libnvidia-container1 libnvidia-container-tools nvidia-docker2"
    host.say(start + "pkgnames", names.replace(" ", "\n") + "\nlinux-image-generic\n")
    rows = (
        "linux-image-generic | 4.15.0.213.196 | http://ubuntu-archive.example/ubuntu bionic-updates/main amd64 Packages"
    )
    host.say(start + "madison linux-image-generic", rows + "\n")
    return sources(host)


def pro(case: Path, root: Path, wanted: Json) -> Json:
    """Ubuntu Pro's sources."""
    host = Host(root, UBUNTU)
    for file in ("ubuntu-esm-apps.list", "ubuntu-esm-infra.list"):
        host.put("/etc/apt/sources.list.d/" + file, text(case, file))
    place = "https://esm.ubuntu.com/{}/ubuntu/"
    host.archive(
        (
            place.format("apps"),
            "bionic-apps-security",
            "UbuntuESMApps",
            "UbuntuESMApps",
            "bionic",
            "bionic-apps-security",
        ),
        (place.format("infra"), "bionic-infra-security", "UbuntuESM", "UbuntuESM", "bionic", "bionic-infra-security"),
        (place.format("infra"), "bionic-infra-updates", "UbuntuESM", "UbuntuESM", "bionic", "bionic-infra-updates"),
    )
    return sources(host)


def third(case: Path, root: Path, wanted: Json) -> Json:
    """PostgreSQL's and CRAN's sources, made for this release under a suite of their own."""
    host = Host(root, UBUNTU)
    for file in ("cran.list", "pgdg.list"):
        host.put("/etc/apt/sources.list.d/" + file, text(case, file))
    host.archive(
        ("http://apt.postgresql.org/pub/repos/apt/", "bionic-pgdg", "apt.postgresql.org", "PGDG", "bionic-pgdg", "x"),
        ("https://cloud.r-project.org/bin/linux/ubuntu/", "bionic-cran40/", "CRAN", "CRAN", "bionic-cran40", "bionic"),
    )
    offers_nothing(host)
    return sources(host)


def offers_nothing(host: Host) -> None:
    """Let apt know no package of the stack but the distribution's own kernel."""
    start = "apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "
    host.say(start + "pkgnames", "linux-image-generic\npostgresql\n")
    row = (
        "linux-image-generic | 4.15.0.213.196 | http://ubuntu-archive.example/ubuntu bionic-updates/main amd64 Packages"
    )
    host.say(start + "madison linux-image-generic", row + "\n")


def deb_src(case: Path, root: Path, wanted: Json) -> Json:
    """Source packages of a newer release; apt names no index of packages for them."""
    host = Host(root, UBUNTU)
    host.put("/etc/apt/sources.list.d/focal-src.list", text(case, "focal-src.list"))
    place = "http://ubuntu-archive.example/ubuntu/"
    (asked,) = [argv for argv in host.answers if argv[:2] == ("apt-get", "indextargets")]
    row = "\t".join((place, "focal", "Ubuntu", "Ubuntu", "focal", "focal")) + "\n"
    host.answers[asked] = (0, host.answers[asked][1] + row, "")
    return sources(host)


def passed_through(case: Path, root: Path, wanted: Json) -> Json:
    """One of two cards is kept for a virtual machine, so that nvidia-smi cannot list it."""
    host = Host(root, "ubuntu1804-quadro-p2000")
    host.without_card()
    for line in text(case, "lspci.txt").split("\n")[::3]:
        if line:
            driver = text(case, "lspci.txt").split(line)[1].split("Kernel driver in use: ")[1].split("\n")[0]
            host.cards((f"0000:{line.split()[0]}", line.rsplit("10de:", 1)[1][:4], driver))
    host.say("nvidia-smi", "00000000:65:00.0, GPU-00000000-0000-4000-8000-000000000000, NVIDIA T400 4GB, 4096, 7.5\n")
    observation = host.seen()
    planned = made(observation)
    return {
        "cards": [card["pci_id"] for card in planned["gpus"]],
        "kept": [card["pci_address"] for card in observation["other_functions"]],
        "note": noted(planned, wanted["note"]),
    }


def windows(case: Path, root: Path, wanted: Json) -> Json:
    """nvidia-smi lists a card of Windows' that the bus does not have."""
    host = Host(root, UBUNTU)
    host.without_card()
    host.put("/proc/sys/kernel/osrelease", text(case, "osrelease.txt"))
    host.say("nvidia-smi", text(case, "nvidia-smi.csv"))
    code, said = refused(host.seen())
    assert made(host.seen(), gpus=[])["driver"] is None
    return {"exit": code, "says": holds(said, wanted["says"])}


def virtual(case: Path, root: Path, wanted: Json) -> Json:
    """A share of a T4, lent to a guest."""
    host = Host(root, UBUNTU)
    host.without_card()
    address, pci_id, _, subsystem, *_ = text(case, "sysfs.txt").split()
    host.cards((address, pci_id[-4:], ""), subsystem="0x" + subsystem[-4:])
    code, said = refused(host.seen())
    host.cards((address, pci_id[-4:], ""), subsystem="0x12a2")
    assert refused(host.seen())[0] == 0, "a whole T4 is planned for"
    return {"exit": code, "says": holds(said, wanted["says"])}


def warned(case: Path, root: Path, wanted: Json) -> Json:
    """nvidia-smi ends with 14, which is a warning, and lists the card."""
    host = Host(root, "ubuntu1804-quadro-p2000")
    host.without_card()
    host.cards(("0000:b3:00.0", "1bb1", "nvidia"))
    host.say("nvidia-smi", text(case, "nvidia-smi.csv"), code=14)
    observation = host.seen()
    judgement = verdict("driver.cards", observation__nvidia={**at_work(), "smi": observation["nvidia"]["smi"]})
    return {
        "readable": [card["readable"] for card in observation["gpus"]],
        "warnings": len(observation["nvidia"]["warnings"]),
        "driver.cards": judgement,
    }


def at_work() -> Json:
    """What is seen of the healthy host's driver."""
    return dict(fresh("gpu")["machine"]["observation"]["nvidia"])


def silent(message: str) -> Dict[str, Any]:
    """nvidia-smi fails with these words, and the card stays unread."""
    cards = copy.deepcopy(fresh("gpu")["machine"]["observation"]["gpus"])
    for card in cards:
        card.update(readable=False, error=message, uuid=None)
    smi = {"status": "error", "message": message}
    return {"observation__nvidia": {**at_work(), "smi": smi}, "observation__gpus": cards}


def open_only(case: Path, root: Path, wanted: Json) -> Json:
    """A card that the closed module does not drive."""
    lines = telling_lines(text(case, "dmesg.txt"))
    return {"driver.cards": verdict("driver.cards", signs__kernel_log=lines, **silent("No devices were found"))}


def forbidden(case: Path, root: Path, wanted: Json) -> Json:
    """The device nodes are for a group alone."""
    return {"driver.cards": verdict("driver.cards", **silent(text(case, "nvidia-smi.txt").strip()))}


def kept_out(case: Path, root: Path, wanted: Json) -> Json:
    """modprobe's configuration keeps nvidia itself out."""
    host, file = Host(root, UBUNTU), "/etc/modprobe.d/blacklist-nvidia.conf"
    host.put(file, text(case, "blacklist-nvidia.conf"))
    lines = kept_out_by(Edges(str(host.root), host.run))
    nvidia = {**at_work(), "module_loaded": False, "module_version": None}
    assert {one["file"] for one in lines} == {file}
    return {"driver.loaded": verdict("driver.loaded", observation__nvidia=nvidia, driver__kept_out=lines)}


def switches(case: Path, root: Path, wanted: Json) -> Json:
    """Eight cards behind four switches."""
    host = Host(root, UBUNTU)
    host.without_card()
    host.cards(*((f"0000:{n:02x}:00.0", "2330", "") for n in range(0x10, 0x18)), kind="0x030200")
    host.cards(*((f"0000:{n:02x}:00.0", "22a3", "nvidia-nvswitch") for n in range(0x20, 0x24)), kind="0x068000")
    observation = host.seen()
    planned = made(observation)
    return {
        "cards": len(planned["gpus"]),
        "nvswitches": [one["kind"] for one in observation["other_functions"]].count("nvswitch"),
        "note": noted(planned, wanted["note"]),
        "exact": noted(planned, wanted["exact"]),
    }


def pinned(case: Path, root: Path, wanted: Json) -> Json:
    """GRUB's settings pin an older kernel; the archive's modules are planned for it."""
    host = Host(root, UBUNTU)
    host.put("/etc/default/grub", text(case, "grub"))
    observation = host.seen()
    observation["gpus"][0].update(pci_id="10de:1c30")
    return {"boots": observation["kernel"]["boots"], "modules": made(observation)["driver"]["modules"]["kernel"]}


def proxmox(case: Path, root: Path, wanted: Json) -> Json:
    """Debian with Proxmox's kernel."""
    host, kernel = Host(root, DEBIAN), text(case, "kernel.txt").strip()
    host.put("/etc/os-release", text(case, "os-release"))
    shutil.rmtree(host.root / "lib/modules", ignore_errors=True)
    host.put(f"/lib/modules/{kernel}/modules.dep", "")
    host.put(f"/boot/vmlinuz-{kernel}", "")
    host.cards((CARD, "1c30", ""))
    planned = made(host.seen())
    names = wanted_names(planned["driver"], kernel, "debian")
    package = f"proxmox-kernel-{kernel}-signed"
    installed = {package: rules.Package(package, "proxmox-kernel-signed-6.8", "6.8.12-4", False, "")}
    return {
        "note": noted(planned, wanted["note"]),
        "asked": next((name for name in names if "headers" in name), ""),
        "held": package in rules.stack(installed, kernel),
    }


def names(case: Path, root: Path, wanted: Json) -> Json:
    """Cards by the names that nvidia-smi and lspci print, with their capabilities."""
    wrong = []
    for row in text(case, "names.txt").splitlines():
        capability, name = row.split("|")
        try:
            found = gpus.parse(shipped(), name).compute_capability
        except GpuhostError:
            found = "not found"
        if found != capability:
            wrong.append(f"{name}: {found}")
    return {"not_found": wrong}


def arm(case: Path, root: Path, wanted: Json) -> Json:
    """A Jetson."""
    host = Host(root, UBUNTU)
    host.without_card()
    host.say("uname", text(case, "uname.txt"))
    code, said = refused(host.seen())
    return {"exit": code, "says": holds(said, wanted["says"])}


def lost(case: Path, root: Path, wanted: Json) -> Json:
    """nvidia-smi says that a card is lost, with either exit status, or leaves it out."""
    said, *rows = text(case, "nvidia-smi.txt").splitlines()
    ends = []
    for number, (out, code) in enumerate((([said, *rows], 0), ([said, *rows], 15), (rows, 0))):
        host = Host(root / str(number), "ubuntu1804-quadro-p2000")
        host.without_card()
        host.cards(*((f"0000:{n}:00.0", "1c30", "nvidia") for n in (17, 18, 19)))
        host.say("nvidia-smi", "\n".join(out) + "\n", code=code)
        ends.append(refused(host.seen()))
    words = {holds(text, wanted["says"]) for _, text in ends}
    return {"exit": [code for code, _ in ends], "says": words.pop() if len(words) == 1 else sorted(words)}


ASKED: Dict[str, Callable[[Path, Path, Json], Json]] = {
    "kind-01-modinfo-kmod24-no-signer": modinfo,
    "kind-02-shim-validation-off": shim,
    "kind-03-arch-variable-container-toolkit": toolkit,
    "kind-03-debian-cloud-mirror-file": mirror,
    "kind-04-deb-src-of-another-release": deb_src,
    "kind-04-suite-with-a-suffix": third,
    "kind-04-ubuntu-pro-esm": pro,
    "kind-06-card-bound-to-vfio-pci": passed_through,
    "kind-06-fabric-manager-802": switches,
    "kind-06-vgpu-guest": virtual,
    "kind-06-wsl2": windows,
    "kind-07-inforom-exit-14": warned,
    "kind-07-one-card-lost": lost,
    "kind-08-blackwell-closed-module": open_only,
    "kind-08-nvidia-itself-blacklisted": kept_out,
    "kind-08-nvml-insufficient-permissions": forbidden,
    "kind-09-kernel-pinned-in-grub": pinned,
    "kind-10-names-as-nvidia-smi-prints": names,
    "kind-10-proxmox-kernel": proxmox,
    "kind-11-plan-on-arm64": arm,
}


def test_each_case_is_asked() -> None:
    """A folder without a question would pass unseen."""
    assert {case.name for case in CASES} == set(ASKED)
    form = fastjsonschema.compile({"type": "object", "required": ["kind", "source", "right", "answer"]})
    for case in CASES:
        form(json.loads(text(case, "expected.json")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_gets_the_right_answer(case: Path, tmp_path: Path) -> None:
    """What gpuhost says of the host is what its folder says is right."""
    wanted = json.loads(text(case, "expected.json"))["answer"]
    assert ASKED[case.name](case, tmp_path, wanted) == wanted


@pytest.mark.parametrize(
    ("file", "words", "state"),
    [
        ("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n", "lockdown"),
        ("/sys/module/module/parameters/sig_enforce", "Y\n", "lockdown"),
        ("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n", "disabled"),
    ],
)
def test_a_kernel_that_asks_for_signatures_without_secure_boot(
    tmp_path: Path, file: str, words: str, state: str
) -> None:
    """A module without a signature would be refused all the same, so that the plan asks for one."""
    host = Host(tmp_path, UBUNTU)
    host.put(file, words)
    observation = host.seen()
    assert observation["secure_boot"] == state
    assert made(observation)["driver"]["secure_boot"] == ("own-key" if state == "lockdown" else None)


def test_setup_mode_is_secure_boot_off(tmp_path: Path) -> None:
    """The firmware has no keys yet, and the kernel takes Secure Boot as off."""
    host = Host(tmp_path, SECURE)
    (variable,) = host.root.glob("sys/firmware/efi/efivars/SecureBoot-*")
    (variable.parent / variable.name.replace("SecureBoot", "SetupMode")).write_bytes(b"\6\0\0\0\1")
    assert host.seen()["secure_boot"] == "disabled"


@pytest.mark.parametrize(
    ("driver", "override", "share", "kind"),
    [
        ("pci-stub", "", False, "passed-through"),
        ("xen-pciback", "", False, "passed-through"),
        ("", "vfio-pci\n", False, "passed-through"),
        ("nvidia", "vfio-pci\n", False, None),
        ("nvidia", "(null)\n", True, "virtual-function"),
        ("", "(null)\n", False, None),
    ],
)
def test_what_is_a_card_for_this_machine(
    tmp_path: Path, driver: str, override: str, share: bool, kind: Optional[str]
) -> None:
    """Who has the card now decides, then who alone may have it; a share of a card is its guest's."""
    host = Host(tmp_path, UBUNTU)
    host.without_card()
    host.cards((CARD, "2330", driver), kind="0x030200")
    host.put(f"/sys/bus/pci/devices/{CARD}/driver_override", override)
    if share:
        (host.root / f"sys/bus/pci/devices/{CARD}/physfn").symlink_to("../0000:00:00.0")
    observation = host.seen()
    assert [one["kind"] for one in observation["other_functions"]] == ([kind] if kind else [])
    assert len(observation["gpus"]) == (0 if kind else 1)


def test_a_card_that_can_be_unplugged_is_called_removable(tmp_path: Path) -> None:
    """An eGPU: the kernel says it since 5.14, and "fixed" of any other card."""
    host = Host(tmp_path, "ubuntu1804-quadro-p2000")
    for word, told in (("fixed", False), ("removable", True)):
        host.put(f"/sys/bus/pci/devices/{CARD}/removable", word + "\n")
        assert (
            noted(made(host.seen()), f"{CARD} (10de:1c30) is removable") == f"{CARD} (10de:1c30) is removable"
        ) is told


@pytest.mark.parametrize(
    ("prime", "switch", "card", "words"),
    [
        ("off\n", "", False, "not on the PCI bus, perhaps because it is switched off (prime-select query says intel)"),
        (
            "on-demand\n",
            "0000:01:00.0 OFF\n",
            True,
            "is switched off (prime-select query says on-demand, /proc/acpi/bbs",
        ),
        ("", "0000:01:00.0 OFF\n", False, "(/proc/acpi/bbswitch says OFF): prime-select nvidia"),
        ("off\n", "", True, "is switched off (prime-select query says intel)"),
        ("on-demand\n", "0000:01:00.0 ON\n", True, None),
        ("on\n", "", False, None),
    ],
)
def test_a_laptops_switch_is_named(tmp_path: Path, prime: str, switch: str, card: bool, words: Optional[str]) -> None:
    """Where its card is missing or off; a setting that has nothing to do with it is not mentioned."""
    host = Host(tmp_path, "ubuntu1804-quadro-p2000")
    if not card:
        host.without_card()
        host.say("nvidia-smi", "No devices were found\n", code=6)
    for name, state in (("/etc/prime-discrete", prime), ("/proc/acpi/bbswitch", switch)):
        if state:
            host.put(name, state)
    texts = [note["text"] for note in made(host.seen())["notes"] if "of this laptop" in note["text"]]
    assert len(texts) == (1 if words else 0) and all(words and words in text for text in texts)


@pytest.mark.parametrize(
    "words",
    [
        "Unable to determine the device handle for GPU 0000:0B:00.0: Unknown Error",
        "Unable to determine the device handle for GPU0000:0B:00.0: Unknown Error",
        "Unable to determine the device handle for GPU1: 0000:0B:00.0: Unknown Error",
        "Unable to determine the device handle for GPU 0000:0B:00.0: GPU is lost.  Reboot the system",
    ],
)
def test_each_release_names_a_lost_card_otherwise(words: str) -> None:
    """The words of public reports from 2015 on."""
    found, warnings, rest = sort_out([words, "WARNING: infoROM is corrupted at gpu 0000:0B:00.0", "else"])
    assert list(found) == ["0000:0b:00.0"]
    assert (len(warnings), rest) == (1, ["else"])


def test_an_unknown_secure_boot_is_never_taken_as_off() -> None:
    """A lock that was made for Secure Boot stays in force where its state cannot be read."""
    locked = {"modules_from": "dkms", "secure_boot": "own-key"}
    assert owns_key(locked, "unknown")
    assert not owns_key({**locked, "secure_boot": None}, "unknown")
    assert not owns_key(locked, "not-enforced")
