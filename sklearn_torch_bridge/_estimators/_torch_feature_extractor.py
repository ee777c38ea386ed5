"""`TorchFeatureExtractor`: a PyTorch model as a scikit-learn transformer."""

import os
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn

from sklearn_torch_bridge._estimators._base_transformer import BridgeTransformer
from sklearn_torch_bridge._estimators._callbacks import fit_task, with_callbacks
from sklearn_torch_bridge._estimators._extracted import Extracted, no_rows
from sklearn_torch_bridge._estimators._extraction import plan_extraction
from sklearn_torch_bridge._estimators._settings_of_fit import (
    are_the_same,
    parameters_of_fit,
    settings_of_fit,
)
from sklearn_torch_bridge._known import (
    known_fingerprint,
    known_told,
    remember_fingerprint,
)
from sklearn_torch_bridge._pickling import export_values, restore_values
from sklearn_torch_bridge._storing import read_extractor, write_extractor
from sklearn_torch_bridge._types import Pool, Preprocess, Selector, TooLong
from sklearn_torch_bridge.cache import EmbeddingCache

__all__ = ["TorchFeatureExtractor"]

_TWO_AXES = 2
_FINGERPRINT = "_model_fingerprint"  # of a callable: with a warm cache it is not called
_TOLD = "_told_of_model"
_SETTINGS = "_settings_of_fit"
_OF_WIDTHS = ("_no_rows", "_layer_widths", "_n_features_out")
_HANDED_ON = ("model", "preprocess", "pooling")  # to clones, however large they are


