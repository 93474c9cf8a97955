"""Proves the imitation Ubuntu 18.04 host at each place where it stands for something: what it shows is what a role,
the probe or an administrator would meet there.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import urlsplit

import doctor_pyz
import pytest

from gpuhost.planning import preflight

from .beds import Archive, Mirror, UbuntuBed, next_month
from .beds.bed import PROJECT
from .beds.ubuntu import own_pythons

#: As in test_bed.py: for a change of the beds.
pytestmark = pytest.mark.full

HWE, GA = "5.4.0-150-generic", "4.15.0-213-generic"
SIGNED = ["nvidia-driver-525=525.105.17-0ubuntu0.18.04.1"]
SIGNED += ["linux-modules-nvidia-525-generic-hwe-18.04=5.4.0-150.167~18.04.1"]
INSTALL = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
MOK = "/var/lib/shim-signed/mok/MOK.der"
QUERY = ["nvidia-smi", "--query-gpu=pci.bus_id,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
OBSERVE = "import json; from gpuhost.host.probe.machine import observe; print(json.dumps(observe()))"


@pytest.fixture(scope="module")
def archive(ubuntu_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """One archive, which the hosts of this module share."""
    with Archive(tmp_path_factory.mktemp("archive"), own_pythons()) as made:
        yield made


@pytest.fixture(scope="module")
def mirror(ubuntu_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """One vendor mirror."""
    with Mirror(tmp_path_factory.mktemp("mirror")) as made:
        yield made


@pytest.fixture(scope="module")
def signed_host(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UbuntuBed]:
    """A Quadro P2000 under Secure Boot, for the driver of the archive."""
    logs = tmp_path_factory.mktemp("signed")
    with UbuntuBed.fresh(cards=["1c30"], secure_boot=True, archive=archive, logs=logs) as bed:
        yield bed


@pytest.fixture(scope="module")
def run_host(archive: Archive, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UbuntuBed]:
    """An H200 under Secure Boot, for NVIDIA's files."""
    logs = tmp_path_factory.mktemp("runfile")
    with UbuntuBed.fresh(cards=["2335"], secure_boot=True, archive=archive, mirror=mirror, logs=logs) as bed:
        yield bed


def observed(bed: UbuntuBed) -> Dict[str, Any]:
    """What gpuhost's own probe sees there, by the interpreter that the inventory names."""
    bed.push(PROJECT / "src", "/root/src")
    python = bed.inventory("host")["host"]["ansible_python_interpreter"]
    said = bed.run([python, "-B", "-c", OBSERVE], env={"PYTHONPATH": "/root/src"}).stdout
    found: Dict[str, Any] = json.loads(said)
    return found


def install(bed: UbuntuBed, *names: str) -> None:
    """Install packages as an administrator does, without questions."""
    bed.run([*INSTALL, *names], env={"DEBIAN_FRONTEND": "noninteractive"})


def field(bed: UbuntuBed, kernel: str, name: str) -> str:
    """One field of the nvidia module that the kernel would load."""
    return bed.run(["modinfo", "-k", kernel, "-F", name, "nvidia"]).stdout.strip()


def test_the_probe_sees_a_fresh_ubuntu_with_its_card(signed_host: UbuntuBed) -> None:
    """Platform, card, kernel, Secure Boot, sources: as on a real 18.04, nouveau has the card, and nothing is wrong."""
    seen = observed(signed_host)
    assert (seen["platform"]["id"], seen["platform"]["codename"]) == ("ubuntu-18.04", "bionic")
    assert [(card["pci_id"], card["kernel_driver"]) for card in seen["gpus"]] == [("10de:1c30", "nouveau")]
    assert (seen["kernel"]["boots"], seen["kernel"]["running"]) == (HWE, HWE)
    assert (seen["secure_boot"], seen["nvidia"]["smi"]["status"]) == ("enabled", "absent")
    assert {release["origin"] for release in seen["apt"]["releases"]} == {"Ubuntu"}
    assert seen["apt"]["foreign_packages"] == seen["dpkg_audit"] == []
    assert all(source["fetched"] for source in seen["apt"]["sources"])
    assert preflight.problems(seen) == seen["problems"] == []
    # lsb_release is what unattended-upgrades asks for its origins.
    assert signed_host.run(["lsb_release", "-s", "-i", "-c"]).stdout.split() == ["Ubuntu", "bionic"]


