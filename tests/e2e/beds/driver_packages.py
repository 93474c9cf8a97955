"""The NVIDIA driver packages of an imitated archive: branches, signed modules, the transitional names.

Which branches and versions there are comes from the project's own catalog.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from gpuhost.planning.candidates import claims
from gpuhost.planning.catalog import shipped

from .debs import Content, File, Link, Package
from .packages import ANYWHERE, LDCONFIG, LIBRARIES, STANDINS, signed_module
from .releases import Kernel, Release
from .standins import elf

# The modules that come together; the licence tells the flavour.
MODULES = ("nvidia", "nvidia-drm", "nvidia-modeset", "nvidia-uvm")
#: From this line on the firmware of the cards is a package of its own, with the version in its name.
FIRMWARE_FROM = 535
NOUVEAU = "blacklist nouveau\nblacklist lbm-nouveau\nalias nouveau off\nalias lbm-nouveau off\n"


class Branch(NamedTuple):
    """One driver line at one version; one of open modules shares all else with the line of the same number."""

    name: str
    upstream: str
    version: str
    claims: Tuple[str, ...]
    support: str = ""

    @property
    def line(self) -> str:
        """What the packages are named after that serve both kinds of module."""
        return self.name.replace("-open", "")

    @property
    def open(self) -> bool:
        """Whether its modules are the open ones."""
        return self.name != self.line

    @property
    def licence(self) -> str:
        """What its modules say of their licence."""
        return "Dual MIT/GPL" if self.open else "NVIDIA"

    @property
    def source(self) -> str:
        """The source package."""
        return f"nvidia-graphics-drivers-{self.line}"


def branches(release: Release) -> List[Branch]:
    """The driver lines of a release, as the catalog has them."""
    catalog = shipped()
    found = []
    for row in catalog.drivers["archives"][release.platform]:
        name, claimed = row["package"][len("nvidia-driver-") :], tuple(sorted(claims(catalog, row)))
        found.append(Branch(name, row["version"], row["package_version"], claimed, row.get("support", "")))
    return found


def newer(branch: Branch, release: Release) -> Branch:
    """A line a month later."""
    upstream, version = release.updated_to
    return branch._replace(upstream=upstream, version=version)


def driver_packages(branch: Branch) -> List[Package]:
    """Every package of one driver line, as nvidia-graphics-drivers-N builds them.

    Those that serve both kinds of module come with the proprietary one.
    """
    n, v, of_modules = branch.line, branch.version, branch.name
    same = f"(= {v})"
    kernel_common = _of_upstream(f"nvidia-kernel-common-{n}", branch)
    dkms = _of_upstream(f"nvidia-dkms-{of_modules}", branch)
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
    whole += [f"{utils} {same}", f"nvidia-utils-{n} {same}", f"nvidia-kernel-source-{of_modules} {same}"]
    whole += [f"xserver-xorg-video-nvidia-{n} {same}", dkms, kernel_common]
    compute_only = [kernel_common, f"{compute} {same}", f"nvidia-kernel-source-{of_modules} {same}", f"{utils} {same}"]
    smi = {"/usr/bin/nvidia-smi": File((STANDINS / "nvidia-smi").read_bytes(), 0o755)}
    persistence: Content = {"/usr/bin/nvidia-persistenced": File(b"#!/bin/sh\nexit 0\n", 0o755)}
    nouveau = {"/lib/modprobe.d/nvidia-graphics-drivers.conf": File(NOUVEAU.encode())}
    initramfs = {"postinst": '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then update-initramfs -u; fi\n'}
    firmware = f"nvidia-firmware-{n}-{branch.upstream}" if _number(n) >= FIRMWARE_FROM else ""
    found += [
        _part(branch, f"libnvidia-common-{n}", "", {}, "libs")._replace(architecture="all"),
        _part(branch, f"nvidia-utils-{n}", f"{compute}", smi, "utils"),
        _part(branch, utils, compute, persistence, "utils"),
        _part(branch, f"xserver-xorg-video-nvidia-{n}", "xserver-xorg-core", {}, "x11"),
        _part(branch, f"nvidia-kernel-common-{n}", firmware, nouveau, "kernel", initramfs),
    ]
    if firmware:
        found.append(_part(branch, firmware, "", {}, "libs")._replace(fields={}))
    if branch.open:
        found = []
    no_dkms = f"nvidia-headless-no-dkms-{of_modules}"
    source = dkms_source(branch.upstream, branch.licence)
    found += [
        _part(branch, f"nvidia-kernel-source-{of_modules}", "", source, "kernel"),
        _dkms(branch),
        _part(branch, no_dkms, ", ".join(compute_only), {}, "metapackages"),
        _part(branch, f"nvidia-headless-{of_modules}", f"{no_dkms} {same}, {dkms}", {}, "metapackages"),
    ]
    aliases = ", ".join(f"pci:v000010DEd0000{device.upper()}sv*sd*bc03sc*i*" for device in branch.claims)
    driver = _part(branch, f"nvidia-driver-{of_modules}", ", ".join(whole), {}, "libs")
    fields = {
        **driver.fields,
        "Recommends": "nvidia-settings, nvidia-prime (>= 0.8)",
        "Modaliases": f"nvidia_driver_{of_modules.replace('-', '_')}({aliases})",
        "Support": branch.support,
    }
    return [*found, driver._replace(fields=fields)]


def signed_packages(branch: Branch, kernel: Kernel, version: str) -> List[Package]:
    """Canonical's prebuilt modules of a driver line for one kernel: objects, the package that joins them, the meta."""
    n, release = branch.name, kernel.release
    place = f"/lib/modules/{release}/kernel/nvidia-{n}"
    objects: Dict[str, File | Link] = {}
    for module in MODULES:
        plain, signature = elf.split_signature(signed_module(module, branch.upstream, release, branch.licence))
        objects[f"{place}/bits/{module}.o"] = File(plain)
        objects[f"{place}/bits/{module}.sig"] = File((signature and elf.with_signature(b"", signature)) or b"")
    exact = f"(= {version})"
    common = _of_upstream(f"nvidia-kernel-common-{branch.line}", branch)
    provided = f"nvidia-dkms-{n} (= {branch.upstream}), nvidia-prebuilt-kernel"
    built = f"linux-modules-nvidia-{n}-{release}"

    def part(name: str, depends: str, **more: Any) -> Package:
        """One package of linux-restricted-modules."""
        fields = {"Depends": depends, **more.pop("fields", {})}
        source = f"linux-restricted-modules{kernel.suffix}"
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
        *(
            part(f"linux-modules-nvidia-{n}-{flavour}", f"{built} {exact}, {common}", fields={"Provides": provided})
            for flavour in (kernel.flavour, *kernel.also)
        ),
    ]


