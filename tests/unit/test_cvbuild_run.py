"""The build of OpenCV from command line to wheel, with tools that cost nothing: what it makes, resumes and refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Optional

import pytest

from gpuhost.cli import opencv as cli_opencv
from gpuhost.cvbuild import cli, compilers, failures, machine, make, proof, resources
from gpuhost.cvbuild.wheel import facts_of

from .workshop import OBJECTS, Workshop, cudnn, elf, toolkit


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A machine that builds."""
    monkeypatch.setattr(resources, "DISK_MB", {"dnn": 1, "full": 1})
    return Workshop(tmp_path, monkeypatch)


def says(capsys: Any, identity: str, code: int, exit_code: int) -> str:
    """The message of a run that ended with this id and its exit code."""
    message = str(capsys.readouterr().err)
    assert f"error: [{identity}] " in message, message
    assert code == exit_code == failures.KINDS[identity].error.exit_code
    assert message.strip().splitlines()[-1], "a message says what to do next"
    return message


def test_a_build_makes_one_wheel_with_its_facts(shop: Workshop, capsys: Any) -> None:
    """The wheel is named by what is in it, carries its facts, and its RECORD agrees with its files."""
    assert shop.run() == 0
    [wheel] = shop.wheels()
    assert capsys.readouterr().out.strip() == str(wheel)
    facts = facts_of(wheel)
    local = f"cuda130.sm90.{facts['key'][:8]}"
    assert wheel.name == f"opencv_contrib_python-4.14.0.94+{local}-cp36-abi3-linux_x86_64.whl"
    assert (facts["code"], facts["capabilities"], facts["cudnn"]) == ({"sm_90": 1}, ["9.0"], "9.13.1")
    with zipfile.ZipFile(str(wheel)) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert {
            "cv2/__init__.py",
            "cv2/cv2.abi3.so",
            "cv2/config.py",
            "cv2/config-3.py",
            "cv2/load_config_py3.py",
        } <= names
        record = archive.read(next(n for n in names if n.endswith("RECORD"))).decode()
        assert {line.split(",")[0] for line in record.splitlines()} == names
        assert b"/usr/local" not in archive.read("cv2/config.py"), "the loader must not look outside the package"


def test_the_wheel_installs_lists_and_goes_with_pip(shop: Workshop, tmp_path: Path) -> None:
    """pip takes the wheel for opencv-contrib-python, and removing it leaves nothing."""
    assert shop.run() == 0
    [wheel] = shop.wheels()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    place = tmp_path / "site"
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", "--target", str(place), str(wheel)], check=True)
    listed = subprocess.run([*pip, "list", "--path", str(place), "--format", "json"], check=True, capture_output=True)
    assert json.loads(listed.stdout) == [{"name": "opencv-contrib-python", "version": wheel.name.split("-")[1]}]


def test_the_same_key_is_never_built_twice(shop: Workshop) -> None:
    """The second run takes the wheel from the cache: nothing is configured, even with the work folder gone."""
    assert shop.run() == 0
    before = shop.wheels()[0].read_bytes()
    shutil.rmtree(str(shop.root / "cache" / "opencv"))
    assert shop.run() == 0
    assert shop.work is None
    assert shop.wheels()[0].read_bytes() == before


def test_a_damaged_wheel_of_the_cache_is_built_again(shop: Workshop) -> None:
    """A wheel whose bytes are not those that were kept does not count."""
    assert shop.run() == 0
    whole = shop.wheels()[0].read_bytes()
    shop.wheels()[0].write_bytes(whole[:-100])
    assert shop.run() == 0
    assert shop.wheels()[0].read_bytes() == whole


def test_two_builds_give_the_same_bytes(shop: Workshop) -> None:
    """Nothing of the time or the order of files is in the wheel."""
    assert shop.run() == 0
    before = shop.wheels()[0].read_bytes()
    assert shop.run("--fresh") == 0
    assert shop.wheels()[0].read_bytes() == before


