"""Carrying a plan out: each step is stamped when it is done, so that a killed run goes on with the next one."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ..host import fatbin, files
from ..host.commands import CommandFailed
from ..types import Json
from . import code_in, commands, configured, keys, options, progress, resources, sources, unity, wheel
from .failures import failure
from .plan import Plan, build_folder, hooks_folder, source_folder
from .steps import Work

Say = Callable[[str], None]

#: FindCUDA runs nvcc twice for each file, the first time for its dependencies. The sources are sealed, so nothing can
#: change that a dependency would tell; and nvcc itself goes through ccache.
WRAPPER = """#!/bin/sh
# Written by gpuhost: nvcc behind ccache, and no dependency pass (the sources are sealed by checksum). The CPU's
# half of a CUDA file only launches what runs on the card: it is compiled with -O1, which comes after CMake's -O3.
case " $* " in
*" -M "*)
    for word do [ "${{before-}}" = -o ] && out=$word; before=$word; done
    echo 'sealed.o : sealed.cu' >"$out"
    exit ;;
*" -c "*) set -- "$@" -Xcompiler=-O1 ;;
esac
exec {ccache}"{nvcc}" {flags}"$@"
"""
#: Nobody answers there: a configure step that wants to download fails at once instead of succeeding unseen.
NOWHERE = "http://127.0.0.1:9"


class Places(NamedTuple):
    """The folders of a build."""

    work: Path  # build trees and unpacked sources
    artifacts: Path  # source files by checksum
    wheels: Path  # finished wheels by key
    ccache: Path


def say_step(name: str, text: str) -> None:
    """The default teller."""
    sys.stderr.write(f"{name}: {text}\n")
    sys.stderr.flush()


def environment(plan: Plan, places: Places) -> Dict[str, str]:
    """What the build's commands get besides the usual environment."""
    return {
        # Paths below the work folder count as relative: another work folder finds the same objects.
        "CCACHE_DIR": str(places.ccache),
        "CCACHE_BASEDIR": str(places.work),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_MAXSIZE": "10G",
        "CUDA_NVCC_EXECUTABLE": str(wrapper(plan, places)),
        "NINJA_STATUS": progress.STATUS,
        # OpenCV writes the time of the build into itself.
        "SOURCE_DATE_EPOCH": "315532800",
        **{name: NOWHERE for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")},
    }


def wrapper(plan: Plan, places: Places) -> Path:
    """The path of the nvcc that the build calls."""
    return build_folder(places.work, plan.key).parent / "tool" / "nvcc"


def system_headers(plan: Plan) -> str:
    """nvcc's option that makes the toolkit's headers system headers; those of Debian's packages are such already."""
    include = plan.toolkit.include or plan.toolkit.root / "include"
    return f'-isystem "{include}" ' if plan.system_headers and include != Path("/usr/include") else ""


def write_wrapper(plan: Plan, places: Places) -> None:
    """Write it. The toolkit's build line stands for all of its programs: nvcc's own bytes say nothing about cicc."""
    path = wrapper(plan, places)
    launch, ccache = "", ""
    if plan.tools.ccache:
        launch = f'CCACHE_COMPILERCHECK="string:{plan.toolkit.said}" '
        ccache = f'"{plan.tools.ccache}" '
    text = WRAPPER.format(
        ccache=f"env {launch}{ccache}" if ccache else "",
        nvcc=plan.toolkit.root / "bin/nvcc",
        flags=system_headers(plan),
    )
    files.write_whole(path, text, 0o755)
    for name, said in unity.hooks(plan.recipe.opencv).items():
        files.write_whole(hooks_folder(places.work, plan.key) / name, said)


def build(
    plan: Plan,
    places: Places,
    jobs: int,
    fresh: bool = False,
    given: Sequence[Path] = (),
    say: Callable[..., None] = say_step,
) -> Path:
    """The wheel of a plan: from the cache, else made; its path in the cache."""
    found = None if fresh else keys.kept(places.wheels, plan.key)
    if found is not None:
        say("build", f"nothing to do: the wheel of this key is there ({found})")
        return found
    work = Work(build_folder(places.work, plan.key).parent, plan.key)
    try:
        files.make_folder(places.work)
        with work.turn():
            if fresh:
                work.clear()
            if not work.is_done("build"):
                resources.check_space(places.work, plan.wishes.profile)
            return carry_out(plan, places, work, jobs, list(given), fresh, say)
    except OSError as error:
        raise unwritable(error, places.work) from error


def unwritable(error: OSError, folder: Path) -> Exception:
    """A full disk or a missing permission as what it is for the user."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return failure("B-disk-full", f"There is no space left for {folder}.", "Make room, and run the same again.")
    return failure(
        "B-unwritable", f"{error.filename or folder} cannot be written: {error.strerror}.", "Give --root DIR."
    )


def carry_out(
    plan: Plan, places: Places, work: Work, jobs: int, given: List[Path], fresh: bool, say: Callable[..., None]
) -> Path:
    """Each step that is not done yet, in order."""
    log = work.folder / "build.log"
    todo: List[Any] = [
        ("sources", lambda: take_sources(plan, places, given, fresh)),
        ("configure", lambda: configure(plan, places)),
        ("check", lambda: check(plan, places)),
        ("build", lambda: compile_all(plan, places, jobs, log)),
        ("wheel", lambda: pack(plan, places, work)),
    ]
    left: Any = None
    for name, step in todo:
        if work.is_done(name) and name != "sources":
            left = work.stamps()[name]["left"]
            say(name, "done before")
            continue
        say(name, {"build": f"{jobs} jobs, log in {log}"}.get(name, "..."))
        began = time.monotonic()
        left = step()
        if not work.is_done(name):
            work.finish(name, left, began)
    return keys.keep(places.wheels, plan.key, work.folder / str(left))


def take_sources(plan: Plan, places: Places, given: List[Path], fresh: bool) -> str:
    """Fetch and unpack the sources, or compare unpacked ones with their digest; `fresh` unpacks changed ones again."""
    folder = source_folder(places.work, plan.recipe)
    if folder.is_dir() and (sources.is_sealed(folder) or not fresh):
        sources.check_tree(folder)
        return folder.name
    own = sources.matched(plan.recipe.sources, given)
    found = [sources.obtain(row, places.artifacts, own.get(row["sha256"])) for row in plan.recipe.sources]
    sources.unpack(found, folder)
    sources.places(folder)
    return folder.name


def configure(plan: Plan, places: Places) -> str:
    """Run CMake into an empty build folder (a stale cache is D20's favourite cause), watching what it says."""
    folder = build_folder(places.work, plan.key)
    shutil.rmtree(str(folder), ignore_errors=True)
    files.make_folder(folder)
    write_wrapper(plan, places)
    own = folder.parent / "configure.log"
    files.write_whole(own, "")
    try:
        commands.follow(plan.configure(places.work), own, configured.stop_at, environment(plan, places))
    except CommandFailed as error:
        commands.raise_known(error, str(folder), own)
        configured.raise_not_found(own.read_text("utf-8", "replace"), str(plan.toolkit.root))
        raise failure(
            "B-configure-failed",
            "CMake ended with an error:\n" + "\n".join(line for line in error.lines if line.strip())[-1500:] + "\n",
            f"The whole log is {own}.",
        ) from None
    return own.name


def check(plan: Plan, places: Places) -> Dict[str, str]:
    """Hold what CMake decided against the plan; what it decided about CUDA is kept for the wheel's facts."""
    folder = build_folder(places.work, plan.key)
    log = (folder.parent / "configure.log").read_text(encoding="utf-8").splitlines()
    decided = configured.parse(log)
    configured.check(
        decided,
        configured.Expected(
            plan.recipe.opencv,
            plan.archs,
            plan.toolkit.series,
            plan.cudnn.version,
            plan.python.executable,
            plan.python.numpy,
            plan.wishes.nonfree,
            options.effective(plan.settings("", places.work))["CUDA_FAST_MATH"] == options.ON,
            plan.wishes.modules,
        ),
    )
    downloads = folder / "CMakeDownloadLog.txt"
    configured.must_not_download(downloads.read_text(encoding="utf-8") if downloads.exists() else "")
    cache = (folder / "CMakeCache.txt").read_text(encoding="utf-8", errors="replace")
    dump = folder / "CMakeVars.txt"
    promised = () if plan.wishes.modules else options.PROMISED.get(plan.wishes.profile, ())
    configured.check_asked(
        [*promised, *plan.wishes.more], cache, dump.read_text("utf-8", "replace") if dump.exists() else ""
    )
    if f"CUDA_NVCC_EXECUTABLE:FILEPATH={wrapper(plan, places)}" not in cache:
        raise failure(
            "B-configured-otherwise", "CMake took another nvcc than the plan's.", "Use --fresh, or report it."
        )
    names = ("NVIDIA CUDA", "NVIDIA GPU arch", "NVIDIA PTX archs", "cuDNN", "To be built", "Baseline")
    return {name: decided.lines.get(name, "") for name in names}


def compile_all(plan: Plan, places: Places, jobs: int, log: Path) -> str:
    """Run ninja; what an earlier run has compiled is not compiled again."""
    folder = build_folder(places.work, plan.key)
    if not (folder / "build.ninja").exists():
        raise failure("B-compile-failed", f"{folder} holds no build.ninja.", "Run the same command with --fresh.")
    argv = [plan.tools.ninja, "-C", str(folder), "-j", str(jobs)]
    try:
        commands.follow(argv, log, progress.to_stderr(), environment(plan, places))
    except CommandFailed as error:
        commands.raise_known(error, str(folder), log)
        raise failure(
            "B-compile-failed",
            f"A compile step failed:\n{str(error)[-2000:]}\n",
            f"The whole log is {log}. The same command goes on where this one stopped.",
        ) from None
    return log.name


def pack(plan: Plan, places: Places, work: Work) -> str:
    """Install OpenCV's Python part into a folder, read the module's own bytes, and make the wheel of it."""
    folder = build_folder(places.work, plan.key)
    stage = work.folder / "stage"
    shutil.rmtree(str(stage), ignore_errors=True)
    argv = [plan.tools.cmake, "--install", str(folder), "--prefix", str(stage), "--component", "python", "--strip"]
    absent = failure("B-compile-failed", "OpenCV's Python package was not installed.", "Run it again with --fresh.")
    try:
        commands.follow(argv, work.folder / "build.log", lambda _: None, environment(plan, places))
    except CommandFailed as error:
        commands.raise_known(error, str(stage), work.folder / "build.log")
        raise absent from None
    package = stage / "python" / "cv2"
    if not package.is_dir():
        raise absent
    extension = wheel.extension_in(package)
    library = code_in.read(extension)
    code_in.must_be(library, set(plan.archs.code), extension)
    facts = facts_of(plan, library, work.stamps())
    name = wheel.identity(
        plan.recipe.package_version, plan.toolkit.series, plan.archs, plan.key, extension.name, plan.python.tag
    )
    root = source_folder(places.work, plan.recipe)
    licences = [path for path in sorted(root.glob("*/LICENSE*")) if path.is_file()]
    return wheel.make(package, name, facts, plan.python.numpy, licences, work.folder).name


def facts_of(plan: Plan, library: fatbin.Library, stamps: Json) -> Json:
    """What the wheel tells about itself; the same for the same key, so no time and no path of the build machine."""
    return {
        "schema": 1,
        "key": plan.key,
        "opencv": plan.recipe.opencv,
        "profile": plan.wishes.profile,
        "modules": stamps["check"]["left"].get("To be built", "").split(),
        "capabilities": plan.archs.real,
        "ptx": plan.archs.ptx,
        "code": library.code,
        "needed": library.needed,
        "runpath": library.runpath,
        "cuda": plan.toolkit.version,
        "cudnn": plan.cudnn.version,
        "cpu": plan.wishes.cpu,
        "numpy": plan.python.numpy,
        "summary": stamps["check"]["left"],
        "inputs": plan.inputs,
    }


def copy_to(path: Path, out: Optional[Path]) -> Path:
    """The wheel in a folder of the user's."""
    if out is None:
        return path
    with path.open("rb") as given, files.whole(out / path.name, None) as handle:
        shutil.copyfileobj(given, handle, 1 << 20)
    return out / path.name
