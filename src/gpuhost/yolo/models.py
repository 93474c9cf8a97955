"""The files of a model in a work folder: its configuration, written here, and its weights, published or made.

The facts (addresses, checksums, class names) stand in data/yolo.json; this is the one place that reads it.
"""

import hashlib
import json
import pathlib
from typing import Any, Callable, Container, Dict, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

import numpy as np

from ..errors import ArtifactError, CatalogError, EnvironmentProblem, UsageError
from ..host.files import sha256
from ..reading import UnfitFile, content
from ..text import printable
from . import cfg_network, synthetic
from .cfg_sections import LARGEST_FILE
from .darknet import Size, cfg_text, check_size, heads_of, shapes_of, sides, told, weight_bytes
from .files import whole_file, write_text
from .networks import CLASSES, Layer, layers_of
from .weights import check_length, completed

SYNTHETIC, OWN = "synthetic", "own"
DEFAULT_SIZE = 416
LARGEST_NAMES = 1 << 20
CATALOG = pathlib.Path(__file__).resolve().parent.parent / "data" / "yolo.json"


class ModelFiles(NamedTuple):
    """A model ready to load: files, checksums, whether the weights are `real` (published), `own` or `synthetic`, the
    names of its classes, what the user should know about its configuration, and whether it was trained on
    letterboxed pictures.
    """

    model: str
    size: Size
    layers: List[Layer]
    cfg: pathlib.Path
    cfg_sha256: str
    weights: pathlib.Path
    weights_sha256: str
    weights_kind: str
    labels: Tuple[str, ...]
    notes: Tuple[str, ...] = ()
    letter_box: bool = False


class Wanted(NamedTuple):
    """The network that somebody asked for: one of MODELS, or the configuration `cfg`; its weights, a file or the word
    SYNTHETIC; the folder of the published files; and the file with the names of its classes.
    """

    model: str = ""
    cfg: Optional[pathlib.Path] = None
    weights: Optional[str] = None
    names: Optional[pathlib.Path] = None
    weights_dir: Optional[pathlib.Path] = None

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.model if self.cfg is None else printable(self.cfg.stem, 80) + ".cfg"


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
    """The catalog's row of `model`; UsageError for a name that is not a model."""
    layers_of(model)
    for row in catalog()["models"]:
        if row["name"] == model:
            return dict(row)
    raise CatalogError(f"The catalog has no model {model!r}.", next_step="Use the file of this gpuhost.")


def real_weights(model: str, folder: Optional[pathlib.Path]) -> Optional[pathlib.Path]:
    """The published weight file in `folder`; ArtifactError when it is not there, or is another one. None without a
    folder.
    """
    if folder is None:
        return None
    path = folder / (model + ".weights")
    if not path.is_file():
        raise ArtifactError(
            f"There is no file {model}.weights in {printable(folder, 300)}.",
            next_step=f"Put it there, name another with --weights FILE, or type --weights {SYNTHETIC} to measure only.",
        )
    expected, found = facts_of(model)["weights"], sha256(path)
    if found != expected["sha256"]:
        raise ArtifactError(
            "{} is not the published weight file: its SHA-256 is {}, not {}.".format(path, found, expected["sha256"]),
            next_step="Fetch {} again; for weights of your own, use --weights {}.".format(expected["url"], path),
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
            next_step="Use another NumPy, and report this with the CPU's name.",
        )
    return path


_Read = TypeVar("_Read")