def test_killed_half_way_it_goes_on(shop: Workshop) -> None:
    """A run ended in the middle of ninja is resumed without configuring, or compiling an object, again."""
    shop.fault("kill-5")
    program = "import sys; from gpuhost.cli import opencv as cli_opencv; sys.exit(cli_opencv.main(sys.argv[1:]))"
    assert shop.run() == 130, program
    assert shop.work is not None
    made = {p.name: p.read_text() for p in (shop.work / "build").glob("*.o")}
    assert len(made) == 5
    shop.fault("")
    assert shop.run() == 0
    assert shop.count("configured") == 1
    now = {p.name: p.read_text() for p in (shop.work / "build").glob("*.o")}
    assert len(now) == OBJECTS
    assert {name: now[name] for name in made} == made


def test_fresh_starts_over(shop: Workshop) -> None:
    """--fresh configures and compiles again."""
    assert shop.run() == 0
    assert shop.run("--fresh") == 0
    assert shop.count("configured") == 1, "the work folder was emptied first"


def test_another_architecture_is_another_key(shop: Workshop) -> None:
    """Two cards give two wheels."""
    assert shop.run() == 0
    shop.recipe = shop.recipe.__class__(**{**shop.recipe.__dict__, "cards": ["8.6"]})
    assert shop.run() == 0
    assert [facts_of(w)["capabilities"] for w in shop.wheels()] in ([["9.0"], ["8.6"]], [["8.6"], ["9.0"]])


def test_the_key_does_not_know_where_things_are(shop: Workshop, tmp_path: Path, capsys: Any) -> None:
    """Toolkit and cuDNN in other folders, found at the same place at run time: the same key."""
    rpath = ["--rpath", "/opt/x", "--print-key"]
    assert shop.run(*rpath) == 0
    first = json.loads(capsys.readouterr().out)["key"]
    shop.cuda = shop.cuda.rename(tmp_path / "elsewhere")
    assert shop.run(*rpath) == 0
    assert json.loads(capsys.readouterr().out)["key"] == first
    assert shop.run("--print-key", "--rpath", "/opt/y") == 0
    assert json.loads(capsys.readouterr().out)["key"] != first


@pytest.mark.parametrize(
    ("fault", "identity"),
    [
        ("all", "D25-all-architectures"),
        ("floor", "D19-below-opencv-floor"),
        ("arch", "B-wrong-architectures"),
        ("cudnn", "D20-cudnn-not-used"),
        ("download", "D24-hidden-download"),
        ("disk", "B-disk-full"),
        ("memory-3", "D23-killed-for-memory"),
        ("error-3", "B-compile-failed"),
    ],
)
def test_what_goes_wrong_in_the_tools_has_its_id(shop: Workshop, capsys: Any, fault: str, identity: str) -> None:
    """Each failure of CMake or ninja is named, and nothing comes into the cache."""
    shop.fault(fault)
    says(capsys, identity, shop.run(), failures.KINDS[identity].error.exit_code)
    assert shop.wheels() == []


def test_a_failed_check_does_not_pass_by_running_again(shop: Workshop, capsys: Any) -> None:
    """A difference in CMake's summary stays an error in the next run, which has nothing to configure."""
    shop.fault("arch")
    assert shop.run() == 7
    shop.fault("")
    says(capsys, "B-wrong-architectures", shop.run(), 7)
    assert shop.run("--fresh") == 0


