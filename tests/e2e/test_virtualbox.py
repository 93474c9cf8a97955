"""VirtualBox of Debian's unstable, which alone has it: its real packages, its modules compiled against real headers.

One root serves the tests in the order in which they stand. It is not booted: unstable's systemd does not start under
every machine's control groups, and no module could be loaded here. What is not real: the kernel that "runs" is the
machine's own, so that the role's last word is the reboot that it asks for.

    ./run pytest -m "e2e and full" -n 0 tests/e2e/test_virtualbox.py
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from .beds.base import PACKAGES
from .beds.bed import CLONE
from .beds.settings import CODENAME, UNSTABLE
from .beds.still import Still

pytestmark = pytest.mark.full

Json = Dict[str, Any]
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
SECONDS = 40 * 60
STANDINS, ORACLES_FILE = Path(__file__).resolve().parent / "beds/standins", "virtualbox.run.sh"
MODULES = ("vboxdrv", "vboxnetflt", "vboxnetadp")
WATCHED = ["/etc", "/usr", "/opt", "/boot", "/lib/modules", "/var/lib/dkms", "/home"]
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    lock: "{{ lookup('ansible.builtin.file', '/root/lock.json') | from_json }}"
    virtualbox_lock: "{{ lock }}"
    virtualbox_gui: false
    virtualbox_users: [ann]
  tasks:
    - name: VirtualBox
      ansible.builtin.import_role:
        name: virtualbox
      when: not (removing | default(false) | bool)
    - name: Let go
      ansible.builtin.import_role:
        name: apt_guard
        tasks_from: release
      when: removing | default(false) | bool
    - name: Remove
      ansible.builtin.import_role:
        name: virtualbox
        tasks_from: remove
      when: removing | default(false) | bool
    - name: Guard
      ansible.builtin.import_role:
        name: apt_guard
      when: not (removing | default(false) | bool)
"""
#: The lock of a host without a card, with the VirtualBox that this host's own archive offers.
LOCK = """
import json, sys
from gpuhost.host.probe.machine import observe
from gpuhost.planning import contents, lock, virtualbox
from gpuhost.planning.candidates import Request
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver
seen = observe(offers=True)
made = lock.make("localhost", {"gpus": [], "platform": {}}, make(resolver(), Request("debian-13")))
made["contents"]["virtualbox"] = virtualbox.part("debian-unstable", sys.argv[1], seen)
lock.check(made, "made")
print(json.dumps(made))
"""
#: What verify/ says of VirtualBox on this host: each failed check with its diagnosis and remedy.
LOOK = """
import json
from gpuhost.diagnoses import verdict
from gpuhost.host.probe.installed import read
from gpuhost.verification.expected import expected
lock, machine = json.load(open("/root/lock.json")), read("/opt/gpuhost")
seen = {"host": "localhost", "lock": lock, "lock_error": None, "machine": machine, "options": {}}
seen.update(environments={}, benchmark={}, earlier=None, expected=expected(None, machine))
results = {}
for check in verdict.CHECKS:
    if check.id in ("host.observed", "lock.present") or check.id.startswith("virtualbox."):
        results[check.id] = verdict.judge(check, seen, results)
print(json.dumps({name: [r.status, r.diagnosis, r.remediation, r.actual] for name, r in results.items()}))
"""


def recap(said: str) -> Tuple[int, int]:
    """The figures `changed` and `failed` of Ansible's last line."""
    found = re.findall(r"^localhost\s*:.*changed=(\d+).*failed=(\d+)", said, re.MULTILINE)
    assert found, said[-3000:]
    return int(found[-1][0]), int(found[-1][1])


def play(bed: Still, *words: str, check: bool = True) -> str:
    """Run the role with the guard; what it says."""
    done = bed.run(["./run", "ansible-playbook", "vbox.yml", *words], cwd=CLONE, check=False, timeout=SECONDS)
    assert not check or done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    return done.stdout + done.stderr


def look(bed: Still) -> Dict[str, List[Any]]:
    """What verify/ finds of VirtualBox: status, diagnosis, remedy, and what was seen, by check."""
    found: Dict[str, List[Any]] = json.loads(bed.run(["./run", "python", "-c", LOOK], cwd=CLONE, timeout=300).stdout)
    return found


def failed(bed: Still) -> Dict[str, Any]:
    """The failed checks with their diagnoses; that the modules are loaded cannot be seen here."""
    found = look(bed)
    return {name: row[1] for name, row in found.items() if row[0] == "fail" and name != "virtualbox.loaded"}


