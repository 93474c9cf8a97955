"""The keys of the imitation: Canonical's module signing key, the archive's key, and the vendor mirror's authority.

They are made once on the machine that runs the tests, kept beside the cached roots and worth nothing elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

from .base import cache_root
from .commands import host
from .standins import elf

CANONICAL = "Canonical Ltd. Kernel Module Signing"
ARCHIVE_USER = "Ubuntu Archive (imitation for tests) <archive@ubuntu.example>"
YEARS = "3650"


class Pair(NamedTuple):
    """A private key and its certificate, both PEM files."""

    key: Path
    certificate: Path


def canonical() -> Pair:
    """The key that signs kernel modules in the place of Canonical's."""
    return _certificate("canonical", CANONICAL, ["extendedKeyUsage=codeSigning"])


def authority() -> Pair:
    """The certificate authority of the vendor mirror."""
    return _certificate("authority", "gpuhost test authority", ["basicConstraints=critical,CA:TRUE"])


def server(address: str, folder: Path) -> Pair:
    """A certificate for a server at that address, signed by the authority, made in `folder`."""
    pair, above = Pair(folder / "server.key", folder / "server.pem"), authority()
    request = [*_request(pair, address), "-CA", str(above.certificate), "-CAkey", str(above.key)]
    host([*request, "-addext", f"subjectAltName=IP:{address}", "-addext", "basicConstraints=critical,CA:FALSE"])
    return pair


def sign_module(module: bytes, pair: Pair) -> bytes:
    """The PKCS#7 signature of a kernel module, as the kernel's sign-file makes it; kept, as openssl takes its time."""
    digest = hashlib.sha256(pair.certificate.read_bytes() + module).hexdigest()
    kept = _home() / "signatures" / digest
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        unfinished = kept.with_name(f"{digest}.{os.getpid()}.{threading.get_ident()}")
        unfinished.write_bytes(_sign(module, pair))
        unfinished.rename(kept)
    return kept.read_bytes()


def _sign(module: bytes, pair: Pair) -> bytes:
    """Sign it with openssl."""
    argv = ["openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "DER", "-md", "sha512"]
    return host([*argv, "-signer", str(pair.certificate), "-inkey", str(pair.key)], stdin=module).stdout


def refusal(module: bytes, certificates: Sequence[Path]) -> Optional[str]:
    """What a kernel's log says as it refuses a module, None where it lets it in; `certificates` (PEM or DER) are known.

    Of a module that was changed after a known key had signed it the log says nothing: "" (tests/data/secureboot).
    """
    plain, signature = elf.split_signature(module)
    if signature is None:
        return "Loading of unsigned module is rejected"
    with tempfile.TemporaryDirectory() as folder:
        content, signed = Path(folder) / "module", Path(folder) / "signature"
        content.write_bytes(plain)
        signed.write_bytes(signature)
        argv = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(signed), "-content", str(content)]
        argv += ["-noverify", "-nointern", "-out", "/dev/null"]
        named = host(["openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", str(signed)]).stdout
        is_known = False
        for certificate in certificates:
            pem = Path(folder) / "certificate.pem"
            pem.write_bytes(host(["openssl", "x509", "-in", str(certificate), "-outform", "PEM"]).stdout)
            if host([*argv, "-certfile", str(pem)], check=False).returncode == 0:
                return None
            serial = host(["openssl", "x509", "-in", str(pem), "-noout", "-serial"]).stdout.strip().rpartition(b"=")[2]
            is_known = is_known or serial in named
    return "" if is_known else "Loading of module with unavailable key is rejected"


def archive_key() -> Path:
    """The public key of the archive, as a file for apt's trusted.gpg.d."""
    folder = _home()
    public = folder / "archive.gpg"
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not public.exists():
            with _gpg_home() as home:
                make = ["--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", ARCHIVE_USER]
                _gpg(home, [*make, "rsa2048", "sign", "never"])
                (folder / "archive.private").touch(mode=0o600)
                (folder / "archive.private").write_bytes(_gpg(home, ["--export-secret-keys"]))
                public.write_bytes(_gpg(home, ["--export"]))
    return public


def clearsign(texts: Sequence[str]) -> list[bytes]:
    """Each text with the archive's signature around it."""
    archive_key()
    with _gpg_home() as home:
        _gpg(home, ["--import", str(_home() / "archive.private")])
        return [_gpg(home, ["--clearsign", "--digest-algo", "SHA512"], text.encode()) for text in texts]


class _gpg_home:
    """A GnuPG home for one use; its agent ends with it."""

    def __enter__(self) -> Path:
        """Make it; in /tmp, because a socket's path must be short."""
        self.path = Path(tempfile.mkdtemp(prefix="gpg-"))
        self.path.chmod(0o700)
        return self.path

    def __exit__(self, *_error: object) -> None:
        """End the agent and delete the folder."""
        host(["gpgconf", "--homedir", str(self.path), "--kill", "all"], check=False)
        shutil.rmtree(self.path, ignore_errors=True)


def _gpg(home: Path, argv: Sequence[str], stdin: bytes = b"") -> bytes:
    """What gpg prints."""
    return host(["gpg", "--homedir", str(home), "--batch", "--yes", "--no-tty", *argv], stdin=stdin).stdout


def _home() -> Path:
    """The folder of the keys."""
    folder = cache_root() / "keys"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _certificate(name: str, subject: str, extensions: Sequence[str]) -> Pair:
    """A self-signed certificate of that name, made at its first use."""
    folder = _home()
    pair = Pair(folder / f"{name}.key", folder / f"{name}.pem")
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not pair.certificate.exists():
            added = [word for extension in extensions for word in ("-addext", extension)]
            host([*_request(pair, subject), *added])
    return pair


def _request(pair: Pair, subject: str) -> list[str]:
    """The openssl command that makes a key and a certificate of that subject."""
    argv = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", YEARS, "-sha256"]
    return [*argv, "-subj", f"/CN={subject}", "-keyout", str(pair.key), "-out", str(pair.certificate)]
