"""The settings of the service: one JSON file, every value of which is checked before anything starts.

Imports neither OpenCV nor a server, so that a mistake is reported and the limits are known before OpenCV is loaded.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from .. import strict_json
from ..errors import UsageError
from ..reading import UnfitFile
from ..text import printable
from ..types import Json

SCHEMA = 1
PUBLISHED, CFG, ONNX = KINDS = ("published", "cfg", "onnx")
#: What the weights of a published network or of a configuration are called when they are made and detect nothing.
SYNTHETIC = "synthetic"
MOST_MODELS = 8
#: Names stand in addresses, in log lines and in labels of metrics.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AUTO = "auto"
_REQUIRED = ("schema", "device", "models", "default_model", "work", "keys")
_MODEL = ("name", "kind", "cfg", "weights", "names", "onnx", "sha256", "size")


class Number(NamedTuple):
    """A number that may be set: its bounds, and what it is when it is left out."""

    least: float
    most: float
    default: float
    whole: bool = True


NUMBERS: Dict[str, Number] = {
    "depth": Number(1, 256, 16),
    "decoders": Number(1, 16, 2),
    "deadline_s": Number(0.1, 600, 30, whole=False),
    "body_bytes": Number(1024, 1 << 30, 16 << 20),
    "pixels": Number(4096, 128_000_000, 25_000_000),
    "scans": Number(1, 1000, 64),
    "confidence": Number(0, 1, 0.4, whole=False),
    "max_predictions": Number(1, 10000, 20),
    "probe_s": Number(1, 86400, 60, whole=False),
}


class Model(NamedTuple):
    """A network to serve. `sha256` names what the bytes of each of its files must be."""

    name: str
    kind: str
    cfg: Optional[Path]
    weights: Optional[str]
    names: Optional[Path]
    onnx: Optional[Path]
    sha256: Dict[str, str]
    size: Union[int, Tuple[int, int], None]


class Settings(NamedTuple):
    """All settings. `keys` is None where nobody needs a key; `hooks` is read by the part that it is about."""

    device: str
    generation: Optional[int]
    models: Tuple[Model, ...]
    default_model: str
    work: Path
    keys: Optional[Path]
    records: Path
    hooks: Json
    depth: int
    decoders: int
    deadline_s: float
    body_bytes: int
    pixels: int
    scans: int
    confidence: float
    max_predictions: int
    probe_s: float


def read(path: Path) -> Settings:
    """Return the settings in a file; UsageError for one that cannot be read, or that is not what it should be."""
    name = printable(path, 300)
    try:
        found = strict_json.load(path)
    except FileNotFoundError as problem:
        raise UsageError(f"There are no settings {name}.", "Name the file: --settings FILE.") from problem
    except (OSError, UnfitFile, ValueError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise UsageError(f"The settings {name} cannot be read: {str(said).rstrip('.')}.", _again()) from problem
    return checked(found, name)


def checked(found: Any, name: str = "given") -> Settings:
    """Return the settings in a value read from JSON; UsageError names the first mistake."""
    _must(isinstance(found, dict), name, "are not a JSON object")
    known = {*_REQUIRED, *NUMBERS, "generation", "records", "hooks"}
    _no_others(found, known, name, "the settings")
    missing = [key for key in _REQUIRED if key not in found]
    _must(not missing, name, f"lack {', '.join(missing)}")
    _must(found["schema"] == SCHEMA, name, f"are of schema {printable(found['schema'], 20)}, not {SCHEMA}")
    device = _text(found, "device", name)
    _must(device != _AUTO, name, "ask for the device auto, which may be the CPU: name the device of the lock")
    models = _models(found["models"], name)
    default = _text(found, "default_model", name)
    _must(default in [one.name for one in models], name, f"have no model {printable(default, 80)}, the default one")
    generation = found.get("generation")
    _must(generation is None or _is_whole(generation), name, "have a generation that is not a whole number")
    hooks = found.get("hooks", {})
    _must(isinstance(hooks, dict), name, "have hooks that are not a JSON object")
    numbers: Dict[str, Any] = {key: _number(found, key, row, name) for key, row in NUMBERS.items()}
    return Settings(
        device=device,
        generation=generation,
        models=models,
        default_model=default,
        work=_path(found, "work", name),
        keys=None if found["keys"] is None else _path(found, "keys", name),
        records=_path(found, "records", name) if "records" in found else Path("/opt/gpuhost/state"),
        hooks=hooks,
        **numbers,
    )


def _models(rows: Any, name: str) -> Tuple[Model, ...]:
    """Return the networks; their names are told apart, and there is at least one."""
    _must(isinstance(rows, list) and 1 <= len(rows) <= MOST_MODELS, name, f"need a list of 1 to {MOST_MODELS} models")
    models = tuple(_model(row, name) for row in rows)
    names = [one.name for one in models]
    _must(len(set(names)) == len(names), name, "have two models of one name")
    return models


def _model(row: Any, name: str) -> Model:
    """Return one network; what its kind needs is there, and nothing that it does not know."""
    _must(isinstance(row, dict), name, "have a model that is not a JSON object")
    _no_others(row, set(_MODEL), name, "a model")
    title = _text(row, "name", name)
    _must(NAME.fullmatch(title) is not None, name, f"have a model with the name {printable(title, 80)!r}")
    kind = _text(row, "kind", name)
    _must(kind in KINDS, name, f"have a model of the kind {printable(kind, 40)!r}, not {', '.join(KINDS)}")
    wanted = {PUBLISHED: {"weights"}, CFG: {"cfg", "weights"}, ONNX: {"onnx"}}[kind]
    usual = {"names"} if kind != PUBLISHED else set()
    given = {key for key in ("cfg", "weights", "names", "onnx") if row.get(key) is not None}
    _must(wanted <= given, name, f"have the model {title} without {', '.join(sorted(wanted - given))}")
    _must(given <= wanted | usual, name, f"have the model {title} with {', '.join(sorted(given - wanted - usual))}")
    weights = _text(row, "weights", name) if "weights" in given else None
    _must(kind != CFG or weights != SYNTHETIC, name, f"have the model {title}, whose weights cannot be made")
    if weights not in (None, SYNTHETIC):
        _path(row, "weights", name)
    paths = {key: _path(row, key, name) if key in given else None for key in ("cfg", "names", "onnx")}
    digests = row.get("sha256") or {}
    _must(isinstance(digests, dict), name, f"have the model {title}, whose sha256 is not a JSON object")
    for file, digest in digests.items():
        whole = isinstance(digest, str) and _SHA256.fullmatch(digest) is not None
        _must(whole, name, f"have no SHA-256 of 64 hexadecimal digits for {printable(file, 200)}")
    return Model(title, kind, paths["cfg"], weights, paths["names"], paths["onnx"], dict(digests), _size(row, name))


def _size(row: Json, name: str) -> Union[int, Tuple[int, int], None]:
    """Return the side of the network's input, or its width and height."""
    size = row.get("size")
    if size is None:
        return None
    sides: List[Any] = size if isinstance(size, list) else [size]
    good = len(sides) in (1, 2) and all(_is_whole(side) and 32 <= side <= 8192 for side in sides)
    _must(good, name, "have a model whose size is not a number of pixels from 32 to 8192, or two of them")
    return (sides[0], sides[1]) if len(sides) == 2 else int(sides[0])


