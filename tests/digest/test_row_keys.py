"""Keys of rows: equal for equal rows wherever they stand, different for all others."""

import collections
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.sparse import csr_array

from sklearn_torch_bridge._digest import (
    _row_keys,
    cache_keys,
    content_digests,
    rows_digest,
)
from sklearn_torch_bridge._errors import ConversionError, FingerprintError
from tests.digest.test_digest_value import VALUES, spelled
from tests.strategies import dense, shapes

NUMBERS = (
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(endianness="?")
)
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))


@given(ARRAYS, st.randoms(use_true_random=False))
def test_digests_follow_their_rows(array, random):
    """In any order, and however the rows are cut."""
    keys = content_digests(array)
    order = random.sample(range(len(array)), len(array))
    cut = random.randint(0, len(array))
    assert content_digests(array[order]) == [keys[row] for row in order]
    assert content_digests(array[:cut]) + content_digests(array[cut:]) == keys
    assert content_digests(list(array)) == keys


@given(ARRAYS)
def test_digests_are_equal_where_rows_are(array):
    rows = [(row.dtype, row.shape, np.asarray(row).tobytes()) for row in array]
    keys = content_digests(array)
    for one in range(len(rows)):
        for other in range(len(rows)):
            assert (keys[one] == keys[other]) == (rows[one] == rows[other])


# torch says so once, of the values that have a negative bit.
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@given(dense(shapes()))
def test_tensors_have_the_digests_of_the_equal_array(tensor):
    keys = content_digests(tensor)
    assert content_digests(list(tensor)) == keys
    if tensor.dtype is not torch.bfloat16:
        array = tensor.detach().resolve_neg().numpy()
        assert content_digests(array) == keys


@given(VALUES, VALUES)
def test_digests_of_nested_rows_are_equal_where_rows_are(one, other):
    (key,), (other_key,) = content_digests([one]), content_digests([other])
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


def test_different_rows_have_different_digests():
    names = collections.defaultdict(list)
    for name, key in zip(ROWS, content_digests(list(ROWS.values())), strict=True):
        names[key].append(name)
    assert [same for same in names.values() if len(same) > 1] == []


AS_EVER = {
    "none": (None, "47da3962a349f043cb6926cfcd21449e"),
    "flag": (True, "137492fd9a0f219bb98a5a4664a1048d"),
    "number": (3, "26b17102eccb4da2bc2bd0859bded485"),
    "real": (0.5, "4c93af97a466027404574ac6b846263b"),
    "text": ("text", "7045d43dfc95bd8e66ae057215d945ca"),
    "bytes": (b"bytes", "c0808aeb5ec818976645937e9cdc96b8"),
    "list": (["a", [1, None]], "607b527e1391351731b185c19934a743"),
    "tuple": (("a", 1), "7aa624ac9aac934926e27c80bdef0429"),
    "dict": ({"a": 1}, "09a2a9302383b10be8e481419ad0ca9f"),
    "array": (
        np.arange(6, dtype="f4").reshape(2, 3),
        "17d8608e41729db04fa5037d96d2a065",
    ),
    "objects": (np.array(["a", 1], object), "7b9a6d26b4c1c8b80ee93ff9718feaae"),
    "texts": (np.array(["a"]), "17729b7c198413951c137235cf10b033"),
}


@pytest.mark.parametrize("name", AS_EVER)
def test_digests_of_rows_are_those_of_earlier_versions(name):
    """Else no cache that anybody has would be found again."""
    row, expected = AS_EVER[name]
    assert content_digests([row])[0].hex() == expected


MATRIX = np.arange(6, dtype="f4").reshape(3, 2)
MATRIX_KEYS = [
    "d5cca056dd3c61d5818866435bb78cb9",
    "c9a899e4db7ab184e6d05fb19c1979ab",
    "2c5f9b18a88f594f8a4a52efe19ab0d3",
]
MATRIX_DIGEST = "551713e5a2c5279c9c37ab8e27360e6b84c431b9df961a95c3d904bb2115ae72"
TEXT_KEYS = ["d9bb66ebfc8bd95f0378179877d5c66e", "8e917daf0743c93391bcd51422ee72ec"]
TEXT_DIGEST = "d31188307a95e70533d2c93ee44cb9c85a50bb6f2a92abd06471b571e41366ec"


@pytest.mark.parametrize(
    ("rows", "keys", "whole"),
    [
        (MATRIX, MATRIX_KEYS, MATRIX_DIGEST),
        (torch.from_numpy(MATRIX), MATRIX_KEYS, MATRIX_DIGEST),
        (["a", "b"], TEXT_KEYS, TEXT_DIGEST),
    ],
    ids=["array", "tensor", "texts"],
)
def test_keys_are_those_of_earlier_versions(rows, keys, whole):
    """Else neither a row of an old cache nor an unfinished file would be found."""
    fingerprint = bytes(range(32))
    found = cache_keys(content_digests(rows), fingerprint)
    assert [key.hex() for key in found] == keys
    assert rows_digest(rows).hex() == whole


@pytest.mark.parametrize("name", ROWS)
def test_the_place_of_a_row_and_what_was_done_with_it_do_not_matter(name):
    (key,) = content_digests([ROWS[name]])
    assert content_digests(["before", ROWS[name], None])[1] == key
    assert len(key) == 16


