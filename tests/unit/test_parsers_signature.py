"""A module's own signature: read where modinfo does not tell the signer."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gpuhost.host.driver import key as module_key
from gpuhost.host.edges import Edges
from gpuhost.host.parse.signature import MAGIC, Signature, at_the_end
from gpuhost.host.probe.driver import module_for, parse_modinfo

SIGNER = "workstation gpuhost module signing"
#: Made with a certificate of this name by `openssl cms -sign -binary -noattr -nocerts -outform DER`, as sign-file does.
MESSAGE = base64.b64decode(
    "MIIBLgYJKoZIhvcNAQcCoIIBHzCCARsCAQExDTALBglghkgBZQMEAgEwCwYJKoZIhvcNAQcBMYH5MIH2AgEBMFIwOjELMAkGA1UECgwCTWUxKzAp"
    "BgNVBAMMIndvcmtzdGF0aW9uIGdwdWhvc3QgbW9kdWxlIHNpZ25pbmcCFHVi1eZCAwZqRhViunUqWR6CXbHLMAsGCWCGSAFlAwQCATANBgkqhkiG"
    "9w0BAQEFAASBgA8OUrKRxR8Axdg2rwenRsgvzVb24ZOCg0np4S59MJkjxpKvlQMh0rdjF9JF4bEUnR5qv+bu1U6HTIC+ZUeyLDDwghQnoK4y3l0C"
    "2Usp4We9mxdJtu99c/uX3mzIpipfBlwKRzULXm1TeUk6bo4LfENvH2Khrfw3kzXmPfMJB7Ux"
)
OLD = "filename: {}\nversion: 525.1\nvermagic: k SMP\nsignat: PKCS#7\nsigner: \nsig_key: \nsig_hashalgo: md4\n"


def trailer(size: int, kind: int = 2) -> bytes:
    """The block at the end of a signed module."""
    return bytes([0, 0, kind, 0, 0, 0, 0, 0]) + size.to_bytes(4, "big") + MAGIC


MODULE = b"\x7fELF" + bytes(5000) + MESSAGE + trailer(len(MESSAGE))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (MODULE, Signature(True, SIGNER)),
        (MODULE[:-1], Signature(False, "")),
        (b"", Signature(False, "")),
        (MAGIC, Signature(True, "")),
        (b"\x7fELF" + trailer(900), Signature(True, "")),
        (b"\x7fELF" + MESSAGE + trailer(len(MESSAGE), kind=1), Signature(True, "")),
        (b"\x7fELF" + MESSAGE[:60] + trailer(60), Signature(True, "")),
    ],
)
def test_the_end_of_a_module(data: bytes, found: Signature) -> None:
    """Signed, not signed, or signed in a way that is not read."""
    assert at_the_end(data) == found


def test_an_old_modinfo_is_helped_out_by_the_file(tmp_path: Path) -> None:
    """kmod 24 prints an empty signer for every module; the file tells whose key signed it."""
    path = tmp_path / "lib/nvidia.ko"
    path.parent.mkdir()
    path.write_bytes(MODULE)
    edges = Edges(str(tmp_path), lambda argv, timeout: (0, OLD.format("/lib/nvidia.ko"), ""))
    module = module_for(edges, "k")
    assert module is not None and (module["signed"], module["signer"]) == (True, SIGNER)
    path.unlink()
    module = module_for(edges, "k")
    assert module is not None and (module["signed"], module["signer"]) == (True, "")
    assert edges.problems == []


def test_a_newer_modinfo_is_believed() -> None:
    """kmod 26 and later tell the signer themselves, and print no field at all for a module without a signature."""
    said = "filename: /x\nversion: 1\nvermagic: k\n"
    signed = parse_modinfo(said + "sig_id: PKCS#7\nsigner: Canonical Ltd.\nsig_key: 00\nsig_hashalgo: sha512\n")
    assert (signed["signed"], signed["signer"]) == (True, "Canonical Ltd.")
    assert parse_modinfo(said)["signed"] is False
    assert parse_modinfo("filename: /x\n")["signed"] is None


def test_what_is_signed_with_the_own_key_is_not_signed_again(tmp_path: Path) -> None:
    """Under kmod 24 every run signed every module again."""
    ours, theirs = tmp_path / "nvidia.ko", tmp_path / "nvidia-uvm.ko"
    ours.write_bytes(MODULE)
    theirs.write_bytes(b"\x7fELF")
    assert [module_key.signer_of(path, lambda argv, timeout: (0, "\n", "")) for path in (ours, theirs)] == [SIGNER, ""]
