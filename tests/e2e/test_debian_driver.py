"""A bare Debian 12 host with nothing fake but the card: the driver of Debian's archive, its module really built.

One bed serves the tests in the order they stand: building the module takes minutes. What the bed cannot prove is that
the module loads, so the playbook's last word is the sentence that asks for a reboot.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from . import healed
from .beds import Bed
from .beds.base import PACKAGES, write_card
from .beds.bed import CLONE

# It fetches a kernel with its headers and compiles for ten minutes (docs/decisions/0023-continuous-integration.md).
pytestmark = pytest.mark.full

COMMAND_SECONDS = 25 * 60
PLAYBOOK = ["./run", "ansible-playbook", "playbooks/driver.yml"]
SOURCES = "/etc/apt/sources.list.d/debian.sources"
WATCHED = ["/etc", "/usr", "/opt", "/boot", "/lib/modules", "/var/lib/dpkg", "/var/lib/dkms"]
REBOOT = "Reboot this host, then type the same command again"


def recap(said: str) -> Tuple[int, int]:
    """The figures `changed` and `failed` of Ansible's last line about localhost."""
    found = re.findall(r"^localhost\s*:.*changed=(\d+).*failed=(\d+)", said, re.MULTILINE)
    assert found, said[-3000:]
    return int(found[-1][0]), int(found[-1][1])


def record(bed: Bed) -> Dict[str, Any]:
    """The driver's record on the host."""
    found: Dict[str, Any] = json.loads(bed.read("/opt/gpuhost/state/driver.json"))
    return found


