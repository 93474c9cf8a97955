"""Twenty-four healthy hosts: verify/'s checks and the doctor find nothing, and each reader's mistake would be found.

Debian's files are those of the recorded host, with a card put in; Ubuntu's are made (tests/hosts/README.md), after the
public output that each host below cites. None of them is a real machine with a card.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import pytest

from gpuhost.checks.base import FAIL
from gpuhost.doctor import judge, run
from gpuhost.doctor.collect import collect
from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.probe.boot import Boots
from gpuhost.host.probe.driver import CERTIFICATE

from .. import recorded
from . import collected
from .collected import cuda_answer
from .test_field import SUITES, TESTS, Host, offers_nothing
from .test_parsers_signature import MODULE
from .test_watch_healthy import locked_to

Json = Dict[str, Any]
FIELD = TESTS / "field"
DEBIAN, UBUNTU = "debian12-no-gpu", "ubuntu1804-quadro-p2000"
ROW = "0000{}, GPU-00000000-0000-4000-8000-{:012d}, {}\n"
T400, P2000, H100 = "NVIDIA T400 4GB, 4096, 7.5", "Quadro P2000, 5120, 6.1", "NVIDIA H100 80GB HBM3, 81559, 9.0"
#: What kmod 24 prints of any signed module, in the place of the signer (tests/field kind-01).
OLD_KMOD = "signat:         PKCS#7\nsigner:         \nsig_key:        \nsig_hashalgo:   md4\n"


def text(case: str, name: str) -> str:
    """One file of a case of tests/field."""
    return (FIELD / case / name).read_text(encoding="utf-8")


def works(host: Host, version: str, signer: str = "", module: str = "nvidia", dkms: bool = False) -> None:
    """Put a driver that works on a host: module, library, nodes; every reader sees it where it stands in real life.

    modinfo speaks as kmod 30 does, in its recorded words, and where OLD_KMOD is given for the signer as kmod 24.
    """
    kernel = (host.root / "proc/sys/kernel/osrelease").read_text().strip()
    path = f"/lib/modules/{kernel}/{'updates/dkms' if dkms else 'kernel/nvidia-525'}/nvidia.ko"
    found = recorded.modinfo(version, kernel, path, "" if signer == OLD_KMOD else signer)
    found += OLD_KMOD if signer == OLD_KMOD else ""
    for name in (module, f"{module}-uvm"):
        host.answers[("modinfo", "-k", kernel, name)] = (0, found, "")
        host.answers[("modinfo", "-k", kernel, "-F", "filename", name)] = (0, path, "")
    host.put(path, "")
    if signer == OLD_KMOD:
        (host.root / path[1:]).write_bytes(MODULE)
    if dkms:
        host.say("dkms status", f"{module}/{version}, {kernel}, x86_64: installed\n")
        host.put(f"/lib/modules/{kernel}/build/Makefile", "")
    host.put("/etc/modprobe.d/nvidia-blacklists-nouveau.conf", "blacklist nouveau\n")
    loaded = "nvidia_uvm 1376256 0 - Live 0x0\nnvidia 56299520 60 nvidia_uvm, Live 0x0 (POE)\n"
    host.put("/proc/modules", loaded)
    host.put("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Mar 28\n")
    folder = host.root / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"libnvidia-ml.so.{version}").write_text("")
    (folder / "libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{version}")
    for node in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(8))):
        host.put(f"/dev/{node}", "")
    host.put("/sys/module/nvidia_uvm/refcnt", "0\n")
    host.say("dmesg", f"[    4.2] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  {version}\n")


def ubuntu(root: Path) -> Host:
    """Ubuntu 18.04, HWE kernel, the archive's driver 525 with signed modules, a Quadro P2000."""
    return Host(root, UBUNTU)


def debian(root: Path, kernel: str = "6.1.0-28-amd64") -> Host:
    """The recorded Debian 12 with a T400 put in, as in truenas/middleware#11397 (tests/field kind-06)."""
    host = Host(root, DEBIAN)
    host.cards(("0000:65:00.0", "1ff2", "nvidia"))
    host.say("nvidia-smi", ROW.format("0000:65:00.0", 0, T400))
    renamed(host, kernel)
    return host


def renamed(host: Host, kernel: str) -> None:
    """Let a host run another kernel."""
    host.put("/proc/sys/kernel/osrelease", kernel + "\n")
    for image in host.root.glob("boot/vmlinuz-*"):
        image.unlink()
    host.put(f"/boot/vmlinuz-{kernel}", "")
    host.put(f"/lib/modules/{kernel}/modules.dep", "")


def source(host: Host, name: str, words: str, *rows: Tuple[str, str, str, str, str, str]) -> Host:
    """Add a source that apt has read and that offers nothing of the stack."""
    host.put(f"/etc/apt/sources.list.d/{name}", words)
    host.archive(*rows)
    offers_nothing(host)
    return host


