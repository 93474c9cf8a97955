"""What is to be installed as CUDA and cuDNN, from plan and catalog; and the locks of wheels that are shipped."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.errors import CatalogError, RefusedError, UsageError
from gpuhost.planning import toolkits as specs
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

ROOT = Path(__file__).resolve().parents[2]
OLD: Dict[str, Any] = {
    "cuda": {"version": "11.8.0", "source": "runfile", "file": "t.run", "url": "https://x/t.run", "sha256": "1" * 64},
    "cudnn": {"version": "8.6.0.163", "file": "c.tar.xz", "url": "https://x/c.tar.xz", "sha256": "0" * 64},
    "tensorflow": {"python": "3.8"},
}
LOCKS = specs.lock_names()


def spec(name: str, version: str, kind: str, plan: Dict[str, Any] = OLD) -> Dict[str, Any]:
    """What a lock with the catalog's row of a release makes of it."""
    return specs.spec(
        {"plan": plan, "contents": {"toolkits": [specs.row(plan, name, version, kind)]}}, name, version, kind
    )


def test_a_runfile_has_the_catalogs_options() -> None:
    """By age; with the packages that its programs need; the digest follows what is installed."""
    made = spec("cuda", "11.8.0", "runfile")
    assert made["file"] == {"name": "t.run", "url": "https://x/t.run", "sha256": "1" * 64}, "the plan's own file"
    assert made["options"] == ["--silent", "--override", "--toolkit", "--installpath=PREFIX"]
    assert made["archive"] == ["libxml2"]
    old = spec("cuda", "10.0.130", "runfile")
    assert old["options"] == ["--silent", "--override", "--toolkit", "--toolkitpath=PREFIX", "--verbose"]
    assert old["archive"] == ["libncurses5"] and old["digest"] != made["digest"]
    row = next(r for r in shipped().cuda["releases"] if r["version"] == "10.0.130")["runfile"]
    assert old["file"] == {"name": row["file"], "url": row["url"], "sha256": row["sha256"]}
    assert spec("cuda", "11.2.0", "runfile")["archive"] == ["libxml2", "libncurses5"]
    assert spec("cudnn", "8.6.0.163", "tarball")["file"]["sha256"] == "0" * 64


def test_wheels_where_the_user_asks_for_them() -> None:
    """Toolkit and cuDNN come the same way, on 18.04 too; a release without a lock is refused with the ways out."""
    assert specs.wanted(OLD, "cuda", "wheels") == [("cuda", "11.8.0", "wheels")]
    assert specs.wanted(OLD, "cudnn", "wheels") == [("cudnn", "8.6.0.163", "wheels")]
    assert spec("cuda", "11.8.0", "wheels")["packages"] == specs.load_wheels("cuda-11.8.0")["packages"]
    assert spec("cudnn", "8.6.0.163", "wheels")["kind"] == "wheels"
    with pytest.raises(CatalogError, match=r"No lock of wheels for cuda-11\.7\.1.*cuda-12\.5\.1.*cuda_source=runfile"):
        specs.row(OLD, "cuda", "11.7.1", "wheels")
    with pytest.raises(UsageError, match="cuda_source is 'deb'"):
        specs.wanted(OLD, "cuda", "deb")


def test_a_release_that_the_lock_has_not_is_refused() -> None:
    """Whatever the catalog has."""
    with pytest.raises(RefusedError, match=r"The lock has no CUDA 10\.0\.130 from NVIDIA's installer"):
        specs.spec({"plan": OLD, "contents": {"toolkits": []}}, "cuda", "10.0.130", "runfile")


@pytest.mark.parametrize("name", ["gtx 750 ti", "quadro p2000", "rtx 2080", "rtx 3090", "rtx 4090", "h100"])
def test_every_planned_toolkit_of_debian_can_build_opencv(name: str) -> None:
    """The plan says that OpenCV is built, so its toolkit has nvcc; the wheels are there for who asks for them."""
    plan = make(resolver(), Request("debian-12", (parse(shipped(), name),)))
    assert plan["status"] == "planned" and plan["opencv"]["source"] != "wheel"
    (cuda,), (cudnn,) = specs.wanted(plan, "cuda"), specs.wanted(plan, "cudnn")
    assert spec(*cuda, plan)["compiler"] and spec(*cudnn, plan)["kind"] == "tarball"
    for component in ("cuda", "cudnn"):
        (one,) = specs.wanted(plan, component, "wheels")
        assert spec(*one, plan)["kind"] == "wheels"


@pytest.mark.parametrize("name", LOCKS)
def test_the_shipped_locks_are_sound(name: str) -> None:
    """The schema holds, each file stands for its package, and its row in the catalog is there."""
    lock = specs.load_wheels(name)
    for package in lock["packages"]:
        assert package["file"].startswith(f"{package['name'].replace('-', '_')}-{package['version']}-py")
    assert sum(p["name"] == "pip" for p in lock["packages"]) == 1
    rows = shipped().cuda["releases"] if lock["component"] == "cuda" else shipped().cudnn["packages"]
    assert lock["version"] in {r["version"] for r in rows}
    assert lock["compiler"] is (lock["component"] == "cuda" and int(lock["cuda"]) >= 13)


