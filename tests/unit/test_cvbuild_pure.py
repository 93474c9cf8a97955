"""The pure parts of the OpenCV build: architectures, options, what CMake said, jobs, progress, code in a library."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict

import pytest

from gpuhost.cvbuild import (
    archs,
    code_in,
    compilers,
    configured,
    failures,
    machine,
    options,
    progress,
    resources,
    unity,
)
from gpuhost.cvbuild import sources as sources_of
from gpuhost.cvbuild.archs import Architectures
from gpuhost.errors import GpuhostError
from gpuhost.planning import opencv as opencv_plan
from gpuhost.planning import recipes
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.environments import lock_digest
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make as make_plan
from gpuhost.planning.resolve import resolver
from gpuhost.planning.versions import specifier
from gpuhost.shipping import tree
from gpuhost.versions import release

from ..locks import of
from .workshop import SUMMARY, elf

BUILDS_13 = ["7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0"]


def chosen(cards: list[str], ptx: tuple[str, ...] = (), floor: str = "3.0") -> Architectures:
    """The architectures with CUDA 13."""
    return archs.choose(cards, BUILDS_13, ["8.7"], floor, ptx, "CUDA 13.0 and OpenCV 4.14.0")


def test_the_union_over_the_cards_sorted_as_numbers() -> None:
    """Two kinds of card, one twice; 10.0 comes after 9.0."""
    assert chosen(["10.0", "7.5", "9.0", "7.5"]).code == ["sm_75", "sm_90", "sm_100"]


def test_a_card_newer_than_the_toolkit_takes_the_code_that_runs_on_it() -> None:
    """8.8 is unknown to this nvcc: 8.6 runs on it; 8.7 is an integrated chip's and does not."""
    assert chosen(["8.8"]).real == ["8.6"]


def test_ptx_only_when_asked() -> None:
    """For a fleet that will get newer cards."""
    assert chosen(["8.6"]).ptx == []
    assert chosen(["8.6"], ("8.6",)).code == ["sm_86", "compute_86"]


@pytest.mark.parametrize("text", ["61", "7", "6,1", "6.1a", "sm_61", "610.0"])
def test_a_capability_is_dotted(text: str) -> None:
    """OpenCV would take 61 for 6.1 and 7 for something else: nothing is guessed."""
    with pytest.raises(GpuhostError, match="B-usage"):
        archs.checked(text)


def test_what_nvcc_says_it_builds() -> None:
    """New ones list codes, old ones have them in their help; the letter variants are not cards of their own."""
    assert archs.listed_by_nvcc("sm_75\nsm_90\nsm_100\nsm_120\n") == ["7.5", "9.0", "10.0", "12.0"]
    old = "Allowed values for this option:  'compute_30','compute_75','sm_30','sm_35','sm_75'."
    assert archs.listed_by_nvcc(old) == ["3.0", "3.5", "7.5"]
    assert archs.listed_by_nvcc("sm_90\nsm_90a\n") == ["9.0"]


def test_code_of_seven_does_not_run_on_five() -> None:
    """D17, the mistake of docs/why.md; PTX of a lower capability would."""
    with pytest.raises(GpuhostError, match=r"D17.*sm_70.*5\.0"):
        archs.must_cover(["sm_70"], ["5.0"], "The wheel")
    archs.must_cover(["compute_35"], ["5.0"], "The wheel")
    archs.must_cover(["sm_60"], ["6.1"], "The wheel")


def settings(**more: Any) -> options.Settings:
    """Settings for OpenCV 4.14 with places that are words."""
    words: Dict[str, Any] = {f: f"<{f}>" for f in options.Settings._fields}
    words.update(opencv="4.14.0", archs=Architectures(["6.1", "7.5"], []), profile="dnn", modules=(), nonfree=False)
    words.update(cpu="AVX2", more=(), ccache=True)
    return options.Settings(**{**words, **more})


def made(**more: Any) -> Dict[str, str]:
    """The options' values by name."""
    return {o.name: o.value for o in options.options(settings(**more))}


def test_the_options_say_the_architectures_and_nothing_general() -> None:
    """Dotted, with semicolons; OpenCV's own lists are never used."""
    found = made()
    assert found["CUDA_ARCH_BIN"] == "6.1;7.5"
    assert found["CUDA_ARCH_PTX"] == ""
    assert "CUDA_GENERATION" not in found


