"""The NVIDIA driver packages of the imitated archive: branches, signed modules, the transitional names.

Which branches and versions there are comes from the project's own catalog, which holds bionic's signed indices.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from .bionic import ANYWHERE, LDCONFIG, LIBRARIES, STANDINS, Kernel, signed_module
from .debs import Content, File, Link, Package
from .standins import elf

CATALOG = Path(__file__).resolve().parents[3] / "src/gpuhost/data/drivers.json"
# The modules that come together; the licence tells the flavour.
MODULES = ("nvidia", "nvidia-drm", "nvidia-modeset", "nvidia-uvm")
# An old line's package only pulls the next line's; read from bionic's indices.
TRANSITIONAL = {
    "418": "430", "430": "440", "435": "455", "440": "450", "440-server": "450-server", "450": "460", "455": "460",
    "460": "470", "460-server": "470-server", "465": "470", "495": "510", "510-server": "515-server", "520": "525",
}  # fmt: skip
NOUVEAU = "blacklist nouveau\nblacklist lbm-nouveau\nalias nouveau off\nalias lbm-nouveau off\n"


class Branch(NamedTuple):
    """One driver line at one version."""

    name: str
    upstream: str
    version: str
    claims: Tuple[str, ...]

    @property
    def source(self) -> str:
        """The source package."""
        return f"nvidia-graphics-drivers-{self.name}"


def branches() -> List[Branch]:
    """The real driver lines of 18.04."""
    rows: List[Dict[str, Any]] = json.loads(CATALOG.read_text())["archives"]["ubuntu-18.04"]
    found = []
    for row in rows:
        name = row["package"][len("nvidia-driver-") :]
        found.append(Branch(name, row["version"], row["package_version"], tuple(row["claims"])))
    return found


def newer(branch: Branch) -> Branch:
    """The 525 line a month later; its package version is made up, the release is one of NVIDIA's."""
    return branch._replace(upstream="525.125.06", version="525.125.06-0ubuntu0.18.04.1")


def driver_packages(branch: Branch) -> List[Package]:
    """Every package of one driver line, as nvidia-graphics-drivers-N builds them."""
    n, v = branch.name, branch.version
    same = f"(= {v})"
    kernel_common = _of_upstream(f"nvidia-kernel-common-{n}", branch)
    dkms = _of_upstream(f"nvidia-dkms-{n}", branch)
    compute, utils = f"libnvidia-compute-{n}", f"nvidia-compute-utils-{n}"
    kinds = ["gl", "compute", "decode", "encode", "cfg1", "fbc1"]
    kinds += ["extra"] if _number(n) >= 440 else ["ifr1"]
    needs = {
        "gl": f"libnvidia-common-{n}, libx11-6, libxext6",
        "compute": "libc6 (>= 2.17)",
        "decode": f"{compute} {same}",
        "encode": f"libnvidia-decode-{n} {same}",
        "extra": f"libnvidia-gl-{n}",
        "ifr1": f"libnvidia-gl-{n}",
    }
    found = [
        _part(branch, f"libnvidia-{kind}-{n}", needs.get(kind, ""), libraries(branch, kind), "libs", LDCONFIG)
        for kind in kinds
    ]
    whole = [f"libnvidia-{kind}-{n} {same}" for kind in kinds]
    whole += [f"{utils} {same}", f"nvidia-utils-{n} {same}", f"nvidia-kernel-source-{n} {same}"]
    whole += [f"xserver-xorg-video-nvidia-{n} {same}", dkms, kernel_common]
    compute_only = [kernel_common, f"{compute} {same}", f"nvidia-kernel-source-{n} {same}", f"{utils} {same}"]
    smi = {"/usr/bin/nvidia-smi": File((STANDINS / "nvidia-smi").read_bytes(), 0o755)}
    persistence: Content = {"/usr/bin/nvidia-persistenced": File(b"#!/bin/sh\nexit 0\n", 0o755)}
    nouveau = {"/lib/modprobe.d/nvidia-graphics-drivers.conf": File(NOUVEAU.encode())}
    initramfs = {"postinst": '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then update-initramfs -u; fi\n'}
    found += [
        _part(branch, f"libnvidia-common-{n}", "", {}, "libs")._replace(architecture="all"),
        _part(branch, f"nvidia-utils-{n}", f"{compute}", smi, "utils"),
        _part(branch, utils, compute, persistence, "utils"),
        _part(branch, f"xserver-xorg-video-nvidia-{n}", "xserver-xorg-core", {}, "x11"),
        _part(branch, f"nvidia-kernel-common-{n}", "", nouveau, "kernel", initramfs),
        _part(branch, f"nvidia-kernel-source-{n}", "", dkms_source(branch.upstream), "kernel"),
        _dkms(branch),
        _part(branch, f"nvidia-headless-no-dkms-{n}", ", ".join(compute_only), {}, "metapackages"),
        _part(branch, f"nvidia-headless-{n}", f"nvidia-headless-no-dkms-{n} {same}, {dkms}", {}, "metapackages"),
    ]
    aliases = ", ".join(f"pci:v000010DEd0000{device.upper()}sv*sd*bc03sc*i*" for device in branch.claims)
    driver = _part(branch, f"nvidia-driver-{n}", ", ".join(whole), {}, "libs")
    fields = {
        **driver.fields,
        "Recommends": "nvidia-settings, nvidia-prime (>= 0.8)",
        "Modaliases": f"nvidia_driver_{n.replace('-', '_')}({aliases})",
    }
    return [*found, driver._replace(fields=fields)]


