"""What the tests of the detection service on a bed share: what it is given, and how it is asked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

from .beds import Bed
from .beds.bed import CLONE, PROJECT
from .test_site import COMMAND_SECONDS, recap

DATA = PROJECT / "tests/data/face"
LISTEN = "127.0.0.1:8420"
URL = f"http://{LISTEN}"
SITE = ("site.yml", "-e", "@/root/service.json", "--skip-tags", "verify")
VERIFY = ["./run", "pytest", "verify/", "--no-benchmark"]
PHOTO = f"{CLONE}/tests/data/face/astronaut.jpg"
SERVICE, SOCKET = "gpuhost-detect.service", "gpuhost-detect.socket"
FACE = "/root/face"
#: Four clients post a photo over and over, each time over a new connection, until a file tells them to stop.
LOAD = """
import collections, http.client, json, pathlib, sys, threading, time
key, photo, told = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes(), pathlib.Path(sys.argv[3])
seen, lock = collections.Counter(), threading.Lock()
def post():
    while not told.with_suffix(".stop").exists():
        try:
            client = http.client.HTTPConnection("127.0.0.1", 8420, timeout=120)
            head = {"Authorization": "Bearer " + key, "Content-Type": "image/jpeg"}
            client.request("POST", "/v1/detect?model=face", photo, head)
            answer = client.getresponse()
            answer.read()
            what = str(answer.status)
        except Exception as error:
            what = type(error).__name__
        with lock:
            seen[what] += 1
            told.with_suffix(".new").write_text(json.dumps(seen))
            told.with_suffix(".new").rename(told)
        time.sleep(0.2)
for thread in [threading.Thread(target=post) for _ in range(4)]:
    thread.start()
"""


def furnish(bed: Bed, folder: Path, **given: Any) -> None:
    """Give a bed the clone and, in `service.json`, what the service is told: a published network with synthetic weights
    beside a trained one of the owner's, `given`, and no TensorFlow. `folder` is an empty one.
    """
    (folder / "face.weights").write_bytes(trained())
    files = {"cfg": DATA / "face.cfg", "names": DATA / "face.names", "weights": folder / "face.weights"}
    own: Dict[str, Any] = {"name": "face", **{part: f"{FACE}/{file.name}" for part, file in files.items()}}
    own["sha256"] = {part: hashlib.sha256(file.read_bytes()).hexdigest() for part, file in files.items()}
    said = {"gpu_stack_without": ["tensorflow"], "service_models": [{"name": "yolov4-tiny"}, own], **given}
    (folder / "service.json").write_text(json.dumps(said), encoding="utf-8")
    bed.clone_project()
    bed.push(folder / "service.json", "/root/service.json")
    for part, file in files.items():
        bed.push(file, own[part])


def trained() -> bytes:
    """The weights of the trained network, as the detector's own tests make them."""
    found = importlib.util.spec_from_file_location("face", str(PROJECT / "tests/unit/test_yolo_face.py"))
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return bytes(module.converted())


def play(bed: Bed, *arguments: str, check: bool = True) -> Tuple[Tuple[int, int], str]:
    """Run a playbook; how much was changed and failed, and what was said, on one line."""
    done = bed.run(["./run", "ansible-playbook", *arguments], cwd=CLONE, timeout=COMMAND_SECONDS, check=check)
    return recap(done.stdout), " ".join(done.stdout.split())


def site(bed: Bed, *arguments: str, check: bool = True) -> Tuple[Tuple[int, int], str]:
    """Run site.yml with the service, without verify/."""
    return play(bed, *SITE, "-e", "service_enabled=true", *arguments, check=check)


def rows(bed: Bed) -> Dict[str, Dict[str, Any]]:
    """The checks of the service as `pytest verify/` reports them, by id. Whatever fails beside them is a failure."""
    bed.run(VERIFY, cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
    report = json.loads(bed.read(f"{CLONE}/reports/localhost/report.json"))
    others = [row for row in report["checks"] if row["status"] == "fail" and not row["id"].startswith("service.")]
    assert others == []
    return {row["id"]: row for row in report["checks"] if row["id"].startswith("service.")}


def statuses(bed: Bed) -> List[str]:
    """The statuses that the checks of the service have, each once."""
    return sorted({row["status"] for row in rows(bed).values()})


def curl(bed: Bed, *arguments: str) -> Tuple[int, Any]:
    """The status and the JSON of an answer."""
    said = bed.run(["curl", "-sS", "-m", "120", "-w", "\n%{http_code}", *arguments]).stdout
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body)


def detected(bed: Bed, key: str, *arguments: str, url: str = f"{URL}/v1/detect") -> Tuple[int, Any]:
    """The answer to the astronaut's photo."""
    return curl(bed, "-H", f"Authorization: Bearer {key}", "-F", f"image=@{PHOTO}", *arguments, url)


def wait_ready(bed: Bed) -> None:
    """Wait until the service says through nginx that it takes photos."""
    bed.run(["sh", "-c", f"until curl -sf {URL}/readyz; do sleep 0.5; done"], timeout=300)


def current(bed: Bed) -> int:
    """The number of the generation in force."""
    return int(bed.run(["readlink", "/opt/gpuhost/current"]).stdout.strip().rpartition("/")[2])


def listening(bed: Bed) -> List[str]:
    """Where somebody listens."""
    found = bed.run(["ss", "-Hltn"]).stdout
    return sorted(line.split()[3] for line in found.splitlines())


def new_key(bed: Bed, name: str) -> str:
    """A client's key, made as the documentation says."""
    return bed.run(["gpuhost-keys", "add", name]).stdout.strip()
