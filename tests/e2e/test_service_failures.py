"""What can fail around a detection service, each staged on one bare Debian 12 whose owner has an nginx with sites.

Each ends in service, or in a sentence that names the cause and what to type. apt, nginx, systemd, the sandbox and
unattended-upgrades are the real ones. Not real: there is no card (the service computes on the CPU), the newer
nginx is the archive's own under a higher version, and the limit of the memory is set to the unit's from outside the
bed, whose systemd has no say over memory where the kernel has control groups of version 1.

The tests build on one another.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from .beds import Bed, signing
from .beds.commands import host as outside
from .beds.snapshot import Snapshot
from .guard_archive import index
from .service_bed import (
    LISTEN,
    LOAD,
    PHOTO,
    SERVICE,
    SOCKET,
    URL,
    curl,
    current,
    detected,
    furnish,
    listening,
    new_key,
    play,
    rows,
    site,
    statuses,
    wait_ready,
)
from .test_site import EDIT, LOCK

pytestmark = pytest.mark.full

MEMORY = "700M"
OWN = "/etc/nginx/sites-available/own"
OWN_SITE = "server { listen 8080; location / { return 200 'mine'; } }\n"
DEFAULT = "/etc/nginx/sites-enabled/default"
#: The owner's: nothing of it may ever change.
OWNERS = ["/etc/nginx", "/var/www"]
ALONE = ("playbooks/service.yml", "-e", "@/root/service.json")
LOGIN = "/etc/update-motd.d/95-gpuhost"
ON_HOST = "On the host: "
TLS = "/root/tls"
#: An authority, a server's certificate and a client's from it, and a client's that comes from nobody.
CERTIFICATES = f"""
set -e
mkdir {TLS}; cd {TLS}
request() {{ openssl req -newkey rsa:2048 -nodes -days 30 -keyout $1.key -subj /CN=$1 "${{@:2}}"; }}
request authority -x509 -out authority.pem
request stranger -x509 -out stranger.pem
for name in server client; do request $name -out $name.csr; done
sign() {{ openssl x509 -req -days 30 -CA authority.pem -CAkey authority.key -CAcreateserial "$@"; }}
sign -in server.csr -out server.pem -extfile <(echo subjectAltName=IP:127.0.0.1)
sign -in client.csr -out client.pem
"""
#: So many clients connect and say nothing; then one asks. Prints the answer's status, and nginx's resident kilobytes.
IDLE = """
import http.client, pathlib, resource, socket, sys
count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
idle = [socket.create_connection(("127.0.0.1", 8420), 60) for _ in range(count)]
client = http.client.HTTPConnection("127.0.0.1", 8420, timeout=60)
client.request("GET", "/healthz")
status = client.getresponse().status
texts = [path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/status")]
lines = [line for text in texts if "Name:\\tnginx" in text for line in text.splitlines()]
print(status, sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")))
"""


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A bare Debian 12 with a fresh clone and its owner's nginx: the package's site at port 80, one at 8080."""
    folder = tmp_path_factory.mktemp("service")
    for name, text in (("load.py", LOAD), ("own", OWN_SITE), ("idle.py", IDLE), ("certificates", CERTIFICATES)):
        (folder / name).write_text(text, encoding="utf-8")
    with Bed.fresh(logs=tmp_path_factory.mktemp("bed")) as made:
        # The clients of the switch are faster than one address may be.
        furnish(made, tmp_path_factory.mktemp("given"), service_limits={"rate": 100, "memory": MEMORY})
        made.run(["apt-get", "update", "-q"])
        names = ["curl", "nginx", "unattended-upgrades"]
        made.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *names], timeout=900)
        for name in ("load.py", "idle.py", "certificates"):
            made.push(folder / name, f"/root/{name}")
        made.push(folder / "own", OWN)
        made.run(["ln", "-s", OWN, OWN.replace("available", "enabled")])
        made.run(["systemctl", "reload", "nginx"])
        yield made


@pytest.fixture(scope="module")
def owners(bed: Bed) -> Snapshot:
    """The owner's files as they were before gpuhost came."""
    return owned(bed)


@pytest.fixture(scope="module")
def key(bed: Bed) -> str:
    """A client's key."""
    return new_key(bed, "phone")


