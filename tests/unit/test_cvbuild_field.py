"""The builder against what real machines and users bring: public reports of other packagings, banners, typing slips."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.cli import opencv as cli_opencv
from gpuhost.cvbuild import commands, compilers, configured, machine, options, resources, sources, toolkit
from gpuhost.cvbuild.cli import BREAKS
from gpuhost.errors import GpuhostError, RefusedError, UsageError
from gpuhost.planning import recipes
from gpuhost.planning.catalog import shipped

from . import workshop
from .workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A machine that builds."""
    monkeypatch.setattr(resources, "DISK_MB", {"dnn": 1, "full": 1})
    return Workshop(tmp_path, monkeypatch)


def moved(root: Path, places: Dict[str, str]) -> None:
    """Lay the folders of a prefix out in another way: old place to new one."""
    for old, new in places.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)


CONDA = {"include": "targets/x86_64-linux/include", "lib64": "targets/x86_64-linux/lib"}
DEBIAN = {"nvvm": "lib/nvidia-cuda-toolkit", "lib64": "lib/x86_64-linux-gnu"}


# cupy#9920, opencv_contrib#3728: conda's packages; the file lists of Debian's nvidia-cuda-toolkit.
@pytest.mark.parametrize("places", [CONDA, DEBIAN], ids=["conda", "debian"])
def test_a_toolkit_is_found_in_other_layouts(tmp_path: Path, places: Dict[str, str]) -> None:
    """The folders of headers and libraries are told to CMake where it does not look by itself."""
    root = workshop.toolkit(tmp_path / "cuda")
    moved(root, places)
    found = toolkit.read_toolkit(root)
    assert found.library == root / places["lib64"]
    assert found.include == (root / places["include"] if "include" in places else None)


def test_the_usual_layout_is_told_nothing(tmp_path: Path) -> None:
    """A key that was made before stays the same."""
    found = toolkit.read_toolkit(workshop.toolkit(tmp_path / "cuda"))
    assert (found.include, found.library) == (None, None)


def test_another_layout_reaches_cmake(shop: Workshop, capsys: Any) -> None:
    """Both folders are part of the command line."""
    moved(shop.cuda, CONDA)
    assert shop.run("--dry-run") == 0
    said = capsys.readouterr().out
    assert f"-DCMAKE_INCLUDE_PATH={shop.cuda}/targets/x86_64-linux/include" in said
    assert f"-DCMAKE_LIBRARY_PATH={shop.cuda}/targets/x86_64-linux/lib" in said


@pytest.mark.parametrize("lost", ["include/npp.h", "lib64/libnppial.so", "lib64/libnppc.so"])
def test_a_toolkit_without_npp_is_named(tmp_path: Path, lost: str) -> None:
    """OpenCV's CMake asks for NPP whatever modules are built."""
    root = workshop.toolkit(tmp_path / "cuda")
    (root / lost).unlink()
    with pytest.raises(GpuhostError, match=r"D21-toolkit-incomplete.*NPP"):
        toolkit.read_toolkit(root)


def test_the_toolkit_on_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none was installed and none given, as on a Debian with its own CUDA; a broken one is not its own remedy."""
    found = workshop.toolkit(tmp_path / "found")
    monkeypatch.setenv("PATH", f"{found}/bin")
    (found / "include" / "npp.h").unlink()
    for root, word in ((tmp_path / "none", f"--cuda {found} (its nvcc is on PATH)"), (found, "--cuda DIR")):
        with pytest.raises(GpuhostError, match="D21-toolkit-incomplete") as caught:
            toolkit.read_toolkit(root)
        assert caught.value.next_step.endswith(word)


def test_only_full_needs_cufft(tmp_path: Path) -> None:
    """The profile dnn is built without it."""
    root = workshop.toolkit(tmp_path / "cuda")
    toolkit.read_toolkit(root)
    with pytest.raises(GpuhostError, match="cuFFT"):
        toolkit.read_toolkit(root, full=True)


def test_what_cmake_does_not_find_is_named() -> None:
    """The list after NOTFOUND, in the words of CMake 3.25 and later."""
    log = (
        "CMake Error: The following variables are used in this project, but they are set to NOTFOUND.\n"
        "Please set them or make sure they are set and tested correctly in the CMake files:\n"
        "CUDA_nppial_LIBRARY (ADVANCED)\n"
        '    linked by target "opencv_cudev" in directory /src/modules/cudev\n'
        "CUDA_nppc_LIBRARY (ADVANCED)\n"
    )
    with pytest.raises(GpuhostError, match=r"D21-toolkit-incomplete.*nppc, nppial"):
        configured.raise_not_found(log, "/opt/cuda")
    configured.raise_not_found("CMake Error: something else\n", "/opt/cuda")


def relinked(root: Path, name: str) -> None:
    """A cuDNN's library under another file name."""
    link = root / "lib" / "libcudnn.so"
    link.resolve().rename(root / "lib" / name)
    link.unlink()
    link.symlink_to(name)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("libcudnn.so.9.13.1", True),
        ("libcudnn.so.9.1.0", False),
        ("libcudnn.so.8.9.7", False),
        ("libcudnn.so.9", True),  # NVIDIA's wheels; this one cannot be loaded, so only the major is known
        ("libcudnn.so.8", False),
    ],
)
def test_headers_and_library_are_of_one_version(tmp_path: Path, name: str, fits: bool) -> None:
    """Also of one minor version, as far as the library's name says it."""
    root = workshop.cudnn(tmp_path / "cudnn", "9.13.1")
    relinked(root, name)
    if fits:
        assert toolkit.read_cudnn(root).version == "9.13.1"
    else:
        with pytest.raises(GpuhostError, match="D20-cudnn-mixed"):
            toolkit.read_cudnn(root)


