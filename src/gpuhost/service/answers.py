"""What is answered: the JSON of `gpuhost detect --json` with its timings, DeepStack's form, and refusals in both."""

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..text import printable
from ..types import Json
from ..yolo import outputs
from ..yolo.detector import Detection
from .jobs import Done
from .models import Served

JSON = "application/json"
#: Of every answer that comes from a network.
MEANINGFUL = "X-Gpuhost-Meaningful"


class Refused(Exception):
    """A request that is answered with an error: the status, one sentence, what to do, and headers.

    `deepstack` is what DeepStack itself says in that case, where it has words of its own.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        next_step: str = "",
        headers: Optional[Dict[str, str]] = None,
        deepstack: str = "",
        more: Optional[Json] = None,
    ) -> None:
        """Keep everything."""
        super().__init__(problem)
        self.status, self.problem, self.next_step = status, problem, next_step
        self.headers, self.deepstack, self.more = dict(headers or {}), deepstack, dict(more or {})


def dumped(value: Any) -> bytes:
    """Return JSON in one piece: some clients cannot read an answer without a Content-Length."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("utf-8")


def own(model: Served, done: Done, photo: str, labels: Sequence[str]) -> Json:
    """Return our own answer; of the labels only those that are asked for, if any are."""
    found = [row for row in done.found if not labels or row.label in labels]
    return {
        **outputs.head(model.detector, model.name),
        "photo": printable(photo, 200) or "-",
        "width": done.width,
        "height": done.height,
        "detections": outputs.boxes(found),
        "timings_ms": timings(done),
    }


def timings(done: Done) -> Dict[str, float]:
    """Return the times of the stages in milliseconds."""
    rows = {"decode": done.decode_s, "queue": done.queue_s, "forward": done.forward_s}
    return {name: round(1e3 * seconds, 3) for name, seconds in rows.items()}


def deepstack(model: Served, done: Done, most: int) -> Json:
    """Return DeepStack's answer: the surest first, and no more than a client has room for (Frigate: 20)."""
    surest = sorted(done.found, key=lambda row: -row.score)[:most]
    return {
        "success": True,
        "predictions": [_prediction(row) for row in surest],
        "duration": round(done.decode_s + done.queue_s + done.forward_s),
        "meaningful": model.detector.meaningful,
    }


def _prediction(row: Detection) -> Json:
    """Return one object; the corners in whole pixels of the picture that was sent."""
    left, top, width, height = row.box
    return {
        "confidence": round(row.score, 6),
        "label": row.label,
        "y_min": int(top),
        "x_min": int(left),
        "y_max": int(top + height),
        "x_max": int(left + width),
    }


def refusal(problem: Refused, like_deepstack: bool) -> Json:
    """Return an error as JSON."""
    if like_deepstack:
        return {"success": False, "error": problem.deepstack or problem.problem, "duration": 0}
    return {"error": problem.problem, "next_step": problem.next_step, **problem.more}


def meaningful(model: Served) -> List[Tuple[str, str]]:
    """Return the header that says whether the boxes mean anything."""
    return [(MEANINGFUL, "true" if model.detector.meaningful else "false")]
