"""./run and `site.yml --check` in the surroundings that people have: locales, paths, users, small disks, no network.

One bare Debian with one checkout, whose `.venv` is made once: a case is what stands around a command, and what has to
be said then. Nothing is installed: a case that gets as far as the plan has got through all that could have stopped it.
"""

from __future__ import annotations

import re
from typing import Iterator, List, NamedTuple, Tuple

import pytest

from .beds import Bed
from .beds.bed import CLONE

pytestmark = pytest.mark.full

COMMAND_SECONDS = 3600
HOME = "/srv/gpuhost"
ODD = "/srv/Gerät mit é/gpuhost"
#: A user with a password, and one line that each user's case runs as that user from a login.
PASSWORD = "open sesame"  # noqa: S105 - of a user of a throw-away machine
CHECK = "./run ansible-playbook site.yml --check"
ESCAPE = re.compile(r"\x1b\[")


class Case(NamedTuple):
    """A shell line in the checkout, its exit code (None: any but 0), and what it says and does not say."""

    line: str
    code: int | None
    says: Tuple[str, ...]
    not_said: Tuple[str, ...] = ("Traceback", "MODULE FAILURE", "UnicodeEncodeError")
    at: str = HOME


def as_user(name: str, line: str = CHECK) -> str:
    """The line typed by a user; Ansible's temporary files go below that user's own home."""
    return f"runuser -u {name} -- env HOME=/home/{name} PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c '{line}'"


ENDS = ("localhost: check mode, so the host is not verified",)
CASES = {
    "C": Case(f"LC_ALL=C {CHECK}", 0, ENDS),
    "ungenerated": Case(f"LC_ALL=en_US.UTF-8 LANG=en_US.UTF-8 {CHECK}", 0, ENDS),
    "path": Case(CHECK, 0, ENDS, at=ODD),
    "nopasswd": Case(as_user("free"), 0, ENDS),
    "password": Case(as_user("asked"), None, ("Nothing was changed.", "Add -K to the same command.")),
    "password-K": Case(as_user("asked", f"{CHECK} --become-password-file /home/asked/word"), 0, ENDS),
    # sudo tells nobody that he may not use it before he has given his password.
    "no-sudo": Case(
        as_user("bare", f"{CHECK} --become-password-file /home/bare/word"),
        None,
        ("Nothing was changed.", "bare may not use sudo there. As root, there: adduser bare sudo"),
    ),
    "no-network": Case(
        f"unshare -n {CHECK}", None, ("Nothing was changed.", "Not reached:", "From there come", "Python packages")
    ),
    "first-without-network": Case(
        "unshare -n ./run true", 7, ("The network does not answer.", "type the same command again"), at="/srv/fresh"
    ),
    "small-store": Case(
        f"unshare -m sh -c 'mkdir -p /opt && mount -t tmpfs -o size=1500m x /opt && {CHECK}'",
        None,
        ("Nothing was changed.", "There is too little space: /opt/gpuhost", "MB are needed and 15"),
    ),
    "small-checkout": Case(
        "unshare -m sh -c 'mount -t tmpfs -o size=300m x /mnt && cp -r /srv/fresh/. /mnt && cd /mnt && ./run true'",
        7,
        ("MB are free in /mnt, and 400 are needed.", "df -h"),
    ),
    "pipe": Case(f"{CHECK} | cat", 0, ENDS),
    "reader-leaves": Case("./run gpuhost plan --gpu none --os debian-12 | head -n 1", 0, ("debian-12",)),
    "first-in-a-pipe": Case(
        "./run true 2>&1 | cat && ./run gpuhost --version", 0, ("is ready", "gpuhost "), at="/srv/other"
    ),
}  # fmt: skip


@pytest.fixture(scope="module", name="bed")
def one_machine(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A bare Debian with sudo, three users, a checkout with its `.venv`, one in an odd place, and fresh ones."""
    with Bed.fresh(logs=tmp_path_factory.mktemp("surroundings")) as made:
        made.clone_project()
        made.run(["sh", "-c", f"mkdir -p /srv && mv {CLONE} {HOME}"])
        for place in (ODD, "/srv/fresh", "/srv/other"):
            made.run(["git", "clone", "--quiet", HOME, place])
        made.run(["apt-get", "-qq", "update"], timeout=COMMAND_SECONDS)
        made.run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", "sudo"], timeout=COMMAND_SECONDS)
        for name in ("free", "asked", "bare"):
            made.run(["useradd", "--create-home", "--shell", "/bin/sh", name])
            made.run(["sh", "-c", f"echo '{name}:{PASSWORD}' | chpasswd && echo '{PASSWORD}' > /home/{name}/word"])
        rules = "free ALL=(ALL) NOPASSWD: ALL\nasked ALL=(ALL) ALL\nDefaults lecture=never\n"
        made.run(["sh", "-c", f"printf '{rules}' > /etc/sudoers.d/users && chmod 440 /etc/sudoers.d/users"])
        made.run(["./run", "true"], cwd=HOME, timeout=COMMAND_SECONDS)
        yield made


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(bed: Bed, name: str) -> None:
    """The exit code and the words; no traceback, and no escape sequence where nobody looks at a terminal."""
    case = CASES[name]
    before = bed.snapshot(["/opt", "/etc", "/var/lib/dpkg"])
    done = bed.run(["sh", "-c", case.line], cwd=case.at, check=False, timeout=COMMAND_SECONDS)
    told = done.stdout + done.stderr
    assert (done.returncode != 0) if case.code is None else (done.returncode == case.code), told[-3000:]
    assert [words for words in case.says if words not in told] == [], told[-3000:]
    assert [words for words in case.not_said if words in told] == [], told[-3000:]
    assert not ESCAPE.search(told)
    assert before.changes_to(bed.snapshot(["/opt", "/etc", "/var/lib/dpkg"])) == []


@pytest.mark.parametrize(
    "line",
    [
        "./run gpuhost plan --gpu \"Quadro P2000\" --os ubuntu-18.04",
        "./run gpuhost plan --os ubuntu-18.04 --compare \"GTX 750 Ti\" \"Quadro P2000\"",
        "./run",
        "./run gpuhost --help",
    ],
)  # fmt: skip
def test_a_terminal_of_80_columns(bed: Bed, line: str) -> None:
    """No line is longer, on a terminal that says that it has 80; the front door's own help has a width of its own."""
    typed = f"stty cols 80 rows 24 && {line}"
    done = bed.run(["script", "-qec", typed, "/dev/null"], cwd=HOME, env={"TERM": "xterm"}, timeout=COMMAND_SECONDS)
    lines: List[str] = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rstrip() for text in done.stdout.splitlines()]
    assert len(lines) > 3
    assert [text for text in lines if len(text) > 80] == []