def test_the_profiles() -> None:
    """dnn builds the modules of a detector; full all, with what reads other networks; --modules its own."""
    assert set(made()["BUILD_LIST"].split(",")) == {"core", "imgproc", "imgcodecs", "dnn", "cudev", "python3"}
    full = made(profile="full")
    assert "BUILD_LIST" not in full
    # Linked against the driver's library, which a builder lacks; what BUILD_LIST leaves out needs no word.
    assert full["BUILD_opencv_cudacodec"] == "OFF" and "BUILD_opencv_cudacodec" not in made()
    assert "BUILD_opencv_cudacodec" not in made(profile="full", modules=("cudacodec",))
    assert full["WITH_PROTOBUF"] == "ON"
    assert made(modules=("dnn", "video"))["BUILD_LIST"] == "dnn,video,cudev,python3"


def test_patented_algorithms_are_asked_for() -> None:
    """The reference build had them on; here a person says so."""
    assert made()["OPENCV_ENABLE_NONFREE"] == "OFF"
    assert made(nonfree=True)["OPENCV_ENABLE_NONFREE"] == "ON"


def test_an_old_release_gets_no_option_that_it_does_not_know() -> None:
    """4.2 had neither the limited API nor CUDA as a language of CMake."""
    old = made(opencv="4.2.0")
    assert "PYTHON3_LIMITED_API" not in old
    assert "ENABLE_CUDA_FIRST_CLASS_LANGUAGE" not in old
    assert old["OPENCV_DNN_CUDA"] == "ON"
    assert old["WITH_PROTOBUF"] == "ON", "without it an old release leaves the module dnn out"


def test_files_are_compiled_together_where_the_sources_were_tried() -> None:
    """A release that nobody built this way is built file by file; the key holds all that the hooks say."""
    assert unity.hooks("4.13.0") == {} and unity.word("4.13.0") == ""
    said = unity.hooks("4.14.0")
    assert set(said) == {"PRE_CREATE_MODULE_LIBRARY.cmake", "POST_CREATE_MODULE_LIBRARY.cmake"}
    assert unity.word("4.14.0").split() == " ".join(text for _, text in sorted(said.items())).split()


def test_a_users_option_replaces_ours_but_not_the_plan() -> None:
    """--option WITH_TIFF=ON is taken; what is checked afterwards has its own argument."""
    assert made(more=(("WITH_TIFF", "ON"),))["WITH_TIFF"] == "ON"
    with pytest.raises(GpuhostError, match=r"B-usage.*CUDA_ARCH_BIN"):
        made(more=(("CUDA_ARCH_BIN", "7.0"),))


def test_each_option_has_an_origin_and_a_reason() -> None:
    """And stands in the list once."""
    names = [row[0] for row in options.ROWS]
    assert len(names) == len(set(names))
    assert all(origin and reason for _, _, origin, reason, _ in options.ROWS)


def expected(**more: Any) -> configured.Expected:
    """What the recorded summary says."""
    base: Dict[str, Any] = {
        "opencv": "4.14.0",
        "archs": Architectures(["9.0"], []),
        "cuda_series": "13.0",
        "cudnn": "9.13.1",
        "python": "/srv/venv/bin/python",
        "numpy": "2.4.6",
        "nonfree": False,
    }
    return configured.Expected(**{**base, **more})


def recorded() -> list[str]:
    """The summary of a real configure step."""
    return SUMMARY.read_text(encoding="utf-8").splitlines()


def test_the_recorded_summary_is_what_was_planned() -> None:
    """A real log of OpenCV 4.14.0 with CUDA 13.0 and cuDNN 9.13.1."""
    configured.check(configured.parse(recorded()), expected())


