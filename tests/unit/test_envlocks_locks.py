"""The laws of the environment locks: what each file of `data/environments/` must hold to be installable."""

import json
import re
from pathlib import Path

import fastjsonschema
import pytest
from packaging import tags
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from gpuhost.planning import environments, service

NAMES = environments.environment_names()
SCHEMA = Path(environments.__file__).parents[1] / "data" / "environment.schema.json"

#: Measured from the package index, apart from the resolver that made the locks: the TensorFlow wheel of each
#: version and Python (tensorflow-gpu for 2.0, where the package `tensorflow` is for the CPU only).
TENSORFLOW = {
    ("2.0.4", "cp37"): "3fea5a67531394b1d7a5a7817459145ba5c3f98a68095455e29a855fabdc1822",
    ("2.1.4", "cp37"): "b0a8bbab58bab297ec9cffa2df4dae0d03560acefe89ef6a31db00ce4cce022c",
    ("2.2.3", "cp38"): "ad78577b15990f475070f41fe470f0cea8f7e03b0961e1588269171a2d9e170c",
    ("2.3.4", "cp38"): "348090e6a86eee4b75eef5f72786da440c5fbf7b31bbd189758436025c0a23a9",
    ("2.4.4", "cp38"): "d130f829e6245fd825262d191d222e31f29d19cf9f7824401bee5e40350bef86",
    ("2.5.3", "cp38"): "cb5140527593514ac7ef40d972585cce76af70f9c641b271697e9d547cfa9955",
    ("2.6.5", "cp38"): "94ce4af01c487d80157f0c8c2ca03477c70d0eeb983520c0927ca06f61089278",
    ("2.7.4", "cp38"): "e0b8843e573d40b46c92180c72a9c625c089b401937372ce2d3339855241aba4",
    ("2.8.4", "cp38"): "b43137a87b59d83abaf6e2e8dcdad0e2640c728c24d995565042316ccbf56440",
    ("2.9.3", "cp38"): "437d0044d6a9537ffd0ded41c9a87a6ee80d4cde9232c616c61727bba28cbe9f",
    ("2.10.1", "cp38"): "8ee057aa57957b1a689c181bd406c30cbe152b7893c484fe6a26fcce6750f665",
    ("2.11.1", "cp38"): "76cd4279cb500074a8ab28af116af7f060f0b015651bef552769d51e55d6fd5c",
    ("2.12.1", "cp38"): "88f47e035d34f3eca5d7f27278d59b129240ad9a9780408c1ce717d6cd583a3f",
    ("2.13.0", "cp38"): "2822ac48c38d69b7fb104e606dacbd763c4bf5d3b20791f25be16a5076d01912",
    ("2.13.1", "cp38"): "deb204fc8c98ceff81f0f776ffb5172e1a6892143c7bfee90a865e9d5e4bbee2",
    ("2.16.2", "cp310"): "4ed24662a3625b2eaa89a02ea177aadad840d6eb91445091fe1f7ad5fa528db3",
    ("2.21.0", "cp310"): "77c6f298e695ea1d283cdd7d30f8d97530cc6e92c1395a9ddbab9771c99233a4",
    ("2.14.1", "cp311"): "c9aa05a98450fa5bc4efd529383b7d15c10ec12b0238a6744baa1508c4bfa4d5",
    ("2.15.1", "cp311"): "bb0edd69103c154245c5f209f0507355cc68ba7e4de350084bc31edc562478e4",
    ("2.16.2", "cp311"): "d8798dea8e2281b4a0b569d9c00e7949c0090509be363da271e1ef21828bffae",
    ("2.17.1", "cp311"): "68841e17e573301d8ba9192f929b8096b0b341567cb81414096305c723de68d0",
    ("2.18.1", "cp311"): "c9f87e5d2a680a4595f5dc30daf6bbaec9d4129b46d7ef1b2af63c46ac7d2828",
    ("2.19.1", "cp311"): "8e5524eb492160576e5eeea9bb472ddc653123503f2290f83123d5ac9545750e",
    ("2.20.0", "cp311"): "481499fd0f824583de8945be61d5e827898cdaa4f5ea1bc2cc28ca2ccff8229e",
    ("2.21.0", "cp311"): "9056fbc9ba04235810b71ae6cbd958a196e8804fb53bbcffbf3e23b56155f124",
    ("2.16.2", "cp312"): "5badc6744672a3181c012b6ab2815975be34d0573db3b561383634acc0d46a55",
    ("2.17.1", "cp312"): "0c3452ab09940cbc3be896641b256855ba92154b79a90c864c5b2be79db78a64",
    ("2.18.1", "cp312"): "442d2a774811789a8ad948e7286cb950fe3d87d3754e8cc6449d53b03dbfdaa6",
    ("2.19.1", "cp312"): "35a6950f3fee0ad2d1668241d31684676f2e6eceb613cbeef960ea22014ef8fb",
    ("2.20.0", "cp312"): "25265b0bc527e0d54b1e9cc60c44a24f44a809fe27666b905f0466471f9c52ec",
    ("2.21.0", "cp312"): "b3b95643c4e70eb925839938fb35cbe142f317ec84af6844ee61513713bb13c0",
    ("2.21.0", "cp313"): "e9d8da8dcab9650efb45f032ba70af2f016f907e6e0c6bda29dd101bba945406",
}
#: The oldest glibc of a platform that has this Python in its archive: Ubuntu 18.04 to 26.04, Debian 12, 13.
PLATFORM_GLIBC = {
    "cp37": (2, 27),
    "cp38": (2, 27),
    "cp310": (2, 35),
    "cp311": (2, 36),
    "cp312": (2, 39),
    "cp313": (2, 41),
    "cp314": (2, 43),
}
#: The last pip that runs on a Python that no longer gets new ones.
LAST_PIP = {"cp37": "24.0", "cp38": "25.0.1"}
#: The last NumPy with a wheel for these Pythons.
LAST_NUMPY = {"cp37": "1.21.6", "cp38": "1.24.4"}
#: What breaks an old TensorFlow although its metadata lets it in: (TensorFlow, package, what works, why).
CAPS = [
    ("<2.6", "protobuf", "<3.20", "generated code of before 3.19 is refused by protobuf 4"),
    ("<2.12", "protobuf", "<3.21", "the same; later patch releases state it themselves"),
    ("<2.3", "h5py", "<3", "h5py 3 gives str where Keras decodes bytes when it loads .h5"),
    ("<2.4", "numpy", "<1.20", "Keras RNN layers convert a symbolic tensor"),
    ("<2.12", "numpy", "<1.24", "np.object and np.bool are gone in 1.24"),
    ("<2.18", "numpy", "<2", "built against the C interface of NumPy 1"),
    ("<2.21", "setuptools", "<82", "tensorboard imports pkg_resources"),
]