@given(st.lists(st.text("ab", max_size=2), max_size=3), st.sampled_from([b"f", b"g"]))
def test_keys_are_equal_where_row_and_fingerprint_are(texts, other):
    contents = content_digests(texts)
    keys, other_keys = cache_keys(contents, b"f"), cache_keys(contents[::-1], other)
    for text, key in zip(texts, keys, strict=True):
        for other_text, other_key in zip(texts[::-1], other_keys, strict=True):
            assert (key == other_key) == (text == other_text and other == b"f")
        assert len(key) == 16
        assert key not in contents


def test_dtypes_count():
    arrays = [np.ones((1, 2), dtype) for dtype in ("f2", "f4", "f8", "i4", "i8", "?")]
    assert len({content_digests(array)[0] for array in arrays}) == len(arrays)


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
def test_equal_rows_have_equal_digests_however_they_lie(rng, change):
    X = rng.standard_normal((5, 4, 3)).astype("f4")
    assert content_digests(change(X)) == content_digests(X)


def test_rows_of_a_memory_map(rng, tmp_path):
    X = rng.standard_normal((50, 7))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert content_digests(mapped) == content_digests(X)
    assert content_digests(mapped[::3]) == content_digests(X[::3])


@pytest.mark.parametrize(
    ("n_bytes", "sizes"), [(96, [3, 3, 3, 1]), (127, [3, 3, 3, 1]), (1, [1] * 10)]
)
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, csr_array])
def test_large_arrays_are_hashed_in_pieces(rng, monkeypatch, kind, n_bytes, sizes):
    X = rng.standard_normal((10, 4))
    expected = content_digests(X)
    found, hash_each = [], _row_keys._hash_each

    def noted(contents, start):
        digests = hash_each(contents, start)
        found.append(len(digests))
        return digests

    monkeypatch.setattr(_row_keys, "_CHUNK_BYTES", n_bytes)
    monkeypatch.setattr(_row_keys, "_hash_each", noted)
    assert content_digests(kind(X)) == expected
    assert found == sizes


@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["array", "tensor"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)], ids=str)
def test_empty_axes(make, shape):
    keys = content_digests(make(shape))
    assert len(keys) == shape[0]
    assert len(set(keys)) == min(1, shape[0])


def test_lists_of_rows_of_different_shapes():
    rows = [np.ones(2), torch.ones(3), np.ones((1, 2)), np.ones(2)]
    keys = content_digests(rows)
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3


def test_texts_have_one_digest_in_any_container():
    texts = ["b", "aa", "", "b"]
    expected = content_digests(texts)
    for same in (tuple(texts), np.array(texts), np.array(texts, object)):
        assert content_digests(same) == expected
    assert content_digests([np.str_(text) for text in texts]) == expected


def test_a_dataset_is_read_by_position():
    class Squares:
        def __len__(self):
            return 3

        def __getitem__(self, row):
            return torch.tensor([row**2])

    assert content_digests(Squares()) == content_digests(torch.tensor([[0], [1], [4]]))


def test_of_paths_the_content_counts(tmp_path):
    one, other, third = (tmp_path / name for name in "abc")
    one.write_bytes(b"x")
    other.write_bytes(b"x")
    third.write_bytes(b"y")
    keys = content_digests([one, other, third, b"x", str(one)])
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    before = content_digests([{"path": one}])
    one.write_bytes(b"z")
    assert content_digests([{"path": one}]) != before
    with pytest.raises(FileNotFoundError, match="missing"):
        content_digests([tmp_path / "missing"])


def test_an_image_has_one_digest_lazily_loaded_or_not(tmp_path):
    image(fill=(1, 2, 3)).save(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as lazy:
        assert content_digests([lazy]) == content_digests([image(fill=(1, 2, 3))])


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
        keys = content_digests([one, other])
        assert one.tell() == 1
        assert keys[0] != keys[1]
        one.seek(0)
        assert content_digests([one])[0] not in keys
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
        content_digests(rows)


@pytest.mark.parametrize("rows", [np.array(1.0), torch.tensor(1.0)], ids=type)
def test_arrays_without_axes_are_refused(rows):
    with pytest.raises(TypeError, match="must have rows, got an array without axes"):
        content_digests(rows)


def test_rows_that_nothing_can_identify_are_named():
    pattern = (
        r"row 1 of `X` cannot be fingerprinted: attribute 'text' is a generator .*"
        r"With `cache`, rows must be arrays, tensors, str"
    )
    with pytest.raises(FingerprintError, match=pattern):
        content_digests(["a", Record(letter for letter in "ab")])
    deep = []
    deep.append(deep)
    with pytest.raises(FingerprintError, match="nested too deeply"):
        content_digests([deep])


def test_sparse_rows_are_refused():
    with pytest.raises(ConversionError, match=r"is sparse\. Call \.to_dense\(\) first"):
        content_digests([torch.eye(2).to_sparse()])


@given(st.lists(st.text("ab", max_size=2), max_size=3))
def test_the_digest_of_all_rows_is_that_of_their_sequence(texts):
    assert rows_digest(texts) == rows_digest(tuple(texts))
    assert rows_digest(texts) != rows_digest([*texts, ""])
    assert (rows_digest(texts) == rows_digest(texts[::-1])) == (texts == texts[::-1])