def record(bed: Still) -> Json:
    """The record on the host."""
    found: Json = json.loads(bed.read("/opt/gpuhost/state/virtualbox.json"))
    return found


def kernels(bed: Still) -> List[str]:
    """The kernels with an image, oldest first, in dpkg's order."""
    return [path.name[len("vmlinuz-") :] for path in sorted((bed.root / "boot").glob("vmlinuz-*"))]


def make_lock(bed: Still, text: str = "") -> Json:
    """Write the lock that the role obeys."""
    said = bed.run(["./run", "python", "-c", LOCK, text], cwd=CLONE, timeout=300).stdout
    (bed.root / "root/lock.json").write_text(said)
    held: Json = json.loads(said)["contents"]["virtualbox"]
    return held


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Still]:
    """A root of unstable with a kernel, its headers, a user, unattended-upgrades and a clone."""
    packages = (*PACKAGES, "python3", "python3-venv", "unattended-upgrades", "util-linux", "passwd")
    with Still(packages, UNSTABLE, tmp_path_factory.mktemp("virtualbox")) as made:
        made.run(["apt-get", "update"], timeout=600)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "linux-image-amd64", "linux-headers-amd64"]
        made.run([*install, "bzip2", "dkms", "mokutil", "openssl"], timeout=SECONDS, env=QUIET)
        made.run(["useradd", "--create-home", "ann"])
        made.clone_project()
        (made.root / f"{CLONE.lstrip('/')}/vbox.yml").write_text(PLAY)
        made.run(["./run", "true"], cwd=CLONE, timeout=SECONDS)
        yield made


@pytest.fixture(scope="module")
def before(bed: Still) -> Tuple[List[str], Dict[str, str]]:
    """The files and packages before anything was installed."""
    return bed.files(WATCHED), bed.packages()


