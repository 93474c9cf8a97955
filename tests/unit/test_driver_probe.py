"""The driver's read side: what the kernel that will boot is going to find."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence, Tuple

import pytest

from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.driver.modules import OWN_SUBJECT
from gpuhost.host.edges import Edges
from gpuhost.host.probe.driver import (
    CERTIFICATE,
    dkms_lines,
    driver,
    listing_loads_nouveau,
    parse_modinfo,
    parse_test_key,
)

from ..recorded import said

KERNEL = "5.4.0-150-generic"
SIGNED = """\
filename:       /lib/modules/5.4.0-150-generic/kernel/nvidia-525/nvidia.ko
firmware:       nvidia/525.105.17/gsp_tu10x.bin
alias:          char-major-195-*
version:        525.105.17
supported:      external
license:        NVIDIA
srcversion:     E2F6B4E3C2D1A0987654321
alias:          pci:v000010DEd*sv*sd*bc06sc80i00*
depends:
retpoline:      Y
name:           nvidia
vermagic:       5.4.0-150-generic SMP mod_unload modversions
sig_id:         PKCS#7
signer:         Canonical Ltd. Kernel Module Signing
sig_key:        88:F7:52:E5
sig_hashalgo:   sha512
parm:           NvSwitchRegDwords:NvSwitch regkey (charp)
"""


class Machine:
    """A root with files, and commands that answer what they are told to."""

    def __init__(self, root: Path) -> None:
        """Nothing is there yet: every command is missing."""
        self.root = root
        self.answers: Dict[Tuple[str, ...], Tuple[int, str, str]] = {}

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """The answer for exactly this command line, or for its first word."""
        words = tuple(word.replace(str(self.root), "") for word in argv)
        return self.answers.get(words, self.answers.get(words[:1], (NOT_FOUND, "", f"{argv[0]} is not installed")))

    def write(self, name: str, text: str = "") -> None:
        """A file of the machine."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def link(self, name: str, target: str) -> None:
        """A symbolic link of the machine."""
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def edges(self) -> Edges:
        """The machine as the probe sees it."""
        return Edges(str(self.root), self.run)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine with kmod."""
    made = Machine(tmp_path)
    made.answers["modinfo",] = said("later-kernel", "modinfo", "nvidia-current")
    made.write("/proc/modules", "ext4 655360 1 - Live 0x0\n")
    return made


def test_a_signed_module_is_read_with_its_signer() -> None:
    """A signed set is only worth something when the signer can be told."""
    assert parse_modinfo(SIGNED) == {
        "path": "/lib/modules/5.4.0-150-generic/kernel/nvidia-525/nvidia.ko",
        "version": "525.105.17",
        "signed": True,
        "signer": "Canonical Ltd. Kernel Module Signing",
        "open": False,
    }
    opened = parse_modinfo("filename: /x/nvidia.ko\nversion: 570.1\nlicense:        Dual MIT/GPL\n")
    assert (opened["open"], opened["signed"], opened["signer"]) == (True, None, "")


def test_debian_names_the_module_otherwise(machine: Machine) -> None:
    """There `nvidia` is an install line of modprobe; only nvidia-current can be asked about."""
    machine.answers["modinfo", "-k", KERNEL, "nvidia-current"] = said("enrolled", "modinfo", "nvidia-current")
    found = driver(machine.edges(), KERNEL)["module"]
    assert found["path"].endswith("/updates/dkms/nvidia-current.ko") and found["signer"].endswith(OWN_SUBJECT)


def test_a_bare_host_has_nothing_and_no_problem(machine: Machine) -> None:
    """Nothing is installed; that is not a failure to read."""
    edges = machine.edges()
    assert driver(edges, KERNEL) == {
        "kernel": KERNEL,
        "module": None,
        "library": None,
        "headers": False,
        "nouveau": {"blacklisted": False, "in_initramfs": None, "loaded": False},
        "kept_out": [],
        "dkms": [],
        "key": {"made": False, "enrolled": None},
        "record": None,
    }
    assert edges.problems == []


def test_without_a_known_kernel_nothing_is_claimed(machine: Machine) -> None:
    """A host with no image in /boot: no module is asked for under a made-up name."""
    machine.answers["modinfo",] = (0, SIGNED, "")
    found = driver(machine.edges(), None)
    assert (found["kernel"], found["module"], found["headers"]) == (None, None, False)


def test_a_missing_modinfo_is_a_problem(machine: Machine) -> None:
    """Else a host without kmod would look like one without a driver."""
    del machine.answers["modinfo",]
    edges = machine.edges()
    assert driver(edges, KERNEL)["module"] is None
    assert [problem["what"] for problem in edges.problems] == ["modinfo"]


def test_the_library_is_found_through_absolute_alternatives(machine: Machine) -> None:
    """Debian's chain of alternatives leads through /etc with absolute links."""
    lib = "/usr/lib/x86_64-linux-gnu"
    machine.link(lib + "/libnvidia-ml.so.1", "/etc/alternatives/glx--libnvidia-ml.so.1")
    machine.link("/etc/alternatives/glx--libnvidia-ml.so.1", lib + "/nvidia/current/libnvidia-ml.so.1")
    machine.link(lib + "/nvidia/current/libnvidia-ml.so.1", "libnvidia-ml.so.535.309.01")
    assert driver(machine.edges(), KERNEL)["library"] is None, "the chain leads nowhere yet"
    machine.write(lib + "/nvidia/current/libnvidia-ml.so.535.309.01")
    assert driver(machine.edges(), KERNEL)["library"] == "535.309.01"


