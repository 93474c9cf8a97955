"""What archives offer, for tests: recorded in `tests/data/offers`, and the catalog's snapshot as a host's offers."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from gpuhost.planning.candidates import claims
from gpuhost.planning.catalog import shipped

RECORDED = Path(__file__).resolve().parent / "data" / "offers"
CODENAMES = {
    "ubuntu-18.04": ("Ubuntu", "bionic-updates"),
    "ubuntu-20.04": ("Ubuntu", "focal-updates"),
    "ubuntu-22.04": ("Ubuntu", "jammy-updates"),
    "ubuntu-24.04": ("Ubuntu", "noble-updates"),
    "ubuntu-26.04": ("Ubuntu", "resolute-updates"),
    "debian-12": ("Debian", "bookworm"),
    "debian-13": ("Debian", "trixie"),
}
Row = Dict[str, Any]


def package(name: str, version: str, source: str, component: str = "restricted", **more: Any) -> Row:
    """Return a package as an observation has it, of the first archive."""
    plain = version.partition(":")[2] or version
    return {
        "package": name,
        "version": version,
        "architecture": "amd64",
        "archive": 0,
        "component": component,
        "source": source,
        "size": 1000 + len(name),
        "sha256": hashlib.sha256(f"{name} {version}".encode()).hexdigest(),
        "file": f"pool/{component}/{source[0]}/{source}/{name}_{plain}_amd64.deb",
        "depends": "",
        "provides": "",
        **more,
    }


def ubuntu_branch(tail: str, version: str, devices: Sequence[str], **more: Any) -> List[Row]:
    """Return the packages of one of Ubuntu's drivers, such as "525-server-open".

    Both kinds of module have the same libraries and the same source package, whose names do not say "open".
    """
    line = tail.replace("-open", "")
    upstream, source = version.partition("-")[0], f"nvidia-graphics-drivers-{line}"

    def of_upstream(name: str) -> str:
        return f"{name} (<= {upstream}-1), {name} (>= {upstream})"

    common = f"nvidia-kernel-common-{line}"
    needs = [f"libnvidia-compute-{line} (= {version})", of_upstream(f"nvidia-dkms-{tail}")]
    needs += [of_upstream(common), "libx11-6"]
    return [
        package(
            f"nvidia-driver-{tail}", version, source, **{"depends": ", ".join(needs), "devices": list(devices), **more}
        ),
        package(f"libnvidia-compute-{line}", version, source, depends="libc6 (>= 2.17)"),
        package(f"nvidia-dkms-{tail}", version, source, depends=f"dkms, {of_upstream(common)}"),
        package(common, version, source),
    ]


def modules(tail: str, upstream: str, flavour: str, kernel: str, version: str) -> List[Row]:
    """Return Canonical's prebuilt modules of a driver line: those of one kernel, and the package that leads there."""
    prefix, source = f"linux-modules-nvidia-{tail}", "linux-restricted-modules"
    name = "nvidia-kernel-common-" + tail.replace("-open", "")
    common = f"{name} (<= {upstream}-1), {name} (>= {upstream})"
    stands = {"provides": f"nvidia-dkms-{tail} (= {upstream}), nvidia-prebuilt-kernel"}
    built = f"linux-image-{kernel} | linux-image-unsigned-{kernel}, linux-signatures-nvidia-{kernel} (= {version}), "
    built += f"linux-objects-nvidia-{tail}-{kernel} (= {version})"
    return [
        package(f"{prefix}-{kernel}", version, source, depends=f"{built}, {common}", **stands),
        package(f"linux-objects-nvidia-{tail}-{kernel}", version, source),
        package(f"{prefix}-{flavour}", version, source, depends=f"{prefix}-{kernel} (= {version}), {common}", **stands),
    ]


def offers(platform: str, packages: Sequence[Row], components: Sequence[str] = ()) -> Dict[str, Any]:
    """Return the offers of a host whose archive has these packages, each once."""
    label, release = CODENAMES[platform]
    found = {(row["package"], row["version"]): row for row in packages}
    archive = {
        "origin": label,
        "label": label,
        "codename": release.partition("-")[0],
        "suite": release,
        "site": "archive.example",
        "release": release,
        "date": "20261126T210335Z",
        "components": sorted({*components, "main", *(row["component"] for row in packages)}),
    }
    return {"archives": [archive], "packages": list(found.values()), "tools": {}}


def snapshot(platform: str) -> Dict[str, Any]:
    """Return the catalog's snapshot of a platform's archive as what a host's archive offers."""
    catalog, found = shipped(), []
    for row in catalog.drivers["archives"][platform]:
        same = {key: row[key] for key in ("sha256", "file", "support") if key in row}
        if platform.startswith("debian"):
            source = row["file"].split("/")[-2]
            found.append(package(row["package"], row["package_version"], source, row["component"], **same))
            continue
        tail = re.sub("^nvidia-driver-", "", row["package"])
        found += ubuntu_branch(tail, row["package_version"], sorted(claims(catalog, row)), **same)
        for kernel in catalog.platforms["platforms"][platform].get("kernels", ()):
            if kernel["flavour"] in row["signed_modules"]:
                version = row["signed_modules"][kernel["flavour"]]
                found += modules(tail, row["version"], kernel["flavour"], kernel["release"], version)
                found.append(
                    package(f"linux-signatures-nvidia-{kernel['release']}", version, "linux-restricted-signatures")
                )
    return offers(
        platform,
        found,
        ("contrib", "non-free", "non-free-firmware") if platform.startswith("debian") else ("restricted",),
    )


def offering(observation: Dict[str, Any]) -> Dict[str, Any]:
    """Return the observation of a host whose archive is as the catalog's snapshot of it."""
    return {**observation, "offers": snapshot(observation["platform"]["id"])}


class Apt:
    """Answers the probe's questions to apt from recorded text; `said` replaces the answer to a command by its word."""

    def __init__(self, policy: str, madison: str, show: str) -> None:
        """Keep what it says."""
        self.policy, self.madison, self.show = policy, madison, show
        self.said: Dict[str, Tuple[int, str, str]] = {}
        self.asked: List[List[str]] = []

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer as apt-cache does: madison and show only what they are asked for."""
        words = list(argv)
        assert words[0] == "apt-cache", words
        self.asked.append(words)
        verb = next(word for word in words if word in ("policy", "pkgnames", "madison", "show"))
        if verb in self.said:
            return self.said[verb]
        names = words[words.index(verb) + 1 :]
        if verb == "policy":
            return 0, self.policy, ""
        rows = [line for line in self.madison.splitlines() if line.strip()]
        if verb == "pkgnames":
            return 0, "".join(f"{name}\n" for name in dict.fromkeys(line.split("|")[0].strip() for line in rows)), ""
        if verb == "madison":
            return 0, "".join(f"{line}\n" for line in rows if line.split("|")[0].strip() in names), ""
        found = []
        for stanza in re.split(r"\n\s*\n", self.show):
            fields = dict(re.findall(r"^(Package|Version): *(.*)$", stanza, re.MULTILINE))
            if "{Package}={Version}".format(**{"Package": "", "Version": "", **fields}) in names:
                found.append(stanza.strip("\n"))
        return 0, "\n\n".join(found) + "\n", ""


def debian() -> Apt:
    """Return apt as it was recorded on Debian 12."""
    texts = ((RECORDED / f"debian-12-{name}.txt").read_text(encoding="utf-8") for name in ("policy", "madison", "show"))
    return Apt(*texts)