class TestVirtualBox:
    """From a bare host to machines that could start, and back."""

    def test_the_lock_has_what_the_archive_offers(self, bed: Still, before: Any) -> None:
        """Its exact version, every checksum, and whether a source says that it compiles against this kernel."""
        held = make_lock(bed)
        assert held["source"] == "archive" and held["component"] == "contrib"
        assert [row["name"] for row in held["packages"]] == ["virtualbox", "virtualbox-dkms", "virtualbox-qt"]
        shown = bed.run(["apt-cache", "show", f"virtualbox-dkms={held['package_version']}"]).stdout
        assert held["packages"][1]["sha256"] in shown

    def test_a_dry_run_shows_the_set_and_changes_nothing(self, bed: Still, before: Any) -> None:
        """`--check --diff` on a bare host: every package that would come, and no trace."""
        was = bed.files(WATCHED)
        said = play(bed, "--check", "--diff")
        assert recap(said)[0] > 0 and "+virtualbox-dkms 7." in said
        changed = [line for line in set(was) ^ set(bed.files(WATCHED)) if not line.startswith("/opt/gpuhost")]
        assert changed == [] and "virtualbox" not in bed.packages()

    def test_it_is_installed_and_its_modules_are_built(self, bed: Still, before: Any) -> None:
        """Exactly the lock's version, the modules for the kernel that will boot, kept, held; ann is let in."""
        play(bed)
        held = json.loads(bed.read("/root/lock.json"))["contents"]["virtualbox"]
        found, (kernel,) = record(bed), kernels(bed)
        assert (found["version"], found["kernel"]) == (held["version"], kernel)
        assert found["packages"] == {"virtualbox": held["package_version"], "virtualbox-dkms": held["package_version"]}
        for name in MODULES:
            said = bed.run(["modinfo", "-k", kernel, "-F", "version", name]).stdout
            assert said.startswith(held["version"])
        assert f"virtualbox/{held['version']}, {kernel}" in bed.run(["dkms", "status"]).stdout
        assert bed.run(["VBoxManage", "--version"]).stdout.strip().splitlines()[-1].startswith(held["version"])
        for name, digest in found["debs"].items():
            assert list((bed.root / "opt/gpuhost/cache/debs" / digest).glob("*.deb")), name
        assert (
            "ann" in bed.run(["id", "-nG", "ann"]).stdout or "ann" in bed.run(["getent", "group", "vboxusers"]).stdout
        )
        asked = [
            "runuser",
            "-u",
            "ann",
            "--",
            "env",
            "HOME=/home/ann",
            "VBoxManage",
            "getextradata",
            "global",
            "GUI/UpdateDate",
        ]
        assert "Value: never" in bed.run(asked).stdout
        assert set(bed.run(["apt-mark", "showhold"]).stdout.split()) == {"virtualbox", "virtualbox-dkms"}
        assert failed(bed) == {}

    def test_the_second_run_changes_nothing(self, bed: Still) -> None:
        """changed=0, and no file is another one."""
        was = bed.files(WATCHED)
        assert recap(play(bed)) == (0, 0)
        assert [x for x in set(was) ^ set(bed.files(WATCHED)) if not x.startswith("/opt/gpuhost/log")] == []

    def test_an_update_that_would_replace_it_does_not(self, bed: Still) -> None:
        """A newer package in an archive of Debian's name: passed over while the guard holds, taken when it lets go."""
        newer(bed)
        version = record(bed)["packages"]["virtualbox"]
        for command in (
            ["unattended-upgrade", "-d"],
            ["apt-get", "--yes", "dist-upgrade"],
            ["apt-get", "--yes", "upgrade"],
        ):
            bed.run(command, timeout=SECONDS, env=QUIET)
            assert bed.packages()["virtualbox"] == version, command
        bed.run(["apt-mark", "unhold", "virtualbox", "virtualbox-dkms"])
        (bed.root / "etc/apt/preferences.d/gpuhost").rename(bed.root / "root/preferences")
        said = bed.run(["apt-get", "--simulate", "dist-upgrade"]).stdout
        assert re.search(r"^Inst virtualbox \[", said, re.MULTILINE), said
        (bed.root / "root/preferences").rename(bed.root / "etc/apt/preferences.d/gpuhost")
        play(bed)
        bed.run(["rm", "-r", "/etc/apt/sources.list.d/newer.list", "/root/newer"])
        bed.run(["apt-get", "update"], timeout=600)
        assert failed(bed) == {}

    def test_a_new_kernel_breaks_it_visibly_and_the_remedy_heals_it(self, bed: Still) -> None:
        """D52: one without headers would boot. The printed command and the playbook build for it."""
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "linux-image-cloud-amd64"]
        bed.run(install, timeout=SECONDS, env=QUIET)
        kernel = next(name for name in kernels(bed) if "cloud" in name)
        assert failed(bed) == {"virtualbox.modules": "D52"}
        heal(bed, look(bed)["virtualbox.modules"][2])
        assert record(bed)["kernel"] == kernel and failed(bed) == {}
        assert bed.run(["modinfo", "-k", kernel, "-F", "version", "vboxdrv"]).stdout

    def test_a_module_that_went_is_named_and_healed(self, bed: Still) -> None:
        """D52: DKMS still says that it is installed."""
        kernel = record(bed)["kernel"]
        (file,) = (bed.root / f"lib/modules/{kernel}/updates/dkms").glob("vboxdrv.ko*")
        file.unlink()
        bed.run(["depmod", kernel])
        assert failed(bed) == {"virtualbox.modules": "D52"}
        heal(bed, look(bed)["virtualbox.modules"][2])
        assert failed(bed) == {}

    def test_another_packaging_beside_it_is_named_and_healed(self, bed: Still) -> None:
        """D56: a package with the name of Oracle's."""
        package(bed, "virtualbox-7.0", "7.0.16-162802~Debian~bookworm")
        assert failed(bed) == {"virtualbox.one": "D56"}
        heal(bed, look(bed)["virtualbox.one"][2])
        assert failed(bed) == {} and "virtualbox-7.0" not in bed.packages()

    def test_oracles_installer_beside_it_is_named_and_healed(self, bed: Still) -> None:
        """D56: it takes the place of VBoxManage, and its uninstaller leaves none. The playbook brings the package's."""
        (bed.root / "root/oracle.run").write_bytes((STANDINS / ORACLES_FILE).read_bytes())
        bed.run(["sh", "/root/oracle.run", "install", "force", "no_module"], check=False)
        assert failed(bed) == {"virtualbox.one": "D56"}
        assert "/opt/VirtualBox/uninstall.sh" in heal(bed, look(bed)["virtualbox.one"][2])
        assert failed(bed) == {} and not (bed.root / "opt/VirtualBox").exists()

    def test_a_virtualbox_of_somebody_else_is_refused(self, bed: Still) -> None:
        """Nothing is changed beside it."""
        package(bed, "virtualbox-7.0", "7.0.16-162802~Debian~bookworm")
        (bed.root / "opt/gpuhost/state/virtualbox.json").rename(bed.root / "root/record")
        was = bed.packages()
        try:
            said = play(bed, check=False)
            assert "(D56)" in said, said
            assert recap(said)[1] == 1 and bed.packages() == was
        finally:
            (bed.root / "root/record").rename(bed.root / "opt/gpuhost/state/virtualbox.json")
            bed.run(["dpkg", "--purge", "virtualbox-7.0"])

    def test_removal_leaves_nothing(self, bed: Still, before: Tuple[List[str], Dict[str, str]]) -> None:
        """No package, module, file, hold, group or membership that was not there before; a second time changed=0."""
        files, _ = before
        brought = record(bed)["brought"]
        assert recap(play(bed, "-e", "removing=true"))[0] == 2
        assert [name for name in brought if name in bed.packages()] == []
        assert bed.run(["apt-mark", "showhold"]).stdout == ""
        assert bed.run(["getent", "group", "vboxusers"], check=False).stdout == ""
        assert not (bed.root / "home/ann/.config/VirtualBox").exists()
        assert not list((bed.root / "lib/modules").glob("*/updates/dkms/vbox*"))
        assert not (bed.root / "var/lib/dkms/virtualbox").exists()
        left = {line.split(" ")[0] for line in bed.files(WATCHED)} - {line.split(" ")[0] for line in files}
        ours = [path for path in left if re.search("vbox|virtualbox", path, re.IGNORECASE)]
        assert [path for path in ours if not path.startswith(("/opt/gpuhost/cache", "/opt/gpuhost/log"))] == []
        assert recap(play(bed, "-e", "removing=true"))[0] == 0