@pytest.fixture(params=NAMES)
def lock(request):
    """Give each lock of the catalog in turn."""
    return environments.load_environment(request.param)


def by_name(lock):
    """Index a lock's packages by their normalised names."""
    return {row["name"]: row for row in lock["packages"]}


def supported_tags(tag, glibc):
    """Give every wheel tag that a CPython (`cp38`) on x86-64 with this glibc (major, minor) can install."""
    version = (3, int(tag[3:]))
    platforms = [f"manylinux_{glibc[0]}_{minor}_x86_64" for minor in range(glibc[1], 4, -1)]
    legacy = {"manylinux2014_x86_64": 17, "manylinux2010_x86_64": 12, "manylinux1_x86_64": 5}
    platforms += [name for name, minor in legacy.items() if minor <= glibc[1]]
    abi = tag + "m" if version < (3, 8) else tag
    own = tags.cpython_tags(version, [abi], platforms)
    return set(own) | set(tags.compatible_tags(version, tag, platforms))


def misfits(lock, glibc):
    """List the wheels of a lock that this glibc cannot run."""
    fit = supported_tags(lock["tag"], glibc)
    wheels = [row["file"] for row in lock["packages"] if row["kind"] == "wheel"]
    return [name for name in wheels if not fit & parse_wheel_filename(name)[3]]