def signatures(kernel: Kernel, version: str) -> Package:
    """The package of Canonical's signatures; here they lie beside the objects, and this is only the dependency."""
    source = f"linux-restricted-signatures{kernel.suffix}"
    name = f"linux-signatures-nvidia-{kernel.release}"
    return Package(name, version, source, "kernel", "restricted", pockets=ANYWHERE)


def transitional(release: Release, name: str, lines: Sequence[Branch], target: str = "") -> Package:
    """An old line's driver package, which pulls the line after it."""
    target = target or release.transitional[name]
    end = target
    while end in release.transitional:
        end = release.transitional[end]
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


# rep stosd with the pattern that is looked for (host.probe.cuda): what cuMemcpyDtoH gives back.
_COPY = b"\xb8\xfe\xca\x0d\x60\x48\x89\xd1\x48\xc1\xe9\x02\xf3\xab\x31\xc0\xc3"


def computing(package: Package, upstream: str) -> Package:
    """Return a driver's package of libraries with a libcuda that starts, has one card, and gives back what its card
    would have written.
    """
    functions = {
        **dict.fromkeys(
            ("cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemsetD32_v2", "cuMemFree_v2"), elf.answer(0)
        ),
        **dict.fromkeys(("cuInit", "cuDeviceGetName"), elf.answer(0)),
        **dict.fromkeys(("cuDeviceGet", "cuMemAlloc_v2"), elf.store(0)),
        "cuDeviceGetCount": elf.store(1),
        "cuDeviceGetAttribute": elf.store(6),
        "cuDriverGetVersion": elf.store(12000),
        "cuMemcpyDtoH_v2": _COPY,
    }
    library = File(elf.library("libcuda.so.1", functions))
    return package._replace(content={**package.content, f"{LIBRARIES}/libcuda.so.{upstream}": library})


def _cuda_number(version: str) -> int:
    """The newest CUDA of the driver's line as the driver's library numbers it (12.0 is 12000)."""
    rows = shipped().drivers["branches"]
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
    depends = f"nvidia-kernel-source-{branch.name} (= {branch.version}), nvidia-kernel-common-{branch.line}, dkms"
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
