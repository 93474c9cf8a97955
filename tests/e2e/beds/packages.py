"""The packages of an imitated Ubuntu archive beside the drivers: kernels, what the stack needs, strangers.

Names, sections and dependencies are those of bionic's signed indices, versions those of `releases.py`; the contents are
stand-ins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping

from . import signing
from .debs import Content, File, Link, Package
from .releases import Kernel, Release
from .standins import elf

STANDINS = Path(__file__).resolve().parent / "standins"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
LDCONFIG = {"triggers": "activate-noawait ldconfig\n"}
ANYWHERE = ("updates", "security")


_CONFIG = """CONFIG_MODULES=y
CONFIG_MODULE_SIG=y
CONFIG_MODULE_SIG_SHA512=y
CONFIG_MODULE_SIG_HASH="sha512"
CONFIG_RD_GZIP=y
CONFIG_CC_IS_GCC=y
CONFIG_GCC_VERSION=70500
"""
_BUILTIN = "kernel/fs/ext4/ext4.ko\nkernel/drivers/block/loop.ko\n"
_ORDINARY = {
    "kernel/drivers/gpu/drm/drm.ko": "drm",
    "kernel/drivers/gpu/drm/nouveau/nouveau.ko": "nouveau",
    "kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko": "e1000e",
}
# A kernel's maintainer scripts run what /etc/kernel holds: initramfs-tools, dkms, unattended-upgrades.
_HOOKS = """#!/bin/sh
set -e
export DEB_MAINT_PARAMS="$*"
test "$1" = "{when}" || exit 0
{before}if [ -d /etc/kernel/{folder} ]; then
    run-parts --report --exit-on-error --arg={release} --arg=/boot/vmlinuz-{release} /etc/kernel/{folder}
fi
"""
_DEPMOD = '#!/bin/sh\nset -e\ntest "$1" = configure || exit 0\ndepmod {release}\n'


def signed_module(name: str, version: str, kernel: str, licence: str = "NVIDIA") -> bytes:
    """A kernel module with the signature that stands for Canonical's."""
    plain = elf.module(name, version, kernel, licence)
    return elf.with_signature(plain, signing.sign_module(plain, signing.canonical()))


def kernel_packages(kernel: Kernel) -> List[Package]:
    """The packages of one kernel, its metas included."""
    suffix = kernel.suffix
    release, version = kernel.release, kernel.version
    base = f"linux{suffix}-headers-{kernel.abi}"

    def part(name: str, source: str, depends: str, **more: object) -> Package:
        """One versioned package of the kernel."""
        fields = {"Depends": depends}
        return Package(name, version, source, "kernel", fields=fields, pockets=ANYWHERE, **more)  # type: ignore[arg-type]

    modules: Dict[str, File | Link] = {
        f"/boot/config-{release}": File(_CONFIG.encode()),
        f"/boot/System.map-{release}": File(b"ffffffff81000000 T _text\n"),
        f"/lib/modules/{release}/modules.builtin": File(_BUILTIN.encode()),
        f"/lib/modules/{release}/modules.builtin.modinfo": File(b"ext4.license=GPL\0loop.license=GPL\0"),
        f"/lib/modules/{release}/modules.order": File("".join(f"{path}\n" for path in _ORDINARY).encode()),
    }
    for path, name in _ORDINARY.items():
        modules[f"/lib/modules/{release}/{path}"] = File(signed_module(name, "", release, "GPL"))
    image = part(
        f"linux-image-{release}",
        f"linux-signed{suffix}",
        f"kmod, linux-base (>= 4.1), linux-modules-{release}",
        content={f"/boot/vmlinuz-{release}": File(b"not a kernel: stand-in\n", 0o600)},
        scripts={
            "postinst": _HOOKS.format(
                when="configure", folder="postinst.d", release=release, before=f"depmod {release}\n"
            ),
            "prerm": _HOOKS.format(when="remove", folder="prerm.d", release=release, before=""),
            "postrm": _HOOKS.format(when="remove", folder="postrm.d", release=release, before=""),
        },
    )
    extra: Content = {
        f"/lib/modules/{release}/kernel/drivers/net/dummy.ko": File(signed_module("dummy", "", release, "GPL"))
    }
    found = [
        image,
        part(
            f"linux-modules-{release}",
            f"linux{suffix}",
            "",
            content=modules,
            scripts={"postinst": _DEPMOD.format(release=release)},
        ),
        part(f"linux-modules-extra-{release}", f"linux{suffix}", f"linux-image-{release}", content=extra),
        part(
            base, f"linux{suffix}", "", architecture="all", content={f"/usr/src/{base}/Makefile": File(b"# common\n")}
        ),
        part(
            f"linux-headers-{release}",
            f"linux{suffix}",
            base,
            content=header_files(release),
            scripts={
                "postinst": _HOOKS.format(when="configure", folder="header_postinst.d", release=release, before="")
            },
        ),
    ]
    return found + _metas(kernel)


