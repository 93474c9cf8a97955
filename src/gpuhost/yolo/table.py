"""The device table, and what can be said about a device before anything runs on it."""

import importlib.util
from typing import Any, NamedTuple

import cv2

from ..errors import EnvironmentProblem, UsageError

OPENCV = "opencv"


class Device(NamedTuple):
    """One row of the device table: what computes and where, the precision asked for, and what it is.

    Where OpenCV computes, backend and target are the names of its constants. Where another engine does,
    the backend is its Python package and the target its own name for the device.
    """

    name: str
    backend: str
    target: str
    precision: str
    title: str

    @property
    def engine(self) -> str:
        """Who computes: `opencv`, or the name of the engine's package."""
        return OPENCV if self.backend.startswith("DNN_") else self.backend

    @property
    def on_card(self) -> bool:
        """Whether it is an NVIDIA card: it takes several pictures at once, and may compute in TF32."""
        return "CUDA" in self.backend + self.target


DEVICES = (
    Device("cuda", "DNN_BACKEND_CUDA", "DNN_TARGET_CUDA", "fp32", "NVIDIA card through cuDNN"),
    Device(
        "cuda_fp16",
        "DNN_BACKEND_CUDA",
        "DNN_TARGET_CUDA_FP16",
        "fp16",
        "NVIDIA card through cuDNN, half precision",
    ),
    Device("cpu", "DNN_BACKEND_OPENCV", "DNN_TARGET_CPU", "fp32", "processor, OpenCV's own code"),
    Device(
        "myriad",
        "DNN_BACKEND_INFERENCE_ENGINE",
        "DNN_TARGET_MYRIAD",
        "fp16",
        "Intel Movidius Myriad X through OpenVINO",
    ),
    Device("onnxruntime", "onnxruntime", "CPUExecutionProvider", "fp32", "processor, ONNX Runtime"),
    Device("onnxruntime_cuda", "onnxruntime", "CUDAExecutionProvider", "fp32", "NVIDIA card through ONNX Runtime"),
    Device("openvino", "openvino", "CPU", "fp32", "processor, OpenVINO"),
    Device("openvino_gpu", "openvino", "GPU", "fp32", "Intel graphics through OpenVINO"),
    Device("openvino_npu", "openvino", "NPU", "fp16", "Intel neural processor through OpenVINO"),
)
AUTO = Device("auto", "DNN_BACKEND_OPENCV", "DNN_TARGET_CPU", "fp32", "the fastest of the devices above")
"""Not a row of the table: asks for the choice among them."""
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""The optional packages, and their names for people."""


class DeviceError(EnvironmentProblem):
    """A device that this OpenCV build, or this machine, cannot serve; `code` names the kind of obstacle."""

    def __init__(self, code: str, reason: str, next_step: str) -> None:
        """Keep the `code` (one word), the `reason` (one sentence) and the `next_step`."""
        super().__init__(reason, next_step=next_step)
        self.code = code


def device_named(name: str) -> Device:
    """The row of the device table; UsageError for a name that it does not have."""
    for device in (*DEVICES, AUTO):
        if device.name == name:
            return device
    known = ", ".join(device.name for device in (*DEVICES, AUTO))
    raise UsageError(f"There is no device {name!r}.", next_step=f"Use one of: {known}.")


def check_offered(device: Device, cv: Any = cv2) -> None:
    """Raise DeviceError when this OpenCV says itself, without running anything, that it cannot serve
    `device`, or when its engine's package is not there. An engine's output is checked against OpenCV's, so
    it needs OpenCV's importer as well.
    """
    if not hasattr(cv.dnn, "readNetFromDarknet"):
        raise DeviceError(
            "no_importer",
            f"OpenCV {cv.__version__} has no importer for Darknet networks any more.",
            "Use an OpenCV from 4.2 to 4.14.",
        )
    if device.engine != OPENCV:
        _check_package(device)
        return
    if not (hasattr(cv.dnn, device.backend) and hasattr(cv.dnn, device.target)):
        raise DeviceError(
            "no_backend",
            f"OpenCV {cv.__version__} does not know the device {device.name}.",
            "Use a newer OpenCV 4, or another --device.",
        )
    if not hasattr(cv.dnn, "getAvailableTargets"):
        return  # OpenCV 4.2 cannot be asked; the forward pass decides.
    offered = [int(target) for target in cv.dnn.getAvailableTargets(getattr(cv.dnn, device.backend))]
    if getattr(cv.dnn, device.target) not in offered:
        raise _not_offered(device, cv)


def _check_package(device: Device) -> None:
    """Raise DeviceError when the package of the device's engine is not in this Python."""
    if importlib.util.find_spec(device.engine) is None:
        raise DeviceError(
            "no_package",
            f"{ENGINES[device.engine]} is not in this Python: there is no package {device.engine}.",
            "Install the environment with the engines (-e opencv_engines=true), or use --device cpu.",
        )


def _not_offered(device: Device, cv: Any) -> DeviceError:
    """Why the target of `device` is missing from what this build offers, as far as that can be determined."""
    if not device.on_card:
        reason = f"This OpenCV {cv.__version__} has no working plugin for the device {device.name}."
        return DeviceError("not_offered", reason, "Use --device cpu or cuda.")
    built = any(
        line.strip().startswith("NVIDIA CUDA:") and "YES" in line for line in cv.getBuildInformation().splitlines()
    )
    if not built:
        reason = f"This OpenCV {cv.__version__} was built without CUDA, so it cannot use the card."
        return DeviceError(
            "not_built", reason, "Build OpenCV for the card (playbooks/opencv.yml), or use --device cpu."
        )
    count = cv.cuda.getCudaEnabledDeviceCount()
    if count <= 0:
        reason = f"OpenCV {cv.__version__} is built with CUDA but finds no card it can use (device count {count})."
        return DeviceError(
            "no_card", reason, "Look at `nvidia-smi`: the driver must run and be new enough for this CUDA."
        )
    reason = f"OpenCV {cv.__version__} is built with CUDA, but without cuDNN or without code for this card."
    return DeviceError("not_offered", reason, "Build it again for the card's compute capability, with cuDNN.")
