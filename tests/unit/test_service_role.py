"""The detection service put on a host, on a root of files with a systemctl and an nginx that only remember."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest
import yaml

from gpuhost.errors import ArtifactError, EnvironmentProblem, GpuhostError, UsageError
from gpuhost.host import store
from gpuhost.host.edges import Edges
from gpuhost.host.service import install, keys, photo, proxy, ready, running, site, sockets, units
from gpuhost.host.service.places import COMMAND, KEYS, SERVICE, SETTINGS, SITE, SOCKET, VERIFY_KEY
from gpuhost.host.watch import judge as watch_judge
from gpuhost.yolo import picture_header

ROOT = "/opt/gpuhost"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound
SETTINGS_GIVEN: Dict[str, Any] = {
    "schema": 1,
    "device": "cpu",
    "models": [{"name": "yolov4-tiny", "kind": "published", "weights": "synthetic"}],
    "pixels": 25_000_000,
    "deadline_s": 30,
    "body_bytes": 16 << 20,
    "hooks": {},
}
FRONT = proxy.Front("127.0.0.1:8420", 16 << 20, 30, 20, 8)


class Host:
    """A root of files, and systemd, nginx and the users' database as far as they are asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host with nginx of its owner's and a generation that has the service."""
        self.folder, self.calls = folder, []  # type: ignore[var-annotated]
        self.on = {"nginx"}
        self.complaints: Dict[str, str] = {}
        self.dump = ""
        self.users: List[str] = []
        self.edges = Edges(str(folder), self.run)
        for name in ("usr/sbin/nginx", "etc/nginx/nginx.conf", "etc/nginx/conf.d/own.conf"):
            self.write(f"/{name}", "# the owner's\n")
        self.generation(1, "service")
        self.deaf = False
        self.listens("127.0.0.1", 22)
        monkeypatch.setattr(install, "user_there", lambda: bool(self.users))
        monkeypatch.setattr(keys, "service_group", os.getegid)
        monkeypatch.setattr(running, "not_ready", lambda edges: ("", True))
        monkeypatch.setattr(install, "not_ready", lambda edges: ("", True))

    def write(self, name: str, text: str) -> None:
        """Have a file."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def text(self, name: str) -> str:
        """A file's text."""
        return (self.folder / name.lstrip("/")).read_text(encoding="utf-8")

    def generation(self, number: int, *links: str) -> None:
        """Put a generation in force that has these links."""
        folder = self.folder / f"opt/gpuhost/generations/{number}"
        for name in links:
            (folder / name).mkdir(parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        current = self.folder / "opt/gpuhost/current"
        if current.is_symlink():
            current.unlink()
        current.symlink_to(f"generations/{number}")

    def listens(self, *rows: Any) -> None:
        """Let the kernel list these sockets."""
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        pairs = list(zip(rows[::2], rows[1::2]))
        words = [struct.unpack("=I", socket.inet_aton(where))[0] for where, _ in pairs]
        self.write(
            "/proc/net/tcp",
            head
            + "".join(
                f"   0: {word:08X}:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {100 + at} 1\n"
                for at, (word, (_, port)) in enumerate(zip(words, pairs))
            ),
        )

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """systemctl, nginx, useradd, userdel."""
        if argv[0] == "/usr/sbin/nginx":
            if "-T" in argv:
                return 0, self.dump, ""
            told = self.complaints.get("copy" if "gpuhost-" in argv[-1] else "own", "")
            return (
                (1, "", f"nginx: [emerg] {told.replace('COPY', str(Path(argv[-1]).parent))}\n") if told else (0, "", "")
            )
        self.calls.append(" ".join(argv))
        if argv[0] == "useradd":
            self.users.append(argv[-1])
        if argv[0] == "userdel":
            self.users.remove(argv[-1])
        if argv[0] == "systemctl":
            return self.systemctl(list(argv[1:]))
        return 0, "", ""

    def systemctl(self, words: List[str]) -> Tuple[int, str, str]:
        """systemctl; what is on is kept in `on`."""
        if words[0] == "--version":
            return 0, "systemd 252 (252.30-1~deb12u2)\n", ""
        if words[0] in ("is-active", "is-enabled"):
            return (0 if words[-1] in self.on else 3), "", ""
        if words[0] == "show":
            return 0, f"{words[2]}={'7' if words[2] == 'MainPID' and SERVICE in self.on else 'no'}\n", ""
        named = [word for word in words if word.endswith((".service", ".socket")) or word == "nginx"]
        if "nginx" in named and not (self.folder / SITE.lstrip("/")).exists():
            self.listens("127.0.0.1", 22)
        elif "nginx" in named and words[0] != "stop" and not self.deaf:
            (where,) = re.findall(r"^ +listen ([0-9.]+):([0-9]+)", self.text(SITE), re.MULTILINE)
            self.listens(where[0], int(where[1]))
            self.write("/proc/9/comm", "nginx\n")
            if not (self.folder / "proc/9/fd").exists():
                (self.folder / "proc/9/fd").mkdir()
                (self.folder / "proc/9/fd/3").symlink_to("socket:[100]")
        if words[0] in ("enable", "start", "restart"):
            self.on |= set(named)
            if SERVICE in named and words[0] != "enable":
                self.starts()
        if words[0] in ("disable", "stop"):
            self.on -= set(named)
        return 0, "", ""

    def starts(self) -> None:
        """The service starts as its unit says."""
        unit = self.text(f"/etc/systemd/system/{SERVICE}")
        given = re.findall(r"^Environment=(.*)$", unit, re.MULTILINE)
        self.write("/proc/7/environ", "\0".join(given) + "\0")
        cwd = self.folder / "proc/7/cwd"
        if cwd.is_symlink():
            cwd.unlink()
        cwd.symlink_to(f"{ROOT}/{os.readlink(str(self.folder / 'opt/gpuhost/current'))}")

    def wanted(self, **front: Any) -> install.Wanted:
        """What is asked for."""
        return install.Wanted(ROOT, FRONT._replace(**front), SETTINGS_GIVEN, "4G", 5.0)

    def present(self, check: bool = False, **front: Any) -> Any:
        """Have it."""
        return install.present(self.edges, self.wanted(**front), check)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without the service."""
    return Host(tmp_path, monkeypatch)


def test_it_is_there_and_the_second_time_nothing_changes(host: Host) -> None:
    """User, keys, settings, units, site; started once."""
    assert host.present().changed
    assert host.users and {SERVICE, SOCKET} <= host.on
    assert json.loads(host.text(SETTINGS))["generation"] == 1
    modes = {
        name: stat.S_IMODE((host.folder / name.lstrip("/")).stat().st_mode) for name in (SETTINGS, KEYS, VERIFY_KEY)
    }
    assert modes == {SETTINGS: 0o640, KEYS: 0o640, VERIFY_KEY: 0o600}
    assert stat.S_IMODE((host.folder / "etc/gpuhost/service").stat().st_mode) == 0o750
    (row,) = json.loads(host.text(KEYS))["keys"]
    assert row["sha256"] == keys.digest(host.text(VERIFY_KEY).strip()) and host.text(
        VERIFY_KEY
    ).strip() not in host.text(KEYS)
    assert stat.S_IMODE((host.folder / COMMAND.lstrip("/")).stat().st_mode) == 0o755
    host.calls.clear()
    again = host.present()
    assert (again.changed, again.diff) == (False, [])
    assert not [call for call in host.calls if "restart" in call or "reload" in call]


def test_check_mode_shows_and_changes_nothing(host: Host) -> None:
    """Before and after it is there."""
    before = sorted(str(path) for path in host.folder.rglob("*"))
    shown = host.present(check=True)
    assert shown.changed and {row["after_header"] for row in shown.diff} >= {SETTINGS, SITE}
    assert sorted(str(path) for path in host.folder.rglob("*")) == before and not host.users
    host.present()
    assert not host.present(check=True).changed


def test_what_a_killed_run_left_undone_is_seen(host: Host) -> None:
    """A process that was started with other settings, or in another generation, is restarted."""
    host.present()
    host.write("/proc/7/environ", f"{units.STARTED_WITH}=other\0")
    assert host.present().changed and f"systemctl restart {SERVICE}" in host.calls
    host.calls.clear()
    host.generation(2, "service")
    assert host.present().changed and f"systemctl restart {SERVICE}" in host.calls
    assert running.serving(host.edges, ROOT) == (2, install.digest(host.text(SETTINGS)))


def test_it_follows_the_generation(host: Host) -> None:
    """Started again in the one in force, with its device; stopped where that has none; on again when going forward."""
    assert not install.followed(host.edges, ROOT, "cpu", 5.0, False).changed, "there is none to follow"
    host.present()
    assert not install.followed(host.edges, ROOT, "cpu", 5.0, False).changed
    host.generation(2, "service")
    assert install.followed(host.edges, ROOT, "cuda", 5.0, True).changed
    assert install.followed(host.edges, ROOT, "cuda", 5.0, False).changed
    told = json.loads(host.text(SETTINGS))
    assert (told["generation"], told["device"]) == (2, "cuda")
    assert running.serving(host.edges, ROOT) == (2, install.digest(host.text(SETTINGS)))
    host.generation(3)
    assert install.followed(host.edges, ROOT, "cuda", 5.0, False).changed
    assert not {SERVICE, SOCKET} & host.on
    assert not install.followed(host.edges, ROOT, "cuda", 5.0, False).changed
    host.generation(4, "service")
    assert install.followed(host.edges, ROOT, "cuda", 5.0, False).changed and {SERVICE, SOCKET} <= host.on


def test_a_device_of_the_same_kind_is_kept(host: Host) -> None:
    """Half precision that was asked for does not get lost at a switch; on the way to the CPU it has to."""
    host.present()
    settings = json.loads(host.text(SETTINGS))
    for given, lock, told in (
        ("cuda_fp16", "cuda", "cuda_fp16"),
        ("cuda_fp16", "cpu", "cpu"),
        ("onnxruntime", "cpu", "onnxruntime"),
    ):
        host.write(SETTINGS, json.dumps({**settings, "device": given}))
        install.followed(host.edges, ROOT, lock, 5.0, False)
        assert json.loads(host.text(SETTINGS))["device"] == told


def test_a_port_that_is_taken_is_refused_before_anything_changes(host: Host) -> None:
    """By another program, by another site of nginx, also one that nginx does not serve yet."""
    before = sorted(str(path) for path in host.folder.rglob("*"))
    host.listens(EVERYWHERE, 8420)
    with pytest.raises(EnvironmentProblem, match=r"Port 8420 at 0\.0\.0\.0 is taken"):
        host.present()
    host.listens("127.0.0.1", 22)
    host.dump = "# configuration file /etc/nginx/sites-enabled/own:\nserver {\n    listen 8420 default_server;\n}\n"
    with pytest.raises(EnvironmentProblem, match="sites-enabled/own"):
        host.present()
    assert sorted(str(path) for path in host.folder.rglob("*")) == before and not host.users


def test_an_nginx_that_is_not_in_order_is_refused(host: Host) -> None:
    """Its owner fixes it; nothing is changed meanwhile."""
    host.complaints["own"] = 'unknown directive "x" in /etc/nginx/conf.d/own.conf:1'
    with pytest.raises(EnvironmentProblem, match="its own configuration"):
        host.present()
    host.complaints.clear()
    host.on.clear()
    with pytest.raises(EnvironmentProblem, match="does not run"):
        host.present()
    assert not host.users


def test_a_site_that_nginx_does_not_take_is_tried_on_a_copy(host: Host) -> None:
    """What was there is still there, and nothing was reloaded."""
    host.complaints["copy"] = "the zone is too small in COPY/conf.d/gpuhost.conf:2"
    with pytest.raises(EnvironmentProblem, match=r"in /etc/nginx/conf\.d/gpuhost\.conf:2"):
        host.present()
    assert not (host.folder / SITE.lstrip("/")).exists()
    assert host.text("/etc/nginx/conf.d/own.conf") == "# the owner's\n" and "systemctl reload nginx" not in host.calls


def test_the_former_site_comes_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nginx does not listen after the reload."""
    host.present()
    before = host.text(SITE)
    monkeypatch.setattr(site, "_LISTENS_WITHIN_S", 0.0)
    host.deaf = True
    with pytest.raises(EnvironmentProblem, match=r"does not listen at 127\.0\.0\.1:9999"):
        host.present(listen="127.0.0.1:9999")
    assert host.text(SITE) == before


def test_the_packages_own_site_goes_once_where_nginx_came_with_us(host: Host) -> None:
    """It would serve port 80 to everybody. Enabled later, it is its owner's wish; and elsewhere it is not touched."""
    default = host.folder / "etc/nginx/sites-enabled/default"
    default.parent.mkdir()
    default.symlink_to("/etc/nginx/sites-available/default")
    host.present()
    assert default.is_symlink(), "nginx was there before"
    install.absent(host.edges, ROOT, False)
    store.write_record(host.folder / "opt/gpuhost/state/packages.json", {"schema": 1, "added": ["nginx"], "before": []})
    host.present()
    assert not default.is_symlink()
    default.symlink_to("/etc/nginx/sites-available/default")
    host.present()
    assert default.is_symlink()


def test_removal_leaves_nothing_of_ours_and_everything_else(host: Host) -> None:
    """Files, user and units; an nginx that serves others' sites by now is no longer ours to remove."""
    record = host.folder / "opt/gpuhost/state/packages.json"
    store.write_record(record, {"schema": 1, "added": ["nginx", "python3"], "before": []})
    before = {str(path) for path in host.folder.rglob("*") if "/proc/7" not in str(path)}
    host.present()
    host.write("/var/log/nginx/gpuhost.log", "x")
    host.write("/var/log/nginx/gpuhost.log.1", "x")
    assert install.absent(host.edges, ROOT, True).changed and host.users
    assert install.absent(host.edges, ROOT, False).changed
    left = {str(path.relative_to(host.folder)) for path in host.folder.rglob("*") if str(path) not in before}
    assert [name for name in left if "gpuhost-" in name or "service" in name or "gpuhost.log" in name] == []
    assert not host.users and not {SERVICE, SOCKET} & host.on
    assert host.text("/etc/nginx/conf.d/own.conf") == "# the owner's\n"
    assert json.loads(record.read_text())["added"] == ["python3"]
    assert not install.absent(host.edges, ROOT, False).changed


def test_own_networks_are_held_against_their_sha256(host: Host) -> None:
    """A file that is another one, or not there, is refused."""
    model = {"name": "birds", "kind": "onnx", "onnx": "/var/lib/gpuhost-models/birds/onnx.onnx"}
    sums = {"sha256": {model["onnx"]: keys.digest("right")}}
    wanted = host.wanted()._replace(settings={**SETTINGS_GIVEN, "models": [{**model, **sums}]})
    with pytest.raises(ArtifactError, match="There is no"):
        install.present(host.edges, wanted, False)
    host.write(model["onnx"], "wrong")
    with pytest.raises(ArtifactError, match="has the sha256"):
        install.present(host.edges, wanted, False)
    host.write(model["onnx"], "right")
    assert install.present(host.edges, wanted, False).changed


@pytest.mark.parametrize(
    ("front", "told"),
    [
        ({"certificate": "/etc/x.pem"}, "no /etc/x.pem"),
        ({"certificate": "/etc/nginx/nginx.conf"}, "a certificate and its key"),
        ({"clients": "/etc/nginx/nginx.conf"}, "a certificate and its key"),
        ({"certificate": "/etc/x; include /etc/shadow"}, "cannot be used"),
        ({"listen": "8420"}, "not understood"),
        ({"listen": "127.0.0.1:99999"}, "not understood"),
        ({"listen": "127.0.0.1:8420; evil on"}, "not understood"),
        ({"listen": "localhost:80"}, "not understood"),
        ({"listen": "999.0.0.1:80"}, "not understood"),
    ],
)
def test_what_cannot_be_meant_is_refused(host: Host, front: Dict[str, Any], told: str) -> None:
    """It would stand in nginx's configuration."""
    with pytest.raises(GpuhostError, match=told):
        host.present(**front)
    assert not host.users


def test_one_that_has_refused_is_started_anew(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it refused may be in order by now; by itself it would try again minutes later."""
    host.present()
    restart = f"systemctl restart {SERVICE}"
    host.calls.clear()
    told = lambda edges: ("", True) if restart in host.calls else ("no card", True)  # noqa: E731 - it is a stand-in
    monkeypatch.setattr(install, "not_ready", told)
    assert install.followed(host.edges, ROOT, "cpu", 5.0, False).changed and restart in host.calls
    host.calls.clear()
    assert host.present().changed and restart in host.calls
    host.calls.clear()
    monkeypatch.setattr(install, "not_ready", lambda edges: ("", True))
    assert not host.present().changed and restart not in host.calls


def test_one_that_was_ended_for_want_of_memory_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot write it itself; the last line is one of systemd's that tells nothing."""
    said = f"{SERVICE}: A process of this unit has been killed by the OOM killer.\n{SERVICE}: Failed.\n"
    monkeypatch.setattr(host.edges, "run", lambda argv, timeout: (0, said, ""))
    assert "service_limits.memory" in running.last_words(host.edges)


def test_each_playbook_that_changes_what_is_in_force_ends_with_the_service() -> None:
    """A process serves the generation that it was started in, so each switch is followed by a new start."""
    changing = 0
    playbooks = Path(__file__).resolve().parents[2] / "playbooks"
    for path in [*playbooks.rglob("*.yml"), playbooks.parent / "site.yml"]:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        for play in [{"tasks": found}, *found] if path.parent.name == "tasks" else found:
            steps = [task.get("ansible.builtin.import_role") or {} for task in play.get("tasks", ())]
            switches = [at for at, step in enumerate(steps) if step.get("name") == "generation" or takes_out(step)]
            follows = [at for at, step in enumerate(steps) if step.get("name") == "detection_service"]
            changing += bool(switches)
            assert not switches or (follows and follows[-1] > switches[-1]), path
    assert changing >= 9


def takes_out(step: Dict[str, str]) -> bool:
    """Whether a role takes a toolkit out of force."""
    return step.get("name") in ("cuda", "cudnn") and step.get("tasks_from") == "remove"


def test_a_failed_service_says_why(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused device is not waited for; a failed unit is told with its last words."""
    monkeypatch.setattr(install, "not_ready", lambda edges: ("D29 the card is gone", True))
    with pytest.raises(EnvironmentProblem, match="D29 the card is gone"):
        host.present()
    monkeypatch.setattr(install, "not_ready", lambda edges: ("it does not answer", False))
    monkeypatch.setattr(install, "shown", lambda edges, unit, name: "failed" if name == "ActiveState" else "")
    monkeypatch.setattr(install, "last_words", lambda edges: "error: no settings")
    with pytest.raises(EnvironmentProblem, match="error: no settings"):
        install.wait_ready(host.edges, 5.0)


# Units


def test_the_sandbox_lets_the_card_in_and_little_else() -> None:
    """Both names of NVIDIA's device group; nothing that CUDA cannot do without; no network without alerts."""
    given = (ROOT, "abc", 1, 30, "4G")
    service = units.texts(*given, False, 252)[f"/etc/systemd/system/{SERVICE}"]
    for word in ("DevicePolicy=closed", "DeviceAllow=char-nvidia rw", "DeviceAllow=char-nvidia-frontend rw"):
        assert f"\n{word}\n" in service
    for word in ("PrivateDevices", "ProcSubset", "MemoryDenyWriteExecute", "ProtectKernelTunables"):
        assert word not in service
    assert "IPAddressDeny=any" in service and "ProtectProc=invisible" in service
    old = units.texts(*given, True, 237)[f"/etc/systemd/system/{SERVICE}"]
    assert "IPAddressDeny" not in old and "ProtectProc" not in old and "RestrictSUIDSGID" not in old


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """No word that it does not know."""
    for name, text in units.texts(ROOT, "abc", 1, 30, "4G", False, 252).items():
        text = re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert not [line for line in done.stdout.splitlines() if "gpuhost" in line], done.stdout


# The proxy


def test_the_site_limits_and_logs_no_query() -> None:
    """What the research found to be needed; only directives of nginx 1.14."""
    text = proxy.text(FRONT)
    for word in (
        "gzip off;",
        "error_page 502 504 = @not_there;",
        "proxy_next_upstream off;",
        "client_max_body_size 16777216;",
        "proxy_set_header Host gpuhost;",
    ):
        assert word in text
    assert "$request_uri" not in text and "$args" not in text and '"path":"$uri"' in text
    for newer in ("proxy_socket_keepalive", "delay=", "limit_req_dry_run", "ssl_reject_handshake"):
        assert newer not in text
    assert "ssl" not in text
    certified = proxy.text(FRONT._replace(certificate="/c.pem", key="/k.pem", clients="/ca.pem"))
    assert "listen 127.0.0.1:8420 ssl;" in certified and "ssl_verify_client on;" in certified


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("80", (EVERYWHERE, 80)),
        ("[::]:80", ("::", 80)),
        ("*:81", (EVERYWHERE, 81)),
        ("192.0.2.1", ("192.0.2.1", 80)),
        ("192.0.2.1:82", ("192.0.2.1", 82)),
        ("localhost:83", ("127.0.0.1", 83)),
    ],
)
def test_the_listens_of_other_sites(word: str, found: Tuple[str, int]) -> None:
    """As nginx understands them."""
    dump = (
        f"# configuration file /etc/nginx/a.conf:\nserver {{\n  listen {word} default_server;\n listen unix:/x;\n}}\n"
    )
    assert [(one.address, one.port) for one in site.listens(dump)] == [found]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", EVERYWHERE, True),
        ("127.0.0.1", "192.0.2.1", False),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_addresses_that_meet(one: str, other: str, meet: bool) -> None:
    """[::] takes IPv4 as well."""
    assert sockets.meets(one, other) is meet is sockets.meets(other, one)


def test_a_socket_of_this_machine_is_found_with_its_program() -> None:
    """The real /proc: address, port, and who has it."""
    edges = Edges("/", lambda argv, timeout: (0, "", ""))
    for family, where in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listening = socket.socket(family)
            listening.bind((where, 0))
        except OSError:
            continue  # a machine without IPv6
        with listening:
            listening.listen()
            (row,) = sockets.taken(sockets.listening(edges), where, listening.getsockname()[1])
            assert row.address == where and row.programs == [Path("/proc/self/comm").read_text().strip()]


# Keys


def test_keys_are_kept_as_hashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown once; no two of one name; a revoked one is gone; a damaged file loses none."""
    monkeypatch.setattr(keys, "service_group", os.getegid)
    file = tmp_path / "keys.json"
    assert keys.main(["add", "phone", "--for", "hook"], str(file)) == 0
    text = capsys.readouterr().out.strip()
    assert re.fullmatch("[0-9a-f]{64}", text) and text not in file.read_text()
    (row,) = json.loads(file.read_text())["keys"]
    assert (row["name"], row["sha256"], row["kinds"]) == ("phone", keys.digest(text), ["hook"])
    assert keys.main(["add", "phone"], str(file)) == UsageError.exit_code
    assert keys.main(["add", "a b"], str(file)) == UsageError.exit_code
    assert keys.main(["list"], str(file)) == 0 and "phone" in capsys.readouterr().out
    assert keys.main(["revoke", "other"], str(file)) == UsageError.exit_code
    assert keys.main(["revoke", "phone"], str(file)) == 0
    assert json.loads(file.read_text())["keys"] == []
    file.write_text("{")
    assert keys.main(["add", "phone"], str(file)) == EnvironmentProblem.exit_code and file.read_text() == "{"


# What verify/ posts, and what the watch tells


def test_the_photo_and_the_bomb_are_what_they_say() -> None:
    """A picture of 640 x 480, and 38 bytes that say they are a large one."""
    head = picture_header.read(photo.made())
    assert (head.width, head.height) == (photo.WIDTH, photo.HEIGHT)
    assert photo.made() == photo.made() and len(photo.bomb()) == 38


def test_why_it_is_not_ready_is_told() -> None:
    """Diagnosis, reason and remedy in one line; else the status."""
    body = {"ready": False, "diagnosis": "D29", "reason": "The card is gone.", "remedy": "Look."}
    assert ready.reason(ready.Answer(503, body)) == "D29 The card is gone. Look."
    assert "503" in ready.reason(ready.Answer(503, None))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, []),
        ({"generation": 1, "why": ""}, []),
        ({"generation": None, "why": "it has failed"}, ["service.unit"]),
        ({"generation": 2, "why": ""}, ["service.unit"]),
        ({"generation": 1, "why": "D29"}, ["service.ready"]),
    ],
)
def test_the_watch_looks_at_it(found: Any, told: List[str]) -> None:
    """Also on a host without a card, where nothing else is watched."""
    stack = {"cards": [], "plan": {"gpus": []}}
    state = watch_judge.judge({"generation": 1, "stack": stack, "service": found, "cards": []})
    assert [one.id for one in state.findings] == told
    assert state.status == (watch_judge.NOTHING if found is None else watch_judge.BROKEN if told else watch_judge.OK)