def debian_plain(root: Path) -> Tuple[Host, Json]:
    """Debian 12's own sources as they were recorded."""
    return debian(root), DKMS


def debian_cloud_image(root: Path) -> Tuple[Host, Json]:
    """The sources of Debian's cloud images (tests/field kind-03)."""
    host = debian(root)
    for path in (host.root / "etc/apt/sources.list.d").iterdir():
        path.unlink()
    host.put("/etc/apt/sources.list.d/debian.sources", text("kind-03-debian-cloud-mirror-file", "debian.sources"))
    host.say("apt-get indextargets", "")
    for suite in SUITES:
        place = f"mirror+file:/etc/apt/mirrors/debian{'-security' if suite.endswith('security') else ''}.list/"
        host.archive((place, suite, "Debian", "Debian", suite, "oldstable"))
    return host, DKMS


def debian_cloud_kernel(root: Path) -> Tuple[Host, Json]:
    """Debian's linux-image-cloud-amd64 (packages.debian.org/bookworm/linux-image-cloud-amd64)."""
    return debian(root, "6.1.0-28-cloud-amd64"), DKMS


def debian_own_key(root: Path) -> Tuple[Host, Json]:
    """DKMS signs with the machine's own key, which is enrolled (tests/data/secureboot: enrolled)."""
    host = debian(root)
    secure(host)
    host.put("/var/lib/shim-signed/mok/MOK.der", "")
    key = str(host.root / "var/lib/shim-signed/mok/MOK.der")
    code, out, err = recorded.said("enrolled", "mokutil", "--test-key", CERTIFICATE)
    host.answers[("mokutil", "--test-key", key)] = (code, out.replace(CERTIFICATE, key), err)
    return host, {**DKMS, "signer": "DKMS module signing key"}


def debian_docker(root: Path) -> Tuple[Host, Json]:
    """Docker's source as docs.docker.com/engine/install/debian writes it."""
    signed_by = "[arch=amd64 signed-by=/etc/apt/keyrings/docker.asc]"
    line = f"deb {signed_by} https://download.docker.com/linux/debian bookworm stable\n"
    row = ("https://download.docker.com/linux/debian/", "bookworm", "Docker", "Docker CE", "bookworm", "stable")
    return source(debian(root), "docker.list", line, row), DKMS


def secure(host: Host, state: str = "enrolled") -> None:
    """Turn Secure Boot on: the firmware's variables are those of a recorded state."""
    recorded.write(state, host.root, "/efivars/")


def plain(root: Path) -> Tuple[Host, Json]:
    """The made host as it is (tests/hosts/README.md)."""
    return ubuntu(root), {}


def driver_470(root: Path) -> Tuple[Host, Json]:
    """A GTX 750 Ti, and an nvidia-smi that does not know compute_cap (huggingface/candle#733)."""
    return Host(root, "ubuntu1804-gtx750ti-driver470"), {"version": "470.182.03"}


def two_cards(root: Path) -> Tuple[Host, Json]:
    """A Quadro P2000 and an RTX 3090 (tests/hosts/README.md)."""
    return Host(root, "ubuntu1804-mixed-p2000-rtx3090"), {}


def old_kmod(root: Path) -> Tuple[Host, Json]:
    """Secure Boot, and modinfo of kmod 24, which prints no signer (tests/field kind-01)."""
    host = ubuntu(root)
    secure(host)
    return host, {"signer": OLD_KMOD}


def signed(root: Path) -> Tuple[Host, Json]:
    """Secure Boot, and the archive's signed modules (the signer as ubuntu's modinfo prints it)."""
    host = ubuntu(root)
    secure(host)
    return host, {"signer": "Canonical Ltd. Kernel Module Signing"}


def shim(root: Path) -> Tuple[Host, Json]:
    """Secure Boot on and validation off in shim, with an unsigned module (lcp/mokutil#9, tests/field kind-02)."""
    host = ubuntu(root)
    secure(host, "validation-off")
    return host, {}


def toolkit(root: Path) -> Tuple[Host, Json]:
    """NVIDIA's container toolkit (tests/field kind-03)."""
    file = "nvidia-container-toolkit.list"
    row = ("https://nvidia.github.io/libnvidia-container/stable/deb/amd64/", "/", "NVIDIA", "t", "", "")
    return source(ubuntu(root), file, text("kind-03-arch-variable-container-toolkit", file), row), {}


