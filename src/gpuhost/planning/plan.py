"""A plan as plain JSON: what the host should get, with every artifact's checksum, or a refusal with its reasons."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Final, FrozenSet, List, Optional, cast

from ..cvbuild.toolkit import newer_than_headers
from ..gpucode import reach, target_for
from ..host.driver.packages import wanted_names
from ..shapes.lock import (
    Note,
    Obstacle,
    OwnToolkit,
    Plan,
    PlannedCuda,
    PlannedCudnn,
    PlannedDriver,
    PlannedModules,
    PlannedOpencv,
    PlannedTensorflow,
)
from ..types import Json
from ..versions import capability
from . import debs, explain
from .candidates import (
    COMPONENTS,
    WITHOUT_GPU,
    Candidate,
    Driver,
    Request,
    TensorFlow,
    Toolkit,
    as_driver,
    headers_clash,
)
from .resolve import Resolver, Stack, signed_kernel, signed_modules
from .rules.cuda import integrated
from .rules.driver import needs_open
from .rules.frameworks import building_python, by_ptx, locked_wheel, sources_of
from .versions import version

SCHEMA: Final = 1


def setting(without: FrozenSet[str], component: str) -> str:
    """What the inventory says for a component to be left out as well."""
    return f"gpu_stack_without: [{', '.join(sorted({*without, component}))}]"


def make(resolver: Resolver, request: Request, command: Optional[Callable[[str], str]] = None) -> Plan:
    """Return the plan for a request, in the form of data/plan.schema.json.

    `status` is 'planned', with one key for each component (None where it is left out or not needed), or 'refused',
    with `reasons`. A refusal names the components that cause it by themselves, each with the `command` that leaves it
    out; by default that is the inventory's setting.
    """
    command = command or functools.partial(setting, request.without)
    stack = resolver.solve(request)
    plan: Plan = {
        "schema": SCHEMA,
        "status": "planned" if stack else "refused",
        "platform": request.platform,
        "gpus": [g.as_json() for g in request.gpus],
        "driver": None,
        "cuda": None,
        "cudnn": None,
        "opencv": None,
        "tensorflow": None,
        "reasons": [],
        "notes": notes_of_cards(request),
        "asked": dict(sorted(request.asked.items())),
        "without": [name for name in WITHOUT_GPU if name in request.without],
    }
    if stack is None:
        passing = resolver.passing(request)
        plan["reasons"] = explain.reasons(resolver, request, passing)
        plan["card_needs"] = explain.card_needs(resolver, request, passing)
        rows = explain.obstacles(resolver, request)
        plan["obstacles"] = [cast(Obstacle, {**row, "command": command(row["component"])}) for row in rows]
        plan["nearest"] = explain.nearest(resolver, request)
        return plan
    if stack.driver is not None and stack.cuda is not None and stack.cudnn is not None:
        plan["driver"] = driver_json(resolver, request, stack.driver)
        cuda = cuda_json(request, stack.cuda)
        cudnn = {
            "version": stack.cudnn.version,
            "source": "wheels" if cuda["source"] == "wheels" else "tarball",
            **pick(stack.cudnn.row, "cuda", "file", "url", "sha256"),
        }
        plan["cuda"], plan["cudnn"] = cuda, cast(PlannedCudnn, cudnn)
    if stack.opencv is not None:
        plan["opencv"] = opencv_json(resolver, request, stack.opencv, stack.cuda)
    if stack.tensorflow is not None:
        part, own = tensorflow_json(resolver.catalog.environments, request, stack.tensorflow), own_json(stack)
        plan["tensorflow"] = {**part, "cuda": own["cuda"], "cudnn": own["cudnn"]}
    plan["notes"] += notes_of_stack(resolver, request, stack)
    return plan


def pick(row: Json, *names: str) -> Json:  # Json: some fields of a row of the catalog
    """Some fields of a row, those that are there."""
    return {n: row[n] for n in names if row.get(n) is not None}


def driver_json(resolver: Resolver, request: Request, d: Driver) -> PlannedDriver:
    """The driver's part: where it comes from, which module flavour, and what Secure Boot will want."""
    signed = signed_modules(request, d, resolver.catalog)
    part: Json = {"version": d.version, "source": "archive" if d.platform else "runfile", "branch": d.branch}
    part["kernel_modules"] = "open" if needs_open(d, request) else d.row.get("kernel_modules", "proprietary")
    part["modules_from"] = "signed" if signed else "dkms"
    part["secure_boot"] = None if not request.secure_boot else ("signed" if signed else "own-key")
    part["modules"] = modules_json(resolver, request, d)
    fields = (
        ("package", "package_version", "component", "modules_package", "file", "sha256")
        if d.platform
        else ("url", "sha256", "size", "variant")
    )
    part = {**part, **pick(d.row, *fields)}
    offers = resolver.catalog.drivers.get("offers")
    if d.platform is None or offers is None or request.kernel is None:
        return cast(PlannedDriver, part)
    distribution = resolver.catalog.platforms["platforms"][d.platform]["distribution"]
    words = wanted_names(part, request.kernel, distribution)
    return cast(PlannedDriver, {**part, "packages": debs.whole_set(offers, words, d.row["built_from"])})


