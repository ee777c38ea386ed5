"""Cases of the fuzz: what is drawn, what must come of it, and what came.

What must come is found by hand, a row at a time, from the plain numbers that the rows
were made of; neither the package nor a batch has a part in it.
"""

import dataclasses
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import sklearn_torch_bridge
from sklearn_torch_bridge import (
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
    to_numpy,
)
from tests import fuzz_rows as of
from tests.fuzz_models import (
    POOLED,
    TEXTS,
    Fields,
    Masked,
    StrictLetters,
    Sums,
    Weighted,
    Words,
    by_letter,
    features,
    is_unicode,
    weighted,
)
from tests.fuzz_objects import ODD, Pixels, picture, processor

SEED = 19
OURS = str(Path(sklearn_torch_bridge.__file__).parent)
SKLEARN = ("sklearn/utils/", "sklearn/base.py")
CHECKS = "sklearn/utils/validation.py"


@dataclasses.dataclass
class Case:
    """What was drawn: something to call, and the truth of each row."""

    words: list[str]
    call: Callable[[], Any]
    truths: list[Any] | None  # None: whatever comes
    forgives: bool = False
    must_fail: bool = False
    loose: float = 1e-4


def draw_case(number):
    """Draw one case."""
    draw = of.Draw(SEED, number)
    kinds = (
        [_numbers] * 6
        + [_ragged] * 2
        + [_mapping, _sparse, _texts, _texts, _pictures, _odd]
    )
    return draw.one("kind", kinds)(draw)


def _rows(draw, shapes, source):
    """Draw rows of one source, of which one may be spoilt, and the dtypes of all."""
    dtypes = of.dtypes_of(source)
    dtype = draw.one("dtype", dtypes)
    mixes = draw.chance("mixed", 0.15)
    rows, used = [], set()
    for shape in shapes:
        own = draw.one("own", dtypes) if mixes else dtype
        used.add(own)
        values = draw.numbers(shape, of.least_of(own))
        truth = (values != 0).astype(float) if own in ("?", "bool") else values
        rows.append(of.Drawn(of.form(draw, values, source, own), truth))
    if rows and draw.chance("spoilt", 0.3):
        place = int(draw.rng.integers(len(rows)))
        draw.words.append(f"row={place}")
        rows[place] = of.spoilt(draw, rows[place], shapes[place], source)
    return rows, used


def _numbers(draw):
    source = draw.one("source", ["arrays", "arrays", "tensors", "tensors", "lists"])
    shape = draw.one("shape", of.SHAPES)
    n_rows = draw.one("rows", [1, 2, 3, 4, 5, 7, 0])
    rows, _ = _rows(draw, [shape] * n_rows, source)
    return _of_rows(draw, rows, source)


def _of_rows(draw, rows, source, *, containers=tuple(of.CONTAINERS)):
    given = [row.given for row in rows]
    truths = [row.truth for row in rows]
    if source == "lists":  # of a list in a Dataset the first entry is the row
        containers = containers[: containers.index("dataset")]
    X = None
    if rows and source != "lists" and draw.chance("whole", 0.4):
        try:
            X = of.whole(given)
        except (TypeError, ValueError, RuntimeError):
            draw.words.append("no whole")
    if X is None:
        X = of.CONTAINERS[draw.one("container", containers)](given)
    return _entered(draw, X, truths)


def _entered(draw, X, truths):
    entry = draw.one("entry", ["to_numpy", "TensorToArray", *["extractor"] * 5])
    values = {"fault=nan", "fault=inf", "fault=float nan", "fault=None"}
    if entry != "extractor" and not values.isdisjoint(draw.words):
        truths = None  # values like others, there
    if entry == "to_numpy":
        # Of a list it depends on the axes whether rows or batches are joined.
        is_array = isinstance(X, (np.ndarray, torch.Tensor))
        wanted = truths if is_array and str(X.dtype) != "object" else None
        return Case(draw.words, lambda: to_numpy(X), wanted)
    if entry == "TensorToArray":
        flatten = draw.chance("flatten", 0.5)
        step = TensorToArray(flatten=flatten, sparse=draw.one("s", ["keep", "dense"]))
        if flatten and truths is not None:
            truths = [
                None if row is None else _through(np.ravel, row) for row in truths
            ]
        return Case(draw.words, lambda: step.fit_transform(X), truths)
    return _extracted(draw, X, truths)