def test_the_doctor_runs_there_as_one_file(signed_host: UbuntuBed, tmp_path: Path) -> None:
    """Under the release's own Python as root, and for an ordinary user: the card has no driver yet.

    Until the next boot the bed does not say that it is a container.
    """
    program = "/usr/local/share/gpuhost-doctor.pyz"
    (tmp_path / "doctor.pyz").write_bytes(doctor_pyz.built())
    signed_host.push(tmp_path / "doctor.pyz", program)
    signed_host.run(["rm", "/run/systemd/container"])
    old = signed_host.inventory("host")["host"]["ansible_python_interpreter"]
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3"]
    for argv in ([old], user):
        done = signed_host.run([*argv, program, "--json"], check=False)
        report = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (1, "")
        assert [(found["diagnosis"], found["check"]) for found in report["findings"]] == [("D37", "driver.installed")]


def test_ansible_comes_by_ssh_and_reboots_the_host(signed_host: UbuntuBed, tmp_path: Path) -> None:
    """Facts, the apt module and a reboot asked from inside, through the inventory that the bed gives."""
    inventory = {"all": {"hosts": signed_host.inventory("workstation")}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    wanted = "ansible_facts.distribution_release == 'bionic' and ansible_facts.distribution_version == '18.04'"
    tasks: List[Dict[str, Any]] = [
        {"ansible.builtin.assert": {"that": wanted}},
        {"ansible.builtin.apt": {"name": "libxml2", "state": "present"}},
        {"ansible.builtin.reboot": {"reboot_timeout": 60}},
    ]
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "all", "tasks": tasks}]))
    files = [str(tmp_path / name) for name in ("hosts.json", "play.json")]
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", *files]
    before = signed_host.machine.boots
    env = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert signed_host.machine.boots == before + 1
    assert signed_host.state() == "running"


def test_the_archives_signed_driver(signed_host: UbuntuBed) -> None:
    """apt installs the exact set; the next boot loads it under Secure Boot, though modinfo does not tell who signed."""
    install(signed_host, *SIGNED)
    assert field(signed_host, HWE, "version") == "525.105.17"
    said = signed_host.run(["modinfo", "-k", HWE, "nvidia"]).stdout
    assert "\nsignat:         PKCS#7\nsigner:         \nsig_key:        \nsig_hashalgo:   md4\n" in said
    assert field(signed_host, HWE, "signer") == ""
    assert signed_host.signer(HWE) == "Canonical Ltd. Kernel Module Signing"
    assert "nvidia-dkms-525" not in signed_host.run(["dpkg-query", "-W"]).stdout
    early = signed_host.run(QUERY, check=False)
    assert (early.returncode, "couldn't communicate" in early.stdout) == (9, True)
    signed_host.reboot()
    assert "Kernel Module  525.105.17  " in signed_host.read("/proc/driver/nvidia/version")
    seen = observed(signed_host)
    assert seen["nvidia"] == {
        "module_loaded": True,
        "module_version": "525.105.17",
        "smi": {"status": "ok", "message": ""},
        "unseen": [],
        "warnings": [],
    }
    card = seen["gpus"][0]
    assert (card["kernel_driver"], card["name"], card["compute_capability"]) == ("nvidia", "Quadro P2000", "6.1")
    assert signed_host.run(["sh", "-c", "ldconfig -p | grep -c 'libcuda.so.1 '"]).stdout.strip() == "1"


def test_nouveau_takes_the_card_from_an_initramfs_without_the_blacklist(signed_host: UbuntuBed) -> None:
    """A blacklist that is only on the disk does not help (D10); the real update-initramfs does."""
    blacklist = "/lib/modprobe.d/nvidia-graphics-drivers.conf"
    for command in (f"mv {blacklist} /root/kept && update-initramfs -u", f"mv /root/kept {blacklist}"):
        signed_host.run(["sh", "-c", command])
    signed_host.reboot()
    assert observed(signed_host)["gpus"][0]["kernel_driver"] == "nouveau"
    signed_host.run(["update-initramfs", "-u"])
    signed_host.reboot()
    assert observed(signed_host)["gpus"][0]["kernel_driver"] == "nvidia"


