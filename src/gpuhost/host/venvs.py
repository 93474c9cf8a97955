"""Making a virtual environment in the store from a lock: every file by sha256, into the cache, then from it alone.

Runs on the target: Python 3.6, standard library. pip does the fetching, from whatever index the host is set up for;
its `--require-hashes` refuses any other file. The files stay in the cache, so that the same environment can be made
again without a network.
"""

import shutil
from pathlib import Path
from typing import Any, Callable, List, Mapping, Sequence

from ..errors import ArtifactError, EnvironmentProblem
from ..types import Json
from . import commands, files, making, own_libraries
from .commands import CommandFailed
from .room import UNPACKED

# What pip needs in place before it can build an sdist without fetching build tools of its own choice.
BUILD_TOOLS = ("pip", "setuptools", "wheel")
FOREIGN = (
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
    *(f"PIP_{name}" for name in ("TARGET", "USER", "PREFIX", "ROOT", "PYTHON", "REQUIREMENT", "CONSTRAINT", "DRY_RUN")),
)
QUIET = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_NO_COLOR": "1",
    "PYTHONNOUSERSITE": "1",
}


def run(argv: Sequence[str], log: Path) -> None:
    """Run Python, pip or an installer with its output in the log file; `CommandFailed` when it fails.

    pip tells the addresses of its index and proxy; what it tells of their logins and tokens is not kept.
    """
    # A build's Python 3.6 would read and write ASCII under plain C.
    variables = commands.environment(FOREIGN, LC_ALL="C.UTF-8", **QUIET)
    commands.follow(argv, log, lambda _: None, variables, cwd="/")


def requirements(packages: Sequence[Mapping[str, Any]]) -> str:
    """Packages as pip takes them: exact version and hash, one a line.

    With three signs: two would also take a wheel that was built here, 4.14.0.94+cuda130.sm86 for 4.14.0.94, and
    prefer it.
    """
    return "".join("{name}==={version} --hash=sha256:{sha256}\n".format(**p) for p in packages)


def missing(packages: Sequence[Mapping[str, Any]], wheels: Path) -> List[Mapping[str, Any]]:
    """The packages whose file is not in the cache with the right checksum; a wrong file is taken out."""
    found = []
    for package in packages:
        path = wheels / package["file"]
        if path.is_file():
            if files.sha256(path) == package["sha256"]:
                continue
            files.remove(path)
        found.append(package)
    return found


def amount(packages: Sequence[Mapping[str, Any]]) -> str:
    """How many packages, and the sum of the known sizes."""
    megabytes = sum(p["size"] or 0 for p in packages) / 1e6
    return f"{len(packages)} package{'' if len(packages) == 1 else 's'}, {megabytes:.0f} MB"


def not_fetched(said: str, wheels: Path) -> Exception:
    """What a failed download means for the user."""
    if "DO NOT MATCH THE HASHES" in said:
        step = "Do not install it. Try again; if it stays so, the index serves another file."
        return ArtifactError(f"A downloaded package is not the file of the lock.\n{said}", step)
    if "No space left" in said:
        return EnvironmentProblem(f"There is no space left for {wheels}.", "Make room and run the same command again.")
    step = "Check the network and pip's index (pip config list) on this host, then run the same command again."
    return EnvironmentProblem(f"The packages could not be fetched:\n{said}\n", step)


def fetch(pip: List[str], packages: Sequence[Mapping[str, Any]], wheels: Path, scratch: Path, log: Path) -> None:
    """Download packages into the cache, each only after its checksum was right.

    pip's own cache stands beside it while it is needed: a file that a killed run had whole is taken from there. The
    user's would keep a second copy of everything, and outlive a removal.
    """
    own = wheels.with_name("pip")
    files.remove(scratch)
    files.make_folder(scratch)
    wanted = scratch / "requirements.txt"
    files.write_whole(wanted, requirements(packages))
    # --no-build-isolation: pip prepares an sdist's metadata even for a download; the lock's own tools do that.
    options = ["--no-deps", "--require-hashes", "--no-build-isolation", "-r", str(wanted), "-d", str(scratch)]
    try:
        run([*pip, "download", "--cache-dir", str(own), *options], log)
    except CommandFailed as error:
        raise not_fetched(str(error), wheels) from error
    for package in packages:
        source = scratch / package["file"]
        if not source.is_file() or files.sha256(source) != package["sha256"]:
            step = "The lock may be damaged: restore it, and the files beside it, from git."
            raise ArtifactError("pip did not deliver {}.".format(package["file"]), step)
        files.put(source, wheels / package["file"])
    files.remove(own)


def folder_of(root: Path, name: str, lock: Mapping[str, Any]) -> Path:
    """Where the environment of a lock stands in the store."""
    return root / "store" / "{}-{}-{}".format(name, lock["version"], lock["digest"])


def fill(
    folder: Path, packages: Sequence[Mapping[str, Any]], cache: Path, log: Path, say: Callable[[str], None]
) -> None:
    """Put the locked packages into a fresh environment: pip and the build tools first, as an old pip knows few."""
    pip = [str(folder / "bin" / "python"), "-I", "-m", "pip"]
    wheels, scratch = cache / "wheels", making.scratch_of(folder)
    tools = [p for p in packages if p["name"] in BUILD_TOOLS]
    rest = [p for p in packages if p["name"] not in BUILD_TOOLS]
    for part in (tools, rest):
        absent = missing(part, wheels)
        if absent:
            say(f"fetching {amount(absent)}")
            fetch(pip, absent, wheels, scratch, log)
        if part:
            say(f"installing {amount(part)}")
            wanted = folder / "requirements.txt"
            files.write_whole(wanted, requirements(part))
            options = ["--no-cache-dir", "--no-index", "--find-links", str(wheels), "--no-deps", "--require-hashes"]
            run([*pip, "install", *options, "--no-build-isolation", "-r", str(wanted)], log)
    own_libraries.write(folder)
    say("checking that the packages agree")
    run([*pip, "check"], log)
    files.remove(scratch)


def room(lock: Mapping[str, Any]) -> int:
    """Return how many bytes the files and the unpacked environment take."""
    return (1 + UNPACKED) * sum(p["size"] or 0 for p in lock["packages"])


def check_space(root: Path, name: str, lock: Mapping[str, Any]) -> None:
    """Refuse a file system without room for the files and the unpacked environment."""
    making.check_space(root, name, room(lock))


def check_python(python: str) -> None:
    """Refuse an interpreter that is not there, by its name and not by what fails without it."""
    if shutil.which(python) is None:
        name = Path(python).name
        step = f"Install it: apt-get install {name} {name}-venv"
        raise EnvironmentProblem(f"There is no {python} on this host.", step)


def install(root: Path, name: str, lock: Mapping[str, Any], python: str, say: Callable[[str], None]) -> Path:
    """Make the virtual environment of a lock in the store, if it is not complete there; its folder.

    `lock` is an environment lock with its `digest`; `python` the interpreter; `say` is called with each step. Raises
    `ArtifactError` or `EnvironmentProblem`.
    """
    folder, log = folder_of(root, name, lock), root / "log" / f"{name}.log"

    def check() -> None:
        check_python(python)
        check_space(root, name, lock)

    def make() -> Json:
        say("making the environment")
        run([python, "-I", "-m", "venv", str(folder)], log)
        fill(folder, lock["packages"], root / "cache", log, say)
        return {"environment": name, "packages": {p["name"]: p["version"] for p in lock["packages"]}}

    return making.made(folder, lock["digest"], f"making the environment {name}", log, check, make, say)
