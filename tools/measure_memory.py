"""Peak memory of the benchmark on a machine of 4 GB: measure it in a control group, and write it into the docs.

python tools/measure_memory.py measure --out REPORT.json       every model on every device of the CPU
python tools/measure_memory.py write REPORT.json ...           the table in docs/reference/benchmarks.md
python tools/measure_memory.py write --check REPORT.json ...   only say whether it is up to date (exit 1)

Measuring needs root, for the control group, and a Python with OpenCV, ONNX Runtime and OpenVINO (--python). The
benchmark runs as its own process in a group that may use --limit-mib of memory, so that it sees what it would see on
such a machine, and is killed where it needs more. Only memory is looked at: other work on the machine does not matter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import measured_page

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- memory -->", "<!-- end of memory -->"
MODELS = ("yolov3", "yolov4", "yolov3-tiny", "yolov4-tiny")
DEVICES = ("cpu", "onnxruntime", "openvino", "auto")
TOP = Path("/sys/fs/cgroup")
INTERVAL_S = 0.02
GOAL = 10**9
KEPT = ("cpu", "cpus_allowed", "opencv", "python", "system")
#: Writes its own number into the group's list before it becomes the command.
ENTER = 'echo $$ > "$0" && exec "$@"'


class Group:
    """A control group with a limit of its memory, of the version that this machine has; gone after the block."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        second = (TOP / "cgroup.controllers").is_file()
        self.folder = (TOP if second else TOP / "memory") / f"gpuhost-measure-{os.getpid()}"
        self._limit, self._file = limit, "memory.max" if second else "memory.limit_in_bytes"

    def __enter__(self) -> Group:
        self.folder.mkdir()
        (self.folder / self._file).write_text(str(self._limit), encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.rmdir()

    def resident(self) -> int:
        """Bytes of memory that the group's processes hold now, files that they have mapped included."""
        pages = 0
        for pid in (self.folder / "cgroup.procs").read_text(encoding="ascii").split():
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
            except OSError:
                continue  # It ended since the list was read.
        return pages * os.sysconf("SC_PAGE_SIZE")


class Seen(NamedTuple):
    """How a command ended, and the largest sum of its processes' resident memory in bytes."""

    code: int
    peak: int


def watched(command: List[str], group: Group, log: Path) -> Seen:
    """Run a command in the group, with what it says in `log`, and look at its memory until it ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    enter = ["sh", "-c", ENTER, str(group.folder / "cgroup.procs"), *command]
    peak = 0
    with log.open("ab") as said, subprocess.Popen(  # noqa: S603 - made above; no word of others is in it
        enter, env=environment, stdout=said, stderr=said
    ) as process:
        while process.poll() is None:
            peak = max(peak, group.resident())
            time.sleep(INTERVAL_S)
    return Seen(process.returncode, peak)


def one(models: Sequence[str], device: str, given: argparse.Namespace) -> Dict[str, Any]:
    """The memory of one benchmark of these models, one after the other."""
    with tempfile.TemporaryDirectory() as folder, Group(given.limit_mib << 20) as group:
        report = Path(folder) / "bench.json"
        line = [given.python, "-m", "gpuhost.yolo", "bench", "--device", device]
        line += [part for model in models for part in ("--model", model)]
        line += ["--work", str(given.work), "--count", str(given.count), "--mode", given.mode, "--json", str(report)]
        seen = watched(line, group, given.out.with_suffix(".log"))
        if seen.code != 0:
            raise SystemExit(
                f"{', '.join(models)} on {device}: exit code {seen.code}; see {given.out.with_suffix('.log')}"
            )
        found = json.loads(report.read_text(encoding="utf-8"))
    entry = found["models"][-1]
    return {
        "models": list(models),
        "asked": device,
        "device": ", ".join(sorted({done["device"] for done in found["models"]})),
        "complete": found["complete"],
        "photos": [done["photos_timed"] for done in found["models"]],
        "process_mib": entry["usage"]["peak_memory_mib"],
        "processes_mib": seen.peak >> 20,
        "winograd": entry["settings"].get("winograd"),
        "started": found["started"],
        "environment": {
            key: found["environment"][key] for key in ("cpu", "cpus_allowed", "opencv", "python", "system")
        },
    }


def measure(given: argparse.Namespace) -> int:
    """Each run on each device, one after the other; the report is kept up to date."""
    rows: List[Dict[str, Any]] = []
    for models in given.models or MODELS:
        for device in given.device or DEVICES:
            rows.append(one(models.split(","), device, given))
            print("{models} {asked} ({device}): {process_mib} MiB".format(**rows[-1]), flush=True)
            head = {"schema": 1, "limit_mib": given.limit_mib, "mode": given.mode}
            given.out.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def section(reports: List[Dict[str, Any]]) -> List[str]:
    """The lines of the page, from reports of one machine and one kind of run."""
    found, rows = reports[0], [row for report in reports for row in report["rows"]]
    machine = "{cpus_allowed} processors ({cpu}), {system}, OpenCV {opencv}, Python {python}"
    worst = max(max(row["process_mib"], row["processes_mib"]) for row in rows)
    verdict = "All are" if worst << 20 < GOAL else "NOT all are"
    lines = [
        f"Made photos, input 416, `--mode {found['mode']}`, in a control group of "
        f"{found['limit_mib']} MiB; {machine.format(**rows[0]['environment'])}; {rows[0]['started'][:10]}.",
        f"{verdict} below 1 GB ({GOAL // 2**20} MiB); the largest is {worst} MiB.",
        "",
        "| models of the run | device | photos | peak of the process (MiB) | all processes, sampled (MiB) | Winograd |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        device = row["asked"] if row["asked"] == row["device"] else f"{row['asked']}, which took {row['device']}"
        winograd = {True: "yes", False: "no", None: "-"}[row["winograd"]]
        cells = [", ".join(row["models"]), device, row["photos"][0], row["process_mib"], row["processes_mib"], winograd]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def write(given: argparse.Namespace) -> int:
    """Write the page, or compare it with what is there."""
    lines = section([json.loads(path.read_text(encoding="utf-8")) for path in given.reports])
    return measured_page.renew(measured_page.BENCHMARKS, START, END, lines, given.check)


def main() -> int:
    """The command line."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    first = commands.add_parser("measure", help="measure on this machine")
    first.add_argument("--out", type=Path, required=True, help="the report; what the benchmark says goes beside it")
    first.add_argument("--python", default=sys.executable, help="a Python with OpenCV and the engines")
    first.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gpuhost-measure", help="work folder")
    first.add_argument(
        "--models", action="append", help=f"of one run, with commas; may be repeated (default: {', '.join(MODELS)})"
    )
    first.add_argument("--device", action="append", help=f"may be repeated (default: {', '.join(DEVICES)})")
    first.add_argument("--count", type=int, default=192, help="photos (default: 192)")
    first.add_argument("--mode", default="single", help="as of gpuhost bench (default: single)")
    first.add_argument("--limit-mib", type=int, default=4096, help="memory of the control group (default: 4096)")
    second = commands.add_parser("write", help="write the table in docs/reference/benchmarks.md")
    second.add_argument("reports", nargs="+", type=Path)
    second.add_argument("--check", action="store_true")
    given = top.parse_args()
    return measure(given) if given.command == "measure" else write(given)


if __name__ == "__main__":
    sys.exit(main())