def _extracted(draw, X, truths, model=None, route=None, **fixed):
    """Draw a model and options, and let an extractor run."""
    options = {
        "batch_size": draw.one("batch_size", [1, 2, 3, 32, "auto"]),
        "on_error": draw.one("on_error", ["raise", "nan"]),
        "dtype": draw.one("result", ["float32", "float32", None, "float64", "float16"]),
        "num_workers": draw.one("workers", [0, 0, 0, 1]),
        "device": draw.one("device", ["cpu", "cpu", ["cpu", "cpu"]]),
    } | fixed
    if model is None:
        model, route, more = _model(draw)
        options |= more
    found = [None if truth is None else _through(route, truth) for truth in truths]
    method = draw.one(
        "method",
        ["transform", "fit", "fit_transform", "fit.transform", "to_file", "precompute"],
    )
    needs_cache = method == "precompute" or draw.chance("cache", 0.15)

    def call():
        with tempfile.TemporaryDirectory(dir=_FAST) as folder:
            cache = f"{folder}/rows.db" if needs_cache else None
            extractor = TorchFeatureExtractor(model, cache=cache, **options)
            return _run(extractor, method, X, folder)

    forgives = options["on_error"] == "nan"
    if method == "fit":  # nothing to compare, and one row that passes is enough
        return Case(draw.words, lambda: call() and None, None)
    loose = 2e-2 if "float16" in " ".join(draw.words) else 1e-4
    return Case(draw.words, call, found, forgives=forgives, loose=loose)


def _through(route, truth):
    return truth if truth is of.ANY else route(truth)


_FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - new folders


def _run(extractor, method, X, folder):
    if method == "fit":
        return extractor.fit(X)
    if method == "to_file":
        return np.array(extractor.transform_to_file(X, f"{folder}/Z.npy"))
    if method == "precompute":
        precompute(extractor, X)
    elif method == "fit.transform":
        extractor.fit(X)
    elif method == "fit_transform":
        return extractor.fit_transform(X)
    return extractor.transform(X)


def _model(draw):
    """Draw a model, and the route by hand to what it makes of a row."""
    name = draw.one("model", ["identity", "identity", "weighted", "fields", "layer"])
    if name == "weighted":
        return Weighted(), weighted, {}
    if name == "fields":
        return Fields(), weighted, {"output": "a"}
    pooling = draw.one("pooling", POOLED)
    model, more = nn.Identity(), {"pooling": pooling}
    if name == "layer":
        model, more["layer"] = nn.Sequential(nn.Identity(), Weighted()), "0"
    return model, POOLED[pooling], more


def _ragged(draw):
    source = draw.one("source", ["arrays", "tensors", "lists"])
    width = draw.one("width", [None, 2, 3])
    lengths = draw.rng.integers(1, 5, draw.one("rows", [1, 2, 3, 5, 6])).tolist()
    draw.words.append(f"lengths={lengths}")
    shapes = [(length,) if width is None else (length, width) for length in lengths]
    rows, _ = _rows(draw, shapes, source)
    if width is None:
        return _of_rows(draw, rows, source)
    containers = [*of.CONTAINERS][: 6 if source == "lists" else None]
    X = of.CONTAINERS[draw.one("container", containers)]([one.given for one in rows])
    model = draw.one("model", [Masked, nn.Identity])()
    pooling = draw.one("pooling", ["mean", "max", "auto", None])
    route = POOLED[pooling] if pooling else lambda row: row
    truths = [row.truth for row in rows]
    return _extracted(draw, X, truths, model, route, pooling=pooling)


def _mapping(draw):
    names = draw.one("names", [["x"], ["x", "y"], ["x", "z"], ["y"]])
    shape, n_rows = draw.one("shape", of.SHAPES), draw.one("rows", [1, 2, 3, 5])
    X, truths = {}, [np.zeros(2) for _ in range(n_rows)]
    for name in names:
        source = draw.one("source", ["arrays", "tensors", "lists"])
        rows, _ = _rows(draw, [shape] * n_rows, source)
        given = [row.given for row in rows]
        whole = source != "lists" and draw.chance("whole", 0.6)
        try:
            X[name] = of.whole(given) if whole else given
        except (TypeError, ValueError, RuntimeError):
            X[name] = given
        truths = [
            _added(sum_, row.truth) for sum_, row in zip(truths, rows, strict=True)
        ]
    case = _extracted(draw, X, truths, Sums(), lambda total: total)
    case.must_fail = names in (["x", "z"], ["y"])
    return case


