"""The detection service on a bare Debian 12: put on, asked as clients ask, broken, switched, taken away.

apt, nginx, systemd and the sandbox are the real ones; only a card is missing. One bed serves the tests in their order.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest

from .beds import Bed
from .beds.bed import CLONE, PROJECT
from .test_site import COMMAND_SECONDS, EDIT, LOCK, recap

DATA = PROJECT / "tests/data/face"
LISTEN = "127.0.0.1:8420"
SITE = ["./run", "ansible-playbook", "site.yml", "-e", "@/root/service.json", "--skip-tags", "verify"]
VERIFY = ["./run", "pytest", "verify/", "--no-benchmark"]
FACE = "/root/face"
#: What the host's owner has in nginx beside it.
OWN_SITE = "server { listen 8080; location / { return 200 'mine'; } }\n"
OWN = ("/etc/nginx/sites-available/own", "/etc/nginx/sites-enabled/own")
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


def play(bed: Bed, *arguments: str, check: bool = True) -> Tuple[Tuple[int, int], str]:
    """Run a playbook; how much was changed and failed, and what was said."""
    done = bed.run(["./run", "ansible-playbook", *arguments], cwd=CLONE, timeout=COMMAND_SECONDS, check=check)
    return recap(done.stdout), done.stdout


def site(bed: Bed, *arguments: str, check: bool = True) -> Tuple[Tuple[int, int], str]:
    """Run site.yml with the service, without verify/."""
    return play(bed, *SITE[2:], "-e", "service_enabled=true", *arguments, check=check)


def statuses(bed: Bed) -> Dict[str, str]:
    """The status of each check of the service, by `pytest verify/`, which must be green."""
    done = bed.run(VERIFY, cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
    assert done.returncode == 0, done.stdout[-3000:]
    report = json.loads(bed.read(f"{CLONE}/reports/localhost/report.json"))
    return {row["id"]: row["status"] for row in report["checks"] if row["id"].startswith("service.")}


def curl(bed: Bed, *arguments: str) -> Tuple[int, Any]:
    """The status and the JSON of an answer."""
    said = bed.run(["curl", "-sS", "-m", "120", "-w", "\n%{http_code}", *arguments]).stdout
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body)


def detected(bed: Bed, key: str, *arguments: str) -> Tuple[int, Any]:
    """The answer to the astronaut's photo."""
    photo = f"image=@{CLONE}/tests/data/face/astronaut.jpg"
    return curl(bed, "-H", f"Authorization: Bearer {key}", "-F", photo, *arguments)


def trained() -> bytes:
    """The weights of the trained network, as the detector's own tests make them."""
    found = importlib.util.spec_from_file_location("face", str(PROJECT / "tests/unit/test_yolo_face.py"))
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return bytes(module.converted())


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A bare Debian 12 with a fresh clone, curl, and a trained network of the user's own beside a published one."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "face.weights").write_bytes(trained())
    files = {"cfg": DATA / "face.cfg", "names": DATA / "face.names", "weights": folder / "face.weights"}
    own: Dict[str, Any] = {"name": "face", **{part: f"{FACE}/{file.name}" for part, file in files.items()}}
    own["sha256"] = {part: hashlib.sha256(file.read_bytes()).hexdigest() for part, file in files.items()}
    given: Dict[str, Any] = {"gpu_stack_without": ["tensorflow"], "service_models": [{"name": "yolov4-tiny"}, own]}
    # The clients of the switch are faster than one address may be.
    given["service_limits"] = {"rate": 100}
    (folder / "service.json").write_text(json.dumps(given), encoding="utf-8")
    (folder / "load.py").write_text(LOAD, encoding="utf-8")
    (folder / "own").write_text(OWN_SITE, encoding="utf-8")
    with Bed.fresh(logs=tmp_path_factory.mktemp("bed")) as made:
        made.clone_project()
        for name in ("service.json", "load.py", "own"):
            made.push(folder / name, f"/root/{name}")
        for part, file in files.items():
            made.push(file, own[part])
        made.run(["apt-get", "update", "-q"])
        made.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "curl"])
        yield made


