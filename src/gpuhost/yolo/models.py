"""The files of a model in a work folder: its configuration, written here, and its weights, published or made.

The facts (addresses, checksums, class names) stand in data/yolo.json; this is the one place that reads it.
"""

import json
import pathlib
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from ..errors import ArtifactError, CatalogError, EnvironmentProblem
from ..host.files import sha256
from . import synthetic
from .darknet import cfg_text
from .files import write_text
from .networks import Layer, layers_of
from .weights import check_length

CATALOG = pathlib.Path(__file__).resolve().parent.parent / "data" / "yolo.json"


class ModelFiles(NamedTuple):
    """A model ready to load: files, checksums, and whether the weights are `real` (published) or
    `synthetic`.
    """

    model: str
    size: int
    layers: List[Layer]
    cfg: pathlib.Path
    cfg_sha256: str
    weights: pathlib.Path
    weights_sha256: str
    weights_kind: str


def catalog(path: pathlib.Path = CATALOG) -> Dict[str, Any]:
    """The facts about the models; CatalogError when the file is missing or is not what it should be."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise CatalogError(f"There is no {path}.", next_step="Copy data/yolo.json beside the package.") from problem
    except ValueError as problem:
        raise CatalogError(f"{path} is not JSON: {problem}.", next_step="Restore it from git.") from problem
    if not isinstance(facts, dict) or facts.get("schema") != 1:
        raise CatalogError(f"{path} is not of schema 1.", next_step="Use the file of this gpuhost.")
    return facts


def class_names() -> List[str]:
    """The 80 class names of COCO in the order of the networks' outputs."""
    return list(catalog()["coco"]["names"])


def facts_of(model: str) -> Dict[str, Any]:
    """The catalog's row of `model`; UsageError for a name that is no model."""
    layers_of(model)
    for row in catalog()["models"]:
        if row["name"] == model:
            return dict(row)
    raise CatalogError(f"The catalog has no model {model!r}.", next_step="Use the file of this gpuhost.")


def real_weights(model: str, folder: Optional[pathlib.Path]) -> Optional[pathlib.Path]:
    """The published weight file in `folder` if it is there; ArtifactError when the file there is
    another one.
    """
    if folder is None or not (folder / (model + ".weights")).is_file():
        return None
    path, expected = folder / (model + ".weights"), facts_of(model)["weights"]
    found = sha256(path)
    if found != expected["sha256"]:
        raise ArtifactError(
            "{} is not the published weight file: its SHA-256 is {}, not {}.".format(path, found, expected["sha256"]),
            next_step="Fetch {} again, or remove the file to use synthetic weights.".format(expected["url"]),
        )
    return path


def synthetic_weights(model: str, work: pathlib.Path) -> pathlib.Path:
    """The made weight file of `model` in `work`; made again when it is missing or is not the known bytes."""
    expected = facts_of(model)["synthetic"]
    path = work / "{}-synthetic-{}.weights".format(model, expected["seed"])
    if path.is_file() and sha256(path) == expected["sha256"]:
        return path
    made = synthetic.write_weights(path, layers_of(model), expected["seed"])
    if made.sha256 != expected["sha256"]:
        raise EnvironmentProblem(
            f"NumPy {np.__version__} on this processor makes other synthetic weights than everywhere else: "
            f"{made.sha256}, not {expected['sha256']}.",
            next_step="Use another NumPy, and report this with the processor's name.",
        )
    return path


def model_files(model: str, size: int, work: pathlib.Path, weights_dir: Optional[pathlib.Path] = None) -> ModelFiles:
    """See that the files of `model` for an input of `size` pixels are in `work` (or its real weights in
    `weights_dir`).
    """
    layers = layers_of(model)
    text = cfg_text(layers, size)
    cfg = work / f"{model}-{size}.cfg"
    if not cfg.is_file() or cfg.read_bytes() != text.encode("utf-8"):
        write_text(cfg, text)
    real = real_weights(model, weights_dir)
    weights = real or synthetic_weights(model, work)
    check_length(weights, layers)
    row = facts_of(model)["weights" if real else "synthetic"]
    return ModelFiles(model, size, layers, cfg, sha256(cfg), weights, row["sha256"], "real" if real else "synthetic")
