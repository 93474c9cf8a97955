"""The files of the catalog fit their schemas, and a damaged one is told by its name and the place in it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import fastjsonschema
import pytest

from gpuhost.errors import CatalogError
from gpuhost.planning.catalog import DATA, FILES, Catalog, load

Json = Dict[str, Any]
#: Every JSON file that has a schema of its own name beside it.
TABLES = sorted(p.stem for p in DATA.glob("*.json") if (DATA / f"{p.stem}.schema.json").exists())
LOCKS = sorted((DATA / "environments").glob("*.json"))


def test_every_table_has_a_schema() -> None:
    """No table of the catalog goes unchecked."""
    tables = {p.stem for p in DATA.glob("*.json") if not p.name.endswith(".schema.json")}
    assert tables == set(TABLES)
    assert set(FILES) <= tables


@pytest.mark.parametrize("name", TABLES)
def test_table_fits_its_schema(name: str) -> None:
    """Each table is as its schema says."""
    schema = json.loads((DATA / f"{name}.schema.json").read_text("utf-8"))
    fastjsonschema.validate(schema, json.loads((DATA / f"{name}.json").read_text("utf-8")))


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.stem)
def test_lock_fits_its_schema(path: Path) -> None:
    """Each environment lock is as its schema says."""
    schema = json.loads((DATA / "environment.schema.json").read_text("utf-8"))
    fastjsonschema.validate(schema, json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize("name", [*TABLES, "environment"])
def test_schema_lets_nothing_unknown_pass(name: str) -> None:
    """A misspelt key is found: every object of a schema either lists its keys or says what any key holds."""

    def loose(node: Any, place: str) -> List[str]:
        if isinstance(node, list):
            return [x for i, child in enumerate(node) for x in loose(child, f"{place}[{i}]")]
        if not isinstance(node, dict):
            return []
        found = [x for key, child in node.items() for x in loose(child, f"{place}.{key}")]
        kinds = node.get("type")
        is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
        return [*found, place] if is_object and "additionalProperties" not in node else found

    assert loose(json.loads((DATA / f"{name}.schema.json").read_text("utf-8")), name) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tables, to break."""
    for name in FILES:
        (tmp_path / f"{name}.json").write_bytes((DATA / f"{name}.json").read_bytes())
    return tmp_path


def test_unbroken_copy_loads(folder: Path) -> None:
    """The copy is the catalog, so what the broken ones raise comes from the damage."""
    assert vars(Catalog.load(folder)) == vars(Catalog.load())


def first_device(table: Json) -> Json:
    """The row of one device."""
    row: Json = table["devices"]["1c30"]
    return row


BROKEN: Dict[str, Any] = {
    "chip missing": ("gpus", lambda t: first_device(t).pop("chip"), ["devices.1c30", "chip"]),
    "id in capitals": ("gpus", lambda t: t["devices"].update({"1C30": first_device(t)}), ["devices"]),
    "version as a number": ("cuda", lambda t: t["releases"][3].update(version=10.0), ["releases[3].version"]),
    "http": (
        "cudnn",
        lambda t: t["packages"][7].update(url="http://example.org/cudnn.tgz"),
        ["packages[7].url"],
    ),
    "short sha256": ("drivers", lambda t: t["runfiles"][5].update(sha256="abc"), ["runfiles[5].sha256"]),
    "undotted capability": (
        "cudnn",
        lambda t: t["packages"][0].update(capability_min="30"),
        ["packages[0].capability_min"],
    ),
    "unknown key": ("platforms", lambda t: t["platforms"]["debian-12"].update(glbc="2.36"), ["debian-12"]),
    "no source": ("cuda", lambda t: t["releases"][0].pop("source"), ["releases[0]", "source"]),
    "no wheels": ("tensorflow", lambda t: t["releases"][0].update(wheels=[]), ["releases[0].wheels"]),
    "bound as text": (
        "opencv",
        lambda t: t["releases"][-1]["dnn_cuda"].update(cuda="9.2..13"),
        ["releases[24].dnn_cuda"],
    ),
    "another schema": ("gpus", lambda t: t.update(schema=2), ["schema"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_row_is_named(folder: Path, case: str) -> None:
    """A row that breaks the schema is a CatalogError that names the file and the place, and what to do
    next."""
    name, damage, places = BROKEN[case]
    change: Callable[[Json], None] = damage
    table = copy.deepcopy(json.loads((folder / f"{name}.json").read_text("utf-8")))
    change(table)
    (folder / f"{name}.json").write_text(json.dumps(table), "utf-8")
    with pytest.raises(CatalogError) as caught:
        Catalog.load(folder)
    assert f"{name}.json" in caught.value.message
    assert all(place in caught.value.message for place in places), caught.value.message
    assert caught.value.next_step
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b'{"schema": 1, "releases": [', "read"),
        (b"", "read"),
        (b"[1, 2]", "object"),
        (b'{"schema": "\xff"}', "read"),
    ],
)
def test_damaged_file_is_named(folder: Path, content: bytes, word: str) -> None:
    """What is no JSON object at all is a CatalogError too, never a traceback."""
    (folder / "cuda.json").write_bytes(content)
    with pytest.raises(CatalogError, match=r"cuda\.json") as caught:
        load("cuda", folder)
    assert word in caught.value.message


def test_missing_file_is_named(folder: Path) -> None:
    """A file that is not there is a CatalogError that names it."""
    (folder / "drivers.json").unlink()
    with pytest.raises(CatalogError, match=r"drivers\.json is missing"):
        Catalog.load(folder)
