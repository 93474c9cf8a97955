"""What would end an installation halfway, on a host: file systems that are too small, servers that do not answer."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import pytest

from gpuhost.host import pip_index, preflight, reach
from gpuhost.host.room import boot_bytes, room_taken, short_of_space

from .mounts import mounted

Json = Dict[str, Any]
NOTHING: Json = {"room": [], "boot": False, "packages": [], "debs": [], "archive": [], "index": "", "files": []}
INSTALLED = "python3\t3.11.2-1\tpython3\tinstall ok installed\n"
URIS = """\
'http://deb.example/debian/pool/main/g/gcc-12/g%2b%2b-12_12.2.deb' g++-12_12.2.0-14_amd64.deb 10721652 SHA256:aa
'http://sec.example/pool/updates/main/p/python3.11-venv_3.11.deb' python3.11-venv_3.11_amd64.deb 5892 MD5Sum:bb
"""


class Machine:
    """A host as dpkg and apt tell of it."""

    def __init__(self, uris: Tuple[int, str] = (0, URIS), config: str = "") -> None:
        """What `apt-get --print-uris` ends with and prints, and what `apt-config dump` prints."""
        self.uris, self.config = uris, config
        self.ran: List[Sequence[str]] = []

    def run(self, argv: Sequence[str], _: float) -> Tuple[int, str, str]:
        """Answer a command."""
        self.ran.append(argv)
        if argv[0] == "dpkg-query":
            return 0, INSTALLED, ""
        if argv[0] == "apt-config":
            return 0, self.config, ""
        assert argv[0] == "apt-get" and "--print-uris" in argv, argv
        return (*self.uris, "")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine's, and no other."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(pip_index, "files", list)


@pytest.fixture(name="asked")
def servers(monkeypatch: pytest.MonkeyPatch) -> List[reach.Server]:
    """The servers that were tried: none answers but those of good.example."""
    tried: List[reach.Server] = []

    def connect(to: reach.Server) -> str:
        tried.append(to)
        return "" if to[0] == "good.example" else "No route to host"

    real = reach.tried
    monkeypatch.setattr(reach, "problems", lambda rows, go=reach.problems: go(rows, lambda to: real(to, connect)))
    return tried


@pytest.fixture(name="listener")
def a_server() -> Iterator[Tuple[str, int]]:
    """A server that takes connections."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made.getsockname()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


# ---- servers --------------------------------------------------------------------------------------------------------


def test_a_real_server_is_reached_and_a_closed_port_is_not(listener: Tuple[str, int]) -> None:
    """Of several addresses that will do one is enough; otherwise each is named with what was said."""
    good, bad = f"http://127.0.0.1:{listener[1]}/x", f"http://127.0.0.1:{closed_port()}/y"
    assert reach.problems([{"what": "a", "urls": [good]}, {"what": "b", "urls": [bad, good]}]) == []
    (told,) = reach.problems(
        [{"what": "a", "urls": [good]}, {"what": "b", "urls": [bad]}, {"what": "c", "urls": [bad]}]
    )
    port = bad.rpartition(":")[2].partition("/")[0]
    assert told == f"Not reached: 127.0.0.1, port {port} (Connection refused). From there come b and c."


def test_a_name_that_nobody_knows() -> None:
    """In the resolver's words; a name that cannot be one as well."""
    (told,) = reach.problems([{"what": "a", "urls": ["https://gpuhost.invalid/simple"]}])
    assert told.startswith("Not reached: gpuhost.invalid, port 443 (")
    (told,) = reach.problems([{"what": "a", "urls": ["https://" + "x" * 80 + ".example/"]}])
    assert told.startswith("Not reached: xxxx")


@pytest.mark.parametrize(
    "url", ["file:///srv/debian", "/srv/wheels", "cdrom:[Debian]/", "mirror+file:/etc/apt/m", "http://[", ""]
)
def test_what_is_no_server_is_not_asked(url: str) -> None:
    """A folder, or a way that is not known here, may well do; alone and beside a server."""
    nobody = f"http://127.0.0.1:{closed_port()}"
    assert (
        reach.problems([{"what": "a", "urls": [url]}]) == reach.problems([{"what": "a", "urls": [nobody, url]}]) == []
    )


