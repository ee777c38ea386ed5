"""Keys of rows: equal for equal rows wherever they stand, different for all others."""

import collections
import dataclasses
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.sparse import csr_array

from sklearn_torch_bridge._digest import _row_keys, row_keys, rows_digest
from sklearn_torch_bridge._errors import ConversionError, FingerprintError
from tests.digest.test_values import VALUES, spelled
from tests.strategies import dense, shapes

F = b"fingerprint"

NUMBERS = (
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(endianness="?")
)
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))


@given(ARRAYS, st.randoms(use_true_random=False))
def test_keys_follow_their_rows(array, random):
    """In any order, and however the rows are cut."""
    keys = row_keys(array, F)
    order = random.sample(range(len(array)), len(array))
    cut = random.randint(0, len(array))
    assert row_keys(array[order], F) == [keys[row] for row in order]
    assert row_keys(array[:cut], F) + row_keys(array[cut:], F) == keys
    assert row_keys(list(array), F) == keys


@given(ARRAYS)
def test_keys_are_equal_where_rows_are(array):
    rows = [(row.dtype, row.shape, np.asarray(row).tobytes()) for row in array]
    keys = row_keys(array, F)
    for one in range(len(rows)):
        for other in range(len(rows)):
            assert (keys[one] == keys[other]) == (rows[one] == rows[other])


@given(dense(shapes()))
def test_tensors_have_the_keys_of_the_equal_array(tensor):
    keys = row_keys(tensor, F)
    assert row_keys(list(tensor), F) == keys
    if tensor.dtype is not torch.bfloat16:
        array = tensor.detach().resolve_neg().numpy()
        assert row_keys(array, F) == keys


@given(VALUES, VALUES)
def test_keys_of_nested_rows_are_equal_where_rows_are(one, other):
    (key,), (other_key,) = row_keys([one], F), row_keys([other], F)
    assert (key == other_key) == (spelled(one) == spelled(other))


Pair = collections.namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - its pickling is meant


@dataclasses.dataclass
class Record:
    text: str


def image(mode="RGB", size=(2, 3), fill=0, **info):
    made = Image.new(mode, size, fill)
    made.info.update(info)
    return made


def image_with_palette(*colors):
    made = Image.new("P", (2, 3))
    made.putpalette(bytes(colors))
    return made


def turned_image():
    made = image()
    made.getexif()[0x0112] = 6
    return made


ROWS = {
    "None": None,
    "True": True,
    "1": 1,
    "1.0": 1.0,
    "'1'": "1",
    "b'1'": b"1",
    "''": "",
    "b''": b"",
    "a lone surrogate": "\ud800",
    "float64": np.float64(1),
    "float32": np.float32(1),
    "big-endian": np.array(1, ">i4"),
    "one number": np.array([1.0]),
    "one number in a matrix": np.array([[1.0]]),
    "no number": np.array([]),
    "no numbers": np.zeros((0, 2)),
    "no numbers either": np.zeros((2, 0)),
    "float16": np.array([1.0], "f2"),
    "bfloat16": torch.tensor([1.0], dtype=torch.bfloat16),
    "complex": np.array([1j]),
    "text in an array": np.array(["1"]),
    "longer text in an array": np.array(["1"], "U2"),
    "object in an array": np.array(["1"], object),
    "dates": np.array([1], "M8[s]"),
    "other dates": np.array([1], "M8[D]"),
    "struct": np.zeros(1, [("a", "f4")]),
    "other struct": np.zeros(1, [("b", "f4")]),
    "masked": np.ma.masked_array([1.0], [True]),
    "list": ["ab", "c"],
    "list cut elsewhere": ["a", "bc"],
    "list in a list": [["ab", "c"]],
    "list beside a list": [["ab"], "c"],
    "dict in a dict": {"a": {"b": 1, "c": 2}},
    "dict beside a dict": {"a": {"b": 1}, "c": 2},
    "arrays side by side": [np.ones(1), np.ones(2)],
    "arrays cut elsewhere": [np.ones(2), np.ones(1)],
    "tuple": ("ab", "c"),
    "named tuple": Pair("ab", "c"),
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "list of None": [None],
    "dict": {"a": 1, "b": 2},
    "dict swapped": {"a": 2, "b": 1},
    "dict of arrays": {"a": np.ones(2)},
    "dict of other arrays": {"a": np.ones(3)},
    "dict of lists": {"a": [1.0, 1.0]},
    "dict of None": {"a": None},
    "object": Record("a"),
    "other object": Record("b"),
    "image": image(),
    "its pixels": image().tobytes(),
    "image of another size": image(size=(3, 2)),
    "image with other pixels": image(fill=1),
    "image in other colours": image("YCbCr"),
    "grey image": image("L"),
    "image of one byte a pixel": image("L", (6, 3)),
    "transparent image": image("L", transparency=0),
    "image with a palette": image_with_palette(0, 0, 0, 1, 1, 1),
    "image with another palette": image_with_palette(0, 0, 0, 2, 2, 2),
    "image with a profile": image(icc_profile=b"x"),
    "image on its side": turned_image(),
}


