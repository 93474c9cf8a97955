"""The device table against OpenCV as its generations behave: what cannot be served is an error before timing."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest

from gpuhost.errors import UsageError
from gpuhost.yolo import devices, table
from gpuhost.yolo.models import ModelFiles
from gpuhost.yolo.native import captured_output


@pytest.fixture(name="files", scope="module")
def probe_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The probe network on disk."""
    return devices.probe_files(tmp_path_factory.mktemp("probe"))


class FakeNet:
    """The real network on the CPU that pretends to be elsewhere: it may say something and change the output."""

    def __init__(self, net: Any, traits: Dict[str, Any]) -> None:
        self.net, self.traits, self.on_cpu = net, traits, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def setPreferableBackend(self, backend: int) -> None:
        self.on_cpu = backend == cv2.dnn.DNN_BACKEND_OPENCV
        if not self.on_cpu and self.traits.get("raises_when") == "set":
            raise cv2.error("Assertion failed: validateBackendAndTarget")

    def setPreferableTarget(self, target: int) -> None:
        assert isinstance(target, int)

    def forward(self, names: List[str]) -> Any:
        outputs = self.net.forward(names)
        if self.on_cpu:
            return outputs
        if self.traits.get("raises_when") == "forward":
            raise cv2.error("no kernel image is available for execution")
        if "stderr" in self.traits:
            os.write(2, self.traits["stderr"].encode())
        if "stdout" in self.traits:
            os.write(1, self.traits["stdout"].encode())
        change = self.traits.get("change")
        return outputs if change is None else [change(output) for output in outputs]


def fake_cv2(
    version: str, targets: Optional[List[int]], cards: int = 1, build: str = "YES (ver 11.8)", **traits: Any
) -> Any:
    """An OpenCV of `version` that offers `targets` for every backend (None: it cannot be asked)."""
    dnn = SimpleNamespace(
        readNetFromDarknet=lambda cfg, weights: FakeNet(cv2.dnn.readNetFromDarknet(cfg, weights), traits),
        DNN_BACKEND_OPENCV=cv2.dnn.DNN_BACKEND_OPENCV,
        DNN_TARGET_CPU=cv2.dnn.DNN_TARGET_CPU,
        DNN_BACKEND_CUDA=5,
        DNN_TARGET_CUDA=6,
        DNN_TARGET_CUDA_FP16=7,
        DNN_BACKEND_INFERENCE_ENGINE=2,
        DNN_TARGET_MYRIAD=3,
    )
    if targets is not None:
        dnn.getAvailableTargets = lambda backend: targets if backend != dnn.DNN_BACKEND_OPENCV else np.array([0])
    return SimpleNamespace(
        __version__=version,
        error=cv2.error,
        dnn=dnn,
        cuda=SimpleNamespace(getCudaEnabledDeviceCount=lambda: cards),
        getBuildInformation=lambda: f"  CUDA\n    NVIDIA CUDA:   {build}\n",
    )


def rounding(values: Any) -> Any:
    return values * np.float32(1 + 1e-6)


def coarse(values: Any) -> Any:
    return values.astype(np.float16).astype(np.float32)


def wrong(values: Any) -> Any:
    return values * np.float32(1.1)


def not_numbers(values: Any) -> Any:
    return values * np.float32(np.nan)


