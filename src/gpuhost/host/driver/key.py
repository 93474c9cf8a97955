"""The machine owner's key, which signs modules that are built here where Secure Boot is on.

Made on the host, readable by root alone, and never sent anywhere. Runs on the target: Python 3.6, standard library.
"""

import re
import shutil
from pathlib import Path
from typing import List, Optional

from ...errors import EnvironmentProblem
from ...reading import last
from .. import files
from ..commands import CommandFailed, Run, run_command
from ..parse.kernels import headers_package
from ..parse.signature import END, at_the_end
from ..probe.driver import CERTIFICATE, KEY_FOLDER
from ..work import Work
from .modules import KEY_CONFIG, OWN_SUBJECT, key_subject

PRIVATE = KEY_FOLDER + "/MOK.priv"
DAYS = "36500"
#: The driver's modules by name, as a pattern of the shell.
DRIVER_MODULES = "nvidia*"
DKMS_FILE = "/etc/dkms/framework.conf.d/gpuhost.conf"
DKMS_TEXT = f"# Written by gpuhost.\nmok_signing_key={PRIVATE}\nmok_certificate={CERTIFICATE}\n"
_READ_S = 60.0


def make(hostname: str, work: Work) -> bool:
    """Make the key and its certificate where they are not both there; return whether anything was done.

    A key without its certificate is a run that was killed: it is made again, nothing can be enrolled for it.
    """
    if Path(CERTIFICATE).exists() and Path(PRIVATE).exists():
        return False
    if Path(CERTIFICATE).exists():
        step = f"Put the key back, or remove {CERTIFICATE} so that a new pair is made and enrolled."
        raise EnvironmentProblem(f"The certificate {CERTIFICATE} is there without its key {PRIVATE}.", step)
    if shutil.which("openssl") is None:
        raise EnvironmentProblem("There is no openssl to make a key with.", "Install it: apt-get install openssl")
    files.make_private(Path(KEY_FOLDER))
    # Beside its place, so that both files come by a rename and are never there half.
    folder = Path(KEY_FOLDER) / ".new"
    files.remove(folder)
    files.make_private(folder)
    try:
        config = folder / "openssl.cnf"
        files.write_whole(config, KEY_CONFIG.format(subject=key_subject(hostname)), files.PRIVATE)
        argv = ["openssl", "req", "-config", str(config), "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256"]
        argv += ["-days", DAYS, "-outform", "DER", "-keyout", str(folder / "priv"), "-out", str(folder / "der")]
        work.say("making this machine's own key")
        work.run(argv)
        files.put(folder / "priv", Path(PRIVATE), files.PRIVATE)
        files.put(folder / "der", Path(CERTIFICATE))
    except CommandFailed as error:
        raise EnvironmentProblem(f"The key could not be made:\n{error}\n", f"The log is {work.log}.") from error
    finally:
        files.remove(folder)
    return True


def tell_dkms() -> bool:
    """Let Debian's dkms sign with this key (Ubuntu's looks here by itself); return whether anything was done."""
    path = Path(DKMS_FILE)
    if not path.parent.is_dir() or (path.is_file() and path.read_text(encoding="utf-8") == DKMS_TEXT):
        return False
    files.write_whole(path, DKMS_TEXT)
    return True


def leavings(run: Run = run_command) -> List[Path]:
    """Our files about the key: dkms's setting, and the pair itself where it was made here.

    The pair stays where DKMS has modules of others, which may be signed with it and will be again.
    """
    found = [Path(DKMS_FILE)]
    if subject(run).endswith(OWN_SUBJECT) and not run(["dkms", "status"], _READ_S)[1].strip():
        found += [Path(PRIVATE), Path(CERTIFICATE)]
    return [path for path in found if path.exists()]


def forget(ours: List[Path]) -> str:
    """Delete these files; what a person may still want to do, "" for nothing."""
    for path in ours:
        files.remove(path)
    if Path(CERTIFICATE) not in ours:
        return ""
    return "The firmware still knows this machine's key. To have it forgotten, at the next boot: mokutil --reset"


