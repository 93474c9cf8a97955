"""The harness itself: a bed is bare, boots for real, is honest about commands, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from .beds import Bed, BedError, CommandFailed
from .beds.commands import host, wait_until
from .beds.machine import processes
from .beds.network import RUN

#: A bed that is not as it should be shows in every other test; these are for a change of the beds themselves.
pytestmark = pytest.mark.full


def remains(bed: Bed) -> List[str]:
    """What on the outer machine bears the bed's name: processes, mounts, links, rules, groups, folders."""
    name, link = bed.name, f"gpuhost-bed{bed.slot.number}"
    found = [f"process {pid}" for pid in processes(name)]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{name}-" in line]
    found += [str(path) for path in Path("/run/netns").glob(name)]
    found += [str(path) for path in Path("/sys/class/net").glob(link)]
    tables = host(["nft", "list", "tables"]).stdout.decode().split()
    found += [word for word in tables if word == f"gpuhost_bed_{bed.slot.number}"]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(name)]
    found += [str(path) for path in Path("/var/tmp").glob(f"{name}-*")]  # noqa: S108 - beds are made there
    found += [str(path) for path in Path("/run/systemd/nspawn").rglob(name)]
    return found + [str(path) for path in RUN.glob(f"{name}.*")]


def test_it_is_a_bare_debian_that_booted_well(bare_debian: Bed) -> None:
    """All units are up, the release is Debian 12, and there is no Python to lean on by accident."""
    assert bare_debian.state() == "running"
    assert 'VERSION_ID="12"' in bare_debian.read("/etc/os-release")
    assert bare_debian.run(["sh", "-c", "command -v python3 python ansible"], check=False).stdout == ""
    assert bare_debian.read("/proc/1/comm") == "systemd\n"


def test_a_failed_unit_is_named(fresh_debian: Bed) -> None:
    """A degraded machine says which unit it is."""
    unit = "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"
    fresh_debian.run(["sh", "-c", 'printf "$0" >/etc/systemd/system/broken.service', unit])
    fresh_debian.run(["systemctl", "enable", "--quiet", "broken.service"])
    fresh_debian.reboot()
    assert fresh_debian.state() == "degraded: broken.service"


def test_arguments_output_and_exit_code_come_through(bare_debian: Bed) -> None:
    """Nothing is expanded on the way in, the two outputs stay apart, and the exit code is the command's."""
    awkward = ["$HOME", "${PATH}", "$$", "%n %%", "two words", 'a "quote"', "back\\slash", "", "ü;|&"]
    script = 'echo "$PWD $MARK"; for word; do echo "<$word>"; done; echo wrong >&2; exit 7'
    argv = ["sh", "-c", script, "sh", *awkward]
    done = bare_debian.run(argv, check=False, cwd="/usr", env={"MARK": "100% $1"})
    assert done.returncode == 7
    assert done.stdout.splitlines() == ["/usr 100% $1", *(f"<{word}>" for word in awkward)]
    assert done.stderr == "wrong\n"
    with pytest.raises(CommandFailed, match=r"exit code 7.*\n.*wrong") as failure:
        bare_debian.run(["sh", "-c", "echo wrong >&2; exit 7"])
    assert failure.value.returncode == 7
    assert bare_debian.run(["/no/such/command"], check=False).returncode == 127


def test_a_timeout_kills_the_whole_command(bare_debian: Bed) -> None:
    """Also the children that made a session of their own; what was said before is kept."""
    before = set(bare_debian.processes())
    with pytest.raises(subprocess.TimeoutExpired) as late:
        bare_debian.run(["sh", "-c", "echo early; setsid sleep 987 & setsid -f sleep 986; wait"], timeout=1)
    assert late.value.output == b"early\n"
    wait_until(lambda: set(bare_debian.processes()) <= before, 10, "the end of the command's processes")