def signed_packages(branch: Branch, kernel: Kernel, version: str) -> List[Package]:
    """Canonical's prebuilt modules of a driver line for one kernel: objects, the package that joins them, the meta."""
    n, release = branch.name, kernel.release
    suffix = "-hwe-5.4" if kernel.hwe else ""
    place = f"/lib/modules/{release}/kernel/nvidia-{n}"
    objects: Dict[str, File | Link] = {}
    for module in MODULES:
        plain, signature = elf.split_signature(signed_module(module, branch.upstream, release))
        objects[f"{place}/bits/{module}.o"] = File(plain)
        objects[f"{place}/bits/{module}.sig"] = File((signature and elf.with_signature(b"", signature)) or b"")
    exact = f"(= {version})"
    common = _of_upstream(f"nvidia-kernel-common-{n}", branch)
    provided = f"nvidia-dkms-{n} (= {branch.upstream}), nvidia-prebuilt-kernel"
    built = f"linux-modules-nvidia-{n}-{release}"

    def part(name: str, depends: str, **more: Any) -> Package:
        """One package of linux-restricted-modules."""
        fields = {"Depends": depends, **more.pop("fields", {})}
        source = f"linux-restricted-modules{suffix}"
        return Package(name, version, source, "kernel", "restricted", fields=fields, pockets=ANYWHERE, **more)

    return [
        part(f"linux-objects-nvidia-{n}-{release}", "", content=objects),
        part(
            built,
            f"linux-image-{release} | linux-image-unsigned-{release}, linux-signatures-nvidia-{release} {exact}, "
            f"linux-objects-nvidia-{n}-{release} {exact}, {common}",
            scripts={
                "postinst": _JOIN.format(place=place, release=release),
                "prerm": _UNJOIN.format(place=place, release=release),
            },
            fields={"Provides": provided},
        ),
        part(
            f"linux-modules-nvidia-{n}-{kernel.flavour}",
            f"{built} {exact}, {common}",
            fields={"Provides": provided},
        ),
    ]


def signatures(kernel: Kernel, version: str) -> Package:
    """The package of Canonical's signatures; here they lie beside the objects, and this is only the dependency."""
    source = f"linux-restricted-signatures{'-hwe-5.4' if kernel.hwe else ''}"
    name = f"linux-signatures-nvidia-{kernel.release}"
    return Package(name, version, source, "kernel", "restricted", pockets=ANYWHERE)


def transitional(name: str, lines: Sequence[Branch], target: str = "") -> Package:
    """An old line's driver package, which pulls the line after it."""
    target = target or TRANSITIONAL[name]
    end = target
    while end in TRANSITIONAL:
        end = TRANSITIONAL[end]
    branch = next(line for line in lines if line.name == end)
    fields = {"Depends": f"nvidia-driver-{target}"}
    return Package(
        f"nvidia-driver-{name}", branch.version, branch.source, "oldlibs", "restricted", fields=fields, pockets=ANYWHERE
    )


