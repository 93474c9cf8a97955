"""A detection service on a host with a card: never on the processor in its place, and there again after a boot.

An imitation Ubuntu 18.04 with a Quadro P2000 gets the stack with service and watch. apt, systemd, nginx, the roles, the
watch, verify/ and the service itself are the real ones. Not real: the card, the kernel and the driver's packages
(README.md says what of them), and what OpenCV does with a card, which `CARD` below stands for: it computes on the
processor, refuses as CUDA does where the library that its process began with is not of the loaded module's version or
no card is there, and knows both from what the bed shows. OpenCV itself is the index's wheel, since a stand-in of nvcc
compiles nothing; nginx and OpenCV's libraries are Debian's.

The tests build on one another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost.host.service import photo
from gpuhost.planning import contents, lock_files, plan
from gpuhost.planning.candidates import Request
from gpuhost.planning.resolve import resolver

from .beds.ubuntu import UbuntuBed, UbuntuRoot
from .fleet import HWE, Kind, World

pytestmark = pytest.mark.full

NAME = "box"
SITE = ("site.yml", "--skip-tags", "verify")
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
    kinds = {NAME: Kind("1c30", HWE, False, "525.105.17", "archive")}
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


def take_wheel(world: World) -> None:
    """Let the lock name the index's OpenCV, for the Python that the root has, in the place of a build."""
    lock = world.controller.lock(NAME)
    request = Request("debian-12", (), {}, {}, None, None, None, without=frozenset(["tensorflow"]))
    lock["plan"]["opencv"] = plan.make(resolver(), request)["opencv"]
    closed = {key: lock[key] for key in ("schema", "host", "cards", "plan")}
    closed.update(contents.of(lock["plan"]))
    lock_files.write(world.controller.lock_file(NAME), contents.added(closed, contents.Options(service=True)))


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
    """What the watch says when it has looked."""
    bed.run(["systemctl", "start", "gpuhost-watch.service"], check=False, timeout=300)
    return bed.run(["cat", "/run/gpuhost/motd"], check=False).stdout


def broken(world: World) -> List[Dict[str, Any]]:
    """The failed checks of driver, guard, kernel and service, as verify/ reports them. OpenCV's cannot pass here."""
    report = world.controller.verify("--no-benchmark")[NAME]
    parts = ("lock", "driver", "guard", "kernel", "service")
    return [row for row in report["checks"] if row["status"] == "fail" and row["id"].split(".")[0] in parts]


class TestCard:
    """From a bare host to a service with a card."""

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


def key(bed: UbuntuBed) -> str:
    """verify/'s own key."""
    return bed.read("/etc/gpuhost/service/verify.key").strip()
