"""The hold set from the answers of dpkg, and the two files that the guard writes, there and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict

import pytest

from gpuhost.host.guard import rules as guard

KERNEL = "5.4.0-150-generic"
LISTING = (Path(__file__).resolve().parents[1] / "data" / "guard" / "installed.txt").read_text(encoding="utf-8")
#: What must not move: written out once, because it is the claim.
STACK = {
    "libnvidia-common-525",
    "libnvidia-compute-525",
    "linux-generic-hwe-18.04",
    "linux-headers-5.4.0-150",
    "linux-headers-5.4.0-150-generic",
    "linux-headers-generic-hwe-18.04",
    "linux-image-5.4.0-150-generic",
    "linux-image-generic-hwe-18.04",
    "linux-modules-5.4.0-150-generic",
    "linux-modules-nvidia-525-5.4.0-150-generic",
    "linux-modules-nvidia-525-generic-hwe-18.04",
    "nvidia-driver-520",
    "nvidia-driver-525",
    "nvidia-settings",
    "nvidia-utils-525",
}


def installed(more: str = "") -> Dict[str, guard.Package]:
    """The written packages, and some more lines."""
    packages, unread = guard.parse_listing(LISTING + more, "amd64")
    assert unread == []
    return packages


def line(name: str, arch: str = "amd64", source: str = "", version: str = "1", depends: str = "") -> str:
    """One more package in the form of dpkg-query."""
    return f"{name}\t{arch}\t{source or name}\t{version}\tinstall\tinstalled\t, {depends}\n"


def test_the_hold_set_is_the_driver_its_kernel_and_what_would_bring_another() -> None:
    """The other kernel, its metapackages, and what only uses the driver stay free."""
    assert set(guard.stack(installed(), KERNEL)) == STACK
    assert guard.stack(installed(), KERNEL)["nvidia-driver-525"] == "525.105.17-0ubuntu0.18.04.1"


def test_without_a_kernel_it_is_the_driver() -> None:
    """verify/ reads a host before anybody has noted a kernel; the signed modules are the driver's."""
    assert set(guard.stack(installed(), None)) == {name for name in STACK if "nvidia" in name}


def test_a_driver_package_is_known_by_its_source_when_its_name_says_nothing() -> None:
    """Debian's names carry no branch: libcuda1, firmware-nvidia-gsp, update-glx."""
    more = line("libcuda1", source="nvidia-graphics-drivers") + line("update-glx", source="glx-alternatives")
    assert {"libcuda1", "update-glx"} <= set(guard.stack(installed(more), KERNEL))


def test_toolkits_are_not_the_driver() -> None:
    """They follow the driver's version; their updates are welcome."""
    more = line("nvidia-cuda-toolkit") + line("libnvidia-container1", source="libnvidia-container")
    assert set(guard.stack(installed(more), KERNEL)) == STACK


def test_another_architecture_is_held_by_its_full_name() -> None:
    """A 32-bit library of the driver has to stay at the version of the 64-bit one."""
    more = line("libnvidia-compute-525", "i386", "nvidia-graphics-drivers-525", "525.105.17-0ubuntu0.18.04.1")
    assert "libnvidia-compute-525:i386" in guard.stack(installed(more), KERNEL)


@pytest.mark.parametrize(
    ("name", "kernel", "expected"),
    [
        ("linux-image-6.1.0-50-amd64", "6.1.0-50-amd64", True),
        ("linux-headers-6.1.0-50-common", "6.1.0-50-amd64", True),
        ("linux-hwe-5.4-headers-5.4.0-150", KERNEL, True),
        ("linux-image-unsigned-5.4.0-150-generic", KERNEL, True),
        ("linux-modules-extra-5.4.0-150-generic", KERNEL, True),
        ("linux-image-5.4.0-150-lowlatency", KERNEL, False),
        ("linux-image-5.4.0-15-generic", KERNEL, False),
        ("linux-tools-5.4.0-150-generic", KERNEL, False),
        ("linux-image-6.1.0-50-cloud-amd64", "6.1.0-50-amd64", False),
    ],
)
def test_a_kernel_s_packages(name: str, kernel: str, expected: bool) -> None:
    """Exactly this kernel, in both distributions' manner of naming."""
    assert guard.is_of_kernel(name, kernel) is expected


def test_removed_packages_are_not_installed() -> None:
    """dpkg lists what it still has the configuration files of."""
    gone = "nvidia-driver-515\tamd64\tx\t1\tdeinstall\tconfig-files\t, \n"
    assert "nvidia-driver-515" not in installed(gone)


def test_a_line_that_cannot_be_read_is_said() -> None:
    """Guarding half of the packages is worse than saying so."""
    assert guard.parse_listing("broken line\n", "amd64") == ({}, ["broken line"])


def test_the_pins_are_read_back_as_they_were_written() -> None:
    """And nothing else of the file is taken for a pin."""
    pins = guard.stack(installed(), KERNEL)
    assert guard.parse_preferences(guard.preferences(pins)) == pins
    assert guard.parse_preferences("Package: *\nPin: release a=bionic\nPin-Priority: 1001\n") == {}


def test_the_exact_version_comes_before_the_ban() -> None:
    """apt takes the first record that speaks of a version."""
    text = guard.preferences({"nvidia-driver-525": "1.0"})
    assert text.index("Pin: version 1.0") < text.index("Pin: version *")


def test_the_blacklist_is_anchored_and_escaped() -> None:
    """unattended-upgrades matches from the start of a name; without an end, linux-generic would stop every meta."""
    names = sorted(STACK)
    text = guard.unattended(names)
    assert guard.parse_unattended(text) == names
    entries = re.findall(r'"(\S+)"', text)
    assert len(entries) == len(names)
    for entry, name in zip(entries, names):
        others = {*names, name + "-x", name.replace(".", "x")}
        assert [other for other in sorted(others) if re.match(entry, other)] == [name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nvidia-driver-530", True),
        ("libnvidia-gl-525-server", True),
        ("nvidia-headless-no-dkms-535-server-open", True),
        ("nvidia-384", True),
        ("linux-modules-nvidia-525-generic", True),
        ("xserver-xorg-video-nvidia-525", True),
        ("nvidia-tesla-470-driver", True),
        ("nvidia-kernel-dkms", True),
        ("nvidia-container-toolkit", False),
        ("nvidia-cuda-toolkit", False),
        ("libnvidia-container1", False),
        ("nvidia-docker2", False),
    ],
)
def test_the_family_by_name(name: str, expected: bool) -> None:
    """What is not installed is kept out by its name alone, so the name has to say it."""
    assert guard.is_family(name) is expected


def test_no_other_branch_of_the_driver_may_come() -> None:
    """Each pattern of the family, and every other version of what is held, stands at -1 after the pins (D04)."""
    text = guard.preferences({"nvidia-driver-525": "1"})
    records = [dict(line.split(": ", 1) for line in part.splitlines() if ": " in line) for part in text.split("\n\n")]
    refused = [r["Package"] for r in records if (r.get("Pin"), r.get("Pin-Priority")) == ("version *", "-1")]
    assert refused == ["nvidia-driver-525", *(f"/{pattern}/" for pattern in guard.FAMILY)]
    others = (
        "nvidia-driver-535",
        "libnvidia-compute-470",
        "linux-modules-nvidia-510-5.4.0-150-generic",
        "libcuda1-390",
    )
    for name in others:
        assert any(re.search(pattern.strip("/"), name) for pattern in refused[1:]), name
