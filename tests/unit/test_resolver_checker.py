"""The independent judge, seen red: each constraint is broken once in a sound plan, and named."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, Tuple

import pytest

from gpuhost.planning import plan

from . import asking, independent
from .independent import Ask, Card

FACTS = independent.read()
UBUNTU, DEBIAN = "ubuntu-18.04", "debian-12"
Json = Dict[str, Any]


def card(device: str) -> Card:
    """A card by its id."""
    return independent.card_of(FACTS, device)


P2000, RTX_3090, K80, H200 = card("1c30"), card("2204"), card("102d"), card("2335")


def plan_for(ask: Ask) -> Json:
    """The resolver's plan, which the judge finds sound."""
    found = plan.make(asking.resolver(), asking.request_of(ask))
    assert independent.check(FACTS, ask, found) == []
    return found


def package(name: str) -> Callable[[Json], None]:
    """Put an archive driver of 18.04 into a plan, told truly."""
    row = next(r for r in FACTS["drivers"]["archives"][UBUNTU] if r["package"] == name)

    def change(found: Json) -> None:
        keys = ("package", "package_version", "version", "file", "sha256", "branch")
        found["driver"].update({k: row[k] for k in keys})

    return change


def cudnn(version: str, cuda: str) -> Callable[[Json], None]:
    """Put a cuDNN into a plan, told truly."""
    row = next(r for r in FACTS["cudnn"]["packages"] if (r["version"], r["cuda"]) == (version, cuda))
    return lambda found: found["cudnn"].update({k: row[k] for k in ("version", "cuda", "file", "url", "sha256")})


def tensorflow(version: str, python: str) -> Callable[[Json], None]:
    """Put a TensorFlow wheel into a plan, told truly."""
    release = next(r for r in FACTS["tensorflow"]["releases"] if r["version"] == version)
    wheel = next(w for w in release["wheels"] if w["tag"] == "cp" + python.replace(".", ""))
    told = {"version": version, "python": python, "file": wheel["file"], "sha256": wheel["sha256"]}
    return lambda found: found["tensorflow"].update(told, environment=None)


def cuda(version: str) -> Callable[[Json], None]:
    """Put a toolkit into a plan, told truly."""
    row = next(r for r in FACTS["cuda"]["releases"] if r["version"] == version)
    return lambda found: found["cuda"].update(row["runfile"], version=version)


def part(component: str, **values: Any) -> Callable[[Json], None]:
    """Change values of one part."""
    return lambda found: found[component].update(values)


