"""Let other doctors of the package index and ours judge the same synthetic hosts, and write docs/reference/doctors.md.

python tools/compare_doctors.py [--folder DIR]   as root on Debian 12, with gcc; DIR lies on the root's file system

Each host is a root of its own: this machine's files below, and over them the card on the bus, /proc, /dev, the kernel's
modules, and stand-ins for the commands and for libnvidia-ml, libcuda and the libraries of the toolkit.
`tools/compared_hosts.json` says what each host has and which words name its cause; DIR/said keeps what was printed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import doctor_pyz

from gpuhost import __version__

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "doctors.md"
HOSTS = Path(__file__).with_name("compared_hosts.json")
#: The doctors, each in an environment of its own, and what is typed.
OTHERS = {
    "env-doctor": ("env-doctor==0.3.5", "env-doctor check"),
    "cuda-doctor": ("cuda-doctor==0.2.0", "cuda-doctor diagnose"),
    "rapids-cli": ("rapids-cli==0.2.0", "rapids doctor"),
}
OURS = "gpuhost doctor"
HEALTHY = "healthy"
#: Not /tmp, which is often a file system of its own.
FOLDER = Path("/var/tmp/gpuhost-doctors")  # noqa: S108 - root's, and a folder of one's own can be named
Json = Dict[str, Any]
TEXT = """\
# Other doctors on the same hosts

Written by tools/compare_doctors.py; do not edit.

Measured on {day} by `./run python tools/compare_doctors.py` (root, Debian 12, gcc), without a network:
{versions}
and `gpuhost-doctor.pyz` {ours} with `--python`. The other three are about Python environments and do not
claim to examine Secure Boot, DKMS, the kernel's log or unattended upgrades, so much of this is outside their scope.

**What it rests on.** No card was available. Each host is a root file system of Debian 12 in a mount namespace, with
stand-ins: files for /sys (PCI bus, modules, Secure Boot), /proc/modules, /proc/driver/nvidia, the running kernel's
name, /dev/nvidia* and /etc/modprobe.d; programs for nvidia-smi, modinfo, dkms, dmesg, mokutil and uname -r; small
libraries in place of libnvidia-ml, libcuda, the toolkit's libraries and PyTorch. What they say is in
`tools/compared_hosts.json`, and follows the hosts described in `tests/hosts` and `tests/field`. We chose the hosts,
so the totals are not a contest; the table shows which kinds of causes each program looks for. On the same host
without a fault, ours {works}.

**The rule.** The words that identify each cause (`words` in that file, a regular expression) were fixed before any
doctor was run. After the first run the criterion for ours was made stricter, and three hosts were made more like the
reports they follow; no words were changed. At first ours had 10 of 15: five diagnoses were missing or unclear, and
have been fixed since.

- *yes*: the output has the words. Lines that only advise to look for something (beginning with Check, Ensure, Make
  sure, Verify or Try) do not count. For ours only title, cause and remedy of the first finding count, not the lines
  that it quotes, and its id has to be the right one where the cause has an id.
- *no*: the output differs from that on the host without a fault, but does not have the words.
- *not seen*: the output is the same as on the host without a fault.
- *it crashes*: the program ends in a traceback. rapids-cli 0.2.0 does so wherever NVML does not start
  (UnboundLocalError), env-doctor 0.3.5 at a PyTorch whose `torch.version.cuda` is None.