def test_a_dangling_build_link_is_no_headers(machine: Machine) -> None:
    """The kernel's package may leave the link; what it leads to decides whether DKMS can build."""
    machine.link(f"/lib/modules/{KERNEL}/build", f"/usr/src/linux-headers-{KERNEL}")
    assert driver(machine.edges(), KERNEL)["headers"] is False
    machine.write(f"/usr/src/linux-headers-{KERNEL}/Makefile")
    assert driver(machine.edges(), KERNEL)["headers"] is True


def test_what_keeps_the_driver_itself_out_is_named(machine: Machine) -> None:
    """By file and line, in each form of modprobe.d(5); what only keeps a part of it out is nothing of the kind."""
    machine.write(
        "/etc/modprobe.d/a.conf",
        "blacklist nvidia\nblacklist nvidia-drm\n# blacklist nvidia\nalias nvidia off\ninstall nvidia /bin/false\n",
    )
    machine.write("/lib/modprobe.d/a.conf", "blacklist nvidia-current\n")
    machine.write("/lib/modprobe.d/b.conf", "  blacklist nvidia_current_open # x\ninstall nvidia modprobe -i x\n")
    assert driver(machine.edges(), KERNEL)["kept_out"] == [
        {"file": "/etc/modprobe.d/a.conf", "line": "blacklist nvidia"},
        {"file": "/etc/modprobe.d/a.conf", "line": "alias nvidia off"},
        {"file": "/etc/modprobe.d/a.conf", "line": "install nvidia /bin/false"},
        {"file": "/lib/modprobe.d/b.conf", "line": "blacklist nvidia_current_open # x"},
    ]


def test_the_kernels_command_line_keeps_the_driver_out_too(machine: Machine) -> None:
    """Its words, in GRUB's settings too where they stand there; a framebuffer's module is another one."""
    machine.write("/etc/default/grub", '#GRUB_CMDLINE_LINUX="module_blacklist=nvidia"\nGRUB_DEFAULT=0\n')
    words = "modprobe.blacklist=nouveau,nvidia,nvidia_drm"
    machine.write("/etc/default/grub.d/50-x.cfg", f'GRUB_CMDLINE_LINUX="quiet {words}"\n')
    machine.write("/proc/cmdline", "root=/dev/sda1 modprobe.blacklist=nvidiafb,nouveau rd.driver.blacklist=nvidia\n")
    assert driver(machine.edges(), KERNEL)["kept_out"] == [], "what is set counts from the next start on"
    machine.write("/proc/cmdline", f"root=/dev/sda1 {words} module_blacklist=nvidia\n")
    assert driver(machine.edges(), KERNEL)["kept_out"] == [
        {"file": "/proc/cmdline", "line": words},
        {"file": "/proc/cmdline", "line": "module_blacklist=nvidia"},
        {"file": "/etc/default/grub.d/50-x.cfg", "line": words},
    ]


def test_nouveau_is_kept_out_only_by_a_file_in_force(machine: Machine) -> None:
    """A file of the same name in /etc takes the place of the one in /lib."""
    machine.write("/lib/modprobe.d/nvidia.conf", "# keep it out\n  blacklist nouveau # here\n")
    assert driver(machine.edges(), KERNEL)["nouveau"]["blacklisted"] is True
    machine.write("/etc/modprobe.d/nvidia.conf", "# blacklist nouveau\nblacklist nouveau_other\n")
    assert driver(machine.edges(), KERNEL)["nouveau"]["blacklisted"] is False
    machine.write("/proc/modules", "nouveau 1 0 - Live 0x0\n")
    assert driver(machine.edges(), KERNEL)["nouveau"]["loaded"] is True