def _added(total, truth):
    if isinstance(total, str) or isinstance(truth, str):
        return of.ANY
    return None if total is None or truth is None else total + weighted(truth)


def _sparse(draw):
    table = draw.numbers((draw.one("rows", [1, 3, 5]), 4), -4)
    X, sound = of.compressed(draw, table.astype(draw.one("dtype", ["f4", "f8", "i4"])))
    if not sound and draw.chance("step", 0.5):
        step = TensorToArray(sparse=draw.one("sparse", ["keep", "dense"]))
        return Case(draw.words, lambda: step.fit_transform(X), None)
    case = _extracted(draw, X, list(table), Weighted(), weighted)
    if not sound:
        case.truths = None
    return case


def _texts(draw):
    texts = [draw.one("text", TEXTS) for _ in range(draw.one("rows", [1, 2, 4, 7]))]
    missing = [None, np.nan, b"bytes", 3, ["a"], object()]
    if draw.chance("missing", 0.15):
        texts[0] = missing[int(draw.rng.integers(len(missing)))]
    X = of.CONTAINERS[draw.one("container", of.CONTAINERS)](texts)
    letters = draw.chance("letters", 0.5)
    route = by_letter if letters else lambda text: features([text])[0].numpy()
    usable = [
        isinstance(text, str) and is_unicode(text) and (len(text) > 0 or not letters)
        for text in texts
    ]
    truths = [text if good else None for text, good in zip(texts, usable, strict=True)]
    model, preprocess = (
        (Words(), StrictLetters()) if letters else (nn.Identity(), features)
    )
    return _extracted(draw, X, truths, model, route, preprocess=preprocess)


def _pictures(draw):
    rows = [picture(draw) for _ in range(draw.one("rows", [1, 2, 4]))]
    containers = ["list", "tuple", "object array", "series", "frame", "dataset"]
    make = of.CONTAINERS[draw.one("container", containers)]
    X, truths = make([row.given for row in rows]), [row.truth for row in rows]
    fixed = {"preprocess": processor()}
    return _extracted(draw, X, truths, Pixels(), lambda truth: truth, **fixed)


def _odd(draw):
    X = ODD[draw.one("odd", ODD)]()
    case = _entered(draw, X, [])
    return dataclasses.replace(case, truths=None)


def fault_of(case):
    """Run a case; return what is wrong with what came, by its kind, or None."""
    try:
        came = case.call()
    except Exception as error:  # noqa: BLE001 - it is judged
        return _fault_of_error(error)
    if case.must_fail:
        return "accepted what it does not take"
    if case.truths is None or came is None:
        return None
    return _fault_of_value(np.asarray(_dense(came)), case)


def _dense(value):
    return value.toarray() if hasattr(value, "toarray") else value


def _fault_of_error(error):
    """Judge an error by where it was raised: by us, or by scikit-learn's checks."""
    if type(error).__module__.startswith("sklearn_torch_bridge"):
        return None
    if getattr(error, "__notes__", None):  # ours, which name the rows
        return None
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    place = places[-1]
    if place.startswith(OURS) or any(part in place for part in SKLEARN):
        return None
    checked = any(CHECKS in place for place in places)
    if checked and isinstance(error, (TypeError, ValueError)) and "torch" not in place:
        return None  # NumPy's, pandas' or SciPy's words through `check_array`
    short = "/".join(Path(place).parts[-2:])
    return f"{type(error).__name__} of {short}: {str(error)[:60]}"


def _fault_of_value(came, case):
    truths = case.truths
    if len(came) != len(truths):
        return f"{len(came)} rows for {len(truths)}"
    for row, truth in zip(came, truths, strict=True):
        own = np.asarray(row, np.float64)
        if isinstance(truth, str) or (case.forgives and np.isnan(own).all()):
            continue
        if truth is None:
            if not case.forgives:
                return "a bad row is given a value in silence"
            if not np.isnan(own).all():
                return "a bad row is no NaN row"
        elif own.shape != truth.shape:
            return f"another shape: {own.shape}, not {truth.shape}"
        elif not np.allclose(own, truth, rtol=case.loose, atol=case.loose):
            return "another value"
    return None
