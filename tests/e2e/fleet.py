"""The world of the fleet tests: archive, vendor mirror, imitation Ubuntu hosts, and a controller outside them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional, Type

from .beds.archive import Archive
from .beds.mirror import Mirror
from .beds.releases import BIONIC, Release
from .beds.ubuntu import UbuntuBed, own_pythons
from .controller import Controller, Json

GA, HWE = "4.15.0-213-generic", "5.4.0-150-generic"
#: What a run of a playbook may change on a host.
WATCHED = ["/boot", "/etc", "/opt", "/root", "/usr", "/lib/modules", "/var/lib/dpkg"]


class Kind(NamedTuple):
    """One host of a fleet, and what its lock must come to."""

    card: str
    kernel: str
    secure_boot: bool
    driver: str
    source: str


class World:
    """Archive, mirror, hosts and controller; used in a `with` block."""

    def __init__(self, folder: Path, kinds: Dict[str, Kind], release: Release = BIONIC, **variables: Any) -> None:
        """Describe the hosts; `variables` are Ansible's for all of them."""
        self.folder, self.kinds, self.release, self._variables = folder, kinds, release, variables
        self.beds: Dict[str, UbuntuBed] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> World:
        """Serve the files, boot the hosts."""
        with contextlib.ExitStack() as stack:
            self.archive = stack.enter_context(Archive(self.folder / "archive", own_pythons(), self.release))
            self.mirror = stack.enter_context(Mirror(self.folder / "mirror"))
            self.controller = Controller(
                self.folder / "controller",
                {"SSL_CERT_FILE": str(self.mirror.authority)},
                gpuhost_mirror_url=self.mirror.url,
                **self._variables,
            )
            for name, kind in self.kinds.items():
                bed = UbuntuBed.fresh(
                    cards=[kind.card],
                    kernel=kind.kernel,
                    secure_boot=kind.secure_boot,
                    archive=self.archive,
                    mirror=self.mirror,
                    logs=self.folder / "logs" / name,
                )
                self.beds[name] = stack.enter_context(bed)
                self.controller.add(name, bed.inventory(name)[name])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End all of it."""
        self._stack.close()

    def plan(self) -> None:
        """Let the playbook write the locks, then put the stand-ins' checksums in: NVIDIA's cannot be met."""
        self.controller.ok("playbooks/plan.yml")
        for name in self.kinds:
            self.controller.edit_lock(name, self.stand_ins)

    def stand_ins(self, lock: Json) -> None:
        """The checksums of what the archive and the mirror of this world serve."""
        plan = lock["plan"]
        if plan["driver"] is None:
            return
        if plan["driver"]["source"] == "archive":
            plan["driver"]["sha256"] = self.archive.sha256(plan["driver"]["package"])
        else:
            self._replace(plan["driver"], self.mirror.artifact("driver", plan["driver"]["version"]))
        if plan["cuda"]["source"] == "wheels":
            return
        self._replace(plan["cuda"], self.mirror.artifact("cuda", plan["cuda"]["version"]))
        self._replace(plan["cudnn"], self.mirror.artifact("cudnn", plan["cudnn"]["version"], plan["cudnn"]["cuda"]))

    @staticmethod
    def _replace(part: Json, artifact: Json) -> None:
        """One artifact's checksum, and its size where the lock has one."""
        part["sha256"] = artifact["sha256"]
        if "size" in part:
            part["size"] = artifact["size"]

    def enrol(self, name: str) -> None:
        """Be the person: ask for the key's enrolment, reboot, confirm at the blue screen."""
        bed = self.beds[name]
        key = "/var/lib/shim-signed/mok/MOK.der"
        bed.run(["sh", "-c", f"printf 'one-time\\none-time\\n' | mokutil --import {key}"])
        bed.enrol_mok()
        bed.reboot()

    def installed(self, name: str) -> Json:
        """What is really on a host: read there, without gpuhost."""
        bed = self.beds[name]
        kernel = self.kinds[name].kernel
        return {
            "loaded": first(bed.run(["cat", "/proc/driver/nvidia/version"], check=False).stdout),
            "module": bed.run(["modinfo", "-k", kernel, "-F", "version", "nvidia"], check=False).stdout.strip(),
            "signer": bed.signer(kernel),
            "nvcc": bed.run(["/opt/gpuhost/current/cuda/bin/nvcc", "--version"], check=False).stdout,
            "cudnn": bed.run(["cat", "/opt/gpuhost/current/cudnn/include/cudnn_version.h"], check=False).stdout,
            "audit": bed.run(["dpkg", "--audit"]).stdout,
            "packages": packages(bed),
        }


def first(text: str) -> str:
    """The first line."""
    return text.splitlines()[0] if text else ""


def packages(bed: UbuntuBed) -> Dict[str, str]:
    """The installed packages, by name."""
    listed = bed.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"]).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {name: version for name, version, state in rows if state == "installed"}


def driver_packages(bed: UbuntuBed) -> Dict[str, str]:
    """The installed packages of the driver and of kernels, by name."""
    return {name: version for name, version in packages(bed).items() if "nvidia" in name or name.startswith("linux-")}


def state(bed: UbuntuBed, name: str) -> Optional[Json]:
    """A record that a role keeps on the host."""
    done = bed.run(["cat", f"/opt/gpuhost/state/{name}.json"], check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else None


class Steps:
    """The steps of the driver's installation that a host has come to since this was made, as its log names them."""

    def __init__(self, bed: UbuntuBed) -> None:
        """Begin behind what the log has already."""
        self._log = bed.copy.root / "opt/gpuhost/log/driver.log"
        self._begin = self._log.stat().st_size if self._log.exists() else 0

    def told(self) -> str:
        """Return the steps, one a line."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            text = log.read().decode("utf-8", "replace")
        return "".join(line + "\n" for line in text.splitlines() if line.startswith("= "))


def lines(bed: UbuntuBed, *argv: str) -> List[str]:
    """The lines that a command prints."""
    return bed.run(list(argv)).stdout.splitlines()