def owned(bed: Bed) -> Snapshot:
    """The owner's files."""
    return bed.snapshot(OWNERS)._replace(packages=frozenset())


def serves(bed: Bed, key: str) -> None:
    """The service answers, the owner's site as well."""
    wait_ready(bed)
    assert detected(bed, key)[0] == 200
    assert bed.run(["curl", "-sS", "http://127.0.0.1:8080/"]).stdout == "mine"


def failed(bed: Bed) -> Dict[str, str]:
    """The checks of the service that fail, with the command that each prints."""
    return {name: row["remediation"] for name, row in rows(bed).items() if row["status"] == "fail"}


def obey(bed: Bed, remedy: str) -> None:
    """Type on the host what was printed for it."""
    assert remedy.startswith(ON_HOST), remedy
    bed.run(["sh", "-c", remedy[len(ON_HOST) :]])


def watched(bed: Bed) -> str:
    """What a login shows once the watch has looked."""
    bed.run(["systemctl", "start", "gpuhost-watch.service"], check=False, timeout=300)
    return bed.run([LOGIN]).stdout


def state(bed: Bed) -> Dict[str, Any]:
    """What the service says of itself when it is no longer starting."""
    for _ in range(600):
        answer: Dict[str, Any] = curl(bed, f"{URL}/readyz")[1]
        if answer.get("state") not in (None, "starting"):
            return answer
        bed.run(["sleep", "0.5"])
    pytest.fail("it is still starting")


