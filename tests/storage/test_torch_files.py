"""PyTorch's files: right values from both formats; from hostile ones a sentence, and nothing is run."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fsljax.errors import UserError
from fsljax.storage.torch_files import read_state_dict

from .torch_pickles import (
    SYSTEM,
    called,
    in_sequence,
    named,
    plain,
    state_dict,
    storage,
    tensor,
    whole,
    write_torch,
    zipped,
)

NUMBERS = np.arange(24, dtype=np.float32)
OF_24 = storage("0", "torch.FloatStorage", 24)
RUN = [
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.getattr",
    "torch.hub.load",
    "numpy.core.multiarray.scalar",
]


def both(root: bytes, numbers: np.ndarray = NUMBERS) -> dict[str, bytes]:
    """The same in both formats."""
    storages = {"0": numbers.tobytes()}
    return {"zip": zipped(root, storages), "old": in_sequence(root, storages, {"0": numbers.itemsize})}


def sentence_of(path: Path, content: bytes) -> str:
    """What is said of a file that is refused, which must be quick, small and in one line."""
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        read_state_dict(path)
    assert time.monotonic() - began < 5
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence and len(sentence) < 600
    return sentence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("old", [False, True])
def test_numbers_of_every_kind_come_as_they_were_saved(path: Path, old: bool):
    kinds = [
        "float64",
        "float32",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        ml_dtypes.bfloat16,
    ]
    arrays = {f"a.{kind}": np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    arrays |= {"scalar": np.array(7), "empty": np.zeros((0, 3), np.float32)}
    loaded = read_state_dict(write_torch(path, arrays, old=old))
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        is_short_float = array.dtype in (np.float16, ml_dtypes.bfloat16)
        assert loaded[name].dtype == (np.float32 if is_short_float else array.dtype)
        assert loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array.astype(loaded[name].dtype))


@pytest.mark.parametrize("kind", ["zip", "old"])
def test_views_of_one_storage_come_out_right(path: Path, kind: str):
    grid = NUMBERS.reshape(2, 3, 4)
    views = {
        "whole": (0, (2, 3, 4), (12, 4, 1), grid),
        "turned": (0, (4, 3, 2), (1, 4, 12), grid.transpose()),
        "part": (13, (2, 2), (4, 2), grid[1, :2, 1::2]),
        "one": (23, (), (), grid[1, 2, 3]),
        "any stride where there is one place": (4, (1, 2), (2**40, 1), grid[0, 1:2, :2]),
    }
    root = state_dict({name: tensor(OF_24, *view[:3]) for name, view in views.items()})
    path.write_bytes(both(root)[kind])
    loaded = read_state_dict(path)
    for name, (*_, expected) in views.items():
        np.testing.assert_array_equal(loaded[name], expected)


def test_parts_of_storages_of_before_2018_are_read(path: Path):
    of_part = storage("0", "torch.FloatStorage", 24, ("1", 4, 6))
    root = state_dict({"a": tensor(of_part, 1, (2,), (2,))})
    path.write_bytes(both(root)["old"])
    np.testing.assert_array_equal(read_state_dict(path)["a"], [5, 7])
    beyond = state_dict({"a": tensor(storage("0", "torch.FloatStorage", 24, ("1", 20, 6)), 0, (2,), (1,))})
    assert "lies outside it" in sentence_of(path, both(beyond)["old"])
    beyond = state_dict({"a": tensor(of_part, 1, (6,), (1,))})
    assert "beyond the 6 numbers of its storage" in sentence_of(path, both(beyond)["old"])


def test_numbers_of_storages_without_a_kind_are_read(path: Path):
    of_bytes = storage("0", "torch.storage.UntypedStorage", 96, False)
    rest = [*map(plain, (2, (3,), (1,), False)), called("collections.OrderedDict"), named("torch.float32")]
    path.write_bytes(zipped(state_dict({"a": called("torch._utils._rebuild_tensor_v3", of_bytes, *rest)}),
                            {"0": NUMBERS.tobytes()}))  # fmt: skip
    np.testing.assert_array_equal(read_state_dict(path)["a"], [2, 3, 4])


def parameter(code: bytes) -> bytes:
    return called("torch._utils._rebuild_parameter", code, plain(True), called("collections.OrderedDict"))


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(plain(name) + code for name, code in items.items()) + b"u"


@pytest.mark.parametrize("kind", ["zip", "old"])
@pytest.mark.parametrize("name", ["state_dict", "model", "model_state_dict", ""])
def test_a_checkpoint_of_a_training_is_unwrapped(path: Path, name: str, kind: str):
    inner = state_dict(
        {"module.a": parameter(tensor(OF_24, 0, (3,), (1,))), "module.b": tensor(OF_24, 1, (1,), (1,))}
    )
    versions = (
        called("collections.OrderedDict") + b"}" + plain("_metadata") + plain({"": {"version": 1}}) + b"sb"
    )
    others = {"epoch": plain(3), "rates": plain([0.1, None, 1e-3]), "optimizer": plain({"state": {0: "x"}}),
              "versions": versions, "best": tensor(OF_24, 0, (), ())}  # fmt: skip
    path.write_bytes(both(mapping(**others, **{name: inner}) if name else inner)[kind])
    loaded = read_state_dict(path)
    assert set(loaded) == {"a", "b"}
    np.testing.assert_array_equal(loaded["a"], [0, 1, 2])


@pytest.mark.parametrize("name", RUN)
@pytest.mark.parametrize(
    "around",
    [
        lambda harm: harm,
        lambda harm: state_dict({"a": tensor(OF_24, 0, (3,), (1,)), "b": harm}),
        lambda harm: mapping(state_dict=mapping(model=mapping(x=b"]" + harm + b"a"))),
        lambda harm: tensor(harm, 0, (3,), (1,)),
        lambda harm: called(
            "torch._utils._rebuild_tensor_v2", OF_24, plain(0), harm, plain((1,)), plain(False), harm
        ),
        lambda harm: called("collections.OrderedDict") + b"}" + plain("_metadata") + harm + b"sb",
    ],
)
def test_no_other_name_is_looked_up(path: Path, tmp_path: Path, name: str, around: Callable[[bytes], bytes]):
    harm = called(name, plain(f"touch {tmp_path / 'harmed'}"))
    module, _, attribute = name.rpartition(".")
    on_stack = plain(module) + plain(attribute) + b"\x93" + plain(("touch x",)) + b"R"
    for content in (*both(around(harm)).values(), *both(around(on_stack)).values(), whole(around(harm))):
        assert f"names '{name}'" in sentence_of(path, content)
    assert not (tmp_path / "harmed").exists()


def test_what_pythons_pickles_of_objects_ask_for_is_refused(path: Path, tmp_path: Path):
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    for protocol in range(6):
        for content in (pickle.dumps(Harm(), protocol), zipped(pickle.dumps(Harm(), protocol)[:-1], {})):
            sentence_of(path, content)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "sentence"),
    [
        (0, (2**40, 2**40), (2**40, 1), "beyond the 24 numbers"),
        (0, (25,), (1,), "beyond the 24 numbers"),
        (22, (3,), (1,), "beyond the 24 numbers"),
        (0, (2, 3), (22, 1), "beyond the 24 numbers"),
        (2**61, (1,), (1,), "beyond the 24 numbers"),
        (25, (0,), (1,), "beyond the 24 numbers"),
        (23, (3,), (-1,), "not a valid number"),
        (-1, (3,), (1,), "not a valid number"),
        (0, (-3,), (1,), "not a valid number"),
        (0, (2**70,), (0,), "not a valid number"),
        (0, (3.0,), (1,), "not a valid number"),
        (0, (True,), (1,), "not a valid number"),
        (0, (2**50,), (0,), "elements overlap"),
        (0, (3, 3), (1, 1), "elements overlap"),
        (0, (2, 2), (2, 2), "elements overlap"),
        (0, (3,), (1, 1), "without a shape"),
        (0, 3, (1,), "without a shape"),
        (0, (1,) * 100, (1,) * 100, "100 axes"),
    ],
)  # fmt: skip
def test_a_tensor_that_is_not_within_its_storage_is_refused(
    path: Path, offset, shape, strides, sentence: str
):
    for content in both(state_dict({"a": tensor(OF_24, offset, shape, strides)})).values():
        assert sentence in sentence_of(path, content)


def test_an_empty_tensor_of_a_huge_shape_takes_nothing(path: Path):
    for content in both(state_dict({"a": tensor(OF_24, 0, (0, 2**61, 2**61), (1, 1, 1))})).values():
        path.write_bytes(content)
        try:
            assert read_state_dict(path)["a"].size == 0
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("length", [23, 25, 2**40, -1, 2**80])
def test_a_storage_of_another_length_than_declared_is_refused(path: Path, length: int):
    root = state_dict({"a": tensor(storage("0", "torch.FloatStorage", length), 0, (3,), (1,))})
    for content in both(root).values():
        sentence_of(path, content)


def test_storages_that_are_not_there_or_too_many_are_refused(path: Path):
    root = state_dict({"a": tensor(OF_24, 0, (3,), (1,))})
    content = NUMBERS.tobytes()
    sentence_of(path, zipped(root, {"1": content}))
    for keys in (["1"], [], ["0", "0"], ["0", "1"], [0]):
        sentence_of(path, in_sequence(root, {"0": content}, {"0": 4}, keys=keys))
    double = state_dict({"a": tensor(OF_24, 0, (3,), (1,)),
                         "b": tensor(storage("0", "torch.DoubleStorage", 12), 0, (3,), (1,))})  # fmt: skip
    assert "declared in two ways" in sentence_of(path, both(double)["old"])


@pytest.mark.parametrize("kind", ["zip", "old"])
def test_a_file_that_is_cut_off_anywhere_is_refused(path: Path, kind: str):
    content = both(state_dict({"a": tensor(OF_24, 0, (2, 3), (3, 1)), "b": tensor(OF_24, 0, (), ())}))[kind]
    for length in range(len(content)):
        sentence_of(path, content[:length])


@pytest.mark.parametrize("kind", ["zip", "old"])
def test_a_file_with_any_byte_changed_is_read_or_refused(path: Path, kind: str):
    content = both(state_dict({"a": tensor(OF_24, 0, (2, 3), (3, 1)), "b": tensor(OF_24, 0, (), ())}))[kind]
    generator = np.random.default_rng(0)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] = generator.integers(256)
        path.write_bytes(changed)
        try:
            read_state_dict(path)
        except UserError as error:
            assert "\n" not in str(error)
        except OSError:
            pass


def test_the_other_order_of_bytes_is_refused(path: Path):
    root, numbers = state_dict({"a": tensor(OF_24, 0, (3,), (1,))}), {"0": NUMBERS.tobytes()}
    assert "order" in sentence_of(path, zipped(root, numbers, order=b"big"))
    assert "order" in sentence_of(
        path, in_sequence(root, numbers, {"0": 4}, system=SYSTEM | {"little_endian": False})
    )


def test_a_zip_bomb_is_refused_unopened(path: Path):
    root = state_dict({"a": tensor(storage("0", "torch.FloatStorage", 2**22), 0, (3,), (1,))})
    tracemalloc.start()
    content = zipped(root, {"0": bytes(2**24)}, packed=True)
    tracemalloc.reset_peak()
    assert "compressed" in sentence_of(path, content)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_members_that_lie_over_each_other_are_refused(path: Path):
    """Every entry of the directory at the end shows the same bytes."""
    buffer = io.BytesIO(zipped(plain({}), {"0": bytes(2**16)}))
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(100):
            member = zipfile.ZipInfo(f"archive/data/again{number}")
            first = archive.getinfo("archive/data/0")
            member.header_offset, member.CRC = first.header_offset, first.CRC
            member.file_size = member.compress_size = first.file_size
            archive.filelist.append(member)
        archive._didModify = True
    assert "larger than it is" in sentence_of(path, buffer.getvalue())


@pytest.mark.parametrize(
    "root",
    {
        "a deep list": b"]" * 200_000 + b"a" * 199_999,
        "tuples in tuples": b")" + b"\x85" * 400_000,
        "marks": b"(" * 400_000,
        "a list in itself": b"]q\x00h\x00a",
        "a dict in itself": b"}q\x00" + plain("state_dict") + b"h\x00s",
        "the same pairs again and again": b"](" + plain(("a", 1)) * 1000 + b"eq\x000"
        + (b"c" + b"collections\nOrderedDict\n" + b"h\x00\x85R") * 5000,
        "doubled tuples for a name": b"}" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 100 + b"h\x00Ns",
        "a memo far away": b"Nr\xff\xff\xff\xff0",
        "text of more than is there": b"X\xff\xff\xff\xff",
        "text of far more": b"\x8d" + b"\xff" * 8,
        "bytes of far more": b"\x8e" + struct.pack("<Q", 2**62),
        "a number of far more": b"\x8b\xff\xff\xff\x7f",
        "a long number": b"\x8a\xff" + b"\x01" * 255,
        "a frame of far more": b"\x95" + b"\xff" * 8,
        "text that is none": b"X\x02\x00\x00\x00\xff\xff",
        "steps without end": b"N" * 600_000,
        "a name without end": b"c" + b"a" * 100_000,
        "an empty stack": b"R",
        "attributes of a list": b"]}b",
        "a call of a number": plain(3) + b")R",
        "a call of a kind": named("torch.float32") + b")R",
        "a tensor of nothing": called("torch._utils._rebuild_tensor_v2"),
        "a tensor of a number": tensor(plain(3), 0, (1,), (1,)),
        "a parameter of a number": parameter(plain(3)),
        "another persistent id": plain(("module", 1, 2, 3, 4)) + b"Q",
        "an extension": b"\x82\x01",
        "a new object": named("collections.OrderedDict") + b")\x81",
        "a list": plain([1, 2]),
        "a tensor": tensor(OF_24, 0, (3,), (1,)),
        "nothing by name": plain({"epoch": 3, "state_dict": {}}),
        "empty": plain({}),
    }.values(),
)  # fmt: skip
def test_a_pickle_that_makes_no_sense_or_never_ends_is_refused(path: Path, root: bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (*both(root).values(), whole(root)):
        sentence_of(path, content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_a_file_of_another_kind_is_refused(path: Path):
    for content in (
        b"",
        b"PK\x03\x04",
        b"\x80\x02",
        b"hello",
        b"\x93NUMPY",
        np.random.default_rng(0).bytes(1000),
    ):
        sentence_of(path, content)


def test_a_storage_is_read_once_for_all_that_share_it(path: Path):
    """A thousand views of a few megabytes take a few megabytes."""
    numbers = np.zeros(2**20, np.float16)
    of = storage("0", "torch.HalfStorage", len(numbers))
    root = state_dict({f"a{number}": tensor(of, 0, (2**20,), (1,)) for number in range(1000)})
    path.write_bytes(both(root, numbers)["zip"])
    tracemalloc.start()
    assert len(read_state_dict(path)) == 1000
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_pytorch_writes_is_what_it_reads(path: Path, is_zip: bool, protocol: int):
    torch = pytest.importorskip("torch")
    grid = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "whole": grid, "turned": grid.transpose(0, 2), "part": grid[:, 1:, ::2], "half": grid.half(),
        "bfloat16": grid.bfloat16(), "parameter": torch.nn.Parameter(grid.clone()), "count": torch.tensor(3),
        "empty": torch.zeros(0, 3), "uint16": torch.arange(5).to(torch.uint16), "true": grid > 3,
    }  # fmt: skip
    optimizer = torch.optim.Adam([tensors["parameter"]])
    tensors["parameter"].sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "model": tensors, "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    loaded = read_state_dict(path)
    assert list(loaded) == list(tensors)
    for name, saved in tensors.items():
        expected = saved.detach()
        expected = expected.float() if expected.dtype in (torch.half, torch.bfloat16) else expected
        np.testing.assert_array_equal(loaded[name], expected.numpy())
        assert loaded[name].dtype == expected.numpy().dtype