ONE = Ask(UBUNTU, (P2000,))
#: What is broken -> (the question, the damage, the beginning of a fault that must be named).
DAMAGE: Dict[str, Tuple[Ask, Callable[[Json], None], str]] = {
    "old driver": (ONE, package("nvidia-driver-390"), "driver and cuda"),
    "other platform": (
        Ask(DEBIAN, (P2000,)),
        package("nvidia-driver-525"),
        "driver: the platform has no such",
    ),
    "unclaimed": (
        Ask(UBUNTU, (H200,)),
        part("driver", version="535.98", variant="full"),
        "driver: the branch is older than",
    ),
    "other generation": (
        Ask(UBUNTU, (K80,)),
        package("nvidia-driver-525"),
        "driver: the branch does not serve",
    ),
    "not claimed": (
        Ask(UBUNTU, (card("1eb8"),)),
        package("nvidia-driver-525"),
        "driver: the package does not claim",
    ),
    "PTX": (Ask(UBUNTU, (RTX_3090,)), package("nvidia-driver-470"), "driver and PTX"),
    "kernel": (ONE._replace(kernel="3.2.0"), lambda found: None, "driver: the kernel is too old"),
    "toolkit": (ONE, cuda("12.2.0"), "cuda: not for this platform"),
    "old toolkit": (Ask(UBUNTU, (RTX_3090,)), cuda("10.2.89"), "cuda: nvcc makes no code"),
    "host compiler": (Ask(DEBIAN, (P2000,)), cuda("11.2.0"), "cuda: no host compiler"),
    "untested cuda": (ONE, cuda("11.2.0"), "tensorflow and cuda"),
    "other cudnn": (ONE, cudnn("8.6.0.163", "11.8"), ""),
    "cudnn for 12": (ONE, cudnn("8.9.7.29", "12"), "cudnn and cuda"),
    "old cudnn": (ONE, cudnn("8.5.0.96", "11.7"), "tensorflow and cudnn"),
    "newer cudnn": (Ask(UBUNTU, (K80,)), cudnn("8.9.7.29", "11"), "cudnn: no code"),
    "no such python": (ONE, tensorflow("2.14.1", "3.9"), "tensorflow: the archive has no such Python"),
    "no code": (Ask(UBUNTU, (card("1380"),)), tensorflow("2.3.4", "3.8"), "tensorflow: no code"),
    "no AVX": (ONE._replace(avx=False), lambda found: None, "tensorflow: needs AVX"),
    "no importer": (ONE, part("opencv", version="5.0.0"), "opencv: no Darknet importer"),
    "floor": (
        Ask(UBUNTU, (card("1380"),)),
        part("opencv", version="4.2.0"),
        "opencv: a card is below the floor",
    ),
    "no backend": (ONE, part("opencv", version="4.1.2"), "opencv: no CUDA backend"),
    "unsealed sources": (ONE, part("opencv", version="4.3.0"), "opencv: sources without a checksum"),
    "opencv and cuda": (ONE, part("opencv", version="4.4.0"), "opencv and cuda"),
    "opencv and cudnn": (ONE, part("opencv", version="4.4.0"), "opencv and cudnn"),
    "wrong target": (ONE, part("opencv", cuda_arch_bin=["7.0"]), "opencv: built for"),
    "target left out": (
        Ask(UBUNTU, (P2000, RTX_3090)),
        part("opencv", cuda_arch_bin=["6.1"]),
        "opencv: built for",
    ),
    "targets out of order": (
        Ask(UBUNTU, (P2000, RTX_3090)),
        part("opencv", cuda_arch_bin=["8.6", "6.1"]),
        "opencv: built for",
    ),
    "checksum": (ONE, part("cudnn", sha256="0" * 64), "cudnn: sha256 differs"),
    "driver checksum": (ONE, part("driver", sha256="0" * 64), "driver: sha256 differs"),
    "cuda url": (ONE, part("cuda", url="https://example.org/cuda.run"), "cuda: url differs"),
    "wheel": (ONE, part("tensorflow", file="tensorflow.whl"), "tensorflow: file differs"),
    "open modules": (ONE, part("driver", kernel_modules="open"), "driver: the wrong flavour"),
    "unsigned": (ONE, part("driver", modules_from="dkms"), "driver: modules from"),
    "Secure Boot": (
        ONE._replace(secure_boot=True),
        part("driver", secure_boot="own-key"),
        "driver: Secure Boot",
    ),
    "demand": (
        ONE._replace(wanted=(("opencv", "4.8"),)),
        part("opencv", version="4.9.0"),
        "opencv: not what",
    ),
    "bound": (ONE._replace(wanted=(("cuda", "<12"),)), cuda("12.0.0"), "cuda: not what"),
    "CPU with CUDA": (Ask(UBUNTU), lambda found: found.update(cuda={}), "a CPU plan names"),
    "CPU lock": (
        Ask(UBUNTU),
        part("opencv", environment="opencv_cuda-opencv-4.14.0.94-cp311"),
        "opencv: the",
    ),
    "other lock": (
        Ask(UBUNTU),
        part("tensorflow", environment="dl4cv-tensorflow-2.4.4-cp38"),
        "tensorflow: the lock pins another file",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_seen(case: str) -> None:
    """The judge names the fault (the one case without a fault shows that telling the truth again changes
    nothing)."""
    ask, damage, fault = DAMAGE[case]
    sound = plan_for(ask._replace(kernel=None if case == "kernel" else ask.kernel, avx=None))
    broken = copy.deepcopy(sound)
    damage(broken)
    faults = independent.check(FACTS, ask, broken)
    assert any(f.startswith(fault) for f in faults) if fault else faults == []


def test_a_refusal_is_no_plan() -> None:
    """The judge does not take a refusal for a sound plan."""
    ask = Ask(UBUNTU, (card("2b85"),))
    assert independent.check(FACTS, ask, plan.make(asking.resolver(), asking.request_of(ask))) == ["not a plan"]


@pytest.mark.parametrize(
    ("text", "value", "fits"),
    [
        ("4.2", "4.2.0", True),
        ("4.2", "4.20.0", False),
        ("4.2.*", "4.2.1", True),
        (">=11.2,<12", "11.8.0", True),
        (">=11.2,<12", "12.0.0", False),
        ("~=11.2", "11.8.0", True),
        ("!=2.13.1", "2.13.1", False),
    ],
)
def test_demands_are_read(text: str, value: str, fits: bool) -> None:
    """The judge reads specifiers by itself, and as the design says: a bare version is its series."""
    ask = Ask(UBUNTU, wanted=(("cuda", text),))
    assert independent.demanded(ask, "cuda", value) is fits
