"""What is counted, in Prometheus' text format. There is one process, so no library is needed to add anything up."""

import threading
from collections import Counter
from typing import Dict, Iterable, List, Sequence, Tuple

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES = ("decode", "queue", "forward")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Durations by the upper edges of BUCKETS."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.counts, self.total, self.sum = [0] * len(BUCKETS), 0, 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.total, self.sum = self.total + 1, self.sum + seconds
        for number, edge in enumerate(BUCKETS):
            if seconds <= edge:
                self.counts[number] += 1
                return

    def lines(self, name: str, labels: str) -> List[str]:
        """Return it as text; `labels` are those beside the edge."""
        rows, below = [], 0
        before = labels + "," if labels else ""
        for edge, count in zip(BUCKETS, self.counts):
            below += count
            rows.append(f'{name}_bucket{{{before}le="{edge:g}"}} {below}')
        rows.append(f'{name}_bucket{{{before}le="+Inf"}} {self.total}')
        around = f"{{{labels}}}" if labels else ""
        return [*rows, f"{name}_sum{around} {self.sum:.6f}", f"{name}_count{around} {self.total}"]


class Metrics:
    """All counters. Threads add to them."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self._lock = threading.Lock()
        self._requests = Counter()  # type: Counter[Tuple[str, int]]
        self._dropped = Counter()  # type: Counter[str]
        self._batches = Counter()  # type: Counter[Tuple[str, int]]
        self._stages: Dict[str, Histogram] = {name: Histogram() for name in STAGES}
        self._passes: Dict[str, Histogram] = {}
        self._request = Histogram()
        self._failures = self._probes = self._unlogged = 0

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        with self._lock:
            self._requests[route, status] += 1
            self._request.add(seconds)

    def dropped(self, why: str) -> None:
        """Count a request that nobody waits for any longer."""
        with self._lock:
            self._dropped[why] += 1

    def stages(self, *seconds: float) -> None:
        """Add one photo's times, in the order of STAGES."""
        with self._lock:
            for name, value in zip(STAGES, seconds):
                self._stages[name].add(value)

    def forward(self, model: str, seconds: float, photos: int) -> None:
        """Add a forward pass with so many photos in it."""
        with self._lock:
            self._passes.setdefault(model, Histogram()).add(seconds)
            self._batches[model, photos] += 1

    def failed(self) -> None:
        """Count a forward pass that failed."""
        with self._lock:
            self._failures += 1

    def probed(self) -> None:
        """Count a probe that went well."""
        with self._lock:
            self._probes += 1

    def unlogged(self) -> None:
        """Count a line of the log that could not be written."""
        with self._lock:
            self._unlogged += 1

    def text(self, ready: bool, inside: int, depth: int, info: Dict[str, str]) -> str:
        """Return everything, with the state of the moment."""
        with self._lock:
            rows = [
                *_head("info", "gauge", "What runs here."),
                f"gpuhost_service_info{{{_labels(info.items())}}} 1",
                *_head("ready", "gauge", "Whether the device is proved and answers."),
                f"gpuhost_service_ready {int(ready)}",
                *_head("inside", "gauge", "Requests inside."),
                f"gpuhost_service_inside {inside}",
                *_head("depth", "gauge", "Requests that may be inside."),
                f"gpuhost_service_depth {depth}",
                *_head("requests_total", "counter", "Answers by route and status."),
                *_counted("requests_total", ("route", "status"), sorted(self._requests.items())),
                *_head("dropped_total", "counter", "Photos that nobody waited for any longer."),
                *_counted("dropped_total", ("why",), [((why,), count) for why, count in sorted(self._dropped.items())]),
                *_head("forward_failures_total", "counter", "Forward passes that failed."),
                f"gpuhost_service_forward_failures_total {self._failures}",
                *_head("probes_total", "counter", "Probes of the idle device that went well."),
                f"gpuhost_service_probes_total {self._probes}",
                *_head("unlogged_total", "counter", "Lines of the log that could not be written."),
                f"gpuhost_service_unlogged_total {self._unlogged}",
                *_head("batches_total", "counter", "Forward passes by the photos in them."),
                *_counted("batches_total", ("model", "photos"), sorted(self._batches.items())),
                *_head("request_seconds", "histogram", "Time from the head of a request to its answer."),
                *self._request.lines("gpuhost_service_request_seconds", ""),
                *_head("stage_seconds", "histogram", "Time of a photo in each stage."),
            ]
            for name, stage in self._stages.items():
                rows += stage.lines("gpuhost_service_stage_seconds", f'stage="{name}"')
            rows += _head("forward_seconds", "histogram", "Time of a forward pass.")
            for model, passes in sorted(self._passes.items()):
                rows += passes.lines("gpuhost_service_forward_seconds", _labels([("model", model)]))
        return "\n".join(rows) + "\n"


def lines_of(part: str, numbers: Dict[str, int]) -> str:
    """Return the numbers of a part of the service; those that wait go up and down, the others only up."""
    rows: List[str] = []
    for name, value in numbers.items():
        is_gauge = name.endswith("_waiting")
        full = f"{part}_{name}" + ("" if is_gauge else "_total")
        text = f"{name.replace('_', ' ').capitalize()}."
        rows += [*_head(full, "gauge" if is_gauge else "counter", text), f"gpuhost_service_{full} {value}"]
    return "\n".join(rows) + "\n"


def _head(name: str, kind: str, text: str) -> List[str]:
    """Return the two lines before a metric."""
    return [f"# HELP gpuhost_service_{name} {text}", f"# TYPE gpuhost_service_{name} {kind}"]


def _counted(name: str, labels: Sequence[str], rows: Iterable[Tuple[Sequence[object], int]]) -> List[str]:
    """Return counters with their labels."""
    return [f"gpuhost_service_{name}{{{_labels(zip(labels, values))}}} {count}" for values, count in rows]


def _labels(pairs: Iterable[Tuple[str, object]]) -> str:
    """Return labels as text; no value leaves its quotation marks."""
    return ",".join(
        '{}="{}"'.format(name, str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " "))
        for name, value in pairs
    )