def test_different_rows_have_different_keys():
    names = collections.defaultdict(list)
    for name, key in zip(ROWS, row_keys(list(ROWS.values()), F), strict=True):
        names[key].append(name)
    assert [same for same in names.values() if len(same) > 1] == []


AS_EVER = {
    "none": (None, "7661b744c7f54647d8fa9c147ec5e805"),
    "flag": (True, "74d6c2cb940bc011557144b24707d28c"),
    "number": (3, "d8f793524fc20a204fdb9377f2b7c55c"),
    "real": (0.5, "06858de008cce246994c0799420960bb"),
    "text": ("text", "2cba4f96a53cd3e8c8cef9d9c2081128"),
    "bytes": (b"bytes", "0c35ca4c21aeb84700bfde99fd4f851a"),
    "list": (["a", [1, None]], "e3fb858ca8f648aeec8ca4176082d14d"),
    "tuple": (("a", 1), "a53d01586c0ff73381c5e0c2845c68b6"),
    "dict": ({"a": 1}, "795cbb19fb886a3721d8d020f28a9294"),
    "array": (
        np.arange(6, dtype="f4").reshape(2, 3),
        "ddd91d23a675de1e8560cde74dd39ea4",
    ),
    "objects": (np.array(["a", 1], object), "3640d703b3ea08767bde7b7c4c22e7db"),
    "texts": (np.array(["a"]), "b5f70119f58c864c3f20b9c146eea672"),
}


@pytest.mark.parametrize("name", AS_EVER)
def test_keys_are_those_of_earlier_versions(name):
    """Else no cache that anybody has would be found again."""
    row, expected = AS_EVER[name]
    assert row_keys([row], b"f")[0].hex() == expected


@pytest.mark.parametrize("name", ROWS)
def test_the_place_of_a_row_and_what_was_done_with_it_do_not_matter(name):
    (key,) = row_keys([ROWS[name]], F)
    assert row_keys(["before", ROWS[name], None], F)[1] == key
    assert len(key) == 16


def test_other_fingerprints_give_other_keys():
    assert row_keys(["a"], b"f") != row_keys(["a"], b"g")
    assert row_keys(np.ones((1, 2)), b"f") != row_keys(np.ones((1, 2)), b"g")


def test_dtypes_count():
    arrays = [np.ones((1, 2), dtype) for dtype in ("f2", "f4", "f8", "i4", "i8", "?")]
    assert len({row_keys(array, F)[0] for array in arrays}) == len(arrays)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.astype(">f4"),
        lambda X: np.frombuffer(X.tobytes(), "f4").reshape(X.shape),
        torch.from_numpy,
        lambda X: torch.from_numpy(np.asfortranarray(X)),
        lambda X: torch.from_numpy(X).requires_grad_(),
        list,
        lambda X: list(torch.from_numpy(X)),
    ],
    ids=[
        *("Fortran order", "strided", "reversed twice", "big-endian", "read-only"),
        *("tensor", "strided tensor", "with gradients", "list", "list of tensors"),
    ],
)
def test_equal_rows_have_equal_keys_however_they_lie(rng, change):
    X = rng.standard_normal((5, 4, 3)).astype("f4")
    assert row_keys(change(X), F) == row_keys(X, F)


def test_rows_of_a_memory_map(rng, tmp_path):
    X = rng.standard_normal((50, 7))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert row_keys(mapped, F) == row_keys(X, F)
    assert row_keys(mapped[::3], F) == row_keys(X[::3], F)


@pytest.mark.parametrize(
    ("n_bytes", "sizes"), [(96, [3, 3, 3, 1]), (127, [3, 3, 3, 1]), (1, [1] * 10)]
)
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, csr_array])
def test_large_arrays_are_hashed_in_pieces(rng, monkeypatch, kind, n_bytes, sizes):
    X = rng.standard_normal((10, 4))
    expected = row_keys(X, F)
    found, hash_each = [], _row_keys._hash_each

    def noted(row_bytes, part, base, memory):
        found.append(memoryview(memory).nbytes // row_bytes)
        return hash_each(row_bytes, part, base, memory)

    monkeypatch.setattr(_row_keys, "_CHUNK_BYTES", n_bytes)
    monkeypatch.setattr(_row_keys, "_hash_each", noted)
    assert row_keys(kind(X), F) == expected
    assert found == sizes


@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["array", "tensor"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)], ids=str)
def test_empty_axes(make, shape):
    keys = row_keys(make(shape), F)
    assert len(keys) == shape[0]
    assert len(set(keys)) == min(1, shape[0])


