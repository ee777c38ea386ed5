"""Indices that lead out of the arrays are refused before SciPy follows them."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from sklearn_torch_bridge import TensorToArray, TorchFeatureExtractor, to_numpy
from sklearn_torch_bridge._convert import check_indices

FAR = 10**9


def matrix(name):
    """Make a small matrix of one format; all of its arrays are its own."""
    whole = np.array([[1, 0, 2, 0], [0, 3, 0, 0], [4, 0, 0, 5], [0, 0, 6, 7]], "f4")
    return getattr(sp, name)(whole)


def setting(attribute, *place, to):
    def change(container):
        values = getattr(container, attribute).copy()
        values[place] = to
        setattr(container, attribute, values)

    return change


def replacing(attribute, make):
    return lambda container: setattr(
        container, attribute, make(getattr(container, attribute))
    )


def begin_with_many(container):
    container.indptr[:] = [0, FAR, 0, 0, 0][: len(container.indptr)]
    container.indptr[-1] = 0


COMPRESSED = {
    "beyond": setting("indices", 2, to=FAR),
    "next": setting("indices", 2, to=4),
    "negative": setting("indices", 0, to=-1),
    "far negative": setting("indices", 0, to=-FAR),
    "of 64 bits": replacing("indices", lambda old: old.astype("i8") + 2**40),
    "unsigned": replacing("indices", lambda old: old.astype("u4") + np.uint32(2**31)),
    "floats": replacing("indices", lambda old: old + 0.5),
    "too few": replacing("indices", lambda old: old[:1]),
    "too few values": replacing("data", lambda old: old[:1]),
    "pointer beyond": setting("indptr", -1, to=FAR),
    "pointer that falls": setting("indptr", 1, to=FAR),
    "pointer negative": setting("indptr", 1, to=-FAR),
    "pointer from 1": setting("indptr", 0, to=1),
    "pointers that end with 0": begin_with_many,
    "too many pointers": replacing("indptr", lambda old: np.append(old, old[-1:])),
    "too few pointers": replacing("indptr", lambda old: old[:-1]),
    "another shape": lambda container: setattr(container, "_shape", (4000, 2)),
}
CHANGES = {
    **{
        (name, what): COMPRESSED[what] for name in ("csr", "csc") for what in COMPRESSED
    },
    **{("bsr", what): change for what, change in COMPRESSED.items()},
    ("coo", "row"): setting("row", 1, to=FAR),
    ("coo", "column"): setting("col", 1, to=-FAR),
    ("coo", "next"): setting("col", 1, to=4),
    ("coo", "too few"): replacing("data", lambda old: old[:1]),
    ("dia", "too many"): replacing("offsets", lambda old: np.append(old, [90] * 99)),
    ("dia", "too few"): replacing("data", lambda old: old[:1]),
    ("dia", "one axis"): replacing("data", lambda old: old.ravel()),
    ("dia", "twice"): replacing("offsets", lambda old: old * 0),
    ("lil", "column"): lambda container: container.rows[0].__setitem__(0, FAR),
    ("lil", "negative"): lambda container: container.rows[0].__setitem__(0, -1),
    ("lil", "unsorted"): lambda container: container.rows[0].reverse(),
    ("lil", "more values"): lambda container: container.data[0].extend([1.0] * 9999),
    ("lil", "fewer values"): lambda container: container.data[0].clear(),
    ("lil", "fewer rows"): replacing("rows", lambda old: old[:1]),
    ("dok", "row"): lambda container: container._dict.update({(FAR, 0): 1.0}),
    ("dok", "negative"): lambda container: container._dict.update({(0, -1): 1.0}),
}
ENTRIES = {
    "to_numpy": to_numpy,
    "dtype": lambda X: to_numpy(X, dtype="float64"),
    "keep": TensorToArray().fit_transform,
    "dense": TensorToArray(sparse="dense").transform,
    "inverse": TensorToArray().inverse_transform,
    "fit": TorchFeatureExtractor(nn.Identity()).fit,
    "transform": TorchFeatureExtractor(nn.Identity()).transform,
    "nan": TorchFeatureExtractor(nn.Identity(), on_error="nan").transform,
    "preprocess": TorchFeatureExtractor(nn.Identity(), preprocess=list).transform,
}


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("name", CHANGES, ids=" ".join)
def test_broken_indices_are_refused_before_they_are_followed(name, kind):
    """SciPy would read or write elsewhere, or end the process."""
    container = matrix(f"{name[0]}_{kind}")
    CHANGES[name](container)
    for convert in ENTRIES.values():
        with pytest.raises(ValueError, match="has invalid indices"):
            convert(container)


@pytest.mark.parametrize("name", ["csr", "csc", "bsr", "coo", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize(
    "entry", sorted(ENTRIES.keys() - {"fit", "preprocess", "inverse"})
)
def test_good_ones_pass_and_stay_as_they_are(name, kind, entry):
    container = matrix(f"{name}_{kind}")
    expected = container.toarray()
    found = ENTRIES[entry](container)
    np.testing.assert_array_equal(
        found.toarray() if sp.issparse(found) else found, expected
    )
    assert container.format == name
    np.testing.assert_array_equal(container.toarray(), expected)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, sp.coo_array])
def test_none_at_all_are_fine(make):
    check_indices(make((3, 4)))
    check_indices(make((0, 4)))


def test_the_row_and_the_column_are_named():
    container = matrix("csr_array")
    container.indices[2] = 9
    with pytest.raises(ValueError, match="row 1 has the column 9, of 4"):
        check_indices(container)


def test_the_container_is_not_pruned():
    """As SciPy's own check does, to the caller's."""
    container = matrix("csr_array")
    container.indptr[-1] -= 1
    check_indices(container)
    assert len(container.data) == 7


# torch says so of the first one of a process.
@pytest.mark.filterwarnings(
    "ignore:Sparse CS[RC] tensor support is in beta:UserWarning"
)
@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("sparse", ["keep", "dense"])
def test_pointers_of_a_tensor_that_end_with_0_are_refused(layout, sparse):
    """SciPy looks at no pointers where the last says that there is nothing."""
    make = getattr(torch, f"sparse_{layout}_tensor")
    nothing = torch.zeros(0, dtype=torch.int64)
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        tensor = make(torch.tensor([0, FAR, 0]), nothing, torch.ones(0), (2, 2))
    with pytest.raises(ValueError, match="invalid indices"):
        TensorToArray(sparse=sparse).fit_transform(tensor)