def subject(run: Run = run_command) -> str:
    """The name in the certificate, which modinfo gives as the signer; "" where there is none."""
    if not Path(CERTIFICATE).exists():
        return ""
    argv = ["openssl", "x509", "-inform", "DER", "-in", CERTIFICATE, "-noout", "-subject", "-nameopt", "multiline"]
    return common_name(run(argv, _READ_S)[1])


def common_name(text: str) -> str:
    """The common name in what `openssl x509 -subject -nameopt multiline` prints."""
    found = re.search(r"^\s*commonName\s*=\s*(.*?)\s*$", text, re.MULTILINE)
    return found.group(1) if found else ""


def sign_tool(kernel: str) -> Optional[str]:
    """The program that signs modules: Ubuntu's kmodsign, or the one that comes with the kernel's headers."""
    found = shutil.which("kmodsign")
    if found:
        return found
    places = [
        Path(f"/usr/src/linux-headers-{kernel}/scripts/sign-file"),
        Path(f"/lib/modules/{kernel}/build/scripts/sign-file"),
    ]
    return next((str(path) for path in places if path.exists()), None)


def unsigned(kernel: str, signer: str, run: Run = run_command, names: str = DRIVER_MODULES) -> List[Path]:
    """The modules that DKMS built for a kernel, of these names, and that are not signed by `signer`."""
    folder = Path(f"/lib/modules/{kernel}/updates/dkms")
    modules = sorted(folder.glob(f"{names}.ko*")) if folder.is_dir() else []
    return [path for path in modules if signer_of(path, run) != signer]


def signer_of(path: Path, run: Run) -> str:
    """The name of a module's signer; "" for one without a signature, or whose signer cannot be determined."""
    said = run(["modinfo", "-F", "signer", str(path)], _READ_S)[1].strip()
    return said if said or path.suffix != ".ko" else at_the_end(last(path, END)).signer


def sign(kernel: str, work: Work, run: Run = run_command, names: str = DRIVER_MODULES) -> bool:
    """Sign the modules for a kernel with the own key; return whether anything was done."""
    modules = unsigned(kernel, subject(run), run, names)
    if not modules:
        return False
    tool = sign_tool(kernel)
    if tool is None:
        step = f"Install the headers of that kernel: apt-get install {headers_package(kernel)}"
        raise EnvironmentProblem(f"There is nothing to sign the module for kernel {kernel} with. (D11)", step)
    for path in modules:
        if path.suffix != ".ko":
            step = "Set it off in /etc/dkms, rebuild with dkms, and run the same command again."
            raise EnvironmentProblem(f"{path} is compressed and not signed, and cannot be signed any more. (D11)", step)
        work.say(f"signing {path.name}")
        # A copy is signed and renamed: a module that is half written would not load.
        copy = path.with_name(path.name + ".signing")
        files.write_whole(copy, path.read_bytes())
        try:
            work.run([tool, "sha512" if tool.endswith("kmodsign") else "sha256", PRIVATE, CERTIFICATE, str(copy)])
        except CommandFailed as error:
            files.remove(copy)
            raise EnvironmentProblem(
                f"{path.name} could not be signed:\n{error}\n", f"The log is {work.log}."
            ) from error
        files.put(copy, path)
    return True


def is_pending(run: Run = run_command) -> bool:
    """Return whether the key's enrolment was asked for already, and waits for the person at the console."""
    name = subject(run)
    return bool(name) and name in run(["mokutil", "--list-new"], _READ_S)[1]


def request_enrolment(password: str, work: Work) -> None:
    """Ask the firmware to offer the key at the next boot; the password goes through standard input only."""
    work.say("asking for the key's enrolment at the next boot")
    try:
        work.run(["mokutil", "--import", CERTIFICATE], stdin=f"{password}\n{password}\n".encode())
    except CommandFailed as error:
        step = f"Do it at the console: mokutil --import {CERTIFICATE}"
        raise EnvironmentProblem(f"The key's enrolment could not be asked for:\n{error}\n", step) from error
