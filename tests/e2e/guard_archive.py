"""A small apt archive of stub packages with Ubuntu 18.04's names and relations: a driver, its kernel, and the rest."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from .beds import Bed
from .beds.base import PACKAGES
from .beds.bed import CLONE

OLD, NEW = "525.105.17-0ubuntu0.18.04.1", "525.125.06-0ubuntu0.18.04.1"
KERNEL, NEXT_KERNEL = "5.4.0-150-generic", "5.4.0-152-generic"
OTHER_KERNEL = "4.15.0-213-generic"
#: The version of the signed modules for KERNEL.
MODULES = "5.4.0-150.167~18.04.1"


class Stub(NamedTuple):
    """A package without content, but for the files that are named."""

    name: str
    version: str
    source: str = ""
    depends: str = ""
    files: Sequence[str] = ()


def kernel(name: str, version: str) -> List[Stub]:
    """A kernel's own packages."""
    abi = name.rpartition("-")[0]
    return [
        Stub(f"linux-image-{name}", version, "linux-signed", f"linux-modules-{name}", [f"boot/vmlinuz-{name}"]),
        Stub(f"linux-modules-{name}", version, "linux", "", [f"lib/modules/{name}/kernel/empty"]),
        Stub(f"linux-headers-{abi}", version, "linux"),
        Stub(f"linux-headers-{name}", version, "linux", f"linux-headers-{abi}"),
    ]


def metas(flavour: str, version: str, name: str) -> List[Stub]:
    """The metapackages that bring a kernel."""
    image, headers = f"linux-image-{flavour}", f"linux-headers-{flavour}"
    return [
        Stub(image, version, "linux-meta", f"linux-image-{name}"),
        Stub(headers, version, "linux-meta", f"linux-headers-{name}"),
        Stub(f"linux-{flavour}", version, "linux-meta", f"{image} (= {version}), {headers} (= {version})"),
    ]


def driver(version: str, kernels: Dict[str, str]) -> List[Stub]:
    """NVIDIA's branch 525 and its signed modules, by kernel and version of these."""
    source = "nvidia-graphics-drivers-525"
    same = f"(= {version})"
    found = [
        Stub("nvidia-driver-525", version, source, f"libnvidia-compute-525 {same}, nvidia-utils-525 {same}"),
        Stub("libnvidia-compute-525", version, source),
        Stub("nvidia-utils-525", version, source, f"libnvidia-compute-525 {same}"),
        Stub("libnvidia-common-525", version, source),
    ]
    for name, modules in kernels.items():
        found.append(
            Stub(
                f"linux-modules-nvidia-525-{name}",
                modules,
                "linux-restricted-modules-hwe-5.4",
                f"linux-image-{name}",
                [f"lib/modules/{name}/kernel/nvidia"],
            )
        )
    name, modules = list(kernels.items())[-1]
    found.append(
        Stub(
            "linux-modules-nvidia-525-generic-hwe-18.04",
            modules,
            "linux-restricted-modules-hwe-5.4",
            f"linux-modules-nvidia-525-{name}",
        )
    )
    return found


#: What a host has installed by name; everything else comes as a dependency.
INSTALLED = (
    "nvidia-driver-525",
    "libnvidia-common-525",
    "linux-modules-nvidia-525-generic-hwe-18.04",
    "nvidia-driver-520",
    "nvidia-settings",
    "linux-generic-hwe-18.04",
    "linux-generic",
    "plain",
    "gpu-monitor",
    "users-own",
    "nvidia-container-toolkit",
)

FIRST = [
    *kernel(OTHER_KERNEL, "4.15.0-213.224"),
    *metas("generic", "4.15.0.213.196", OTHER_KERNEL),
    *kernel(KERNEL, "5.4.0-150.167~18.04.1"),
    *metas("generic-hwe-18.04", "5.4.0.150.167~18.04.121", KERNEL),
    *driver(OLD, {KERNEL: MODULES}),
    Stub("nvidia-driver-520", OLD, "nvidia-graphics-drivers-525", f"nvidia-driver-525 (= {OLD})"),
    Stub("nvidia-settings", "470.57.01-0ubuntu0.18.04.1", "nvidia-settings"),
    Stub("nvidia-container-toolkit", "1.13.0-1"),
    Stub("plain", "1.0"),
    Stub("gpu-monitor", "1.0", "", "libnvidia-compute-525"),
    Stub("users-own", "1.0"),
]

