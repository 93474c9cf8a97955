"""apt and dpkg at work on one exact set of packages: simulate, fetch into our cache, install from it, purge.

Every .deb is copied to cache/debs/<sha256>/ and what belongs together is written down in cache/debs/sets/, because
the archive keeps only the newest version. Runs on the target: Python 3.6, standard library.
"""

import json
import shlex
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from ...errors import ArtifactError, EnvironmentProblem, RefusedError
from ...types import Json
from .. import download, files, store
from ..commands import CommandFailed, Run, run_command
from ..guard import rules
from ..parse.apt import is_own_origin, parse_madison, parse_policy
from ..parse.machine import parse_verify
from ..work import Work
from .packages import Change, installed_version, is_family, lost, named, parse_installed, parse_show, parse_simulation

Shows = Dict[Tuple[str, str], Json]

ROW = "${binary:Package}\\t${Version}\\t${source:Package}\\t${Status}\\n"
# apt says this when another process has its turn; nothing was begun then, so it can be asked again.
BUSY = (
    "Could not get lock",
    "Unable to acquire the dpkg frontend lock",
    "Unable to lock",
    "is another process using it",
)
OURS = "gpuhost"  # how the names of our own files in /etc/apt/preferences.d begin
_NOT_THERE = ("not-installed", "config-files", "half-installed")
_READ_S = 180.0
_PAUSE_S = 5.0


