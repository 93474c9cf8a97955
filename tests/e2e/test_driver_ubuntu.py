"""The role nvidia_driver on imitation Ubuntu 18.04 hosts, by ssh, under the host's Python 3.6.

Two beds serve their class's tests in the order they stand: a Quadro P2000, which gets the archive's signed modules, and
an H200 under Secure Boot, which gets NVIDIA's `.run` and a key of its own. The lock is what the project plans; only
the checksums are those of the stand-ins.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from .beds.archive import next_month
from .beds.bed import PROJECT
from .beds.mirror import Mirror
from .beds.ubuntu import UbuntuBed
from .readme import section_commands

KERNEL = "5.4.0-150-generic"
RECORD = "/opt/gpuhost/state/driver.json"
REBOOT = "Reboot this host, then type the same command again"
WATCHED = ["/etc", "/usr", "/boot", "/lib/modules", "/opt/gpuhost/state", "/opt/gpuhost/cache", "/var/lib/dkms"]


class Driver:
    """The playbook, from this machine, with a lock whose checksums are the stand-ins'."""

    def __init__(self, bed: UbuntuBed, folder: Path, driver: Dict[str, Any], **variables: Any) -> None:
        """Plan once, and write the checksums into the lock."""
        self.bed, self.folder = bed, folder
        self.inventory = folder / "inventory" / "hosts.json"
        self.inventory.parent.mkdir()
        self.inventory.write_text(json.dumps({"gpu_hosts": {"hosts": bed.inventory("box", **variables)}}))
        self.lock = folder / "locks" / "box" / "stack.json"
        code, said = self.play(playbook="playbooks/plan.yml")
        assert code == 0, said
        lock = json.loads(self.lock.read_text())
        self.driver: Dict[str, Any] = lock["gpuhost_lock"]["plan"]["driver"]
        self.driver.update(driver)
        self.write(lock)

    def secret(self, password: str) -> str:
        """Put the key's password into a file, as it is refused on a command line, and return what names that file."""
        file = self.folder / "secret.yml"
        file.touch(mode=0o600)
        file.write_text(f"nvidia_driver_mok_password: {password}\n", encoding="utf-8")
        return f"@{file}"

    def write(self, lock: Dict[str, Any]) -> None:
        """Change the lock."""
        self.lock.write_text(json.dumps(lock))

    def command(self, *arguments: str, playbook: str = "playbooks/driver.yml") -> List[str]:
        """The command line."""
        return [sys.executable, "-m", "ansible", "playbook", "-i", str(self.inventory), playbook, *arguments]

    def environment(self) -> Dict[str, str]:
        """Ansible's settings are the project's."""
        keep = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        return {**keep, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder / "home")}

    def play(self, *arguments: str, playbook: str = "playbooks/driver.yml") -> Tuple[int, str]:
        """Run it; its exit status and what it says, on one line."""
        done = subprocess.run(
            self.command(*arguments, playbook=playbook),
            cwd=str(PROJECT),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split()).replace("''", "'")

    def changed(self, *arguments: str) -> int:
        """Run it to a good end; how much it changed."""
        code, said = self.play(*arguments)
        assert code == 0, said[-3000:]
        found = re.findall(r"box : ok=\d+ changed=(\d+)", said)
        return int(found[-1])

    def record(self) -> Dict[str, Any]:
        """What the role wrote down."""
        found: Dict[str, Any] = json.loads(self.bed.read(RECORD))
        return found


def versions(bed: UbuntuBed) -> Dict[str, str]:
    """The installed packages by name."""
    listed = bed.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"]).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {row[0]: row[1] for row in rows if row[2] == "installed"}


def loaded(bed: UbuntuBed) -> str:
    """The version of the loaded module."""
    found = re.search(r"Kernel Module\s+(\S+)", bed.read("/proc/driver/nvidia/version"))
    assert found
    return found.group(1)


def over_ssh(bed: UbuntuBed, command: str) -> None:
    """Type a command in a shell that came over ssh."""
    row = bed.inventory("box")["box"]
    argv = ["ssh", "-i", row["ansible_ssh_private_key_file"], *shlex.split(row["ansible_ssh_common_args"])]
    subprocess.run([*argv, f"root@{row['ansible_host']}", command], check=True, timeout=120, capture_output=True)