def test_the_locks_are_the_ones_that_were_asked_for():
    """Every Python has both environments, and TensorFlow exactly the versions whose wheels stand above."""
    locked = {tuple(name.split("-")[2:]) for name in NAMES if name.startswith("dl4cv-")}
    assert locked == set(TENSORFLOW)
    assert {name.split("-")[-1] for name in NAMES if name.startswith("opencv_cuda-")} == set(PLATFORM_GLIBC)


def test_the_schema_holds(lock):
    """A reader may rely on every field of the schema, and on no other."""
    fastjsonschema.validate(json.loads(SCHEMA.read_text(encoding="utf-8")), lock)


def test_a_lock_says_its_python_once(lock):
    """`python` and `tag` are the same thing in two spellings, and pip resolved on that Python."""
    assert lock["tag"] == "cp" + lock["python"].replace(".", "")
    assert re.search(r"on CPython {}\.\d+$".format(re.escape(lock["python"])), lock["made"]["with"])


def test_packages_are_distinct_and_sorted(lock):
    """One version of each package, by normalised name, in one order: so a lock has one text."""
    names = [row["name"] for row in lock["packages"]]
    assert names == sorted(set(names))
    assert names == [canonicalize_name(name) for name in names]


def test_a_file_is_the_package_that_its_row_says(lock):
    """The file's own name repeats name and version; a row copied wrongly would install something else."""
    for row in lock["packages"]:
        parse = parse_wheel_filename if row["kind"] == "wheel" else parse_sdist_filename
        name, version = parse(row["file"])[:2]
        assert (name, version) == (row["name"], Version(row["version"])), row["file"]


def test_every_wheel_fits_the_python_and_the_glibc(lock):
    """The target's pip must take each file: its Python, its ABI, and no newer glibc than `glibc`."""
    glibc = tuple(int(part) for part in lock["glibc"].split("."))
    assert glibc <= PLATFORM_GLIBC[lock["tag"]]
    assert misfits(lock, glibc) == []
    assert misfits(lock, (glibc[0], glibc[1] - 1)), "glibc is higher than any wheel needs"


def test_the_component_is_in_its_environment(lock):
    """The environment exists for one package, and holds it at the version that the name promises."""
    rows = by_name(lock)
    if lock["component"] == "opencv":
        wanted = "opencv-contrib-python"
    elif lock["component"] == "cmake":
        wanted = "cmake"
        assert {"ninja", "packaging"} <= set(rows)
    elif lock["component"] == "fastapi":
        wanted = "fastapi"
        assert {"gunicorn", "uvicorn", "uvicorn-worker", "httptools", "uvloop"} <= set(rows)
        assert not {"python-multipart", "multipart"} & set(rows), "on Python 3.8 16 MB of it block the loop for 22 s"
        assert Version(rows["h11"]["version"]) >= Version("0.16"), "CVE-2025-43859"
    else:
        wanted = "tensorflow-gpu" if Version(lock["version"]) < Version("2.1") else "tensorflow"
        assert rows[wanted]["sha256"] == TENSORFLOW[lock["version"], lock["tag"]]
    assert rows[wanted]["version"] == lock["version"]
    assert rows[wanted]["kind"] == "wheel"
    # It is merged into an environment that has NumPy.
    assert ("numpy" in rows) == (lock["environment"] != "service")


def test_pip_is_new_enough_to_install_the_rest(lock):
    """pip knows manylinux2014 from 19.3 on; an old Python gets the last pip that still runs on it."""
    version = by_name(lock)["pip"]["version"]
    assert Version(version) >= Version("19.3")
    assert version == LAST_PIP.get(lock["tag"], version)


