"""The Ubuntu releases that a bed can be dressed as: what their archives and their fresh installations differ in.

Driver lines and their versions are the catalog's. Of 18.04 the rest is that of its signed indices. Of later releases
the versions of kernels are from packages.ubuntu.com and users' reports, and those of ordinary packages are made up.
"""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Tuple


class Kernel(NamedTuple):
    """One kernel line of a release at one version; `also` are further flavours that lead to its signed modules."""

    release: str
    version: str
    meta_version: str
    flavour: str
    also: Tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What the names of a newer line's packages have ("-hwe-5.4"); "" for the line that the release began with."""
        return "" if self.flavour == "generic" else "-hwe-" + ".".join(self.release.split(".")[:2])

    @property
    def abi(self) -> str:
        """The release without its flavour."""
        return self.release[: -len("-generic")]


class Release(NamedTuple):
    """One release. Of each pair of kernels the first is the line that it began with, the second the newer one."""

    version: str
    point: str
    name: str
    codename: str
    debian: str
    kernels: Tuple[Kernel, Kernel]
    next_kernels: Tuple[Kernel, Kernel]
    #: The driver line that gets a newer version in the next month: its package, that version's upstream and its own.
    updated: str
    updated_to: Tuple[str, str]
    #: An old line's package that only leads to the line after it.
    transitional: Mapping[str, str]
    #: Ordinary packages, those of the next month, and libraries by their sonames, each with its version.
    ordinary: Mapping[str, str]
    ordinary_next: Mapping[str, str]
    libraries: Mapping[str, Tuple[str, str]]
    #: The system's Python, and the archive's others with their versions.
    python: str
    pythons: Mapping[str, str] = {}
    #: Lines without signed modules for the newer kernel.
    unsigned: Tuple[str, ...] = ()
    #: Sources as the installer writes them: /etc/apt/sources.list.d/ubuntu.sources, or sources.list.
    deb822: bool = True
    #: kmod 24 does not tell who signed a module.
    old_kmod: bool = False

    @property
    def platform(self) -> str:
        """The catalog's name of it."""
        return f"ubuntu-{self.version}"

    def kernel(self, release: str) -> Kernel:
        """The kernel of that release; KeyError for another."""
        return {kernel.release: kernel for kernel in self.kernels}[release]

    @property
    def tail(self) -> str:
        """The end of the versions of its packages ("0ubuntu0.24.04.1")."""
        return f"0ubuntu0.{self.version}.1"


def _kernels(version: str, first: str, newer: str, tail: str, *also: str) -> Tuple[Kernel, Kernel]:
    """The two lines of a release, at such versions as "6.8.0-149" and "7.0.0-38"."""
    numbers = [f"{abi}.{abi.rpartition('-')[2]}" for abi in (first, newer)]
    newest = numbers[1] + tail
    return (
        Kernel(f"{first}-generic", numbers[0], numbers[0], "generic"),
        Kernel(f"{newer}-generic", newest, newest, f"generic-hwe-{version}", also),
    )


BIONIC = Release(
    version="18.04",
    point="18.04.6",
    name="Bionic Beaver",
    codename="bionic",
    debian="buster/sid",
    kernels=(
        Kernel("4.15.0-213-generic", "4.15.0-213.224", "4.15.0.213.196", "generic"),
        Kernel("5.4.0-150-generic", "5.4.0-150.167~18.04.1", "5.4.0.150.167~18.04.121", "generic-hwe-18.04"),
    ),
    # What a later month would bring; 18.04 never saw it.
    next_kernels=(
        Kernel("4.15.0-214-generic", "4.15.0-214.225", "4.15.0.214.197", "generic"),
        Kernel("5.4.0-152-generic", "5.4.0-152.169~18.04.1", "5.4.0.152.169~18.04.123", "generic-hwe-18.04"),
    ),
    # The package version is made up, the release is one of NVIDIA's.
    updated="525",
    updated_to=("525.125.06", "525.125.06-0ubuntu0.18.04.1"),
    # Read from bionic's indices.
    transitional={
        "418": "430", "430": "440", "435": "455", "440": "450", "440-server": "450-server", "450": "460", "455": "460",
        "460": "470", "460-server": "470-server", "465": "470", "495": "510", "510-server": "515-server", "520": "525",
    },
    ordinary={
        "linux-firmware": "1.173.21", "mokutil": "0.6.0-2~18.04.1", "shim-signed": "1.37~18.04.13+15.7-0ubuntu1",
        "grub2-common": "2.02-2ubuntu8.26", "xserver-xorg-core": "2:1.19.6-1ubuntu4.15",
        "nvidia-settings": "470.57.01-0ubuntu0.18.04.1", "nvidia-prime": "0.8.16~0.18.04.2",
        "ubuntu-advantage-tools": "17", "snapd": "2.58+18.04", "libc6-dev": "2.27-3ubuntu1.6",
        "build-essential": "12.4ubuntu1",
    },
    ordinary_next={
        "libjpeg-turbo8": "1.5.2-0ubuntu5.18.04.6", "ubuntu-advantage-tools": "27.14.4~18.04", "snapd": "2.61.4+18.04",
    },
    libraries={
        "libxml2": ("libxml2.so.2", "2.9.4+dfsg1-6.1ubuntu1.9"),
        "libncurses5": ("libncurses.so.5", "6.1-1ubuntu1.18.04.1"),
        "libgl1": ("libGL.so.1", "1.0.0-2ubuntu2.3"),
        "libglib2.0-0": ("libglib-2.0.so.0", "2.56.4-0ubuntu0.18.04.9"),
        "libx11-6": ("libX11.so.6", "2:1.6.4-3ubuntu0.4"),
        "libxext6": ("libXext.so.6", "2:1.3.3-1"),
        "libjpeg-turbo8": ("libjpeg.so.8", "1.5.2-0ubuntu5.18.04.4"),
    },
    python="3.6",
    pythons={"3.7": "3.7.5-2ubuntu1~18.04.2", "3.8": "3.8.0-3ubuntu1~18.04.2"},
    deb822=False,
    old_kmod=True,
)  # fmt: skip