class TestFailures:
    """From a host without the service, over all that can happen to it, and back."""

    def test_a_host_without_it(self, bed: Bed, owners: Snapshot) -> None:
        """site.yml alone, with the watch, puts nothing of the service on, and verify/ does not miss it."""
        assert (
            play(bed, "site.yml", "-e", "@/root/service.json", "-e", "watch_enabled=true", "--skip-tags", "verify")[0][
                1
            ]
            == 0
        )
        assert statuses(bed) == ["skip"] and current(bed) == 1
        assert watched(bed) == "" and owners.changes_to(owned(bed)) == []

    def test_its_own_playbook_puts_it_on(self, bed: Bed) -> None:
        """playbooks/service.yml on a host that has the stack; the same command again changes nothing."""
        (changed, wrong), _ = play(bed, *ALONE)
        assert changed > 0 and wrong == 0 and statuses(bed) == ["pass"]
        assert play(bed, *ALONE)[0] == (0, 0)
        assert watched(bed) == ""

    @pytest.mark.parametrize("which", ["worker", "all", "proxy"])
    def test_sigkill(self, bed: Bed, key: str, which: str) -> None:
        """Of the process with the network, of the whole service, and of nginx, which verify/ names with its remedy."""
        children = f"/proc/$(systemctl show -p MainPID --value {SERVICE})/task/*/children"
        kill = {
            "worker": f"kill -KILL $(cat {children})",
            "all": f"systemctl kill --signal=KILL {SERVICE}",
            "proxy": "systemctl kill --signal=KILL nginx",
        }
        bed.run(["sh", "-c", kill[which]])
        if which == "proxy":
            bed.run(["sh", "-c", "while systemctl is-active -q nginx; do sleep 0.2; done"])
            found = failed(bed)
            assert list(found) == ["service.nginx"]
            obey(bed, found["service.nginx"])
        serves(bed, key)

    def test_out_of_memory(self, bed: Bed, key: str) -> None:
        """The kernel ends the process with the network, as another one of the unit has taken all of its memory."""
        top = Path("/sys/fs/cgroup/memory")
        if not (top / "memory.limit_in_bytes").is_file():
            pytest.skip("this kernel has control groups of version 2, where the bed's own systemd enforces the limit")
        limit = bed.run(["systemctl", "show", "-p", "MemoryMax", "--value", SERVICE]).stdout.strip()
        assert int(limit) == 700 << 20
        before = members(bed)
        workers = {pid for pid in before if is_worker(pid, before)}
        group = top / f"{bed.name}-memory"
        group.mkdir()
        try:
            (group / "memory.limit_in_bytes").write_text(limit)
            for pid in before:
                (group / "cgroup.procs").write_text(str(pid))
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000" if pid in workers else "0")
            grow = "held = []\nwhile True: held.append(bytearray(1 << 24))"
            join = f'echo $$ > {group}/cgroup.procs && exec python3 -c "$0"'
            assert subprocess.run(["sh", "-c", join, grow], check=False, timeout=300).returncode == -9
            told = dict(line.split() for line in (group / "memory.oom_control").read_text().splitlines())
            assert int(told["oom_kill"]) >= 2
            serves(bed, key)
            assert workers and not workers & set(members(bed))
        finally:
            for pid in (group / "cgroup.procs").read_text().split():
                (top / "cgroup.procs").write_text(pid)
            group.rmdir()

    def test_a_full_disk(self, bed: Bed, key: str) -> None:
        """Where the service keeps its own there is no room: it says so, and so do the watch and verify/."""
        bed.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/var/lib/gpuhost-detect"])
        bed.run(["systemctl", "restart", SERVICE])
        told = state(bed)
        assert told["ready"] is False and "No space left on device" in told["reason"], told
        assert "service.ready" in watched(bed) and "No space left on device" in watched(bed)
        found = failed(bed)
        assert list(found) == ["service.ready"]
        bed.run(["umount", "/var/lib/gpuhost-detect"])
        obey(bed, found["service.ready"])
        serves(bed, key)
        assert watched(bed) == ""

    def test_port_80(self, bed: Bed, key: str) -> None:
        """The owner's site has it: refused, and nothing changed. The owner frees it: the service is there, and back."""
        at_80 = ["-e", "service_listen=127.0.0.1:80"]
        before = owned(bed)
        (changed, wrong), said = site(bed, *at_80, check=False)
        assert (changed, wrong) == (0, 1) and "Port 80 at 0.0.0.0 is taken: nginx listens there." in said
        assert before.changes_to(owned(bed)) == []
        bed.run(["rm", DEFAULT])
        bed.run(["systemctl", "reload", "nginx"])
        bed.run(["sh", "-c", "while ss -Hltn | grep -q ':80 '; do sleep 0.2; done"])
        assert site(bed, *at_80)[0][1] == 0
        assert detected(bed, key, url="http://127.0.0.1/v1/detect")[0] == 200
        assert {"127.0.0.1:80", "0.0.0.0:8080"} <= set(listening(bed)) and LISTEN not in listening(bed)
        assert statuses(bed) == ["pass"]
        assert site(bed)[0][1] == 0
        bed.run(["ln", "-s", "/etc/nginx/sites-available/default", DEFAULT])
        bed.run(["systemctl", "reload", "nginx"])
        assert before.changes_to(owned(bed)) == []
        serves(bed, key)

    def test_ports_of_others(self, bed: Bed) -> None:
        """Another program's, and one of the owner's sites: each is named before anything is changed."""
        bed.run(["systemd-run", "--quiet", "--unit=other", "python3", "-m", "http.server", "8500"])
        bed.run(["sh", "-c", "until ss -ltn | grep -q :8500; do sleep 0.2; done"])
        (changed, wrong), said = site(bed, "-e", "service_listen=127.0.0.1:8500", check=False)
        assert (changed, wrong) == (0, 1) and "Port 8500 at 0.0.0.0 is taken: python3 listens there." in said
        bed.run(["systemctl", "stop", "other"])
        (changed, wrong), said = site(bed, "-e", "service_listen=127.0.0.1:8080", check=False)
        assert (changed, wrong) == (0, 1) and "is taken: nginx listens there" in said

    def test_a_site_of_the_owners_that_is_broken(self, bed: Bed, key: str) -> None:
        """It is named, by verify/ too, and what runs goes on; fixed by its owner, all is well."""
        bed.run(["sh", "-c", f"echo 'nonsense here;' >> {OWN}"])
        (changed, wrong), said = site(bed, check=False)
        assert (changed, wrong) == (0, 1) and 'unknown directive "nonsense"' in said
        assert list(failed(bed)) == ["service.nginx"]
        serves(bed, key)
        bed.run(["sed", "-i", "$d", OWN])
        assert bed.read(OWN) == OWN_SITE and site(bed)[0][1] == 0

    def test_nginx_is_upgraded(self, bed: Bed, key: str, tmp_path: Path) -> None:
        """By unattended-upgrades, from a signed archive, while four clients post photos: none gets a wrong answer.

        As the package changes its binary some may be refused a connection; the service itself goes on.
        """
        version = offer_newer_nginx(bed, tmp_path)
        before = owned(bed)
        begin_load(bed, key)
        bed.run(["unattended-upgrade", "--verbose"], timeout=900)
        assert set(end_load(bed)) - {"ConnectionRefusedError"} == {"200"}
        assert bed.run(["dpkg-query", "-W", "-f", "${Version}", "nginx"]).stdout == version
        assert before.changes_to(owned(bed)) == []
        serves(bed, key)
        assert statuses(bed) == ["pass"] and watched(bed) == ""

    def test_tls(self, bed: Bed, key: str) -> None:
        """A certificate by its path; plain HTTP is refused then; verify/ goes the same way."""
        bed.run(["bash", "/root/certificates"])
        own = [f"service_tls_{name}={TLS}/server.{end}" for name, end in (("certificate", "pem"), ("key", "key"))]
        assert site(bed, *(word for one in own for word in ("-e", one)))[0][1] == 0
        trusted = ["--cacert", f"{TLS}/authority.pem"]
        assert detected(bed, key, *trusted, url=f"https://{LISTEN}/v1/detect")[0] == 200
        plain = bed.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{URL}/healthz"]).stdout
        assert plain == "400" and statuses(bed) == ["pass"]

    def test_clients_with_certificates(self, bed: Bed, key: str) -> None:
        """Nobody gets past nginx without one of the authority's."""
        names = {"certificate": "server.pem", "key": "server.key", "clients": "authority.pem"}
        words = [word for name, file in names.items() for word in ("-e", f"service_tls_{name}={TLS}/{file}")]
        assert site(bed, *words)[0][1] == 0
        for client, status in (("", "400"), ("stranger", "400"), ("client", "200")):
            shown = ["--cert", f"{TLS}/{client}.pem", "--key", f"{TLS}/{client}.key"] if client else []
            ask = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", f"{TLS}/authority.pem", *shown]
            assert bed.run([*ask, f"https://{LISTEN}/healthz"]).stdout == status, client
        shown = ["--cacert", f"{TLS}/authority.pem", "--cert", f"{TLS}/client.pem", "--key", f"{TLS}/client.key"]
        assert detected(bed, key, *shown, url=f"https://{LISTEN}/v1/detect")[0] == 200
        assert statuses(bed) == ["pass"]
        assert site(bed)[0][1] == 0
        serves(bed, key)

    def test_ten_thousand_idle_connections(self, bed: Bed, key: str) -> None:
        """They keep nobody out, and nginx small."""
        said = bed.run(["python3", "/root/idle.py", "10000"], timeout=600).stdout
        status, kilobytes = map(int, said.split())
        assert status == 200 and kilobytes < 100_000
        serves(bed, key)

    def test_no_request_is_lost_at_a_switch(self, bed: Bed, key: str) -> None:
        """Four clients post photos while another generation comes into force and the service is restarted."""
        begin_load(bed, key)
        before = current(bed)
        bed.run(["python3", "-c", EDIT, LOCK])
        assert site(bed)[0][1] == 0 and current(bed) != before
        assert end_load(bed) == ["200"]
        assert statuses(bed) == ["pass"]

    def test_a_generation_without_it_stops_it(self, bed: Bed, key: str) -> None:
        """Back to the first generation: callers are told at once. Forward again, under load: it is ready."""
        now = current(bed)
        back = ["playbooks/rollback.yml", "--skip-tags", "verify", "-e"]
        assert play(bed, *back, "rollback_to=1")[0][1] == 0
        status, answer = detected(bed, key)
        assert (status, answer["success"]) == (503, False)
        assert bed.run(["systemctl", "is-active", SOCKET], check=False).stdout.strip() == "inactive"
        assert play(bed, *back, f"rollback_to={now}")[0][1] == 0
        serves(bed, key)

    def test_no_request_is_lost_at_a_rollback(self, bed: Bed, key: str) -> None:
        """From one generation with the service to the one before it."""
        begin_load(bed, key)
        before = current(bed)
        back = ["playbooks/rollback.yml", "--skip-tags", "verify", "-e", f"rollback_to={before - 1}"]
        assert play(bed, *back)[0][1] == 0
        assert current(bed) == before - 1
        assert end_load(bed) == ["200"]

    def test_its_own_playbook_takes_it_away(self, bed: Bed, owners: Snapshot) -> None:
        """The owner's nginx is as it was before gpuhost came, in its newer version, and serves what it served."""
        assert play(bed, *ALONE, "--tags", "remove")[0][1] == 0
        assert watched(bed) == "" and statuses(bed) == ["skip"] and bed.state() == "running"
        assert owners.changes_to(owned(bed)) == []
        assert bed.run(["curl", "-sS", "http://127.0.0.1:8080/"]).stdout == "mine"
        assert [where for where in listening(bed) if where.endswith((":80", ":8420"))] == ["0.0.0.0:80", "[::]:80"]
        assert play(bed, *ALONE, "--tags", "remove")[0] == (0, 0)

    def test_a_fresh_nginx_beside_another_program_at_port_80(self, bed: Bed) -> None:
        """nginx comes with gpuhost while port 80 is taken: it starts all the same, and the other program serves on."""
        bed.run(["apt-get", "purge", "-y", "nginx", "nginx-common"], env={"DEBIAN_FRONTEND": "noninteractive"})
        bed.run(["systemd-run", "--quiet", "--unit=other", "python3", "-m", "http.server", "80"])
        bed.run(["sh", "-c", "until ss -Hltn | grep -q ':80 '; do sleep 0.2; done"])
        assert play(bed, *ALONE)[0][1] == 0
        assert detected(bed, new_key(bed, "another"))[0] == 200
        assert "Directory listing" in bed.run(["curl", "-sS", "http://127.0.0.1/"]).stdout
        assert statuses(bed) == ["pass"]