@pytest.mark.parametrize(
    ("listing", "loads"),
    [
        ("usr/lib/modules/K/kernel/drivers/net/e1000.ko\n", False),
        ("usr/lib/modules/K/kernel/drivers/gpu/drm/nouveau/nouveau.ko\n", True),
        ("lib/modules/K/nouveau.ko.xz\nusr/lib/modprobe.d/other.conf\n", True),
        ("lib/modules/K/nouveau.ko\netc/modprobe.d/gpuhost-nouveau.conf\n", False),
        ("lib/modules/K/nouveau.ko\nusr/share/gpuhost-nouveau.conf\n", True),
    ],
)
def test_the_initramfs_is_read_for_module_and_blacklist(listing: str, loads: bool) -> None:
    """D10: the module in the initramfs is harmless only with the blacklist beside it."""
    assert listing_loads_nouveau(listing, ["gpuhost-nouveau.conf"]) is loads


def test_an_initramfs_that_cannot_be_listed_is_a_problem(machine: Machine) -> None:
    """A damaged image must not look like one without nouveau."""
    machine.write("/boot/initrd.img-" + KERNEL)
    machine.answers["lsinitramfs",] = (1, "", "cpio: premature end of archive")
    edges = machine.edges()
    assert driver(edges, KERNEL)["nouveau"]["in_initramfs"] is None
    assert "premature" in edges.problems[0]["error"]


#: What lsinitrd of dracut 112-7 (Debian testing) prints of an image with these two files, shortened.
DRACUT = """Image: /boot/initrd.img-7.0.0-38-generic: 10M
========================================================================
Version: dracut-112-7

dracut modules:
udev-rules
base
========================================================================
drwxr-xr-x  12 root     root            0 Nov 29 01:39 .
drwxr-xr-x   2 root     root            0 Nov 29 01:39 usr/lib/modules/7.0.0-38-generic/kernel/drivers/gpu/drm/nouveau
-rw-r--r--   1 root     root            2 Nov 29 01:39 usr/lib/modules/7.0.0-38-generic/kernel/nouveau.ko.zst
lrwxrwxrwx   1 root     root            7 Nov 29 01:39 bin -> usr/bin
-rw-r--r--   1 root     root           18 Nov 29 01:39 etc/modprobe.d/gpuhost-nouveau.conf
"""


@pytest.mark.parametrize("blacklisted", [True, False])
def test_dracuts_initramfs_is_read_too(machine: Machine, blacklisted: bool) -> None:
    """Ubuntu 26.04 can have dracut in the place of initramfs-tools, which brings its own program to list an image."""
    machine.write("/boot/initrd.img-" + KERNEL)
    machine.write("/usr/bin/lsinitrd")
    machine.write("/etc/modprobe.d/gpuhost-nouveau.conf", "blacklist nouveau\n")
    said_by_it = DRACUT if blacklisted else DRACUT.replace("gpuhost-nouveau", "other")
    machine.answers["lsinitrd",] = (0, said_by_it, "")
    edges = machine.edges()
    assert driver(edges, KERNEL)["nouveau"]["in_initramfs"] is not blacklisted
    assert [problem for problem in edges.problems if "initr" in problem["what"]] == []


@pytest.mark.parametrize(
    ("text", "enrolled"),
    [
        (said("enrolled", "mokutil", "--test-key", CERTIFICATE)[1], True),
        (said("missed", "mokutil", "--test-key", CERTIFICATE)[1], False),
        (said("pending", "mokutil", "--test-key", CERTIFICATE)[1], False),
        ("EFI variables are not supported on this system\n", None),
    ],
)
def test_the_sentence_of_mokutil_decides(text: str, enrolled: bool) -> None:
    """Its exit status differs between versions. A request alone is not enrolled (D12)."""
    assert parse_test_key(text) is enrolled


def test_both_forms_of_dkms_status(machine: Machine) -> None:
    """dkms 2 separates with a comma, dkms 3 with a slash; other modules are left out."""
    lines = [
        "nvidia, 525.105.17, 5.4.0-150-generic, x86_64: installed",
        "nvidia-current/535.309.01, 6.1.0, x86_64: added",
    ]
    machine.answers["dkms",] = (0, "\n".join([*lines, "virtualbox/7.0, 6.1.0: installed"]) + "\n", "")
    assert dkms_lines(machine.edges()) == lines


def test_a_damaged_record_is_named(machine: Machine) -> None:
    """It is neither taken for a record nor for none."""
    machine.write("/opt/gpuhost/state/driver.json", '{"schema": 1, "version": "525.105.17"}')
    assert driver(machine.edges(), KERNEL)["record"] == {"schema": 1, "version": "525.105.17"}
    machine.write("/opt/gpuhost/state/driver.json", '{"schema"')
    edges = machine.edges()
    assert driver(edges, KERNEL)["record"] is None
    assert edges.problems[0]["what"] == "/opt/gpuhost/state/driver.json"
