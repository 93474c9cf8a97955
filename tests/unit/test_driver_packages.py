"""The exact set: what apt's simulation says, and what of it is refused. The texts are apt's own, shortened."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional, Tuple

import pytest

from gpuhost.host.driver import packages
from gpuhost.host.driver.packages import Change, parse_installed, parse_show, parse_simulation, refusals

BIONIC = "525.105.17-0ubuntu0.18.04.1"
KERNEL = "5.4.0-150-generic"
SIGNED: Dict[str, Any] = {
    "version": "525.105.17",
    "source": "archive",
    "branch": "525",
    "kernel_modules": "proprietary",
    "modules_from": "signed",
    "secure_boot": None,
    "package": "nvidia-driver-525",
    "package_version": BIONIC,
    "component": "restricted",
    "modules_package": "linux-modules-nvidia-525",
    "sha256": "a" * 64,
    "modules": {
        "package": "linux-modules-nvidia-525-generic-hwe-18.04",
        "package_version": "5.4.0-150.167~18.04.1",
        "kernel": KERNEL,
    },
}
DEBIAN: Dict[str, Any] = {
    "version": "535.309.01",
    "source": "archive",
    "branch": "535",
    "kernel_modules": "proprietary",
    "modules_from": "dkms",
    "package": "nvidia-driver",
    "package_version": "535.309.01-0+deb12u1",
    "component": "non-free",
    "sha256": "6f" * 32,
}
RUNFILE: Dict[str, Any] = {
    "version": "550.163.01",
    "source": "runfile",
    "branch": "550",
    "kernel_modules": "proprietary",
    "modules_from": "dkms",
    "sha256": "e" * 64,
    "size": 307143336,
}
# apt 1.6 of Ubuntu 18.04 and apt 2.6 of Debian 12 print the same form.
SIMULATED = f"""\
NOTE: This is only a simulation!
Reading package lists...
Remv nvidia-driver-470 [470.182.03-0ubuntu0.18.04.1]
Remv libnvidia-gl-470 [470.182.03-0ubuntu0.18.04.1] [libfoo:amd64 ]
Inst libnvidia-common-525 ({BIONIC} Ubuntu:18.04/bionic-updates, Ubuntu:18.04/bionic-security [all])
Inst libnvidia-gl-525 ({BIONIC} Ubuntu:18.04/bionic-updates, Ubuntu:18.04/bionic-security [amd64]) []
Inst libxau6:amd64 [1:1.0.8-1] (1:1.0.9-1 Ubuntu:18.04/bionic [amd64])
Inst nvidia-driver-525 ({BIONIC} Ubuntu:18.04/bionic-updates [amd64])
Conf libnvidia-common-525 ({BIONIC} Ubuntu:18.04/bionic-updates [all])
"""
SHOWN = f"""\
Package: nvidia-driver-525
Architecture: amd64
Version: {BIONIC}
Source: nvidia-graphics-drivers-525
Installed-Size: 1203
Description-en: NVIDIA driver metapackage
 Source: not a field

Filename: pool/restricted/n/nvidia-graphics-drivers-525/nvidia-driver-525_{BIONIC}_amd64.deb
"""


def shown(name: str, version: str, source: str, **more: str) -> str:
    """One stanza as apt-cache show prints it."""
    fields = {"Package": name, "Version": version, "Source": source, "Architecture": "amd64", **more}
    return "".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n"


def ours(name: str, version: str = BIONIC, label: str = "Ubuntu") -> Change:
    """A package that apt would install from Ubuntu's archive."""
    return Change(name, version, "", (label,))


def judged(
    install: List[Change], remove: List[Change], driver: Dict[str, Any] = SIGNED, sources: str = ""
) -> List[str]:
    """The refusals, where each package is of the source given for it, else of 525's."""
    named = dict(pair.split("=") for pair in sources.split())
    text = "".join(
        shown(c.name, c.new, named.get(c.name, "nvidia-graphics-drivers-525"), SHA256="a" * 64)
        for c in [*install, Change(str(driver.get("package")), str(driver.get("package_version")), "", ())]
    )
    return refusals(install, remove, parse_show(text), driver, "ubuntu")


def test_the_simulation_is_read_with_old_versions_and_origins() -> None:
    """What comes, what goes, and from which archive each comes."""
    install, remove = parse_simulation(SIMULATED)
    assert [c.name for c in install] == ["libnvidia-common-525", "libnvidia-gl-525", "libxau6", "nvidia-driver-525"]
    assert install[1] == Change("libnvidia-gl-525", BIONIC, "", ("Ubuntu", "Ubuntu"))
    assert install[2] == Change("libxau6", "1:1.0.9-1", "1:1.0.8-1", ("Ubuntu",))
    assert [(c.name, c.old) for c in remove] == [
        ("nvidia-driver-470", "470.182.03-0ubuntu0.18.04.1"),
        ("libnvidia-gl-470", "470.182.03-0ubuntu0.18.04.1"),
    ]


