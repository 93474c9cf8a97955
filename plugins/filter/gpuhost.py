"""Filters that stand between Ansible's variables and the package `gpuhost`: they convert, the package decides.

What a filter returns may contain words of a host or of a lock. Ansible renders a plain string again whenever a variable
that holds it is used, so every result is marked unsafe here, and no other place has to think of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from gpuhost.checks import benchmark as checks_benchmark
from gpuhost.errors import GpuhostError, LockError, UsageError
from gpuhost.planning import lock, plan, preflight, rebuild, rollback
from gpuhost.planning import opencv as opencv_plan
from gpuhost.planning import toolkits as toolkit_specs
from gpuhost.planning.candidates import COMPONENTS
from gpuhost.planning.catalog import shipped
from gpuhost.planning.environments import chosen, load_environment, lock_digest
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver
from gpuhost.report import history
from gpuhost.report import swap as report_swap
from gpuhost.report import terminal as render
from gpuhost.shipping import tree
from gpuhost.text import folder_name


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a filter's result as no template, and turn the package's errors into Ansible's, in one paragraph."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return wrap_var(function(*args, **kwargs))
        except GpuhostError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapped


def wishes(asked: Any) -> Dict[str, str]:
    """What `gpu_stack_wanted` asks for, by component; a misspelt component or a version that is no text is refused.

    YAML reads an unquoted 2.10 as the number 2.1, so a number is never taken for a version.
    """
    example = 'Write gpu_stack_wanted as in {tensorflow: "2.13", cuda: ">=11.2,<12"}.'
    if not isinstance(asked, dict):
        raise UsageError("gpu_stack_wanted is not a mapping of components to versions.", example)
    for name, text in asked.items():
        if name not in COMPONENTS:
            raise UsageError(f"gpu_stack_wanted names {name}; the components are {', '.join(COMPONENTS)}.", example)
        if not isinstance(text, str):
            raise UsageError(f"gpu_stack_wanted has {name}: {text} without quotes.", example)
    # Plain text: the plan, and with it the lock, must not carry Ansible's own kinds of string.
    return {str(name): str(text) for name, text in asked.items()}


def make_plan(observation: Dict[str, Any], asked: Dict[str, str], ignore_gpus: bool = False) -> Dict[str, Any]:
    """The plan for an observed host."""
    over: Dict[str, Any] = {"gpus": []} if ignore_gpus else {}
    found = resolver()
    return plan.make(found, request_of(found, observation, wishes(asked), **over))


def differences(
    locked: Dict[str, Any], observation: Dict[str, Any], asked: Any, ignore_gpus: bool = False
) -> List[str]:
    """Where the host, or what is asked of it, is no longer what the lock was made for; so is a wish nobody can read."""
    try:
        wanted = wishes(asked)
    except UsageError as error:
        return [f"asked: {error}"]
    return lock.differences(locked, observation, wanted, ignore_gpus)


def lock_file(host: str, inventory: Any, locks: Any = "") -> str:
    """Where the lock of a host is kept."""
    return str(lock.place(str(host), inventory, locks).file)


def former_lock(host: str, inventory: Any, locks: Any = "") -> str:
    """What is wrong with a lock where earlier releases kept it; "" where there is none."""
    if not inventory:
        return ""  # typed on the command line: such a host has no host_vars
    try:
        lock.refuse_former(*lock.place(str(host), inventory, locks))
    except LockError as error:
        return str(error)
    return ""


def read_lock(path: str, host: str, inventory: Any = None, relock: bool = False) -> Dict[str, Any]:
    """The lock of a host; empty when there is none, or when a new one is wanted."""
    place = lock.place(str(host), inventory, file=path)
    lock.refuse_former(*place)
    return lock.load(place.file, str(host)) if place.file.exists() and not relock else {}


def pending_lock(path: str, host: str) -> Optional[Dict[str, Any]]:
    """The lock of a rebuild that is under way, beside the lock's file; None when none is."""
    file = Path(path + lock.PENDING)
    return lock.load(file, str(host)) if file.exists() else None


def make_rebuild(
    observation: Dict[str, Any], host: str, path: str, asked: Any, ignore_gpus: bool, future: Any, there: Dict[str, Any]
) -> Dict[str, Any]:
    """What a rebuild of a host comes to; `path` is its lock's file."""
    old, coming = lock.load(Path(path), str(host)), pending_lock(path, host)
    cards = rebuild.wanted_cards(future)
    made = rebuild.prepare(resolver(), str(host), observation, old, coming, wishes(asked), ignore_gpus, cards, there)
    if made["refused"]:
        made["lines"] += ["", *render.plan_text(made["plan"]).splitlines()]
    return made


def make_rollback(observation: Dict[str, Any], host: str, path: str, to: Any, there: Dict[str, Any]) -> Dict[str, Any]:
    """What going back comes to; `path` is the lock's file, which need not be there."""
    own = read_lock(path, host) or None
    return rollback.prepare(str(host), there, own, pending_lock(path, host), to, observation)


def environment(name: str) -> Dict[str, Any]:
    """A locked Python environment with its digest, as the module `gpuhost_environment` takes it."""
    found = load_environment(name)
    return {**found, "digest": lock_digest(found)}


def platform(identity: str) -> Dict[str, Any]:
    """The catalog's row of a platform."""
    return dict(shipped().platforms["platforms"][identity])


