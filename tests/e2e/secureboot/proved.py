"""The root of a machine that tries kernels: two real kernels, a small module in the driver's place, ways to fail.

The module is called nvidia and signed by the machine's own key. It shows what the real one shows (its version, its
device nodes), and computes nothing; libcuda is a stand-in that answers. All of it is built outside, at the speed of the
outer machine.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List

from gpuhost.host.driver.modules import NOUVEAU_FILE, NOUVEAU_TEXT
from gpuhost.host.driver.packages import digest
from gpuhost.shipping import tree

from ..beds import Bed, debs
from ..beds.debs import File, Link, Package
from ..beds.driver_packages import computing
from ..beds.standins import elf
from . import root

Json = Dict[str, Any]
VERSION, OTHER = "550.163.01", "470.256.02"
OPT, STAGE, VARIANTS = "/opt/gpuhost", "/root/stage.py", "/root/variants"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
#: What the real module shows of itself, as far as the watch looks; with REFUSES it takes no card.
SOURCE = """#include <linux/module.h>
#include <linux/miscdevice.h>
#include <linux/fs.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
static const struct file_operations nothing = { .owner = THIS_MODULE };
static struct miscdevice control = { .minor = MISC_DYNAMIC_MINOR, .name = "nvidiactl", .fops = &nothing };
#ifndef REFUSES
static struct miscdevice card = { .minor = MISC_DYNAMIC_MINOR, .name = "nvidia0", .fops = &nothing };
#endif
static int show(struct seq_file *to, void *unused)
{
	seq_puts(to, "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  " VERSION "  Release Build\\n");
	return 0;
}
static int __init begin(void)
{
	struct proc_dir_entry *folder = proc_mkdir("driver/nvidia", NULL);
	proc_create_single("version", 0444, folder, show);
#ifdef REFUSES
	pr_err("NVRM: The NVIDIA GPU was refused\\n");
	return misc_register(&control);
#else
	return misc_register(&control) ?: misc_register(&card);
#endif
}
static void __exit end(void) {}
module_init(begin);
module_exit(end);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION(VERSION);
"""
#: Every processor stops, with interrupts off: only a watchdog ends it.
HANG = """#include <linux/module.h>
#include <linux/smp.h>
static void stop(void *unused) { local_irq_disable(); for (;;) cpu_relax(); }
static int __init begin(void) { smp_call_function(stop, NULL, 0); stop(NULL); return 0; }
module_init(begin);
MODULE_LICENSE("GPL");
"""
MAKEFILE = 'obj-m += nvidia.o hang.o\nccflags-y += -DVERSION=\\"{version}\\" {more}\n'
#: Each kind of module: its version, what it is compiled with, and whether it is signed.
KINDS = {"right": (VERSION, "", True), "other": (OTHER, "", True), "refuses": (VERSION, "-DREFUSES", True)}
#: In the new kernel alone, as a file on the disk says.
FAULT = """#!/bin/sh
[ "$(uname -r)" = {kernel} ] || exit 0
case "$(cat /root/fault 2>/dev/null)" in
    panic) echo c >/proc/sysrq-trigger ;;
    hang) udevadm settle; sleep 30; insmod {variants}/{kernel}/right/hang.ko ;;
esac
"""
UNIT = """[Unit]
Description=What is wrong with this kernel
After=local-fs.target systemd-udev-trigger.service
Before=gpuhost-pair.service
[Service]
Type=oneshot
ExecStart=/bin/sh /root/fault.sh
[Install]
WantedBy=multi-user.target
"""
#: What a controller asks of the host, with what stands in for the role that installs the driver.
ASK = """import json, sys
sys.path.insert(0, "/root/src")
from gpuhost.host.commands import run_command
from gpuhost.host.driver.packages import digest
from gpuhost.host.edges import Edges
from gpuhost.host.pairs.ask import Asked
state, kernel, name, again = sys.argv[1:5]
driver = json.load(open("/opt/gpuhost/current/stack.json"))["plan"]["driver"]
if state == "armed":
    record = json.load(open("/root/record.json"))
    with open("/opt/gpuhost/state/driver.json", "w") as handle:
        json.dump({**record, "kernel": kernel, "plan": digest(driver, kernel)}, handle)
params = {"root": "/opt/gpuhost", "name": name, "driver": driver, "again": again == "again", "window": "",
          "kernel": {"release": kernel, "packages": {}}}
