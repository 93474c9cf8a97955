"""Asking CUDA itself what it sees: in a process apart, because a driver that is half there can crash or hang whoever
loads it.

Runs on the target: Python 3.6, standard library. Reads only; CUDA may make its own device node as it does for every
program.
"""

import os
import subprocess
import sys
from typing import Dict, List, Optional

from ... import strict_json
from ...types import Json
from .. import commands
from ..answer import channel

LIMIT_S = 60.0
#: What decides in a program's surroundings which libcuda is loaded and which cards it sees.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_COMPAT_PATH")
_LONGEST = 300
# A line of JSON for each step, so that what came before a crash counts. On each card some memory is filled by the card
# and read back. cuMemsetD32 and its like are of CUDA's driver API; so are the numbers of the attributes.
_ASK = """\
import ctypes, json
def tell(**row):
    print(json.dumps(row), flush=True)
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    tell(library=None, error=str(error))
    raise SystemExit
with open("/proc/self/maps") as maps:
    paths = [line.split()[-1] for line in maps if "/libcuda.so" in line]
class Loaded(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("name", ctypes.c_char_p)]
name = ctypes.cast(cuda._handle, ctypes.POINTER(Loaded)).contents.name or b""
tell(library=paths[0] if paths else "libcuda.so.1", error=None, found_as=name.decode("utf-8", "replace"))
def word(call, code):
    text = ctypes.c_char_p()
    try:
        getattr(cuda, call)(code, ctypes.byref(text))
    except AttributeError:
        return ""
    return (text.value or b"").decode("ascii", "replace")
def told(code):
    return {"code": code, "name": word("cuGetErrorName", code), "text": word("cuGetErrorString", code)}
init = cuda.cuInit(0)
version = ctypes.c_int()
known = cuda.cuDriverGetVersion(ctypes.byref(version)) == 0
tell(init=told(init), version=version.value if known else None)
if init:
    raise SystemExit
count = ctypes.c_int()
tell(counted=told(cuda.cuDeviceGetCount(ctypes.byref(count))), count=count.value)
def computed(device):
    size, filled = 4096, 0x600DCAFE
    context, memory, back = ctypes.c_void_p(), ctypes.c_uint64(), (ctypes.c_uint32 * size)()
    steps = (
        ("cuDevicePrimaryCtxRetain", (ctypes.byref(context), device)),
        ("cuCtxSetCurrent", (context,)),
        ("cuMemAlloc_v2", (ctypes.byref(memory), ctypes.c_size_t(4 * size))),
        ("cuMemsetD32_v2", (memory, ctypes.c_uint32(filled), ctypes.c_size_t(size))),
        ("cuMemcpyDtoH_v2", (back, memory, ctypes.c_size_t(4 * size))),
        ("cuMemFree_v2", (memory,)),
    )
    for call, arguments in steps:
        code = getattr(cuda, call)(*arguments)
        if code:
            return "{}: {} ({})".format(call, code, word("cuGetErrorName", code))
    return None if all(value == filled for value in back) else "the memory came back changed"
for number in range(count.value):
    device, name, figures = ctypes.c_int(), ctypes.create_string_buffer(256), [ctypes.c_int(), ctypes.c_int()]
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, 256, device)
    for attribute, figure in zip((75, 76), figures):
        cuda.cuDeviceGetAttribute(ctypes.byref(figure), attribute, device)
    row = {"name": name.value.decode("utf-8", "replace"), "capability": "%d.%d" % tuple(f.value for f in figures)}
    tell(device=dict(row, error="it crashed, or gave no answer"), number=number)
    tell(device=dict(row, error=computed(device)), number=number)
"""


def main(arguments: Json) -> int:
    """Answer what CUDA says of itself on this host."""
    channel()(cuda())
    return 0


def unasked(why: Optional[str]) -> Json:
    """Return the answer of a CUDA of which nothing is known, because its asking `ended` so."""
    nothing = dict.fromkeys(("library", "found_as", "error", "init", "counted", "version", "count"))
    return {**nothing, "ended": why, "devices": [], "variables": {}}


def cuda(limit_s: float = LIMIT_S) -> Json:
    """Return what CUDA says of itself on this machine.

    `library` is the libcuda that is loaded (None: none is), `found_as` the name by which the linker found it (it keeps
    the links that lead there, as dlopen(3)'s link map has it), `error` why it is not, and `ended` how the asking ended
    badly (None: it did not). `init` and `counted` are what cuInit and cuDeviceGetCount gave as code, name and text,
    `version` is the CUDA that the driver serves ("12.4"), `count` the cards that CUDA sees, and `devices` has each with
    its name, capability and `error` (None: the card filled memory that was read back). What was not reached is None.
    """
    found = unasked(None)
    devices: Dict[int, Json] = {}
    set_here = {name: os.environ[name][:_LONGEST] for name in VARIABLES if name in os.environ}
    argv = [sys.executable, "-I", "-S", "-c", _ASK]
    try:
        code, out, _ = commands.bounded(argv, limit_s, stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        code, out = 0, ""
        found["ended"] = f"CUDA gave no answer within {error.timeout:g} s"
    except (OSError, commands.TooMuch) as error:
        code, out = 0, ""
        found["ended"] = f"CUDA could not be asked: {type(error).__name__}"
    for row in rows(out):
        if "device" in row:
            devices[row["number"]] = row["device"]
        else:
            found.update(row)
    if code != 0:
        found["ended"] = f"the process that asked CUDA was ended by signal {-code}" if code < 0 else "it crashed"
    figures = found["version"]
    found["version"] = f"{figures // 1000}.{figures % 1000 // 10}" if figures else None
    return {**found, "devices": [devices[number] for number in sorted(devices)], "variables": set_here}


def rows(out: str) -> List[Json]:
    """Return the JSON objects among the lines of an output; a library may print there as well."""
    found = []
    for line in out.splitlines():
        if line.startswith("{"):
            try:
                found.append(strict_json.loads(line))
            except strict_json.StrictJsonError:
                continue
    return found
