"""Hostile hosts: one bed plays many of them, and each answers Ansible and verify/ with an example of its own.

Each host of the inventory has its own ssh key. For that key the bed's sshd starts the script below instead of the
command that was asked for. The script reads which module is to run and answers with the example's words if it has some
for that module. It carries out anything else as asked, so that a run goes on as on a real host. An example is a valid
answer in which `vary` has replaced one to three values or keys by a payload.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from gpuhost.host.answer import MARK

from .beds.base import PACKAGES
from .beds.bed import PROJECT, Bed
from .beds.commands import host

Json = Any
MEMORY_LIMIT = 1 << 30
#: What a run may use at most before it is stopped, so that a test that finds a leak does not take the machine along.
HARD_LIMIT_KB = 6 << 20

# Started by sshd in place of each command; `place` and `texts` of this file stand before it. An example is `answers`,
# by module or by program of verify/, and `words`, one of which is put into the output of every third other program.
SHELL = r"""
HOME = "/srv/hostile"
example, asked = sys.argv[1], os.environ.get("SSH_ORIGINAL_COMMAND", "")
with open("%s/answers/%s.json" % (HOME, example)) as file:
    played = json.load(file)
answers, words = played["answers"], played["words"]
# A raw command has a terminal, whose input does not end; a module comes through a pipe.
sent = b"" if os.isatty(0) or "python3" not in asked else sys.stdin.buffer.read()
found = re.search(rb"ansible\.(?:modules|legacy)\.(\w+)", sent)
module = found.group(1).decode() if found else "raw"
program = re.search(r"[A-Za-z0-9+/]{200,}=*", asked) if "-I -B -c" in asked else None
if program:
    _, module, given = json.loads(zlib.decompress(base64.b64decode(program.group(0))).decode("utf-8"))
    module += "/" + given["kind"] if "kind" in given else ""
elif "gpuhost.yolo bench" in asked:
    module = "bench"
with open("%s/seen/%s" % (HOME, example), "a") as seen:
    number = seen.tell()
    seen.write(module + "\n")
dice = random.Random("%s %s" % (example, number))
if module in answers:
    answer = answers[module]
    sys.stdout.write((MARK if program else "") + json.dumps(answer) + "\n")
    sys.stdout.flush()
    sys.exit(0)
lies = module == "command" and words and dice.random() < 1 / 3
more = {"input": sent} if module != "raw" else {}
done = subprocess.run(["/bin/sh", "-c", asked], stdout=subprocess.PIPE if lies else None, **more)
if lies:
    answer, word = json.loads(done.stdout.decode()), dice.choice(words)
    try:
        said = holder = json.loads(answer["stdout"])
        path = place(dice, said)
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = word
        answer["stdout"] = json.dumps(said)
    except (ValueError, KeyError, IndexError, TypeError):
        answer["stdout"] = dice.choice([answer["stdout"] + str(word), str(word), word])
    sys.stdout.write(json.dumps(answer))