def _metas(kernel: Kernel) -> List[Package]:
    """The packages that pull the newest kernel of the line."""
    exact = f"(= {kernel.meta_version})"
    wanted = {
        f"linux-{kernel.flavour}": f"linux-image-{kernel.flavour} {exact}, linux-headers-{kernel.flavour} {exact}",
        f"linux-image-{kernel.flavour}": (
            f"linux-image-{kernel.release}, linux-modules-extra-{kernel.release}, linux-firmware"
        ),
        f"linux-headers-{kernel.flavour}": f"linux-headers-{kernel.release}",
    }
    return [
        Package(
            name,
            kernel.meta_version,
            f"linux-meta{kernel.suffix}",
            "kernel" if name.startswith("linux-headers") else "metapackages",
            fields={"Depends": depends},
            pockets=ANYWHERE,
        )
        for name, depends in wanted.items()
    ]


def header_files(release: str) -> Content:
    """/usr/src/linux-headers-RELEASE: enough for DKMS to "compile" the stand-in driver and to sign it."""
    folder = f"/usr/src/linux-headers-{release}"
    return {
        f"{folder}/Makefile": File((STANDINS / "kernel.mk").read_bytes()),
        f"{folder}/.config": File(_CONFIG.encode()),
        f"{folder}/include/config/auto.conf": File(_CONFIG.encode()),
        f"{folder}/include/config/kernel.release": File(f"{release}\n".encode()),
        f"{folder}/include/linux/version.h": File(b"#define LINUX_VERSION_CODE 0\n"),
        f"{folder}/scripts/elf.py": File((STANDINS / "elf.py").read_bytes()),
        f"{folder}/scripts/sign-file": File((STANDINS / "sign-file").read_bytes(), 0o755),
        f"/lib/modules/{release}/build": Link(folder),
    }


#: Source packages that libraries are built from, where these have another name.
LIBRARY_SOURCES = {
    "libxml2-16": "libxml2", "libncurses5": "ncurses", "libgl1": "libglvnd", "libglib2.0-0": "glib2.0",
    "libglib2.0-0t64": "glib2.0", "libx11-6": "libx11", "libxext6": "libxext", "libjpeg-turbo8": "libjpeg-turbo",
}  # fmt: skip


def library(name: str, version: str, source: str, soname: str, section: str = "libs", old: str = "") -> List[Package]:
    """A library package; with `old`, the release pocket has that version and -updates the newer one."""
    content: Content = {f"{LIBRARIES}/{soname}": File(elf.library(soname))}
    made = [
        Package(name, version, source, section, content=content, scripts=LDCONFIG, pockets=ANYWHERE if old else ("",))
    ]
    return made + ([made[0]._replace(version=old, pockets=("",))] if old else [])


