"""Which kernel boots: GRUB's menu, its settings and saved entry, systemd-boot, and names of kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

import pytest

from gpuhost.host.edges import Edges
from gpuhost.host.guard import rules
from gpuhost.host.parse.boot import choose, parse_grub_default, parse_grub_menu
from gpuhost.host.parse.kernels import headers_package, is_kernel_package, of_the_archive
from gpuhost.host.probe.boot import NEWEST, boots
from gpuhost.host.probe.machine import read_kernel

OLD, NEW = "4.15.0-213-generic", "5.4.0-150-generic"
VARIABLE = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


def menu(default: str) -> str:
    """A menu in the form that grub-mkconfig writes."""

    def entry(title: str, identity: str, kernel: str, indent: str) -> str:
        return (
            f"{indent}menuentry '{title}' --class ubuntu --class os $menuentry_id_option '{identity}' {{\n"
            f"{indent}\trecordfail\n{indent}\tif [ x$feature = xy ]; then\n{indent}\t  search --set=root u\n"
            f"{indent}\tfi\n{indent}\tlinux\t/boot/vmlinuz-{kernel} root=UUID=u ro\n"
            f"{indent}\tinitrd\t/boot/initrd.img-{kernel}\n{indent}}}\n"
        )

    return (
        'if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nif [ "${next_entry}" ] ; then\n'
        '   set default="${next_entry}"\n   set next_entry=\n   save_env next_entry\nelse\n'
        f'   set default="{default}"\nfi\nfunction recordfail {{\n  set recordfail=1\n}}\n'
        + entry("Ubuntu", "gnulinux-simple-u", NEW, "")
        + "submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-u' {\n"
        + "".join(
            entry(f"Ubuntu, with Linux {kernel}{more}", f"gnulinux-{kernel}-{kind}-u", kernel, "\t")
            for kernel in (NEW, OLD)
            for more, kind in (("", "advanced"), (" (recovery mode)", "recovery"))
        )
        + "}\nmenuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {\n\tfwsetup\n}\n"
    )


@pytest.mark.parametrize(
    ("default", "kernel"),
    [
        ("0", NEW),
        ("1>2", OLD),
        ("1", NEW),
        (f"Advanced options for Ubuntu>Ubuntu, with Linux {OLD}", OLD),
        (f"gnulinux-advanced-u>gnulinux-{OLD}-advanced-u", OLD),
        ("a title that is not there", NEW),
        ("2", None),
    ],
)
def test_a_menu_and_its_default(default: str, kernel: Optional[str]) -> None:
    """Numbers, titles and ids down the submenu; what is not there is GRUB's first entry; firmware is not a kernel."""
    text = menu(default)
    assert parse_grub_default(text) == default
    entry = choose(parse_grub_menu(text), default)
    assert entry is not None and entry.kernel == kernel


SAVED = f"# GRUB Environment Block\nsaved_entry=gnulinux-advanced-u>gnulinux-{OLD}-advanced-u\n####\n"
PINNED = f'GRUB_DEFAULT="Advanced options for Ubuntu>Ubuntu, with Linux {OLD}"\n'
LOADER = {
    "/boot/efi/loader/loader.conf": "timeout 3\n#default x\ndefault old*\n",
    "/boot/efi/loader/entries/new.conf": f"title New\nversion {NEW}\nlinux /vmlinuz-{NEW}\n",
    "/boot/efi/loader/entries/old.conf": f"title Old\nlinux /boot/vmlinuz-{OLD}\n",
}


def lay(root: Path, files: Dict[str, str]) -> None:
    """Write files below a root: a name without a folder is one of systemd-boot's variables."""
    for name, text in files.items():
        path = root / (name if name.startswith("/") else f"/sys/firmware/efi/efivars/{name}{VARIABLE}").lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if name.startswith("/") else b"\6\0\0\0" + (text + "\0").encode("utf-16-le"))


