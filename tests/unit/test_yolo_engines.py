"""ONNX Runtime and OpenVINO against OpenCV and against plain NumPy, and what is said where they are missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.yolo import (
    detector,
    devices,
    engine,
    engine_onnxruntime,
    engine_openvino,
    memory,
    network,
    reference,
    table,
)
from gpuhost.yolo.files import nothing_written
from gpuhost.yolo.models import ModelFiles, model_files
from gpuhost.yolo.photos import pixels

from .workshop import elf

ENGINES = ("onnxruntime", "openvino")
TINIES = ("yolov3-tiny", "yolov4-tiny")
SIDE = 128


@pytest.fixture(name="tiny", scope="module", params=TINIES)
def tiny_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny network's files in a folder of this module."""
    return model_files(request.param, SIDE, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(name="probe", scope="module")
def probe_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The probe network on disk."""
    return devices.probe_files(tmp_path_factory.mktemp("probe"))


def some_blobs(count: int, side: int) -> Any:
    """Several different inputs."""
    return np.concatenate([detector.to_blob(pixels(number), side) for number in range(count)])


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_agrees_with_opencv_and_with_the_reference(name: str, tiny: ModelFiles) -> None:
    """Raw heads far inside the single precision gate, and the same boxes in the same rows as OpenCV's own layer."""
    opened = devices.open_network(tiny, name)
    assert opened.proof is not None and opened.proof.precision == "fp32" and opened.proof.gate == 5e-4
    blob = detector.to_blob(pixels(2), SIDE)
    for found, expected in zip(opened.raw_heads(blob), reference.forward(tiny.layers, tiny.weights, blob[0])):
        assert reference.relative_error(found, expected) < devices.GATE_FP32 / 5
    theirs, ours = devices.open_network(tiny, "cpu").forward(blob), opened.forward(blob)
    assert [head.shape for head in ours] == [head.shape for head in theirs]
    for found, expected in zip(ours, theirs):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["cpu", *ENGINES])
def test_a_batch_is_its_pictures_one_by_one(name: str, tiny: ModelFiles) -> None:
    """In their order; a batch of another length afterwards as well."""
    opened, blobs = devices.open_network(tiny, name), some_blobs(3, SIDE)
    for chosen in (blobs, blobs[1:2], blobs[::2].copy()):
        together = opened.forward_batch(chosen)
        assert len(together) == len(chosen)
        for place, heads in enumerate(together):
            for found, expected in zip(heads, opened.forward(chosen[place : place + 1])):
                assert found.shape == expected.shape
                assert reference.relative_error(found, expected) <= devices.GATE_FP32