@pytest.mark.parametrize(
    ("old", "new", "identity"),
    [
        ("NVIDIA CUDA:                   YES (ver 13.0, CUBLAS FAST_MATH)", "NVIDIA CUDA: NO", "D18-no-dnn-cuda"),
        ("ver 13.0, CUBLAS", "ver 12.4, CUBLAS", "B-configured-otherwise"),
        ("CUBLAS FAST_MATH", "FAST_MATH", "D18-no-dnn-cuda"),
        ("CUBLAS FAST_MATH", "CUBLAS", "B-configured-otherwise"),
        ("NVIDIA GPU arch:             90", "NVIDIA GPU arch:             70", "B-wrong-architectures"),
        ("NVIDIA GPU arch:             90", "NVIDIA GPU arch:             90 75", "B-wrong-architectures"),
        ("NVIDIA PTX archs:", "NVIDIA PTX archs:            90", "B-wrong-architectures"),
        ("cuDNN:                         YES (ver 9.13.1)", "cuDNN:                         NO", "D20-cudnn-not-used"),
        ("(ver 9.13.1)", "(ver 8.9.7)", "D20-cudnn-not-used"),
        ("core cudev dnn", "core cudev", "D18-no-dnn-cuda"),
        ("/srv/venv/bin/python", "/usr/bin/python3", "B-configured-otherwise"),
        ("(ver 2.4.6)", "(ver 1.21.0)", "B-configured-otherwise"),
        ("OpenCV 4.14.0 ", "OpenCV 4.10.0 ", "B-configured-otherwise"),
        ("Non-free algorithms:         NO", "Non-free algorithms:         YES", "B-configured-otherwise"),
    ],
)
def test_each_difference_of_the_summary_is_an_error(old: str, new: str, identity: str) -> None:
    """One line changed: named with its id, and nothing else is."""
    text = "\n".join(recorded())
    assert old in text
    with pytest.raises(GpuhostError, match=identity):
        configured.check(configured.parse(text.replace(old, new).splitlines()), expected())


def test_a_log_without_a_summary_is_an_error() -> None:
    """CMake that says nothing has decided nothing."""
    with pytest.raises(GpuhostError, match="D18-no-dnn-cuda"):
        configured.check(configured.parse([]), expected())


@pytest.mark.parametrize("row", configured.STOPS, ids=lambda row: str(row[1]))
def test_lines_that_stop_the_build(row: Any) -> None:
    """Each pattern finds the line that the tools really write, and ordinary lines pass."""
    lines = {
        "D25-all-architectures": "-- CUDA: Automatic detection of CUDA generation failed. Going to build for all known "
        "architectures",
        "D19-below-opencv-floor": "CUDA backend for DNN module requires CC 5.3 or higher.  Please remove unsupported",
        "D26-not-for-this-cuda": "nvcc fatal   : Unsupported gpu architecture 'compute_50'",
        "D22-gcc-too-new": "#error -- unsupported GNU version! gcc versions later than 11 are not supported!",
    }
    with pytest.raises(GpuhostError, match=row[1]):
        configured.stop_at(lines[row[1]])
    configured.stop_at("-- CUDA: Using CUDA_ARCH_BIN=9.0")


def test_jobs_follow_memory() -> None:
    """One a core, fewer where memory would not do, none at all is an error; the user's word counts."""
    each = resources.JOB_MB["dnn"]
    assert resources.jobs(8, 100 * each, "dnn") == 8
    assert resources.jobs(8, 3 * each, "dnn") == 3
    assert resources.jobs(8, 0, "dnn", asked=5) == 5
    with pytest.raises(GpuhostError, match="D23-not-enough-memory"):
        resources.jobs(8, each - 1, "dnn")
    assert resources.memory_mb("MemTotal: 9 kB\nMemAvailable:  2048000 kB\nSwapFree: 1024000 kB\n") == 3000


def test_progress_in_steps_percent_and_time_left() -> None:
    """Half of the steps took a minute, so a minute is left."""
    step = progress.parse("[gpuhost 260/520 60.0] Building CXX object x.o")
    assert step is not None
    assert progress.words(step, 0) == "260/520 steps, 50 %, 1:00 gone, about 1:00 left"
    assert progress.parse("x.cpp:3: warning: [gpuhost 1/2 3] is not a status") is None


def test_code_is_read_from_the_library(tmp_path: Path) -> None:
    """Real code and PTX of several cards in one library; a file that is not a library is an error."""
    file = tmp_path / "cv2.abi3.so"
    file.write_bytes(elf(["sm_61", "sm_61", "sm_120", "compute_120"]))
    assert code_in.read(file).code == {"compute_120": 1, "sm_120": 1, "sm_61": 2}
    file.write_bytes(elf([]))
    assert code_in.read(file).code == {}
    file.write_bytes(b"#!/bin/sh\n" * 20)
    with pytest.raises(GpuhostError, match="B-wrong-architectures"):
        code_in.read(file)


def test_the_newest_compiler_that_the_toolkit_takes() -> None:
    """By its major version; clang calling itself g++ is none."""
    there = [compilers.Compiler(f"g++-{n}", f"gcc-{n}", n, "") for n in (12, 8, 7)]
    assert compilers.choose(there, {"min": None, "max": 8}, [], "10.1").major == 8
    assert compilers.choose(there, {"min": 6, "max": None}, [], "13.0").major == 12
    with pytest.raises(GpuhostError, match="D22-no-compiler"):
        compilers.choose([], {"min": None, "max": 8}, ["g++-8"], "10.1")
    assert compilers.parse_major("g++ (Ubuntu 7.5.0-3ubuntu1~18.04) 7.5.0\nCopyright") == 7
    assert compilers.parse_major("Debian clang version 14.0.6") == 0


