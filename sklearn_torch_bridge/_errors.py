"""Every exception of the package.

::

    TypeError
    └── ConversionError     the values of a tensor cannot be had as an array
        └── OutputError     (also a ValueError) which of several values is meant?
    ValueError
    └── LayerNotRunError    (internal) a layer asked for is not on the model's way
    RuntimeError
    └── ForwardError        the model failed on some rows
    UserWarning
    └── BadRowWarning       rows that could not be used are NaN in the result

Everything else is a plain `TypeError` or `ValueError`.
"""

__all__ = [
    "BadRowWarning",
    "ConversionError",
    "ForwardError",
    "LayerNotRunError",
    "OutputError",
]


class ConversionError(TypeError):
    """The values of an object cannot be had as a NumPy or SciPy array.

    The message says what came and what to call instead.
    """


class OutputError(ConversionError, ValueError):
    """A model's output has several fields, or lacks the one asked for.

    A `TypeError` because such an object is no single tensor, and a `ValueError`
    because another `output` mends it.
    """


class LayerNotRunError(ValueError):
    """A forward pass ended without calling a layer asked for."""


class ForwardError(RuntimeError):
    """The model raised in a forward pass.

    The message names the rows, the submodule that failed and the layer asked for;
    the model's own exception is the cause (``__cause__``).
    """


class BadRowWarning(UserWarning):
    """Some rows could not be used, and are NaN, as ``on_error="nan"`` asks for.

    The message lists the rows, and the first of the reasons.
    """
