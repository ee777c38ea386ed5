"""Draw the weights that a file replaces from a generator of ours, not the caller's."""

from collections.abc import Mapping
from typing import Any

from sklearn_torch_bridge._replica import Generators, operation, redirected
from sklearn_torch_bridge._torch_private import DispatchMode

__all__ = ["OwnDraws"]


class OwnDraws(DispatchMode):
    """In this thread, torch's global generators are neither read nor set.

    Libraries build a module at random before they load its weights. To put the state of
    the generators back would also take back what other threads have drawn meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self._generators = Generators(0)

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation of torch, with a generator of ours where it draws."""
        known, options = operation(function), kwargs or {}
        if known.is_random:
            given = known.bind(args, options)
            if given.get("generator") is None and known.draws(given):
                made = redirected(function, known.seeded, given, self._generators)
                if made is not NotImplemented:
                    return made
        return function(*args, **options)
