"""What the roles install, in one dictionary from a lock: whole for every plan, one refused part leaves the rest."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from gpuhost.errors import UsageError
from gpuhost.planning import contents, specs, toolkits
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

from ..locks import of

WHEEL = {
    "name": "opencv-contrib-python",
    "version": "4.11.0.86+cuda125.sm75.0",
    "kind": "wheel",
    "file": "w.whl",
    "size": 1,
    "sha256": "0" * 64,
    "path": "/opt/gpuhost/cache/wheels/opencv/0/w.whl",
}
PARTS = ("cuda", "cudnn", "opencv", "tensorflow")


def lock_for(platform: str, *cards: str) -> Dict[str, Any]:
    """A lock as the resolver makes it."""
    return of(make(resolver(), Request(platform, tuple(parse(shipped(), card) for card in cards))))


CPU, P2000, RTX = lock_for("debian-12"), lock_for("ubuntu-18.04", "quadro p2000"), lock_for("debian-12", "rtx 2080")
LOCKS = {"cpu": CPU, "p2000": P2000, "rtx": RTX}


@pytest.mark.parametrize("name", LOCKS)
def test_a_planned_lock_has_no_problem(name: str) -> None:
    """Every role finds what it needs, and every link leads to the folder that its installation makes."""
    found = specs.of_lock(LOCKS[name])
    assert {part: found[part]["problem"] for part in PARTS} == dict.fromkeys(PARTS, "")
    for one in [*found["cuda"]["toolkits"], found["cudnn"]["toolkit"]]:
        if one is not None:
            spec = one["spec"]
            assert one["folder"] == f"store/{spec['name']}-{spec['version']}-{spec['digest']}"
    for part in ("opencv", "tensorflow"):
        environment = found[part]["environment"]
        lock = environment["lock"]
        assert environment["folder"] == f"store/{environment['name']}-{lock['version']}-{lock['digest']}"
        assert environment["python"] == f"/usr/bin/python{LOCKS[name]['plan'][part]['python']}"
        assert any(package.endswith("-venv") for package in environment["packages"])


def test_a_host_without_a_card() -> None:
    """No toolkit, no link of one, and what a lock with a card had is taken out of the generation."""
    found = specs.of_lock(CPU)
    assert found["cuda"] == {"problem": "", "toolkits": [], "links": {}}
    assert found["cudnn"] == {"problem": "", "toolkit": None, "links": {}}
    assert found["driver"] == {"file": None}
    assert found["without"] == ["cuda", "cuda-*", "cudnn"] and specs.of_lock(RTX)["without"] == []
    assert "tools" not in found["opencv"]
    libraries = shipped().platforms["platforms"]["debian-12"]["opencv_wheel_libraries"]
    assert found["opencv"]["environment"]["packages"] == ["python3", "python3-venv", *libraries]


def test_toolkits_and_their_links() -> None:
    """The locked one first and as `cuda`, others under their series; each with what has to be there before it."""
    more = contents.added(P2000, contents.Options(cuda_extra=["10.0.130"], cudnn_source="wheels"))
    found = specs.of_lock(more, extra=["10.0.130"])
    locked, other = found["cuda"]["toolkits"]
    assert (locked["spec"]["version"], other["spec"]["version"]) == (P2000["plan"]["cuda"]["version"], "10.0.130")
    series = toolkits.series(locked["spec"]["version"])
    assert found["cuda"]["links"] == {"cuda": locked["folder"], series: locked["folder"], "cuda-10.0": other["folder"]}
    assert found["cudnn"]["links"] == {"cudnn": found["cudnn"]["toolkit"]["folder"]}
    assert locked["packages"] == ["python3.8", "python3.8-venv", "libxml2"] and locked["python"] == "/usr/bin/python3.8"
    assert other["packages"][-1] == "libncurses5"
    assert specs.of_lock(more, source="wheels")["cudnn"]["toolkit"]["spec"]["kind"] == "wheels"


@pytest.mark.parametrize(
    ("options", "part", "words"),
    [
        ({"source": "deb"}, "cuda", "cuda_source is 'deb'"),
        ({"extra": ["10.0.130"]}, "cuda", "The lock has no CUDA 10.0.130 from NVIDIA's installer"),
        ({"source": "wheels"}, "cudnn", "from NVIDIA's wheels"),
        ({"extra": [10.1]}, "cuda", "cuda_extra has 10.1 without quotes"),
    ],
)
def test_what_cannot_be_had_is_that_parts_problem(options: Dict[str, Any], part: str, words: str) -> None:
    """With what to do; the parts that do not rest on it are complete."""
    found = specs.of_lock(P2000, **options)
    assert words in found[part]["problem"] and "toolkits" not in found[part]
    assert found["tensorflow"]["problem"] == found["opencv"]["problem"] == ""


def test_a_tensorflow_without_a_locked_environment_is_refused() -> None:
    """With the tool that makes one; the rest of the stack can be installed."""
    found = specs.of_lock(of({**CPU["plan"], "tensorflow": {**CPU["plan"]["tensorflow"], "environment": None}}))
    assert "tools/lock_environment.py" in found["tensorflow"]["problem"]
    assert found["opencv"]["problem"] == ""


def test_an_opencv_that_is_built() -> None:
    """Its tools, the builder's command with them, and the environment that takes the wheel in the index's place."""
    builder = {"root": "/r", "folder": "store/b", "cuda": "/r/c", "cudnn": "/r/n", "options": ["--jobs", 2]}
    found = specs.of_lock(RTX, builder=builder)["opencv"]
    assert found["tools"]["name"] == "opencv_build" and found["tools"]["packages"][-1] == "ccache"
    assert found["command"][0] == f"/r/{found['tools']['folder']}/bin/python"
    assert found["command"][4:7] == ["/r/store/b", "--recipe", "/r/store/b/recipe.json"]
    assert found["command"][-6:] == ["--cuda", "/r/c", "--cudnn", "/r/n", "--jobs", "2"]
    assert "command" not in specs.of_lock(RTX)["opencv"]
    built = specs.of_lock(RTX, wheel=WHEEL)["opencv"]
    assert built["environment"]["folder"].startswith(f"store/opencv_cuda-{WHEEL['version']}-")
    assert built["environment"]["folder"] != found["environment"]["folder"]
    assert built["files"] == [WHEEL["path"], "/opt/gpuhost/cache/wheels/opencv/0/wheel.json"]


def test_the_engines() -> None:
    """Another environment in the same place, once the lock has it; else a refusal."""
    assert "no environment opencv_cuda_engines" in specs.of_lock(CPU, engines=True)["opencv"]["problem"]
    more = contents.added(CPU, contents.Options(opencv_engines=True))
    found = specs.of_lock(more, engines=True)["opencv"]["environment"]
    assert found["folder"].startswith("store/opencv_cuda-")
    assert found["folder"] != specs.of_lock(more)["opencv"]["environment"]["folder"]


def test_the_drivers_installer_comes_with_the_size_of_the_lock() -> None:
    """The size is the cap of what is fetched; one that the catalog does not know is left out."""
    driver = {"url": "https://a.example/x/N-1.run", "sha256": "0" * 64, "size": 5, "version": "1", "source": "runfile"}
    file = {"name": "N-1.run", "url": driver["url"], "sha256": "0" * 64}
    assert specs.installer(driver) == {**file, "size": 5}
    assert specs.installer({**driver, "size": None}) == file
    assert specs.installer({**driver, "source": "archive"}) is None


@pytest.mark.parametrize(
    ("version", "without", "names", "linker"),
    [
        ("10.0.130", ["cuda-10.0"], ["cuda"], "linked"),
        ("all", ["cuda", "cuda-*", "cudnn"], ["cuda", "cudnn"], "unlinked"),
    ],
)
def test_removing(version: str, without: List[str], names: List[str], linker: str) -> None:
    """One version, or all that this project made for CUDA and cuDNN; also on a host whose lock is gone."""
    for lock in (P2000, {}):
        removal = specs.of_lock(lock, remove=version)["removal"]
        assert removal == {"without": without, "names": names, "linker": linker}
    with pytest.raises(UsageError):
        specs.of_lock({}, remove="")
    assert "removal" not in specs.of_lock(P2000)


def test_a_host_without_a_lock_installs_nothing() -> None:
    """The roles that every host needs say what to type."""
    found = specs.of_lock({})
    assert found["cuda"]["toolkits"] == [] and found["driver"] == {"file": None}
    for part in ("opencv", "tensorflow"):
        assert found[part]["problem"].startswith("The host has no lock.")


def test_the_packages_of_a_python() -> None:
    """With the venv module, and what is asked for besides."""
    assert specs.python_packages(P2000, "3.8") == ["python3.8", "python3.8-venv"]
    assert specs.python_packages(CPU, "3.11", ["libgl1"]) == ["python3", "python3-venv", "libgl1"]