def test_a_library_is_asked_for_its_version(tmp_path: Path) -> None:
    """A real library whose name has the major alone."""
    source = tmp_path / "a.c"
    source.write_text("unsigned long cudnnGetVersion(void) { return 90100; }\n", encoding="ascii")
    root = workshop.cudnn(tmp_path / "cudnn", "9.13.1")
    relinked(root, "libcudnn.so.9")
    library = root / "lib" / "libcudnn.so.9"
    commands.follow(["gcc", "-shared", "-o", str(library), str(source)], tmp_path / "log", lambda _: None)
    assert toolkit.library_version(root / "lib" / "libcudnn.so") == "9.1.0"
    with pytest.raises(GpuhostError, match=r"9\.13\.1, its library is of version 9\.1\.0"):
        toolkit.read_cudnn(root)


@pytest.mark.parametrize(("number", "version"), [(7605, "7.6.5"), (8907, "8.9.7"), (90100, "9.1.0"), (91301, "9.13.1")])
def test_how_cudnn_counts(number: int, version: str) -> None:
    """The two ways of CUDNN_VERSION."""
    assert toolkit.spelt(number) == version


@pytest.mark.parametrize(
    ("cuda", "refused", "taken"),
    [
        ("13.0", ["8.9.7", "9.1.0", "9.10.2"], ["9.13.1", "9.21.0", "9.30.0"]),
        ("12.4", ["7.6.5", "8.0.5"], ["8.9.7", "9.13.1"]),
        ("11.8", ["9.13.1", "7.6.5"], ["8.6.0", "8.9.7"]),
    ],
)
def test_a_cudnn_of_another_cuda_is_refused(cuda: str, refused: List[str], taken: List[str]) -> None:
    """Its headers do not say which CUDA it is for; which versions exist for which CUDA does."""
    recipe = recipes.make(shipped(), "4.14.0", cuda, "debian-12", ["8.6"])
    kit = toolkit.Toolkit(Path("/cuda"), f"{cuda}.1", ["8.6"], "")

    def check(version: str) -> None:
        pair = toolkit.Cudnn(Path("/i"), Path("/l"), version)
        toolkit.check_toolkit(kit, pair, recipe.cuda, recipe.cudnn, recipe.opencv)

    for version in taken:
        check(version)
    for version in refused:
        with pytest.raises(GpuhostError, match="D20-cudnn-major"):
            check(version)


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ("g++ (Debian 12.2.0-14) 12.2.0", 12),
        ("g++ (GCC) 14.2.1 20250110 (Red Hat 14.2.1-7)", 14),
        ("g++ (GCC) 4.8.5 20150623 (Red Hat 4.8.5-44)", 4),
        ("g++ (GCC) 16.0.1 20260315 (experimental)", 16),
        ("g++ (Ubuntu 7.5.0-3ubuntu1~18.04) 7.5.0", 7),
        ("g++-13 (SUSE Linux) 13.3.1 20240807 [revision 1932d2e01b2d5aaa5a2dbd2b2ed30b3d4d3b4c5d]", 13),
        ("g++ (Gentoo Hardened 13.2.1_p20240210 p14) 13.2.1 20240210", 13),
        ("x86_64-conda-linux-gnu-c++ (conda-forge gcc 12.3.0-5) 12.3.0", 12),
        ("g++ (crosstool-NG 1.25.0 (build 5)) 11.2.0", 11),
        ("g++ (Alpine 13.2.1_git20240309) 13.2.1 20240309", 13),
        ("g++ (GCC) 14", 14),
        ("Debian clang version 14.0.6", 0),
        ("Apple clang version 15.0.0 (clang-1500.3.9.4)", 0),
        ("g++ (unclosed 12.2.0", 0),
        ("", 0),
        ("\n", 0),
        ("g++", 0),
    ],
)
def test_compilers_of_every_packager(said: str, major: int) -> None:
    """The version stands after the packager, and a date or the packager again may follow."""
    assert compilers.parse_major(said) == major


