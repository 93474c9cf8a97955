"""The accident under a detection service, end to end: an unguarded update of the driver, its names, and the way back.

An imitation Ubuntu 18.04 with a Quadro P2000 gets the stack with service and watch. apt, unattended-upgrades, systemd,
nginx, the roles, the watch, verify/ and the service itself are the real ones. Not real: the card, the kernel and the
driver's packages (README.md says what of them), and what OpenCV does with a card, which `CARD` below stands for: it
computes on the CPU, refuses as CUDA does where the library that its process began with is not of the loaded
module's version or no card is there, and knows both from what the bed shows. OpenCV itself is the index's wheel, since
a stand-in of nvcc compiles nothing; nginx and OpenCV's libraries are Debian's.

The tests build on one another.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost.host.service import photo
from gpuhost.planning import contents, lock_files, plan
from gpuhost.planning import lock as locks
from gpuhost.planning.candidates import Request
from gpuhost.planning.resolve import resolver

from .beds.archive import next_month
from .beds.releases import BIONIC
from .beds.ubuntu import UbuntuBed, UbuntuRoot
from .fleet import HWE, Kind, World
from .service_bed import SERVICE
from .test_watch import LOGIN, looked

pytestmark = pytest.mark.full

NAME = "box"
SITE = ("site.yml", "--skip-tags", "verify")
#: Without TensorFlow the plan takes this line of drivers. There is no newer version of it: that one is made up.
LINE, OLD, NEW = "530", "530.41.03", "530.54.01"
#: What the loaded module shows, where the sandbox does not cover it as it does /proc.
CARD = """
import glob, os, re
import cv2, numpy

CUDA = cv2.dnn.DNN_BACKEND_CUDA
LIBRARY = os.path.realpath("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").rpartition(".so.")[2]
DRIVER = "/run/gpuhost-bed/driver/nvidia"


def refusal():
    if not glob.glob(DRIVER + "/gpus/*"):
        return "no CUDA-capable device is detected"
    with open(DRIVER + "/version") as file:
        loaded = re.search(r"Kernel Module *([0-9.]+)", file.read()).group(1)
    return "" if loaded == LIBRARY else "system has unsupported display driver / cuda driver combination"


class Net:
    def __init__(self, net):
        self._net, self._card = net, False

    def __getattr__(self, name):
        return getattr(self._net, name)

    def setPreferableBackend(self, backend):
        self._card = backend == CUDA
        if not self._card:
            self._net.setPreferableBackend(backend)

    def setPreferableTarget(self, target):
        if not self._card:
            self._net.setPreferableTarget(target)

    def forward(self, *given):
        if self._card and refusal():
            raise cv2.error("OpenCV: error: (-217:Gpu API call) " + refusal() + " in function 'forward'")
        found = self._net.forward(*given)
        return [one * numpy.float32(1 + 1e-6) for one in found] if self._card else found


read, targets, built = cv2.dnn.readNetFromDarknet, cv2.dnn.getAvailableTargets, cv2.getBuildInformation
cv2.dnn.readNetFromDarknet = lambda *given: Net(read(*given))
cv2.dnn.getAvailableTargets = lambda asked: [cv2.dnn.DNN_TARGET_CUDA] if asked == CUDA else targets(asked)
cv2.getBuildInformation = lambda: built() + "NVIDIA CUDA: YES"
"""
#: Asks through nginx: method, path and key, and sends the made photo of verify/ where the method is POST.
ASK = """
import json, pathlib, sys, urllib.error, urllib.request
method, path, key = sys.argv[1:]
head = {"X-API-Key": key, "Content-Type": "image/png"}
body = pathlib.Path("/root/photo.png").read_bytes() if method == "POST" else None
asked = urllib.request.Request("http://127.0.0.1:8420" + path, body, head, method=method)
try:
    with urllib.request.urlopen(asked, timeout=120) as answer:
        print(json.dumps([answer.status, json.load(answer)]))