def others(release: Release, pythons: Mapping[str, str]) -> List[Package]:
    """What else of the archive the stack names; `pythons` is where the machine's own Pythons stand ("3.8")."""
    v = release.ordinary
    found = [
        Package("linux-firmware", v["linux-firmware"], "linux-firmware", architecture="all", pockets=ANYWHERE),
        Package(
            "mokutil",
            v["mokutil"],
            "mokutil",
            "admin",
            content={"/usr/bin/mokutil": File((STANDINS / "mokutil").read_bytes(), 0o755)},
            pockets=ANYWHERE,
        ),
        Package(
            "shim-signed",
            v["shim-signed"],
            "shim-signed",
            "utils",
            fields={"Depends": "mokutil, openssl"},
            content={
                "/usr/sbin/update-secureboot-policy": File((STANDINS / "update-secureboot-policy").read_bytes(), 0o755)
            },
            pockets=ANYWHERE,
        ),
        Package(
            "grub2-common",
            v["grub2-common"],
            "grub2",
            "admin",
            content={
                "/usr/bin/grub-editenv": File((STANDINS / "grub-editenv").read_bytes(), 0o755),
                "/usr/sbin/grub-probe": File((STANDINS / "grub-probe").read_bytes(), 0o755),
                "/usr/sbin/update-grub": File((STANDINS / "update-grub").read_bytes(), 0o755),
                "/etc/default/grub": File(b"GRUB_DEFAULT=0\nGRUB_TIMEOUT_STYLE=hidden\nGRUB_TIMEOUT=0\n"),
                "/etc/kernel/postinst.d/zz-update-grub": File(b"#!/bin/sh\nexec update-grub\n", 0o755),
                "/etc/kernel/postrm.d/zz-update-grub": File(b"#!/bin/sh\nexec update-grub\n", 0o755),
            },
            pockets=ANYWHERE,
        ),
        Package("xserver-xorg-core", v["xserver-xorg-core"], "xorg-server", "x11", pockets=ANYWHERE),
        Package("nvidia-settings", v["nvidia-settings"], "nvidia-settings", "x11", pockets=("updates",)),
        Package("nvidia-prime", v["nvidia-prime"], "nvidia-prime", "utils", architecture="all", pockets=("updates",)),
        Package("ubuntu-advantage-tools", v["ubuntu-advantage-tools"], "ubuntu-advantage-tools", pockets=("",)),
        Package("snapd", v["snapd"], "snapd", "devel", pockets=("",)),
        Package("libc6-dev", v["libc6-dev"], "glibc", "libdevel", pockets=ANYWHERE),
        Package("build-essential", v["build-essential"], "build-essential", "devel", fields={"Depends": "gcc, make"}),
    ]
    for name, (soname, version) in release.libraries.items():
        old = "2.9.4+dfsg1-6.1ubuntu1" if (release.codename, name) == ("bionic", "libxml2") else ""
        found += library(name, version, LIBRARY_SOURCES.get(name, name), soname, old=old)
    for short, version in release.pythons.items():
        if short in pythons:
            name = f"python{short}"
            link: Content = {f"/usr/bin/{name}": Link(pythons[short])}
            found.append(Package(name, version, name, "python", "universe", content=link, pockets=ANYWHERE))
            for more in ("venv", "dev", "distutils"):
                needs = {"Depends": f"{name} (= {version})"}
                found.append(
                    Package(f"{name}-{more}", version, name, "python", "universe", fields=needs, pockets=ANYWHERE)
                )
    return found


def next_month_others(release: Release) -> List[Package]:
    """Upgrades that have nothing to do with the stack."""
    v = release.ordinary_next
    soname = release.libraries["libjpeg-turbo8"][0]
    return [
        library("libjpeg-turbo8", v["libjpeg-turbo8"], "libjpeg-turbo", soname)[0]._replace(pockets=ANYWHERE),
        Package("ubuntu-advantage-tools", v["ubuntu-advantage-tools"], "ubuntu-advantage-tools", pockets=ANYWHERE),
        Package("snapd", v["snapd"], "snapd", "devel", pockets=ANYWHERE),
    ]