def modules_json(resolver: Resolver, request: Request, d: Driver) -> Optional[PlannedModules]:
    """The package of prebuilt, signed modules for the kernel that will boot; None where DKMS builds them, or where the
    request names no kernel.
    """
    kernel = signed_kernel(request, d, resolver.catalog)
    if kernel is None:
        return None
    return {
        "package": f"{d.row['modules_package']}-{kernel['flavour']}",
        "package_version": d.row["signed_modules"][kernel["flavour"]],
        "kernel": kernel["release"],
    }


def cuda_json(request: Request, c: Toolkit) -> PlannedCuda:
    """The toolkit's part, from the runfile or, where the platform has only these, from NVIDIA's wheels."""
    via = c.platforms[request.platform]["via"][0]
    part: Json = {"version": c.version, "series": c.row["series"], "source": via}
    return cast(PlannedCuda, {**part, **(c.row["runfile"] if via == "runfile" else {})})


def opencv_json(resolver: Resolver, request: Request, opencv: Candidate, cuda: Optional[Candidate]) -> PlannedOpencv:
    """OpenCV's part: built for the cards from checksummed sources, or the ready wheel on a host without one."""
    part: Json = {"version": opencv.version, "cuda_arch_bin": []}
    if cuda is None:
        found = locked_wheel(resolver.catalog, request.platform, opencv)
        if found is None:
            raise AssertionError("the rule opencv-wheel let a release without a wheel pass")
        wheel, python, name = found
        part.update(source="wheel", python=python, environment=name, package_version=wheel["package_version"])
        return cast(PlannedOpencv, {**part, **pick(wheel, "file", "sha256")})
    skip = integrated(resolver.catalog)
    targets = {target_for(cc, cuda.row["capabilities"], skip) for cc in request.capabilities}
    part["cuda_arch_bin"] = sorted((t for t in targets if t), key=capability)
    artifacts = sources_of(opencv.row)
    part["source"] = "sdist" if len(artifacts) == 1 else "tarballs"
    part["python"] = building_python(resolver.catalog, request.platform)
    part["artifacts"] = artifacts
    return cast(PlannedOpencv, part)


def tensorflow_json(environments: FrozenSet[str], request: Request, t: TensorFlow) -> PlannedTensorflow:
    """Return TensorFlow's part of a plan: version, package, python, file, sha256, environment (None where none is
    locked) and code (how it reaches each compute capability).
    """
    name = f"dl4cv-tensorflow-{t.version}-{t.tag}"
    part: Json = {"version": t.version, "package": t.row["package"], "python": t.python}
    part["environment"] = name if name in environments else None
    part["code"] = {cc: reach(t.row["code"], cc) for cc in request.capabilities}
    return cast(PlannedTensorflow, {**part, **pick(t.wheel, "file", "sha256")})


def own_json(stack: Stack) -> OwnToolkit:
    """The toolkit that TensorFlow has in its own environment; None for each part that it shares with the host."""
    cuda, cudnn = stack.own_cuda, stack.own_cudnn
    return {
        "cuda": None if cuda is None else {"version": cuda.version, "series": cuda.row["series"], "source": "wheels"},
        "cudnn": None if cudnn is None else {"version": cudnn.version, "source": "wheels", "cuda": cudnn.row["cuda"]},
    }


def notes_of_cards(request: Request) -> List[Note]:
    """What was assumed about the cards, and what is to be said of the machine."""
    assumed = [("gpu", f"{g.label}: {g.note}") for g in request.gpus if g.note]
    return [{"about": about, "unverified": False, "text": text} for about, text in [*assumed, *request.remarks]]