except urllib.error.HTTPError as answer:
    print(json.dumps([answer.code, json.load(answer)]))
"""


class Answer(NamedTuple):
    """The status of an answer, and its JSON."""

    status: int
    json: Dict[str, Any]


@pytest.fixture(scope="module")
def world(bed_tools: None, ubuntu_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host with its plan, in which OpenCV is the index's; nothing of it is installed yet."""
    asked: Dict[str, Any] = {"nvidia_driver_reboot": True, "watch_enabled": True, "gpu_stack_without": ["tensorflow"]}
    asked.update(service_enabled=True, service_models=[{"name": "yolov4-tiny", "size": 96}])
    kinds = {NAME: Kind("1c30", HWE, False, OLD, "archive")}
    with World(tmp_path_factory.mktemp("service"), kinds, **asked) as made:
        made.plan()
        take_wheel(made)
        from_debian(made.beds[NAME], "nginx", "libgl1", "libglib2.0-0")
        (made.beds[NAME].copy.root / "root/photo.png").write_bytes(photo.made())
        yield made


@pytest.fixture(scope="module")
def bed(world: World) -> UbuntuBed:
    """The host."""
    return world.beds[NAME]


def take_wheel(world: World, suffix: str = "") -> None:
    """Let the lock, or the one beside it with this suffix, name the index's OpenCV for this root, and build none."""
    file = world.controller.lock_file(NAME).with_name("stack.json" + suffix)
    lock = locks.load(file)
    request = Request("debian-12", (), {}, {}, None, None, None, without=frozenset(["tensorflow"]))
    lock["plan"]["opencv"] = plan.make(resolver(), request)["opencv"]
    closed = {key: lock[key] for key in ("schema", "host", "cards", "plan")}
    closed.update(contents.of(lock["plan"]))
    lock_files.write(file, contents.added(closed, contents.Options(service=True)))


def from_debian(bed: UbuntuBed, *names: str) -> None:
    """Install packages of Debian's, whose root this is, and leave no trace of its archive in apt's lists."""
    assert isinstance(bed.base, UbuntuRoot)
    folder = bed.copy.root / "root/debian"
    folder.mkdir()
    (folder / "debian.sources").write_text(bed.base.debian.sources, encoding="utf-8")
    places = {"Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": "/root/debian"}
    options = [f"-o{name}={place}" for name, place in {**places, "Dir::State::lists": "/root/lists"}.items()]
    bed.run(["mkdir", "-p", "/root/lists/partial"])
    bed.run(["apt-get", *options, "update"])
    install = ["apt-get", *options, "install", "-y", "--no-install-recommends", *names]
    bed.run(install, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=900)


def ask(bed: UbuntuBed, method: str, path: str, key: str = "") -> Answer:
    """Ask the service through nginx, on the host."""
    return Answer(*json.loads(bed.run(["python3", "-c", ASK, method, path, key]).stdout))


def readiness(bed: UbuntuBed, *states: str) -> Answer:
    """What /readyz says once it is in one of these states."""
    for _ in range(1200):
        found = ask(bed, "GET", "/readyz")
        if found.json.get("state") in states:
            return found
        bed.run(["sleep", "0.5"])
    pytest.fail(f"{found.json} is none of {states}")


def watched(bed: UbuntuBed) -> str:
    """What a login shows once the watch has looked."""
    bed.run(["systemctl", "start", "gpuhost-watch.service"], check=False, timeout=300)
    return bed.run([LOGIN]).stdout


def broken(world: World) -> List[Dict[str, Any]]:
    """The failed checks of driver, guard, kernel and service, as verify/ reports them. OpenCV's cannot pass here."""
    report = world.controller.verify("--no-benchmark")[NAME]
    parts = ("lock", "driver", "guard", "kernel", "service")
    return [row for row in report["checks"] if row["status"] == "fail" and row["id"].split(".")[0] in parts]