def test_a_server_that_never_answers_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name has no limit of its own: whoever does not come back is told as that."""
    monkeypatch.setattr(reach, "PATIENCE_S", 0.05)
    over = __import__("threading").Event()
    found = reach.tried(
        [("slow.example", 80), ("fast.example", 80)], lambda to: "" if "fast" in to[0] else str(over.wait())
    )
    over.set()
    assert found[("fast.example", 80)] == "" and "no answer within" in found[("slow.example", 80)]


def test_behind_a_proxy_the_proxy_is_what_is_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the variables say, exceptions included; its own port, and a login in it is nobody's business."""
    proxies = {"https": "http://jo:secret@proxy.example:3128", "http": "proxy.example"}
    assert reach.server("https://pip.example/simple", proxies) == ("proxy.example", 3128)
    assert reach.server("http://deb.example/debian", proxies) == ("proxy.example", 80)
    assert reach.server("https://deb.example:8443/debian", {}) == ("deb.example", 8443)
    assert reach.server("https://pip.example/simple", {"https": "socks5://proxy.example"}) is None
    monkeypatch.setenv("no_proxy", "pip.example")
    assert reach.server("https://pip.example/simple", proxies) == ("pip.example", 443)


# ---- what is asked of whom ------------------------------------------------------------------------------------------


def test_a_host_that_needs_nothing_asks_nobody(asked: List[reach.Server], tmp_path: Path) -> None:
    """And runs no command of apt's."""
    machine = Machine()
    needs = {**NOTHING, "packages": ["python3"], "archive": ["http://deb.example/debian"]}
    assert preflight.looked(tmp_path, needs, machine.run)["problems"] == []
    assert asked == [] and [argv[0] for argv in machine.ran] == ["dpkg-query"]


def test_each_server_is_asked_once_for_all_that_comes_from_it(asked: List[reach.Server], tmp_path: Path) -> None:
    """The archive's by the addresses that apt names, the index, and the vendors' files; one sentence a server."""
    files = [{"name": name, "url": f"https://nvidia.example/{name}"} for name in ("cuda.run", "cudnn.tgz")]
    packages = ["python3", "python3.11-venv", "g++-12"]
    needs = {
        **NOTHING,
        "packages": packages,
        "index": "Python packages",
        "files": files,
        "archive": ["http://x.example"],
    }
    found = preflight.looked(tmp_path, needs, Machine().run)["problems"]
    assert sorted(asked) == [("deb.example", 80), ("nvidia.example", 443), ("pypi.org", 443), ("sec.example", 80)]
    assert any(
        "nvidia.example, port 443 (No route to host). From there come cuda.run and cudnn.tgz." in s for s in found
    )
    assert len(found) == 4


def test_without_lists_the_sources_are_asked_and_one_will_do(asked: List[reach.Server], tmp_path: Path) -> None:
    """As on a fresh machine, where apt can name no file yet."""
    machine = Machine(uris=(100, ""))
    needs = {**NOTHING, "packages": ["python3-venv"], "archive": ["http://deb.example/debian", "http://good.example/"]}
    assert preflight.looked(tmp_path, needs, machine.run)["problems"] == []
    (told,) = preflight.looked(tmp_path, {**needs, "archive": needs["archive"][:1]}, machine.run)["problems"]
    assert "From there come packages of the archive." in told


def test_the_driver_comes_from_the_archive_or_from_where_it_is_kept(asked: List[reach.Server], tmp_path: Path) -> None:
    """Either will do."""
    needs = {**NOTHING, "debs": ["http://deb.example/debian", "https://snapshot.example/x.deb"]}
    (told,) = preflight.looked(tmp_path, needs, Machine().run)["problems"]
    assert "deb.example, port 80" in told and "snapshot.example, port 443" in told and "the driver's packages" in told
    assert (
        preflight.looked(tmp_path, {**needs, "debs": [*needs["debs"], "http://good.example"]}, Machine().run)[
            "problems"
        ]
        == []
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('Acquire::http::Proxy "http://apt-proxy.example:3142";', [("apt-proxy.example", 3142)]),
        ('Acquire::http::Proxy "DIRECT";', [("deb.example", 80)]),
        ('Acquire::http::Proxy "";', [("deb.example", 80)]),
        ('Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";', []),
        ('Acquire::http::Proxy::deb.example "http://other.example";', []),
        ('Acquire::https::Proxy "http://other.example";\nAcquire::http::Timeout "30";', [("deb.example", 80)]),
    ],
)
def test_the_archive_is_reached_as_apt_reaches_it(
    config: str, expected: List[reach.Server], asked: List[reach.Server], tmp_path: Path
) -> None:
    """Through its proxy; where it chooses one for each address, nothing is claimed."""
    preflight.looked(tmp_path, {**NOTHING, "debs": ["http://deb.example/debian"]}, Machine(config=config + "\n").run)[
        "problems"
    ]
    assert asked == expected


