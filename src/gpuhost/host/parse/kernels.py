"""How packagers name kernels: Debian and Ubuntu with their flavours, Proxmox, and builds of third parties.

Pure. Runs on the target, so Python 3.6 and the standard library only.
"""

import re
from typing import Optional

from ...versions import release

#: How the archives name their kernels: Ubuntu 5.4.0-150-generic, Debian 6.1.0-56-cloud-amd64 and 6.12.9+bpo-amd64.
_SHAPES = {
    "ubuntu": r"[0-9]+\.[0-9]+\.[0-9]+-[0-9]+-[a-z][a-z0-9.-]*$",
    "debian": r"[0-9]+\.[0-9]+[A-Za-z0-9.+~-]*-(amd64|arm64|686|686-pae|armmp|ppc64el|riscv64|s390x)$",
}
#: A release up to its flavour; from its release 13 on Debian writes 6.12.48+deb13, without a number of its own.
_BUILD = r"[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9]+|\+[a-z0-9.+~]+)"
_RELEASE = re.compile(_BUILD)
#: An image comes with the archive's signature or, of the same release, without one.
_IMAGE = re.compile(rf"^linux-image-(?:unsigned-)?({_BUILD}-[a-z0-9.-]*[a-z0-9])$")
_THIRD_PARTY = re.compile(r"-(pve|xanmod[0-9]*|liquorix|zabbly|surface|edge|mainline)(-|$)|-x64v[0-9]")


def is_kernel_package(name: str) -> bool:
    """Return whether a package of this name is a kernel, its modules or headers, or leads to one.

    Debian and Ubuntu call them linux-..., Proxmox proxmox-kernel-... or, before its release 8, pve-kernel-...; its
    proxmox-ve is the whole product.
    """
    return bool(re.match(r"linux-|(proxmox|pve)-(default-)?(kernel|headers)(-|$)", name.partition(":")[0]))


def names_a_kernel(name: str) -> bool:
    """Return whether a kernel's release is in a package's name, unlike in one that leads to the newest kernel."""
    return bool(_RELEASE.search(name))


def image_of(name: str) -> Optional[str]:
    """Return the release of the kernel whose image a package of this name is; None for any other package."""
    found = _IMAGE.match(name)
    return found.group(1) if found else None


def flavour(kernel: str) -> str:
    """Return the kind of a kernel, such as generic or cloud-amd64; "" where its release names none."""
    found = re.match(rf"{_BUILD}-(.+)$", kernel)
    return found.group(1) if found else ""


def headers_package(kernel: str) -> str:
    """Return the name of the package with a kernel's headers, as the kernel's distribution names it."""
    if kernel.endswith("-pve"):
        # Proxmox renamed its packages during its release 8; from kernel 6.5 on all have the new name.
        return ("proxmox" if release(kernel)[:2] >= (6, 5) else "pve") + f"-headers-{kernel}"
    return f"linux-headers-{kernel}"


def of_the_archive(kernel: str, distribution: str) -> bool:
    """Return whether a kernel's release is named as the distribution's own archive names its kernels."""
    shape = _SHAPES.get(distribution)
    return shape is None or bool(re.match(shape, kernel) and not _THIRD_PARTY.search(kernel))
