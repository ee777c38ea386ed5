"""`TorchFeatureExtractor`: a PyTorch model as a scikit-learn transformer."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn

from sklearn_torch_bridge._checks import (
    check_dtype_name,
    check_options,
    check_positive_int,
    one_of,
)
from sklearn_torch_bridge._devices import check_device
from sklearn_torch_bridge._estimators._callbacks import fit_task, with_callbacks
from sklearn_torch_bridge._estimators._extraction import Extracted, Extraction, Wish
from sklearn_torch_bridge._estimators._transformer import BridgeTransformer
from sklearn_torch_bridge._known import cache_at, remember_fingerprint, told_fingerprint
from sklearn_torch_bridge._pickling import export_values, restore_values
from sklearn_torch_bridge._rows import check_rows
from sklearn_torch_bridge._run import PRECISIONS, How, teller
from sklearn_torch_bridge._storing import read_extractor, write_extractor
from sklearn_torch_bridge._types import Pool, Preprocess, Selector
from sklearn_torch_bridge.cache import EmbeddingCache
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["TorchFeatureExtractor"]

_TWO_AXES = 2
_COMPILES_FROM = (2, 13)  # of torch: names of its compiler that are not public
_TOLD = "_model_fingerprint"  # of a callable: with a warm cache it is not called
_HANDED_ON = ("model", "preprocess", "pooling")  # to clones, however large they are


class TorchFeatureExtractor(BridgeTransformer):
    """Turn rows into the output, or the layers, of a PyTorch model.

    The model runs in eval and inference mode, as a replica that shares its weights:
    the model given is never touched. Clones share it too, so that a grid search costs
    no copies. Nothing is trained and `transform` works before `fit`, which only
    checks its input and learns the names of the columns.

    Parameters
    ----------
    model : torch.nn.Module, str or callable
        What computes the features. A string names a model with what prepares its
        rows: ``"hf:NAME_OR_PATH"`` of transformers, for texts, images or sound (extra
        ``hf``), ``"st:NAME_OR_PATH"`` of sentence-transformers, equal to its `encode`
        (extra ``st``), ``"timm:NAME_OR_PATH"`` (extra ``timm``) and
        ``"torchvision:NAME"`` (extra ``vision``) without their heads,
        ``"torchscript:PATH"`` and ``"export:PATH"``; `models.register` adds others.
        A callable takes no argument and returns a module. Both are loaded at first
        use, once per process, and not pickled. A `SentenceTransformer` takes texts as
        it is, and of a net of skorch its module is taken.
    preprocess : callable or tokenizer, default=None
        A callable takes a list of rows and returns what `model` takes: a tensor, a
        tuple of tensors, or a mapping of keyword arguments, whose ``attention_mask``,
        or ``src_key_padding_mask``, says which tokens are real. A Hugging Face
        tokenizer (texts are truncated at its maximum), processor, image processor or
        feature extractor may be given as it is. None: what `model` brings along.
    layer : str, list of str or None, default=None
        Names of submodules as in ``model.named_modules()``, whose output is taken
        instead of the model's; the forward pass stops after the last of them. A glob
        stands for all that match: ``*`` within one part of a name, ``**`` across the
        dots. Several layers are put side by side, in the order given. A submodule
        that is called more than once gives its first call; ``"name:1"`` is the
        second.
    output : str, int or None, default=None
        Key, attribute or index, where the model (or the layer) returns several
        values. None takes a lone value, ``sentence_embedding`` or
        ``last_hidden_state``; everything else is an error that lists the fields.
    pooling : {"auto", "mean", "max", "last", "cls", "gap", "gmp", "flatten"}, \
            callable or None, default="auto"
        How to make one vector per row; see :mod:`sklearn_torch_bridge.pooling`.
        ``"auto"`` is ``"mean"`` from three axes up. A callable takes ``(hidden,
        mask)``. None keeps all axes (and does not go with `set_output`).
    batch_size : int or "auto", default=32
        Rows per forward pass. ``"auto"`` fills a budget of padded tokens (1,024 on a
        CPU, 32,768 elsewhere) or of values, so that short texts come in large
        batches. A batch that does not fit in memory is tried again in halves, and the
        size that fits is remembered for this model and device.
    device : str, torch.device or list of these, default="auto"
        Where to run. ``"auto"`` is the current accelerator, else the CPU. Rows are
        shared out among the devices of a list as each gets done.
    precision : {"bfloat16", "float16"} or None, default=None
        Run matrix products in half precision (autocast): faster where the hardware
        has it, with results that differ in the third digit.
    compile : bool, default=False
        Run the model as compiled code (`torch.compile`, with its weights as constants
        on a CPU). The first call takes up to a minute, later ones of this process
        begin at once; values agree with the uncompiled ones to about 1e-5. It needs a
        C++ compiler on a CPU, and torch 2.13.
    dtype : dtype or None, default="float32"
        Of the result. None keeps the model's own, half types widened to float32.
    cache : path or EmbeddingCache, default=None
        Where rows are kept that have been through the model, in one file. A row is
        found again by its content and by all that decides what it becomes (weights,
        code, layer, pooling, ...), in any order, any fold, clone or process, so that
        a search sends each row through the model once; see `precompute`.
    cache_key : str, default=None
        Stands in for what no fingerprint can see (a callable that holds an open file,
        say), which is an error without it. Choose another whenever that changes.
    on_error : {"raise", "nan"}, default="raise"
        What to do with a row that cannot be used (a missing text, a value that is not
        finite, one that `preprocess` or the model fails on): name it in an error, or
        make it NaN, go on, and list such rows in one `BadRowWarning`. A bad row costs
        at most ``2 * log2(batch_size)`` more forward passes.
    num_workers : int, default=0
        Threads that prepare the next batches (`preprocess`, padding) while the model
        runs. The order of rows stays.
    verbose : int, default=0
        1 shows a progress bar on standard error (extra ``progress``).

    Attributes
    ----------
    n_features_in_ : int
        Number of columns seen in `fit`, for two-dimensional numeric `X`.
    feature_names_in_ : ndarray of str
        Names of the columns seen in `fit`, for a frame.

    See Also
    --------
    TensorToArray : Convert tensors, without a model.

    Notes
    -----
    `X` may be

    - a numeric array or frame, a sparse matrix (made dense a batch at a time), a torch
      tensor, an array with more axes, a list of arrays that differ in length;
    - a list, Series, array or one-column frame of str: texts, or paths where the model
      takes images or sound;
    - images of Pillow, paths, arrays (height, width, channels) of uint8, for a model
      of images: made upright and RGB, then prepared as the model's processor says;
    - arrays at the rate of the model, mappings with ``array`` and ``sampling_rate``,
      or paths of WAV files, for a model of sound;
    - a mapping of equally long arrays or tensors: keyword arguments of the model;
    - a `torch.utils.data.Dataset` with a length, read when a batch needs it; of an
      item that is a tuple, the first entry;
    - with `preprocess`, a list of anything.

    Floats are cast to the dtype of the model; integers stay integers. `X` is only
    read, also by modules that work in place.

    Texts are sorted by their number of tokens, so that batches need little padding,
    equal texts run once, and rows come back in the order they were given in. The same
    row in another batch gives the same vector up to the rounding of the model's
    kernels.

    The cost is one forward pass a row, up to the last layer asked for. The result is
    allocated once. For each call the tree of modules is copied without its weights,
    in about 30 microseconds a module.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_torch_bridge import TorchFeatureExtractor
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    >>> X = np.eye(4)
    >>> TorchFeatureExtractor(model, layer="0").fit_transform(X).shape
    (4, 8)
    >>> pipe = make_pipeline(TorchFeatureExtractor(model), LogisticRegression())
    >>> pipe.fit(X, [0, 0, 1, 1]).predict(X)
    array([0, 0, 1, 1])
    """

    def __init__(
        self,
        model: nn.Module | str | Callable[[], nn.Module],
        *,
        preprocess: Preprocess | Any = None,
        layer: str | Sequence[str] | None = None,
        output: Selector = None,
        pooling: str | Pool | None = "auto",
        batch_size: int | Literal["auto"] = 32,
        device: str | torch.device | Sequence[str | torch.device] = "auto",
        precision: Literal["bfloat16", "float16"] | None = None,
        compile: bool = False,  # noqa: A002 - PyTorch's word
        dtype: DTypeLike | None = "float32",
        cache: str | os.PathLike[str] | EmbeddingCache | None = None,
        cache_key: str | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        num_workers: int = 0,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.preprocess = preprocess
        self.layer = layer
        self.output = output
        self.pooling = pooling
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.compile = compile
        self.dtype = dtype
        self.cache = cache
        self.cache_key = cache_key
        self.on_error = on_error
        self.num_workers = num_workers
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check `X` and learn the names of the columns, by running the first row.

        Parameters
        ----------
        X : array-like or sequence of length n_samples
            The rows; see the notes of the class.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : TorchFeatureExtractor
            Fitted.
        """
        extraction = self._extraction(X, reset=True)
        with fit_task(self, X, y):
            self._learn(extraction.of_first_row())
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Send each row through the model.

        Parameters
        ----------
        X : array-like or sequence of length n_samples
            The rows; see the notes of the class.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features_out)
            One vector per row, in the order of `X`; with ``pooling=None`` the
            model's output with all its axes. A frame where `set_output` asks for it.
        """
        extraction = self._extraction(X, reset=False)
        if not extraction.n_samples:
            return self._of_no_rows(extraction)
        learnt = getattr(self, "_no_rows", None)
        return extraction.to_array(verbose=self.verbose, like=learnt).array

    @with_callbacks
    def fit_transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """Fit and transform in one pass over the rows.

        Parameters
        ----------
        X : array-like or sequence of length n_samples
            The rows; see the notes of the class.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features_out)
            What `transform` returns.
        """
        extraction = self._extraction(X, reset=True)
        with fit_task(self, X, y, n_samples=extraction.n_samples) as also:
            extracted = extraction.to_array(verbose=self.verbose, also=also)
            self._learn(extracted)
        return extracted.array

    def transform_to_file(self, X: Any, path: str | os.PathLike[str]) -> NDArray[Any]:
        """Send each row through the model, into a file that may outgrow memory.

        A run that was killed leaves ``path.part`` and ``path.progress`` behind; the
        same call again repeats nothing that was finished. The file has its name only
        when it is whole. If it is there, made of the same rows with the same settings,
        it is returned at once.

        Parameters
        ----------
        X : array-like or sequence of length n_samples
            The rows; see the notes of the class.
        path : str or path-like
            Of the ``.npy`` file to write, in a folder that exists.

        Returns
        -------
        Z : numpy.memmap of shape (n_samples, n_features_out)
            The rows in the order of `X`, mapped read-only.

        Raises
        ------
        FileExistsError
            If `path` is something else, or of other rows or settings, was changed
            since it was finished, or is being written by another run.
        OSError
            If the disk has no room for the rows, before they are computed.
        FingerprintError
            If the model or a setting cannot be identified, and there is no
            `cache_key`.

        Notes
        -----
        Each finished row is marked with its checksum in ``path.progress``, 8 bytes a
        row, by which a finished file is checked when it is asked for again. Memory
        holds the batch under way, and of texts their token ids.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> import torch
        >>> from sklearn_torch_bridge import TorchFeatureExtractor
        >>> extractor = TorchFeatureExtractor(torch.nn.ReLU())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "Z.npy")
        ...     Z = extractor.transform_to_file(np.array([[-1.0, 2.0]]), path)
        ...     print(np.load(path))
        [[0. 2.]]
        """
        extraction = self._extraction(X, reset=False)
        if not extraction.n_samples:
            msg = "`X` must hold a row: a file without rows cannot be mapped."
            raise ValueError(msg)
        learnt = getattr(self, "_no_rows", None)
        return extraction.to_file(Path(path), verbose=self.verbose, like=learnt)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of what `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Only checked against the names seen in `fit`.

        Returns
        -------
        feature_names_out : ndarray of str objects
            ``torchfeatureextractor<i>``; with several layers ``<layer>_<i>``.

        Raises
        ------
        NotFittedError
            Before `fit`, which learns how many columns there are.
        AttributeError
            If the rows have several axes (``pooling=None``).
        """
        if hasattr(self, "_no_rows") and not hasattr(self, "_n_features_out"):
            # The wording makes `set_output` go on without names.
            msg = (
                f"{type(self).__name__} does not provide get_feature_names_out for "
                f"rows of shape {self._no_rows.shape[1:]}. Take another `pooling` than "
                "None."
            )
            raise AttributeError(msg)
        names: NDArray[Any] = super().get_feature_names_out(input_features)
        if len(self._layer_widths) < 2:  # noqa: PLR2004 - several
            return names
        return np.array(
            [
                f"{layer}_{column}"
                for layer, width in self._layer_widths.items()
                for column in range(width)
            ],
            dtype=object,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Store this extractor as plain data, in a folder of its own.

        ``config.json`` has the parameters and what `fit` learnt; where `model` is a
        module, ``model.safetensors`` has its parameters and buffers. There is no
        pickle in it, and nothing in it is ever run.

        Parameters
        ----------
        folder : path-like
            A new or an empty folder, or one that holds an extractor saved before. That
            is replaced in one step: if this is interrupted, `load` gives the old one
            or the new one. Only one process may save to a folder at a time.

        Raises
        ------
        TypeError
            If a parameter is made of anything but str, numbers, dtypes, devices and
            lists of them. Objects given as `model`, `preprocess` and `pooling` are not
            stored, only named; `load` takes them again.
        ValueError
            If the folder holds anything else, or if the state of the module holds
            more than dense tensors.
        OSError
            If the disk is full, or may not be written. The folder stays as it was.
        ImportError
            If `model` is a module and the package safetensors is missing (extra
            ``safetensors``).

        See Also
        --------
        load : Make the extractor again.

        Notes
        -----
        `cache` is left out: it is a place on this machine, and changes no result. Of
        weights that are tied, one copy is stored. Anybody who can write to the folder
        can replace all of it: the digests tell damage and mistakes, not forgery.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> import torch
        >>> from sklearn_torch_bridge import TorchFeatureExtractor
        >>> build = lambda: torch.nn.Linear(4, 2)
        >>> X = np.eye(4)
        >>> extractor = TorchFeatureExtractor(build(), batch_size=16).fit(X)
        >>> with TemporaryDirectory() as parent:
        ...     extractor.save(Path(parent, "saved"))
        ...     print(*sorted(path.name for path in Path(parent, "saved").iterdir()))
        ...     loaded = TorchFeatureExtractor.load(Path(parent, "saved"), build)
        config.json model.safetensors
        >>> np.array_equal(loaded.transform(X), extractor.transform(X))
        True
        """
        write_extractor(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        model: nn.Module | str | Callable[[], nn.Module] | None = None,
        *,
        preprocess: Preprocess | Any = None,
        pooling: Pool | None = None,
    ) -> Self:
        """Make an extractor of what `save` has stored.

        Parameters
        ----------
        folder : path-like
            The folder given to `save`.
        model : torch.nn.Module, str or callable, default=None
            The architecture, where a module was saved: a callable that builds it, or a
            module, of which a copy is filled with the weights saved. Where a callable
            was saved: that callable, whose module must have the weights it had. Where
            a string was saved: None, or a string to take in its place; one that names
            a program (``"torchscript:…"``, ``"export:…"``) must be given again.
        preprocess : callable or tokenizer, default=None
            The one given to the extractor saved, if any.
        pooling : callable, default=None
            The one given to the extractor saved, unless it was a name.

        Returns
        -------
        extractor : TorchFeatureExtractor
            As it was when saved; fitted, if it was.

        Raises
        ------
        ValueError
            If the folder holds no extractor, if its files were changed or belong to
            another, if a name, shape, dtype or value of the weights differs, or if an
            object that was not stored is not given.
        TypeError
            If `model` is no module and no callable that builds one.

        See Also
        --------
        save : Store an extractor.
        """
        given = {"model": model, "preprocess": preprocess, "pooling": pooling}
        extractor: Self = read_extractor(cls, folder, given)
        return extractor

    def __sklearn_clone__(self) -> Self:
        # A shell without them is cloned as scikit-learn does it, which then is handed
        # the originals: never a deep copy, and nothing that a thread could see.
        shell: Any = object.__new__(type(self))
        vars(shell).update(vars(self), **dict.fromkeys(_HANDED_ON))
        clone: Self = super(TorchFeatureExtractor, shell).__sklearn_clone__()
        for name in _HANDED_ON:
            setattr(clone, name, getattr(self, name))
        return clone

    def __getstate__(self) -> dict[str, Any]:
        state = export_values(super().__getstate__())
        state[_TOLD] = told_fingerprint(self.model)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        told = state.pop(_TOLD, None)
        super().__setstate__(restore_values(state))
        if told is not None:
            remember_fingerprint(self.model, told)

    def _extraction(self, X: Any, *, reset: bool) -> Extraction:
        wish = self._wish()
        return Extraction(self, wish, check_rows(self, X, reset=reset))

    def _wish(self) -> Wish:
        """Check all options."""
        check_options(
            self,
            {
                "preprocess": _check_preprocess,
                "output": _check_output,
                "batch_size": _check_batch_size,
                "precision": one_of(None, *PRECISIONS),
                "compile": _check_compile,
                "cache": _check_cache,
                "cache_key": _check_cache_key,
                "on_error": one_of("raise", "nan"),
                "num_workers": _check_count,
                "verbose": _check_count,
            },
        )
        container = self._container()
        if self.pooling is None and container != "default":
            msg = (
                "`pooling` must not be None with set_output(transform="
                f"{container!r}): a frame has two axes."
            )
            raise ValueError(msg)
        dtype = check_dtype_name("dtype", self.dtype)
        if self.on_error == "nan" and dtype is not None and dtype.kind not in "fc":
            msg = f"`dtype` must hold NaN for `on_error`='nan', got {self.dtype!r}."
            raise ValueError(msg)
        return Wish(
            layer=self.layer,
            output=self.output,
            pool=_check_pooling("pooling", self.pooling),
            dtype=dtype,
            how=How(
                devices=_check_devices(self.device),
                batch_size=_check_batch_size("batch_size", self.batch_size),
                precision=self.precision,
                compile=bool(self.compile),
                say=teller(label=type(self).__name__, verbose=self.verbose),
                on_error=self.on_error,
                num_workers=int(self.num_workers),
            ),
            preprocess=self.preprocess,
            store=_check_cache("cache", self.cache),
            cache_key=self.cache_key,
        )

    def _learn(self, extracted: Extracted) -> None:
        self._layer_widths = dict(zip(extracted.layers, extracted.widths, strict=False))
        self._no_rows = np.empty_like(extracted.array[:0])
        if extracted.array.ndim == _TWO_AXES:
            self._n_features_out = extracted.array.shape[1]
        elif hasattr(self, "_n_features_out"):
            del self._n_features_out

    def _of_no_rows(self, extraction: Extraction) -> NDArray[Any]:
        """Give the result for no rows: as learnt, or as of a made-up row."""
        if hasattr(self, "_no_rows"):
            learnt: NDArray[Any] = self._no_rows.copy()
            return learnt
        return extraction.of_no_rows().array


def _check_cache(name: str, value: Any) -> EmbeddingCache | None:
    if value is None or isinstance(value, EmbeddingCache):
        return value
    if isinstance(value, (str, os.PathLike)):
        return cache_at(value)
    msg = f"`{name}` must be a path, an EmbeddingCache or None, got {value!r}."
    raise TypeError(msg)


def _check_cache_key(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        msg = f"`{name}` must be a str or None, got {value!r}."
        raise TypeError(msg)


def _check_batch_size(name: str, value: Any) -> int | Literal["auto"]:
    if isinstance(value, str) and value == "auto":
        return "auto"
    try:
        return check_positive_int(name, value)
    except (TypeError, ValueError) as error:
        msg = f"`{name}` must be an int of at least 1 or 'auto', got {value!r}."
        raise type(error)(msg) from None


def _check_compile(name: str, value: Any) -> None:
    one_of(False, True)(name, value)
    version: Any = torch.__version__  # which compares with tuples
    if value and version < _COMPILES_FROM:
        msg = (
            f"`{name}` must be False with torch {version}: it needs torch "
            f"{_COMPILES_FROM[0]}.{_COMPILES_FROM[1]}."
        )
        raise ValueError(msg)


def _check_devices(device: Any) -> tuple[Any, ...]:
    devices = tuple(device) if isinstance(device, (list, tuple)) else (device,)
    if not devices:
        msg = "`device` must name at least one device, got an empty list."
        raise ValueError(msg)
    for one in devices:
        check_device(one)
    return devices


def _check_output(name: str, value: Any) -> Selector:
    if value is None or (isinstance(value, (str, int)) and not isinstance(value, bool)):
        return value
    msg = f"`{name}` must be a key, an attribute, an index or None, got {value!r}."
    raise TypeError(msg)


def _check_pooling(name: str, value: Any) -> Pool | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value in POOLINGS:
            return POOLINGS[value]
        known = ", ".join(map(repr, POOLINGS))
        msg = f"`{name}` must be one of {known}, a callable or None, got {value!r}."
        raise ValueError(msg)
    if callable(value):
        pool: Pool = value
        return pool
    msg = f"`{name}` must be a name, a callable or None, got {value!r}."
    raise TypeError(msg)


def _check_preprocess(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        msg = f"`{name}` must be a callable, a tokenizer or None, got {value!r}."
        raise TypeError(msg)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, (int, np.integer)) or value < 0:
        msg = f"`{name}` must be an int of at least 0, got {value!r}."
        raise ValueError(msg)