def file_of_user(path: pathlib.Path, what: str, read: Callable[[pathlib.Path], _Read]) -> _Read:
    """What `read` makes of a file that the user named; UsageError when it cannot be used."""
    try:
        return read(path)
    except FileNotFoundError as problem:
        raise UsageError(f"There is no {what} {printable(path, 300)}.", next_step="Check the name.") from problem
    except (UnfitFile, OSError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else str(problem).rstrip(".")
        raise UsageError(
            f"The {what} {printable(path, 300)} cannot be used: {said}.", next_step="Check the name and its rights."
        ) from problem


def names_of(path: pathlib.Path) -> Tuple[str, ...]:
    """The names of the classes in a file, one a line; UsageError when it has none, or an empty line between them."""
    try:
        text = file_of_user(path, "file of names", lambda one: content(one, LARGEST_NAMES)).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UsageError(f"{printable(path, 300)} is not UTF-8 text.", next_step="Save it as UTF-8.") from problem
    names = [printable(line, 200) for line in text.replace("\r\n", "\n").rstrip().split("\n")]
    if not all(names):
        raise UsageError(
            f"{printable(path, 300)} has an empty line where a name belongs.", next_step="Write one name a line."
        )
    return tuple(names)


def labels_of(path: pathlib.Path, classes: int) -> Tuple[str, ...]:
    """The names of the classes in a file; UsageError unless there are exactly so many."""
    names = names_of(path)
    if len(names) != classes:
        raise UsageError(
            f"{printable(path, 300)} has {len(names)} names, and the network has {classes} classes.",
            next_step="Give the file of names that the network was trained with, one name a line.",
        )
    return names


def _weights_of_user(path: pathlib.Path, layers: Sequence[Layer], inserted: Container[int] = ()) -> str:
    """The SHA-256 of a weight file that the user named; ArtifactError unless it has the network's length."""
    if not path.is_file():
        raise ArtifactError(f"There is no weight file {printable(path, 300)}.", next_step="Check --weights.")
    check_length(path, layers, inserted)
    return sha256(path)


def _cfg_file(path: pathlib.Path, text: str) -> pathlib.Path:
    """See that the configuration is in the work folder; its path."""
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_text(path, text)
    return path


def files_of(wanted: Wanted, size: Optional[Size], work: pathlib.Path) -> ModelFiles:
    """See that the files of the network are in `work`, for an input of `size` pixels, or for the configuration's
    own (416 without one). Nothing stands in for weights that are not there: made ones are asked for by name.
    """
    if wanted.cfg is not None:
        return _files_of_cfg(wanted, wanted.cfg, size, work)
    labels = tuple(class_names()) if wanted.names is None else labels_of(wanted.names, CLASSES)
    files = model_files(wanted.model, DEFAULT_SIZE if size is None else size, work, wanted.weights_dir, wanted.weights)
    return files._replace(labels=labels)


def _files_of_cfg(wanted: Wanted, cfg: pathlib.Path, size: Optional[Size], work: pathlib.Path) -> ModelFiles:
    """See that the files of a network of the user's own are in `work`."""
    if wanted.weights in (None, SYNTHETIC):
        raise UsageError(
            f"There are no weights for {printable(cfg, 300)}: made ones exist for the published networks only.",
            next_step="Name the file that the training wrote: --weights FILE",
        )
    weights = pathlib.Path(str(wanted.weights))
    data = file_of_user(cfg, "configuration", lambda one: content(one, LARGEST_FILE))
    network = cfg_network.read(data, str(cfg))
    sides_of = (network.width, network.height) if size is None else sides(size)
    try:
        smallest = min(min(shape) for shape in shapes_of(network.layers, sides_of))
    except ValueError as problem:
        raise _unfit_size(cfg, sides_of, str(problem)) from problem
    if smallest < 1:
        raise _unfit_size(cfg, sides_of, "a layer would have no cells")
    classes = heads_of(network.layers)[0].classes
    labels = tuple(f"class {number}" for number in range(classes))
    if wanted.names is not None:
        labels = labels_of(wanted.names, classes)
    digest = _weights_of_user(weights, network.layers, network.inserted)
    model = "own-" + hashlib.sha256(data).hexdigest()[:12]
    if network.inserted:
        whole = work / f"{model}-{digest[:12]}.weights"
        if not whole.is_file() or whole.stat().st_size != weight_bytes(network.layers):
            with whole_file(whole) as handle:
                for piece in completed(weights, network.layers, network.inserted):
                    handle.write(piece)
        weights = whole
    text = cfg_text(network.layers, sides_of)
    path = _cfg_file(work / f"{model}-{told(sides_of)}.cfg", text)
    return ModelFiles(
        model, sides_of, network.layers, path, sha256(path), weights, digest, OWN, labels, tuple(network.notes),
        network.letter_box,
    )  # fmt: skip


def _unfit_size(cfg: pathlib.Path, size: Tuple[int, int], problem: str) -> UsageError:
    """The error for an input size that the network cannot have."""
    return UsageError(
        f"{printable(cfg, 300)} cannot have an input of {size[0]} x {size[1]} pixels: {problem}.",
        next_step="Leave --size out.",
    )


def model_files(
    model: str,
    size: Size,
    work: pathlib.Path,
    weights_dir: Optional[pathlib.Path] = None,
    weights: Optional[str] = SYNTHETIC,
) -> ModelFiles:
    """See that the files of `model` for an input of `size` pixels are in `work`: with the weight file `weights`, else
    with the published ones in `weights_dir`, else, where `weights` is SYNTHETIC, with made ones.
    """
    layers = layers_of(model)
    for side in sides(size):
        check_size(side)
    own = None if weights in (None, SYNTHETIC) else pathlib.Path(str(weights))
    real = None if own else real_weights(model, weights_dir)
    if own is None and real is None and weights != SYNTHETIC:
        raise UsageError(
            f"There are no weights for {model}.",
            next_step="Fetch the published ones: ./run ansible-playbook site.yml -e yolo_weights=published. "
            "Or name a file with --weights FILE or a folder that has them with --weights-dir DIR, or "
            f"type --weights {SYNTHETIC} to see it run on weights that detect nothing.",
        )
    digest = _weights_of_user(own, layers) if own else ""
    cfg = _cfg_file(work / f"{model}-{told(size)}.cfg", cfg_text(layers, size))
    chosen = own or real or synthetic_weights(model, work)
    check_length(chosen, layers)
    kind = OWN if own else "real" if real else SYNTHETIC
    digest = digest or facts_of(model)["weights" if real else "synthetic"]["sha256"]
    return ModelFiles(model, size, layers, cfg, sha256(cfg), chosen, digest, kind, tuple(class_names()))