def pro(root: Path) -> Tuple[Host, Json]:
    """Ubuntu Pro (tests/field kind-04)."""
    file, place = "ubuntu-esm-infra.list", "https://esm.ubuntu.com/infra/ubuntu/"
    suites = ("bionic-infra-security", "bionic-infra-updates")
    rows = [(place, suite, "UbuntuESM", "UbuntuESM", "bionic", suite) for suite in suites]
    return source(ubuntu(root), file, text("kind-04-ubuntu-pro-esm", file), *rows), {}


def cran(root: Path) -> Tuple[Host, Json]:
    """CRAN's source for R 4 (tests/field kind-04)."""
    row = ("https://cloud.r-project.org/bin/linux/ubuntu/", "bionic-cran40/", "CRAN", "CRAN", "bionic-cran40", "bionic")
    return source(ubuntu(root), "cran.list", text("kind-04-suite-with-a-suffix", "cran.list"), row), {}


def postgresql(root: Path) -> Tuple[Host, Json]:
    """PostgreSQL's source (tests/field kind-04)."""
    row = ("http://apt.postgresql.org/pub/repos/apt/", "bionic-pgdg", "apt.postgresql.org", "PGDG", "bionic-pgdg", "x")
    return source(ubuntu(root), "pgdg.list", text("kind-04-suite-with-a-suffix", "pgdg.list"), row), {}


def editor(root: Path) -> Tuple[Host, Json]:
    """Visual Studio Code's source (code.visualstudio.com/docs/setup/linux)."""
    signed_by = "[arch=amd64,arm64,armhf signed-by=/etc/apt/keyrings/p.gpg]"
    line = f"deb {signed_by} https://packages.microsoft.com/repos/code stable main\n"
    row = ("https://packages.microsoft.com/repos/code/", "stable", "code stable", "code stable", "stable", "stable")
    return source(ubuntu(root), "vscode.list", line, row), {}


def deb_src(root: Path) -> Tuple[Host, Json]:
    """Source packages of another release (tests/field kind-04)."""
    host = ubuntu(root)
    host.put("/etc/apt/sources.list.d/focal-src.list", text("kind-04-deb-src-of-another-release", "focal-src.list"))
    return host, {}


def cloud_kernel(name: str) -> Callable[[Path], Tuple[Host, Json]]:
    """A kernel of a cloud's own (launchpad.net/ubuntu/+source/linux-aws-5.4, linux-azure-5.4, linux-gcp-5.4)."""

    def make(root: Path) -> Tuple[Host, Json]:
        host = ubuntu(root)
        renamed(host, name)
        return host, {"dkms": True}

    return make


def laptop(root: Path) -> Tuple[Host, Json]:
    """A hybrid laptop: the card is a 3D controller beside Intel's (PCI class 0302, as pci.ids names it)."""
    host = ubuntu(root)
    host.without_card()
    host.cards(("0000:01:00.0", "1c30", "nvidia"), kind="0x030200")
    return host, {}


def inforom(root: Path) -> Tuple[Host, Json]:
    """nvidia-smi warns of the infoROM and ends with 14 (NVIDIA/gpu-operator#20, tests/field kind-07)."""
    host = ubuntu(root)
    words = "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n"
    host.say("nvidia-smi", ROW.format("0000:01:00.0", 0, P2000) + words, code=14)
    return host, {}


def passed_through(root: Path) -> Tuple[Host, Json]:
    """One of two cards is a virtual machine's (truenas/middleware#11397, tests/field kind-06)."""
    host = debian(root)
    host.cards(("0000:17:00.0", "1ff2", "vfio-pci"))
    return host, DKMS


def eight_cards(root: Path) -> Tuple[Host, Json]:
    """Eight H100 and four NVSwitches, with the fabric manager at work (tests/field kind-06)."""
    host = ubuntu(root)
    host.without_card()
    places = [f"0000:{number}b:00.0" for number in range(1, 9)]
    host.cards(*((place, "2330", "nvidia") for place in places), kind="0x030200")
    host.cards(*((f"0000:c{n}:00.0", "22a3", "nvidia-nvswitch") for n in range(4)), kind="0x068000")
    host.say("nvidia-smi", "".join(ROW.format(place, n, H100) for n, place in enumerate(places)))
    return host, {}


