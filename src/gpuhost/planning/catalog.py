"""The one place that opens the catalog: every fact and figure, from JSON files that each have a schema.

A file that is missing, is not JSON or breaks its schema is a `CatalogError` that names the file and the place in
it. On the controller nothing else reads these files; on a host, `yolo/models.py` reads its own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, FrozenSet, List

import fastjsonschema

from .. import strict_json
from ..errors import CatalogError
from ..text import printable
from ..types import Json

DATA = Path(__file__).parents[1] / "data"
#: The catalog in force: the package's own, or a renewed one that tools/catalog/refresh wrote.
FOLDER = Path(os.environ.get("GPUHOST_CATALOG") or DATA)
ENVIRONMENTS = FOLDER / "environments"
WHEELS = FOLDER / "wheels"
#: What a renewed catalog may have otherwise. Where files may come from, and the detector, are the package's always.
TABLES = ("gpus", "drivers", "cuda", "cudnn", "tensorflow", "opencv", "platforms", "virtualbox")
FILES = (*TABLES, "yolo", "origins")
RESTORE = (
    "Restore it: git checkout -- src/gpuhost/data"
    if FOLDER == DATA
    else "Make that catalog again (tools/catalog/refresh -o DIR), or unset GPUHOST_CATALOG."
)


def read_json(path: Path) -> Json:  # Json: any file of the catalog
    """Read one JSON file of a catalog; a missing or damaged one is a `CatalogError`."""
    name = printable(path if FOLDER != DATA else path.name, 200)
    try:
        value = strict_json.load(path)
    except FileNotFoundError:
        raise CatalogError(f"The catalog file {name} is missing.", RESTORE) from None
    except (OSError, ValueError) as error:
        raise CatalogError(f"The catalog file {name} cannot be read: {printable(error, 200)}", RESTORE) from None
    if not isinstance(value, dict):
        raise CatalogError(f"The catalog file {name} does not hold a JSON object.", RESTORE)
    return value


@functools.lru_cache(maxsize=None)
def validator(schema: Path) -> Callable[[Any], Any]:
    """Compile a JSON schema (draft 7) once; the result raises `fastjsonschema.JsonSchemaException`."""
    compiled: Callable[[Any], Any] = fastjsonschema.compile(read_json(schema), use_default=False)
    return compiled


def checked(path: Path, schema: str) -> Json:  # Json: any file of the catalog
    """Read one file of the catalog and check it against `<schema>.schema.json` of the package."""
    value = read_json(path)
    fits(value, path.name, schema)
    return value


def fits(value: Json, name: str, schema: str) -> None:  # Json: any file of the catalog
    """Hold a table against its schema; `CatalogError` names the file and the place in it."""
    try:
        validator(DATA / f"{schema}.schema.json")(value)
    except fastjsonschema.JsonSchemaException as error:
        said = printable(error, 300)
        raise CatalogError(f"The catalog file {printable(name, 80)} breaks its schema: {said}.", RESTORE) from None


def load(name: str, folder: Path = DATA) -> Json:  # Json: any table of the catalog
    """Load the table `<name>.json` of the folder."""
    return checked(folder / f"{name}.json", name)


def names(folder: Path) -> List[str]:
    """List the names of the files in a folder of locks, sorted."""
    return sorted(path.stem for path in folder.glob("*.json"))


def wheels_name(component: str, release: str, cuda: str) -> str:
    """Return the name of the lock of NVIDIA's wheels of a release; cuDNN's ends with the first part of its CUDA."""
    return f"{component}-{release}" + (f"-cu{cuda.partition('.')[0]}" if component == "cudnn" else "")


def digest(content: Any) -> str:
    """Tell one content from another by 12 hex digits: the start of the sha256 over its JSON, whatever order it has."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Catalog:
    """All tables, each as its JSON says (the schemas document the fields), and the names of the locks of environments
    and of NVIDIA's wheels.
    """

    gpus: Json
    drivers: Json
    cuda: Json
    cudnn: Json
    tensorflow: Json
    opencv: Json
    platforms: Json
    virtualbox: Json
    yolo: Json
    origins: Json
    environments: FrozenSet[str]
    wheels: FrozenSet[str]

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Catalog:
        """Load every table of a folder (the catalog in force unless a test says otherwise)."""
        tables = {name: load(name, folder if name in TABLES else DATA) for name in FILES}
        return cls(**tables, environments=frozenset(names(ENVIRONMENTS)), wheels=frozenset(names(WHEELS)))


@functools.lru_cache(maxsize=None)
def shipped() -> Catalog:
    """The catalog in force, read once a process."""
    return Catalog.load()