| host | right cause | {names} |
|{lines}|
{table}
"""
#: Advice to look for something does not say that it was found.
ADVICE = re.compile(r"^\W*(check|ensure|make sure|verify|try|for linux:)\b", re.IGNORECASE)

NVML = r"""
#include <string.h>
typedef void *dev; struct memory { unsigned long long total, free, used; };
int nvmlInitWithFlags(unsigned f) { return INIT; }
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *t, unsigned n) { strncpy(t, VERSION, n); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = SERVES; return 0; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = SERVES; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = COUNT; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, dev *d) { *d = (dev)(long)(i + 1); return 0; }
int nvmlDeviceGetName(dev d, char *t, unsigned n) { strncpy(t, NAME, n); return 0; }
int nvmlDeviceGetCudaComputeCapability(dev d, int *a, int *b) { *a = MAJOR; *b = MINOR; return 0; }
int nvmlDeviceGetMemoryInfo(dev d, struct memory *m) { m->total = m->free = 5ull << 30; m->used = 0; return 0; }
int nvmlDeviceGetNvLinkState(dev d, unsigned l, int *s) { return 3; }
const char *nvmlErrorString(int c) { return c == 18 ? "Driver/library version mismatch" : c == 9 ? "Driver Not Loaded" :
  c == 4 ? "Insufficient Permissions" : c == 15 ? "GPU is lost" : c ? "Unknown Error" : "Success"; }
"""
CUDA = r"""
#include <stdlib.h>
#include <string.h>
static unsigned kept;
static int init(void) { const char *s = getenv("CUDA_VISIBLE_DEVICES"); return INIT ? INIT : s && !*s ? 100 : 0; }
int cuInit(unsigned f) { return init(); }
int cuDriverGetVersion(int *v) { *v = SERVES; return 0; }
int cuGetErrorName(int c, const char **t) { *t = c == 100 ? "CUDA_ERROR_NO_DEVICE" : c == 802 ?
  "CUDA_ERROR_SYSTEM_NOT_READY" : c == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : "CUDA_ERROR_UNKNOWN"; return 0; }
int cuGetErrorString(int c, const char **t) { *t = c == 100 ? "no CUDA-capable device is detected" : c == 802 ?
  "system not yet initialized" : c == 803 ? "system has unsupported display driver / cuda driver combination" :
  "unknown error"; return 0; }
int cuDeviceGetCount(int *n) { *n = COUNT; return 0; }
int cuDeviceGet(int *d, int n) { *d = n; return 0; }
int cuDeviceGetName(char *t, int n, int d) { strcpy(t, NAME); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? MAJOR : MINOR; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { return 0; }
int cuCtxSetCurrent(void *c) { return 0; }
int cuMemAlloc_v2(unsigned long long *p, size_t n) { *p = 1; return 0; }
int cuMemsetD32_v2(unsigned long long p, unsigned v, size_t n) { kept = v; return 0; }
int cuMemcpyDtoH_v2(unsigned *t, unsigned long long p, size_t n) { for (size_t i = 0; i < n / 4; i++) t[i] = kept;
  return 0; }
int cuMemFree_v2(unsigned long long p) { return 0; }
"""
TOOLKIT = "int cudaRuntimeGetVersion(int *v) { *v = TOOLKIT; return 0; }\n"
#: PyTorch as far as the doctors ask it; it sees what libcuda sees.
TORCH = """\
import ctypes as _c
__version__ = {version!r}
class version:
    cuda = {cuda!r}
class cuda:
    @staticmethod
    def init():
        if not cuda.device_count():
            raise RuntimeError("No CUDA GPUs are available")
    @staticmethod
    def device_count():
        try:
            lib = _c.CDLL("libcuda.so.1")
        except OSError:
            return 0
        count = _c.c_int()
        return count.value if {cuda!r} and not lib.cuInit(0) and not lib.cuDeviceGetCount(_c.byref(count)) else 0
    @staticmethod
    def is_available():
        return cuda.device_count() > 0
    @staticmethod
    def get_arch_list():
        return {code!r}
    @staticmethod
    def get_device_name(number=0):
        return {name!r}
    @staticmethod
    def get_device_capability(number=0):
        return ({major}, {minor})
class _sum:
    def __mul__(self, other):
        return self
    def sum(self):
        return self
    def item(self):
        return 8192.0
def ones(shape, device=None):
    if "sm_{major}{minor}" not in {code!r}:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
    return _sum()
class _cudnn:
    @staticmethod
    def version():
        return 8902
class backends:
    cudnn = _cudnn
"""
SMI = """\
#!/bin/sh
{fails}
case "$*" in
    *pci.bus_id,memory.free*) printf '%s' {free} ;;
    *pci.bus_id,uuid,name,memory.total,compute_cap*) printf '%s' {full} ;;
    *index,name,uuid,memory.total,compute_cap*) printf '%s' {uuid} ;;
    *index,name,memory.total,compute_cap*) printf '%s' {short} ;;
    *-q*-x*) printf '%s' {xml} ;;
    *--query*) echo 'Field is not a valid field to query.'; exit 2 ;;
    *) echo '| NVIDIA-SMI {version}   Driver Version: {version}   CUDA Version: {cuda} |' ;;