def test_a_compiler_is_the_same_by_either_name(tmp_path: Path) -> None:
    """A host that has only g++-12, and one that also has g++, may share a wheel."""
    told = {}
    for name in ("g++", "g++-12"):
        folder = tmp_path / name
        folder.mkdir()
        for file in (folder / name, folder / name.replace("g++", "gcc")):
            file.write_text('#!/bin/sh\necho "${0##*/} (Debian 12.2.0-14+deb12u1) 12.2.0"\n')
            file.chmod(0o755)
        (told[name],) = compilers.found_on(str(folder))
    assert told["g++"].said == told["g++-12"].said == "g++ (Debian 12.2.0-14+deb12u1) 12.2.0"
    assert told["g++-12"].cxx.endswith("/g++-12")


def test_the_processor_class() -> None:
    """AVX2 only with what gcc turns on beside it."""
    assert machine.processor("flags\t\t: fpu pni sse4_2 popcnt avx avx2 fma f16c\n") == "AVX2"
    assert machine.processor("flags\t\t: fpu pni sse4_2 popcnt avx avx2\n") == "SSE4_2"
    assert not machine.runs_here("AVX2", "flags: pni sse4_2 popcnt\n")
    assert machine.runs_here("SSE3", "flags: pni sse4_2 popcnt\n")


def test_an_index_page_in_json_and_in_html() -> None:
    """The file is found by its exact name, a relative address is joined, the fragment goes."""
    page = json.dumps({"files": [{"filename": "a-1.tar.gz", "url": "../../p/a-1.tar.gz#sha256=1"}]})
    base = "https://index.example/simple/a/"
    assert sources_of.address_in(page, "application/json", base, "a-1.tar.gz") == "https://index.example/p/a-1.tar.gz"
    html = '<a href="/p/a-1.tar.gz#sha256=1" data-requires-python="&gt;=3">a-1.tar.gz</a>'
    assert sources_of.address_in(html, "text/html", base, "a-1.tar.gz") == "https://index.example/p/a-1.tar.gz"
    assert sources_of.address_in(html, "text/html", base, "a-2.tar.gz") is None


def test_a_download_without_network_or_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is told as such; plain http is refused."""

    def down(*_: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(sources_of.https, "opener", lambda *_: SimpleNamespace(open=lambda *_, **__: down()))
    row = {"kind": "sdist", "package": "a", "file": "a-1.tar.gz", "sha256": "0" * 64}
    with pytest.raises(GpuhostError, match=r"B-sources-not-fetched.*no route"):
        sources_of.obtain(row, tmp_path)
    with pytest.raises(GpuhostError, match="not https"):
        sources_of.obtain({**row, "url": "http://example.org/a-1.tar.gz"}, tmp_path)


def test_every_failure_has_an_id_of_the_list_and_a_meaning() -> None:
    """An id is unique by being a key; it begins with a diagnosis or B, and no message is without one."""
    assert all(name.split("-")[0] == "B" or name.split("-")[0][0] == "D" for name in failures.KINDS)
    with pytest.raises(KeyError):
        failures.failure("D99-new", "x", "y")
    error = failures.failure("B-busy", "x", "y")
    assert failures.identity_of(error) == "B-busy"


def plan_for(card: str, platform: str, **asked: str) -> Dict[str, Any]:
    """The plan of a card."""
    found = resolver()
    wanted = {name: specifier(name, text) for name, text in asked.items()}
    return make_plan(found, Request(platform, (parse(found.catalog, card),), wanted, asked))


def test_the_recipe_of_the_reference_pair() -> None:
    """OpenCV 4.2 with CUDA 10.0 for the P2000: two tarballs by checksum, cuDNN 7.5 to 7.6, gcc up to 7, floor 5.3."""
    recipe = recipes.make(shipped(), "4.2", "10.0", "ubuntu-18.04", ["6.1"])
    assert [row["kind"] for row in recipe.sources] == ["opencv-tarball", "opencv_contrib-tarball"]
    assert (recipe.cudnn, recipe.gcc["max"], recipe.capability_min) == ({"min": "7.5", "max": "7.6"}, 7, "5.3")


@pytest.mark.parametrize("version", ["4.1", "9.9"])
def test_a_release_without_cuda_or_unknown(version: str) -> None:
    """4.1 has no CUDA backend for its DNN module; 9.9 is none of the catalog."""
    with pytest.raises(GpuhostError, match="B-"):
        recipes.make(shipped(), version, "11.8", "ubuntu-18.04", ["6.1"])


def test_the_newest_release_for_a_toolkit() -> None:
    """CUDA 13 with cuDNN 9 takes 4.14, and never 5.0, which reads no Darknet networks."""
    assert recipes.newest_for(shipped(), "13.0", "9.13.1", ["7.5"]) == "4.14.0"
    assert release(recipes.newest_for(shipped(), "11.8", "8.6.0", ["5.0"])) >= (4, 3)
    with pytest.raises(GpuhostError, match="B-opencv-without-cuda"):
        recipes.newest_for(shipped(), "8.0", "9.1", ["6.1"])


@pytest.mark.parametrize(("card", "platform"), [("Quadro P2000", "ubuntu-18.04"), ("RTX 2080", "debian-12")])
def test_what_the_role_takes_from_a_plan(card: str, platform: str) -> None:
    """A compiler that the toolkit accepts, the plan's cards in the recipe, and no catalog on the host."""
    plan = plan_for(card, platform)
    lock = of(plan)
    files = tree.opencv(lock)["files"]
    assert tree.program("opencv-builder", lock)["files"] == files
    recipe = json.loads(files["recipe.json"])
    assert recipe["cards"] == plan["opencv"]["cuda_arch_bin"]
    assert not any(name.startswith(("gpuhost/data", "gpuhost/planning")) for name in files)
    compiler = lock["contents"]["opencv"]["packages"][0]
    assert compiler.startswith("g++-")
    assert int(compiler[4:]) <= recipe["gcc"]["max"]


