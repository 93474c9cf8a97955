"""What the OpenAPI document says of each route: bodies, parameters, and every answer that there can be."""

from typing import Any, Dict, List, Sequence, Tuple

from ..types import Json

_TEXT: Json = {"type": "string"}
_MS: Json = {"type": "number", "minimum": 0}
ERROR: Json = {
    "type": "object",
    "required": ["error", "next_step"],
    "properties": {"error": _TEXT, "next_step": _TEXT, "diagnosis": {"type": ["string", "null"]}},
}
DEEPSTACK_ERROR: Json = {
    "type": "object",
    "required": ["success", "error", "duration"],
    "properties": {"success": {"const": False}, "error": _TEXT, "duration": {"type": "integer"}},
}
_SIZE: Json = {"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}
_WEIGHTS: Json = {
    "type": "object",
    "required": ["kind", "sha256"],
    "properties": {"kind": {"enum": ["real", "own", "synthetic"]}, "sha256": _TEXT},
}
DETECTION: Json = {
    "type": "object",
    "required": ["label", "class_id", "score", "box"],
    "properties": {
        "label": _TEXT,
        "class_id": {"type": "integer"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "box": {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 4,
            "maxItems": 4,
            "description": "left, top, width, height in pixels of the picture that was sent",
        },
    },
}
DETECTED: Json = {
    "type": "object",
    "required": [
        "schema", "model", "size", "device", "weights", "meaningful", "photo", "width", "height", "detections",
        "timings_ms",
    ],
    "properties": {
        "schema": {"const": 1},
        "model": _TEXT,
        "size": _SIZE,
        "device": _TEXT,
        "weights": _WEIGHTS,
        "meaningful": {"type": "boolean", "description": "false where the weights were made and detect nothing"},
        "photo": _TEXT,
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "detections": {"type": "array", "items": DETECTION},
        "timings_ms": {
            "type": "object",
            "required": ["decode", "queue", "forward"],
            "properties": {"decode": _MS, "queue": _MS, "forward": _MS},
        },
    },
}  # fmt: skip
DEEPSTACK: Json = {
    "type": "object",
    "required": ["success", "predictions", "duration", "meaningful"],
    "properties": {
        "success": {"const": True},
        "duration": {"type": "integer"},
        "meaningful": {"type": "boolean"},
        "predictions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["confidence", "label", "y_min", "x_min", "y_max", "x_max"],
                "properties": {
                    "confidence": {"type": "number"},
                    "label": _TEXT,
                    **{name: {"type": "integer"} for name in ("y_min", "x_min", "y_max", "x_max")},
                },
            },
        },
    },
}
MODELS: Json = {
    "type": "object",
    "required": ["schema", "default", "device", "generation", "models"],
    "properties": {
        "schema": {"const": 1},
        "default": _TEXT,
        "device": _TEXT,
        "generation": {"type": ["integer", "null"]},
        "models": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "size", "weights", "meaningful", "labels", "batch"],
                "properties": {
                    "name": _TEXT,
                    "size": _SIZE,
                    "weights": _WEIGHTS,
                    "meaningful": {"type": "boolean"},
                    "labels": {"type": "array", "items": _TEXT},
                    "batch": {"type": "integer"},
                },
            },
        },
    },
}
ALIVE: Json = {"type": "object", "required": ["alive"], "properties": {"alive": {"const": True}}}
READY: Json = {
    "type": "object",
    "required": ["ready", "state"],
    "properties": {
        "ready": {"type": "boolean"},
        "state": {"enum": ["starting", "ready", "refused", "failing", "stopping"]},
        "reason": _TEXT,
        "diagnosis": {"type": ["string", "null"]},
        "title": _TEXT,
        "remedy": _TEXT,
        "watch": {"type": "array", "items": _TEXT},
        "update": {**_TEXT, "description": "what became of an update that the host has undone"},
    },
}
KEY: List[Json] = [{"bearer": []}, {"key": []}]
SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
#: What each route is for, by its address.
SUMMARIES = {
    "/v1/detect": "Find the objects in a photo. The header X-Deadline-S says after how many seconds (1 or more) the "
    "answer is of no use.",
    "/v1/vision/detection": "The same, as DeepStack's clients ask and are answered.",
    "/v1/vision/custom/{model}": "The same with a network by its name.",
    "/v1/models": "List the networks and their labels.",
    "/metrics": "Count. For this machine, or with a key.",
    "/healthz": "Say that the process lives.",
    "/readyz": "Say whether photos are taken; to this machine or with a key also why not.",
}
_WHAT = {
    400: "The request or its picture cannot be used.",
    401: "The key is missing or wrong.",
    404: "There is no such network.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is of a type that is not taken.",
    500: "The forward pass failed.",
    503: "The service is full, not ready, or ending: Retry-After says when to ask again.",
    504: "The deadline has passed.",
}
_MIN_CONFIDENCE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_LABELS: Json = {
    "type": "string",
    "format": "labels",
    "description": "names that GET /v1/models lists for the network, separated by commas",
}
#: A negative one means 0 to DeepStack.
_OF_DEEPSTACK: Json = {"type": "number", "maximum": 1}


def json_answer(schema: Json, description: str) -> Json:
    """Return an answer of JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def answers(schema: Json, error: Json, statuses: Sequence[int], what: str = "What was found.") -> Dict[Any, Json]:
    """Return all answers of a route."""
    return {200: json_answer(schema, what), **{one: json_answer(error, _WHAT[one]) for one in statuses}}


def form(models: Sequence[str]) -> Json:
    """Return the body of a multipart form; our own route, which has `models`, also takes the picture alone."""
    own = bool(models)
    fields: Json = {
        "image": {"type": "string", "format": "binary"},
        "api_key": {"type": "string", "format": "password"},
        "min_confidence": _MIN_CONFIDENCE if own else _OF_DEEPSTACK,
    }
    if own:
        fields.update(model={"type": "string", "enum": list(models)}, labels=_LABELS)
    shape = {"schema": {"type": "object", "required": ["image"], "properties": fields}}
    content: Json = {"multipart/form-data": shape}
    if own:
        picture = {"schema": {"type": "string", "format": "binary"}}
        content.update({kind: picture for kind in ("image/jpeg", "image/png", "image/webp")})
    return {"requestBody": {"required": True, "content": content}}


def parameters(models: Sequence[str]) -> List[Json]:
    """Return the parameters of our own route."""
    rows: List[Tuple[str, Json]] = [
        ("model", {"type": "string", "enum": list(models)}),
        ("min_confidence", _MIN_CONFIDENCE),
        ("labels", _LABELS),
    ]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in rows]