def test_a_processor_of_another_architecture_is_refused() -> None:
    """A Jetson's /proc/cpuinfo (opencv-python#1136)."""
    with pytest.raises(RefusedError, match="B-wrong-processor"):
        machine.processor("processor\t: 0\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x41\n")


def place(root: Path, files: Dict[str, str]) -> Path:
    """Write files below a root."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


MEMINFO = {"proc/meminfo": "MemAvailable:   263000000 kB\nSwapFree:              0 kB\n"}
V1 = "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n"


@pytest.mark.parametrize(
    ("files", "jobs"),
    [
        ({}, 64),
        # A container sees its own group as the top of each controller, under the host's path.
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "8589934592\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "0::/user.slice/job.scope\n",
                "sys/fs/cgroup/user.slice/memory.max": "8589934592\n",
                "sys/fs/cgroup/user.slice/job.scope/memory.max": "max\n",
                "sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000\n",
            },
            5,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n", "sys/fs/cgroup/memory.max": "\n"}, 64),
        ({"proc/self/cgroup": "0::/../../etc\n"}, 64),
    ],
)
def test_jobs_follow_the_limits_of_a_container(tmp_path: Path, files: Dict[str, str], jobs: int) -> None:
    """Memory and processors of cgroups of both versions, of the process's own group and those above it."""
    assert resources.here("dnn", root=place(tmp_path, {**MEMINFO, **files}), cores=64) == jobs


def test_the_shell_s_variables_do_not_enter_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of what gcc, nvcc, CMake and ccache read is part of the key."""
    names = (
        "NVCC_APPEND_FLAGS NVCC_PREPEND_FLAGS NVCC_CCBIN CPATH CPLUS_INCLUDE_PATH LIBRARY_PATH CMAKE_PREFIX_PATH "
        "CMAKE_GENERATOR CMAKE_BUILD_TYPE CUDACXX CUDAHOSTCXX CUDAARCHS CXX CFLAGS LD_PRELOAD OPENCV_X CCACHE_DISABLE"
    )
    for name in names.split():
        monkeypatch.setenv(name, "/odd")
    env = commands.environment({"CCACHE_DIR": "/c"})
    assert "/odd" not in env.values()
    assert env["CCACHE_DIR"] == "/c"


@pytest.mark.parametrize("letter", list(" ,;:'\"\\$`()&|<>*?!#\t\n"))
def test_paths_that_break_a_build(letter: str) -> None:
    """Each is refused by name before anything is built."""
    assert BREAKS.search(f"/srv/my{letter}cuda")
    assert not BREAKS.search("/srv/café_1.2-a+b@x=y~z/cuda%20")


@pytest.mark.parametrize("option", ["--root", "--work", "--cuda", "--cudnn", "--ccache"])
def test_a_path_with_a_space_is_refused_early(shop: Workshop, capsys: Any, option: str) -> None:
    """The option is named; nothing was made."""
    assert shop.run(option, str(shop.folder / "a b")) == 2
    assert f"[B-usage] {option}: CMake and nvcc break at ' '" in capsys.readouterr().err
    assert not shop.root.exists()


def test_sources_that_are_not_there(shop: Workshop, capsys: Any) -> None:
    """A missing file and a folder are told as such."""
    assert shop.run("--sources", "/nowhere/x.tar.gz") == 2
    assert "it is not there" in capsys.readouterr().err
    assert shop.run("--sources", str(shop.folder)) == 2
    assert "it is a folder" in capsys.readouterr().err


def test_sources_are_known_by_their_checksum(shop: Workshop, tmp_path: Path, capsys: Any) -> None:
    """A file of another name is taken; one that is not the source is refused by name, and nothing is downloaded."""
    other = shop.sdist.rename(shop.folder / "opencv-contrib-python-4.14.0.94.tar.gz")
    shop.sdist = other
    assert shop.run() == 0
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(b"other")
    with pytest.raises(GpuhostError, match=rf"B-sources-tampered.*{wrong}"):
        sources.matched(shop.recipe.sources, [wrong])


@pytest.mark.parametrize("modules", ["cudaarithm,cudaimgproc", "video"])
def test_modules_without_dnn_are_refused_at_once(shop: Workshop, capsys: Any, modules: str) -> None:
    """With the command that would do."""
    assert shop.run("--modules", modules) == 2
    assert f"--modules dnn,{modules}" in capsys.readouterr().err
    assert not shop.root.exists()


def test_a_module_that_cmake_leaves_out_is_named(shop: Workshop, capsys: Any) -> None:
    """The recorded summary has no module videoio."""
    assert shop.run("--modules", "dnn,videoio") == 7
    assert "videoio too, as --modules asks" in capsys.readouterr().err


def test_fast_math_may_be_declined(shop: Workshop, capsys: Any) -> None:
    """opencv#18989, #24016: the recorded summary still has it, so the check holds in the other direction."""
    assert shop.run("--option", "CUDA_FAST_MATH=OFF") == 7
    assert "no FAST_MATH" in capsys.readouterr().err