esac
"""
MODINFO = """\
#!/bin/sh
for name; do :; done
file=/usr/local/share/standins/modinfo-$2-$name
[ -f "$file" ] || { echo "modinfo: ERROR: Module $name not found." >&2; exit 1; }
case "$*" in *'-F filename'*) sed -n 's/^filename: *//p' "$file" ;; *) cat "$file" ;; esac
"""
#: Put a root together and run the doctors in it; $1 is the host's folder, and the commands stand in its `run`.
INSIDE = r"""
set -e
case=$1 root=$1/root
mount --make-rprivate /
mkdir -p "$1/mount" "$root"
mount -t tmpfs tmpfs "$1/mount"
mkdir "$1/mount/up" "$1/mount/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/mount/up,workdir=$1/mount/work" "$root"
rm -rf "$root/.dockerenv" "$root"/boot/* "$root/usr/lib/modules" "$root/etc/modprobe.d"
rm -rf "$root"/usr/local "$root"/opt "$root"/usr/bin/nvcc
# An empty folder to start in: one of them reads every Python file below.
rm -rf "$root"/mnt/*
mkdir -p "$root/usr/local"
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
cp -a "$case/fs/." "$root/"
# A kernel without modules has no /proc/modules to lay a file over, so /proc is links to the real one beside our files.
mkdir "$root/run/proc"
mount -t proc proc "$root/run/proc"
mount -t tmpfs tmpfs "$root/proc"
mkdir -p "$root/proc/sys/kernel"
for place in . sys sys/kernel; do
    (cd "$root/run/proc/$place" && ls) | grep -v '^[0-9]' | while read -r name; do
        [ -e "$case/proc/$place/$name" ] || ln -s "/run/proc/$place/$name" "$root/proc/$place/$name"
    done
done
cp -a "$case/proc/." "$root/proc/"
mount --bind "$case/sys" "$root/sys"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
for name in $(cat "$case/nodes"); do mknod "$root/dev/$name" c 195 0; done
chroot "$root" /sbin/ldconfig
. "$case/run"
"""


def main() -> None:
    """Judge every host, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder.resolve()
    table = json.loads(HOSTS.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, (pinned, _) in OTHERS.items():
        if not (folder / name).is_dir():
            for command in (
                [sys.executable, "-m", "venv", str(folder / name)],
                [str(folder / name / "bin/pip"), "install", "--quiet", pinned],
            ):
                subprocess.run(command, check=True)  # noqa: S603 - a list, from the maintainer's own command line
    (folder / "gpuhost-doctor.pyz").write_bytes(doctor_pyz.built())
    with ThreadPoolExecutor(8) as pool:  # most of the time one of them waits for a network that is not there
        answers = {
            name: pool.submit(listened, folder, name, {**table["usual"], **row}) for name, row in table["hosts"].items()
        }
        said = {name: answer.result() for name, answer in answers.items()}
    PAGE.write_text(page(table["hosts"], said), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


def listened(folder: Path, name: str, host: Json) -> Dict[str, str]:
    """Return what each doctor prints on one host."""
    case = folder / "hosts" / name
    shutil.rmtree(case, ignore_errors=True)
    make(case, host)
    kept = folder / "said" / name
    kept.mkdir(parents=True, exist_ok=True)
    lines = []
    variables = " ".join(shlex.quote(f"{key}={value}") for key, value in host["variables"].items())
    asked = {key: f"{folder}/{key}/bin/{typed}" for key, (_, typed) in OTHERS.items()}
    asked[OURS] = f"{sys.executable} -I {folder}/gpuhost-doctor.pyz --python {folder}/env-doctor/bin/python"
    package = torch(host)
    for key in OTHERS:
        (site,) = (folder / key).glob("lib/python3*/site-packages")
        lines += [f'mkdir -p "$root{site}/torch"', f'cp -a "$case/torch/." "$root{site}/"']
    for path, text in package.items():
        put(case / "torch" / path, text)
    for key, typed in asked.items():
        command = (
            f"HOME=/root PATH={path_of()} TERM=dumb COLUMNS=200 NO_COLOR=1 PYTHONIOENCODING=utf-8 {variables} {typed}"
        )
        lines.append(
            f'/usr/sbin/chroot "$root" /usr/bin/env -i -C /mnt {command} '
            f">{shlex.quote(str(kept / key))} 2>&1 </dev/null || :"
        )
    put(case / "run", "\n".join(lines) + "\n")
    entered = ["unshare", "--mount", "--net", "sh", "-c", INSIDE, "sh", str(case)]
    subprocess.run(entered, check=True, timeout=300)  # noqa: S603 - a list, made here
    return {key: (kept / key).read_text(encoding="utf-8", errors="replace") for key in asked}


