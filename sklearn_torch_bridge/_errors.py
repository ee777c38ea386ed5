"""Every exception and warning of the package.

::

    TypeError
    ├── ConversionError     the values of a tensor cannot be had as an array
    │   └── OutputError     (also a ValueError) which of several values is meant?
    └── FingerprintError    nothing tells whether a part is the same as before
    ValueError
    ├── CacheError          a file is no cache, or cannot be used as one
    └── LayerNotRunError    (internal) a layer asked for is not on the model's way
    RuntimeError
    ├── ForwardError        the model failed on some rows
    │   └── NotCompiledError  (internal) the model cannot be compiled
    └── PartitionError      a row of a partition of Dask or Ray failed
    UserWarning
    ├── BadRowWarning       rows that could not be used are NaN in the result
    └── CacheWarning        a cache cannot be read, or not be written to

Everything else is a plain `TypeError` or `ValueError`.
"""

__all__ = [
    "BadRowWarning",
    "CacheError",
    "CacheWarning",
    "ConversionError",
    "FingerprintError",
    "ForwardError",
    "LayerNotRunError",
    "NotCompiledError",
    "OutputError",
    "PartitionError",
]


class CacheError(ValueError):
    """The file of an `EmbeddingCache` is something else, or cannot be used.

    Something else than a cache of this format is left as it is.
    """


class CacheWarning(UserWarning):
    """Rows could not be read from a cache, or not be stored there.

    Results are right; rows are computed again that need not be.
    """


class ConversionError(TypeError):
    """The values of an object cannot be had as a NumPy or SciPy array.

    The message says what came and what to call instead.
    """


class OutputError(ConversionError, ValueError):
    """A model's output has several fields, or lacks the one asked for.

    A `TypeError` because such an object is no single tensor, and a `ValueError`
    because another `output` mends it.
    """


class FingerprintError(TypeError):
    """A part of the settings, or a row, cannot be identified for the cache.

    The message names the part. `cache_key` stands for it: a str that the user changes
    whenever that part would change the result.
    """


class LayerNotRunError(ValueError):
    """A forward pass ended without calling a layer asked for."""


class ForwardError(RuntimeError):
    """The model raised in a forward pass.

    The message names the rows, the submodule that failed and the layer asked for;
    the model's own exception is the cause (``__cause__``).
    """


class NotCompiledError(ForwardError):
    """The model cannot be compiled, or not so that compiling it would pay."""


class PartitionError(RuntimeError):
    """A partition of a Dask collection, or a batch of a Ray Dataset, failed.

    The message names the partition, the first row in it that fails, and the error. Its
    traceback is a note; it is no ``__cause__``, as another process may lack its class.
    """


class BadRowWarning(UserWarning):
    """Some rows could not be used, and are NaN, as ``on_error="nan"`` asks for.

    The message lists the rows, and the first of the reasons.
    """