@pytest.mark.parametrize("name", ENGINES)
def test_outputs_are_the_callers_own(name: str, probe: ModelFiles) -> None:
    """A later forward pass changes nothing of an earlier one's result."""
    opened, blobs = devices.open_network(probe, name), some_blobs(2, 64)
    raw, heads = opened.raw_heads(blobs[:1]), opened.forward(blobs[:1])
    kept = [array.copy() for array in raw + heads]
    opened.forward(blobs[1:])
    assert all(np.array_equal(array, copy) for array, copy in zip(raw + heads, kept))


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_package_is_refused(name: str, probe: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install; the other devices stay."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(devices.DeviceError, match="not in this Python") as caught:
        devices.open_network(probe, name)
    assert caught.value.code == "no_package" and "opencv_engines" in caught.value.next_step
    rows = {row["name"]: row for row in devices.survey()}
    assert [one for one in ("cpu", *ENGINES) if rows[one]["available"]] == [
        one for one in ("cpu", *ENGINES) if one != name
    ]


@pytest.mark.parametrize("name", ENGINES)
def test_a_broken_package_is_refused(
    name: str, probe: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found and cannot be imported, as with a library of the system that is missing."""
    (tmp_path / f"{name}.py").write_text("raise ImportError('libstrange.so: no such file')\n", encoding="ascii")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(devices.DeviceError, match="libstrange") as caught:
        devices.open_network(probe, name)
    assert caught.value.code == "broken_package"


CARD = {"name": "Quadro P2000", "capability": "6.1", "error": None}
SEEN = {
    "error": None,
    "ended": None,
    "init": {"code": 0, "name": "CUDA_SUCCESS", "text": "no error"},
    "devices": [CARD],
}


def gpu_library(folder: Path, code: List[str], taken: str = "CUDAExecutionProvider") -> Any:
    """ONNX Runtime with its provider for cards: the real one of this Python, whose build holds `code` and whose session
    says that it took the provider `taken`.
    """
    real = pytest.importorskip("onnxruntime")
    (folder / "capi").mkdir()
    (folder / engine_onnxruntime.PROVIDER).write_bytes(elf(code))

    class Session(real.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: Any, providers: List[str]) -> None:
            assert providers == ["CUDAExecutionProvider"]
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> List[str]:
            return [taken, "CPUExecutionProvider"]

    own = {"__file__": str(folder / "__init__.py"), "__version__": "1.23.2", "InferenceSession": Session}
    return SimpleNamespace(**{**vars(real), **own})


@pytest.mark.parametrize(
    ("code", "seen", "taken", "kind", "words"),
    [
        (["sm_60"], SEEN, "CUDAExecutionProvider", "", ""),
        (["sm_75", "sm_90"], SEEN, "CUDAExecutionProvider", "no_code", r"P2000 \(6\.1\): it holds sm_75, sm_90"),
        ([], SEEN, "CUDAExecutionProvider", "no_code", "it holds none"),
        (["sm_60"], {**SEEN, "devices": []}, "CUDAExecutionProvider", "no_card", "finds no card: no error"),
        (
            ["sm_60"],
            {"error": "libcuda.so.1: cannot open", "ended": None, "init": None, "devices": []},
            "CUDAExecutionProvider",
            "no_card",
            "cannot open",
        ),
        (["sm_60"], SEEN, "CPUExecutionProvider", "fell_back", "took CPUExecutionProvider in place of CUDA"),
    ],
)
def test_onnx_runtime_on_a_card_that_it_has_code_for(
    code: List[str], seen: Any, taken: str, kind: str, words: str, probe: ModelFiles, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Asked for a card it cannot use it would compute on the CPU, with a warning on its log."""
    library = gpu_library(tmp_path, code, taken)
    monkeypatch.setattr(engine_onnxruntime, "imported", lambda device: library)
    monkeypatch.setattr(engine_onnxruntime, "cuda", lambda: seen)
    if not kind:
        opened = devices.open_network(probe, "onnxruntime_cuda")
        assert opened.proof is not None and opened.settings["providers"][0] == "CUDAExecutionProvider"
        return
    with pytest.raises(devices.DeviceError, match=words) as caught:
        devices.open_network(probe, "onnxruntime_cuda")
    assert caught.value.code == kind


def test_onnx_runtime_without_cuda_is_no_device_for_a_card(probe: ModelFiles) -> None:
    """The package of this Python, which has none."""
    with pytest.raises(devices.DeviceError, match="built without CUDA") as caught:
        devices.open_network(probe, "onnxruntime_cuda")
    assert caught.value.code == "not_built"


def test_a_device_that_openvino_does_not_find_is_refused(probe: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists what it finds."""
    core = SimpleNamespace(available_devices=["CPU", "NPU"])
    fake = SimpleNamespace(__version__="2026.4.1-1-x", Core=lambda: core)
    monkeypatch.setattr(engine_openvino, "imported", lambda device: fake)
    with pytest.raises(devices.DeviceError, match=r"2026\.4\.1 finds no device GPU here, only CPU, NPU") as caught:
        devices.open_network(probe, "openvino_gpu")
    assert caught.value.code == "not_offered"


class FakeModel:
    """What OpenVINO reads and compiles, and what it was asked for."""

    def __init__(self) -> None:
        self.shape: List[int] = []

    def reshape(self, shape: List[int]) -> None:
        self.shape = shape


@pytest.mark.parametrize(("name", "hint"), [("openvino", "f32"), ("openvino_gpu", "f32"), ("openvino_npu", "f16")])
def test_the_precision_is_always_asked_for(
    name: str, hint: str, probe: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, OpenVINO computes in bf16 where the CPU has it."""
    asked: Dict[str, Any] = {}
    model = FakeModel()

    def compile_model(given: Any, target: str, options: Dict[str, Any]) -> Any:
        asked.update(options, target=target)
        return SimpleNamespace(create_infer_request=lambda: None)

    core = SimpleNamespace(
        available_devices=["CPU", "GPU.0", "GPU.1", "NPU"], read_model=lambda path: model, compile_model=compile_model
    )
    fake = SimpleNamespace(__version__="1", Core=lambda: core)
    monkeypatch.setattr(engine_openvino, "imported", lambda device: fake)
    opened = engine_openvino.load(probe, table.device_named(name))
    assert asked["INFERENCE_PRECISION_HINT"] == hint and asked["target"] == table.device_named(name).target
    assert ("INFERENCE_NUM_THREADS" in asked) == (name == "openvino")
    assert model.shape == [-1, 3, 64, 64] and opened.settings["INFERENCE_PRECISION_HINT"] == hint


@pytest.mark.parametrize("name", ENGINES)
def test_a_file_that_the_engine_cannot_read_is_refused(
    name: str, probe: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the engine's own exception."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07nothing of use")
    for module in (engine_onnxruntime, engine_openvino):
        monkeypatch.setattr(module, "onnx_file", lambda files: broken)
    with pytest.raises(devices.DeviceError) as caught:
        devices.open_network(probe, name)
    assert caught.value.code == "refused" and table.ENGINES[name] in caught.value.message


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_refuses_to_run_is_refused(
    name: str, probe: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input of another size than the network was read for: the engine's exception becomes a DeviceError."""
    monkeypatch.setattr(devices, "noise_blob", lambda size: np.zeros((1, 4, size, size), dtype=np.float32))
    monkeypatch.setattr(devices.Expected, "heads", lambda *_: [np.zeros(1)])
    with pytest.raises(devices.DeviceError) as caught:
        devices.open_network(probe, name)
    assert caught.value.code == "refused" and table.ENGINES[name] in caught.value.message


def bent(run: Any, change: Any) -> Any:
    """An engine whose output is changed."""
    return lambda blobs: [change(head) for head in run(blobs)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda head: head * np.float32(1.001), "wrong_output"),
        (lambda head: head * np.float32(np.nan), "not_finite"),
        (lambda head: np.ascontiguousarray(head[:, ::-1]), "wrong_output"),
    ],
)
def test_a_wrong_output_of_an_engine_is_refused(
    change: Any, code: str, probe: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousandth is too much: engines are held to single precision."""

    def load(files: ModelFiles, device: table.Device) -> Any:
        opened = engine_onnxruntime.load(files, device)
        opened._run = bent(opened._run, change)
        return opened

    monkeypatch.setitem(devices.ENGINES, "onnxruntime", load)
    with pytest.raises(devices.DeviceError) as caught:
        devices.open_network(probe, "onnxruntime")
    assert caught.value.code == code


def test_the_cpus_own_bits_are_no_fall_back_of_an_engine(probe: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only OpenCV falls back to OpenCV's code; an engine may well round like it."""
    plain = network.load(probe, table.device_named("cpu"), winograd=False)

    def load(files: ModelFiles, device: table.Device) -> Any:
        return engine.EngineNetwork(plain.raw_heads, files, device, 0.0)

    monkeypatch.setitem(devices.ENGINES, "openvino", load)
    opened = devices.open_network(probe, "openvino")
    assert opened.proof is not None and opened.proof.rel2 == 0.0


def test_a_read_only_folder_without_the_file_is_told(probe: ModelFiles, tmp_path: Path) -> None:
    """An engine needs its file; where nothing may be written, it must have been prepared."""
    elsewhere = probe._replace(cfg=tmp_path / "probe.cfg")
    elsewhere.cfg.write_bytes(probe.cfg.read_bytes())
    with nothing_written(tmp_path), pytest.raises(EnvironmentProblem, match="Run `prepare` again"):
        devices.open_network(elsewhere, "onnxruntime")


V1_NONE = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": "1048576\n"}, 1 << 20),
        ("0::/a.slice/b.scope\n", {"a.slice/b.scope/memory.max": "1048576\n"}, 1 << 20),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1048576\n", "c/memory.max": "1\n"}, 1 << 20),
        ("0::/outside/the/container\n", {"memory.max": "1048576\n"}, 1 << 20),
        ("4:cpu,memory:/a\n0::/x\n", {"memory/a/memory.limit_in_bytes": "1048576\n"}, 1 << 20),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": V1_NONE}, None),
        (None, {}, None),
    ],
)
def test_the_memory_of_the_machine_or_of_its_control_groups(
    group: Any, limits: Dict[str, str], expected: Any, tmp_path: Path
) -> None:
    """The smallest counts: of a container, of a service with its slice, in both versions of control groups."""
    files = {"sys/fs/cgroup/" + name: text for name, text in limits.items()}
    if group is not None:
        files["proc/self/cgroup"] = group
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    found = memory.machine_bytes(tmp_path)
    assert found == expected if expected else found > 1 << 28


def test_winograd_is_for_machines_that_have_the_memory(probe: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 4 GB the full networks do without it and the tinies do not; on 8 GB all use it. It is asked of OpenCV."""
    layers = {name: devices.layers_of(name) for name in ("yolov3", "yolov4", *TINIES)}
    for gigabytes, users in ((4, set(TINIES)), (8, set(layers))):
        monkeypatch.setattr(memory, "machine_bytes", lambda size=gigabytes: size << 30)
        assert {name for name in layers if memory.winograd_fits(layers[name])} == users
    monkeypatch.setattr(memory, "machine_bytes", lambda: 1 << 20)
    opened = devices.open_network(probe, "cpu")
    assert opened.settings == {"winograd": False}
    assert opened.raw_heads(some_blobs(1, 64))[0].shape == (1, 255, 8, 8)
