"""A root that is not booted: commands run in it one by one, in a container of their own.

For a release whose systemd does not start under this machine's control groups, and for what needs no services. Kernel
packages, DKMS, apt and the project itself run as on a machine; what a service would do does not happen.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Mapping, Optional, Sequence, Type

from . import settings
from .base import BaseRoot, Copy, remove_work, require_tools
from .bed import CLONE, PROJECT, ROOT_ENVIRONMENT, _pip_files
from .commands import CommandFailed, host
from .machine import _groups_of_its_own


class Still:
    """A throw-away root, as a context manager; it shares this machine's network."""

    def __init__(self, packages: Sequence[str], codename: str, folder: Path) -> None:
        """Describe it; `folder` is for what commands say."""
        self.base, self.folder = BaseRoot(packages, codename), folder
        self._stack = contextlib.ExitStack()
        self._number = 0

    def __enter__(self) -> Still:
        """Copy the base root and give it a name, name servers and pip's settings."""
        require_tools()
        with contextlib.ExitStack() as stack:
            lower = stack.enter_context(self.base.lease())
            work = Path(tempfile.mkdtemp(prefix="gpuhost-bed-still-", dir="/var/tmp"))
            stack.callback(remove_work, work)
            self.root = Copy(lower, work).root
            (self.root / "etc/hostname").write_text("still\n")
            (self.root / "etc/hosts").write_text("127.0.0.1 localhost still\n")
            (self.root / "etc/resolv.conf").write_bytes(Path("/etc/resolv.conf").read_bytes())
            conf = settings.pip_conf([path.read_text() for path in _pip_files() if path.is_file()], [])
            if conf:
                (self.root / "etc/pip.conf").write_text(conf)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Remove the copy."""
        self._stack.close()

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: float = 300,
        env: Optional[Mapping[str, str]] = None,
        cwd: str = "/root",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in it; `CommandFailed` where it fails and `check` is set."""
        self._number += 1
        variables: Dict[str, str] = {**ROOT_ENVIRONMENT, **settings.environment(os.environ, []), **(env or {})}
        name = f"gpuhost-still-{os.getpid()}-{self._number}"
        call = [*_groups_of_its_own(name), "systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={name}"]
        call += ["--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--pipe"]
        call += ["--suppress-sync=yes", "--as-pid2", f"--chdir={cwd}"]
        call += [f"--setenv={key}={value}" for key, value in variables.items()]
        done = host([*call, "--", *argv], check=False, timeout=timeout)
        out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"\nstill:{cwd}# {' '.join(argv)}\n{out}{err}[{done.returncode}]\n")
        if check and done.returncode != 0:
            raise CommandFailed(done.returncode, list(argv), out, err)
        return subprocess.CompletedProcess(list(argv), done.returncode, out, err)

    def read(self, path: str) -> str:
        """The text of a file in it."""
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8")

    def clone_project(self) -> None:
        """Put a fresh clone of the repository's HEAD at /root/gpuhost."""
        bundle = self.root / "root/project.bundle"
        host(["git", "-C", str(PROJECT), "bundle", "create", str(bundle), "HEAD"])
        self.run(["git", "clone", "--quiet", "/root/project.bundle", CLONE])
        bundle.unlink()

    def files(self, folders: Sequence[str]) -> List[str]:
        """Every file, folder and link below some folders, with what a change of it would change."""
        words = ["find", *folders, "-printf", "%p %y %m %s %l\\n"]
        return sorted(self.run(words, timeout=600).stdout.splitlines())

    def packages(self) -> Dict[str, str]:
        """The installed packages with their versions."""
        said = self.run(["dpkg-query", "-W", "-f=${Package}\\t${Version}\\t${db:Status-Status}\\n"]).stdout
        rows = [line.split("\t") for line in said.splitlines()]
        return {name: version for name, version, state in rows if state != "not-installed"}
