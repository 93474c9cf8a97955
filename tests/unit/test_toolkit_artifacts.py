"""Fetching by sha256 from a real https server on this machine, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from gpuhost.errors import ArtifactError, EnvironmentProblem, GpuhostError
from gpuhost.host import download as artifacts
from gpuhost.host.download import obtain, place

from .mounts import mounted
from .vendor import CONTENT, Vendor

SRC = Path(__file__).resolve().parents[2] / "src"
CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gpuhost.host.download import obtain
print(obtain(Path(sys.argv[2]), json.loads(sys.argv[3])))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache."""
    return tmp_path / "cache"


def left(cache: Path) -> List[str]:
    """What is in the cache, folders too."""
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*")) if cache.exists() else []


def ranges(vendor: Vendor) -> List[Any]:
    """What part of the file each request asked for."""
    return [wanted for _, wanted in vendor.asked]


def test_a_file_is_fetched_once(vendor: Vendor, cache: Path) -> None:
    """It has its name and its content; the second call asks nobody."""
    file = vendor.offer()
    said: List[str] = []
    assert obtain(cache, file, say=said.append) is True
    assert place(cache, file).read_bytes() == CONTENT
    assert f"fetching tool.run: 100 % of {len(CONTENT) / 1e6:.0f} MB" in said
    assert obtain(cache, file) is False
    assert len(vendor.asked) == 1
    assert left(cache) == [file["sha256"], f"{file['sha256']}/tool.run"]


def test_a_damaged_file_in_the_cache_is_fetched_again(vendor: Vendor, cache: Path) -> None:
    """Its name alone does not make it right."""
    file = vendor.offer()
    obtain(cache, file)
    place(cache, file).write_bytes(CONTENT[:-1])
    assert obtain(cache, file) is True
    assert place(cache, file).read_bytes() == CONTENT


@pytest.mark.parametrize("ranged", [True, False])
def test_a_dropped_connection_is_taken_up_again(vendor: Vendor, cache: Path, ranged: bool) -> None:
    """Where it ended, or from the beginning at a server that knows no ranges."""
    file = vendor.offer()
    vendor.faults, vendor.ranges = ["drop", "503", "drop"], ranged
    obtain(cache, file)
    assert place(cache, file).read_bytes() == CONTENT
    assert ranges(vendor)[:2] == [None, f"bytes={len(CONTENT) // 2}-"]
    assert len(vendor.asked) == 4


def test_a_server_that_tells_no_length(vendor: Vendor, cache: Path) -> None:
    """The checksum alone tells whether all has come."""
    file = vendor.offer()
    vendor.faults = ["nolength"]
    assert obtain(cache, file) is True


@pytest.mark.parametrize(
    "served",
    [CONTENT[:-1000], CONTENT[:5000] + b"!" + CONTENT[5001:], b"another file", b""],
    ids=["truncated", "corrupted", "swapped", "empty"],
)
def test_another_file_is_refused_and_nothing_stays(vendor: Vendor, cache: Path, served: bytes) -> None:
    """Both sums are told."""
    file = vendor.offer(served=served)
    with pytest.raises(ArtifactError) as told:
        obtain(cache, file)
    assert hashlib.sha256(served).hexdigest() in str(told.value) and file["sha256"] in str(told.value)
    assert left(cache) == []


