"""Healthy hosts as verify/ collects them, for the tests to break one thing at a time."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any, Dict, List

from gpuhost.checks import benchmark as checks_benchmark
from gpuhost.checks.base import Result
from gpuhost.diagnoses import verdict as checks
from gpuhost.planning import lock, plan
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver
from gpuhost.verification.collect import Options
from gpuhost.verification.expected import environments, expected, sonames

from ..example_hosts import observed

DIGEST = "0123456789ab"
Json = Dict[str, Any]


def bench_report(model: str, device: str) -> Json:
    """What the detector's benchmark reports for one model, as far as verify/ reads it."""
    each = {"mean": 0.2, "mean_ci95": [0.19, 0.21], "p50": 0.2, "p90": 0.22}
    shares = {"read": 0.01, "decode": 0.05, "blob": 0.04, "forward": 0.85, "post": 0.05}
    entry = {
        "model": model,
        "size": 416,
        "device": device,
        "complete": True,
        "weights": {"kind": "synthetic", "sha256": "a" * 64},
        "gate": {"rel2": [1e-6, 2e-6], "passed": True},
        "headline": {"photos": 192, "total_s": 38.4, "mean_s": 0.2},
        "per_photo_s": each,
        "photos_per_s": 5.0,
        "load_s": 0.5,
        "first_forward_s": 0.4,
        "stages_s": {name: {"mean": 0.2 * share} for name, share in shares.items()},
    }
    photos = {"kind": "made", "count": 192}
    return {"stopped_by": None, "environment": {"opencv": "4.10.0"}, "photos": photos, "models": [entry]}


#: The driver and its kernel as dpkg has them on a host with the signed modules, versions as in the catalog.
STACK = {
    "libnvidia-compute-525": "525.105.17-0ubuntu0.18.04.1",
    "linux-generic": "4.15.0.213.196",
    "linux-image-4.15.0-213-generic": "4.15.0-213.224",
    "linux-modules-nvidia-525-4.15.0-213-generic": "4.15.0-213.224",
    "nvidia-driver-525": "525.105.17-0ubuntu0.18.04.1",
}


def driver(observation: Json, planned: Json) -> Json:
    """What the probe reads of a driver that is exactly the planned one, with the archive's signed modules."""
    kernel = observation["kernel"]["boots"]
    assert (kernel, planned["branch"]) == ("4.15.0-213-generic", "525")
    return {
        "kernel": kernel,
        "module": {
            "path": f"/lib/modules/{kernel}/kernel/nvidia-525/nvidia.ko",
            "version": planned["version"],
            "signed": True,
            "signer": "Canonical Ltd. Kernel Module Signing",
            "open": False,
        },
        "library": planned["version"],
        "headers": False,
        "nouveau": {"blacklisted": True, "in_initramfs": False, "loaded": False},
        "kept_out": [],
        "damaged": [],
        "dkms": [],
        "key": {"made": False, "enrolled": None},
        "record": {
            "schema": 1,
            "source": planned["source"],
            "version": planned["version"],
            "branch": planned["branch"],
            "kernel": kernel,
            "modules_from": planned["modules_from"],
            "packages": {name: version for name, version in STACK.items() if "nvidia" in name},
            "debs": {},
            "plan": DIGEST,
        },
    }


def guard(kernel: str) -> Json:
    """What the probe reads of a guard that covers all of it."""
    record = {"schema": 1, "held": sorted(STACK), "pins": dict(STACK), "blacklist": sorted(STACK), "kernel": kernel}
    return {
        "record": record,
        "held": sorted(STACK),
        "stack": dict(STACK),
        "pins": dict(STACK),
        "blacklist": sorted(STACK),
    }


def signs(observation: Json) -> Json:
    """What the probe reads of nodes, memory and the kernel's log where nothing is wrong; no nodes without a card."""
    count = len(observation["gpus"])
    return {
        "kernel_log": [
            "nvidia: loading out-of-tree module taints kernel.",
            "NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
        ],
        "nodes": ["nvidia-uvm", *(f"nvidia{number}" for number in range(count)), "nvidiactl"] if count else [],
        "closed": {},
        "uvm": {"loaded": bool(count), "on_demand": False},
        "mig": {},
        "free_mib": {card["pci_address"]: 1900 for card in observation["gpus"]} if count else None,
    }


def build_information(locked: Json) -> List[str]:
    """The lines of OpenCV's build information that the probe keeps, for a build after the lock."""
    figures = " ".join(g["compute_capability"].replace(".", "") for g in locked["plan"]["gpus"])
    return [
        "NVIDIA CUDA:                   YES (ver 11.8, CUFFT CUBLAS)",
        f"NVIDIA GPU arch:             {figures}",
        "NVIDIA PTX archs:",
        "cuDNN:                         YES (ver 8.6.0)",
    ]