def heal(bed: Still, remedy: str) -> str:
    """Type the remedy as it is printed: on the host, and then the playbook; what was typed on the host."""
    first, _, second = remedy.partition("\nThen here: ")
    assert second.endswith("playbooks/virtualbox.yml") and first.startswith("On the host: "), remedy
    command = first[len("On the host: ") :].replace("apt-get ", "apt-get --yes ")
    bed.run(["sh", "-c", command], timeout=SECONDS, env=QUIET)
    play(bed)
    return command


def package(bed: Still, name: str, version: str) -> None:
    """Install an empty package, though a package of the distribution may name it as a conflict."""
    control = bed.root / f"root/{name}/DEBIAN/control"
    control.parent.mkdir(parents=True, exist_ok=True)
    rows = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "a <a@b.c>", "Description": "x"}
    control.write_text("".join(f"{key}: {value}\n" for key, value in rows.items()))
    bed.run(["dpkg-deb", "--build", f"/root/{name}", f"/root/{name}.deb"])
    bed.run(["dpkg", "--force-conflicts", "--install", f"/root/{name}.deb"])
    bed.run(["rm", "-r", f"/root/{name}", f"/root/{name}.deb"])


def newer(bed: Still) -> None:
    """A local archive of Debian's name with a newer VirtualBox: the real packages with another version."""
    folder = bed.root / "root/newer"
    folder.mkdir()
    for name, digest in record(bed)["debs"].items():
        if not name.startswith("virtualbox"):
            continue
        (deb,) = (bed.root / "opt/gpuhost/cache/debs" / digest).glob("*.deb")
        inside = f"/{deb.relative_to(bed.root)}"
        bed.run(["dpkg-deb", "-R", inside, f"/root/newer/{name}"])
        control = folder / name / "DEBIAN/control"
        control.write_text(re.sub(r"7\.2\.\d+-dfsg-[\w.+~]+", "7.9.9-dfsg-1", control.read_text()))
        bed.run(["dpkg-deb", "-b", "-Znone", f"/root/newer/{name}", f"/root/newer/{name}_7.9.9_amd64.deb"])
        bed.run(["rm", "-r", f"/root/newer/{name}"])
    index = bed.run(["sh", "-c", "cd /root/newer && dpkg-scanpackages . 2>/dev/null"], check=False).stdout
    if not index:
        bed.run(["apt-get", "install", "--yes", "--no-install-recommends", "dpkg-dev"], timeout=900, env=QUIET)
        index = bed.run(["sh", "-c", "cd /root/newer && dpkg-scanpackages ."]).stdout
    (folder / "Packages").write_text(index)
    size = len(index.encode())
    digest = bed.run(["sha256sum", "/root/newer/Packages"]).stdout.split()[0]
    fields = "Origin: Debian\nLabel: Debian\nSuite: unstable\nCodename: sid\nDate: Thu, 29 Oct 2026 10:00:00 UTC\n"
    (folder / "Release").write_text(f"{fields}SHA256:\n {digest} {size} Packages\n")
    (bed.root / "etc/apt/sources.list.d/newer.list").write_text("deb [trusted=yes] file:/root/newer ./\n")
    (bed.root / "root").chmod(0o755)
    bed.run(["apt-get", "update"], timeout=600)