@pytest.mark.parametrize(
    ("files", "kernel", "by"),
    [
        ({}, NEW, NEWEST),
        ({"/boot/grub/grub.cfg": menu("0")}, NEW, "/boot/grub/grub.cfg"),
        ({"/boot/grub/grub.cfg": menu("1>2"), "/etc/default/grub": "GRUB_DEFAULT=0\n"}, OLD, "/boot/grub/grub.cfg"),
        ({"/boot/grub/grub.cfg": menu("${saved_entry}"), "/boot/grub/grubenv": SAVED}, OLD, "/boot/grub/grubenv"),
        ({"/boot/grub/grub.cfg": menu("${saved_entry}")}, NEW, "/boot/grub/grub.cfg"),
        ({"/boot/grub/grub.cfg": menu("0"), "/boot/grub/grubenv": "next_entry=1>2\n"}, OLD, "/boot/grub/grubenv"),
        ({"/boot/grub/grub.cfg": menu("2")}, None, "/boot/grub/grub.cfg"),
        ({"/etc/default/grub": "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\n"}, NEW, NEWEST),
        ({"/etc/default/grub": PINNED}, OLD, "/etc/default/grub"),
        (
            {"/etc/default/grub": "GRUB_DEFAULT=0\n", "/etc/default/grub.d/50-cloud.cfg": PINNED},
            OLD,
            "/etc/default/grub",
        ),
        ({"/etc/default/grub": "GRUB_DEFAULT=saved\n", "/boot/grub/grubenv": SAVED}, OLD, "/boot/grub/grubenv"),
        ({"/etc/default/grub": "GRUB_DEFAULT=saved\n"}, NEW, NEWEST),
        ({"/etc/default/grub": "GRUB_DEFAULT=3\n"}, None, "/etc/default/grub"),
        ({**LOADER, "LoaderInfo": "systemd-boot 249"}, OLD, "/boot/efi/loader/loader.conf"),
        (
            {**LOADER, "LoaderInfo": "systemd-boot 259", "LoaderEntryDefault": "new.conf"},
            NEW,
            f"/LoaderEntryDefault{VARIABLE}",
        ),
        (
            {**LOADER, "LoaderInfo": "systemd-boot 257", "LoaderEntryOneShot": "new.conf", "LoaderEntryDefault": "old"},
            NEW,
            f"/LoaderEntryOneShot{VARIABLE}",
        ),
        ({**LOADER, "/boot/efi/loader/loader.conf": "timeout 3\n", "LoaderInfo": "systemd-boot 255"}, NEW, "new.conf"),
        (LOADER, NEW, NEWEST),
    ],
)
def test_what_chooses_the_kernel(tmp_path: Path, files: Dict[str, str], kernel: Optional[str], by: str) -> None:
    """The loader that started the machine, its own files first; a choice that cannot be told is a problem."""
    lay(tmp_path, files)
    edges = Edges(str(tmp_path), lambda argv, timeout: (127, "", ""))
    found = boots(edges, [OLD, NEW])
    assert found.kernel == kernel
    assert found.by.endswith(by)
    assert bool(edges.problems) is (kernel is None)


#: What dpkg and dkms leave of a kernel that was purged: depmod's files, and a module that no package owns.
LEFTOVER = "6.5.0-45-generic"


@pytest.mark.parametrize(
    "files",
    [
        {"/etc/default/grub": PINNED},
        {name: text for name, text in LOADER.items() if not name.endswith("/new.conf")},
    ],
)
def test_what_a_purged_kernel_left_is_not_a_kernel(tmp_path: Path, files: Dict[str, str]) -> None:
    """Neither the newest, which a choice would pass over, nor one of systemd-boot's entries."""
    more = {
        f"/lib/modules/{LEFTOVER}/modules.dep": "",
        f"/lib/modules/{LEFTOVER}/updates/dkms/nvidia.ko": "",
        f"/lib/modules/{OLD}/modules.dep": "",
        f"/boot/vmlinuz-{OLD}": "",
        "/boot/efi/loader/entries/leftover.conf": f"title Left\nlinux /vmlinuz-{LEFTOVER}\n",
        "/boot/efi/loader/loader.conf": "timeout 3\n",
        "/proc/sys/kernel/osrelease": f"{OLD}\n",
    }
    loader = {"LoaderInfo": "systemd-boot 255"} if "/etc/default/grub" not in files else {}
    lay(tmp_path, {**files, **more, **loader})
    edges = Edges(str(tmp_path), lambda argv, timeout: (127, "", ""))
    found = read_kernel(edges)
    assert (found["installed"], found["boots"]) == ([OLD], OLD)
    assert edges.problems == []