CACHE = (
    "WITH_FFMPEG:BOOL=ON\nWITH_TBB:BOOL=OFF\nWITH_FFMPG:UNINITIALIZED=ON\nWITH_V4L:BOOL=ON\nCMAKE_X:UNINITIALIZED=1\n"
)
VARS = 'HAVE_FFMPEG="FALSE"\nHAVE_CAMV4L2="TRUE"\nHAVE_TBB="1"\n'


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (("WITH_FFMPEG", "ON"), "did not find what it needs"),
        (("WITH_TBB", "ON"), "CMake made it OFF"),
        (("WITH_FFMPG", "ON"), "has no option WITH_FFMPG"),
        (("NOT_THERE", "1"), "has no option NOT_THERE"),
        (("WITH_V4L", "1"), None),
        (("WITH_FFMPEG", "OFF"), "CMake made it ON"),
        (("CMAKE_X", "1"), None),
    ],
)
def test_an_option_is_held_against_what_cmake_made_of_it(asked: Any, complaint: Any) -> None:
    """Overruled, unknown, and looked for in vain."""
    if complaint is None:
        configured.check_asked([asked], CACHE, VARS)
    else:
        with pytest.raises(GpuhostError, match=complaint):
            configured.check_asked([asked], CACHE, VARS)


@pytest.mark.parametrize("name", sorted(options.PROTECTED))
def test_no_option_undoes_the_plan(name: str, shop: Workshop, capsys: Any) -> None:
    """What the plan decides is refused as --option, with the way to say it."""
    assert shop.run("--option", f"{name}=1") == 2
    assert f"{name} is decided by the plan" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["A=B\n", "A;B=1", "A", "=1", "A B=1", "A=1;-DX=2", "1A=2", "A:STRING=1"])
def test_an_option_is_one_name_and_one_value(text: str) -> None:
    """CMake would take some of these for several."""
    with pytest.raises(UsageError):
        options.parse_more([text])


@pytest.mark.parametrize("opencv", ["5.0.0", "4.5.0"])
def test_what_the_plan_refuses_is_refused_here(opencv: str) -> None:
    """5.0 reads no Darknet networks; of 4.5.0 no opencv_contrib is known by checksum."""
    with pytest.raises(RefusedError):
        recipes.make(shipped(), opencv, "12.4", "debian-12", ["7.5"])


@pytest.mark.parametrize("option", ["--opencv", "--assume-cuda", "--assume-cudnn"])
@pytest.mark.parametrize("text", ["abc", "", "4.x", "४.१", "4.14\n", "9" * 400, "4.14.0-dev", "-1"])
def test_a_version_is_figures(option: str, text: str, capsys: Any) -> None:
    """Any other text is a usage error, not a traceback and not "the newest"."""
    given = ["--dry-run", "--elsewhere", "--arch-bin", "7.5", "--assume-cuda", "12.4", "--assume-cudnn", "9.1.0"]
    with pytest.raises(SystemExit) as ended:
        cli_opencv.main([*given, f"{option}={text}"])
    assert ended.value.code == 2
    assert re.search(rf"argument {option}: .* is not a version", capsys.readouterr().err)


@pytest.mark.parametrize("text", ["\uff16.1", "6.1\n", "6.1 ", "61", "sm_61"])  # noqa: RUF100 - full-width figures
def test_a_capability_is_two_plain_figures(text: str) -> None:
    """OpenCV would read others differently."""
    from gpuhost.cvbuild.archs import checked

    with pytest.raises(UsageError):
        checked(text)


def test_an_index_with_a_login_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user and a password in pip's index address are used, and told nowhere."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:s3cret@127.0.0.1:9/simple")
    row = {"kind": "sdist", "package": "p", "file": "p-1.tar.gz", "sha256": "0" * 64}
    with pytest.raises(GpuhostError) as refused:
        sources.obtain(row, tmp_path)
    assert "B-sources-not-fetched" in str(refused.value)
    assert "s3cret" not in f"{refused.value} {refused.value.next_step}"
