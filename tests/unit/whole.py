"""Whole machines of files and commands, on which every check of verify/ that reads a machine passes, to break them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from gpuhost.host import store
from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.guard import rules as guard
from gpuhost.host.probe import installed as probe_installed
from gpuhost.host.probe import virtualbox as probe_virtualbox
from gpuhost.host.probe.driver import CERTIFICATE

from .. import recorded
from ..example_hosts import answers_of, folder_of
from .collected import beside_host, cpu_host, gpu_host

Json = Dict[str, Any]
Answer = Tuple[int, str, str]
ROOT = "/opt/gpuhost"
VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
EDITOR = "http://editor.example/apt"
POLICY = f"""\
 500 {EDITOR} stable/main amd64 Packages
     release o=Editor,a=stable,n=stable,l=Editor,c=main
     origin editor.example
Pinned packages:
"""


class Whole:
    """A machine that is what its lock says; `seen` is what verify/ collects beside it."""

    def __init__(self, folder: Path, kind: str) -> None:
        """Write it: "cpu", or a card with modules that are "signed", of the "own key", or "unsigned" and may be.

        "beside" is one of the own key with VirtualBox beside the driver.
        """
        self.folder, self.kind = folder, "own key" if kind == "beside" else kind
        self.seen = {"cpu": cpu_host, "beside": beside_host}.get(kind, gpu_host)()
        self.installed: Json = self.seen["machine"]["installed"]
        host = folder_of("debian12-no-gpu" if kind == "cpu" else "ubuntu1804-gtx750ti-driver470")
        shutil.copytree(host / "fs", folder, symlinks=True)
        self.answers = answers_of(host)
        self.asked: List[Tuple[str, ...]] = []
        self.answers["dmesg",] = (0, "", "")
        self.answers["dkms", "status"] = (NOT_FOUND, "", "dkms is not installed")
        self.put("/proc/modules", "ext4 655360 1 - Live 0x0\n")
        self.put_foreign_source()
        if kind != "cpu":
            self.put_driver()
        if kind == "beside":
            self.put_virtualbox()
        self.put_guard()
        self.put_store()

    def put(self, name: str, text: str) -> None:
        """Write a file of the machine."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def put_foreign_source(self) -> None:
        """A source of somebody else that offers nothing of the stack."""
        self.put("/etc/apt/sources.list.d/editor.list", f"deb {EDITOR} stable main\n")
        self.put("/var/lib/apt/lists/editor.example_apt_dists_stable_InRelease", "")
        policy = next(argv for argv in self.answers if argv[-1] == "policy")
        code, out, err = self.answers[policy]
        self.answers[policy] = (code, out.replace("Pinned packages:\n", POLICY), err)
        self.answers[(*policy[:-1], "pkgnames")] = (0, "bash\nlinux-image-generic\n", "")
        self.madison: List[str] = []

    def put_driver(self) -> None:
        """The driver, installed and loaded, in files and commands."""
        found, signs = self.installed["driver"], self.installed["signs"]
        version, kernel = found["library"], found["kernel"]
        said = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Fri\n"
        self.put("/proc/driver/nvidia/version", said)
        self.put("/proc/modules", "nvidia_uvm 1 0 - Live 0x0\nnvidia 1 1 nvidia_uvm, Live 0x0\n")
        library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
        self.put(f"{library}.{version}", "")
        (self.folder / f"{library}.1".lstrip("/")).symlink_to(f"libnvidia-ml.so.{version}")
        self.put("/etc/modprobe.d/gpuhost-nouveau.conf", "blacklist nouveau\n")
        self.put(f"/boot/initrd.img-{kernel}", "")
        image = str(self.folder / f"boot/initrd.img-{kernel}")
        self.answers["lsinitramfs", image] = (0, "lib/modules/K/e1000.ko\n", "")
        for name in signs["nodes"]:
            self.put(f"/dev/{name}", "")
        signer = "" if self.kind == "unsigned" else found["module"]["signer"]
        said = recorded.modinfo(version, kernel, "/x/nvidia.ko", signer)
        self.answers["modinfo", "-k", kernel, "nvidia"] = (0, said, "")
        card, capability = self.seen["lock"]["cards"][0], self.seen["lock"]["plan"]["gpus"][0]["compute_capability"]
        row = f"00000000:01:00.0, {card['uuid']}, NVIDIA GeForce GTX 750 Ti, 2048, {capability}\n"
        query = next(argv for argv in self.answers if "compute_cap" in argv[1])
        self.answers[query] = (0, row, "")
        self.answers["nvidia-smi", "--query-gpu=pci.bus_id,memory.free", query[2]] = (0, "00000000:01:00.0, 1900\n", "")
        self.put(f"{ROOT}/state/driver.json", json.dumps(found["record"]))
        recorded.write("enrolled", self.folder, VARIABLE)
        if self.kind == "signed":
            self.put("/sys/module/nvidia_uvm/refcnt", "0")
            return
        # The variable cannot be read here, and the node of unified memory is made on demand.
        (self.folder / VARIABLE.lstrip("/")).unlink()
        (self.folder / "dev/nvidia-uvm").unlink()
        self.put("/usr/bin/nvidia-modprobe", "")
        (self.folder / "usr/bin/nvidia-modprobe").chmod(0o4755)
        uvm = ("modinfo", "-k", kernel, "-F", "filename", "nvidia-uvm")
        self.put("/proc/sys/kernel/osrelease", kernel)
        self.answers[uvm] = (0, "/x/nvidia-uvm.ko\n", "")
        state = "enrolled" if self.kind == "own key" else "setup-mode"
        self.answers["mokutil", "--sb-state"] = recorded.said(state, "mokutil", "--sb-state")
        if self.kind == "own key":
            for lock in (self.seen["lock"], self.installed["stack"]):
                lock["plan"]["driver"]["secure_boot"] = "own-key"
            self.put(CERTIFICATE, "")
            key = str(self.folder / CERTIFICATE.lstrip("/"))
            code, out, err = recorded.said("enrolled", "mokutil", "--test-key", CERTIFICATE)
            self.answers["mokutil", "--test-key", key] = (code, out.replace(CERTIFICATE, key), err)

    def put_virtualbox(self) -> None:
        """VirtualBox, installed and loaded, and KVM, which leaves it the CPU."""
        found = self.installed["virtualbox"]
        version, kernel, signer = found["program"], found["kernel"], self.installed["driver"]["module"]["signer"]
        release = f"{version}_Ubuntu r137960 (0x00290001)"
        names = [*found["modules"], "kvm_intel"]
        loaded = "".join(f"{name} 1 0 - Live 0x0\n" for name in names)
        self.put("/proc/modules", loaded + (self.folder / "proc/modules").read_text(encoding="utf-8"))
        for name, module in found["modules"].items():
            said = recorded.modinfo(release, kernel, module["path"], signer)
            self.answers["modinfo", "-k", kernel, name] = (0, said, "")
        self.put("/sys/module/vboxdrv/version", f"{release}\n")
        self.put("/sys/module/kvm/parameters/enable_virt_at_load", "N\n")
        self.put(probe_virtualbox.PROGRAM, "")
        self.answers[probe_virtualbox.PROGRAM, "--version"] = (0, f"{version}_Ubuntur137960\n", "")
        self.put(probe_virtualbox.DEVICE, "")
        (self.folder / probe_virtualbox.DEVICE.lstrip("/")).chmod(0o600)
        self.put("/etc/group", f"root:x:0:\n{probe_virtualbox.GROUP}:x:127:{','.join(found['members'])}\n")
        self.answers["dkms", "status"] = (0, "".join(f"{row}\n" for row in found["dkms"]), "")
        self.put(f"{ROOT}/{probe_virtualbox.RECORD}", json.dumps(found["record"]))

    def put_guard(self) -> None:
        """The packages of the driver and its kernel, and the guard over them."""
        found = self.installed["guard"]
        kernel = self.installed["driver"]["kernel"]
        self.packages = dict(found["stack"])
        self.held = set(found["held"])
        if self.packages:
            self.put(f"{ROOT}/{guard.RECORD}", json.dumps(found["record"]))
            self.put(guard.PREFERENCES, guard.preferences(found["pins"]))
            self.put(guard.UNATTENDED, guard.unattended(found["blacklist"]))
        rows = [
            f"{name}\tamd64\t{'virtualbox' if name.startswith('virtualbox') else 'nvidia-graphics-drivers-525'}\t"
            f"{version}\t{'hold' if name in self.held else 'install'}\t"
            f"installed\tlinux-image-{kernel}\n"
            for name, version in self.packages.items()
        ]
        self.answers["dpkg-query", "-W", "-f=" + guard.FORMAT] = (
            0,
            "".join(rows) + "bash\tamd64\tbash\t5\tinstall\tinstalled\t\n",
            "",
        )

    def put_store(self) -> None:
        """The generation in force and what it links to."""
        top = self.folder / ROOT.lstrip("/")
        for link in self.installed["links"].values():
            (top / link["target"]).mkdir(parents=True)
        if self.kind != "cpu":
            targets = {name: f"{ROOT}/{link['target']}" for name, link in self.installed["links"].items()}
            self.put(f"{targets['cuda']}/version.json", json.dumps({"cuda": {"version": self.installed["cuda"]}}))
            self.put(f"{targets['cuda']}/bin/nvcc", "")
            compiler = str(top / "generations/1/cuda/bin/nvcc")
            self.answers[compiler, "--version"] = (0, f"release {self.installed['nvcc']}, V", "")
            figures = zip(("MAJOR", "MINOR", "PATCHLEVEL"), self.installed["cudnn"].split("."))
            header = "".join(f"#define CUDNN_{name} {figure}\n" for name, figure in figures)
            self.put(f"{targets['cudnn']}/include/cudnn_version.h", header)
        for link in self.installed["links"].values():
            store.seal(top / link["target"], {"digest": link["digest"]})
        links = {name: link["target"] for name, link in self.installed["links"].items()}
        store.switch(top, self.installed["stack"], links)

    def run(self, argv: Sequence[str], timeout: float) -> Answer:
        """The answer of a command. apt-cache madison lists the names that it is asked for."""
        words = tuple(argv)
        self.asked.append(words)
        if words in self.answers:
            return self.answers[words]
        if "madison" in words:
            names = words[words.index("madison") + 1 :]
            own = "http://ubuntu-archive.example/ubuntu bionic/main amd64 Packages"
            theirs = f"{EDITOR} stable/main amd64 Packages"
            return 0, "".join(f" {n} | 1 | {theirs if n.endswith('-999') else own}\n" for n in names), ""
        if words[:2] == ("dpkg", "--verify"):
            return 0, "", ""
        return (1, "", "not found") if words[0] == "modinfo" else (NOT_FOUND, "", f"{words[0]} is not installed")

    def collect(self) -> Json:
        """What verify/ has of the machine as it is now."""
        try:
            machine = json.loads(json.dumps(probe_installed.read(ROOT, str(self.folder), self.run)))
        except Exception as error:  # noqa: BLE001 - what a probe that crashes leaves is judged too
            machine = {"error": f"{type(error).__name__}: {error}", "next_step": ""}
        device = (machine.get("installed", {}).get("virtualbox") or {}).get("device")
        if device and device["uid"] == os.getuid():
            device.update(uid=0, gid=0)  # whoever runs the tests is root of this machine
        return {**self.seen, "machine": machine}