sys.exit(done.returncode)
"""


class HostileBed(Bed):
    """A booted Debian 12 with sshd, which plays the hosts `names`."""

    def __init__(self, names: Sequence[str], logs: Path) -> None:
        """Describe it; nothing is made before the `with` block."""
        super().__init__((*PACKAGES, "openssh-server", "python3"), logs=logs)
        self.names = list(names)

    def _furnish(self, root: Path) -> None:
        """Also: a key for each host, and what is started for it."""
        super()._furnish(root)
        self._ssh = self.copy.work / "ssh"
        self._ssh.mkdir(mode=0o700)
        for path in root.glob("etc/ssh/ssh_host_*"):
            path.unlink()
        own = root / "etc/ssh/ssh_host_ed25519_key"
        for path in [own, *(self._ssh / name for name in self.names)]:
            host(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)])
        rows = [f'command="/srv/hostile/shell {name}" {(self._ssh / f"{name}.pub").read_text()}' for name in self.names]
        authorized = root / "root/.ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700, exist_ok=True)
        authorized.write_text("".join(rows))
        public = own.with_suffix(".pub").read_text().split()
        (self._ssh / "known_hosts").write_text(f"{self.network.address} {' '.join(public[:2])}\n")
        (root / "srv/hostile/answers").mkdir(parents=True)
        (root / "srv/hostile/seen").mkdir()
        head = "#!/usr/bin/python3\nimport base64, json, os, random, re, subprocess, sys, zlib\nfrom typing import *\n"
        script = f"{head}Json = Any\nMARK = {MARK!r}\n\n" + inspect.getsource(texts) + inspect.getsource(place) + SHELL
        (root / "srv/hostile/shell").write_text(script)
        (root / "srv/hostile/shell").chmod(0o755)
        # Twenty hosts log in at once.
        (root / "etc/ssh/sshd_config.d/hostile.conf").write_text("MaxStartups 200\nMaxSessions 200\n")

    def answer(self, name: str, answers: Dict[str, Json], words: Sequence[Json] = ()) -> None:
        """Say what a host answers from now on by module, and what it puts into the output of commands."""
        played = json.dumps({"answers": answers, "words": list(words)})
        (self.copy.root / "srv/hostile/answers" / f"{name}.json").write_text(played, encoding="utf-8")
        (self.copy.root / "srv/hostile/seen" / name).write_text("")

    def seen(self, name: str) -> List[str]:
        """Which modules were asked of a host since its answers were set; `raw` is a command without one."""
        return (self.copy.root / "srv/hostile/seen" / name).read_text(encoding="utf-8").split()

    def inventory(self, sockets: Path) -> Dict[str, Json]:
        """The hosts, to stand under `hosts` of an inventory; `sockets` is a folder with a short path."""
        strict = f"-o UserKnownHostsFile={self._ssh / 'known_hosts'} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        return {
            name: {
                "ansible_host": self.network.address,
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(self._ssh / name),
                # All hosts are one address and one user: each needs a connection of its own.
                "ansible_ssh_args": f"-o ControlMaster=auto -o ControlPersist=30s -o ControlPath={sockets}/{name}",
                "ansible_ssh_common_args": strict,
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            for name in self.names
        }


def payloads(marks: Path) -> Dict[str, Callable[[random.Random], Json]]:
    """What is put into an answer, by kind; code, or a path that is obeyed, leaves a file in the folder `marks`."""

    def pipe(name: str) -> str:
        return f"lookup('pipe', 'touch {marks}/{name}')"

    climb = "../" * 20
    return {
        "template": lambda dice: "GPU-1{{ " + pipe("template") + " }}",
        "statement": lambda dice: "{% if " + pipe("statement") + " %}{% endif %}x",
        "comment": lambda dice: "{# #}{{ query('pipe', 'touch " + f"{marks}/query" + "') }}",
        "unsafe": lambda dice: {"__ansible_unsafe": "{{ " + pipe("unsafe") + " }}"},
        "vault": lambda dice: {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162\n"},
        "shell": lambda dice: f"x'; touch {marks}/shell; '$(touch {marks}/shell)`touch {marks}/shell`",
        "ansi": lambda dice: "\x1b[2J\x1b]0;title\x07\x1b[31mred\x9b31m\x7f\r\x08",
        "recap": lambda dice: "x\r\n\nPLAY RECAP ***\nh00 : ok=9 changed=0 unreachable=0 failed=0\n",
        "bidi": lambda dice: "\u202etxt\u2066\u200b\u2028\ud800".encode("utf-8", "replace").decode(),
        "html": lambda dice: "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&]]>",
        "path": lambda dice: f"{climb}{str(marks)[1:]}/path",
        "absolute": lambda dice: f"{marks}/absolute",
        "sibling": lambda dice: dice.choice(
            ["..", ".", "../h00", "../../h00/stack", "h00/../../x", "~root", "-rf", ""]
        ),
        "nul": lambda dice: "a\x00b\nc",
        "huge": lambda dice: "A" * dice.choice([1 << 16, 1 << 20, 8 << 20]),
        "many": lambda dice: [str(n) for n in range(dice.choice([1000, 100000]))],
        "deep": lambda dice: nested(dice.choice([50, 400])),
        "digits": lambda dice: int("9" * 400),
        "float": lambda dice: dice.choice([float("inf"), float("nan"), -1, 1e308, 10**18]),
        "null": lambda dice: None,
        "type": lambda dice: dice.choice([[], {}, True, 0, "", [[]], {"a": {"b": []}}]),
        "keys": lambda dice: {"removal_confirm": "localhost", "ansible_connection": "local", "__proto__": 1},
    }


def words_to_ansible(marks: Path) -> Dict[str, Json]:
    """Return keys of an answer that Ansible itself takes for its own: it shows, obeys or removes them."""
    raw = "\x1b[2J\x1b]0;title\x07\nPLAY RECAP ***\nhostile-00 : ok=9 changed=0"
    code = "{{ lookup('pipe', 'touch " + f"{marks}/facts" + "') }}"
    return {
        "warnings": {"warnings": [raw]},
        "deprecations": {"deprecations": [{"msg": raw, "version": "9"}]},
        "exception": {"failed": True, "msg": raw, "exception": f"Traceback\nError: {raw}"},
        "diff": {"changed": True, "diff": {"before": "a\n", "after": raw, "before_header": raw}},
        "prepared": {"changed": True, "diff": [{"prepared": raw}]},
        "failed": {"failed": True, "msg": code + raw, "results": [{"failed": True, "msg": raw}]},
        "unreachable": {"unreachable": True, "msg": raw},
        "add_host": {"add_host": {"host_name": "evil", "groups": ["gpu_hosts"], "host_vars": {}}},
        "notify": {"_ansible_notify": [code], "_ansible_no_log": True, "_ansible_verbose_always": True},
        "facts": {"ansible_facts": {"ansible_connection": "local", "discovered_interpreter_python": code, "x": code}},
        "skipped": {"skipped": True, "skip_reason": raw},
    }


#: The kinds that become code where an answer is taken for a template or for words of a shell.
CODE = ("template", "statement", "comment", "unsafe", "shell")


def nested(depth: int) -> Json:
    """A list in a list in a list, so deep."""
    value: Json = "x"
    for _ in range(depth):
        value = [value]
    return value


def texts(value: Json, path: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    """Return the paths of all strings."""
    if isinstance(value, str):
        return [path]
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in below for found in texts(one, (*path, key))]


def place(dice: random.Random, value: Json) -> Tuple[Any, ...]:
    """Return the path of a random value. Each key of a mapping is equally likely, however much lies below it.

    Most are free text, and half of that a card's, because that travels furthest: into a plan, a lock, a report.
    """
    free = [path for path in texts(value) if not {"apt", "packages"} & set(path)]
    if free and dice.random() < 0.6:
        cards = [path for path in free if "gpus" in path]
        return dice.choice(cards if cards and dice.random() < 0.5 else free)
    path: Tuple[Any, ...] = ()
    while isinstance(value, (dict, list)) and value and (not path or dice.random() < 0.8):
        key = dice.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
        path, value = (*path, key), value[key]
    return path


def vary(
    dice: random.Random,
    answer: Dict[str, Json],
    kinds: Mapping[str, Callable[[random.Random], Json]],
    first: str,
    own: Mapping[str, Json],
) -> Tuple[Json, List[str]]:
    """Return a copy of an answer with one to three payloads, the first of a given kind, and what was put where.

    One answer in three also holds some of Ansible's `own` keys.
    """
    made, told = copy.deepcopy(answer), []
    for kind in [first, *dice.choices(sorted(kinds), k=dice.randint(0, 2))]:
        path, payload = place(dice, made), kinds[kind](dice)
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        how = dice.choice(["replace", "replace", "append", "append", "key"])
        if how == "append" and isinstance(holder[path[-1]], str) and isinstance(payload, str):
            holder[path[-1]] += payload
        elif how == "key" and isinstance(holder, dict) and isinstance(payload, str):
            holder[payload] = holder.pop(path[-1])
        else:
            how = "replace"
            holder[path[-1]] = payload
        told.append(f"{kind} ({how}) at {'/'.join(map(str, path))}"[:120])
    if dice.random() < 1 / 3:
        name = dice.choice(sorted(own))
        made.update(copy.deepcopy(own[name]))
        told.append(f"{name} beside it")
    return made, told


class Ran(NamedTuple):
    """How a run ended, what it said, byte for byte, and the most memory that one of its processes used."""

    rc: int
    out: bytes
    peak: int
    seconds: float


class Attacked:
    """The controller: its inventory, its locks and reports, and a folder that must stay empty."""

    def __init__(self, folder: Path, hosts: Dict[str, Json], like: Optional[Path] = None) -> None:
        """Make the folders and the inventory, with the locks of another one when `like` is its folder."""
        self.folder, self.hosts = folder, hosts
        self.marks = folder / "marks"
        for name in ("marks", "home", "scratch"):
            (folder / name).mkdir(parents=True)
        for name in ("inventory", "locks"):
            if like:
                shutil.copytree(str(like / name), str(folder / name))
            else:
                (folder / name).mkdir()
        variables = {"gpu_stack_locks": str(folder / "locks")}
        group = {"gpu_hosts": {"hosts": hosts, "vars": variables}}
        (folder / "inventory/hosts.json").write_text(json.dumps(group), encoding="utf-8")
        self._before = {*_reports(), *self._files()}

    def run(self, playbook: str, *arguments: str, timeout: float = 600) -> Ran:
        """Run a playbook of the project over all hosts."""
        line = [sys.executable, "-m", "ansible", "playbook", "-i", str(self.folder / "inventory/hosts.json")]
        line += [str(PROJECT / playbook), *arguments]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PIP_", "PYTEST_"))}
        env.update(
            ANSIBLE_CONFIG=str(PROJECT / "ansible.cfg"),
            ANSIBLE_LOCAL_TEMP=str(self.folder / "scratch/local"),
            ANSIBLE_HOME=str(self.folder / "scratch/ansible"),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_FORKS="5",
            HOME=str(self.folder / "home"),
            TMPDIR=str(self.folder / "scratch"),
            XDG_CACHE_HOME=str(self.folder / "scratch/cache"),
            PYTHONPYCACHEPREFIX=str(self.folder / "scratch/pycache"),
        )
        log = self.folder / "scratch/log"
        begun = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", f'ulimit -v {HARD_LIMIT_KB}; exec "$@"', "sh", *line],
                cwd=str(PROJECT),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stop = threading.Timer(timeout, lambda: os.killpg(process.pid, signal.SIGKILL))
        stop.start()
        # wait4 tells the peak of this run alone: the most that the process or one of its descendants used.
        _, status, usage = os.wait4(process.pid, 0)
        stop.cancel()
        process.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return Ran(process.returncode, log.read_bytes(), usage.ru_maxrss * 1024, time.monotonic() - begun)

    def written(self) -> List[str]:
        """Return the new files that lie where no host may put any."""
        allowed = [f"{kind}/{name}" for kind in ("locks", "reports") for name in self.hosts]
        allowed += ["reports/index.html", "reports/.index.lock"]  # the page of the fleet
        found = {*_reports(), *self._files()} - self._before
        return sorted(one for one in found if not any(f"{one}/".startswith(f"{folder}/") for folder in allowed))

    def _files(self) -> List[str]:
        """Return the files of the controller, without its scratch space."""
        found = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        return [name for name in found if not name.startswith(("scratch/", "home/.ansible", "marks/"))]


def _reports() -> List[str]:
    """What lies below the checkout's folders of hosts."""
    return [f"{kind}/{path.name}" for kind in ("locks", "reports") for path in (PROJECT / kind).glob("*")]