def test_debians_simulation_and_local_files() -> None:
    """Two archives with two labels, and a .deb of our own cache."""
    text = (
        "Inst nvidia-legacy-check (535.309.01-0+deb12u1 Debian-Security:12/oldstable-security [amd64])\n"
        "Inst update-glx (1.2.2 Debian:12.15/oldstable [amd64])\n"
        "Inst nvidia-smi (535.309.01-0+deb12u1 local-deb [amd64])\n"
    )
    assert [c.origins for c in parse_simulation(text)[0]] == [("Debian-Security",), ("Debian",), ("local-deb",)]


def test_the_locked_set_passes() -> None:
    """The driver, its libraries, and another branch of the driver that goes."""
    install, remove = parse_simulation(SIMULATED)
    assert judged(install, remove, sources="libxau6=libxau") == []


@pytest.mark.parametrize(
    ("install", "remove", "words"),
    [
        ([], [Change("virtualbox-dkms", "", "5.2", ())], "remove virtualbox-dkms 5.2"),
        ([ours("libnvidia-gl-525", "525.125.06-0ubuntu0.18.04.1")], [], "the lock has 525.105.17"),
        (
            [ours("libnvidia-gl-525", label="Proprietary GPU Drivers")],
            [],
            "Proprietary GPU Drivers, not from ubuntu. (D06)",
        ),
        ([Change("libxau6", "1:1.0.9-1", "", ())], [], "from no archive"),
        ([ours("linux-image-5.4.0-152-generic", "5.4.0-152.169")], [], "another kernel"),
        ([ours("nvidia-dkms-525")], [], "the lock names signed modules"),
    ],
)
def test_what_is_not_the_locked_driver_is_refused(install: List[Change], remove: List[Change], words: str) -> None:
    """One thing too many, one reason."""
    found = judged(install, remove, sources="libxau6=libxau linux-image-5.4.0-152-generic=linux-signed")
    assert len(found) == 1
    assert words in found[0]


def test_another_branch_is_refused() -> None:
    """D04: a transitional package that jumps to another branch."""
    found = judged(
        [ours("libnvidia-gl-530", "530.41.03-0ubuntu0.18.04.2")],
        [],
        sources="libnvidia-gl-530=nvidia-graphics-drivers-530",
    )
    assert found == [
        "libnvidia-gl-530 530.41.03-0ubuntu0.18.04.2 is of another branch (nvidia-graphics-drivers-530). (D04)"
    ]


def test_tools_beside_the_driver_have_versions_of_their_own() -> None:
    """nvidia-settings and nvidia-prime are of other sources and are not a branch."""
    install = [ours("nvidia-settings", "440.82-0ubuntu0.18.04.1"), ours("nvidia-prime", "0.8.16~0.18.04.1")]
    assert judged(install, [], sources="nvidia-settings=nvidia-settings nvidia-prime=nvidia-prime") == []


def test_nothing_of_the_archives_driver_comes_beside_a_runfile() -> None:
    """Never both."""
    found = judged([ours("libnvidia-compute-525"), ours("dkms", "2.3")], [], driver=RUNFILE)
    assert found == ["apt would install libnvidia-compute-525 beside the .run."]


def test_what_is_asked_of_apt() -> None:
    """Signed modules by their package for exactly this kernel; DKMS with its headers; Debian's CUDA library."""
    assert packages.wanted_names(SIGNED, KERNEL, "ubuntu") == [
        f"nvidia-driver-525={BIONIC}",
        "linux-modules-nvidia-525-generic-hwe-18.04=5.4.0-150.167~18.04.1",
        "linux-modules-nvidia-525-5.4.0-150-generic",
    ]
    built = dict(SIGNED, modules_from="dkms", modules=None)
    assert packages.wanted_names(built, KERNEL, "ubuntu")[1:] == [
        f"nvidia-dkms-525={BIONIC}",
        f"linux-headers-{KERNEL}",
    ]
    version = DEBIAN["package_version"]
    asked = packages.wanted_names(DEBIAN, "6.1.0-56-amd64", "debian")
    assert asked[:3] == [f"nvidia-driver={version}", f"nvidia-kernel-dkms={version}", "linux-headers-6.1.0-56-amd64"]
    assert f"libcuda1={version}" in asked and f"nvidia-smi={version}" in asked


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("nvidia-driver-525", False),
        ("nvidia-driver-525-server", True),
        ("libnvidia-compute-470", True),
        ("linux-modules-nvidia-525-5.4.0-150-generic", False),
        ("linux-modules-nvidia-530-5.4.0-150-generic", True),
        ("linux-objects-nvidia-470-server-5.4.0-150-generic", True),
        ("linux-signatures-nvidia-5.4.0-150-generic", False),
        ("xserver-xorg-video-nvidia-390", True),
        ("nvidia-prime", False),
        ("nvidia-settings", False),
        ("linux-headers-5.4.0-150-generic", False),
        ("libnvidia-gl-470:i386", True),
    ],
)
def test_which_packages_are_of_another_branch(name: str, other: bool) -> None:
    """What must go before the locked branch; the kernel's own number is not a branch."""
    assert packages.other_branch(name, SIGNED, "ubuntu") is other