def test_a_background_process_outlives_its_command(bare_debian: Bed) -> None:
    """As after a login; and it does not hold up the command that started it, though it holds its output."""
    done = bare_debian.run(["sh", "-c", "sleep 985 & echo $!"], timeout=60)
    assert bare_debian.read(f"/proc/{done.stdout.strip()}/comm") == "sleep\n"
    bare_debian.run(["sh", "-c", 'kill "$0"', done.stdout.strip()])


def test_files_go_in_and_out(bare_debian: Bed, tmp_path: Path) -> None:
    """Files and folders keep content and mode, and belong to root inside."""
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/tool").write_bytes(b"#!/bin/sh\n\x00\xff")
    (tmp_path / "in/deep/tool").chmod(0o751)
    os.chown(tmp_path / "in/deep/tool", 1234, 1234)
    bare_debian.push(tmp_path / "in", "/tmp/new/place")  # noqa: S108 - inside the bed
    assert bare_debian.run(["stat", "-c", "%a %u", "/tmp/new/place/deep/tool"]).stdout == "751 0\n"  # noqa: S108 - inside the bed
    out = bare_debian.pull("/tmp/new/place", tmp_path / "out")  # noqa: S108 - inside the bed
    assert (out / "deep/tool").read_bytes() == b"#!/bin/sh\n\x00\xff"
    bare_debian.run(["rm", "-r", "/tmp/new"])  # noqa: S108 - inside the bed


def test_a_snapshot_proves_that_nothing_changed(bare_debian: Bed) -> None:
    """Reading changes nothing; one mode bit is seen."""
    before = bare_debian.snapshot(["/etc", "/absent"])
    bare_debian.run(["dpkg", "--verify", "git"])
    assert before.changes_to(bare_debian.snapshot(["/etc", "/absent"])) == []
    bare_debian.run(["chmod", "600", "/etc/issue"])
    assert before.changes_to(bare_debian.snapshot(["/etc", "/absent"])) == ["changed /etc/issue"]
    bare_debian.run(["chmod", "644", "/etc/issue"])


def test_packages_install_from_the_archive(fresh_debian: Bed) -> None:
    """The machine's own sources work inside, signatures and name service included."""
    fresh_debian.run(["apt-get", "update"])
    fresh_debian.run(["apt-get", "install", "--yes", "--no-install-recommends", "hello"])
    assert fresh_debian.run(["hello"]).stdout == "Hello, world!\n"