def path_of() -> str:
    """Return the PATH inside: the stand-ins lie in its first folder."""
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def make(case: Path, host: Json) -> None:
    """Write what lies over this machine's files on one host."""
    root = case / "fs"
    put(root / "etc/apt/sources.list", "deb http://deb.debian.org/debian bookworm main\n")
    for kernel in host["kernels"]:
        put(root / f"usr/lib/modules/{kernel}/modules.dep", "")
        put(root / f"boot/vmlinuz-{kernel}", "")
    for name, text in host["modprobe"].items():
        put(root / "etc/modprobe.d" / name, text)
    loaded = [f"{name} 1376256 0 - Live 0x0000000000000000" for name in host["loaded"]]
    put(case / "proc/modules", "\n".join([*loaded, "ext4 655360 1 - Live 0x0000000000000000", ""]))
    put(case / "proc/sys/kernel/osrelease", host["running"] + "\n")
    (case / "proc/driver").mkdir()
    if "nvidia" in host["loaded"]:
        text = (
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {host['module_loaded']}  Sat Aug 17 17:52:24 UTC 2024\n"
        )
        put(case / "proc/driver/nvidia/version", text)
    for name in host["loaded"]:
        (case / "sys/module" / name).mkdir(parents=True)
    bus(case / "sys/bus/pci", host)
    (case / "sys/firmware/efi/efivars").mkdir(parents=True)
    state = case / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    state.write_bytes(bytes([6, 0, 0, 0, int(host["secure_boot"])]))
    put(case / "nodes", " ".join(host["nodes"]))
    commands(root, host)
    libraries(root / "usr/lib/x86_64-linux-gnu", host)


def bus(folder: Path, host: Json) -> None:
    """Put the devices on the PCI bus."""
    rows = [("0000:00:00.0", "0x8086", "0x2020", "0x060000", "")]
    rows += [(address, "0x10de", f"0x{device}", kind, driver) for address, device, kind, driver in host["cards"]]
    for address, vendor, device, kind, driver in rows:
        place = folder / "devices" / address
        subsystem = {"subsystem_vendor": vendor, "subsystem_device": "0x11b3"}
        for name, value in {"vendor": vendor, "device": device, "class": kind, **subsystem}.items():
            put(place / name, value + "\n")
        if driver:
            (folder / "drivers" / driver).mkdir(parents=True, exist_ok=True)
            (place / "driver").symlink_to(f"../../drivers/{driver}")