RUN_PLAY = PLAY.replace("virtualbox_gui: false", "virtualbox_gui: true\n    gpuhost_mirror_dir: /root/mirror")


@pytest.fixture(scope="module")
def oracle(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Still]:
    """A Debian 12, whose archive has no VirtualBox, and a folder with a stand-in for Oracle's file."""
    with Still((*PACKAGES, "python3"), CODENAME, tmp_path_factory.mktemp("oracle")) as made:
        made.run(["apt-get", "update"], timeout=600)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "linux-image-amd64"]
        made.run(install, timeout=SECONDS, env=QUIET)
        made.run(["useradd", "--create-home", "ann"])
        made.clone_project()
        (made.root / f"{CLONE.lstrip('/')}/vbox.yml").write_text(RUN_PLAY)
        made.run(["./run", "true"], cwd=CLONE, timeout=SECONDS)
        yield made


class TestOraclesFile:
    """6.0.24 on a release whose archive has none: Oracle's file by its checksum, the modules by DKMS."""

    def test_it_is_installed_by_its_checksum(self, oracle: Still) -> None:
        """With its own words; that it ends with a failure where nothing is loaded is not a failure. Then changed=0."""
        standin = (STANDINS / ORACLES_FILE).read_bytes()
        name = "VirtualBox-6.0.24-139119-Linux_amd64.run"
        (oracle.root / "root/mirror").mkdir()
        (oracle.root / "root/mirror" / name).write_bytes(standin)
        file = {"name": name, "url": f"https://download.virtualbox.org/virtualbox/6.0.24/{name}"}
        held = {"asked": "6.0.24", "version": "6.0.24", "source": "runfile", "build": "139119", "extension_pack": None}
        held.update(file={**file, "sha256": hashlib.sha256(standin).hexdigest()}, unverified=[])
        # The plan refuses it for this kernel; the stand-in's modules compile against any.
        plan = {**dict.fromkeys(("driver", "cuda", "cudnn", "opencv", "tensorflow")), "gpus": [], "without": []}
        plan["without"] += ["opencv", "tensorflow"]
        lock = {"plan": plan, "contents": {"virtualbox": held}, "environments": {}}
        (oracle.root / "root/lock.json").write_text(json.dumps(lock))
        play(oracle)
        found, (kernel,) = record(oracle), kernels(oracle)
        assert (found["source"], found["version"], found["kernel"]) == ("runfile", "6.0.24", kernel)
        said = oracle.run(["modinfo", "-k", kernel, "-F", "version", "vboxdrv"]).stdout
        assert said.startswith("6.0.24 r139119") and "vboxhost/6.0.24" in oracle.run(["dkms", "status"]).stdout
        assert "VBOX_BYPASS_MODULES_SIGNATURE_CHECK=1" in oracle.read("/etc/vbox/vbox.cfg")
        assert failed(oracle) == {}
        assert recap(play(oracle)) == (0, 0)

    def test_another_file_is_refused(self, oracle: Still) -> None:
        """One byte more: nothing of it is run."""
        path = oracle.root / "root/mirror/VirtualBox-6.0.24-139119-Linux_amd64.run"
        path.write_bytes(path.read_bytes() + b"\n")
        oracle.run(["sh", "-c", "rm -r /opt/gpuhost/cache/artifacts && mv /opt/VirtualBox/VBoxManage /root/aside"])
        said = play(oracle, check=False)
        assert recap(said)[1] == 1 and "sha256" in said
        oracle.run(["mv", "/root/aside", "/opt/VirtualBox/VBoxManage"])

    def test_removal_leaves_nothing(self, oracle: Still) -> None:
        """Oracle's own uninstaller, DKMS' entry, the group and ann's settings."""
        assert recap(play(oracle, "-e", "removing=true"))[1] == 0
        assert not (oracle.root / "opt/VirtualBox").exists() and not (oracle.root / "etc/vbox").exists()
        assert "vboxhost" not in oracle.run(["dkms", "status"]).stdout
        assert oracle.run(["getent", "group", "vboxusers"], check=False).stdout == ""
        assert not (oracle.root / "home/ann/.config/VirtualBox").exists()
        assert not list((oracle.root / "lib/modules").glob("*/updates/dkms/vbox*"))