DKMS: Json = {"version": "535.183.01", "module": "nvidia-current", "dkms": True}
HOSTS: Dict[str, Callable[[Path], Tuple[Host, Json]]] = {
    "debian": debian_plain,
    "debian, a cloud image's sources": debian_cloud_image,
    "debian, a cloud kernel": debian_cloud_kernel,
    "debian, Secure Boot with its own key": debian_own_key,
    "debian, Docker's source": debian_docker,
    "debian, a card of a virtual machine's beside": passed_through,
    "ubuntu": plain,
    "ubuntu, driver 470": driver_470,
    "ubuntu, two cards": two_cards,
    "ubuntu, eight cards behind switches": eight_cards,
    "ubuntu, Secure Boot": signed,
    "ubuntu, Secure Boot and kmod 24": old_kmod,
    "ubuntu, shim does not validate": shim,
    "ubuntu, container toolkit": toolkit,
    "ubuntu, Pro": pro,
    "ubuntu, CRAN": cran,
    "ubuntu, PostgreSQL": postgresql,
    "ubuntu, an editor's source": editor,
    "ubuntu, deb-src of another release": deb_src,
    "ubuntu, an AWS kernel": cloud_kernel("5.4.0-1103-aws"),
    "ubuntu, an Azure kernel": cloud_kernel("5.4.0-1109-azure"),
    "ubuntu, a GCP kernel": cloud_kernel("5.4.0-1106-gcp"),
    "ubuntu, a hybrid laptop": laptop,
    "ubuntu, a warning about the infoROM": inforom,
}


def made(root: Path, name: str) -> Host:
    """Make a healthy host."""
    host, driver = HOSTS[name](root)
    works(host, **{"version": "525.105.17", **driver})
    return host


def doctors(host: Host) -> Tuple[str, List[str]]:
    """The doctor's answer and its findings and risks on a host where CUDA works on each card."""

    def replay(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        unknown = (1, "", "") if argv[0] == "modinfo" else (NOT_FOUND, "", f"{argv[0]} is not installed")
        return host.answers.get(tuple(argv), unknown)

    seen = collect(run.releases(), str(host.root), replay, lambda: None)
    seen["cuda"] = cuda_answer(seen["machine"]["observation"])
    report = judge.report(seen)
    return report["answer"], [
        f"{r['check']} {r['diagnosis']} {r['actual']}" for r in report["findings"] + report["risks"]
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_the_doctor_finds_nothing(tmp_path: Path, name: str) -> None:
    """No finding, no diagnosis, no risk; and that CUDA works is said."""
    assert doctors(made(tmp_path, name)) == ("fine", [])


@pytest.mark.parametrize("name", HOSTS)
def test_the_checks_fail_nowhere(tmp_path: Path, name: str) -> None:
    """Against the lock that is planned for the host, where one is: what gpuhost installs is put in place as planned."""
    observation = made(tmp_path, name).seen()
    results = collected.judged(locked_to(observation))
    assert {key: result.actual for key, result in results.items() if result.status == FAIL} == {}


#: One mistake of each reader, by the place where it is used. Those of /proc/modules and modprobe's files are not here:
#: where NVIDIA's module has the card nothing follows from them; nor is dpkg's audit, which is silent here.
MISTAKES: Dict[str, Tuple[str, Callable[..., Any]]] = {
    "the version that is loaded": ("gpu.parse_module_version", lambda text: "1.1"),
    "nvidia-smi's cards": ("gpu.parse_smi_csv", lambda text, fields: ({}, [])),
    "nvidia-smi's warnings": ("gpu.sort_out", lambda lines: ({}, [], [line for line in lines if line])),
    "what is not a card": ("gpu.other_kind", lambda edges, folder, card: None),
    "the bus": ("gpu.functions", lambda edges: ([], [])),
    "modinfo": ("driver.parse_modinfo", lambda text: dict(MISREAD)),
    "a module's own signature": ("driver.with_signer", lambda edges, seen: {**seen, "signed": False}),
    "the library's version": ("driver.library_version", lambda edges: "1.1"),
    "mokutil's sentence": ("driver.parse_test_key", lambda text: False),
    "the own key": ("driver.own_key", lambda edges: {"made": True, "enrolled": False}),
    "the nodes": ("signs._NODE", re.compile("nothing")),
    "the firmware": ("machine._firmware_says", lambda edges: "enabled"),
    "shim": ("machine.enforced", lambda *words: "enabled"),
    "the kernel that boots": ("machine.boots", lambda *words: Boots("5.4.0-1-other", "said")),
    "os-release": ("machine.parse_os_release", lambda text: dict(FOCAL)),
    "apt-get indextargets": ("apt.parse_index_targets", lambda text: []),
    "apt's own origins": ("apt.is_own_origin", lambda *words: False),
}
FOCAL = {"id": "ubuntu-20.04", "distribution": "ubuntu", "version": "20.04", "codename": "focal", "pretty_name": "U"}
MISREAD = {"path": "", "version": "1.1", "signed": False, "signer": "", "open": False}


@pytest.mark.parametrize("reader", MISTAKES)
def test_a_reader_that_misreads_is_found(tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On at least one of the hosts, so none of them is read by nobody."""
    place, wrong = MISTAKES[reader]
    monkeypatch.setattr(f"gpuhost.host.probe.{place}", wrong)
    assert any(doctors(made(tmp_path / name, name)) != ("fine", []) for name in HOSTS)