def _modern(version: str, glib: str, xml: str) -> Dict[str, Mapping[str, object]]:
    """The ordinary packages of a release after 18.04; their versions are made up, and above those of Debian 12."""
    tail = f"1ubuntu0.{version}"
    names = (
        "linux-firmware", "mokutil", "shim-signed", "grub2-common", "xserver-xorg-core", "nvidia-settings",
        "nvidia-prime", "ubuntu-advantage-tools", "snapd", "libc6-dev", "build-essential",
    )  # fmt: skip
    sonames = {
        xml: "libxml2.so." + ("16" if xml == "libxml2-16" else "2"), "libgl1": "libGL.so.1", glib: "libglib-2.0.so.0",
        "libx11-6": "libX11.so.6", "libxext6": "libXext.so.6", "libjpeg-turbo8": "libjpeg.so.8",
    }  # fmt: skip
    return {
        # The root's own libc6-dev stays, because it needs Debian's libc6.
        "ordinary": {**{name: f"2:99-{tail}.1" for name in names}, "libc6-dev": "2.27-3ubuntu1.6"},
        "ordinary_next": {name: f"2:99-{tail}.2" for name in ("libjpeg-turbo8", "ubuntu-advantage-tools", "snapd")},
        "libraries": {name: (soname, f"2:99-{tail}.1") for name, soname in sonames.items()},
    }


NOBLE = Release(
    version="24.04",
    point="24.04.4",
    name="Noble Numbat",
    codename="noble",
    debian="trixie/sid",
    kernels=_kernels("24.04", "6.8.0-149", "7.0.0-38", "~24.04.4", "generic-7.0"),
    next_kernels=_kernels("24.04", "6.8.0-151", "7.0.0-41", "~24.04.1", "generic-7.0"),
    updated="580",
    updated_to=("580.190.02", "580.190.02-0ubuntu0.24.04.1"),
    transitional={"550": "580", "570": "580", "575": "580", "590": "595"},
    python="3.12",
    # packages.ubuntu.com: its modules for generic-hwe-24.04 end with those of the kernels 6.11.
    unsigned=("470",),
    **_modern("24.04", "libglib2.0-0t64", "libxml2"),  # type: ignore[arg-type]
)
JAMMY = Release(
    version="22.04",
    point="22.04.5",
    name="Jammy Jellyfish",
    codename="jammy",
    debian="bookworm/sid",
    kernels=_kernels("22.04", "5.15.0-203", "6.8.0-138", "~22.04.1", "generic-6.8"),
    next_kernels=_kernels("22.04", "5.15.0-205", "6.8.0-140", "~22.04.1", "generic-6.8"),
    updated="580",
    updated_to=("580.178.04", "580.178.04-0ubuntu0.22.04.1"),
    transitional={"550": "580", "570": "580", "590": "595"},
    python="3.10",
    # As the installer of a server writes them; a release later they are a file of stanzas.
    deb822=False,
    **_modern("22.04", "libglib2.0-0", "libxml2"),  # type: ignore[arg-type]
)
FOCAL = Release(
    version="20.04",
    point="20.04.6",
    name="Focal Fossa",
    codename="focal",
    debian="bullseye/sid",
    kernels=_kernels("20.04", "5.4.0-216", "5.15.0-139", "~20.04.1"),
    next_kernels=_kernels("20.04", "5.4.0-218", "5.15.0-141", "~20.04.1"),
    updated="535",
    updated_to=("535.288.01", "535.288.01-0ubuntu0.20.04.1"),
    transitional={"525": "535", "530": "535"},
    python="3.8",
    deb822=False,
    **_modern("20.04", "libglib2.0-0", "libxml2"),  # type: ignore[arg-type]
)
RESOLUTE = Release(
    version="26.04",
    point="26.04",
    name="Resolute Raccoon",
    codename="resolute",
    debian="forky/sid",
    kernels=_kernels("26.04", "7.0.0-43", "7.0.0-44", "~26.04.1", "generic-7.0"),
    next_kernels=_kernels("26.04", "7.0.0-45", "7.0.0-46", "~26.04.1", "generic-7.0"),
    updated="595",
    updated_to=("595.104.02", "595.104.02-0ubuntu0.26.04.1"),
    transitional={"570": "580", "590": "595"},
    python="3.14",
    **_modern("26.04", "libglib2.0-0t64", "libxml2-16"),  # type: ignore[arg-type]
)
RELEASES = {release.version: release for release in (BIONIC, FOCAL, JAMMY, NOBLE, RESOLUTE)}
