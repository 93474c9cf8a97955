"""The table of best stacks, row by row, and what Secure Boot, the kernel and several cards change about
them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

import pytest

from gpuhost.planning import plan
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.resolve import Resolver, Stack

from . import asking

UBUNTU, DEBIAN = "ubuntu-18.04", "debian-12"
Json = Dict[str, Any]

STACK_A = {"cuda": "11.8.0", "cudnn": "8.6.0.163", "tensorflow": "2.13.1"}
STACK_D = {"cuda": "12.5.1", "tensorflow": "2.21.0"}
ERA = {"cuda": "10.0.130", "cudnn": "7.6.5.32"}


class Row(NamedTuple):
    """One row: what is asked, the versions that come out, and from where the driver is."""

    platform: str
    cards: Tuple[str, ...]
    versions: Dict[str, Optional[str]]
    package: Optional[str]  # of the archive; None: NVIDIA's .run, or no driver at all
    arch_bin: List[str]
    asked: Dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, never changed

    def __str__(self) -> str:
        """The test's id."""
        return " ".join([self.platform, *(c.replace(" ", "-") for c in self.cards), *self.asked.values()])


def on_ubuntu(card: str, capability: str, package: str = "nvidia-driver-525") -> Row:
    """Stack A with the archive's driver 525."""
    return Row(UBUNTU, (card,), {**STACK_A, "driver": "525.105.17"}, package, [capability])