@pytest.mark.parametrize(
    ("name", "modules", "leads"),
    [
        ("linux-modules-nvidia-525-generic-hwe-18.04", f"linux-modules-nvidia-525-{KERNEL}", True),
        ("linux-modules-nvidia-525-generic-hwe-18.04", None, True),
        ("linux-modules-nvidia-525-generic-hwe-18.04", "linux-modules-nvidia-525-generic-hwe-18.04", False),
        ("linux-modules-nvidia-525-aws", "linux-modules-nvidia-525-generic-hwe-18.04", False),
        (f"linux-modules-nvidia-525-{KERNEL}", f"linux-modules-nvidia-525-{KERNEL}", False),
        ("linux-modules-nvidia-525-5.4.0-152-generic", f"linux-modules-nvidia-525-{KERNEL}", False),
        ("linux-modules-nvidia-470-generic-hwe-18.04", f"linux-modules-nvidia-525-{KERNEL}", False),
        ("nvidia-driver-525", f"linux-modules-nvidia-525-{KERNEL}", False),
    ],
)
def test_which_packages_lead_to_another_kernel(name: str, modules: Optional[str], leads: bool) -> None:
    """Those that follow the newest kernel, where the lock takes the modules for one kernel by name, or builds them."""
    how = {"modules_from": "signed", "modules": dict(SIGNED["modules"], package=modules)} if modules else {}
    built = {"modules_from": "dkms", "modules": None}
    assert packages.leads_elsewhere(name, {**SIGNED, **(how or built)}) is leads
    assert not packages.leads_elsewhere(name, DEBIAN) and not packages.leads_elsewhere(name, RUNFILE)


@pytest.mark.parametrize(
    ("locked", "name", "other"),
    [
        ("580-open", "libnvidia-compute-580", False),
        ("580-open", "nvidia-kernel-common-580", False),
        ("580-open", "nvidia-firmware-580-580.178.04", False),
        ("580-open", "nvidia-dkms-580-open", False),
        ("580-open", "nvidia-dkms-580", True),
        ("580-open", "nvidia-kernel-source-580", True),
        ("580-open", "nvidia-driver-580", True),
        ("580-open", "nvidia-headless-no-dkms-580", True),
        ("580-open", "linux-modules-nvidia-580-7.0.0-38-generic", True),
        ("580-open", "linux-modules-nvidia-580-open-7.0.0-38-generic", False),
        ("580-open", "linux-objects-nvidia-580-open-7.0.0-38-generic", False),
        ("580-open", "linux-modules-nvidia-580-open-generic-hwe-24.04", False),
        ("580-open", "libnvidia-compute-580-server", True),
        ("580", "nvidia-driver-580-open", True),
        ("580", "linux-modules-nvidia-580-open-generic-7.0", True),
        ("580", "linux-modules-nvidia-580-generic-7.0", False),
        ("580", "linux-signatures-nvidia-7.0.0-38-generic", False),
        ("580-server-open", "libnvidia-compute-580-server", False),
        ("580-server-open", "nvidia-dkms-580-server-open", False),
        ("580-server-open", "nvidia-dkms-580-server", True),
        ("580-server-open", "libnvidia-compute-580", True),
        ("580-server", "nvidia-dkms-580-server-open", True),
        ("580-server", "nvidia-firmware-580-server-580.178.04", False),
    ],
)
def test_the_other_kind_of_module_is_another_branch_and_its_libraries_are_not(
    locked: str, name: str, other: bool
) -> None:
    """What is only in one kind says so in its name; libraries and firmware serve both kinds and do not."""
    driver = dict(SIGNED, package=f"nvidia-driver-{locked}", branch="580")
    assert packages.other_branch(name, driver, "ubuntu") is other


