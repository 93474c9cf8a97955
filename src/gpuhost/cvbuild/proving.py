"""What a fresh process of the environment says about its cv2. Sent there as text: Python 3.6 and NumPy.

Prints one line of JSON. A question that cannot be asked is left out of the answer, with its reason in `unasked`.
"""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

MARK = "gpuhost-proof "


def network(cv2: Any) -> Any:
    """A small Darknet network with fixed weights: convolution, batch normalisation, leaky, pooling, shortcut."""
    import numpy as np

    text = "[net]\nwidth=64\nheight=64\nchannels=3\n\n"
    shapes = [(3, 16, 3), (16, 32, 3), (32, 32, 1)]
    for _, out, size in shapes:
        text += f"[convolutional]\nbatch_normalize=1\nfilters={out}\nsize={size}\nstride=1\npad=1\nactivation=leaky\n\n"
    text += "[shortcut]\nfrom=-2\nactivation=linear\n\n[maxpool]\nsize=2\nstride=2\n\n"
    made = np.random.RandomState(7)
    weights = [np.array([0, 2, 0, 0, 0], dtype=np.int32).tobytes()]
    for fan, out, size in shapes:
        for low, high in ((-0.2, 0.2), (0.7, 1.3), (-0.1, 0.1), (0.5, 1.5)):  # bias, scale, mean, variance
            weights.append(made.uniform(low, high, out).astype(np.float32).tobytes())
        spread = (2.0 / (fan * size * size)) ** 0.5
        weights.append((made.standard_normal(out * fan * size * size) * spread).astype(np.float32).tobytes())
    return cv2.dnn.readNetFromDarknet(
        np.frombuffer(text.encode("ascii"), dtype=np.uint8), np.frombuffer(b"".join(weights), dtype=np.uint8)
    )


def forward(cv2: Any, backend: int, target: int) -> Any:
    """The network's answer to a fixed picture."""
    import numpy as np

    net = network(cv2)
    net.setPreferableBackend(backend)
    net.setPreferableTarget(target)
    net.setInput(np.random.RandomState(11).rand(1, 3, 64, 64).astype(np.float32))
    return np.array(net.forward())


def difference(ours: Any, theirs: Any) -> Dict[str, Any]:
    """How two answers differ: relative to the largest value, and whether they are the same bits."""
    import numpy as np

    scale = float(np.max(np.abs(theirs))) or 1.0
    return {
        "relative": float(np.max(np.abs(ours.astype(np.float64) - theirs))) / scale,
        "identical": bool((ours == theirs).all()),
    }


def on_card(cv2: Any, answer: Dict[str, Any]) -> None:
    """What only a card can show: a round trip through its memory, and a network's answer against the CPU's."""
    import numpy as np

    picture = np.random.RandomState(3).randint(0, 256, (48, 64, 3)).astype(np.uint8)
    sent = cv2.cuda_GpuMat()
    sent.upload(picture)
    answer["round_trip"] = bool((sent.download() == picture).all())
    dnn = cv2.dnn
    reference = forward(cv2, dnn.DNN_BACKEND_OPENCV, dnn.DNN_TARGET_CPU)
    answer["fp32"] = difference(forward(cv2, dnn.DNN_BACKEND_CUDA, dnn.DNN_TARGET_CUDA), reference)
    targets = dnn.getAvailableTargets(dnn.DNN_BACKEND_CUDA)
    if dnn.DNN_TARGET_CUDA_FP16 in targets:
        answer["fp16"] = difference(forward(cv2, dnn.DNN_BACKEND_CUDA, dnn.DNN_TARGET_CUDA_FP16), reference)
    else:
        answer["unasked"].append("fp16: the card has no half precision that OpenCV uses")


def every_cv2() -> List[str]:
    """The folder of every cv2 that this Python could import, in the order of its search path."""
    found: List[str] = []
    for place in sys.path:
        for name in ("cv2", "cv2.so", "cv2.abi3.so"):
            path = Path(place or ".") / name
            if path.exists() and str(path.resolve()) not in found:
                found.append(str(path.resolve()))
    return found


def capabilities(cv2: Any, devices: int) -> List[str]:
    """The dotted capability of each device, as the driver says."""
    rows = [cv2.cuda.DeviceInfo(number) for number in range(devices)]
    return [f"{row.majorVersion()}.{row.minorVersion()}" for row in rows]


def main() -> None:
    """Ask cv2 everything, print the answer. What fails on the card is part of the answer."""
    answer: Dict[str, Any] = {"every_cv2": every_cv2(), "unasked": []}
    import cv2

    answer["version"] = cv2.__version__
    answer["file"] = str(Path(cv2.__file__).resolve())
    answer["build"] = cv2.getBuildInformation()
    try:
        from importlib import metadata  # novermin: an older Python says so below

        names = [d.metadata["Name"] for d in metadata.distributions()]
        answer["distributions"] = sorted({n for n in names if n and n.lower().startswith("opencv")})
    except ImportError:
        answer["unasked"].append("distributions: this Python has no importlib.metadata")
    answer["cpu_shape"] = list(forward(cv2, cv2.dnn.DNN_BACKEND_OPENCV, cv2.dnn.DNN_TARGET_CPU).shape)
    answer["devices"] = cv2.cuda.getCudaEnabledDeviceCount()
    if answer["devices"] > 0:
        answer["capabilities"] = capabilities(cv2, answer["devices"])
        try:
            on_card(cv2, answer)
        except cv2.error as error:
            answer["failed"] = " ".join(str(error).split())[:500]
    print(MARK + json.dumps(answer))


if __name__ == "__main__":
    main()