def test_a_damaged_partial_file_is_begun_afresh_once(vendor: Vendor, cache: Path) -> None:
    """What an earlier run left may be damaged; when the fresh one is wrong as well, it is the source's fault."""
    file = vendor.offer()
    part = place(cache, file).with_name("tool.run.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert obtain(cache, file) is True
    assert ranges(vendor) == ["bytes=1000-", None]
    wrong = vendor.offer("other.run", served=CONTENT[:-1])
    part = place(cache, wrong).with_name("other.run.part")
    part.write_bytes(b"x" * 1000)
    vendor.asked.clear()
    with pytest.raises(ArtifactError):
        obtain(cache, wrong)
    assert len(vendor.asked) == 2 and not part.exists()


def test_a_partial_file_that_is_whole_needs_no_byte_more(vendor: Vendor, cache: Path) -> None:
    """A run that was killed between the last byte and the new name."""
    file = vendor.offer()
    part = place(cache, file).with_name("tool.run.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert obtain(cache, file) is True
    assert place(cache, file).read_bytes() == CONTENT and not part.exists()


def test_only_https_is_spoken(vendor: Vendor, cache: Path) -> None:
    """Neither asked for nor led to."""
    file = vendor.offer()
    with pytest.raises(ArtifactError, match="not https"):
        obtain(cache, {**file, "url": file["url"].replace("https", "http")})
    vendor.faults = ["http://127.0.0.1:1/x"]
    with pytest.raises(ArtifactError, match="not https"):
        obtain(cache, file)
    assert left(cache) == []
    vendor.faults = [file["url"]]
    assert obtain(cache, file) is True


def test_an_unknown_certificate_is_refused(vendor: Vendor, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And said to be that, not a network that does not answer."""
    empty = cache.with_name("none.pem")
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    monkeypatch.setenv("SSL_CERT_DIR", str(cache.parent / "none"))
    with pytest.raises(EnvironmentProblem, match="no certificate that this machine trusts"):
        obtain(cache, vendor.offer())
    assert left(cache) == [] and vendor.asked == []


def test_no_network_leaves_what_was_fetched(vendor: Vendor, cache: Path) -> None:
    """The tries are few, the message names the address, and the next run goes on."""
    file = vendor.offer()
    vendor.faults = ["drop", "503", "503", "503"]
    with pytest.raises(EnvironmentProblem, match="could not be fetched: the server answers 503"):
        obtain(cache, file)
    assert len(vendor.asked) == 4
    vendor.asked.clear()
    assert obtain(cache, file) is True
    assert ranges(vendor) == [f"bytes={len(CONTENT) // 2}-"]
    gone = {**file, "url": "https://127.0.0.1:1/x", "sha256": "0" * 64}
    with pytest.raises(EnvironmentProblem, match="Check the network"):
        obtain(cache, gone)
    assert not (cache / ("0" * 64)).exists()


def test_a_mirror_is_asked_and_nobody_else(vendor: Vendor, cache: Path) -> None:
    """Its layout is the cache's; what it lacks is an error that names it."""
    file = vendor.offer("a b.run")
    with pytest.raises(ArtifactError, match="mirror must hold <sha256>/<name>"):
        obtain(cache, file, vendor.url + "/m/")
    assert [path for path, _ in vendor.asked] == [f"/m/{file['sha256']}/a%20b.run"]
    vendor.files[f"/m/{file['sha256']}/a%20b.run"] = CONTENT
    assert obtain(cache, file, vendor.url + "/m/") is True


def test_a_local_folder_serves_by_name_or_as_a_cache(vendor: Vendor, cache: Path, tmp_path: Path) -> None:
    """A wrong file in it is refused as well; one that is not there is told with the folder's name."""
    file, folder = vendor.offer(), tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ArtifactError, match="does not hold tool"):
        artifacts.in_folder(folder, file)
    (folder / "tool.run").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=file["sha256"]):
        obtain(cache, file, source=artifacts.in_folder(folder, file))
    assert left(cache) == []
    (folder / file["sha256"]).mkdir()
    (folder / file["sha256"] / "tool.run").write_bytes(CONTENT)
    assert obtain(cache, file, source=artifacts.in_folder(folder, file)) is True
    assert vendor.asked == []


@pytest.mark.parametrize(
    "bad", [{"name": "../x"}, {"name": ".."}, {"name": ""}, {"sha256": "12"}, {"sha256": "../" * 9}]
)
def test_names_that_lead_out_are_refused(cache: Path, bad: Dict[str, str]) -> None:
    """Before anything is made."""
    with pytest.raises(ArtifactError, match="names no file"):
        obtain(cache, {"name": "x", "url": "https://127.0.0.1:1/x", "sha256": "0" * 64, **bad})
    assert left(cache) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MB."""
    with mounted(tmp_path / "small", "size=24m") as folder:
        yield folder


def test_a_small_disk_is_refused_before_it_is_filled(vendor: Vendor, small_disk: Path) -> None:
    """By the length that the server tells."""
    file = vendor.offer(content=CONTENT * 4)
    with pytest.raises(EnvironmentProblem, match="MB are free"):
        obtain(small_disk, file)
    assert left(small_disk) == []


def test_a_full_disk_is_not_left_full(vendor: Vendor, small_disk: Path) -> None:
    """A server that tells no length: the disk fills, the message says so, and the room is given back."""
    file = vendor.offer(content=CONTENT * 6)
    vendor.faults = ["nolength"]
    with pytest.raises(EnvironmentProblem, match="no space left"):
        obtain(small_disk, file)
    assert left(small_disk) == []
    assert shutil.disk_usage(str(small_disk)).free > 20 * 10**6


def pythons() -> List[str]:
    """This Python, and an old one where there is one that starts."""
    old = os.environ.get("GPUHOST_OLD_PYTHON") or shutil.which("python3.6")
    starts = old and subprocess.run([old, "-c", ""], capture_output=True, check=False).returncode == 0
    return [sys.executable, *([old] if old and starts else [])]


def child(python: str, cache: Path, file: Dict[str, Any]) -> subprocess.Popen[str]:
    """A process of its own that fetches the file."""
    command = [python, "-c", CHILD, str(SRC), str(cache), json.dumps(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("python", pythons())
def test_killed_half_way_the_next_run_finishes(vendor: Vendor, cache: Path, python: str) -> None:
    """SIGKILL while bytes are coming: the next run asks for the rest only."""
    file = vendor.offer()
    vendor.faults = ["hang"]
    first = child(python, cache, file)
    part = place(cache, file).with_name("tool.run.part")
    assert vendor.hanging.wait(30)
    while not part.exists() or part.stat().st_size < len(CONTENT) // 2 - artifacts.BLOCK:
        assert first.poll() is None, first.communicate()[0]
    have = part.stat().st_size
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = child(python, cache, file)
    assert second.communicate()[0].strip() == "True"
    assert place(cache, file).read_bytes() == CONTENT
    begun = int(ranges(vendor)[1].strip("bytes=-"))
    assert have <= begun <= len(CONTENT) // 2


def test_two_at_once_download_once(vendor: Vendor, cache: Path) -> None:
    """The second waits for the first and then finds the file; so do the forks of one Ansible run."""
    file = vendor.offer()
    vendor.faults = ["hang"]
    first = child(sys.executable, cache, file)
    assert vendor.hanging.wait(30)
    said: List[str] = []

    def say(text: str) -> None:
        said.append(text)
        vendor.gate.set()

    assert obtain(cache, file, say=say) is False
    assert first.communicate()[0].strip() == "True"
    assert said == ["waiting for another run that fetches tool.run"]
    assert len(vendor.asked) == 1


def test_errors_are_of_the_kinds_that_users_meet(vendor: Vendor, cache: Path) -> None:
    """A folder that cannot be written is not a traceback."""
    cache.write_text("a file where the cache should be")
    with pytest.raises(GpuhostError, match="cannot be written"):
        obtain(cache, vendor.offer())