def test_lists_of_rows_of_different_shapes():
    rows = [np.ones(2), torch.ones(3), np.ones((1, 2)), np.ones(2)]
    keys = row_keys(rows, F)
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3


def test_texts_have_one_key_in_any_container():
    texts = ["b", "aa", "", "b"]
    expected = row_keys(texts, F)
    for same in (tuple(texts), np.array(texts), np.array(texts, object)):
        assert row_keys(same, F) == expected
    assert row_keys([np.str_(text) for text in texts], F) == expected


def test_a_dataset_is_read_by_position():
    class Squares:
        def __len__(self):
            return 3

        def __getitem__(self, row):
            return torch.tensor([row**2])

    assert row_keys(Squares(), F) == row_keys(torch.tensor([[0], [1], [4]]), F)


def test_of_paths_the_content_counts(tmp_path):
    one, other, third = (tmp_path / name for name in "abc")
    one.write_bytes(b"x")
    other.write_bytes(b"x")
    third.write_bytes(b"y")
    keys = row_keys([one, other, third, b"x", str(one)], F)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    before = row_keys([{"path": one}], F)
    one.write_bytes(b"z")
    assert row_keys([{"path": one}], F) != before
    with pytest.raises(FileNotFoundError, match="missing"):
        row_keys([tmp_path / "missing"], F)


def test_an_image_has_one_key_lazily_loaded_or_not(tmp_path):
    image(fill=(1, 2, 3)).save(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as lazy:
        assert row_keys([lazy], F) == row_keys([image(fill=(1, 2, 3))], F)


@pytest.mark.parametrize(
    ("fills", "other_fills"),
    [([100, 200], [200, 100]), ([100], [200])],
    ids=["three", "two"],
)
def test_all_frames_of_an_animation_count(tmp_path, fills, other_fills):
    for name, rest in (("a.gif", fills), ("b.gif", other_fills)):
        frames = [image("L", fill=fill) for fill in (0, *rest)]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as one, Image.open(tmp_path / "b.gif") as other:
        one.seek(1)
        keys = row_keys([one, other], F)
        assert one.tell() == 1
        assert keys[0] != keys[1]
        one.seek(0)
        assert row_keys([one], F)[0] not in keys
        assert one.tell() == 0


@pytest.mark.parametrize(
    "rows",
    [
        *("text", b"bytes", {"a": [1]}, {"a"}, 3, None, (row for row in "ab")),
        pd.DataFrame({"a": [1]}),
    ],
    ids=["str", "bytes", "dict", "set", "int", "None", "generator", "frame"],
)
def test_what_has_no_rows_is_refused(rows):
    with pytest.raises(TypeError, match="`X` must be a sequence with one entry a row"):
        row_keys(rows, F)


@pytest.mark.parametrize("rows", [np.array(1.0), torch.tensor(1.0)], ids=type)
def test_arrays_without_axes_are_refused(rows):
    with pytest.raises(TypeError, match="must have rows, got an array without axes"):
        row_keys(rows, F)


def test_rows_that_nothing_can_identify_are_named():
    pattern = (
        r"row 1 of `X` cannot be fingerprinted: attribute 'text' is a lock .*"
        r"With `cache`, rows must be arrays, tensors, str"
    )
    with pytest.raises(FingerprintError, match=pattern):
        row_keys(["a", Record(threading.Lock())], F)
    deep = []
    deep.append(deep)
    with pytest.raises(FingerprintError, match="nested too deeply"):
        row_keys([deep], F)


def test_sparse_rows_are_refused():
    with pytest.raises(ConversionError, match=r"is sparse\. Call \.to_dense\(\) first"):
        row_keys([torch.eye(2).to_sparse()], F)


@given(st.lists(st.text("ab", max_size=2), max_size=3))
def test_without_a_fingerprint_the_digest_of_rows_is_that_of_an_empty_one(texts):
    assert rows_digest(texts) == rows_digest(texts, b"")


@given(st.lists(st.text("ab", max_size=2), max_size=3))
def test_the_digest_of_all_rows_is_that_of_their_sequence(texts):
    assert rows_digest(texts) == rows_digest(tuple(texts))
    assert rows_digest(texts) != rows_digest([*texts, ""])
    assert (rows_digest(texts) == rows_digest(texts[::-1])) == (texts == texts[::-1])
    assert rows_digest(texts) != rows_digest(texts, F)