_NEXT_VERSION = "5.4.0-152.169~18.04.1"
#: What the archive offers a month later, in the place of the same names.
SECOND = [
    *kernel("4.15.0-214-generic", "4.15.0-214.225"),
    *metas("generic", "4.15.0.214.197", "4.15.0-214-generic"),
    *kernel(NEXT_KERNEL, _NEXT_VERSION),
    *metas("generic-hwe-18.04", "5.4.0.152.169~18.04.122", NEXT_KERNEL),
    *driver(NEW, {NEXT_KERNEL: _NEXT_VERSION}),
    # The branch jumps: the name stays and leads elsewhere (D04).
    Stub("nvidia-driver-520", "530.41.03-0ubuntu0.18.04.2", "nvidia-graphics-drivers-530", "nvidia-driver-530"),
    Stub("nvidia-driver-530", "530.41.03-0ubuntu0.18.04.2", "nvidia-graphics-drivers-530"),
    Stub("nvidia-settings", "525.125.06-0ubuntu0.18.04.1", "nvidia-settings"),
    Stub("nvidia-container-toolkit", "1.14.0-1"),
    Stub("plain", "1.1", "", "plain-new"),
    Stub("plain-new", "1.0"),
    Stub("gpu-monitor", "2.0", "", f"libnvidia-compute-525 (>= {NEW})"),
    Stub("users-own", "1.1"),
]


def build(stub: Stub, folder: Path) -> Path:
    """The .deb of a stub."""
    root = folder / "tree" / f"{stub.name}_{stub.version}"
    (root / "DEBIAN").mkdir(parents=True)
    fields = {
        "Package": stub.name,
        "Version": stub.version,
        "Source": stub.source,
        "Architecture": "amd64",
        "Maintainer": "Nobody <nobody@example.com>",
        "Depends": stub.depends,
        "Section": "misc",
        "Priority": "optional",
        "Description": "stub",
    }
    text = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    (root / "DEBIAN" / "control").write_text(text)
    for name in stub.files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{stub.version}\n")
    target = folder / "pool" / f"{stub.name}_{stub.version.replace(':', '%3a')}_amd64.deb"
    target.parent.mkdir(exist_ok=True)
    command = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(root), str(target)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


def publish(stubs: Sequence[Stub], folder: Path) -> Path:
    """A flat archive of the stubs, of the origin that unattended-upgrades takes on Debian 12; its folder."""
    folder.mkdir(parents=True)
    debs = [build(stub, folder) for stub in stubs]
    controls = [folder / "tree" / f"{stub.name}_{stub.version}" / "DEBIAN" / "control" for stub in stubs]
    index([(control.read_text(), deb) for control, deb in zip(controls, debs)], folder)
    subprocess.run(["rm", "-r", str(folder / "tree")], check=True)
    return folder


def index(debs: Sequence[Tuple[str, Path]], folder: Path) -> None:
    """Write the indices of a flat archive whose packages, each with its control file, lie in `folder`'s pool."""
    records = []
    for control, deb in debs:
        data = deb.read_bytes()
        where = f"Filename: ./pool/{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        records.append(control + where)
    packages = "\n".join(records).encode()
    (folder / "Packages").write_bytes(packages)
    (folder / "Packages.gz").write_bytes(gzip.compress(packages, mtime=0))
    sums = "".join(
        f" {hashlib.sha256((folder / name).read_bytes()).hexdigest()} {(folder / name).stat().st_size} {name}\n"
        for name in ("Packages", "Packages.gz")
    )
    head = "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: bookworm\nArchitectures: amd64\nSHA256:\n"
    (folder / "Release").write_text(head + sums)


def months(folder: Path) -> List[Path]:
    """The archive of the day of the installation, and that of a month later."""
    return [publish(FIRST, folder / "first"), publish(SECOND, folder / "second")]


def offer(bed: Bed, folder: Path) -> None:
    """Let the bed's archive hold this, and nothing else."""
    bed.run(["rm", "-rf", "/srv/archive"])
    bed.push(folder, "/srv/archive")
    bed.run(["apt-get", "update"])


@contextlib.contextmanager
def host(month: Path, logs: Path) -> Iterator[Bed]:
    """A Debian 12 bed with a clone whose only source is the archive of a month, with the driver and the rest of it."""
    with Bed.fresh(packages=(*PACKAGES, "python3", "unattended-upgrades"), logs=logs) as bed:
        bed.clone_project()
        bed.run(["./run", "true"], cwd=CLONE, timeout=1500)
        source = "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] file:/srv/archive ./'"
        bed.run(["sh", "-c", source + " > /etc/apt/sources.list"])
        offer(bed, month)
        bed.run(["apt-get", "install", "-y", *INSTALLED])
        yield bed