@pytest.fixture(scope="module")
def key(bed: Bed) -> str:
    """A client's key, made as the documentation says."""
    return bed.run(["gpuhost-keys", "add", "phone"]).stdout.strip()


class TestService:
    """From a bare host to a service and back."""

    def test_a_host_without_it(self, bed: Bed) -> None:
        """site.yml alone puts nothing of the service on, and verify/ does not miss it."""
        assert play(bed, *SITE[2:])[0][1] == 0
        assert set(statuses(bed).values()) == {"skip"}
        assert bed.run(["sh", "-c", "command -v nginx"], check=False).returncode != 0

    def test_it_is_put_on(self, bed: Bed) -> None:
        """One variable more: ready behind nginx, verify/ posts a photo, and port 80 was not opened."""
        (changed, failed), _ = site(bed)
        assert changed > 0 and failed == 0
        assert set(statuses(bed).values()) == {"pass"}
        listening = re.findall(r"^LISTEN\s+\S+\s+\S+\s+(\S+)", bed.run(["ss", "-ltn"]).stdout, re.MULTILINE)
        assert listening == [LISTEN]

    def test_the_second_run_changes_nothing(self, bed: Bed) -> None:
        """The same command again: changed=0."""
        assert site(bed)[0] == (0, 0)

    def test_the_face_is_found(self, bed: Bed, key: str) -> None:
        """The trained network finds the one face; weights that are made say that they detect nothing meaningful."""
        status, answer = detected(bed, key, "-F", "model=face", f"http://{LISTEN}/v1/detect")
        (face,) = answer["detections"]
        assert status == 200 and face["label"] == "face" and face["score"] == pytest.approx(0.972, abs=0.002)
        assert face["box"] == pytest.approx([163.4, 75.8, 115.4, 110.6], abs=1.0)
        status, answer = detected(bed, key, f"http://{LISTEN}/v1/detect")
        assert status == 200 and answer["meaningful"] is False
        status, answer = detected(bed, key, f"http://{LISTEN}/v1/vision/custom/face")
        assert status == 200 and answer["success"] and len(answer["predictions"]) == 1

    def test_a_revoked_key_is_refused_at_once(self, bed: Bed) -> None:
        """Without a new start; and no key stands in a log."""
        other = bed.run(["gpuhost-keys", "add", "camera", "--for", "detect"]).stdout.strip()
        assert detected(bed, other, f"http://{LISTEN}/v1/detect")[0] == 200
        bed.run(["gpuhost-keys", "revoke", "camera"])
        assert detected(bed, other, f"http://{LISTEN}/v1/detect")[0] == 401
        logged = bed.run(["sh", "-c", "journalctl -u gpuhost-detect --no-pager; cat /var/log/nginx/*"]).stdout
        assert "/v1/detect" in logged and other not in logged

    def test_a_killed_process_comes_back(self, bed: Bed, key: str) -> None:
        """SIGKILL of all of it: systemd starts it anew, and callers find it at the same address."""
        bed.run(["systemctl", "kill", "--signal=KILL", "gpuhost-detect.service"])
        wait = f"until curl -sf http://{LISTEN}/readyz; do sleep 0.5; done"
        bed.run(["sh", "-c", wait], timeout=300)
        assert detected(bed, key, f"http://{LISTEN}/v1/detect")[0] == 200

    def test_a_port_that_is_taken(self, bed: Bed) -> None:
        """It is refused with the program's name before anything is changed."""
        bed.run(["systemd-run", "--quiet", "--unit=other", "python3", "-m", "http.server", "8500"])
        bed.run(["sh", "-c", "until ss -ltn | grep -q :8500; do sleep 0.2; done"])
        (changed, failed), said = site(bed, "-e", "service_listen=127.0.0.1:8500", check=False)
        assert (changed, failed) == (0, 1) and "Port 8500 at 0.0.0.0 is taken: python3 listens there." in flat(said)
        bed.run(["systemctl", "stop", "other"])

    def test_the_owners_site_is_left_alone(self, bed: Bed) -> None:
        """It is served as before; a port of its own is refused; and where it is broken nothing is changed."""
        bed.push(Path(bed.pull("/root/own")), OWN[0])
        bed.run(["ln", "-s", OWN[0], OWN[1]])
        bed.run(["systemctl", "reload", "nginx"])
        assert site(bed, "-e", "{service_limits: {rate: 99}}")[0][1] == 0
        assert bed.run(["curl", "-sS", "http://127.0.0.1:8080/"]).stdout == "mine" and bed.read(OWN[0]) == OWN_SITE
        (changed, failed), said = site(bed, "-e", "service_listen=127.0.0.1:8080", check=False)
        assert (changed, failed) == (0, 1) and "is taken: nginx listens there" in flat(said)
        bed.run(["sh", "-c", f"echo 'nonsense here;' >> {OWN[0]}"])
        (changed, failed), said = site(bed, check=False)
        assert (changed, failed) == (0, 1) and 'unknown directive "nonsense"' in flat(said)
        bed.run(["rm", *OWN])
        assert site(bed)[0][1] == 0

    def test_no_request_is_lost_at_a_switch(self, bed: Bed, key: str) -> None:
        """Four clients post photos while another generation comes into force and the service is started anew."""
        load = ["systemd-run", "--quiet", "--unit=load", "python3", "/root/load.py", key]
        bed.run([*load, f"{CLONE}/tests/data/face/astronaut.jpg", "/root/load.json"])
        bed.run(["sh", "-c", "until test -e /root/load.json; do sleep 0.2; done"])
        bed.run(["python3", "-c", EDIT, LOCK])
        before = bed.run(["readlink", "/opt/gpuhost/current"]).stdout
        assert site(bed)[0][1] == 0
        assert bed.run(["readlink", "/opt/gpuhost/current"]).stdout != before
        bed.run(["sh", "-c", "touch /root/load.stop; while systemctl is-active -q load; do sleep 0.2; done"])
        assert list(json.loads(bed.read("/root/load.json"))) == ["200"]
        assert set(statuses(bed).values()) == {"pass"}

    def test_a_generation_without_it_stops_it(self, bed: Bed, key: str) -> None:
        """Back to the first generation: callers are told at once. Forward again: it is ready."""
        now = bed.run(["readlink", "/opt/gpuhost/current"]).stdout.strip().rpartition("/")[2]
        back = ["playbooks/rollback.yml", "--skip-tags", "verify", "-e"]
        assert play(bed, *back, "to=1")[0][1] == 0
        status, answer = detected(bed, key, f"http://{LISTEN}/v1/detect")
        assert (status, answer["success"]) == (503, False)
        assert bed.run(["systemctl", "is-active", "gpuhost-detect.socket"], check=False).stdout.strip() == "inactive"
        assert play(bed, *back, f"to={now}")[0][1] == 0
        assert detected(bed, key, f"http://{LISTEN}/v1/detect")[0] == 200

    def test_removal_leaves_nothing(self, bed: Bed) -> None:
        """Units, user, keys, site, own networks and nginx are gone."""
        assert play(bed, "playbooks/remove.yml", "-e", "remove_confirm=localhost")[0][1] == 0
        places = ["/etc/gpuhost", "/etc/nginx", "/var/log/nginx", "/var/lib/gpuhost-detect", "/var/lib/gpuhost-models"]
        places += ["/usr/local/sbin/gpuhost-keys", "/opt/gpuhost", "/run/gpuhost-bodies", "/run/gpuhost-detect"]
        left = bed.run(["sh", "-c", 'for one in "$@"; do test ! -e "$one" || echo "$one"; done', "-", *places]).stdout
        left += bed.run(
            ["sh", "-c", "ls -d /etc/systemd/system/*gpuhost* /etc/systemd/system/*/*gpuhost*"], check=False
        ).stdout
        left += bed.run(["getent", "passwd", "gpuhost-detect"], check=False).stdout
        left += bed.run(["sh", "-c", "dpkg -l 'nginx*' | grep ^ii"], check=False).stdout
        assert left == "" and bed.state() == "running"


def flat(said: str) -> str:
    """What Ansible said, on one line."""
    return " ".join(said.split())