def control_bytes(out: bytes) -> List[str]:
    """The bytes and characters of an output that would steer a terminal, with what stands around them."""
    found = []
    text = out.decode("utf-8", "backslashreplace")
    for at, char in enumerate(text):
        code = ord(char)
        steers = (code < 32 and char not in "\n\t") or 127 <= code < 160 or code in (0x2028, 0x2029, 0x202E, 0x2066)
        if steers:
            found.append(repr(text[max(0, at - 40) : at + 20]))
    return found


def complaints(attacked: Attacked, ran: Ran, plays: int = 1) -> List[str]:
    """What a run did that no host may make it do; empty when it kept its promises."""
    found = [f"code ran, or a path was obeyed: {path.name}" for path in sorted(attacked.marks.iterdir())]
    found += [f"a file outside locks/HOST and reports/HOST: {name}" for name in attacked.written()]
    found += [f"on the terminal: {one}" for one in control_bytes(ran.out)[:5]]
    if ran.peak > MEMORY_LIMIT:
        found.append(f"{ran.peak >> 20} MiB of memory")
    recaps = sum(line.startswith(b"PLAY RECAP") for line in ran.out.splitlines())
    if recaps != plays:
        found.append(f"{recaps} lines begin with PLAY RECAP")
    if b"Traceback (most recent call last)" in ran.out:
        at = ran.out.index(b"Traceback (most recent call last)")
        found.append(f"a traceback: {ran.out[at : at + 3000].decode('utf-8', 'replace')!r}")
    return found