def dkms_source(version: str, licence: str = "NVIDIA") -> Content:
    """/usr/src/nvidia-VERSION with its dkms.conf: what DKMS builds here writes modules that modinfo reads."""
    folder = f"/usr/src/nvidia-{version}"
    files: Dict[str, File | Link] = {
        f"{folder}/{module}.modinfo": File(f"{module} {version} {licence}\n".encode()) for module in MODULES
    }
    files[f"{folder}/Makefile"] = File((STANDINS / "driver.mk").read_bytes())
    rows = [f'PACKAGE_NAME="nvidia"\nPACKAGE_VERSION="{version}"\nAUTOINSTALL="yes"\n']
    rows += ["MAKE[0]=\"'make' KERNEL_UNAME=${kernelver} modules\"\nCLEAN=\"'make' KERNEL_UNAME=${kernelver} clean\"\n"]
    for number, module in enumerate(MODULES):
        rows.append(
            f'BUILT_MODULE_NAME[{number}]="{module}"\nDEST_MODULE_LOCATION[{number}]="/kernel/drivers/char/drm"\n'
        )
    files[f"{folder}/dkms.conf"] = File("".join(rows).encode())
    return files


def libraries(branch: Branch, kind: str) -> Content:
    """The libraries of one package, each with the link that a program's loader follows."""
    version = branch.upstream
    number = _cuda_number(version)
    names = {
        "compute": {
            "libnvidia-ml": {},
            "libcuda": {"cuInit": elf.answer(100), "cuDriverGetVersion": elf.store(number)},
        },
        "gl": {"libGLX_nvidia": {}},
        "decode": {"libnvcuvid": {}},
        "encode": {"libnvidia-encode": {}},
        "cfg1": {"libnvidia-cfg": {}},
        "fbc1": {"libnvidia-fbc": {}},
        "ifr1": {"libnvidia-ifr": {}},
    }
    made: Dict[str, File | Link] = {}
    for name, functions in names.get(kind, {}).items():
        soname = f"{name}.so.{0 if kind == 'gl' else 1}"
        made[f"{LIBRARIES}/{name}.so.{version}"] = File(elf.library(soname, functions))
        made[f"{LIBRARIES}/{soname}"] = Link(f"{name}.so.{version}")
    return made


def _cuda_number(version: str) -> int:
    """The newest CUDA of the driver's line as the driver's library numbers it (12.0 is 12000)."""
    rows = json.loads(CATALOG.read_text())["branches"]
    major, minor = (rows[version.split(".")[0]]["max_cuda"] or "0.0").split(".")
    return 1000 * int(major) + 10 * int(minor)


def _part(branch: Branch, name: str, depends: str, content: Content, section: str, scripts: Any = None) -> Package:
    """One package of a driver line; two lines' packages of a kind exclude each other, as the real ones do."""
    kind = name[: -len("-" + branch.name)]
    fields = {"Depends": depends, "Provides": kind, "Conflicts": kind, "Replaces": kind}
    if kind.startswith("nvidia-driver") or kind.startswith("nvidia-headless"):
        fields = {"Depends": depends}
    return Package(
        name,
        branch.version,
        branch.source,
        section,
        "restricted",
        fields=fields,
        content=content,
        scripts=scripts or {},
        pockets=ANYWHERE,
    )


def _dkms(branch: Branch) -> Package:
    """nvidia-dkms-N: registers the source with the real dkms, and takes it out again."""
    name, version = f"nvidia-dkms-{branch.name}", branch.upstream
    depends = f"nvidia-kernel-source-{branch.name} (= {branch.version}), nvidia-kernel-common-{branch.name}, dkms"
    postinst = (
        '#!/bin/sh\nset -e\n[ "$1" = configure ] || exit 0\n'
        f'/usr/lib/dkms/common.postinst nvidia {version} /usr/share/nvidia x86_64 "$2"\n'
    )
    remove = f"dkms remove -m nvidia -v {version} --all"
    prerm = f"#!/bin/sh\nset -e\nif [ -d /var/lib/dkms/nvidia/{version} ]; then {remove}; fi\n"
    return _part(branch, name, depends, {}, "kernel", {"postinst": postinst, "prerm": prerm})


def _of_upstream(name: str, branch: Branch) -> str:
    """The two dependencies that tie a package to one upstream version, whatever its packaging."""
    return f"{name} (<= {branch.upstream}-1), {name} (>= {branch.upstream})"


def _number(name: str) -> int:
    """The number of a line such as "450-server"."""
    return int(name.split("-")[0])


_JOIN = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
for object in {place}/bits/*.o; do
    name=$(basename "$object" .o)
    cat "$object" "{place}/bits/$name.sig" >"{place}/$name.ko.new"
    mv "{place}/$name.ko.new" "{place}/$name.ko"
done
depmod {release}
"""
_UNJOIN = """#!/bin/sh
set -e
rm -f {place}/*.ko
depmod {release}
"""