def test_the_environment_takes_the_wheel_in_place_of_the_index_s() -> None:
    """The lock's other packages stay, OpenCV is the one that was built, and another wheel is another environment."""
    plan = plan_for("RTX 2080", "debian-12")
    wheel = {"name": "opencv-contrib-python", "version": "4.11.0.86+cuda125.sm75.0", "kind": "wheel", "size": 1}
    row = {**wheel, "file": "w.whl", "sha256": "0" * 64, "path": "/x"}
    held = of(plan)["environments"]["opencv_cuda"]
    assert "opencv-contrib-python" not in {p["name"] for p in held["packages"]}, "the index's is not fetched"
    made = opencv_plan.with_wheel(held, row)
    rows = {p["name"]: p for p in made["packages"]}
    assert rows["opencv-contrib-python"]["file"] == "w.whl"
    assert "path" not in rows["opencv-contrib-python"]
    assert release(rows["numpy"]["version"]) >= (1,)
    assert lock_digest(opencv_plan.with_wheel(held, {**row, "sha256": "1" * 64})) != lock_digest(made)


@pytest.mark.parametrize(("series", "glibc"), [("11.8", "2.41"), ("12.9", "2.41"), ("13.0", "2.42"), ("13.1", "2.42")])
def test_the_glibc_that_a_toolkit_s_headers_clash_with(series: str, glibc: str) -> None:
    """As measured with <cmath> on Debian 13 and on Debian testing."""
    assert recipes.make(shipped(), "4.14", series, "debian-13", ["7.5"]).clash_from_glibc == glibc


@pytest.mark.parametrize("series", ["13.2", "13.3"])
def test_newer_headers_clash_with_none(series: str) -> None:
    """NVIDIA fixed them."""
    assert recipes.make(shipped(), "4.14", series, "debian-13", ["7.5"]).clash_from_glibc is None


@pytest.mark.parametrize(
    ("platform", "cuda", "told"),
    [("debian-13", "12.9", True), ("debian-13", "13.0", False), ("debian-12", "12.9", False)],
)
def test_a_plan_says_that_the_headers_clash(platform: str, cuda: str, told: bool) -> None:
    """Programs of the user's own meet the clash too."""
    wanted = {"cuda": specifier("cuda", cuda)}
    asked = {"cuda": cuda}
    request = Request(platform, (parse(shipped(), "RTX 2080"),), wanted, asked, without=frozenset(["tensorflow"]))
    notes = [note["text"] for note in make_plan(resolver(), request)["notes"] if "NVCC_PREPEND_FLAGS" in note["text"]]
    assert len(notes) == told