def _number(found: Json, key: str, row: Number, name: str) -> Union[int, float]:
    """Return a number within its bounds."""
    value = found.get(key, row.default)
    good = _is_whole(value) or (isinstance(value, float) and not row.whole)
    kind = "a whole number" if row.whole else "a number"
    _must(good and row.least <= value <= row.most, name, f"need {key} to be {kind} from {row.least:g} to {row.most:g}")
    return int(value) if row.whole else float(value)


def _text(found: Json, key: str, name: str) -> str:
    """Return a text that is not empty."""
    value = found.get(key)
    _must(isinstance(value, str) and value != "", name, f"need {key} to be a text")
    return str(value)


def _path(found: Json, key: str, name: str) -> Path:
    """Return an absolute path."""
    path = Path(_text(found, key, name))
    _must(path.is_absolute(), name, f"need {key} to be an absolute path")
    return path


def _is_whole(value: Any) -> bool:
    """Return whether it is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _no_others(found: Json, known: Any, name: str, what: str) -> None:
    """Refuse what nobody reads: it would be a misspelt setting."""
    others = sorted(set(found) - set(known))
    _must(not others, name, f"have what {what} of this release do not: {printable(', '.join(others), 200)}")


def _must(good: bool, name: str, problem: str) -> None:
    """UsageError unless it is good."""
    if not good:
        raise UsageError(f"The settings {name} {problem}.", _again())


def _again() -> str:
    """Return what to do about settings that are not right."""
    return "Run site.yml again, which writes them, or fix the file."