class TorchFeatureExtractor(BridgeTransformer):
    """Turn rows into the output, or the layers, of a PyTorch model.

    The model runs in eval and inference mode, as a replica that shares its weights:
    the model given is never touched, and clones share it. Nothing is trained;
    `transform` works before `fit`, which only learns the names of the columns.

    Parameters
    ----------
    model : torch.nn.Module, bound method of one, str or callable
        What computes the features. A method (``clip.encode_image``), or a partial of
        it or of a module, is run as the forward of its module. A string names a model
        with what prepares its rows: ``"hf:NAME_OR_PATH"`` of transformers, for texts,
        images or sound (extra ``hf``), ``"st:NAME_OR_PATH"`` of sentence-transformers,
        equal to its `encode` (extra ``st``), ``"timm:NAME_OR_PATH"`` (extra ``timm``)
        and ``"torchvision:NAME"`` (extra ``vision``) without their heads,
        ``"torchscript:PATH"`` and ``"export:PATH"``; `models.register` adds others.
        A callable takes no argument and returns a module. Both are loaded at first
        use, once per process, and not pickled; and loaded again once a file of theirs,
        or what the callable would find, is another (see Notes). A
        `SentenceTransformer` takes texts as it is, and of a net of skorch its module
        is taken.
    preprocess : callable or tokenizer, default=None
        A callable takes a list of rows and returns what `model` takes: a tensor, a
        tuple of tensors, or a mapping of keyword arguments, whose ``attention_mask``,
        or ``src_key_padding_mask``, says which tokens are real. A Hugging Face
        tokenizer (for longer texts see `too_long`), processor, image processor or
        feature extractor may be given as it is. None: what `model` brings along.
    prompt : str or None, default=None
        Put before each text, and tokenized with it, for models that were trained so
        (E5, BGE, Nomic, instructor). A key of the model's prompts
        (sentence-transformers' ``"query"`` or ``"document"``) stands for that prompt;
        another text must then have a blank or a colon, so that no misspelt key goes
        unnoticed. ``""`` is none, and None the model's default. Its tokens enter
        `pooling`, unless the model says otherwise (``include_prompt=False``). It does
        not choose the route of a model that has several (`encode_query`).
    max_length : int or None, default=None
        Tokens that a text may have, its special tokens and the prompt counted; values
        that a sound may have, at the rate of the model; or the length of an array in a
        list of arrays, along its first axis. Not above the maximum of the model, which
        None stands for: that of the tokenizer or, where smaller or alone, of the
        model's positions; of `max_seq_length` for sentence-transformers; of sound, the
        length that the feature extractor takes. For other rows it must be None.
    too_long : {"warn", "cut", "windows", "raise"} or Windows, default="warn"
        What becomes of a row that is longer. ``"warn"`` cuts it as its library does,
        with one `TruncationWarning` a call, which names such rows and how much was
        lost; in a search or cross-validation, once a setting and process. ``"cut"``
        says nothing. ``"raise"`` is a ValueError that names the first such row, before
        any is run; with ``on_error="nan"`` they are NaN. A cache and a file keep what
        was cut, and warn again. What your own `preprocess` cuts, nobody knows.
        ``"windows"``, or `Windows` with an overlap, reads all of it in parts of at most
        `max_length`, each with the special tokens and the prompt. The row's vector is
        the mean of theirs, weighted by the tokens of each, which are pooled or made by
        the model; for ``"max"`` the maximum, for ``"last"`` the last; ``pooling=None``
        puts the tokens of all windows, with their special ones, end to end, those of an
        overlap once. Not for ``"flatten"``, ``"gap"`` and ``"gmp"``.
    layer : str, list of str or None, default=None
        Names of submodules as in ``model.named_modules()``, whose output is taken
        instead of the model's; the forward pass stops after the last of them. A glob
        stands for all that match; ``*`` stays within one part of a name, ``**`` does
        not. Several layers are put side by side, in the order given. Of a submodule
        that is called more than once, the first call is taken; ``"name:1"`` is the
        second.
    output : str, int, tuple of these or None, default=None
        Key, attribute or index, where the model (or the layer) returns several
        values. A tuple leads to what is nested, as ``(1, 0)`` to the ``h`` of an LSTM,
        which returns ``(out, (h, c))``. None takes a lone value,
        ``sentence_embedding`` or ``last_hidden_state``; everything else is an error
        that lists the fields.
    pooling : {"auto", "mean", "max", "last", "cls", "gap", "gmp", "flatten"}, \
            callable or None, default="auto"
        How to make one vector per row; see :mod:`sklearn_torch_bridge.pooling`.
        ``"auto"`` is the pooling that the loaded model brings, for its output and for
        its layers, else ``"mean"``; every other name means itself. A callable takes
        ``(hidden, mask)``. None keeps all axes (and does not go with `set_output`):
        then texts, and rows that differ in length, have an array each (see
        `transform`).
    truncate_dim : int or None, default=None
        Keep so many of the first columns, of several layers of each, for a model
        whose vectors are made for that (Matryoshka); with ``pooling=None``, of each
        token. Where the model brings its output to length 1, that is done again. A
        `cache` keeps whole vectors: a search over widths runs each row once.
    batch_size : int or "auto", default=32
        Rows per forward pass. ``"auto"`` fills a budget of padded tokens (1,024 on a
        CPU, 32,768 elsewhere) or of values, so that short texts come in large
        batches. A batch that does not fit in memory is tried again in halves, and the
        size that fits is remembered for this model and device; after some batches of
        it (64 at first, twice as many after each failure) a larger one is tried.
    device : str, torch.device or list of these, default="auto"
        Where to run. ``"auto"`` is the current accelerator, else the CPU. Rows are
        shared out among the devices of a list as each gets done.
    precision : {"bfloat16", "float16"} or None, default=None
        Run matrix products in half precision (autocast): faster where the hardware
        has it, with results that differ in the third digit.
    compile : bool, default=False
        Run the model as compiled code (`torch.compile`, with its weights as constants
        on a CPU). The first call of a process takes up to a minute; values agree with
        the uncompiled ones to about 1e-5. Needs torch 2.13, on a CPU a C++ compiler.
    dtype : dtype or None, default="float32"
        Of the result. None keeps the model's own, half types widened to float32.
    cache : path or EmbeddingCache, default=None
        One file with the rows that have been through the model. A row is found again
        by its content and by all that decides what it becomes (weights, code, layer,
        pooling, ...), in any order, fold, clone or process, so that a search sends
        each row through the model once; see `precompute`.
    cache_key : str, default=None
        Stands in for what no fingerprint can see (a callable that holds an open file,
        say), which is an error without it. Choose another whenever that changes.
    on_error : {"raise", "nan"}, default="raise"
        What to do with a row that cannot be used (a missing text, a value that is not
        finite, one that `preprocess`, the model or `pooling` fails on, a result that
        `dtype` cannot hold): name it in an error, or make it NaN, go on, and list such
        rows in one `BadRowWarning`. A bad row costs at most ``2 * log2(batch_size)``
        more forward passes. Where no row has passed yet, also in `fit`, and up to eight
        from all over `X` fail alike, it is an error: that is no row's fault.
    num_workers : int, default=0
        Threads that prepare the next batches (`preprocess`, padding) as the model runs.
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
      tensor, an array with more axes, a list of arrays, or of lists of numbers, that
      differ in shape;
    - a list, Series, array or one-column frame of str: texts, or paths where the model
      takes images or sound;
    - images of Pillow, paths, arrays (height, width, channels) of uint8, for a model
      of images: made upright and RGB, then prepared as the model's processor says;
    - for a model of sound, arrays at its rate, mappings with ``array`` and
      ``sampling_rate`` (of datasets also with ``bytes`` and ``path``), or paths: of WAV
      files, with the extra ``sound`` also of FLAC, OGG, MP3 and others. Integers are
      divided by their range, several channels averaged where the model takes one, and
      other rates resampled (extra ``sound``), with one warning a call for rows whose
      rate is below the model's;
    - a mapping of equally long arrays or tensors: keyword arguments of the model;
    - a `torch.utils.data.Dataset` with a length, read when a batch needs it; of an
      item that is a tuple, the first entry;
    - with `preprocess`, a list of anything.

    A callable is called again once what its code finds has changed: closures, globals,
    arguments of partials, attributes of objects and classes, however deep, variables of
    the environment, and files whose names are texts or paths among these. Not seen:
    names and texts that code puts together when it runs, the network, the inside of
    libraries, of containers with over 1,000 items and of large NumPy arrays, and what
    lies beyond the nearest 2,000 values. Make a new callable where such things change.

    Floats are cast to the dtype of the model; integers stay integers. `X` is only
    read, also by modules that work in place.

    Texts are sorted by their number of tokens, so that batches need little padding,
    equal texts run once, and rows come back in the order given. A row in another batch
    gives the same vector up to the rounding of the model's kernels: once for each model
    some rows run alone and beside longer ones, and where that changes their vectors
    (a mask that the model does not heed), rows are not padded to share a batch.

    A layer may have its rows on any axis (a recurrent layer without `batch_first`): the
    axis that follows the number of rows is moved to the front, also for a callable
    `pooling`. Where sizes leave it open, as with as many rows as tokens, one row is
    run two or three times over to see it, once a call. Where none follows, it is an
    error; a callable then gets the value as it is.

    The cost is one forward pass a row, up to the last layer asked for, and for each
    call a copy of the tree of modules without weights (about 30 microseconds a module).

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

    The first columns of each vector:

    >>> TorchFeatureExtractor(model, truncate_dim=2).fit_transform(X).shape
    (4, 2)

    A prompt of the model before each text, of which this one counts words:

    >>> from sentence_transformers import SentenceTransformer
    >>> from sentence_transformers.sentence_transformer.modules import BoW
    >>> words, prompts = BoW(["query", "sea", "train"]), {"query": "query: "}
    >>> model = SentenceTransformer(modules=[words], prompts=prompts, device="cpu")
    >>> TorchFeatureExtractor(model, prompt="query").transform(["by the sea", "train"])
    array([[1., 1., 0.],
           [1., 0., 1.]], dtype=float32)
    """

    _for_columns = "Take another `pooling` than None."

    def __init__(
        self,
        model: nn.Module | str | Callable[[], nn.Module],
        *,
        preprocess: Preprocess | Any = None,
        prompt: str | None = None,
        max_length: int | None = None,
        too_long: TooLong = "warn",
        layer: str | Sequence[str] | None = None,
        output: Selector = None,
        pooling: str | Pool | None = "auto",
        truncate_dim: int | None = None,
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
        self.prompt = prompt
        self.max_length = max_length
        self.too_long = too_long
        self.layer = layer
        self.output = output
        self.pooling = pooling
        self.truncate_dim = truncate_dim
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
        extraction = plan_extraction(self, X, reset=True)
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
            One vector per row, in the order of `X`; with ``pooling=None`` all axes of
            the model's output. A frame where `set_output` asks for it.

        Notes
        -----
        With ``pooling=None`` the result is an array of objects, of shape (n_samples,),
        for texts, for arrays that differ in shape, and wherever a mask leaves rows of
        different length: each is an array of its own, (n_tokens, n_features), of its
        real tokens alone, special ones among them. Several layers are put side by side
        token by token. A row that could not be used is one token of NaN. Another
        extractor takes such rows as they are; tables and files cannot hold them.
        Vectors stay one array.
        """
        extraction = plan_extraction(self, X, reset=False)
        learnt = self._learnt_rows()
        if not extraction.n_samples:
            if learnt is None or self._learnt_is_old():
                return extraction.of_no_rows().array
            return no_rows(learnt)
        return extraction.to_array(
            verbose=self.verbose, like=learnt, is_old=self._learnt_is_old
        ).array

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
        extraction = plan_extraction(self, X, reset=True)
        with fit_task(self, X, y, n_samples=extraction.n_samples) as also:
            extracted = extraction.to_array(verbose=self.verbose, also=also)
            self._learn(extracted)
        return extracted.array

    def transform_to_file(self, X: Any, path: str | os.PathLike[str]) -> NDArray[Any]:
        """Send each row through the model, into a file that may outgrow memory.

        A run that was killed leaves ``path.part`` and ``path.progress``; the same call
        again repeats nothing that was finished. The file has its name only when it is
        whole. If it is there, of the same rows and settings, it is returned at once.

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
            If `path` is something else, of other rows or settings, changed since it
            was finished, or being written by another run.
        OSError
            If the disk has no room for the rows, before they are computed.
        FingerprintError
            If the model or a setting cannot be identified, without a `cache_key`.

        Notes
        -----
        ``path.progress`` has a checksum of each finished row, 8 bytes a row, by which
        a finished file is checked when it is asked for again. Memory holds the batch
        under way, and of texts their token ids.

        Examples
        --------
        >>> import tempfile
        >>> import torch
        >>> from sklearn_torch_bridge import TorchFeatureExtractor
        >>> extractor = TorchFeatureExtractor(torch.nn.ReLU())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     extractor.transform_to_file([[-1.0, 2.0]], f"{folder}/Z.npy")
        memmap([[0., 2.]], dtype=float32)
        """
        extraction = plan_extraction(self, X, reset=False)
        if not extraction.n_samples:
            msg = "`X` must hold a row: a file without rows cannot be mapped."
            raise ValueError(msg)
        return extraction.to_file(
            Path(path),
            verbose=self.verbose,
            like=self._learnt_rows(),
            is_old=self._learnt_is_old,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Store this extractor as data, without pickle, in a folder of its own.

        ``config.json`` has the parameters and what `fit` learnt; where `model` is a
        module, ``model.safetensors`` has its parameters and buffers. Nothing in the
        folder is ever run.

        Parameters
        ----------
        folder : path-like
            A new or an empty folder, or one with an extractor saved before, which is
            replaced in one step: after an interruption `load` gives the old one or the
            new one. Only one process may save to a folder at a time.

        Raises
        ------
        TypeError
            If a parameter is made of anything but str, numbers, dtypes, devices and
            lists of them. Objects given as `model`, `preprocess` and `pooling` are not
            stored, only named; `load` takes them again.
        ValueError
            If the folder holds anything else, or the module more than dense tensors.
        OSError
            If the disk is full, or may not be written. The folder stays as it was.
        ImportError
            If `model` is a module and safetensors is missing (extra ``safetensors``).

        See Also
        --------
        load : Make the extractor again.

        Notes
        -----
        `cache` is left out: it is a place on this machine, and changes no result. Of
        weights that are tied, one copy is stored. Anybody who can write to the folder
        can replace all of it: the digests show damage and mistakes, not forgery.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sklearn_torch_bridge import TorchFeatureExtractor
        >>> build = lambda: torch.nn.Linear(4, 2)
        >>> extractor = TorchFeatureExtractor(build(), batch_size=16).fit(np.eye(4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     extractor.save(folder)
        ...     print(*sorted(os.listdir(folder)))
        ...     loaded = TorchFeatureExtractor.load(folder, build)
        config.json model.safetensors
        >>> np.array_equal(loaded.transform(np.eye(4)), extractor.transform(np.eye(4)))
        True
        """
        write_extractor(self, folder, left_out=self._out_of_date())

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
            If the folder holds no extractor, its files were changed or belong to
            another, a name, shape, dtype or value of the weights differs, or an object
            that was not stored is not given.
        TypeError
            If `model` is no module and no callable that builds one.

        See Also
        --------
        save : Store an extractor.
        """
        given = {"model": model, "preprocess": preprocess, "pooling": pooling}
        extractor: Self = read_extractor(cls, folder, given)
        extractor._note_settings()
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
        left_out = {_SETTINGS, *self._out_of_date()}
        state = export_values(super().__getstate__())
        state = {name: value for name, value in state.items() if name not in left_out}
        key = self.cache_key
        state[_FINGERPRINT] = known_fingerprint(self.model, cache_key=key)
        state[_TOLD] = known_told(self.model)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        known, told = state.pop(_FINGERPRINT, None), state.pop(_TOLD, None)
        # A pickle of before a parameter was there has none of it.
        given = signature(type(self)).parameters.values()
        before = {
            one.name: one.default for one in given if one.default is not one.empty
        }
        state = {**before, **restore_values(state)}
        super().__setstate__(state)
        self._note_settings()
        if known is not None:
            remember_fingerprint(self.model, known, told)

    def _note_settings(self) -> None:
        """Note the settings under which what was learnt holds."""
        if hasattr(self, "_no_rows"):
            self._settings_of_fit = settings_of_fit(self)

    def _learnt_rows(self) -> NDArray[Any] | None:
        """Return no rows of the width that `fit` learnt, under these parameters."""
        learnt: NDArray[Any] | None = getattr(self, "_no_rows", None)
        if learnt is None:
            return None
        before, now = self._settings_of_fit[:-1], parameters_of_fit(self)
        return learnt if are_the_same(before, now) else None

    def _learnt_is_old(self) -> bool:
        if not hasattr(self, "_no_rows"):
            return False
        return not are_the_same(self._settings_of_fit, settings_of_fit(self))

    def _out_of_date(self) -> tuple[str, ...]:
        """Return the names of what is not to be stored."""
        return _OF_WIDTHS if self._learnt_is_old() else ()

    def _learnt_row_shape(self) -> tuple[int, ...] | None:
        return self._no_rows.shape[1:] if hasattr(self, "_no_rows") else None

    def _column_names(self, input_features: Any) -> Any:
        names, widths = super()._column_names(input_features), self._layer_widths
        if len(widths) <= 1:
            return names
        by_layer = [f"{layer}_{i}" for layer in widths for i in range(widths[layer])]
        return np.array(by_layer, dtype=object)

    def _learn(self, extracted: Extracted) -> None:
        self._layer_widths = dict(zip(extracted.layers, extracted.widths, strict=False))
        self._no_rows = extracted.learnt
        if extracted.array.ndim == _TWO_AXES:
            self._n_features_out = extracted.array.shape[1]
        elif hasattr(self, "_n_features_out"):
            del self._n_features_out
        self._note_settings()
