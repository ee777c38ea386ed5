"""Every exception and warning of the package.

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
    "TruncationWarning",
]


class CacheError(ValueError):
    """The file of an `EmbeddingCache` is not a cache, or cannot be used as one.

    A file that is not a cache of this format is left as it is.
    """


class CacheWarning(UserWarning):
    """Rows could not be read from a cache, or not be stored there.

    Results are right, but rows are computed again.
    """


class ConversionError(TypeError):
    """The values of an object cannot become a NumPy or SciPy array.

    The message says what came and what to call instead.
    """


class OutputError(ConversionError, ValueError):
    """A model's output has several fields, or lacks the one asked for.

    A `TypeError` because such an object is not one tensor, and a `ValueError` because
    another `output` helps.
    """


class FingerprintError(TypeError):
    """A part of the settings, or a row, cannot be identified for the cache.

    The message names the part. `cache_key` can stand for it: a str that the user
    changes whenever that part changes the result.
    """


class LayerNotRunError(ValueError):
    """A forward pass ended without calling a layer asked for."""


class ForwardError(RuntimeError):
    """The model raised in a forward pass.

    The message names the row (rows, where they fail only together), the submodule that
    failed and the layer asked for; the model's own exception is the cause
    (``__cause__``).
    """


class NotCompiledError(ForwardError):
    """The model cannot be compiled, or compiling it would not make it faster."""


class PartitionError(RuntimeError):
    """A partition of a Dask collection, or a batch of a Ray Dataset, failed.

    The message names the partition, the first row in it that fails, and the error. The
    traceback is a note. There is no ``__cause__``: another process may lack its class.
    """


class BadRowWarning(UserWarning):
    """Some rows could not be used, and are NaN, as ``on_error="nan"`` asks for.

    The message lists the rows, and the first of the reasons.
    """


class TruncationWarning(UserWarning):
    """Some rows were longer than they may be, and were cut.

    The message lists the rows, and says at what maximum, how much was lost, and what to
    write instead (`too_long`).
    """
