"""The plan of a build: recipe and machine put together, its key, and its command lines. Nothing is changed here."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from ..types import Json
from . import keys, options, unity
from .archs import Architectures
from .compilers import Compiler
from .machine import Python, Tools
from .recipe import Recipe
from .sources import name_of
from .toolkit import Cudnn, Toolkit, newer_than_headers


class Wishes(NamedTuple):
    """What the user chose besides the recipe."""

    profile: str = "dnn"
    modules: Tuple[str, ...] = ()
    nonfree: bool = False
    cpu: str = "AVX2"
    more: Tuple[Tuple[str, str], ...] = ()
    rpath: Tuple[str, ...] = ()


class Plan(NamedTuple):
    """Everything a build does, decided."""

    recipe: Recipe
    wishes: Wishes
    archs: Architectures
    toolkit: Toolkit
    cudnn: Cudnn
    compiler: Compiler
    python: Python
    tools: Tools
    inputs: Json
    key: str
    glibc: str

    @property
    def system_headers(self) -> bool:
        """Whether the toolkit's headers must be system headers here."""
        return newer_than_headers(self.glibc, self.recipe.clash_from_glibc)

    def settings(self, contrib: str, work: Path) -> options.Settings:
        """What the option table takes, with this machine's places."""
        hooks = str(hooks_folder(work, self.key)) if unity.hooks(self.recipe.opencv) else ""
        return settings(self, contrib, words=False, hooks=hooks)

    def configure(self, work: Path) -> List[str]:
        """CMake's command line."""
        main, contrib = "opencv", "opencv_contrib/modules"
        found = places_in(work, self.recipe)
        if found:
            main, contrib = str(found[0]), str(found[1])
        arguments = [o.argument for o in options.options(self.settings(contrib, work))]
        head = [self.tools.cmake, "-G", "Ninja", "-S", main, "-B", str(build_folder(work, self.key))]
        # OpenCV keeps its downloads (there are none) in the sources, which are sealed.
        downloads = build_folder(work, self.key).parent / "downloads"
        own = [f"-DCMAKE_MAKE_PROGRAM={self.tools.ninja}", f"-DOPENCV_DOWNLOAD_PATH={downloads}"]
        return [*head, *own, *arguments]


def build_folder(work: Path, key: str) -> Path:
    """Where a key is built."""
    return work / key[:16] / "build"


def hooks_folder(work: Path, key: str) -> Path:
    """Where the hooks of a key's configure step lie."""
    return work / key[:16] / "tool" / "hooks"


def source_folder(work: Path, recipe: Recipe) -> Path:
    """Where the sources lie unpacked: shared by all keys of the same sources, so that ccache sees the same paths."""
    return work / "sources" / "-".join(str(row["sha256"])[:12] for row in recipe.sources)


def places_in(work: Path, recipe: Recipe) -> Optional[Tuple[Path, Path]]:
    """The unpacked sources, or None before they are."""
    from .sources import places

    folder = source_folder(work, recipe)
    return places(folder) if folder.is_dir() else None


def default_rpath(toolkit: Toolkit, cudnn: Cudnn) -> Tuple[str, ...]:
    """Where the library looks for CUDA and cuDNN at run time unless told otherwise: where they are now."""
    lib64 = toolkit.root / "lib64"
    usual = lib64 if lib64.exists() else toolkit.root / "lib"
    return (str(toolkit.library or usual), str(cudnn.library.parent))


def settings(plan: Plan, contrib: str, words: bool, hooks: str = "") -> options.Settings:
    """The option table's input: with this machine's places, or with words in their place for the key.

    The search path at run time stays as it is in both: it is in the wheel's bytes.
    """
    rpath = plan.wishes.rpath or default_rpath(plan.toolkit, plan.cudnn)
    place = (lambda real, word: word) if words else (lambda real, word: str(real))
    return options.Settings(
        opencv=plan.recipe.opencv,
        archs=plan.archs,
        profile=plan.wishes.profile,
        modules=plan.wishes.modules,
        nonfree=plan.wishes.nonfree,
        cpu=plan.wishes.cpu,
        more=plan.wishes.more,
        contrib=place(contrib, "{contrib}"),
        cuda=place(plan.toolkit.root, "{cuda}"),
        cuda_include=place(plan.toolkit.include, "{cuda_include}") if plan.toolkit.include else "",
        cuda_library=place(plan.toolkit.library, "{cuda_library}") if plan.toolkit.library else "",
        cudnn_include=place(plan.cudnn.include, "{cudnn}"),
        cudnn_library=place(plan.cudnn.library, "{cudnn}"),
        cxx=place(plan.compiler.cxx, "{cxx}"),
        cc=place(plan.compiler.c, "{cc}"),
        python=place(plan.python.executable, "{python}"),
        python_include=place(plan.python.include, "{python}"),
        python_library=place(plan.python.library, "{python}"),
        numpy_include=place(plan.python.numpy_include, "{numpy}"),
        rpath=":".join(dict.fromkeys(rpath)),
        hooks=hooks,
        ccache=True if words else plan.tools.ccache is not None,
    )


def make(
    recipe: Recipe,
    wishes: Wishes,
    archs: Architectures,
    toolkit: Toolkit,
    cudnn: Cudnn,
    compiler: Compiler,
    python: Python,
    tools: Tools,
    glibc: str,
) -> Plan:
    """Put a plan together and name it by its key."""
    plan = Plan(recipe, wishes, archs, toolkit, cudnn, compiler, python, tools, {}, "", glibc)
    value = keys.inputs(
        recipe.sources,
        options.options(settings(plan, "{contrib}", words=True, hooks=unity.word(recipe.opencv))),
        toolkit.said or toolkit.version,
        cudnn.version,
        compiler.said,
        python.numpy,
        python.tag,
        glibc,
        tools.cmake_version,
    )
    return plan._replace(inputs=value, key=keys.key(value))


def told(plan: Plan) -> List[str]:
    """The plan in lines for a person."""
    r, w = plan.recipe, plan.wishes
    return [
        f"OpenCV {r.opencv} from {', '.join(name_of(row) for row in r.sources)}",
        f"profile {w.profile}{' with ' + ','.join(w.modules) if w.modules else ''}{', non-free' if w.nonfree else ''}",
        f"architectures {' '.join(plan.archs.code)} for cards of {', '.join(r.cards)}",
        f"CUDA {plan.toolkit.version} in {plan.toolkit.root}",
        *([f"CUDA's headers are system headers: they clash with glibc {plan.glibc}"] if plan.system_headers else []),
        f"cuDNN {plan.cudnn.version} in {plan.cudnn.library.parent}",
        f"compiler {plan.compiler.cxx} ({plan.compiler.major}), processor {w.cpu}, CMake {plan.tools.cmake_version}",
        f"Python {plan.python.version} with NumPy {plan.python.numpy} ({plan.python.executable})",
        f"ccache {plan.tools.ccache or 'is not there: every object is compiled'}",
        f"key {plan.key}",
    ]