def notes_of_stack(resolver: Resolver, request: Request, stack: Stack) -> List[Note]:
    """What the plan rests on without a confirming source, and what the user should know before it is carried out."""
    notes: List[Note] = []

    def note(about: str, text: str, unverified: bool = False) -> None:
        notes.append({"about": about, "unverified": unverified, "text": text})

    for name, candidate in stack.parts().items():
        doubt = candidate.row.get("unverified")
        if doubt and (stack.cuda is not None or name == "tensorflow"):
            note(name, str(doubt), True)
    if stack.cuda is not None:
        place = stack.cuda.platforms[request.platform]
        if place.get("unverified"):
            note(
                "cuda",
                f"that CUDA {stack.cuda.version} runs on {request.platform} is inferred: {place['evidence']}",
                True,
            )
        glibc = resolver.catalog.platforms["platforms"][request.platform]["glibc"]
        if newer_than_headers(glibc, headers_clash(resolver.catalog, stack.cuda.version)):
            note(
                "cuda",
                f"CUDA {stack.cuda.version}'s headers clash with glibc {glibc}: OpenCV is built with them as system "
                "headers, and your own programs need NVCC_PREPEND_FLAGS='-isystem /opt/gpuhost/current/cuda/include'",
            )
    chips = set(resolver.catalog.gpus["unverified_chips"]) & {g.chip for g in request.gpus}
    if chips:
        note(
            "gpu",
            f"the capability of {', '.join(sorted(c for c in chips if c))} follows NVIDIA's naming, no source was read",
            True,
        )
    if stack.driver is not None and stack.cuda is not None:
        driver_notes(resolver, request, stack.driver, stack.cuda, note)
    if stack.tensorflow is not None:
        tensorflow_notes(resolver, request, stack.tensorflow, note)
    if stack.own_cuda is not None and stack.own_cudnn is not None:
        own = f"CUDA {stack.own_cuda.version} and cuDNN {stack.own_cudnn.version}"
        note("tensorflow", f"TensorFlow has {own} of its own, in its environment: it cannot share the host's")
    return notes


def tensorflow_notes(resolver: Resolver, request: Request, t: TensorFlow, note: Any) -> None:
    """What there is to say about TensorFlow."""
    if by_ptx(request, t):
        note(
            "tensorflow",
            "the wheel holds only PTX for a card: the driver compiles it on first use, which takes minutes once; "
            "that it computes there is proved by verify/ alone",
        )
    if tensorflow_json(resolver.catalog.environments, request, t)["environment"] is None:
        note(
            "tensorflow",
            f"no locked environment for TensorFlow {t.version} comes with this release: "
            "tools/lock_environment.py makes one",
        )


def driver_notes(resolver: Resolver, request: Request, d: Driver, cuda: Candidate, note: Any) -> None:
    """What there is to say about the driver."""
    as_of = resolver.catalog.drivers["archives_as_of"].get(request.platform)
    if d.platform is not None and as_of is not None:
        note("driver", f"what the archive has is as of {as_of}; a plan for an observed host asks the host's own")
    if release_is_older(d, cuda):
        note(
            "driver",
            f"driver {d.version} is older than CUDA {cuda.version}'s own ({cuda.row['driver_min']}): "
            "this rests on minor-version compatibility",
        )
    if d.platform is None:
        packages = [as_driver(c) for c in resolver.candidates.driver if as_driver(c).platform == request.platform]
        claimed = any(all(g.device in package.claims for g in request.gpus) for package in packages)
        why = (
            "no package of the archive that claims the cards is new enough here"
            if claimed
            else "no package of the archive claims every card"
        )
        note("driver", f"{why}: NVIDIA's .run is used, its module is built by DKMS")
        if any(g.device and not g.first_listed_driver for g in request.gpus):
            note(
                "driver",
                "no list names the card's PCI id for this driver: that it works rests on the card's generation",
                True,
            )
        if needs_open(d, request):
            note(
                "driver",
                "that the card needs the open kernel modules rests on users' reports, not on NVIDIA's text",
                True,
            )
    if request.nvswitches:
        note(
            "driver",
            f"this machine has {request.nvswitches} NVSwitches: CUDA starts only with NVIDIA's fabric manager of "
            f"exactly version {d.version} running (package nvidia-fabricmanager-{d.branch}), which this plan does not "
            "install",
        )
    if request.secure_boot and driver_unsigned(d):
        note(
            "driver",
            "Secure Boot is on and no signed module exists: a key of its own is to be enrolled at the console",
        )


def driver_unsigned(d: Driver) -> bool:
    """Return whether no archive has a prebuilt, signed module of this driver."""
    return not d.row.get("signed_modules")


def release_is_older(d: Driver, cuda: Candidate) -> bool:
    """Return whether the driver is older than the one made for the toolkit."""
    return version(d.version) < version(cuda.row["driver_min"])


def components(plan: Plan) -> Dict[str, Optional[str]]:
    """The version of each component in a plan (None where it has none)."""
    parts = {name: plan[name] for name in COMPONENTS}
    return {name: None if part is None else part["version"] for name, part in parts.items()}