def members(bed: Bed) -> List[int]:
    """The processes of the service, by their ids on the outer machine."""
    return [pid for pid in bed.processes() if f"/{SERVICE}" in Path(f"/proc/{pid}/cgroup").read_text()]


def is_worker(pid: int, among: List[int]) -> bool:
    """Whether a process was started by another one of these."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent in among


def begin_load(bed: Bed, key: str) -> None:
    """Let four clients post photos until they are told to stop."""
    bed.run(["rm", "-f", "/root/load.json", "/root/load.stop"])
    bed.run(["systemd-run", "--quiet", "--unit=load", "python3", "/root/load.py", key, PHOTO, "/root/load.json"])
    bed.run(["sh", "-c", "until test -e /root/load.json; do sleep 0.2; done"])


def end_load(bed: Bed) -> List[str]:
    """Stop the clients; the statuses that they got."""
    bed.run(["sh", "-c", "touch /root/load.stop; while systemctl is-active -q load; do sleep 0.2; done"])
    return sorted(json.loads(bed.read("/root/load.json")))


def offer_newer_nginx(bed: Bed, folder: Path) -> str:
    """Give the bed a signed archive in Debian's name with nginx, packed again under a higher version; that version."""
    bed.run(["sh", "-c", "mkdir -p /root/debs && cd /root/debs && apt-get download nginx nginx-common"])
    version = bed.run(["dpkg-query", "-W", "-f", "${Version}", "nginx"]).stdout
    newer = version + "+1"
    packed: List[Tuple[str, Path]] = []
    for deb in sorted(bed.pull("/root/debs", folder).iterdir()):
        tree = folder / deb.stem
        outside(["dpkg-deb", "-R", str(deb), str(tree)])
        control = tree / "DEBIAN/control"
        text = control.read_text(encoding="utf-8").replace(f"Version: {version}\n", f"Version: {newer}\n")
        control.write_text(text.replace(f">= {version})", f">= {newer})"), encoding="utf-8")
        made = folder / "archive/pool" / f"{deb.name.partition('_')[0]}.deb"
        made.parent.mkdir(parents=True, exist_ok=True)
        outside(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(made)])
        packed.append((control.read_text(encoding="utf-8"), made))
    index(packed, folder / "archive")
    signed = signing.clearsign([(folder / "archive/Release").read_text(encoding="utf-8")])
    (folder / "archive/InRelease").write_bytes(signed[0])
    bed.push(folder / "archive", "/srv/archive")
    bed.push(signing.archive_key(), "/usr/share/keyrings/newer.gpg")
    source = "deb [signed-by=/usr/share/keyrings/newer.gpg] file:/srv/archive ./"
    bed.run(["sh", "-c", f"echo '{source}' > /etc/apt/sources.list.d/newer.list && apt-get update"])
    return newer