def findings(bed: Bed) -> List[Dict[str, Any]]:
    """What the doctor finds. Until the next start the bed does not say that it is a container."""
    examine = "rm -f /run/systemd/container; ./run gpuhost doctor --json"
    found: List[Dict[str, Any]] = json.loads(bed.run(["sh", "-c", examine], cwd=CLONE, check=False).stdout)["findings"]
    return found


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A bare Debian 12 with a Quadro P2000, a kernel with its headers and a fresh clone; its sources name main only."""
    devices = tmp_path_factory.mktemp("pci")
    write_card(devices / "0000:01:00.0")
    binds = {str(devices): "/sys/bus/pci/devices"}
    with Bed.fresh(packages=(*PACKAGES, "python3"), binds=binds, logs=Path(tmp_path_factory.mktemp("driver"))) as made:
        made.clone_project()
        made.run(["sed", "-i", "s/^Components:.*/Components: main/", SOURCES])
        made.run(["apt-get", "update"])
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "linux-image-amd64", "linux-headers-amd64"]
        made.run(install, timeout=COMMAND_SECONDS, env={"DEBIAN_FRONTEND": "noninteractive"})
        made.run(["./run", "true"], cwd=CLONE, timeout=COMMAND_SECONDS)
        yield made


class TestDriver:
    """From a bare host to a module that the next boot would load, and back."""

    def test_a_host_without_the_component_is_told_the_lines(self, bed: Bed) -> None:
        """The role never edits apt's sources: it says which lines to add, and changes nothing."""
        before = bed.snapshot(WATCHED)
        done = bed.run(PLAYBOOK, cwd=CLONE, check=False, timeout=600)
        said = " ".join(done.stdout.split())  # Ansible folds long lines
        assert done.returncode != 0 and "needs what is in the component" in said and "non-free" in said
        assert re.search(r"deb \[signed-by=\S+\] \S+ bookworm contrib non-free", said)
        changes = before.changes_to(bed.snapshot(WATCHED))
        log = ("/var/lib/dpkg", "/opt/gpuhost/log")
        assert [c for c in changes if not any(name in c for name in log) and not c.endswith(" /opt/gpuhost")] == []

    def test_a_dry_run_shows_the_set_and_changes_nothing(self, bed: Bed) -> None:
        """`--check --diff` on a bare host: every package that would come, and no trace."""
        bed.run(["sed", "-i", "s/^Components:.*/Components: main contrib non-free non-free-firmware/", SOURCES])
        bed.run(["rm", "-rf", "/var/lib/apt/lists"])
        before = bed.snapshot([*WATCHED, "/var/lib/apt"])
        done = bed.run([*PLAYBOOK, "--check", "--diff"], cwd=CLONE, timeout=600)
        changed, failed = recap(done.stdout)
        assert changed > 0 and failed == 0
        assert "+nvidia-kernel-dkms 535." in done.stdout and "+blacklist nouveau" in done.stdout
        assert before.changes_to(bed.snapshot([*WATCHED, "/var/lib/apt"])) == []

    # NVIDIA's module takes ten minutes to compile. In CI, DKMS builds a small one (test_driver_ubuntu.py).
    def test_the_driver_is_installed_and_its_module_built(self, bed: Bed) -> None:
        """Exactly the lock's version, a module for the kernel that boots, every .deb kept; then the sentence."""
        done = bed.run(PLAYBOOK, cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
        assert REBOOT in done.stdout, done.stdout[-3000:]
        lock = json.loads(bed.read(f"{CLONE}/locks/localhost/stack.json"))["gpuhost_lock"]
        version = lock["plan"]["driver"]["version"]
        found = record(bed)
        kernel = found["kernel"]
        assert found["version"] == version and bed.run(["test", "-e", f"/boot/vmlinuz-{kernel}"]).returncode == 0
        modinfo = bed.run(["modinfo", "-k", kernel, "-F", "version", "nvidia-current"]).stdout.strip()
        assert modinfo == version
        assert f"nvidia-current/{version}, {kernel}" in bed.run(["dkms", "status"]).stdout
        assert found["packages"]["nvidia-driver"] == lock["plan"]["driver"]["package_version"]
        assert found["debs"]["nvidia-driver"] == lock["plan"]["driver"]["sha256"]
        assert set(found["debs"]) == set(found["packages"])
        sums = "".join(f"{digest}  /opt/gpuhost/cache/debs/{digest}/\n" for digest in found["debs"].values())
        folders = [line.split()[1] for line in sums.splitlines()]
        kept = bed.run(["sh", "-c", f"sha256sum {' '.join(folder + '*.deb' for folder in folders)}"]).stdout
        assert sorted(line.split()[0] for line in kept.splitlines()) == sorted(found["debs"].values())
        listing = bed.run(["lsinitramfs", f"/boot/initrd.img-{kernel}"]).stdout
        assert "gpuhost-nouveau.conf" in listing or "nouveau.ko" not in listing

    def test_the_second_run_changes_nothing(self, bed: Bed) -> None:
        """changed=0, and the same sentence, because a bed cannot load the module."""
        before = bed.snapshot(WATCHED)
        done = bed.run(PLAYBOOK, cwd=CLONE, check=False, timeout=600)
        assert recap(done.stdout) == (0, 1) and REBOOT in done.stdout
        assert [line for line in before.changes_to(bed.snapshot(WATCHED)) if "gpuhost/log" not in line] == []

    def test_a_lost_package_comes_back_from_the_cache_alone(self, bed: Bed) -> None:
        """The archive may have moved on, or the network be away: the .debs are all there."""
        bed.run(["dpkg", "--remove", "--force-depends", "libcuda1"])
        bed.run(["sh", "-c", "mv /etc/apt/sources.list.d /root/sources && rm -rf /var/lib/apt/lists"])
        done = bed.run([*PLAYBOOK, "--skip-tags", "gpu_stack_preflight"], cwd=CLONE, check=False, timeout=600)
        bed.run(["mv", "/root/sources", "/etc/apt/sources.list.d"])
        assert REBOOT in done.stdout, done.stdout[-3000:]
        installed = bed.run(["dpkg-query", "-W", "-f=${Version} ${db:Status-Status}", "libcuda1"]).stdout
        assert installed == f"{record(bed)['packages']['libcuda1']} installed"

    def test_a_kernel_without_headers_is_refused_before_a_reboot(self, bed: Bed) -> None:
        """D08: a newer kernel would boot, and nothing can build the module for it."""
        kernel = "6.1.0-999-amd64"
        make = (
            f"mkdir -p /lib/modules/{kernel}/kernel && touch /lib/modules/{kernel}/modules.dep /boot/vmlinuz-{kernel}"
        )
        bed.run(["sh", "-c", make])
        before = bed.snapshot(["/usr", "/opt/gpuhost/state", "/var/lib/dpkg"])
        done = bed.run(PLAYBOOK, cwd=CLONE, check=False, timeout=600)
        assert done.returncode != 0 and "(D08)" in done.stdout and REBOOT not in done.stdout
        assert [
            x
            for x in before.changes_to(bed.snapshot(["/usr", "/opt/gpuhost/state", "/var/lib/dpkg"]))
            if "dpkg" not in x
        ] == []
        bed.run(["rm", "-r", f"/lib/modules/{kernel}", f"/boot/vmlinuz-{kernel}"])

    def test_removal_takes_down_what_the_record_names(self, bed: Bed) -> None:
        """Nothing of the driver is left, and what was there before stays."""
        names = set(record(bed)["packages"])
        done = bed.run([*PLAYBOOK, "--tags", "remove"], cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
        assert recap(done.stdout) == (2, 0)  # the guard lets go, the driver goes
        left = bed.run(["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\\n"]).stdout
        assert names.isdisjoint(line.split()[0] for line in left.splitlines() if not line.endswith("not-installed"))
        assert "linux-image-amd64 installed" in left
        for gone in ("/opt/gpuhost/state/driver.json", "/etc/modprobe.d/gpuhost-nouveau.conf"):
            assert bed.run(["test", "-e", gone], check=False).returncode != 0
        assert recap(bed.run([*PLAYBOOK, "--tags", "remove"], cwd=CLONE, check=False, timeout=600).stdout) == (0, 0)

    def test_the_doctors_remedy_is_typed_as_printed(self, bed: Bed) -> None:
        """On a host without a driver whose sources name main only: one line brings the component, the driver and the
        headers, and DKMS builds the module for the kernel that boots then.
        """
        bed.run(["sed", "-i", "s/^Components:.*/Components: main/", SOURCES])
        bed.run(["apt-get", "update"])
        (found,) = findings(bed)
        assert (found["diagnosis"], found["check"]) == ("D37", "driver.installed")
        remedy, before = found["remedy"], bed.machine.boots
        assert re.match(r"printf \S+ 'deb .* non-free", remedy) and remedy.endswith(" firmware-misc-nonfree && reboot")
        line, settings = healed.answered(remedy), {"DEBIAN_FRONTEND": "noninteractive"}
        bed.run(["sh", "-c", line], check=False, timeout=COMMAND_SECONDS, env=settings)
        bed.machine.wait_for_boot(before)
        assert "D37" not in [row["diagnosis"] for row in findings(bed)]
        image = bed.run(["sh", "-c", "ls /boot/vmlinuz-* | sort -V | tail -n 1"]).stdout.strip()
        kernel = image.partition("vmlinuz-")[2]
        assert bed.run(["modinfo", "-k", kernel, "-F", "version", "nvidia-current"]).stdout.startswith("535.")