def test_an_sdist_finds_its_build_tools_in_the_lock(lock):
    """An sdist is built with locked tools; without them pip would fetch some of its own choice."""
    rows = by_name(lock)
    if any(row["kind"] == "sdist" for row in lock["packages"]):
        assert {"setuptools", "wheel"} <= set(rows)
    assert all(rows[name]["kind"] == "wheel" for name in environments.BUILD_TOOLS if name in rows)


def test_numpy_has_a_wheel_for_this_python(lock):
    """NumPy is never built on a target: it would need a compiler and Fortran."""
    row = by_name(lock).get("numpy")
    if row is None:
        assert lock["environment"] == "service"
        return
    assert row["kind"] == "wheel"
    if lock["tag"] in LAST_NUMPY:
        assert Version(row["version"]) <= Version(LAST_NUMPY[lock["tag"]])


def test_an_old_tensorflow_has_no_dependency_that_breaks_it(lock):
    """Old wheels state no upper bounds; what is known to break them is kept out."""
    rows = by_name(lock)
    if lock["component"] == "tensorflow":
        for tensorflow, name, works, why in CAPS:
            if lock["version"] in SpecifierSet(tensorflow) and name in rows:
                assert rows[name]["version"] in SpecifierSet(works), f"{name}: {why}"


def test_tensorflows_own_family_moves_together(lock):
    """The estimator, and Keras until 2.15, are released with TensorFlow and follow its minor release."""
    rows = by_name(lock)
    if lock["component"] == "tensorflow":
        minor = lock["version"].rsplit(".", 1)[0]
        family = ["tensorflow-estimator"] + ["keras"] * (Version(minor) < Version("2.16"))
        for name in set(family) & set(rows):
            assert rows[name]["version"].rsplit(".", 1)[0] == minor, name


def test_digests_tell_the_locks_apart():
    """The digest names a folder in the store: two environments must not share one."""
    digests = [environments.lock_digest(environments.load_environment(name)) for name in NAMES]
    assert len(set(digests)) == len(NAMES)


ENGINES = [name for name in NAMES if name.startswith("opencv_cuda_engines-")]


def test_every_platform_has_the_engines():
    """Beside the OpenCV that a plan chooses there: for the newest Python of each platform."""
    assert {name.rsplit("-", 1)[1] for name in ENGINES} == set(PLATFORM_GLIBC) - {"cp37"}


@pytest.mark.parametrize("name", ENGINES)
def test_the_engines_only_add(name):
    """The lock without engines is in the catalog too, and none of its packages is another one here."""
    rows = by_name(environments.load_environment(name))
    plain = by_name(environments.load_environment(name.replace("_engines", "")))
    assert {"onnxruntime", "openvino"} <= set(rows) - set(plain)
    assert {key: row["sha256"] for key, row in plain.items()} == {key: rows[key]["sha256"] for key in plain}


SERVICE = [name for name in NAMES if name.startswith("service-")]
#: The last Python whose h11 has no repair, and one that no machine here could lock for.
UNSERVED = {"cp37", "cp314"}


def test_every_platform_has_the_service():
    """But for the Pythons that the service is refused on."""
    assert {name.rsplit("-", 1)[1] for name in SERVICE} == set(PLATFORM_GLIBC) - UNSERVED


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("opencv_cuda") and n.split("-")[-1] not in UNSERVED])
def test_the_service_merges_with_each_environment_of_opencv(name):
    """No package of theirs is another one afterwards, and pip is the environment's own."""
    held = environments.load_environment(name)
    (more,) = [environments.load_environment(one) for one in SERVICE if one.endswith("-" + held["tag"])]
    both = by_name(service.merged(held, more))
    assert {key: row["sha256"] for key, row in by_name(held).items()} == {
        key: both[key]["sha256"] for key in by_name(held)
    }
    assert set(both) == set(by_name(held)) | set(by_name(more))