def test_the_index_is_reached_as_pip_reaches_it(
    asked: List[reach.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address, others beside it, folders, and its own proxy; variables before files."""
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://index.example/simple/\nextra-index-url = https://good.example/simple\n"
    )
    monkeypatch.setattr(pip_index, "files", lambda: [str(conf)])
    needs = {**NOTHING, "index": "Python packages"}
    assert preflight.looked(tmp_path, needs, Machine().run)["problems"] == []
    assert sorted(asked) == [("good.example", 443), ("index.example", 443)]
    asked.clear()
    monkeypatch.setenv("PIP_PROXY", "proxy.example:8080")
    (told,) = preflight.looked(tmp_path, needs, Machine().run)["problems"]
    assert asked == [("proxy.example", 8080)] and "From there come Python packages." in told
    conf.write_text("[global]\nextra-index-url = file:///no/such/folder\n")
    assert len(preflight.looked(tmp_path, needs, Machine().run)["problems"]) == 1  # pip passes that folder over
    conf.write_text(f"[global]\nno-index = true\nfind-links = {tmp_path}\n")
    asked.clear()
    assert preflight.looked(tmp_path, needs, Machine().run)["problems"] == [] == asked


# ---- room -----------------------------------------------------------------------------------------------------------


def test_a_real_small_file_system_is_named_with_both_figures(tmp_path: Path) -> None:
    """What is needed there in all, and what is free; what is on another disk does not count."""
    with mounted(tmp_path / "small", "size=8m") as small:
        rows = [{"path": str(small / "opt"), "bytes": 5 * 10**6}, {"path": str(small), "bytes": 4 * 10**6}]
        (told,) = preflight.looked(small / "opt", {**NOTHING, "room": rows}, Machine().run)["problems"]
        assert told.startswith(f"There is too little space: {small}/opt, {small}: 9 MB are needed and 8 MB are free.")
        assert preflight.looked(small, {**NOTHING, "room": rows[:1]}, Machine().run)["problems"] == []


def test_packages_of_the_archive_take_room_below_usr_and_in_apts_cache(tmp_path: Path) -> None:
    """By the sizes that apt tells."""
    found = preflight.archive(tmp_path, ["g++-12"], [], Machine().run)
    assert found.room == [("/var/cache/apt/archives", 10721652 + 5892), ("/usr", 4 * (10721652 + 5892))]


def test_a_path_is_named_once(tmp_path: Path) -> None:
    """Though several things go there."""
    needs, free = [(str(tmp_path), 6 * 10**8), (str(tmp_path), 6 * 10**8)], lambda _: 10**9
    (told,) = short_of_space(needs, free)
    assert told.count(str(tmp_path)) == 1
    assert room_taken(needs, free) == f"Room while it is installed: {tmp_path}: at most 1.2 GB of 1.0 GB that are free."
    assert room_taken([]) == ""


def test_a_new_initramfs_needs_the_room_of_the_old_one(tmp_path: Path) -> None:
    """And some for what a driver adds. A kernel that is to come brings one that nobody has seen yet."""
    assert boot_bytes("6.1.0-9", tmp_path) == 40 * 10**6
    (tmp_path / "initrd.img-6.1.0-8").write_bytes(b"x" * 70)
    (tmp_path / "initrd.img-6.1.0-7").write_bytes(b"x" * 90)
    (tmp_path / "initrd.img-6.1.0-6").symlink_to("nowhere")
    assert boot_bytes("6.1.0-8", tmp_path) == 40 * 10**6 + 70
    assert boot_bytes("6.1.0-9", tmp_path) == 40 * 10**6 + 90


def test_all_of_it_is_told_at_once(asked: List[reach.Server], tmp_path: Path) -> None:
    """Space and network in one answer."""
    needs = {**NOTHING, "room": [{"path": "/", "bytes": 10**18}], "index": "Python packages"}
    found = preflight.looked(tmp_path, needs, Machine().run)["problems"]
    assert len(found) == 2 and "too little space" in found[0] and "Not reached" in found[1]