def libraries(locked: Json) -> Json:
    """Every library that TensorFlow names loads, and cuDNN tells its version."""
    found: Json = {name: {"error": None} for name in sonames(locked)}
    for name in found:
        if name.startswith("libcudnn.so"):
            cudnn = locked["plan"]["tensorflow"].get("cudnn") or locked["plan"]["cudnn"]
            found[name]["version"] = cudnn_figure(cudnn["version"])
    return found


def mapped(locked: Json) -> List[str]:
    """The libraries that TensorFlow has loaded: the host's, or those of its own environment."""
    if (locked["plan"]["tensorflow"] or {}).get("cuda"):
        return ["/opt/gpuhost/store/dl4cv/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9"]
    return [f"/opt/gpuhost/store/{name}-1-{DIGEST}/lib/x.so" for name in ("cuda", "cudnn")]


def cudnn_figure(version: str) -> int:
    """The version of cuDNN as its library tells it: 8600 for 8.6.0, 91002 for 9.10.2."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return major * (1000 if major < 9 else 10000) + minor * 100 + patch


#: What the probe reads of driver and guard where there is neither.
NO_DRIVER: Json = {
    "kernel": None,
    "module": None,
    "library": None,
    "headers": False,
    "nouveau": {"blacklisted": False, "in_initramfs": None, "loaded": False},
    "kept_out": [],
    "damaged": [],
    "dkms": [],
    "key": {"made": False, "enrolled": None},
    "record": None,
}
NO_GUARD: Json = {"record": None, "held": [], "stack": {}, "pins": {}, "blacklist": []}


def host(observation: Json, locked: Json) -> Json:
    """What is collected from a host that is exactly what its lock says."""
    held = environments(locked, {})
    links = {
        f"venvs/{name}": {"target": f"store/{name}-1-{digest}", "digest": digest}
        for name, digest in ((name, wanted["digest"] or DIGEST) for name, wanted in held.items())
    }
    if locked["plan"]["opencv"] is not None:
        links["yolo"] = {"target": f"store/yolo-1-{DIGEST}", "digest": DIGEST}
    gpu = bool(locked["plan"]["gpus"])
    for name in ("cuda", "cudnn") if gpu else ():
        links[name] = {"target": f"store/{name}-1-{DIGEST}", "digest": DIGEST}
    device = checks_benchmark.device(locked)
    packages = {
        name: {p: [v.replace(".*", ".sm61.0123abcd")] for p, v in wanted["packages"].items()}
        for name, wanted in held.items()
    }
    opencv = {
        "version": "4.10.0",
        "file": "/opt/gpuhost/store/opencv_cuda/lib/cv2.so",
        "blur_error": 1e-5,
        "halve_error": 0.0,
        "build": build_information(locked) if gpu else [],
        "cuda_devices": 1 if gpu else 0,
        "cuda_error": None,
        "mapped": [f"/opt/gpuhost/store/{name}-1-{DIGEST}/lib/x.so" for name in ("cuda", "cudnn")] if gpu else [],
    }
    tensorflow = {
        "version": "2.13.1",
        "conv_error": 1e-6,
        "product_error": 1e-6,
        "mapped": mapped(locked) if gpu else [],
        "gpus": ["/physical_device:GPU:0"] if gpu else [],
        "device": "/job:localhost/replica:0/task:0/device:" + ("GPU:0" if gpu else "CPU:0"),
    }
    part = {name: (locked["plan"][name] or {"version": None})["version"] for name in ("cuda", "cudnn")}
    installed = {
        "root": "/opt/gpuhost",
        "generation": 3,
        "stack": copy.deepcopy(locked),
        "links": links,
        "cuda": part["cuda"],
        "nvcc": ".".join(part["cuda"].split(".")[:2]) if gpu else None,
        "cudnn": ".".join(part["cudnn"].split(".")[:3]) if gpu else None,
        "driver": driver(observation, locked["plan"]["driver"]) if gpu else dict(NO_DRIVER),
        "guard": guard(observation["kernel"]["boots"]) if gpu else dict(NO_GUARD),
        "signs": signs(observation),
        "surroundings": {"place": "machine", "names": ["ubuntu"], "bus": 20, "dxg": False, "cdi": {}},
        "problems": [],
        "rights": {"wrong": [], "more": 0, "whole": True},
    }
    if gpu:
        installed["fixes"] = {"unknown": "", "offered": None, "automatic": False}
    machine = {"observation": observation, "installed": installed}
    probed: Json = {
        "opencv_cuda": {
            "packages": packages.get("opencv_cuda"),
            "prefix": "/opt/gpuhost/store/opencv_cuda",
            "module": "/opt/gpuhost/store/opencv_cuda/lib/cv2.so",
            "libraries": {},
            "said": [],
            "computed": opencv,
        },
        "dl4cv": {
            "packages": packages.get("dl4cv"),
            "prefix": "/opt/gpuhost/store/dl4cv",
            "module": "/opt/gpuhost/store/dl4cv/lib/tensorflow/__init__.py",
            "libraries": libraries(locked),
            "said": [],
            "computed": tensorflow,
        },
    }
    return {
        "host": "box",
        "options": {name: value for name, value in asdict(Options()).items() if name != "root"},
        "earlier": None,
        "lock": locked,
        "lock_error": None,
        "machine": machine,
        "expected": expected(locked, machine),
        "environments": {name: row for name, row in probed.items() if name in held},
        "benchmark": {model: bench_report(model, device) for model in checks_benchmark.MODELS},
    }


def cpu_host() -> Json:
    """A healthy Debian 12 without a card."""
    observation = observed("debian12-no-gpu")
    found = resolver()
    return host(observation, lock.make("box", observation, plan.make(found, request_of(found, observation, {}))))


#: Where TensorFlow does not say which CUDA is taken, a person has to.
KEPT = {"cuda": "11.8", "cudnn": "8.6"}


def gpu_host(*without: str) -> Json:
    """A healthy Ubuntu 18.04 with a GTX 750 Ti: made with another driver, so the lock's is put in its place. `without`
    are the parts that its lock leaves out.
    """
    observation = observed("ubuntu1804-gtx750ti-driver470")
    found = resolver()
    asked = request_of(found, observation, dict(KEPT) if without else {}, without=frozenset(without))
    locked = lock.make("box", observation, plan.make(found, asked))
    observation["nvidia"]["module_version"] = locked["plan"]["driver"]["version"]
    # Driver 470 does not know this column, the lock's does.
    observation["gpus"][0]["compute_capability"] = locked["plan"]["gpus"][0]["compute_capability"]
    return host(observation, locked)


def judged(seen: Json) -> Dict[str, Result]:
    """The results of all checks on what was collected, by id, in the order that verify/ makes them.

    What is expected is computed again, because a test may have changed the lock, the host's record of it, or the links.
    """
    seen = {**seen, "expected": expected(seen["lock"], seen["machine"])}
    results: Dict[str, Result] = {}
    for check in checks.CHECKS:
        results[check.id] = checks.judge(check, seen, results)
    return results


def with_status(results: Dict[str, Result], status: str) -> List[str]:
    """The ids of the results with this status."""
    return [name for name, found in results.items() if found.status == status]


def alone_host() -> Json:
    """A host with driver, CUDA and cuDNN alone, where CUDA itself is asked and the card computes."""
    seen = gpu_host("opencv", "tensorflow")
    return {**seen, "cuda": cuda_answer(seen["machine"]["observation"])}


def cuda_answer(observation: Json) -> Json:
    """What CUDA says where it works on every card."""
    devices = [{"name": c["name"], "capability": c["compute_capability"], "error": None} for c in observation["gpus"]]
    success = {"code": 0, "name": "CUDA_SUCCESS", "text": "no error"}
    return {
        "library": "/usr/lib/x86_64-linux-gnu/libcuda.so.525.105.17",
        "found_as": None,
        "error": None,
        "ended": None,
        "init": success,
        "counted": success,
        "version": "12.0",
        "count": len(devices),
        "devices": devices,
        "variables": {},
    }


#: VirtualBox as Ubuntu 18.04 has it.
BESIDE = "5.2.42-dfsg-0~ubuntu1.18.04.1"


def beside_host() -> Json:
    """A host with a card that has VirtualBox as well, on which every check passes."""
    seen = gpu_host()
    found = seen["machine"]["installed"]
    kernel, path = found["driver"]["kernel"], f"/lib/modules/{found['driver']['kernel']}/updates/dkms"
    names = ("virtualbox", "virtualbox-dkms")
    record = {"schema": 1, "source": "archive", "version": "5.2.42", "kernel": kernel, "joined": ["ann"]}
    record.update(packages=dict.fromkeys(names, BESIDE), debs={}, brought=list(names), silenced=[], group=False)
    found["virtualbox"] = {
        "record": {**record, "extension_pack": False, "plan": "0123456789abcdef"},
        "kernel": kernel,
        "modules": {
            name: {"path": f"{path}/{name}.ko", "release": "5.2.42", "signed": False, "signer": ""}
            for name in ("vboxdrv", "vboxnetflt", "vboxnetadp")
        },
        "headers": True,
        "loaded": "5.2.42",
        "program": "5.2.42",
        "packagings": [f"{name} {BESIDE}" for name in names],
        "dkms": [f"virtualbox, 5.2.42, {kernel}, x86_64: installed"],
        "device": {"mode": 0o600, "uid": 0, "gid": 0},
        "members": ["ann"],
        "kvm": {"loaded": ["kvm_intel"], "at_load": None},
        "key": {"made": False, "enrolled": None},
    }
    for name in names:
        found["guard"]["held"].append(name)
        found["guard"]["pins"][name] = BESIDE
        found["guard"]["blacklist"].append(name)
        found["guard"]["stack"][name] = BESIDE
    return seen