print(json.dumps(getattr(Asked(params, Edges("/", run_command), False), state)()))
"""
SIGN = """import sys
sys.path.insert(0, "/root/src")
from pathlib import Path
from gpuhost.host.driver import key
from gpuhost.host.work import Work
key.make("debian", Work(Path("/root/key.log"), print))
print(key.sign_tool(sys.argv[1]))
"""


def furnish(bed: Bed, kernels: List[str], public_key: str) -> str:
    """Make all of it in a bed with these kernels, the older one first; return the program's name in the store."""
    bed.push(root.SRC, "/root/src")
    for kernel in kernels:
        modules(bed, kernel)
    top = bed.copy.root
    program = tree.program("pairs")
    store = f"{OPT}/store/{program['name']}"
    package = bed_package()
    deb = debs.build(package)
    sha256, file = hashlib.sha256(deb).hexdigest(), package.file.rpartition("/")[2]
    member = {
        "name": package.name, "version": package.version, "arch": "amd64", "sha256": sha256, "file": file,
        "size": len(deb), "unpacked": 0, "source": package.source,
    }  # fmt: skip
    driver = {
        "source": "archive", "package": package.name, "package_version": package.version, "version": VERSION,
        "branch": "550", "kernel_modules": "open", "modules_from": "dkms", "modules": None, "modules_package": "",
        "secure_boot": "enabled", "sha256": sha256, "packages": [],
    }  # fmt: skip
    old = kernels[0]
    record = {
        "schema": 1, "source": "archive", "version": VERSION, "branch": "550", "kernel": old, "modules_from": "dkms",
        "packages": {package.name: package.version}, "debs": {package.name: sha256}, "plan": digest(driver, old),
    }  # fmt: skip
    stack = {"plan": {"driver": driver, "gpus": [{"name": "Quadro P2000"}]}, "cards": [{"pci_id": "10de:1c30"}]}
    texts = {
        **{f"{store}/{name}": text for name, text in program["files"].items()},
        f"{OPT}/generations/1/stack.json": json.dumps(stack),
        f"{OPT}/state/driver.json": json.dumps(record),
        f"{OPT}/cache/debs/sets/{digest(driver, old)}.json": json.dumps({"schema": 1, "members": [member]}),
        "/root/record.json": json.dumps(record),
        STAGE: ASK,
        "/root/fault.sh": FAULT.format(kernel=kernels[1], variants=VARIANTS),
        "/etc/systemd/system/fault.service": UNIT,
        "/etc/modules-load.d/nvidia.conf": "nvidia\n",
        NOUVEAU_FILE: NOUVEAU_TEXT,
    }
    for name, text in texts.items():
        path = top / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    kept = top / f"{OPT[1:]}/cache/debs/{sha256}/{file}"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(deb)
    (top / OPT[1:] / "current").symlink_to("generations/1")
    bed.run(["dpkg", "--install", f"/{kept.relative_to(top)}"])
    bed.run(["systemctl", "enable", "fault"])
    root.furnish(bed, public_key)
    return str(program["name"])


def bed_package() -> Package:
    """The driver's one package: its library, and a libcuda that answers."""
    content = {
        f"{LIBRARIES}/libnvidia-ml.so.{VERSION}": File(elf.library("libnvidia-ml.so.1")),
        f"{LIBRARIES}/libnvidia-ml.so.1": Link(f"libnvidia-ml.so.{VERSION}"),
        f"{LIBRARIES}/libcuda.so.1": Link(f"libcuda.so.{VERSION}"),
    }
    made = Package("nvidia-driver", f"{VERSION}-1", "nvidia-graphics-drivers", content=content)
    return computing(made, VERSION)


def modules(bed: Bed, kernel: str) -> None:
    """Build each kind of module for a kernel, and put the right one in place."""
    tool = bed.run(["python3", "-c", SIGN, kernel]).stdout.split()[-1]
    key = root.KEYS["own"]
    for kind, (version, more, _) in KINDS.items():
        place = f"{VARIANTS}/{kernel}/{kind}"
        folder = bed.copy.root / place.lstrip("/")
        folder.mkdir(parents=True)
        (folder / "nvidia.c").write_text(SOURCE)
        (folder / "hang.c").write_text(HANG)
        (folder / "Makefile").write_text(MAKEFILE.format(version=version, more=more))
        bed.run(["make", "-C", f"/lib/modules/{kernel}/build", f"M={place}", "modules"], timeout=600)
        if kind == "right":
            bed.run(["sh", "-c", f"mkdir {place}/../unsigned && cp {place}/nvidia.ko {place}/../unsigned"])
        for name in ("nvidia", "hang"):
            bed.run([tool, "sha256", f"{key}.priv", f"{key}.der", f"{place}/{name}.ko"])
    target = f"/lib/modules/{kernel}/updates/dkms"
    bed.run(["sh", "-c", f"mkdir -p {target} && cp {VARIANTS}/{kernel}/right/nvidia.ko {target} && depmod {kernel}"])


def module_of(kernel: str) -> Path:
    """Where a kernel's module is."""
    return Path(f"/lib/modules/{kernel}/updates/dkms/nvidia.ko")
