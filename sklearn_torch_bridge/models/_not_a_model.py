"""What is no model, though it may hold one: the error names the way out."""

from typing import Any

from torch import nn

__all__ = ["holds_a_module", "not_a_model"]

_PREPARING = ("tokenizer", "image_processor", "feature_extractor", "processor")


def holds_a_module(given: Any) -> bool:
    """Check for an object with a module in it, as a pipeline or an estimator has."""
    return bool(_modules_of(given))


def not_a_model(given: Any) -> TypeError:
    """Return the error for what neither is a module nor returns one."""
    held = _modules_of(given)
    found = repr(given)
    if held:
        also = next((one for one in _PREPARING if getattr(given, one, None)), None)
        hint = f" with its .{also} as `preprocess`" if also else ""
        others = f", or another of {', '.join(f'.{one}' for one in held[1:])}"
        found = (
            f"a {type(given).__name__}. It holds one: give its .{held[0]}{hint}"
            f"{others if held[1:] else ''}"
        )
    msg = (
        "`model` must be a torch.nn.Module, a bound method of one, a string such as "
        f"'hf:NAME_OR_PATH', or a callable that returns a module, got {found}."
    )
    return TypeError(msg)


def _modules_of(given: Any) -> list[str]:
    """List the attributes of an object that are modules."""
    if isinstance(given, type) or hasattr(given, "__code__"):
        return []
    state = getattr(given, "__dict__", {})
    return [name for name, value in state.items() if isinstance(value, nn.Module)]