def test_a_runfile_lets_no_package_of_the_driver_stay() -> None:
    """Whatever its branch; the tools beside it may stay."""
    assert packages.other_branch("nvidia-driver-525", RUNFILE, "ubuntu")
    assert packages.other_branch("libcuda1", RUNFILE, "debian")
    assert not packages.other_branch("nvidia-prime", RUNFILE, "ubuntu")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("libcuda1", True),
        ("libcuda1:i386", True),
        ("nvidia-smi", True),
        ("linux-modules-nvidia-525-5.4.0-150-generic", True),
        ("nvidia-container-toolkit", False),
        ("libnvidia-container1", False),
        ("nvidia-cuda-toolkit", False),
        ("libnvidia-ml-dev", False),
        ("nvidia-docker2", False),
        ("nvidia-settings", False),
        ("cuda-toolkit-11-8", False),
    ],
)
def test_what_only_has_the_name_is_no_driver(name: str, family: bool) -> None:
    """A container toolkit that is purged with the driver would be somebody's outage."""
    assert packages.is_family(name) is family


def test_the_show_is_read_by_name_and_version() -> None:
    """A continuation line is not a field; an epoch is not part of a file's name."""
    text = SHOWN.replace("\n\nFilename", "\nSHA256: " + "a" * 64 + "\nSize: 4242\nFilename")
    text += "\n" + shown("libxau6", "1:1.0.9-1", "libxau (1.0.9)", SHA256="b" * 64)
    found = parse_show(text)
    assert found["nvidia-driver-525", BIONIC] == {
        "source": "nvidia-graphics-drivers-525",
        "arch": "amd64",
        "sha256": "a" * 64,
        "size": 4242,
        "unpacked": 1203 * 1024,
        "file": f"nvidia-driver-525_{BIONIC}_amd64.deb",
    }
    assert found["libxau6", "1:1.0.9-1"]["file"] == "libxau6_1.0.9-1_amd64.deb"
    assert found["libxau6", "1:1.0.9-1"]["source"] == "libxau"


def test_dpkgs_own_record_does_not_hide_the_archives() -> None:
    """An installed version is shown twice, once without a checksum."""
    text = shown("a", "1", "a", SHA256="a" * 64) + shown("a", "1", "a")
    assert parse_show(text)["a", "1"]["sha256"] == "a" * 64


def test_dpkgs_rows() -> None:
    """Held, half configured and broken are told apart; another architecture keeps its name."""
    text = (
        "nvidia-driver-525\t525.1\tnvidia-graphics-drivers-525\thold ok installed\n"
        "libnvidia-gl-525:amd64\t525.1\tnvidia-graphics-drivers-525\tinstall ok half-configured\n"
        "libc6:i386\t2.27\tglibc\tinstall reinstreq half-installed\n"
    )
    rows = parse_installed(text)
    assert rows["nvidia-driver-525"]["held"] and not rows["libnvidia-gl-525"]["held"]
    assert packages.installed_version(rows, "nvidia-driver-525") == "525.1"
    assert packages.installed_version(rows, "libnvidia-gl-525") is None
    assert rows["libc6:i386"]["broken"]


@pytest.mark.parametrize(
    ("branch", "kind", "known", "option"),
    [
        ("550", "proprietary", "", None),
        ("550", "open", "", "-m=kernel-open"),
        ("560", "proprietary", "", "-m=kernel"),
        ("570", "open", "", "--kernel-module-type=open"),
        ("580", "proprietary", "", "--kernel-module-type=proprietary"),
        ("550", "proprietary", "  --skip-module-load\n      Skip the test load", "--skip-module-load"),
    ],
)
def test_the_installers_options(branch: str, kind: str, known: str, option: str) -> None:
    """The kind of module is asked for where it is not the installer's own choice; the kernel is the one that boots."""
    options = packages.runfile_options(dict(RUNFILE, branch=branch, kernel_modules=kind), KERNEL, known)
    always = {"--silent", "--no-questions", "--dkms", "--no-x-check", "--no-nouveau-check"}
    always |= {f"--kernel-name={KERNEL}", f"--kernel-source-path=/lib/modules/{KERNEL}/build"}
    assert set(options) == always | ({option} if option else set())


def test_another_plan_or_kernel_has_another_digest() -> None:
    """The record of one must not be taken for the other's; the order of keys does not matter."""
    turned: Tuple[Any, ...] = tuple(reversed(list(SIGNED.items())))
    assert packages.digest(SIGNED, KERNEL) == packages.digest(dict(turned), KERNEL)
    assert packages.digest(SIGNED, KERNEL) != packages.digest(SIGNED, "5.4.0-152-generic")
    assert packages.digest(SIGNED, KERNEL) != packages.digest(dict(copy.deepcopy(SIGNED), sha256="b" * 64), KERNEL)


def test_the_difference_lists_both_sides() -> None:
    """An upgrade stands on both, a removal before, a new package after."""
    install, remove = parse_simulation(SIMULATED)
    before, after = packages.listing(install, remove)
    assert "libxau6 1:1.0.8-1\n" in before and "libxau6 1:1.0.9-1\n" in after
    assert "nvidia-driver-470" in before and "nvidia-driver-470" not in after
