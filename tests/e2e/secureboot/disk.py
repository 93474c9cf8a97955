"""The machine's disk: a folder becomes a GPT image with an EFI system partition and a root; nothing is mounted."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Dict

from ..beds.commands import host

MIB = 1 << 20
ESP_FIRST, ESP_MIB = 1, 64
ROOT_FIRST = ESP_FIRST + ESP_MIB
LAYOUT = f"""label: gpt
start={ESP_FIRST}MiB, size={ESP_MIB}MiB, type=uefi
start={ROOT_FIRST}MiB, size={{root}}MiB, type=linux
"""
# Where the firmware looks on a disk that it has no boot entry for.
LOADERS = {
    "/usr/lib/shim/shimx64.efi.signed": "BOOTX64.EFI",
    "/usr/lib/shim/mmx64.efi.signed": "mmx64.efi",
    "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "grubx64.efi",
}
STUB = """search.fs_uuid {root} root
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
"""
# grub-mkconfig asks the running system for its disks, so the first menu is written here.
MENU = """set timeout=0
menuentry 'Debian' {{
  search --no-floppy --fs-uuid --set=root {root}
  linux /boot/vmlinuz-{kernel} root=UUID={root} ro {options}
  initrd /boot/initrd.img-{kernel}
}}
"""
OPTIONS = "console=ttyS0,115200 net.ifnames=0 quiet"
FSTAB = "UUID={root} / ext4 errors=remount-ro 0 1\n"
DEFAULTS = f"""GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="{OPTIONS}"
GRUB_DISABLE_OS_PROBER=true
"""


def make(folder: Path, image: Path, kernel: str, root_mib: int) -> None:
    """Write the image of a Debian root that boots `kernel`; the folder gets its fstab and its boot menu."""
    root = str(uuid.uuid4())
    files: Dict[str, str] = {
        "etc/fstab": FSTAB.format(root=root),
        "etc/default/grub": DEFAULTS,
        "boot/grub/grub.cfg": MENU.format(root=root, kernel=kernel, options=OPTIONS),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with image.open("wb") as made:
        made.truncate((ROOT_FIRST + root_mib + 1) * MIB)
    host(["sfdisk", "--quiet", str(image)], stdin=LAYOUT.format(root=root_mib).encode())
    _esp(folder, image, STUB.format(root=root))
    mke2fs = ["mke2fs", "-q", "-t", "ext4", "-U", root, "-d", str(folder), "-E", f"offset={ROOT_FIRST * MIB}"]
    host([*mke2fs, "-b", "4096", str(image), str(root_mib * MIB // 4096)], timeout=900)


def _esp(folder: Path, image: Path, stub: str) -> None:
    """Fill the EFI system partition with Debian's signed loaders and the stub that finds the root's menu."""
    sectors = [str(ESP_FIRST * MIB // 512), str(ESP_MIB * 1024)]
    host(["mkfs.vfat", "-F", "16", f"--offset={sectors[0]}", str(image), sectors[1]])
    drive = ["-i", f"{image}@@{ESP_FIRST * MIB}"]
    host(["mmd", *drive, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"])
    for source, name in LOADERS.items():
        host(["mcopy", *drive, str(folder / source.lstrip("/")), f"::/EFI/BOOT/{name}"])
    host(["mcopy", *drive, "-", "::/EFI/debian/grub.cfg"], stdin=stub.encode())
