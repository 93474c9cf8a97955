"""Proving an installed wheel: what a fresh process and the library's own bytes say, checked against the plan."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from .. import strict_json
from ..host import commands
from ..types import Json
from . import code_in, configured, proving
from .archs import must_cover
from .commands import ask as answered
from .commands import environment
from .failures import failure

#: The largest difference to the CPU's answer, relative to the largest value: FP32 sums in another order, and
#: FP16 has a mantissa of 11 bits. Measured on a card: docs/reference/opencv-build.md.
RELATIVE = {"fp32": 1e-3, "fp16": 2e-2}


class Proven(NamedTuple):
    """What held, and what could not be asked, in words."""

    held: List[str]
    unproven: List[str]


def ask(python: str, limit_s: float = 900) -> Json:
    """The answer of a fresh process; one that ends badly is reported with its last words."""
    text = Path(proving.__file__).read_text(encoding="utf-8")
    try:
        _, said, complaint = commands.bounded([python, "-I", "-B", "-c", text], limit_s, env=environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        said, complaint = "", str(error)
    except commands.TooMuch:
        said, complaint = "", "it says too much"
    for line in said.splitlines():
        if line.startswith(proving.MARK):
            try:
                return dict(strict_json.loads(line[len(proving.MARK) :]))
            except (ValueError, TypeError) as error:
                complaint = f"its answer cannot be read: {error}"
    last = " ".join(complaint.strip().splitlines()[-3:]) or "it ended without a word"
    raise failure("B-import-failed", f"cv2 of {python} does not work: {last}", "Read the whole message: run it there.")


def judge(answer: Json, facts: Json, site: Path, code: Dict[str, int], cards: Sequence[str]) -> Proven:
    """Hold an answer against the build's facts; `site` is the environment's site-packages, `code` what the ELF holds,
    `cards` the capabilities of the cards that are there. The first thing that does not hold is an error.
    """
    ours = site / "cv2"
    held = shadow(answer, ours)
    held += same_build(answer, facts)
    planned = set(facts["code"])
    if set(code) != planned:
        raise failure(
            "B-wrong-architectures",
            f"The library holds code for {', '.join(sorted(code)) or 'no card'}; "
            f"planned was {', '.join(sorted(planned))}.",
            "Build again: --fresh",
        )
    held.append(f"the library holds code for exactly {', '.join(f'{c} ({n} times)' for c, n in sorted(code.items()))}")
    if answer.get("cpu_shape") != [1, 32, 32, 32]:
        raise failure("B-import-failed", f"The DNN module answers {answer.get('cpu_shape')}.", "Build again: --fresh")
    held.append("a small Darknet network runs on the CPU")
    unproven = list(answer["unasked"])
    if answer["devices"] < 1:
        if cards:
            raise failure(
                "D29-no-device",
                f"There is a card of capability {', '.join(cards)}, and cv2 counts {answer['devices']} devices"
                + (" (-1: no driver, or one that is too old)." if answer["devices"] < 0 else "."),
                "See to the driver first: ./run pytest verify/ names what is wrong with it.",
            )
        unproven.append("no card here: not proved are the device count, a GpuMat round trip and a network on CUDA")
        return Proven(held, unproven)
    must_cover(code, answer.get("capabilities", []), "The library")
    if answer.get("failed"):
        raise failure(
            "D29-no-device", f"OpenCV fails on the card: {answer['failed']}", "Look at dmesg for Xid and for NVRM."
        )
    return Proven(held + on_card(answer), unproven)


def shadow(answer: Json, ours: Path) -> List[str]:
    """The cv2 that is imported is ours, and no other is installed that could take its place."""
    if ours.resolve() not in Path(answer["file"]).parents:
        raise failure(
            "D29-shadowed",
            f"'import cv2' gives {answer['file']}, the wheel's is {ours}.",
            f"Remove the other one: pip uninstall opencv-python, or delete {Path(answer['file']).parent}",
        )
    others = [p for p in answer["every_cv2"] if Path(p) != ours.resolve()]
    more = [
        name for name in answer.get("distributions", []) if name.lower().replace("_", "-") != "opencv-contrib-python"
    ]
    if others or more:
        raise failure(
            "D29-shadowed",
            f"Besides the wheel's cv2 there is another: {', '.join([*others, *more])}.",
            f"Remove it: pip uninstall {' '.join(more) if more else 'the package it belongs to'}",
        )
    return [f"import cv2 gives {answer['file']}, and there is no other"]


def same_build(answer: Json, facts: Json) -> List[str]:
    """The library's own build information says what was planned."""
    # getBuildInformation is the summary without CMake's dashes before each line.
    decided = configured.parse([f"-- {line}" for line in answer["build"].strip("\n").splitlines()])
    for name in ("NVIDIA CUDA", "NVIDIA GPU arch", "NVIDIA PTX archs", "cuDNN"):
        said, planned = decided.lines.get(name, ""), facts["summary"].get(name, "")
        if said != planned:
            identity = "D18-no-dnn-cuda" if not said.startswith("YES") and name != "NVIDIA GPU arch" else None
            raise failure(
                identity or "B-wrong-architectures",
                f"cv2's build information says '{name}: {said}', the build's facts '{planned}'.",
                "Build again: --fresh",
            )
    return [f"its build information says {name}: {facts['summary'][name]}" for name in ("NVIDIA CUDA", "cuDNN")]


def on_card(answer: Json) -> List[str]:
    """What a card shows: memory comes back as it was, and a network's answer is close to, yet not, the CPU's."""
    if answer.get("round_trip") is not True:
        raise failure("D29-no-device", "A picture sent to the card came back changed.", "Look at dmesg for Xid.")
    held = [f"{answer['devices']} device(s), a GpuMat comes back as it was sent"]
    for name, limit in RELATIVE.items():
        row: Optional[Json] = answer.get(name)
        if row is None:
            continue
        if row["identical"]:
            raise failure(
                "D18-ran-on-cpu",
                f"A network asked to run on CUDA ({name}) gave exactly the CPU's answer: it did not run there.",
                "Look at OpenCV's warnings: OPENCV_LOG_LEVEL=DEBUG.",
            )
        if not row["relative"] <= limit:
            raise failure(
                "B-wrong-architectures",
                f"A network on CUDA ({name}) is {row['relative']:.2g} away from the CPU's answer.",
                "Build again: --fresh",
            )
        held.append(f"a network on CUDA ({name}) is {row['relative']:.1g} away from the CPU's answer, not equal")
    return held


def installed(python: str) -> Path:
    """The site-packages folder of an environment."""
    said = answered([python, "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['platlib'])"]).strip()
    if not said:
        raise failure("B-usage", f"{python} is no Python that works.", "Name the environment's: --into DIR")
    return Path(said)


def prove(python: str, facts: Json, cards: Sequence[str]) -> Proven:
    """Return what is proved of the wheel that is installed for `python`.

    Its version and modules are compared with `facts`, the GPU code in its library with `cards`.
    """
    site = installed(python)
    modules = sorted((site / "cv2").glob("cv2*.so"))
    answer = ask(python)
    code = code_in.read(modules[0]).code if modules else {}
    return judge(answer, facts, site, code, cards)
