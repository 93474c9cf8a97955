"""What a machine in one state of Secure Boot says, recorded: commands with all they print, and files.

A record is {"commands": [{"argv", "rc", "out", "err"}], "files": {path: text, or "hex:..." for the firmware's
variables}}. Of the kernel's log the lines about keys, modules, lockdown and the driver are kept, the rest is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from .guest import Guest
from .root import FOLDER, KEYS, MODULES

RECORDS = Path(__file__).resolve().parents[2] / "data/secureboot"
#: Shim's variables have its own namespace, the firmware's that of UEFI.
GLOBAL, SHIM = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "605dab50-e046-4300-abb6-3dd810dd8b23"
VARIABLES = [f"{name}-{GLOBAL}" for name in ("SecureBoot", "SetupMode")] + [f"MokSBStateRT-{SHIM}"]
FILES = [f"/sys/firmware/efi/efivars/{name}" for name in VARIABLES]
FILES += ["/sys/kernel/security/lockdown", "/sys/module/module/parameters/sig_enforce", "/proc/sys/kernel/tainted"]
FILES += ["/proc/cmdline", "/proc/driver/nvidia/version"]
# Runs in the machine, once a state: each command takes a second there, and a login two.
RECORDER = r"""
import json, os, re, shutil, subprocess
asked = json.loads(ASKED)
KEPT = re.compile(r"secure|lock(ed )?down|X\.509|keyring|[Mm]odule|MOK|nvidia|NVRM|ima: |hello_|PKCS")
env = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
commands, files = [], {}
for argv in asked["commands"]:
    if shutil.which(argv[0], path=env["PATH"]) is None:
        commands.append({"argv": argv, "rc": 127, "out": "", "err": ""})
        continue
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env)
    out, err = (data.decode("utf-8", "replace") for data in (done.stdout, done.stderr))
    if argv == ["dmesg"]:
        out = "".join(line + "\n" for line in out.splitlines() if KEPT.search(line) and "systemd[1]" not in line)
    commands.append({"argv": argv, "rc": done.returncode, "out": out, "err": err})
for name in asked["files"]:
    if os.path.exists(name):
        data = open(name, "rb").read()
        files[name] = "hex:" + data.hex() if "efivars" in name else data.decode()
print(json.dumps({"commands": commands, "files": files}))
"""


class Said(NamedTuple):
    """How a command ended and what it printed."""

    rc: int
    out: str
    err: str


class Record:
    """One state of one machine."""

    def __init__(self, content: Dict[str, Any]) -> None:
        """Take a record as it stands in its file."""
        self.content = content
        self.files: Dict[str, str] = content["files"]

    @classmethod
    def read(cls, name: str) -> Record:
        """A record of the project."""
        return cls(json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")))

    def write(self, name: str) -> None:
        """Keep it in the project."""
        RECORDS.mkdir(exist_ok=True)
        (RECORDS / f"{name}.json").write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")

    def said(self, *argv: str) -> Said:
        """What a command said, the last time it was asked."""
        found = [one for one in self.content["commands"] if one["argv"] == list(argv)][-1]
        return Said(found["rc"], found["out"], found["err"])

    def variable(self, name: str) -> bytes:
        """A variable of the firmware as efivarfs shows it; empty where there is none."""
        found = [text for path, text in self.files.items() if path.rpartition("/")[2].startswith(name + "-")]
        return bytes.fromhex(found[0][len("hex:") :]) if found else b""


def commands() -> List[List[str]]:
    """What is asked in each state, in order: who is trusted, each module, the log."""
    own, strange = (f"{KEYS[name]}.der" for name in ("own", "strange"))
    found = [["uname", "-r"], ["mokutil", "--version"], ["mokutil", "--sb-state"], ["mokutil", "--test-key", own]]
    found += [["mokutil", "--test-key", strange], ["mokutil", "--list-enrolled"], ["mokutil", "--list-new"]]
    for name in MODULES:
        found += [["modinfo", f"{FOLDER}/{name}.ko"], ["insmod", f"{FOLDER}/{name}.ko"], ["rmmod", name]]
    found += [["modinfo", "nvidia-current"], ["modprobe", "nvidia"], ["lspci", "-nnk", "-d", "10de:"], ["nvidia-smi"]]
    found.append(["dmesg"])
    return found


def record(guest: Guest, folder: str = FOLDER) -> Record:
    """Ask all of it; `folder` is where the small modules for the running kernel are."""
    asked = [[word.replace(FOLDER, folder, 1) for word in argv] for argv in commands()]
    program = f"ASKED = {json.dumps({'commands': asked, 'files': FILES})!r}\n{RECORDER}"
    found = json.loads(guest.run(["python3", "-"], stdin=program.encode(), timeout=900)[1])
    text = json.dumps(found).replace(folder + "/", FOLDER + "/")
    return Record(json.loads(text))