def test_next_month_reaches_unattended_upgrades(signed_host: UbuntuBed, archive: Archive) -> None:
    """After the archive has moved on the old version is gone, and unattended-upgrades would replace the driver.

    A library newer than the loaded module gives the real error (D01). This test goes last on this host.
    """
    archive.add(next_month())
    signed_host.run(["apt-get", "update", "-qq"])
    said = signed_host.run(["unattended-upgrade", "--dry-run", "-v"], timeout=120).stdout
    assert "Packages that will be upgraded" in said
    listed = next(line for line in said.splitlines() if line.startswith("Packages that will be upgraded"))
    assert {"libnvidia-compute-525", "linux-generic-hwe-18.04", "snapd"} <= set(listed.split())
    gone = signed_host.run(["apt-get", "download", SIGNED[0]], check=False)
    assert (gone.returncode, "Can't find a source to download version" in gone.stderr) == (100, True)
    signed_host.run(["apt-get", "download", "libnvidia-compute-525"], cwd="/root")
    signed_host.run(["sh", "-c", "dpkg --force-depends -i /root/libnvidia-compute-525_*.deb"])
    broken = signed_host.run(QUERY, check=False)
    assert (broken.returncode, "Driver/library version mismatch" in broken.stdout) == (18, True)


def test_the_run_file_with_dkms_and_a_key_of_ones_own(run_host: UbuntuBed, mirror: Mirror) -> None:
    """NVIDIA's installer: refused beside nouveau, built by the real dkms, signed, loaded once the key is in."""
    file = mirror.artifact("driver", "550.163.01")
    run_host.run(["wget", "-q", file["url"]])
    argv = ["sh", file["name"], "--silent", "--no-questions", "--dkms", "-m=kernel-open"]
    argv += [f"--kernel-name={HWE}", f"--kernel-source-path=/lib/modules/{HWE}/build"]
    refused = run_host.run(argv, check=False)
    assert (refused.returncode, "Nouveau kernel driver is currently in use" in refused.stdout) == (1, True)
    run_host.run(["sh", "-c", "echo blacklist nouveau >/etc/modprobe.d/mine.conf && update-initramfs -u"])
    run_host.reboot()
    run_host.run(argv)
    assert f"nvidia/550.163.01, {HWE}, x86_64: installed" in run_host.run(["dkms", "status"]).stdout
    assert (field(run_host, HWE, "version"), field(run_host, HWE, "license")) == ("550.163.01", "Dual MIT/GPL")
    assert run_host.signer(HWE).endswith("Secure Boot Module Signature key")

    run_host.reboot()
    assert run_host.kernel_log() == ["Loading of module with unavailable key is rejected"]
    assert run_host.run(QUERY, check=False).returncode == 9
    ask = f"printf 'once\\nonce\\n' | mokutil --import {MOK}"
    run_host.run(["sh", "-c", ask])
    run_host.reboot()
    missed = run_host.run(["mokutil", "--test-key", MOK])
    assert missed.stdout == f"{MOK} is not enrolled\n"

    run_host.run(["sh", "-c", ask])
    run_host.enrol_mok()
    run_host.reboot()
    assert run_host.run(["mokutil", "--test-key", MOK], check=False).stdout == f"{MOK} is already enrolled\n"
    assert "Open Kernel Module for x86_64  550.163.01" in run_host.read("/proc/driver/nvidia/version")
    assert "9.0" in run_host.run(QUERY).stdout

    run_host.run(["nvidia-uninstall", "--silent"])
    assert run_host.run(["sh", "-c", "command -v nvidia-smi"], check=False).returncode == 127
    assert "nvidia" not in run_host.run(["dkms", "status"]).stdout


def test_the_cuda_runfile_has_its_traps_and_its_layout(run_host: UbuntuBed, mirror: Mirror) -> None:
    """libxml2 missing, a foreign log, the flags of before 10.1; then a toolkit whose libraries can be loaded."""
    new, old = mirror.artifact("cuda", "11.8.0"), mirror.artifact("cuda", "10.0.130")
    run_host.run(["wget", "-q", new["url"], old["url"]])
    flags = ["--silent", "--override", "--toolkit"]
    argv = ["sh", new["name"], *flags, "--installpath=/opt/new"]
    assert "libxml2.so.2: cannot open shared object" in run_host.run(argv, check=False).stderr
    install(run_host, "libxml2")
    run_host.run(["sh", "-c", "echo somebody >/tmp/cuda-installer.log"])
    assert "Segmentation fault" in run_host.run(argv, check=False).stderr
    run_host.run(["sh", "-c", "rm /tmp/cuda-installer.log"])
    run_host.run(argv)
    assert "release 11.8, V11.8.89" in run_host.run(["/opt/new/bin/nvcc", "--version"]).stdout
    ask = "import ctypes; n = ctypes.c_int(); l = ctypes.CDLL('/opt/new/lib64/libcudart.so.11.0'); "
    ask += "l.cudaRuntimeGetVersion(ctypes.byref(n)); print(n.value)"
    assert run_host.run(["python3", "-c", ask]).stdout == "11080\n"
    assert run_host.run(["sh", old["name"], *flags, "--installpath=/opt/old"], check=False).returncode == 1
    run_host.run(["sh", old["name"], *flags, "--toolkitpath=/opt/old"])
    assert run_host.read("/opt/old/version.txt") == "CUDA Version 10.0.130\n"