def test_the_shipped_locks_hold_one_release() -> None:
    """nvcc, the runtime and NVRTC of a toolkit are of its series: a mixture would build and then fail."""
    for name in (n for n in LOCKS if n.startswith("cuda-")):
        lock = specs.load_wheels(name)
        series = ".".join(lock["version"].split(".")[:2]) + "."
        for word in ("nvcc", "runtime", "nvrtc", "cupti"):
            found = [p for p in lock["packages"] if f"cuda-{word}" in p["name"]]
            assert [p["version"].startswith(series) for p in found] == [True], name
    update = {p["name"]: p["version"] for p in specs.load_wheels("cuda-12.5.1")["packages"]}
    assert update["nvidia-cuda-nvcc-cu12"] == "12.5.82"  # 12.5.40 is the compiler of 12.5.0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lock: lock.update(version="12.5.2"), "says that it is cuda-12.5.2"),
        (lambda lock: lock.pop("unpacked"), "breaks its schema"),
        (lambda lock: lock["packages"][0].update(sha256="x"), "breaks its schema"),
    ],
)
def test_a_damaged_lock_is_told(tmp_path: Path, damage: Any, message: str) -> None:
    """By its file's name."""
    lock = specs.load_wheels("cuda-12.5.1")
    damage(lock)
    (tmp_path / "cuda-12.5.1.json").write_text(json.dumps(lock), encoding="utf-8")
    with pytest.raises(CatalogError, match=f"cuda-12.5.1.json {message}"):
        specs.load_wheels("cuda-12.5.1", tmp_path)


def test_other_toolkits_stand_beside_the_locked_one() -> None:
    """Each once, under its series; the locked one is `cuda` too, and is never an extra."""
    found = specs.wanted(OLD, "cuda", "", ["10.0.130", "11.8.0", "10.0.130"])
    assert [version for _, version, _ in found] == ["11.8.0", "10.0.130"]
    folders = {"11.8.0": "store/a", "10.0.130": "store/b"}
    assert specs.links(OLD, folders) == {"cuda": "store/a", "cuda-11.8": "store/a", "cuda-10.0": "store/b"}
    with pytest.raises(UsageError, match=r"knows no CUDA 10\.9"):
        specs.row(OLD, "cuda", "10.9", "runfile")
    with pytest.raises(UsageError, match=r"cuda_extra has 10\.1 without quotes"):
        specs.wanted(OLD, "cuda", "", [10.1])  # type: ignore[list-item]


@pytest.mark.parametrize("removed", ["11.8.0", "11.8.89", "", 10.0, None, "9..9", "../x"])
def test_the_locked_toolkit_and_nonsense_are_not_removed(removed: Any) -> None:
    """Whoever wants all of it gone has to say all."""
    with pytest.raises(UsageError):
        specs.without(OLD, removed)


def test_what_removing_takes_out() -> None:
    """One link, or all that this project made for CUDA and cuDNN."""
    assert specs.without(OLD, "10.0.130") == ["cuda-10.0"]
    assert specs.without(OLD, "all") == ["cuda", "cuda-*", "cudnn"]
    assert specs.without({"cuda": None}, "10.0.130") == ["cuda-10.0"]


METADATA = """Metadata-Version: 2.1
Requires-Dist: nvidia-b==2.*; (sys_platform == 'linux') and extra == 'all'
Requires-Dist: nvidia-a-sanitizer-api==1.*; extra == 'all'
Requires-Dist: nvidia-w==1.*; sys_platform == 'win32' and extra == 'all'
Requires-Dist: nvidia-a==1.*; extra == 'all'
Requires-Dist: nvidia-a==1.*; extra == 'a'
"""


def tool() -> Any:
    """tools/lock_wheels.py as a module."""
    spec = importlib.util.spec_from_file_location("lock_wheels", ROOT / "tools" / "lock_wheels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_reads_what_a_toolkit_consists_of() -> None:
    """NVIDIA's own list for Linux, without what is left out; a version given instead must replace one."""
    made = tool()
    assert made.components(METADATA) == ["nvidia-a==1.*", "nvidia-b==2.*"]
    assert made.replaced(["nvidia-a==1.*", "nvidia-b==2.*"], ["nvidia-b==3"]) == ["nvidia-a==1.*", "nvidia-b==3"]
    with pytest.raises(made.LockingError, match="replaces nothing"):
        made.replaced(["nvidia-a==1.*"], ["nvidia-c==3"])


@pytest.mark.parametrize(
    "words",
    [["cudnn", "9.1.0"], ["cuda", "12.5.1", "--instead", "a==1"], ["cuda", "12.5.1", "--why", "so"]],
)
def test_the_tool_refuses_half_a_command(tmp_path: Path, words: List[str]) -> None:
    """Before anything is downloaded."""
    command = [sys.executable, str(ROOT / "tools" / "lock_wheels.py"), *words, "-o", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