ROWS = [
    on_ubuntu("GTX 750 Ti", "5.0"),
    on_ubuntu("Quadro P2000", "6.1"),
    on_ubuntu("RTX 2080", "7.5"),
    on_ubuntu("RTX 3090", "8.6"),
    on_ubuntu("RTX 4090", "8.9"),
    on_ubuntu("H100", "9.0"),
    # A T4 is claimed by the server flavour only.
    on_ubuntu("Tesla T4", "7.5", "nvidia-driver-525-server"),
    Row(UBUNTU, ("H200",), {**STACK_A, "driver": "550.163.01"}, None, ["9.0"]),
    # Kepler ends with branch 470: minor-version compatibility carries CUDA 11.8.
    Row(UBUNTU, ("Tesla K80",), {**STACK_A, "driver": "470.182.03"}, "nvidia-driver-470", ["3.7"]),
    Row(
        UBUNTU,
        ("Quadro P2000",),
        {**ERA, "driver": "418.226.00", "tensorflow": "2.0.4", "opencv": "4.2.0"},
        "nvidia-driver-418-server",
        ["6.1"],
        {"tensorflow": "2.0", "opencv": "4.2"},
    ),
    # Several cards: one driver for all, one build of OpenCV that holds code for each.
    Row(
        UBUNTU,
        ("GTX 750 Ti", "Quadro P2000"),
        {**STACK_A, "driver": "525.105.17"},
        "nvidia-driver-525",
        ["5.0", "6.1"],
    ),
    Row(
        UBUNTU,
        ("RTX 4090", "Quadro P2000", "RTX 4090"),
        {**STACK_A, "driver": "525.105.17"},
        "nvidia-driver-525",
        ["6.1", "8.9"],
    ),
    Row(UBUNTU, ("H200", "Quadro P2000"), {**STACK_A, "driver": "550.163.01"}, None, ["6.1", "9.0"]),
    Row(
        UBUNTU,
        ("Tesla K80", "Quadro P2000"),
        {**STACK_A, "driver": "470.182.03"},
        "nvidia-driver-470",
        ["3.7", "6.1"],
    ),
    Row(DEBIAN, ("Quadro P2000",), {**STACK_D, "driver": "535.309.01"}, "nvidia-driver", ["6.1"]),
    Row(DEBIAN, ("RTX 4090",), {**STACK_D, "driver": "535.309.01"}, "nvidia-driver", ["8.9"]),
    # Only PTX for 9.0: the driver's own CUDA must be 12.5, and the archive's 535 serves 12.2.
    Row(DEBIAN, ("H200",), {**STACK_D, "driver": "555.58.02"}, None, ["9.0"]),
    # TensorFlow 2.17 and newer hold nothing below 6.0.
    Row(
        DEBIAN,
        ("GTX 750 Ti",),
        {"cuda": "12.3.2", "tensorflow": "2.16.2", "driver": "535.309.01"},
        "nvidia-driver",
        ["5.0"],
    ),
    *(
        Row("debian-13", (card,), {**STACK_D, "driver": "550.163.01"}, "nvidia-driver", [capability])
        for card, capability in (("RTX 2080", "7.5"), ("RTX 3090", "8.6"), ("RTX 4090", "8.9"))
    ),
    Row(UBUNTU, (), {"tensorflow": "2.13.1", "driver": None, "cuda": None, "cudnn": None}, None, []),
    Row(DEBIAN, (), {"tensorflow": "2.21.0", "driver": None, "cuda": None, "cudnn": None}, None, []),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row_comes_out(row: Row) -> None:
    """The stack of the table comes out of rules and data."""
    found = asking.planned(row.platform, *row.cards, **row.asked)
    assert found["status"] == "planned"
    versions = plan.components(found)
    assert {name: versions[name] for name in row.versions} == row.versions
    assert found["opencv"]["cuda_arch_bin"] == row.arch_bin
    assert found["reasons"] == []
    if row.cards:
        assert found["driver"].get("package") == row.package
        assert found["driver"]["source"] == ("archive" if row.package else "runfile")
        assert found["driver"]["kernel_modules"] == "proprietary"
    major, minor = (int(f) for f in str(versions["opencv"]).split(".")[:2])
    assert (major, minor) >= (4, 2)
    assert major == 4  # OpenCV 5 has no Darknet importer
    if row.cards and "opencv" not in row.asked:
        assert minor > 2


@pytest.mark.parametrize("platform", [UBUNTU, DEBIAN])
def test_cpu_plan_is_complete(platform: str) -> None:
    """Without a card both environments are locked, of one wheel each, and nothing of a GPU is in the plan."""
    found = asking.planned(platform)
    assert found["gpus"] == []
    assert found["opencv"]["source"] == "wheel"
    for name in ("opencv", "tensorflow"):
        assert found[name]["environment"], name
        assert len(found[name]["sha256"]) == 64, name
    assert found["tensorflow"]["code"] == {}


def rules_of(found: Json) -> Set[str]:
    """The ids of a refusal's reasons."""
    assert found["status"] == "refused"
    return {reason["rule"] for reason in found["reasons"]}


def told(found: Json) -> str:
    """All a refusal says."""
    rows = [f"{r['text']} {r['needs']}" for r in found["reasons"]]
    return " ".join(rows + [f"{n['change']} {n['gives']}" for n in found["nearest"]])


def test_rtx_5090_is_refused_on_ubuntu() -> None:
    """No toolkit for 18.04 builds for 12.0; the refusal says what would: CUDA 12.8, driver 570 with open
    modules."""
    found = asking.planned(UBUNTU, "RTX 5090")
    assert rules_of(found) == {"cuda-platform", "cuda-builds"}
    assert "12.8.0 or newer" in told(found)
    assert found["card_needs"]["driver"].startswith("570.")
    assert "open kernel modules" in found["card_needs"]["driver"]
    assert found["card_needs"]["cuda"].startswith("12.8.0 to ")


def test_gtx_750_ti_is_refused_opencv_4_2() -> None:
    """Its DNN CUDA backend has a floor of 5.3; 4.3.0 or newer would do."""
    found = asking.planned(UBUNTU, "GTX 750 Ti", opencv="4.2")
    assert rules_of(found) == {"asked-opencv", "opencv-floor"}
    assert "5.3" in told(found)
    assert "OpenCV 4.3.0 or newer" in told(found)
    assert any(n["change"] == "without --opencv 4.2" for n in found["nearest"])


def test_gtx_750_ti_is_refused_tensorflow_2_3() -> None:
    """Those wheels hold no code for 5.0; a P2000 gets them."""
    found = asking.planned(UBUNTU, "GTX 750 Ti", tensorflow="2.3")
    assert rules_of(found) == {"asked-tensorflow", "tensorflow-code"}
    assert "5.0" in told(found)
    assert asking.planned(UBUNTU, "Quadro P2000", tensorflow="2.3")["status"] == "planned"


def test_kepler_and_ada_have_no_driver_in_common() -> None:
    """A mixed host is one host: one driver must serve both cards, and the way out is to take one card out."""
    found = asking.planned(UBUNTU, "Tesla K80", "RTX 4090")
    assert rules_of(found) == {"driver-generation"}
    changes = {n["change"] for n in found["nearest"]}
    assert changes >= {"without the Tesla K80", "without the GeForce RTX 4090"}


def test_blackwell_and_pascal_need_two_kinds_of_modules() -> None:
    """Open modules for one card, proprietary ones for the other: no host has both."""
    assert "driver-flavour" in rules_of(asking.planned(DEBIAN, "RTX 5090", "Quadro P2000"))


def test_fermi_is_refused() -> None:
    """Too old for everything: each component says so."""
    found = rules_of(asking.planned(UBUNTU, "GTX 580"))
    assert found == {"cuda-builds", "cudnn-cards", "tensorflow-code", "opencv-floor"}


SECURE_BOOT = [
    (UBUNTU, "Quadro P2000", True, "signed"),
    (UBUNTU, "Tesla T4", True, "signed"),
    (UBUNTU, "H200", True, "own-key"),
    (DEBIAN, "Quadro P2000", True, "own-key"),
    (UBUNTU, "Quadro P2000", False, None),
    (UBUNTU, "Quadro P2000", None, None),
]


@pytest.mark.parametrize(("platform", "card", "on", "needs"), SECURE_BOOT)
def test_secure_boot(platform: str, card: str, on: Optional[bool], needs: Optional[str]) -> None:
    """Under Secure Boot the archive's signed modules are used where there are any; else an own key must be
    enrolled, and the plan says so."""
    found = asking.planned(platform, card, secure_boot=on)
    assert found["driver"]["secure_boot"] == needs
    notes = " ".join(note["text"] for note in found["notes"])
    assert ("Secure Boot" in notes) == (needs == "own-key")


KERNELS = [
    ("4.15.0-213-generic", "signed"),
    ("5.4.0-150-generic", "signed"),
    ("4.15.0-100-generic", "dkms"),
    ("4.15.0-2130-generic", "dkms"),
    ("4.15.0-213-lowlatency", "dkms"),
    ("4.15.0-213-aws", "dkms"),
    ("5.4.0-213-generic", "dkms"),
    (None, "signed"),
]


@pytest.mark.parametrize(("kernel", "origin"), KERNELS)
def test_kernel_decides_where_modules_come_from(kernel: Optional[str], origin: str) -> None:
    """Prebuilt modules exist for exactly the kernels of the archive, each of the generic flavour; any
    other gets DKMS, which under Secure Boot needs an own key."""
    found = asking.planned(UBUNTU, "Quadro P2000", kernel=kernel, secure_boot=True)
    assert found["driver"]["modules_from"] == origin
    assert found["driver"]["secure_boot"] == ("signed" if origin == "signed" else "own-key")
    assert found["driver"]["version"] == "525.105.17"


@pytest.mark.parametrize(
    ("kernel", "package", "version"),
    [
        ("4.15.0-213-generic", "linux-modules-nvidia-525-generic", "4.15.0-213.224"),
        ("5.4.0-150-generic", "linux-modules-nvidia-525-generic-hwe-18.04", "5.4.0-150.167~18.04.1"),
    ],
)
def test_signed_modules_are_those_of_the_kernel(kernel: str, package: str, version: str) -> None:
    """The plan names the package of prebuilt modules of the kernel that will boot, at its own version."""
    found = asking.planned(UBUNTU, "Quadro P2000", kernel=kernel)
    assert found["driver"]["modules"] == {"package": package, "package_version": version, "kernel": kernel}


@pytest.mark.parametrize(("card", "kernel"), [("Quadro P2000", "4.15.0-100-generic"), ("H200", "5.4.0-150-generic")])
def test_dkms_needs_no_package_of_modules(card: str, kernel: str) -> None:
    """Where the module is built on the host, the plan names none."""
    assert asking.planned(UBUNTU, card, kernel=kernel)["driver"]["modules"] is None


def test_old_kernel_is_refused() -> None:
    """No module compiles for Linux 3.2."""
    found = asking.planned(UBUNTU, "Quadro P2000", kernel="3.2.0-126-generic")
    assert rules_of(found) == {"driver-kernel"}
    assert "3.2.0" in told(found)


def test_old_kernel_takes_an_older_branch() -> None:
    """From branch 555 on a module needs Linux 4.15: an H200 listed since 550 still gets a driver on 3.10."""
    found = asking.planned(UBUNTU, "H200", kernel="3.10.0")
    assert found["driver"]["branch"] == "550"
    assert "driver-kernel" in rules_of(asking.planned(UBUNTU, "H200", kernel="3.10.0", driver=">=555"))


def test_a_blackwell_card_shares_a_newer_cuda_with_tensorflow() -> None:
    """TensorFlow takes a CUDA that builds for the card, no archive of Debian claims it, and 580 is to last."""
    found = asking.planned("debian-13", "RTX 5090")
    versions = {name: found[name]["version"] for name in ("driver", "cuda", "tensorflow")}
    assert versions == {"driver": "580.178.04", "cuda": "12.9.1", "tensorflow": "2.21.0"}
    assert (found["driver"]["source"], found["driver"]["kernel_modules"]) == ("runfile", "open")
    assert found["tensorflow"]["cuda"] is None and found["opencv"]["cuda_arch_bin"] == ["12.0"]


def test_doubt_is_shown() -> None:
    """A plan that rests on something unverified says so: CUDA on Debian is inferred from wheels, OpenCV
    4.12 from fixes."""
    found = asking.planned(DEBIAN, "Quadro P2000", opencv="4.12", tensorflow="2.16")
    doubted = {note["about"] for note in found["notes"] if note["unverified"]}
    assert doubted >= {"cuda", "opencv"}
    sure = asking.planned(UBUNTU, "Quadro P2000")
    assert not [note for note in sure["notes"] if note["unverified"]]


def test_verified_is_preferred_to_newer() -> None:
    """Among OpenCV releases that all fit, one whose bounds were seen comes before a newer one whose were
    guessed."""
    found = asking.planned(UBUNTU, "Quadro P2000")
    assert found["opencv"]["version"] == "4.11.0"
    assert asking.planned(UBUNTU, "Quadro P2000", opencv=">4.11")["opencv"]["version"] == "4.14.0"


def stack_on(change: Callable[[Json], None], request: Request) -> Stack:
    """The stack over a catalog whose archive of 18.04 was changed."""
    drivers = copy.deepcopy(shipped().drivers)
    change({row["package"]: row for row in drivers["archives"][UBUNTU]})
    found = Resolver(replace(shipped(), drivers=drivers)).solve(request)
    assert found is not None
    return found


def test_signed_modules_come_first_under_secure_boot() -> None:
    """With a signed 530 and an unsigned 525, Secure Boot decides for 530; without it 525 stays, being
    nearer to the toolkit. (In the real archive all packages are signed alike.)"""

    def unsign(packages: Json) -> None:
        packages["nvidia-driver-525"]["signed_modules"] = {}
        packages["nvidia-driver-525-server"]["signed_modules"] = {}

    on, off = (asking.request(UBUNTU, "Quadro P2000", secure_boot=state) for state in (True, False))
    chosen = stack_on(unsign, on).driver
    assert chosen is not None
    assert chosen.branch == "530"
    chosen = stack_on(unsign, off).driver
    assert chosen is not None
    assert chosen.branch == "525"


def test_desktop_comes_before_server() -> None:
    """Of two flavours of one release the desktop's is taken, wherever it stands in the list."""

    def swap(packages: Json) -> None:
        desktop, server = packages["nvidia-driver-525"], packages["nvidia-driver-525-server"]
        before = dict(desktop)
        desktop.update(server)
        server.update(before)

    chosen = stack_on(swap, asking.request(UBUNTU, "Quadro P2000")).driver
    assert chosen is not None
    assert chosen.row["package"] == "nvidia-driver-525"


def test_demand_on_a_gpu_part_is_not_dropped_without_a_gpu() -> None:
    """A CUDA asked for on a host without a card is not ignored without a word."""
    found = asking.planned(UBUNTU, cuda="11.8")
    said = found["status"] == "refused" or any("cuda" in note["text"].lower() for note in found["notes"])
    assert said


def test_driver_note_tells_the_real_reason() -> None:
    """On Debian the archive's driver claims an H100: the `.run` is there for the PTX, and the note must
    not say otherwise."""
    found = asking.planned(DEBIAN, "10de:2330")
    assert found["driver"]["source"] == "runfile"
    assert not any("claims every card" in note["text"] for note in found["notes"])