WARNING_410 = "[ WARN:0@0.8] global setUpNet DNN module was not built with CUDA backend; switching to CPU\n"
INFO_LAYER = "[ INFO:0@0.8] initCUDABackend layer conv_0 will fallback to the CPU implementation\n"
CASES = {
    "4.14 built without CUDA": (fake_cv2("4.14.0", [], cards=0, build="NO"), "cuda", "not_built"),
    "4.14 whose target is refused all the same": (fake_cv2("4.14.0", [6, 7], raises_when="set"), "cuda", "refused"),
    "4.10 that warns and takes the CPU": (
        fake_cv2("4.10.0", [6, 7], stderr=WARNING_410, change=rounding),
        "cuda",
        "fell_back",
    ),
    "4.10 that takes the CPU in silence": (fake_cv2("4.10.0", [6, 7]), "cuda", "fell_back"),
    "4.2 that cannot be asked and takes the CPU": (fake_cv2("4.2.0", None), "cuda_fp16", "fell_back"),
    "a layer on the CPU, said on the output": (
        fake_cv2("4.9.0", [6, 7], stdout=INFO_LAYER, change=rounding),
        "cuda",
        "fell_back",
    ),
    "no driver": (fake_cv2("4.8.1", [], cards=-1), "cuda", "no_card"),
    "code for another card": (fake_cv2("4.8.1", [], cards=1), "cuda", "not_offered"),
    "a kernel that does not start": (fake_cv2("4.8.1", [6, 7], raises_when="forward"), "cuda", "refused"),
    "a wrong result": (fake_cv2("4.8.1", [6, 7], change=wrong), "cuda", "wrong_output"),
    "not a number": (fake_cv2("4.8.1", [6, 7], change=not_numbers), "cuda", "not_finite"),
    "no stick": (fake_cv2("4.14.0", []), "myriad", "not_offered"),
    "a Myriad that is the CPU": (fake_cv2("4.5.0", [3]), "myriad", "fell_back"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_device_that_is_not_served_is_an_error(case: str, files: ModelFiles) -> None:
    """Each generation's way of not serving a device ends in its own code, exit code 7 and a next step."""
    fake, device, code = CASES[case]
    with pytest.raises(devices.DeviceError) as caught:
        devices.open_network(files, device, fake)
    assert (caught.value.code, caught.value.exit_code) == (code, 7)
    assert (caught.value.next_step and fake.__version__ in caught.value.message) or code in (
        "fell_back",
        "wrong_output",
        "not_finite",
    )


def test_opencv_5_has_no_importer(files: ModelFiles) -> None:
    """On every device, the CPU included: its new engine would run on the CPU whatever is asked."""
    fake = fake_cv2("5.0.0", [6, 7])
    del fake.dnn.readNetFromDarknet
    for device in table.DEVICES:
        with pytest.raises(devices.DeviceError) as caught:
            devices.open_network(files, device.name, fake)
        assert caught.value.code == "no_importer"


def test_an_opencv_before_cuda_says_so(files: ModelFiles) -> None:
    """OpenCV 4.1 has no such constant."""
    fake = fake_cv2("4.1.2", None)
    del fake.dnn.DNN_BACKEND_CUDA
    with pytest.raises(devices.DeviceError) as caught:
        devices.open_network(files, "cuda", fake)
    assert caught.value.code == "no_backend"


@pytest.mark.parametrize(("change", "precision"), [(rounding, "fp32"), (coarse, "reduced")])
def test_a_card_that_works_is_taken(change: Any, precision: str, files: ModelFiles) -> None:
    """Other rounding than the CPU's, within the gate: accepted; the precision is what was seen, not what was asked."""
    network = devices.open_network(files, "cuda", fake_cv2("4.8.1", [6, 7], change=change, stderr="harmless\n"))
    assert network.proof is not None and network.proof.precision == precision
    assert 0 < network.proof.rel2 <= network.proof.gate == 0.02
    assert network.native_log == "harmless\n" * 2
    assert network.forward(devices.noise_blob(64))[0].shape == (192, 85)


def test_the_cpu_is_served_here(files: ModelFiles) -> None:
    """By the OpenCV that runs these tests; times are taken."""
    network = devices.open_network(files, "cpu")
    assert network.proof is None and network.load_s > 0 and network.first_forward_s > 0
    assert network.settings == {"winograd": True} and network.library == f"OpenCV {cv2.__version__}"


def test_this_build_refuses_what_it_lacks() -> None:
    """The wheel that these tests use has neither CUDA nor a Myriad plugin, and says so in the table."""
    rows = {row["name"]: row for row in devices.survey()}
    assert list(rows) == [row.name for row in table.DEVICES]
    assert rows["cpu"]["available"] and rows["cpu"]["code"] is None
    for name in ("cuda", "cuda_fp16", "myriad", "onnxruntime_cuda", "openvino_gpu", "openvino_npu"):
        assert not rows[name]["available"]
        assert rows[name]["reason"] and rows[name]["next_step"]


def test_gates_by_device_and_depth() -> None:
    """Single precision on the CPU; on others TF32 or half precision is allowed for, more in a deep network."""
    assert devices.gate_for(table.device_named("cpu"), 110) == 5e-4
    assert devices.gate_for(table.device_named("cuda"), 21) == 0.02
    assert devices.gate_for(table.device_named("onnxruntime_cuda"), 21) == 0.02
    assert devices.gate_for(table.device_named("cuda_fp16"), 75) == 0.1
    assert devices.gate_for(table.device_named("openvino_npu"), 75) == 0.1
    for name in ("onnxruntime", "openvino", "openvino_gpu"):
        assert devices.gate_for(table.device_named(name), 110) == 5e-4


def test_an_unknown_device_is_a_usage_error() -> None:
    """The message lists the devices there are."""
    with pytest.raises(UsageError, match="cuda_fp16"):
        table.device_named("tpu")


def test_a_network_that_cannot_be_read_is_named(files: ModelFiles, tmp_path: Path) -> None:
    """Not OpenCV's own exception."""
    broken = tmp_path / "broken.cfg"
    broken.write_text("[net]\nwidth=64\nheight=64\nchannels=3\n\n[unheard]\nof=1\n", encoding="ascii")
    with pytest.raises(devices.DeviceError) as caught:
        devices.open_network(files._replace(cfg=broken), "cpu")
    assert caught.value.code == "unreadable_network"


def test_both_streams_are_captured_and_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    """What is written below Python is read, and afterwards the streams are as before, also after an exception."""
    with pytest.raises(KeyError), captured_output() as captured:
        os.write(1, b"one ")
        os.write(2, b"two ")
        ctypes.CDLL(None).puts(b"three")
        raise KeyError
    assert captured.text == "one two three\n"
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"