def commands(root: Path, host: Json) -> None:
    """Write the stand-ins for commands."""
    programs = {
        "modinfo": MODINFO,
        "dmesg": "#!/bin/sh\ncat /usr/local/share/standins/dmesg\n",
        "uname": f'#!/bin/sh\ncase $1 in -r) echo {host["running"]} ;; *) exec /usr/bin/uname "$@" ;; esac\n',
        "mokutil": f"#!/bin/sh\necho SecureBoot {'enabled' if host['secure_boot'] else 'disabled'}\n",
    }
    if host["dkms"]:
        programs["dkms"] = f"#!/bin/sh\necho {shlex.quote(host['dkms'])}\n"
    if host["smi"] != "absent":
        programs["nvidia-smi"] = smi(host)
    for name, text in programs.items():
        put(root / "usr/local/sbin" / name, text, 0o755)
    put(root / "usr/local/share/standins/dmesg", "\n".join([*host["dmesg"], ""]))
    for kernel in host["modules_for"]:
        path = f"/lib/modules/{kernel}/updates/dkms/nvidia.ko"
        text = f"filename:       {path}\nversion:        {host['version']}\nlicense:        {host['license']}\n"
        text += f"{host['signature']}vermagic:       {kernel} SMP preempt mod_unload modversions \n"
        for name in ("nvidia", "nvidia-uvm"):
            put(root / f"usr/local/share/standins/modinfo-{kernel}-{name}", text.replace("nvidia.ko", f"{name}.ko"))
        put(root / f"usr{path}", "")


def smi(host: Json) -> str:
    """Return a stand-in for nvidia-smi."""
    fails = ""
    if host["smi"] != "lists":
        fails = f"printf '%s\\n' {shlex.quote(host['smi'])}; exit {host['smi_code']}"
    listed = [address for address, _, kind, driver in host["cards"] if driver == "nvidia" and kind.startswith("0x03")]
    name, capability = host["name"], "{}.{}".format(*host["capability"])
    rows = [(n, f"0000{a.upper()}", f"GPU-00000000-0000-4000-8000-{n:012d}") for n, a in enumerate(listed)]
    cuda = f"{host['serves'] // 1000}.{host['serves'] % 1000 // 10}"
    version = host["version"]
    xml = (
        f"<nvidia_smi_log><driver_version>{version}</driver_version><cuda_version>{cuda}</cuda_version>"
        f"<attached_gpus>{len(rows)}</attached_gpus></nvidia_smi_log>\n"
    )
    texts = {
        "free": "".join(f"{bus}, 5000\n" for _, bus, _ in rows),
        "full": "".join(f"{bus}, {uuid}, {name}, 5120, {capability}\n" for _, bus, uuid in rows),
        "uuid": "".join(f"{n}, {name}, {uuid}, 5120 MiB, {capability}\n" for n, _, uuid in rows),
        "short": "".join(f"{n}, {name}, 5120 MiB, {capability}\n" for n, _, _ in rows),
        "xml": xml,
    }
    quoted = {key: shlex.quote(text) for key, text in texts.items()}
    return SMI.format(fails=fails, version=version, cuda=cuda, **quoted)


