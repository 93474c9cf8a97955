"""The types of gpuhost.shapes and the schemas in data/ agree: each key, whether it must be there, and what it holds."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any, Dict, Iterator, List, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from gpuhost.planning.catalog import DATA
from gpuhost.shapes import answers, lock, observation, report
from gpuhost.shipping import bundle

pytestmark = pytest.mark.skipif(sys.version_info < (3, 9), reason="a TypedDict of Python 3.8 forgets what is required")

SCALARS = {"string": str, "integer": int, "number": float, "boolean": bool, "null": type(None)}
#: Each schema, and the type that is compared with it.
PAIRS = {
    "observation": observation.Observation,
    "plan": lock.Plan,
    "lock": lock.Lock,
    "environment": lock.CatalogEnvironment,
    "wheels": lock.WheelsLock,
    "report": report.Report,
    "kept_report": report.KeptReport,
    "installed": answers.Installed,
    "environment_answer": answers.EnvironmentAnswer,
    "opencv_answer": answers.OpencvComputed,
    "tensorflow_answer": answers.TensorflowComputed,
    "cuda_answer": answers.CudaAnswer,
    "service_answer": answers.ServiceAnswer,
    "benchmark_answer": answers.BenchmarkAnswer,
    "module_answers": answers.ModuleAnswers,
}
#: Those whose every key has to be as the schema has it: nothing is apart there, and no object has names for keys.
EXACT = [name for name in PAIRS if name not in ("plan", "lock", "benchmark_answer", "module_answers")]
#: The schema of a plan leaves its parts open, because that of a lock describes them: there a type may say more.
OPEN = {"plan"}
#: Where a type and a schema differ all the same, and why.
APART = {
    "observation.platform.own": "the controller adds it (planning.platforms), the probe never says it",
    "plan.tensorflow.cuda": "a plan has it, locks of earlier releases have not",
    "plan.tensorflow.cudnn": "a plan has it, locks of earlier releases have not",
    "lock.plan.status": "a plan that is in no lock can be refused",
    "lock.plan.without": "a plan has it, locks of earlier releases have not",
    "lock.plan.card_needs": "only a refused plan has it",
    "lock.plan.nearest": "only a refused plan has it",
    "lock.plan.obstacles": "only a refused plan has it",
    "module_answers.gpuhost_facts.observation": "it has its own schema",
    "module_answers.gpuhost_generation_info.found.generations[].stack": "shipping.answers makes it a whole lock",
}
Schema = Dict[str, Any]


def alternatives(schema: Schema, root: Schema) -> Iterator[Schema]:
    """Resolve references, choices and lists of types into schemas of one kind each."""
    if "$ref" in schema:
        found = functools.reduce(lambda part, name: part[name], schema["$ref"].split("/")[1:], root)
        yield from alternatives(found, root)
    elif "anyOf" in schema and "type" not in schema:
        for one in schema["anyOf"]:
            yield from alternatives(one, root)
    elif "enum" in schema or "const" in schema:
        for value in schema.get("enum", [schema.get("const")]):
            yield {"type": "null"} if value is None else {"const": value}
    elif isinstance(schema.get("type"), list):
        for kind in schema["type"]:
            yield {**schema, "type": kind}
    elif "anyOf" in schema:
        # An object whose choices add keys: none of these has to be there.
        more = {name: one for choice in schema["anyOf"] for name, one in choice.get("properties", {}).items()}
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        yield {**rest, "properties": {**more, **schema.get("properties", {})}}
    else:
        yield schema


def members(kind: Any) -> Iterator[Any]:
    """Resolve a Union into its members, and a Literal into one for each value."""
    if get_origin(kind) is Union:
        for one in get_args(kind):
            yield from members(one)
    elif get_origin(kind) is Literal:
        for value in get_args(kind):
            yield type(None) if value is None else Literal[value]
    else:
        yield kind


def is_object(kind: Any) -> bool:
    """Return whether a type is that of a JSON object."""
    return get_origin(kind) is dict or hasattr(kind, "__total__")


def scalar(schema: Schema) -> Any:
    """Return the Python type of a schema of one kind that is neither an array nor an object."""
    return Literal[schema["const"]] if "const" in schema else SCALARS[schema["type"]]


def differences(kind: Any, schema: Schema, root: Schema, place: str, loose: bool = False) -> List[str]:
    """Return where a type and a schema differ, each with its place; with `loose` an object may have more keys."""
    if place in APART or schema == {}:
        return []
    wanted, found = list(alternatives(schema, root)), list(members(kind))
    arrays = [one for one in wanted if one.get("type") == "array"]
    objects = [one for one in wanted if one.get("type") == "object"]
    lists, shapes = [one for one in found if get_origin(one) is list], [one for one in found if is_object(one)]
    plain = {scalar(one) for one in wanted if one not in arrays and one not in objects}
    own = {one for one in found if one not in lists and one not in shapes}
    if str in plain:
        plain = {one for one in plain if get_origin(one) is not Literal}
    if not (plain == own or (loose and own < plain)) or bool(arrays) != bool(lists) or bool(objects) != bool(shapes):
        return [f"{place}: the schema has {names(plain, arrays, objects)}, the type {names(own, lists, shapes)}"]
    told: List[str] = []
    for one in arrays:
        if "items" in one:
            told += differences(get_args(lists[0])[0], one["items"], root, f"{place}[]", loose)
    pairs = [[of_object(shape, one, root, place, loose) for shape in shapes] for one in objects]
    if pairs:
        rows = pairs if not loose else []
        told += next(([*min(row, key=len)] for row in rows if all(row)), [])
        told += next(([*min(column, key=len)] for column in zip(*pairs) if all(column)), [])
    return told


def names(plain: Any, arrays: Any, objects: Any) -> str:
    """Return what alternatives there are, in words."""
    return " | ".join([*sorted(map(str, plain)), *["array"][: len(arrays)], *["object"][: len(objects)]])


def of_object(shape: Any, schema: Schema, root: Schema, place: str, loose: bool) -> List[str]:
    """Return where the type of an object and its schema differ."""
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    rest = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    if get_origin(shape) is dict:
        value = get_args(shape)[1]
        inner = [*properties.values(), *(one for one in rest if isinstance(one, dict))]
        if value is Any:
            return [f"{place}: the schema describes it, the type does not"] if inner else []
        told = [row for one in inner for row in differences(value, one, root, f"{place}.*", loose)]
        return (
            told
            if inner and not required & set(properties)
            else [f"{place}: the type has any key, the schema {sorted(properties)}"]
        )
    hints = get_type_hints(shape)
    told = [f"{place}.{name}: only the schema has it" for name in sorted(set(properties) - set(hints))]
    if not loose:
        told += [f"{place}.{name}: only the type has it" for name in sorted(set(hints) - set(properties))]
    for name in sorted(set(hints) & set(properties)):
        if (name in required) != (name in shape.__required_keys__) and not (loose and name not in required):
            told.append(f"{place}.{name}: required by {'the schema' if name in required else 'the type'} alone")
        told += differences(hints[name], properties[name], root, f"{place}.{name}", loose)
    return [row for row in told if row.partition(": ")[0] not in APART]


def damaged(node: Any, place: str = "") -> Iterator[str]:
    """Damage a schema in place, one key at a time, and say what was done while it is; then fix it again."""
    for name, one in list(
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        inside = f"{place}.{name}"
        if isinstance(node, dict) and name == "properties":
            required = node.get("required", [])
            for key in list(one):
                node["properties"] = {other: value for other, value in one.items() if other != key}
                yield f"{inside}.{key} is not there"
                node["properties"] = {**one, key: {"type": "array", "items": {"type": "null"}}}
                yield f"{inside}.{key} is a list of nulls"
                node["properties"] = one
                node["required"] = (
                    [other for other in required if other != key] if key in required else [*required, key]
                )
                yield f"{inside}.{key} is required or not"
                node["required"] = required
        if name not in ("allOf", "if", "then", "else"):  # what one value means for another is no shape
            yield from damaged(one, inside)


def read(name: str) -> Schema:
    """Return a schema of the package."""
    return dict(json.loads((DATA / f"{name}.schema.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PAIRS)
def test_a_type_and_its_schema_say_the_same(name: str) -> None:
    """Keys, which of them must be there, and what they hold, down to the last object, in both directions."""
    schema = read(name)
    assert differences(PAIRS[name], {"type": "object", **schema}, schema, name, name in OPEN) == []


@pytest.mark.parametrize("name", EXACT)
def test_a_change_of_a_schema_is_seen(name: str) -> None:
    """Each key taken away, made another, or made optional where it was not."""
    schema, missed = read(name), []
    for what in damaged(schema):
        if not differences(PAIRS[name], {"type": "object", **schema}, schema, name):
            missed.append(what)
    assert missed == []


@pytest.mark.parametrize("place", APART)
def test_nothing_is_apart_that_need_not_be(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is no longer one is taken out of the table."""
    monkeypatch.delitem(APART, place)
    schema, name = read(place.partition(".")[0]), place.partition(".")[0]
    told = differences(PAIRS[name], {"type": "object", **schema}, schema, name, name in OPEN)
    assert told and all(row.startswith(place) for row in told)


def test_what_is_imported_for_types_alone_stays_here() -> None:
    """A host would get files that nothing imports there; what is imported besides travels as before."""
    typed = "if TYPE_CHECKING:\n    from ..shapes.lock import Lock\n"
    text = f"from ..errors import X\n{typed}if X:\n    from ..text import y\n"
    assert bundle.imports("checks.card", text) == ["errors", "text"]