def python_packages(identity: str, version: str, more: Sequence[str] = ()) -> List[str]:
    """The archive packages that bring a Python, with its venv module, on a platform; `more` is added."""
    rows = shipped().platforms["platforms"][identity]["pythons"]
    return [name for row in rows if row["version"] == version for name in row["packages"]] + list(more)


def missing_packages(said: str, wanted: Sequence[str]) -> List[str]:
    """Of the wanted packages, those that dpkg-query (`Package Status` a line) does not call installed."""
    there = {line.split()[0] for line in said.splitlines() if line.split()[1:] == ["installed"]}
    return [name for name in wanted if name not in there]


def yolo_weights(model: str) -> Dict[str, Any]:
    """The published weights of a network, as the role `artifact` takes them."""
    row = next(r for r in shipped().yolo["models"] if r["name"] == model)["weights"]
    return {"name": f"{model}.weights", "url": row["url"], "sha256": row["sha256"], "size": row["bytes"]}


def driver_file(driver: Dict[str, Any]) -> Dict[str, Any]:
    """NVIDIA's installer of a lock's driver, as the role `artifact` takes it."""
    file = {"name": driver["url"].rsplit("/", 1)[-1], "url": driver["url"], "sha256": driver["sha256"]}
    return {**file, "size": driver["size"]} if driver.get("size") else file


def yolo_prepare(
    python: str, folder: str, root: str, names: Sequence[str], size: int, photos: int, weights: str
) -> List[str]:
    """The command that makes the benchmark's files, with the detector that stands in `folder`."""
    command = [
        *tree.start(python, folder, "gpuhost.yolo"),
        "prepare",
        "--work",
        f"{root}/cache/yolo",
        "--size",
        str(size),
        "--count",
        str(photos),
    ]
    for name in names:
        command += ["--model", name]
    return command + (["--weights-dir", f"{root}/cache/yolo/published"] if weights == "published" else [])


def old_against_new(report: Any) -> List[str]:
    """What the last change of generation has brought in the benchmark; `report` is what verify.yml has registered."""
    if not report:
        return ["verify/ has written no report, so no benchmark of the new card can be shown."]
    return report_swap.lines(history.read(Path(report["json"]).parent).reports)


def short_digest(value: Any, *more: Any) -> str:
    """12 hex digits that change when a value does."""
    return hashlib.sha256(json.dumps([value, *more], sort_keys=True).encode()).hexdigest()[:12]


def opencv_command(
    python: str, folder: str, root: str, cuda: str, cudnn: str, options: Sequence[Any] = ()
) -> List[str]:
    """The builder's command line on a host."""
    return opencv_plan.command(python, folder, root, cuda, cudnn, [str(text) for text in options])


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "gpuhost_plan": told(make_plan),
            "gpuhost_opencv_build_environment": told(opencv_plan.build_environment),
            "gpuhost_opencv_command": told(opencv_command),
            "gpuhost_opencv_packages": told(opencv_plan.packages),
            "gpuhost_opencv_tree": told(tree.opencv),
            "gpuhost_opencv_wheel_files": told(opencv_plan.wheel_files),
            "gpuhost_opencv_with_wheel": told(opencv_plan.with_wheel),
            "gpuhost_plan_text": told(render.plan_text),
            "gpuhost_links": told(lock.links),
            "gpuhost_lock": told(lock.make),
            "gpuhost_lock_text": told(lock.text),
            "gpuhost_lock_file": told(lock_file),
            "gpuhost_lock_former": told(former_lock),
            "gpuhost_lock_read": told(read_lock),
            "gpuhost_rebuild": told(make_rebuild),
            "gpuhost_future_gpu": told(rebuild.wanted_cards),
            "gpuhost_rebuild_command": told(rebuild.command),
            "gpuhost_rollback": told(make_rollback),
            "gpuhost_lock_differences": told(differences),
            "gpuhost_driver_file": told(driver_file),
            "gpuhost_environment_chosen": told(chosen),
            "gpuhost_environment_lock": told(environment),
            "gpuhost_platform": told(platform),
            "gpuhost_python_packages": told(python_packages),
            "gpuhost_missing_packages": told(missing_packages),
            "gpuhost_old_against_new": told(old_against_new),
            "gpuhost_yolo_weights": told(yolo_weights),
            "gpuhost_yolo_prepare": told(yolo_prepare),
            "gpuhost_short_digest": told(short_digest),
            "gpuhost_dpkg_busy": told(preflight.dpkg_busy),
            "gpuhost_problems": told(preflight.problems),
            "gpuhost_remarks": told(preflight.remarks),
            "gpuhost_controller_problem": told(preflight.controller_problem),
            "gpuhost_yolo_tree": told(tree.yolo),
            "gpuhost_watch_tree": told(tree.watch),
            "gpuhost_benchmark_device": told(checks_benchmark.device),
            "gpuhost_cuda_spec": told(toolkit_specs.cuda),
            "gpuhost_cuda_extras": told(toolkit_specs.extras),
            "gpuhost_cuda_links": told(toolkit_specs.links),
            "gpuhost_cuda_without": told(toolkit_specs.without),
            "gpuhost_cudnn_spec": told(toolkit_specs.cudnn),
            "gpuhost_toolkit_python": told(toolkit_specs.python),
            "gpuhost_benchmark_command": told(checks_benchmark.thorough),
            "gpuhost_benchmark_name": told(checks_benchmark.kept_as),
            "gpuhost_folder_name": told(folder_name),
        }