def libraries(folder: Path, host: Json) -> None:
    """Compile the stand-ins for libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "libcudart.so.12": (TOOLKIT, "12.2.140"),
        "libnvrtc.so.12": (TOOLKIT, "12.2.140"),
        "libnvvm.so.4": (TOOLKIT, ""),
    }
    if host["library"]:
        wanted.update({"libnvidia-ml.so.1": (NVML, host["library"]), "libcuda.so.1": (CUDA, host["library"])})
    count = sum(driver == "nvidia" for _, _, _, driver in host["cards"]) if host["lists"] else 0
    for soname, (source, version) in wanted.items():
        init = host["nvml"] if source is NVML else host["cuinit"]
        values = {"INIT": init, "COUNT": count, "SERVES": host["serves"], "TOOLKIT": 12020}
        values.update(MAJOR=host["capability"][0], MINOR=host["capability"][1])
        texts = {"NAME": host["name"], "VERSION": host["version"]}
        defined = [f"-D{key}={value}" for key, value in values.items()]
        defined += [f'-D{key}="{value}"' for key, value in texts.items()]
        name = f"{soname.rpartition('.')[0]}.{version}" if version else soname
        command = ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{soname}", *defined, "-x", "c", "-", "-o", name]
        subprocess.run(command, input=source, text=True, cwd=folder, check=True)  # noqa: S603 - a list, made here
        if name != soname:
            (folder / soname).symlink_to(name)
        (folder / (soname.partition(".so")[0] + ".so")).symlink_to(soname)


def torch(host: Json) -> Dict[str, str]:
    """Return the files of a stand-in for PyTorch; none for a host without it."""
    if not host["torch"]:
        return {}
    version, cuda, code = host["torch"]
    major, minor = host["capability"]
    text = TORCH.format(version=version, cuda=cuda, code=code, name=host["name"], major=major, minor=minor)
    about = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    own = f"torch-{version}.dist-info"
    return {"torch/__init__.py": text, f"{own}/METADATA": about, f"{own}/INSTALLER": "pip\n", f"{own}/RECORD": ""}


def verdict(host: Json, text: str, healthy: str, ours: bool) -> str:
    """Judge what a doctor printed on one host by the rule that the page states."""
    lines = [line for line in (first_finding(text) if ours else text).splitlines() if not ADVICE.match(line)]
    # Wrapped lines are joined and the frames of tables left out, so that a sentence is one line.
    first = first_id(text) if ours else host["id"]
    named = first == host["id"] or not re.match("D[0-9]", host["id"])
    if named and re.search(host["words"], re.sub(r"[\s│|╭╮╰╯─]+", " ", "\n".join(lines)), re.IGNORECASE):
        return "yes"
    if "Traceback (most recent call last)" in text:
        return "no, it crashes"
    return "not seen" if told(text) == told(healthy) else "no"


def told(text: str) -> List[str]:
    """Return what a doctor printed without what differs from run to run."""
    return [
        re.sub(r"[0-9]+(\.[0-9]+)* ?(ms|s|GB|GiB)\b|[0-9-]+[T ][0-9:.]+\S*", "", line).rstrip()
        for line in text.splitlines()
    ]


def first_finding(text: str) -> str:
    """Return the first finding of gpuhost's doctor without what it only quotes: title, cause and remedy."""
    finding = re.split(r"\n\n", text)[1]
    return "\n".join(line for line in finding.splitlines() if re.match(r"\S|  (why|fix|type) ", line))


def first_id(text: str) -> str:
    """Return the diagnosis that gpuhost's doctor gives first."""
    found = re.search(r"^(D[0-9]{2})  |^\?  Not recognised", text, re.MULTILINE)
    return (found.group(1) or "not recognised") if found else "none"


def page(hosts: Json, said: Dict[str, Dict[str, str]]) -> str:
    """Return the page."""
    faults = {name: host for name, host in hosts.items() if name != HEALTHY}
    rows, right = [], dict.fromkeys([*OTHERS, OURS], 0)
    for name, host in faults.items():
        found = {key: verdict(host, said[name][key], said[HEALTHY][key], key == OURS) for key in right}
        for key, word in found.items():
            right[key] += word == "yes"
        cells = [found[key] for key in OTHERS] + [f"{found[OURS]} ({first_id(said[name][OURS])})"]
        rows.append("| " + " | ".join([host["about"], host["id"], *cells]) + " |")
    versions = [f"`{pinned}` (`{typed}`)" for pinned, typed in OTHERS.values()]
    totals = ["**right**", "", *(f"**{right[key]} of {len(faults)}**" for key in right)]
    works = (
        "says that driver and CUDA work" if said[HEALTHY][OURS].find("Driver and CUDA work") >= 0 else "has a finding"
    )
    return TEXT.format(
        day=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        versions=",\n".join(versions),
        ours=__version__,
        works=works,
        table="\n".join([*rows, "| " + " | ".join(totals) + " |"]),
        names=" | ".join([*OTHERS, OURS]),
        lines="|".join(["---"] * (2 + len(right))),
    )


if __name__ == "__main__":
    main()