def apts(bed: UbuntuBed) -> str:
    """What apt and the watch have done, for a test that fails."""
    commands = (
        "cat /var/log/unattended-upgrades/*.log",
        "dpkg -l '*nvidia*' 'linux-*'",
        "journalctl -u gpuhost-watch.service --no-pager",
        "cat /run/gpuhost/motd",
    )
    return "\n".join(bed.run(["sh", "-c", command], check=False).stdout for command in commands)


class TestAccident:
    """From a bare host to the accident and back, and what else happens to a service with a card."""

    def test_the_processor_never_stands_in_for_a_card(self, world: World, bed: UbuntuBed) -> None:
        """This OpenCV has no CUDA: the service refuses, and says why."""
        done = world.controller.run(*SITE, timeout=1500)
        assert "D18" in done.failure(NAME) and "built without CUDA" in done.failure(NAME), done.out[-3000:]
        found = readiness(bed, "refused")
        assert (found.status, found.json["diagnosis"]) == (503, "D18")

    def test_it_serves_on_the_card(self, world: World, bed: UbuntuBed) -> None:
        """What was refused is tried again by the same command, and it is ready, also after a boot."""
        packages = "/opt/gpuhost/current/venvs/opencv_cuda/lib/python3.11/site-packages"
        for name, text in (("card.pth", "import card_of_the_bed\n"), ("card_of_the_bed.py", CARD)):
            path = Path(bed.run(["readlink", "-f", packages]).stdout.strip()) / name
            (bed.copy.root / path.relative_to("/")).write_text(text, encoding="utf-8")
        world.controller.ok(*SITE, timeout=1500)
        assert readiness(bed, "ready").status == 200
        assert ask(bed, "GET", "/v1/models", key(bed)).json["device"] == "cuda"
        assert ask(bed, "POST", "/v1/detect", key(bed)).status == 200
        assert world.controller.ok(*SITE).changed(NAME) == 0
        bed.reboot()
        assert readiness(bed, "ready").status == 200 and watched(bed) == "" and broken(world) == []

    def test_an_update_of_the_driver_is_named(self, world: World, bed: UbuntuBed) -> None:
        """The guard is released and unattended-upgrades runs. A service that runs goes on; one that starts refuses."""
        world.controller.ok("playbooks/guard.yml", "--tags", "release")
        world.archive.add(next_month(BIONIC._replace(updated=LINE, updated_to=(NEW, f"{NEW}-0ubuntu0.18.04.1"))))
        bed.run(["apt-get", "update"])
        bed.run(["unattended-upgrade", "--verbose"], timeout=900)
        # Nobody has asked the watch: apt did.
        said, told = looked(bed), f"(D01: loaded is {OLD}, the library is {NEW})"
        assert "driver.installed: " in said and told in said, said + apts(bed)
        assert ask(bed, "POST", "/v1/detect", key(bed)).status == 200
        bed.run(["systemctl", "restart", SERVICE])
        found = readiness(bed, "refused")
        assert (found.status, found.json["diagnosis"]) == (503, "D01"), found
        assert "unsupported display driver" in found.json["reason"]
        assert found.json["watch"][0].startswith("driver.installed: ") and told in found.json["watch"][0]
        assert "./run pytest verify/ names the cause" in found.json["remedy"]
        assert ask(bed, "POST", "/v1/detect", key(bed)).json["diagnosis"] == "D01"

    def test_what_is_printed_brings_it_back(self, world: World, bed: UbuntuBed) -> None:
        """verify/ names D02 with its command. That wants the newer kernel gone first, and says how; typed again, the
        driver is the locked one and the service is ready without anything else.
        """
        first = broken(world)[0]
        assert (first["id"], first["diagnosis"]) == ("driver.installed", "D02")
        line, _, playbook = first["remediation"].rpartition(" ")
        assert line.startswith("./run ansible-playbook") and playbook == "playbooks/driver.yml"
        refused = world.controller.run(playbook).failure(NAME)
        (command,) = re.findall(r"\(D08\).*On the host, as root:\s+(apt-get purge .*?)\s+Or here:", refused)
        bed.run(["sh", "-c", f"{command} --yes"], timeout=600)
        world.controller.ok(playbook, timeout=1500)
        assert readiness(bed, "ready").status == 200
        assert ask(bed, "POST", "/v1/detect", key(bed)).status == 200
        assert broken(world) == [] and watched(bed) == ""

    def test_a_card_that_is_gone(self, bed: UbuntuBed) -> None:
        """From the bus and from the driver: the photo is refused, then the device (D38); put back, it serves again."""
        (card,) = bed.firmware.cards
        places = [bed.firmware.folder / name / card.address for name in ("kernel/driver/nvidia/gpus", "pci")]
        away = bed.firmware.folder / "away"
        away.mkdir()
        for number, place in enumerate(places):
            shutil.move(str(place), str(away / str(number)))
        assert ask(bed, "POST", "/v1/detect", key(bed)).status == 500
        assert "lock.cards: locked are 10de:1c30, in the machine are none" in watched(bed)
        found = readiness(bed, "refused")
        assert found.json["diagnosis"] == "D38" and "no CUDA-capable device" in found.json["reason"], found
        assert found.json["watch"][0] == "lock.cards: locked are 10de:1c30, in the machine are none"
        for number, place in enumerate(places):
            shutil.move(str(away / str(number)), str(place))
        bed.run(["systemctl", "restart", SERVICE])
        assert readiness(bed, "ready").status == 200 and watched(bed) == ""

    def test_toolkits_are_taken_out(self, world: World, bed: UbuntuBed) -> None:
        """Each makes a generation, and the service serves it."""
        for playbook, wanted in (("cudnn", "cudnn_remove=true"), ("cuda", "cuda_remove=all")):
            before = generation(bed)
            world.controller.ok(f"playbooks/{playbook}.yml", "--tags", "remove", "-e", wanted)
            assert generation(bed) > before and served(bed) == generation(bed)
        for playbook in ("cuda", "cudnn"):
            before = generation(bed)
            world.controller.ok(f"playbooks/{playbook}.yml")
            assert generation(bed) > before and served(bed) == generation(bed)

    def test_the_driver_is_updated(self, world: World, bed: UbuntuBed) -> None:
        """By the playbook for it, with its reboot: the service serves the generation with the newer driver."""
        before = generation(bed)
        world.controller.ok("playbooks/update.yml", "--skip-tags", "verify", timeout=1500)
        assert NEW in bed.run(["cat", "/proc/driver/nvidia/version"]).stdout
        assert generation(bed) > before and served(bed) == generation(bed)
        assert watched(bed) == ""

    def test_another_card_is_put_in(self, world: World, bed: UbuntuBed) -> None:
        """And rebuilt for: the service serves the generation of the new lock."""
        bed.swap("2204")
        before = generation(bed)
        rebuild = ("playbooks/rebuild.yml", "-e", f"rebuild_confirm={NAME}", "--skip-tags")
        world.controller.ok(*rebuild, "verify,rebuild_carry_out")
        world.controller.edit_lock(NAME, world.stand_ins, ".new")
        take_wheel(world, ".new")
        world.controller.ok(*rebuild, "verify", timeout=1500)
        assert generation(bed) > before and served(bed) == generation(bed)
        assert watched(bed) == ""


def key(bed: UbuntuBed) -> str:
    """verify/'s own key."""
    return bed.read("/etc/gpuhost/service/verify.key").strip()


def generation(bed: UbuntuBed) -> int:
    """The number of the generation in force."""
    return int(bed.run(["readlink", "/opt/gpuhost/current"]).stdout.strip().rpartition("/")[2])


def served(bed: UbuntuBed) -> int:
    """The number of the generation that the service says it serves, when it is ready."""
    assert readiness(bed, "ready").status == 200
    return int(ask(bed, "GET", "/v1/models", key(bed)).json["generation"])