def test_cudnn_comes_in_both_layouts(run_host: UbuntuBed, mirror: Mirror) -> None:
    """`cuda/lib64` before 8.3.1, a folder of the archive's own name after."""
    for version, cuda, folder in (("7.6.5.32", "10.0", "cuda/lib64"), ("8.6.0.163", "11.8", "*-archive/lib")):
        made = mirror.artifact("cudnn", version, cuda)
        run_host.run(["sh", "-c", f"rm -rf /root/c; mkdir /root/c; wget -qO- {made['url']} >/root/c/{made['name']}"])
        run_host.run(
            ["sh", "-c", f"tar -xf {made['name']} && test -e {folder}/libcudnn.so.{version[0]}"], cwd="/root/c"
        )


def test_dkms_builds_the_archives_driver_for_the_older_kernel(
    archive: Archive, signed_host: UbuntuBed, tmp_path: Path
) -> None:
    """A second host, with the release's first kernel and an old card, beside the others: nvidia-dkms-470 for real."""
    with UbuntuBed.fresh(cards=["102d"], kernel=GA, secure_boot=None, archive=archive, logs=tmp_path) as bed:
        seen = observed(bed)
        assert (seen["kernel"]["boots"], seen["secure_boot"]) == (GA, "unsupported")
        install(bed, "nvidia-driver-470", "nvidia-dkms-470")
        assert "/updates/dkms/" in bed.run(["modinfo", "-k", GA, "-n", "nvidia"]).stdout
        bed.reboot()
        # 470 knows no compute_cap yet, which the probe copes with.
        assert "is not a valid field to query" in bed.run(QUERY, check=False).stdout
        assert observed(bed)["gpus"][0]["name"].startswith("Tesla K80")
        other = signed_host.inventory("other")["other"]["ansible_host"]
        assert bed.run(["ssh-keyscan", "-T", "5", other]).stdout


def test_the_mirror_does_what_it_is_told(mirror: Mirror) -> None:
    """Ranges, and each fault to order, seen from outside with the authority as only trust."""
    good, other = mirror.add("good.bin", bytes(range(256)) * 40), mirror.add("other.bin", b"something else")
    trust = ssl.create_default_context(cafile=str(mirror.authority))
    place = urlsplit(good["url"])

    def ask(context: ssl.SSLContext, headers: Dict[str, str]) -> Tuple[int, bytes, str]:
        """Status, content and ETag of the good file."""
        line = http.client.HTTPSConnection(str(place.hostname), place.port, context=context, timeout=10)
        with contextlib.closing(line):
            line.request("GET", place.path, headers={key.replace("_", "-"): text for key, text in headers.items()})
            answer = line.getresponse()
            return answer.status, answer.read(), str(answer.headers["ETag"])

    def fetch(**headers: str) -> bytes:
        """The content."""
        return ask(trust, headers)[1]

    whole = fetch()
    assert len(whole) == good["size"]
    status, part, tag = ask(trust, {"Range": "bytes=10000-"})
    assert (status, part) == (206, whole[10000:])
    assert fetch(Range="bytes=10000-", If_Range=tag) == whole[10000:]
    assert fetch(Range="bytes=10000-", If_Range='"another"') == whole
    assert f"GET /{good['sha256']}/good.bin bytes=10000-" in mirror.requests

    mirror.order(good, "truncate", 100)
    assert fetch() == whole[:100]
    mirror.order(good, "corrupt", 7)
    assert [i for i, (a, b) in enumerate(zip(fetch(), whole)) if a != b] == [7]
    mirror.order(good, "swap", other=other)
    assert fetch() == b"something else"
    mirror.order(good, "no-range")
    assert fetch(Range="bytes=10-") == whole
    mirror.order(good, "drop", 2000, times=1)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead, ssl.SSLError)):
        fetch()
    assert fetch() == whole
    mirror.order(good, "absent")
    assert ask(trust, {})[0] == 404
    mirror.repair()
    assert fetch() == whole
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(ssl.create_default_context(), {})
