"""The watch on a Debian 12 bed: the accident is said at the login, in the journal, by the service; fixed, it is gone.

apt, dpkg, systemd and the hook are the real ones; the driver and its kernel are stub packages, modinfo is a stand-in.
No card is in the machine, so what is loaded is not looked at here. One bed serves the tests in their order.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Iterator, List

import pytest

from . import guard_archive as archive
from .beds import Bed
from .beds.bed import CLONE
from .test_guard import RECORD, STACK

WATCH = ["./run", "ansible-playbook", "playbooks/watch.yml"]
SERVICE = "gpuhost-watch.service"
#: A package of the driver that nothing else of it depends on.
ONE = "libnvidia-common-525"
LOGIN = "/etc/update-motd.d/95-gpuhost"
WATCHED = ["/etc", "/opt", "/usr", "/var/lib/dpkg"]
MODINFO = "#!/bin/sh\nprintf 'filename: /x/nvidia.ko\\nversion: 525.105.17\\nsigner: x\\nlicense: NVIDIA\\n'\n"
GUARD = {"schema": 1, "held": sorted(STACK), "pins": {}, "blacklist": [], "kernel": RECORD["kernel"]}
LOCK = {"schema": 1, "host": "localhost", "cards": [], "plan": {"gpus": [{"pci_id": "10de:1c30"}]}}


def play(bed: Bed, *arguments: str) -> int:
    """Run the playbook; how much it changed. A failure is a failure of the test."""
    said = bed.run([*WATCH, *arguments], cwd=CLONE, timeout=300).stdout
    found = re.findall(r"^localhost\s*:.*changed=(\d+).*failed=0", said, re.MULTILINE)
    assert found, said[-2000:]
    return int(found[-1])


def looked(bed: Bed) -> str:
    """What the watch says once it has looked and is at rest: the service's result, and what a login shows."""
    # apt only queues the job, and until it runs the unit still says how it ended last.
    bed.run(["sh", "-c", f'while [ -n "$(systemctl show -p Job --value {SERVICE})" ]; do sleep 0.2; done'])
    result = bed.run(["systemctl", "show", "-p", "Result,ExecMainStatus", SERVICE]).stdout.split()
    return " ".join(sorted(result)) + " " + bed.run([LOGIN]).stdout


def apt(bed: Bed, *arguments: str) -> None:
    """apt-get as an administrator types it."""
    bed.run(["apt-get", "-y", "--allow-change-held-packages", *arguments], env={"DEBIAN_FRONTEND": "noninteractive"})


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    """The archive of the day of the installation, and that of a month later."""
    return archive.months(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def bed(bed_tools: None, months: List[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A host with a driver on hold, a generation, and a modinfo that knows its module."""
    folder = tmp_path_factory.mktemp("files")
    with archive.host(months[0], tmp_path_factory.mktemp("watch")) as made:
        made.run(["apt-mark", "hold", *sorted(STACK)])
        for name, text, target in (
            ("driver.json", json.dumps(RECORD), "/opt/gpuhost/state/driver.json"),
            ("guard.json", json.dumps(GUARD), "/opt/gpuhost/state/guard.json"),
            ("stack.json", json.dumps(LOCK), "/opt/gpuhost/generations/1/stack.json"),
            ("modinfo", MODINFO, "/usr/local/sbin/modinfo"),
        ):
            (folder / name).write_text(text, encoding="utf-8")
            made.push(folder / name, target)
        made.run(["sh", "-c", "chmod 755 /usr/local/sbin/modinfo; ln -sfn generations/1 /opt/gpuhost/current"])
        yield made


class TestWatch:
    """From a host that is well to the accident and back."""

    def test_a_dry_run_changes_nothing(self, bed: Bed) -> None:
        """`--check --diff` on a host without a watch."""
        before = bed.snapshot(WATCHED)
        assert play(bed, "--check", "--diff") == 2
        assert before.changes_to(bed.snapshot(WATCHED)) == []

    def test_it_is_put_on_and_finds_nothing(self, bed: Bed) -> None:
        """The timer waits, nothing is said, and the second run changes nothing."""
        assert play(bed) == 2
        assert looked(bed) == "ExecMainStatus=0 Result=success "
        assert bed.run(["systemctl", "is-active", "gpuhost-watch.timer"]).stdout.strip() == "active"
        assert bed.state() == "running"
        assert play(bed) == 0

    def test_the_accident_is_said_at_once(self, bed: Bed, months: List[Path]) -> None:
        """An upgrade of a held package: nobody has asked the watch, apt did."""
        archive.offer(bed, months[1])
        apt(bed, "install", ONE)
        said = looked(bed)
        assert said.startswith("ExecMainStatus=1 Result=exit-code gpuhost: THE GPU STACK OF THIS HOST IS BROKEN")
        assert f"driver.installed: {ONE} is {archive.NEW}" in said
        assert "./run pytest verify/ names the cause" in said
        errors = bed.run(["journalctl", "-u", SERVICE, "-p", "err", "-o", "cat", "--no-pager"]).stdout
        assert f"driver.installed: {ONE} is {archive.NEW}" in errors
        assert SERVICE in bed.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout

    def test_apt_works_while_the_watch_is_broken(self, bed: Bed) -> None:
        """With a service that cannot start, and with no service at all."""
        bed.run(["sh", "-c", "cd /opt/gpuhost/store && mv watch-* ../away"])
        apt(bed, "reinstall", "plain")
        assert "Result=exit-code" in looked(bed)
        bed.run(["sh", "-c", "mv /etc/systemd/system/gpuhost-watch.service /root/ && systemctl daemon-reload"])
        apt(bed, "reinstall", "plain")
        bed.run(["sh", "-c", "rm -r /opt/gpuhost/away; rm /root/gpuhost-watch.service"])
        assert play(bed) == 2

    def test_mended_it_is_silent_again(self, bed: Bed, months: List[Path]) -> None:
        """The same hook sees the way back."""
        archive.offer(bed, months[0])
        apt(bed, "install", "--allow-downgrades", f"{ONE}={archive.OLD}")
        bed.run(["apt-mark", "hold", *sorted(STACK)])
        bed.run(["systemctl", "start", SERVICE])
        assert looked(bed) == "ExecMainStatus=0 Result=success "

    def test_removed_it_leaves_nothing(self, bed: Bed) -> None:
        """No unit, hook, line, program or state."""
        assert play(bed, "--tags", "remove") == 1
        left = bed.run(["sh", "-c", "find / -xdev -name '*gpuhost-watch*' -not -path '/root/*' -not -path '/proc/*'"])
        assert left.stdout == ""
        assert bed.run(["ls", "/opt/gpuhost/store"]).stdout == ""
        assert bed.state() == "running"
        apt(bed, "reinstall", "plain")
        assert play(bed, "--tags", "remove") == 0