def test_a_clone_is_the_commit_that_is_checked_out(bare_debian: Bed, tmp_path: Path) -> None:
    """HEAD, on a branch or detached, not the work lying beside it; without a commit it is an error."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    host([*git, "init", "--quiet"])
    with pytest.raises(BedError, match="no commit"):
        bare_debian.clone_project(tmp_path)
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        host([*git, "add", "file"])
        host([*git, "commit", "--quiet", "--message", text])
    (tmp_path / "file").write_text("not committed")
    for state in ("branch", "detached"):
        head = bare_debian.clone_project(tmp_path)
        assert head == host([*git, "rev-parse", "HEAD"]).stdout.decode().strip()
        assert bare_debian.run(["git", "rev-parse", "HEAD"], cwd="/root/gpuhost").stdout.strip() == head
        assert bare_debian.read("/root/gpuhost/file") == ("two" if state == "branch" else "one")
        bare_debian.run(["rm", "-r", "/root/gpuhost"])
        if state == "branch":
            host([*git, "checkout", "--quiet", "--force", "--detach", "HEAD~1"])


def test_it_comes_up_again_after_a_kill_and_a_reboot(fresh_debian: Bed) -> None:
    """The disk stays, the running system is another one; a command sent to a dead machine is an error."""
    boot_id = "/proc/sys/kernel/random/boot_id"
    seen = {fresh_debian.read(boot_id)}
    fresh_debian.run(["sh", "-c", "echo kept >/root/note; sleep 984 &"])
    fresh_debian.kill()
    assert fresh_debian.processes() == []
    with pytest.raises(BedError, match="not running"):
        fresh_debian.run(["true"])
    fresh_debian.boot()
    assert (fresh_debian.read("/root/note"), fresh_debian.state()) == ("kept\n", "running")
    seen.add(fresh_debian.read(boot_id))
    fresh_debian.reboot()
    assert (fresh_debian.read("/root/note"), fresh_debian.state()) == ("kept\n", "running")
    assert len(seen | {fresh_debian.read(boot_id)}) == 3


def test_two_beds_at_once(bare_debian: Bed, tmp_path: Path) -> None:
    """They have addresses and files of their own, and one can reach the other."""
    with Bed.fresh(logs=tmp_path, binds={str(tmp_path): "/mnt"}) as other:
        assert other.network.address != bare_debian.network.address
        assert other.run(["ls", "/sys/class/net"]).stdout.split() == ["host0", "lo"]
        other.run(["touch", "/root/mine"])
        assert bare_debian.run(["test", "-e", "/root/mine"], check=False).returncode == 1
        (tmp_path / "seen").write_text("through the bind\n")
        assert other.read("/mnt/seen") == "through the bind\n"
        assert other.run(["touch", "/mnt/seen"], check=False).returncode == 1
        # A refused connection is an answer from the other machine; an unreachable one would time out.
        reach = ["bash", "-c", f"exec 3<>/dev/tcp/{bare_debian.network.address}/9"]
        assert "Connection refused" in other.run(reach, check=False, timeout=20).stderr


def test_the_outer_network_can_be_shared(bed_tools: None, tmp_path: Path) -> None:
    """The simpler form: no address of its own, the same links as outside."""
    with Bed.fresh(network="host", logs=tmp_path) as bed:
        assert bed.state() == "running"
        inside = set(re.findall(r"^\s*(\S+):", bed.read("/proc/net/dev"), re.MULTILINE))
        assert inside == {path.name for path in Path("/sys/class/net").iterdir() if path.is_symlink()}


def test_nothing_is_left_behind(bed_tools: None, tmp_path: Path) -> None:
    """Neither after a good end nor after an exception in the block, in the middle of a command."""
    with Bed.fresh(logs=tmp_path) as bed:
        assert len(remains(bed)) > 5
    assert remains(bed) == []
    with pytest.raises(RuntimeError, match="on purpose"), Bed.fresh(logs=tmp_path) as bed:
        bed.run(["sh", "-c", "sleep 983 &"])
        raise RuntimeError("on purpose")
    assert remains(bed) == []


def test_a_boot_that_fails_says_why_and_leaves_nothing(bed_tools: None, tmp_path: Path) -> None:
    """A bed that cannot come up is taken down again, with the console's words in the message."""
    bed = Bed.fresh(logs=tmp_path, binds={"/no/such/folder": "/mnt"})
    with pytest.raises(BedError, match="/no/such/folder"), bed:
        raise AssertionError("it booted")
    assert remains(bed) == []


def test_the_remains_of_a_killed_owner_are_cleared(bed_tools: None, tmp_path: Path) -> None:
    """Nobody cleans up after SIGKILL, so the next bed in the same slot does."""
    code = (
        "import os, pathlib, signal; from e2e.beds import Bed\n"
        f"bed = Bed.fresh(logs=pathlib.Path({str(tmp_path)!r})); bed.__enter__()\n"
        "print(bed.slot.number, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[1]))
    killed = host([sys.executable, "-c", code], check=False, env=env)
    assert killed.returncode == -signal.SIGKILL
    number = int(killed.stdout)
    orphans = processes(f"gpuhost-bed-{number}")
    assert orphans
    with Bed.fresh(network="host", logs=tmp_path) as bed:
        assert bed.slot.number == number
        assert not set(orphans) & set(bed.processes())
        assert len(list(Path("/var/tmp").glob(f"{bed.name}-*"))) == 1  # noqa: S108 - beds are made there
    assert remains(bed) == []
