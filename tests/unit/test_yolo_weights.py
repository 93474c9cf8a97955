"""Weight files: the format, and the synthetic weights, which are the same bytes everywhere."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.errors import ArtifactError, EnvironmentProblem
from gpuhost.host.files import sha256
from gpuhost.yolo import counter, models, synthetic, weights
from gpuhost.yolo.files import whole_file
from gpuhost.yolo.networks import MODELS, PROBE, layers_of

GOLDEN = {
    "yolov3": "7a19a51efa62fb80ed358f4a57c96d66fb2907407bab7dcc51c30d9eccd6ed43",
    "yolov3-tiny": "553255ae8ac18a0868e34a5cd836933472f568fe4a4bea84269bd186970940aa",
    "yolov4": "881dd47bd339e55ada933587568b96c906a7f0b48a10529df3c67db1afbcd827",
    "yolov4-tiny": "ca098f0b935b9e38a5a66db91e67eaf3d4436baae3f98aa16f6c2db826c0774e",
}


def test_the_counter_hash_is_splitmix64() -> None:
    """The first values for the seed 0 are those that its authors' program prints."""
    assert [int(value) for value in counter.hashes(0, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


@given(st.integers(0, 2**64 - 1), st.integers(1, 500))
def test_uniform_values_lie_in_their_range(start: int, count: int) -> None:
    """Never 1, whatever the seed, and a longer sequence begins with the shorter one."""
    values = counter.uniforms(start, count)
    assert values.dtype == np.float32
    assert values.min() >= 0.0 and values.max() < 1.0
    assert np.array_equal(counter.uniforms(start, count + 7)[:count], values)


def test_the_catalog_has_the_golden_sums() -> None:
    """For all four; test_yolo_reference makes the large ones."""
    assert {model: models.facts_of(model)["synthetic"]["sha256"] for model in MODELS} == GOLDEN


@pytest.mark.parametrize("model", ["yolov3-tiny", "yolov4-tiny"])
def test_made_weights_are_the_known_bytes(model: str, tmp_path: Path) -> None:
    """The golden SHA-256, in the file and in what the writer says."""
    path = tmp_path / "made.weights"
    made = synthetic.write_weights(path, layers_of(model))
    assert made.sha256 == GOLDEN[model]
    assert made.bytes == path.stat().st_size
    weights.check_length(path, layers_of(model))
    assert sha256(path) == made.sha256


@pytest.fixture(name="probe")
def probe_file(tmp_path: Path) -> Path:
    """The small probe network's weight file."""
    path = tmp_path / "probe.weights"
    synthetic.write_weights(path, layers_of(PROBE))
    return path


def test_what_was_written_is_read_back(probe: Path) -> None:
    """Every array of every convolution, in order and to the bit."""
    count = 0
    for shape, arrays in weights.read(probe, layers_of(PROBE)):
        count += 1
        made = synthetic.make_conv(shape, 1.0)
        assert sorted(arrays) == sorted(made)
        for name in set(made) - {"weights"}:
            assert np.array_equal(arrays[name], made[name])
        assert arrays["weights"].shape == (shape.conv.filters, shape.inputs, shape.conv.size, shape.conv.size)
    assert count == 5


def test_filters_ignore_a_constant(probe: Path) -> None:
    """Each filter sums to zero (to rounding), and none is zero itself."""
    for _, arrays in weights.read(probe, layers_of(PROBE)):
        filters = arrays["weights"].reshape(len(arrays["biases"]), -1).astype(np.float64)
        size = np.abs(filters).sum(axis=1)
        assert size.min() > 0
        assert (np.abs(filters.sum(axis=1)) < 1e-6 * size).all()


def cut(data: bytes) -> bytes:
    return data[:-4]


def cut_one(data: bytes) -> bytes:
    return data[:-1]


def longer(data: bytes) -> bytes:
    return data + b"\0\0\0\0"


def stub(data: bytes) -> bytes:
    return data[:7]


def empty(_: bytes) -> bytes:
    return b""


def page(data: bytes) -> bytes:
    return b"<!DOCTYPE html><html>" + data[21:]


@pytest.mark.parametrize("damage", [cut, cut_one, longer, stub, empty, page])
def test_a_file_of_another_length_is_refused(damage: Any, probe: Path) -> None:
    """Too short, too long, no header, or a web page in place of it."""
    probe.write_bytes(damage(probe.read_bytes()))
    with pytest.raises(ArtifactError, match="does not fit its network"):
        weights.check_length(probe, layers_of(PROBE))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(ArtifactError, match=r"nothing\.weights"):
        weights.check_length(tmp_path / "nothing.weights", layers_of(PROBE))


def test_the_old_header_is_four_bytes_shorter(probe: Path) -> None:
    """Versions below 0.2 count the images in 32 bits."""
    data = probe.read_bytes()
    assert weights.check_length(probe, layers_of(PROBE)) == 20
    probe.write_bytes(struct.pack("<iiiI", 0, 1, 0, 5) + data[20:])
    assert weights.check_length(probe, layers_of(PROBE)) == 16


def test_damaged_weights_are_made_again(tmp_path: Path) -> None:
    """A cached file counts only with the right bytes; a whole one is not written again."""
    path = models.synthetic_weights("yolov4-tiny", tmp_path)
    before = path.stat().st_mtime_ns
    assert models.synthetic_weights("yolov4-tiny", tmp_path).stat().st_mtime_ns == before
    with path.open("r+b") as handle:
        handle.seek(1000)
        handle.write(b"\1")
    assert sha256(models.synthetic_weights("yolov4-tiny", tmp_path)) == GOLDEN["yolov4-tiny"]


def test_other_bits_than_everywhere_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NumPy that rounds differently must not pass unnoticed."""
    monkeypatch.setattr(synthetic, "OBJECTNESS_BIAS", -4.25)
    with pytest.raises(EnvironmentProblem, match="other synthetic weights"):
        models.synthetic_weights("yolov4-tiny", tmp_path)


def test_real_weights_need_their_checksum(tmp_path: Path) -> None:
    """A file under the right name with other bytes is an error, never used and never passed over; so is none."""
    assert models.real_weights("yolov3", None) is None
    with pytest.raises(ArtifactError, match=r"no file yolov3\.weights"):
        models.real_weights("yolov3", tmp_path)
    (tmp_path / "yolov3.weights").write_bytes(b"not these")
    with pytest.raises(ArtifactError, match=hashlib.sha256(b"not these").hexdigest()):
        models.real_weights("yolov3", tmp_path)


def test_the_published_file_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the right checksum it is taken, and called real."""
    made = models.synthetic_weights("yolov4-tiny", tmp_path / "work")
    folder = tmp_path / "published"
    folder.mkdir()
    made.rename(folder / "yolov4-tiny.weights")
    facts = models.facts_of("yolov4-tiny")
    facts["weights"] = dict(facts["weights"], sha256=GOLDEN["yolov4-tiny"])
    monkeypatch.setattr(models, "facts_of", lambda model: facts)
    files = models.model_files("yolov4-tiny", 64, tmp_path / "work", folder)
    assert (files.weights_kind, files.weights) == ("real", folder / "yolov4-tiny.weights")
    assert files.cfg_sha256 == sha256(files.cfg)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """Neither the file nor its temporary name."""
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "deep" / "a") as handle:
        handle.write(b"half")
        raise KeyboardInterrupt
    assert list((tmp_path / "deep").iterdir()) == []