def test_a_kernel_whose_image_is_beside_its_modules_can_boot(tmp_path: Path) -> None:
    """Arch and Fedora keep it there, and name the one in /boot otherwise, or not at all."""
    lay(tmp_path, {f"/lib/modules/{NEW}/{name}": "" for name in ("modules.dep", "vmlinuz")})
    assert read_kernel(Edges(str(tmp_path), lambda argv, timeout: (127, "", "")))["installed"] == [NEW]


def test_a_kernel_without_its_image_is_not_known(tmp_path: Path) -> None:
    """A menu that is older than the kernels beside it."""
    (tmp_path / "boot/grub").mkdir(parents=True)
    (tmp_path / "boot/grub/grub.cfg").write_text(menu("0"), encoding="utf-8")
    edges = Edges(str(tmp_path), lambda argv, timeout: (127, "", ""))
    assert boots(edges, [OLD]).kernel is None
    assert "has no image in /boot" in edges.problems[0]["error"]


@pytest.mark.parametrize(
    ("kernel", "distribution", "archive", "headers"),
    [
        ("5.4.0-150-generic", "ubuntu", True, "linux-headers-5.4.0-150-generic"),
        ("6.8.0-1008-aws", "ubuntu", True, "linux-headers-6.8.0-1008-aws"),
        ("6.1.0-56-cloud-amd64", "debian", True, "linux-headers-6.1.0-56-cloud-amd64"),
        ("6.12.9+bpo-amd64", "debian", True, "linux-headers-6.12.9+bpo-amd64"),
        ("6.1.0-56-rt-amd64", "debian", True, "linux-headers-6.1.0-56-rt-amd64"),
        ("6.8.12-4-pve", "debian", False, "proxmox-headers-6.8.12-4-pve"),
        ("5.15.158-2-pve", "debian", False, "pve-headers-5.15.158-2-pve"),
        ("6.9.1-x64v3-xanmod1", "debian", False, "linux-headers-6.9.1-x64v3-xanmod1"),
        ("6.9.0", "ubuntu", False, "linux-headers-6.9.0"),
    ],
)
def test_names_of_kernels(kernel: str, distribution: str, archive: bool, headers: str) -> None:
    """Flavours of clouds are the archive's; Proxmox calls its headers otherwise."""
    assert of_the_archive(kernel, distribution) is archive
    assert headers_package(kernel) == headers
    assert is_kernel_package(headers)


def test_the_hold_set_takes_proxmoxs_kernel_and_what_leads_to_it() -> None:
    """Not proxmox-ve, which is the whole product."""
    kernel, depends = (
        "6.8.12-4-pve",
        {"proxmox-default-kernel": "proxmox-kernel-6.8", "proxmox-ve": "proxmox-default-kernel"},
    )
    depends["proxmox-kernel-6.8"] = f"proxmox-kernel-{kernel}-signed | proxmox-kernel-{kernel}"
    depends.update({f"proxmox-kernel-{kernel}-signed": "", "proxmox-kernel-6.5.13-6-pve-signed": ""})
    packages = {name: rules.Package(name, name, "1", False, needs) for name, needs in depends.items()}
    assert sorted(rules.stack(packages, kernel)) == [
        "proxmox-default-kernel",
        "proxmox-kernel-6.8",
        f"proxmox-kernel-{kernel}-signed",
    ]