@pytest.fixture(scope="module")
def p2000(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A host with a Quadro P2000, as it comes."""
    with UbuntuBed.fresh(cards=["1c30"], secure_boot=True, logs=tmp_path_factory.mktemp("p2000")) as bed:
        driver = {
            "sha256": bed.archive.sha256("nvidia-driver-525"),
            "modules": {
                "package": "linux-modules-nvidia-525-generic-hwe-18.04",
                "package_version": "5.4.0-150.167~18.04.1",
                "kernel": KERNEL,
            },
        }
        yield Driver(bed, tmp_path_factory.mktemp("controller"), driver)


@pytest.fixture(scope="module")
def h200(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A host with an H200 under Secure Boot, and the vendor's mirror."""
    folder = tmp_path_factory.mktemp("mirror")
    with Mirror(folder) as mirror, UbuntuBed.fresh(
        cards=["2335"], secure_boot=True, mirror=mirror, logs=tmp_path_factory.mktemp("h200")
    ) as bed:
        made = mirror.artifact("driver", "550.163.01")
        variables = {"gpuhost_mirror_url": mirror.url, "artifact_via": "target"}
        driver = {"sha256": made["sha256"], "size": made["size"]}
        yield Driver(bed, tmp_path_factory.mktemp("controller"), driver, **variables)


class TestSigned:
    """The archive's driver with Canonical's signed modules, under Secure Boot."""

    def test_another_checksum_stops_before_anything_is_changed(self, p2000: Driver) -> None:
        """The archive's file is not the locked one."""
        right, lock = p2000.lock.read_text(), json.loads(p2000.lock.read_text())
        driver = lock["gpuhost_lock"]["plan"]["driver"]
        for part in (driver, *(deb for deb in driver["packages"] if deb["name"] == driver["package"])):
            part["sha256"] = "0" * 64
        p2000.write(lock)
        before = p2000.bed.snapshot(WATCHED)
        code, said = p2000.play()
        assert code != 0 and "has the checksum" in said and "Nothing was changed" in said
        assert before.changes_to(p2000.bed.snapshot(WATCHED)) == []
        p2000.lock.write_text(right)

    @pytest.mark.full
    def test_a_dry_run_shows_the_set_and_changes_nothing(self, p2000: Driver) -> None:
        """Signed modules, no DKMS."""
        before = p2000.bed.snapshot(WATCHED)
        code, said = p2000.play("--check", "--diff")
        assert code == 0 and f"+linux-modules-nvidia-525-{KERNEL} " in said and "+nvidia-dkms" not in said
        assert before.changes_to(p2000.bed.snapshot(WATCHED)) == []

    @pytest.mark.full
    def test_a_power_cut_at_any_moment_does_no_harm(self, p2000: Driver) -> None:
        """Cut while fetching, unpacking and configuring; each time the next run goes on, and the last one ends well."""
        bed = p2000.bed
        cuts = 0
        for moment in (
            "test -e /opt/gpuhost/cache/debs/new",
            "grep -qs '^Unpacking libnvidia-gl' /opt/gpuhost/log/driver.log",
            "grep -qs '^Setting up nvidia-kernel-common' /opt/gpuhost/log/driver.log",
            "grep -qs '^Setting up nvidia-driver' /opt/gpuhost/log/driver.log",
        ):
            bed.run(["rm", "-f", "/opt/gpuhost/log/driver.log"])
            run = subprocess.Popen(
                p2000.command(),
                cwd=str(PROJECT),
                env=p2000.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                # What an earlier cut came after does not happen again: then the run ends by itself.
                while run.poll() is None and bed.run(["sh", "-c", moment], check=False).returncode != 0:
                    time.sleep(0.05)
                cuts += run.poll() is None
                bed.kill()
            finally:
                run.kill()
                run.wait()
            bed.boot()
        assert cuts >= 2, "the moments were not met"
        code, said = p2000.play()
        # Where the last cut came after everything was in place, its boot was the one that is asked for otherwise.
        assert loaded(bed) == p2000.driver["version"] if code == 0 else REBOOT in said, said[-3000:]
        assert bed.run(["dpkg", "--audit"]).stdout == ""
        assert versions(bed)["libnvidia-gl-525"] == p2000.driver["package_version"]

    def test_a_reboot_that_is_wanted_loads_the_locked_driver(self, p2000: Driver) -> None:
        """Opt-in, over ssh, and named where it is not; then the very same command changes nothing."""
        if "nvidia-driver-525" in versions(p2000.bed):  # a test before this one has installed it
            p2000.play("--tags", "remove")
            p2000.bed.reboot()
        code, said = p2000.play()
        assert code != 0 and REBOOT in said, said[-3000:]
        assert p2000.changed("-e", "nvidia_driver_reboot=true") == 1
        assert loaded(p2000.bed) == p2000.driver["version"]
        before = p2000.bed.snapshot(WATCHED)
        assert p2000.changed() == 0
        assert before.changes_to(p2000.bed.snapshot(WATCHED)) == []
        assert "Canonical" in p2000.bed.signer(KERNEL)

    @pytest.mark.full  # in CI, test_rebuild.py has a driver come back from the cache
    def test_when_the_archive_has_moved_on_the_cache_has_the_set(self, p2000: Driver) -> None:
        """D05: removed, and installed again although the archive keeps only the newest version."""
        names = p2000.record()["packages"]
        assert p2000.changed("--tags", "remove") == 2  # the guard lets go, the driver goes
        assert not set(names) & set(versions(p2000.bed))
        p2000.bed.archive.add(next_month())
        p2000.bed.run(["apt-get", "update"])
        before = len(p2000.bed.archive.requests)
        assert p2000.changed() >= 1
        # The guard's proof lets unattended-upgrades fetch what it would upgrade; of the driver nothing is fetched.
        fetched = [line for line in p2000.bed.archive.requests[before:] if ".deb" in line]
        assert not [line for line in fetched if "nvidia" in line], fetched
        assert p2000.record()["packages"] == names
        assert {name: version for name, version in versions(p2000.bed).items() if name in names} == names

    @pytest.mark.full
    def test_without_the_cache_it_is_refused_and_the_host_stays(self, p2000: Driver) -> None:
        """The refusal has the diagnosis's id and what the archive has now."""
        assert p2000.changed("--tags", "remove") == 2  # the guard lets go, the driver goes
        p2000.bed.run(["rm", "-r", "/opt/gpuhost/cache/debs"])
        before = p2000.bed.snapshot(WATCHED)
        code, said = p2000.play()
        assert code != 0 and "(D05)" in said and "525.125.06" in said
        assert before.changes_to(p2000.bed.snapshot(WATCHED)) == []


@pytest.mark.full  # in CI, test_gpu_fleet.py brings such a host to its driver
class TestOwnKey:
    """NVIDIA's `.run`, whose module is built here, under Secure Boot."""

    def test_a_desktop_stops_it_and_the_runbook_leads_on(self, h200: Driver) -> None:
        """The runbook's commands end the desktop and bring it back, over ssh as from a text console: what isolates a
        target kills what runs in a unit of its own. That the installation goes through after the first one, the next
        test shows.
        """
        bed = h200.bed
        server, unit = "/usr/local/bin/Xorg", "/etc/systemd/system/display-manager.service"
        for path, content in (
            (server, "#!/bin/sh\nwhile sleep 60; do :; done\n"),
            (unit, f"[Service]\nExecStart={server}\n"),
        ):
            bed.run(["sh", "-c", 'printf "%s" "$1" > "$0" && chmod 755 "$0"', path, content])
        bed.reboot()  # graphical.target wants a unit of this name by itself
        before = bed.snapshot(WATCHED)
        code, said = h200.play()
        assert code != 0 and "A desktop is running: display-manager.service, Xorg" in said
        assert before.changes_to(bed.snapshot(WATCHED)) == []
        runbook = (PROJECT / "docs/runbooks/rebuild.md").read_text(encoding="utf-8")
        away, back = section_commands(runbook, "A desktop is running", "systemctl")
        states = []
        for command in (away, back, away):
            over_ssh(bed, command)
            states.append(bed.run(["systemctl", "is-active", "display-manager"], check=False).stdout.strip())
        assert states == ["inactive", "active", "inactive"]
        bed.run(["rm", unit])
        bed.run(["systemctl", "daemon-reload"])

    def test_the_run_is_led_to_the_key(self, h200: Driver) -> None:
        """Everything is installed and signed; what is left is a person's, and the sentence says what."""
        code, said = h200.play("-e", "nvidia_driver_reboot=true")
        assert code != 0 and "not enrolled yet (D12)" in said and "mokutil --import" in said
        hostname = h200.bed.read("/etc/hostname").strip()
        assert h200.bed.signer(KERNEL) == f"{hostname} gpuhost module signing"
        modes = h200.bed.run(["stat", "-c", "%a %U", "/var/lib/shim-signed/mok/MOK.priv"]).stdout
        assert modes.strip() == "600 root"

    def test_a_password_asks_for_the_enrolment_and_shows_nowhere(self, h200: Driver) -> None:
        """The firmware offers the key once; nobody confirms it at the console (D12), so the run says so."""
        code, said = h200.play("-vvv", "-e", h200.secret("one-time-word"))
        assert "one-time-word" not in said
        assert code != 0 and "waits to be confirmed at the console" in said
        assert "one-time-word" not in h200.bed.run(["cat", "/opt/gpuhost/log/driver.log"]).stdout
        h200.bed.reboot()
        code, said = h200.play()
        assert code != 0 and "not enrolled yet (D12)" in said

    def test_once_confirmed_the_module_is_loaded(self, h200: Driver) -> None:
        """The person at the blue screen; then the same command changes nothing."""
        h200.bed.enrol_mok()
        extra = ["-e", h200.secret("one-time-word"), "-e", "nvidia_driver_reboot=true"]
        assert h200.changed(*extra) == 2
        assert loaded(h200.bed) == "550.163.01"
        assert h200.changed() == 0

    def test_removal_runs_nvidias_uninstaller(self, h200: Driver) -> None:
        """What the record names goes; the key stays, the firmware knows it."""
        assert h200.changed("--tags", "remove") == 2  # the guard lets go, the driver goes
        assert h200.bed.run(["modinfo", "-k", KERNEL, "nvidia"], check=False).returncode != 0
        assert h200.bed.run(["test", "-e", "/usr/bin/nvidia-uninstall"], check=False).returncode != 0
        assert h200.bed.run(["test", "-e", "/var/lib/shim-signed/mok/MOK.priv"], check=False).returncode == 0