class Apt:
    """apt on this host for one set. `say` is called with each step; `wait_s` is how long to wait for the lock."""

    def __init__(self, root: Path, distribution: str, work: Work, run: Run = run_command) -> None:
        """Nothing is read or made yet."""
        self.root, self.distribution, self.work, self.run = root, distribution, work, run
        # Where a dry run, which must change none of the host's, reads the archives' lists again; and whether it has.
        self.aside: Optional[Path] = None
        self.has_read_aside = False
        self.scratch = root / "cache" / "debs" / "new"

    # Reading

    def read(self, argv: Sequence[str], may_fail: bool = False) -> str:
        """What a reading command prints; its error is an EnvironmentProblem."""
        code, out, err = self.run(argv, _READ_S)
        if code != 0 and not may_fail:
            said = " ".join((err or out).split())
            raise EnvironmentProblem(f"{' '.join(argv[:2])} failed: {said}", "Fix it, then run the same command again.")
        return out

    def options(self) -> List[str]:
        """What each call of apt gets: our guard's pins must not stop our own deliberate installation."""
        given = ["-o", "Dir::Etc::PreferencesParts=" + str(self.preferences())]
        if self.aside is not None:
            given += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
        if self.has_read_aside:
            given += ["-o", f"Dir::State::Lists={self.aside}"]
        return given

    def preferences(self) -> Path:
        """A folder with the host's own apt preferences and without those of this project."""
        theirs = Path("/etc/apt/preferences.d")
        names = sorted(path.name for path in theirs.iterdir()) if theirs.is_dir() else []
        if not any(name.startswith(OURS) for name in names):
            return theirs
        copy = Path("/run/gpuhost/preferences.d")
        files.remove(copy)
        files.make_folder(copy)
        for name in names:
            if not name.startswith(OURS) and (theirs / name).is_file():
                files.write_whole(copy / name, (theirs / name).read_bytes())
        return copy

    def installed(self) -> Dict[str, Json]:
        """Every package that dpkg knows; `packages.parse_installed` says what of each."""
        return parse_installed(self.read(["dpkg-query", "-W", "-f=" + ROW]))

    def guarded(self, kernel: Optional[str]) -> Dict[str, str]:
        """What belongs to the driver and to the kernel that it was built for, by name with its version."""
        architecture = self.read(["dpkg", "--print-architecture"]).strip()
        found, unread = rules.parse_listing(self.read(["dpkg-query", "-W", "-f=" + rules.FORMAT]), architecture)
        if unread:
            raise EnvironmentProblem(f"{len(unread)} lines of dpkg-query cannot be read.", "Look at: dpkg --audit")
        return rules.stack(found, kernel)

    def names_installed(self) -> List[str]:
        """The names of the packages that are installed."""
        rows = self.installed()
        return sorted(name for name in rows if installed_version(rows, name) is not None)

    def offered(self, names: Sequence[str]) -> Dict[str, List[str]]:
        """The versions of some packages that the distribution's own archives offer, newest first."""
        own = self.own_indexes()
        found: Dict[str, List[str]] = {name: [] for name in names}
        for row in parse_madison(self.read(["apt-cache", *self.options(), "madison", *names], may_fail=True)):
            if row["package"] in found and row["index"] in own:
                found[row["package"]].append(row["version"])
        return found

    def unoffered(self, words: Sequence[str], rows: Dict[str, Json]) -> List[str]:
        """Those of `words` that are not installed and that the distribution's own archive has not, at their version."""
        pairs = [(name, word.partition("=")[2], word) for name, word in named(words)]
        there = {name: installed_version(rows, name) for name, _, _ in pairs}
        absent = [row for row in pairs if there[row[0]] is None or row[1] not in ("", there[row[0]])]
        if not absent:
            return []
        offers = self.offered([name for name, _, _ in absent])
        return [word for name, version, word in absent if not offers[name] or (version and version not in offers[name])]

    def refuse_held(self, changes: Sequence[Change], rows: Dict[str, Json]) -> None:
        """Refuse to change a package that somebody other than our guard has put on hold."""
        guard = store.read_json(self.root / "state" / "guard.json") or {}
        others = held_by_others(changes, rows, guard.get("held", []))
        if others:
            text = f"{', '.join(others)} is on hold, and not by gpuhost, and would have to change."
            raise RefusedError(text, f"If that may be: apt-mark unhold {' '.join(map(shlex.quote, others))}")

    def own_policy(self) -> List[Dict[str, str]]:
        """The package indexes of the distribution's own archives that apt has read."""
        policy = parse_policy(self.read(["apt-cache", *self.options(), "policy"]))
        return [row for row in policy if is_own_origin(row["origin"], self.distribution)]

    def own_indexes(self) -> List[str]:
        """Their names, as in "http://host/debian bookworm/main amd64"."""
        return [row["index"] for row in self.own_policy()]

    def own_sites(self) -> List[str]:
        """The hosts that they come from."""
        return sorted({row["site"] for row in self.own_policy()})

    def simulate(self, words: Sequence[str], alone: bool = False) -> Tuple[List[Change], List[Change]]:
        """What `apt-get install WORDS` would install and remove; what apt cannot do is refused in its words (D06).

        `alone`: from the files among the words and without any archive.
        """
        argv = [
            "apt-get",
            *self.options(),
            *((*FIX, *ALONE) if alone else ()),
            *INSTALL,
            "--simulate",
            "install",
            *words,
        ]
        code, out, err = self.run(argv, _READ_S)
        if code != 0:
            said = " ".join((out.partition("The following information")[2] + " " + err).split())
            step = f"Look at what keeps it: apt-get --simulate install {' '.join(words)} (D06)"
            raise RefusedError(f"apt cannot install the locked set: {said}", step)
        return parse_simulation(out)

    def show(self, pairs: Sequence[Tuple[str, str]]) -> Shows:
        """What apt knows of each (name, version)."""
        if not pairs:
            return {}
        words = [f"{name}={version}" for name, version in pairs]
        # A version that only dpkg knows (an older one, installed) is not a failure: it has no row then.
        return parse_show(self.read(["apt-cache", *self.options(), "show", *words], may_fail=True))

    # Changing

    def apt(self, words: Sequence[str], what: str) -> None:
        """Run apt-get, waiting for its turn."""
        self.change(["apt-get", *self.options(), "--yes", *words], what)

    def change(self, argv: Sequence[str], what: str) -> None:
        """Run apt-get or dpkg, waiting for its turn; what it says goes to the log, its end into the error."""
        try:
            self.work.patiently(argv, BUSY, _PAUSE_S)
        except CommandFailed as error:
            if "No space left" in str(error):
                step = "Make room and run the same command again."
                raise EnvironmentProblem(f"There is no space left: {what} failed.", step) from error
            step = f"The whole log is {self.work.log} on the host. Fix it, then run the same command again."
            raise EnvironmentProblem(f"{what} failed:\n{error}\n", step) from error

    def update(self) -> None:
        """Read the archives' lists again; in a dry run, into a folder of its own."""
        self.work.say("reading the archives' package lists")
        self.has_read_aside = self.aside is not None
        self.apt(["update"], "Reading the package lists")

    def fetch(self, members: List[Json]) -> None:
        """Bring every .deb of the set into the cache, each after its checksum was right."""
        absent = [m for m in members if self.cached(m) is None]
        if not absent:
            return
        files.remove(self.scratch)
        files.make_folder(self.scratch / "partial")
        megabytes = sum(m["size"] for m in absent) / 1e6
        self.work.say(f"fetching {len(absent)} packages, {megabytes:.0f} MB")
        words = [f"{m['name']}={m['version']}" for m in absent]
        # Not `apt-get download`: this one resumes, and asks the archive only for what its signed lists name.
        options = [
            "-o",
            f"Dir::Cache::archives={self.scratch}",
            "--download-only",
            "--reinstall",
            *INSTALL,
            *CHANGE_HELD,
        ]
        self.apt([*options, "install", *words], "Fetching the packages")
        fetched = {path.name: path for path in self.scratch.glob("*.deb")}
        for member in absent:
            self.keep(member, fetched)
        files.remove(self.scratch)

    def keep(self, member: Json, there: Dict[str, Path]) -> None:
        """Move one fetched .deb to its place in the cache."""
        plain, quoted = member["name"].partition(":")[0], member["version"].replace(":", "%3a")
        fetched = there.get(f"{plain}_{quoted}_{member['arch']}.deb")
        if fetched is None:
            name = "{name} {version}".format(**member)
            raise ArtifactError(f"apt did not deliver {name}.", "Look at the archive's address, then run again.")
        found = files.sha256(fetched)
        if found != member["sha256"]:
            name = "{name} {version}".format(**member)
            text = f"{name} has the checksum {found} and should have {member['sha256']}. Nothing was installed."
            raise ArtifactError(text, "Run apt-get update and try again; if it stays so, do not trust this archive.")
        files.put(fetched, self.place(member))

    def bring_back(self, deb: Json) -> Json:
        """Return a .deb of the lock as a member of a set, fetched from where the distribution keeps it permanently."""
        if self.cached(deb) is None:
            file = {"name": deb["file"], "url": deb["snapshot"], "sha256": deb["sha256"], "size": deb["size"]}
            download.obtain(self.root / "cache" / "debs", file, say=self.work.say)
        text = self.read(["dpkg-deb", "--field", str(self.place(deb))])
        shown = parse_show(text).get((deb["name"], deb["version"]))
        if shown is None:
            raise ArtifactError(
                f"{deb['file']} is not {deb['name']} {deb['version']}.", "Do not use this lock: make a new one."
            )
        return {**shown, **{key: deb[key] for key in ("name", "version", "sha256", "size", "file")}}

    def place(self, member: Json) -> Path:
        """Where a member's .deb stands in the cache."""
        return self.root / "cache" / "debs" / str(member["sha256"]) / str(member["file"])

    def cached(self, member: Json) -> Optional[Path]:
        """The member's .deb in the cache, if it is complete there; a damaged one is taken out."""
        path = self.place(member)
        if not member["sha256"] or not path.is_file():
            return None
        if files.sha256(path) != member["sha256"]:
            files.remove(path)
            return None
        return path

    def manifest(self, key: str) -> Path:
        """The file that says which .debs make up a set."""
        return self.root / "cache" / "debs" / "sets" / (key + ".json")

    def write_manifest(self, key: str, members: List[Json]) -> None:
        """Write down what a set comprises, so that it can be installed when the archive has moved on.

        What an earlier run of the same set has installed belongs to it, although apt need not bring it any more.
        """
        path = self.manifest(key)
        rows, now = self.installed(), {m["name"] for m in members}
        for member in self.members(key):
            if member["name"] not in now and installed_version(rows, member["name"]) == member["version"]:
                members = [*members, member]
        files.write_whole(path, json.dumps({"schema": 1, "digest": key, "members": members}, indent=1) + "\n")

    def members(self, key: str) -> List[Json]:
        """The members of a set that was written down."""
        found: List[Json] = (store.read_json(self.manifest(key)) or {}).get("members", [])
        return found

    def whole_set(self, key: str) -> Optional[List[Json]]:
        """The members of a set whose every .deb is in the cache, or None."""
        members = self.members(key)
        return members if members and all(self.cached(m) for m in members) else None

    def install(self, lacking: List[Json], gone: Sequence[str], members: List[Json]) -> None:
        """Install exactly the .debs that are lacking, from the cache, and purge the packages `gone` in the same step.

        What a killed run of ours left is finished, and dependencies that somebody's package has broken are met again.
        For that apt is given the whole set, `members`: of a part of it alone, it would remove the rest.
        """
        words = [str(self.place(m)) for m in members] + [name + "-" for name in gone]
        self.work.say(f"installing {len(lacking)} packages")
        self.apt([*FIX, *INSTALL, *CHANGE_HELD, *QUIET_DPKG, "--purge", *ALONE, "install", *words], "Installing")

    def unpack_again(self, members: List[Json]) -> None:
        """Bring back the files of packages that dpkg holds for installed, from the .debs in our cache."""
        self.work.say(f"bringing back files of {', '.join(m['name'] for m in members)}")
        argv = ["dpkg", "--force-confdef", "--force-confold", "--install", *(str(self.place(m)) for m in members)]
        self.change(argv, "Bringing back the files")

    def is_damaged(self, name: str) -> bool:
        """Return whether files of an installed driver package are missing or changed."""
        return is_family(name) and bool(parse_verify(self.read(["dpkg", "--verify", name])))

    def repair(self, members: List[Json]) -> None:
        """Bring dpkg back in order after a run of ours was killed: unpack again what is broken, configure the rest."""
        rows = self.installed()
        broken = [m for m in members if rows.get(m["name"], {}).get("broken") and self.cached(m)]
        self.work.say("finishing what an interrupted run left")
        for argv in [["dpkg", "--unpack", str(self.place(m))] for m in broken] + [["dpkg", "--configure", "--pending"]]:
            try:
                self.work.patiently(argv, BUSY, _PAUSE_S)
            except CommandFailed as error:
                # A package whose dependency is not unpacked yet cannot be configured; installing the set does that.
                self.work.note(f"left for the installation: {error}")

    def complete(self, members: List[Json]) -> None:
        """Unpack what is lacking of these packages, where a run of ours was killed with some of them there.

        apt, given other packages alone, would remove those whose dependencies have not come.
        """
        rows = self.installed()
        there = [m["name"] for m in members if begun(rows.get(m["name"]), m["version"])]
        absent = [m for m in members if m["name"] not in there and self.cached(m)]
        if there and absent:
            self.work.say(f"unpacking {len(absent)} packages that belong to {there[0]}")
            self.change(["dpkg", "--unpack", *(str(self.place(m)) for m in absent)], "Unpacking the rest")

    def purge(self, names: Sequence[str]) -> None:
        """Purge exactly these packages, those that are there; refused where apt would take others with them."""
        rows = self.installed()
        there = [name for name in names if rows.get(name, {}).get("state", "not-installed") != "not-installed"]
        if not there:
            return
        options = [*CHANGE_HELD, "-o", "APT::Get::AutomaticRemove=false"]
        text = self.read(["apt-get", *options, "--simulate", "purge", *there])
        found = lost(parse_simulation(text)[1], there)
        if found:
            raise RefusedError(" ".join(found), "Remove or keep those packages yourself first.")
        self.work.say(f"removing {len(there)} packages")
        self.apt([*options, *QUIET_DPKG, "purge", *there], "Removing the packages")

    def lacking(self, members: List[Json]) -> List[Json]:
        """The members that are not installed at their version."""
        rows = self.installed()
        return [m for m in members if installed_version(rows, m["name"]) != m["version"]]


INSTALL = ("--no-install-recommends", "--allow-downgrades", "--ignore-hold", "-o", "APT::Get::AutomaticRemove=false")
# Who else holds a package was asked before (driver_setup.foreign_holds); what is left are holds of our own guard.
CHANGE_HELD = ("--allow-change-held-packages",)
#: Without it apt does nothing on a host where a dependency is unmet, even where what it is given meets it.
FIX = ("--fix-broken",)
# apt then sees dpkg's own records and the files it is given, and no archive: nothing else can come along, and no
# network is asked.
ALONE = (
    "-o", "Dir::Etc::SourceList=/dev/null", "-o", "Dir::Etc::SourceParts=/dev/null",
    "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
)  # fmt: skip
QUIET_DPKG = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")


def begun(row: Optional[Json], version: str) -> bool:
    """Return whether a package is there at a version, be it only unpacked."""
    return row is not None and row["version"] == version and row["state"] not in _NOT_THERE


def held_by_others(changes: Sequence[Change], rows: Dict[str, Json], ours: Sequence[str]) -> List[str]:
    """The packages to be changed that somebody other than our guard has put on hold."""
    return sorted(c.name for c in changes if rows.get(c.name, {}).get("held") and c.name not in ours)