def test_no_space_is_told_before_anything_is_begun(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A file system without room is refused at once."""
    monkeypatch.setattr(resources, "DISK_MB", {"dnn": 10**9})
    says(capsys, "B-disk-full", shop.run(), 7)
    assert shop.count("configured") == 0


def test_a_full_disk_is_no_traceback(shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The disk fills while the sources are unpacked."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make.sources, "unpack", full)
    says(capsys, "B-disk-full", shop.run(), 7)


def test_sources_with_another_checksum_are_refused(shop: Workshop, capsys: Any) -> None:
    """One changed byte in the sdist."""
    data = bytearray(shop.sdist.read_bytes())
    data[-1] ^= 1
    shop.sdist.write_bytes(bytes(data))
    says(capsys, "B-sources-tampered", shop.run(), 6)


def test_a_changed_file_of_the_unpacked_sources_is_refused(shop: Workshop, capsys: Any) -> None:
    """Between a killed run and the next one, somebody edits the unpacked sources."""
    shop.fault("kill-5")
    assert shop.run() == 130
    shop.fault("")
    [file] = (shop.root / "cache" / "opencv" / "sources").rglob("a.cpp")
    file.write_text("int evil;")
    says(capsys, "B-sources-tampered", shop.run(), 6)
    assert shop.run("--fresh") == 0


def test_a_card_the_toolkit_does_not_know(shop: Workshop, capsys: Any) -> None:
    """5.0 with CUDA 13."""
    shop.recipe = shop.recipe.__class__(**{**shop.recipe.__dict__, "cards": ["5.0"]})
    says(capsys, "D26-not-for-this-cuda", shop.run(), 3)


def test_a_card_below_the_floor_of_opencv(shop: Workshop, capsys: Any) -> None:
    """5.0 with OpenCV 4.2's DNN, which takes 5.3."""
    shop.recipe = shop.recipe.__class__(**{**shop.recipe.__dict__, "cards": ["5.0"], "capability_min": "5.3"})
    toolkit(shop.cuda, codes=("50", "53"))
    says(capsys, "D19-below-opencv-floor", shop.run(), 3)


def test_no_card_and_nothing_said(shop: Workshop, capsys: Any) -> None:
    """A recipe for no card."""
    shop.recipe = shop.recipe.__class__(**{**shop.recipe.__dict__, "cards": []})
    says(capsys, "D25-detection-failed", shop.run(), 4)


@pytest.mark.parametrize(
    ("header", "library", "version", "identity"),
    [
        (False, False, "9.13.1", "D20-cudnn-missing"),
        (True, False, "9.13.1", "D20-cudnn-headers-only"),
        (False, True, "9.13.1", "D20-cudnn-library-only"),
        (True, True, "10.1.0", "D20-cudnn-major"),
    ],
)
def test_cudnn_that_will_not_do(
    shop: Workshop, tmp_path: Path, capsys: Any, header: bool, library: bool, version: str, identity: str
) -> None:
    """Missing, a part only, or of the wrong major version."""
    shop.cudnn = cudnn(tmp_path / "other", version, header, library)
    says(capsys, identity, shop.run(), failures.KINDS[identity].error.exit_code)


def test_cudnn_whose_halves_do_not_belong_together(shop: Workshop, tmp_path: Path, capsys: Any) -> None:
    """Headers of 9 beside a library of 8, as a leftover of an older installation gives."""
    shop.cudnn = cudnn(tmp_path / "other", "9.13.1", library=False)
    cudnn(tmp_path / "other", "8.9.7", header=False)
    says(capsys, "D20-cudnn-mixed", shop.run(), 7)


def test_a_compiler_that_is_too_new(shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The toolkit takes gcc to 11, the machine has 12; the archive's package that would do is named."""
    only = [compilers.Compiler("/usr/bin/g++", "/usr/bin/gcc", 12, "g++ (Debian 12.2.0-14) 12.2.0")]
    monkeypatch.setattr(compilers, "found_on", lambda _: only)
    shop.recipe = shop.recipe.__class__(**{**shop.recipe.__dict__, "gcc": {"min": 6, "max": 11}})
    assert "apt-get install g++-11" in says(capsys, "D22-gcc-too-new", shop.run(), 7)


@pytest.mark.parametrize(
    ("clash_from", "glibc", "clashes"),
    [("2.41", "2.41", True), ("2.41", "2.43", True), ("2.41", "2.36", False), (None, "2.43", False)],
)
def test_headers_that_clash_with_glibc(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, clash_from: Optional[str], glibc: str, clashes: bool
) -> None:
    """The nvcc that the build calls takes the toolkit's folder as one of system headers there, and nowhere else."""
    monkeypatch.setattr(machine, "glibc", lambda: glibc)
    shop.recipe = dataclasses.replace(shop.recipe, clash_from_glibc=clash_from)
    assert shop.run() == 0
    assert shop.work is not None
    (shop.cuda / "bin" / "nvcc").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    said = subprocess.run([str(shop.work / "tool" / "nvcc"), "-c", "a b.cu"], check=True, capture_output=True)
    own = ["-isystem", str(shop.cuda / "include")] if clashes else []
    assert said.stdout.decode().splitlines()[:-1] == [*own, "-c", "a b.cu"]


def test_the_processor_s_half_of_a_cuda_file_is_compiled_quickly(shop: Workshop) -> None:
    """The last -O is the one that g++ takes; what is not a compile step reaches nvcc as it is."""
    assert shop.run() == 0
    assert shop.work is not None
    (shop.cuda / "bin" / "nvcc").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    for given, added in ((["-c", "a.cu", "-Xcompiler", "-O3"], ["-Xcompiler=-O1"]), (["--version"], [])):
        said = subprocess.run([str(shop.work / "tool" / "nvcc"), *given], check=True, capture_output=True)
        assert said.stdout.decode().splitlines() == [*given, *added]


def test_too_little_memory(shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Not one job fits; the user may still try with --jobs 1."""
    monkeypatch.setattr(resources, "memory_mb", lambda _: 300)
    says(capsys, "D23-not-enough-memory", shop.run(), 7)
    assert shop.run("--jobs", "1") == 0


def test_a_toolkit_without_cublas(shop: Workshop, capsys: Any) -> None:
    """The missing part is named."""
    (shop.cuda / "lib64" / "libcublas.so").unlink()
    assert "cuBLAS" in says(capsys, "D21-toolkit-incomplete", shop.run(), 7)


def test_another_run_at_the_same_wheel(shop: Workshop, capsys: Any) -> None:
    """Two builds of one key at once would write into one another."""
    assert shop.run() == 0
    shutil.rmtree(str(shop.root / "cache" / "wheels"))
    assert shop.work is not None
    with make.Work(shop.work, "x").turn():
        says(capsys, "B-busy", shop.run(), 7)


def test_seven_built_and_a_five_present(shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """--arch-bin 7.5 on a host with a 5.0: the mistake of docs/why.md."""
    monkeypatch.setattr(cli_opencv.Catalog, "cards_here", lambda self: ["5.0"])
    rest = shop.arguments()[2:]
    says(capsys, "D17-card-not-covered", cli_opencv.main(["--arch-bin", "7.5", *rest]), 3)


def test_a_wheel_for_elsewhere_does_not_ask_about_here(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The same with --elsewhere is allowed: the wheel is for another machine."""
    monkeypatch.setattr(cli_opencv.Catalog, "cards_here", lambda self: ["5.0"])
    rest = shop.arguments()[2:]
    assert cli_opencv.main(["--arch-bin", "7.5", "--elsewhere", "--dry-run", *rest]) == 0
    assert "-DCUDA_ARCH_BIN=7.5 " in capsys.readouterr().out


def test_a_dry_run_where_no_toolkit_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It is for what a plan would install, and says so; without a card too, the card is what is asked for."""
    monkeypatch.setattr(cli, "platform_here", lambda: "debian-12")
    rest = ["--elsewhere", "--dry-run", "--root", str(tmp_path)]
    assert cli_opencv.main(["--arch-bin", "7.5", *rest]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"No toolkit is installed in {tmp_path}: this is for CUDA 1")
    assert "-DCUDA_ARCH_BIN=7.5 " in told
    says(capsys, "D25-detection-failed", cli_opencv.main(rest), 4)
    says(capsys, "D21-toolkit-incomplete", cli_opencv.main(["--arch-bin", "7.5", "--elsewhere", *rest[2:]]), 7)


def test_unreadable_card(shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A card that is there but not read is an error, never a guess; a machine without one is told so."""
    monkeypatch.setattr(cli_opencv.Catalog, "cards_here", lambda self: [])
    rest = shop.arguments()[2:]
    says(capsys, "D25-detection-failed", cli_opencv.main(rest), 4)


def facts() -> dict[str, Any]:
    """Facts of a wheel, as far as the proof reads them."""
    return {
        "code": {"sm_90": 3},
        "summary": {
            "NVIDIA CUDA": "YES (ver 13.0, CUBLAS)",
            "NVIDIA GPU arch": "90",
            "NVIDIA PTX archs": "",
            "cuDNN": "YES",
        },
    }


BUILD = """
General configuration for OpenCV 4.14.0 =====
  NVIDIA CUDA:                   YES (ver 13.0, CUBLAS)
    NVIDIA GPU arch:             90
    NVIDIA PTX archs:

  cuDNN:                         YES
"""


def answer(site: Path, **more: Any) -> dict[str, Any]:
    """What a sound cv2 on a machine with one card says."""
    (site / "cv2").mkdir(exist_ok=True)
    near = {"relative": 1e-6, "identical": False}
    base = {
        "every_cv2": [str(site / "cv2")],
        "unasked": [],
        "file": str(site / "cv2" / "__init__.py"),
        "build": BUILD,
        "distributions": ["opencv-contrib-python"],
        "cpu_shape": [1, 32, 32, 32],
        "devices": 1,
        "capabilities": ["9.0"],
        "round_trip": True,
        "fp32": near,
        "fp16": {"relative": 2e-3, "identical": False},
    }
    return {**base, **more}


def test_a_sound_cv2_is_proved(tmp_path: Path) -> None:
    """With a card everything is asked; without one the proof says what it could not."""
    held = proof.judge(answer(tmp_path), facts(), tmp_path, {"sm_90": 3}, ["9.0"])
    assert held.unproven == []
    assert any("fp16" in line for line in held.held)
    without = proof.judge(answer(tmp_path, devices=-1), facts(), tmp_path, {"sm_90": 3}, [])
    assert "no card here" in without.unproven[0]


@pytest.mark.parametrize(
    ("more", "identity"),
    [
        ({"file": "/usr/lib/python3/dist-packages/cv2.so"}, "D29-shadowed"),
        ({"distributions": ["opencv-contrib-python", "opencv-python"]}, "D29-shadowed"),
        ({"devices": -1}, "D29-no-device"),
        ({"devices": 0}, "D29-no-device"),
        ({"capabilities": ["5.0"]}, "D17-card-not-covered"),
        ({"fp32": {"relative": 0.0, "identical": True}}, "D18-ran-on-cpu"),
        ({"fp32": {"relative": 0.5, "identical": False}}, "B-wrong-architectures"),
        ({"fp32": {"relative": float("nan"), "identical": False}}, "B-wrong-architectures"),
        ({"round_trip": False}, "D29-no-device"),
        ({"failed": "(-217:Gpu API call) no kernel image"}, "D29-no-device"),
        ({"build": BUILD.replace("cuDNN:                         YES", "cuDNN: NO")}, "D18-no-dnn-cuda"),
        ({"build": BUILD.replace("90", "70")}, "B-wrong-architectures"),
        ({"cpu_shape": [1, 1]}, "B-import-failed"),
    ],
)
def test_a_cv2_that_is_not_what_was_planned(tmp_path: Path, more: dict[str, Any], identity: str) -> None:
    """Each thing that can be wrong with an installed cv2 has its own id."""
    with pytest.raises(Exception, match=identity):
        proof.judge(answer(tmp_path, **more), facts(), tmp_path, {"sm_90": 3}, ["9.0"])


def test_a_second_cv2_beside_ours_is_named(tmp_path: Path) -> None:
    """A cv2 further down the search path would take over as soon as ours goes."""
    more = [str(tmp_path / "cv2"), "/usr/lib/python3/dist-packages/cv2.so"]
    with pytest.raises(Exception, match="D29-shadowed"):
        proof.judge(answer(tmp_path, every_cv2=more), facts(), tmp_path, {"sm_90": 3}, ["9.0"])


def test_code_in_the_library_that_was_not_planned(tmp_path: Path) -> None:
    """The ELF is believed, not the build information."""
    with pytest.raises(Exception, match="B-wrong-architectures"):
        proof.judge(answer(tmp_path), facts(), tmp_path, {"sm_70": 3}, ["9.0"])


def test_the_module_with_other_code_never_becomes_a_wheel(shop: Workshop, capsys: Any) -> None:
    """nvcc made code for another card than planned: packing refuses."""
    text = (shop.tools / "ninja").read_text()
    (shop.tools / "ninja").write_text(text.replace(elf(["sm_90"]).hex(), elf(["sm_75"]).hex()))
    says(capsys, "B-wrong-architectures", shop.run(), 7)
    assert shop.wheels() == []


def test_a_step_counts_only_after_all_before_it(tmp_path: Path) -> None:
    """A stamp that is lost takes those after it along, and another key's stamps do not count at all."""
    work = make.Work(tmp_path, "key")
    for step in ("sources", "configure", "check"):
        work.finish(step, step, 0.0)
    assert work.is_done("check")
    assert not make.Work(tmp_path, "other").is_done("sources")
    value = json.loads(work.file.read_text())
    del value["steps"]["configure"]
    work.file.write_text(json.dumps(value))
    assert work.is_done("sources")
    assert not work.is_done("check")
