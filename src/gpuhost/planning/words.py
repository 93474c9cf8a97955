"""Components and cards of a plan in a few words, for whatever shows them. Pure; no terminal."""

from __future__ import annotations

from typing import Any, List, Mapping

from ..shapes.lock import Plan
from .candidates import NAMES


def came_from(name: str, part: Mapping[str, Any]) -> str:  # Json: the component that `name` says
    """Where a component comes from, in a few words."""
    if name == "driver":
        return (
            f"{part['package']}={part['package_version']}"
            if part["source"] == "archive"
            else "NVIDIA's .run, by sha256"
        )
    if name == "cuda":
        return "NVIDIA's runfile, by sha256" if part["source"] == "runfile" else "NVIDIA's wheels, by hash"
    if name == "cudnn":
        if part.get("source") == "wheels":
            return f"NVIDIA's wheel for CUDA {part['cuda']}, by hash"
        return f"NVIDIA's tarball for CUDA {part['cuda']}, by sha256"
    if name == "opencv":
        return (
            f"the wheel, Python {part['python']}"
            if part["source"] == "wheel"
            else f"built here from the {part['source']}, Python {part['python']}"
        )
    return f"the {part['package']} wheel, Python {part['python']}"


def remark(name: str, part: Mapping[str, Any]) -> str:  # Json: the component that `name` says
    """What else matters of a component: modules, architectures, how the code reaches the card."""
    if name == "driver":
        keyed = {"own-key": "; Secure Boot: a key of your own", "signed": "; signed for Secure Boot"}.get(
            part["secure_boot"] or "", ""
        )
        made = "signed, prebuilt" if part["modules_from"] == "signed" else "built by DKMS"
        return f"{part['kernel_modules']} modules, {made}{keyed}"
    if name == "opencv" and part["cuda_arch_bin"]:
        return f"CUDA_ARCH_BIN={';'.join(part['cuda_arch_bin'])}"
    if name == "tensorflow":
        told = [f"{cc}: {how}" for cc, how in part["code"].items()]
        return ", ".join([*told, *own_toolkit(part)])
    return ""


def own_toolkit(part: Mapping[str, Any]) -> List[str]:  # Json: the component that `name` says
    """What TensorFlow has of its own in its environment; a lock of an earlier release knows of none."""
    own = [(name, part.get(name)) for name in ("cuda", "cudnn")]
    return [f"{NAMES[name]} {one['version']} of its own" for name, one in own if one]


def cards(plan: Plan) -> str:
    """The plan's cards in one line."""
    rows = [
        f"{g['name'] or g['chip'] or 'a card'} ({g['pci_id'] or 'no PCI id'}, {g['compute_capability']})"
        for g in plan["gpus"]
    ]
    return "; ".join(rows) or "no NVIDIA card"
