"""A call, planned: which layers are read off the model, how, and under which keys.

All is found when first asked for: with a warm cache no model need be loaded.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from sklearn_torch_bridge._estimators._extractor_options import Request
from sklearn_torch_bridge._estimators._long_rows import LongRows, setting_of
from sklearn_torch_bridge._known import Steadiness, is_received, told_of_model
from sklearn_torch_bridge._replica import Reading, check_layers, literal_names
from sklearn_torch_bridge._results import FirstColumns
from sklearn_torch_bridge._rows import CheckedRows, Receiver
from sklearn_torch_bridge.models import (
    LoadedModel,
    Told,
    load_model,
    text_of_prompt,
)
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["Plan"]


class Plan:
    """What one pass reads, for a request and `others` of the same model and rows."""

    def __init__(self, request: Request, others: Sequence[Request] = ()) -> None:
        self.request = request
        self._others = others

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, with what it brings along."""
        return load_model(self.request.model)

    @cached_property
    def receiver(self) -> Receiver:
        """What batches are prepared for."""
        request = self.request
        return Receiver(
            self.loaded,
            request.preprocess,
            request.device,
            compiles=request.run.compile,
            forgiving=request.run.on_error == "nan",
            prompt=request.prompt,
            max_length=request.max_length,
            windows=request.windows,
        )

    def long_rows(self, rows: CheckedRows) -> LongRows:
        """Return what hears of the rows of a call that are too long."""
        asked = self.request
        setting = partial(
            setting_of,
            *(asked.model, asked.preprocess, asked.prompt, asked.max_length),
            *(asked.layer, asked.output, asked.pool, asked.truncate_dim),
        )
        forgives = asked.run.on_error == "nan"
        return LongRows(rows, asked.too_long, forgives=forgives, setting=setting)

    @cached_property
    def _told(self) -> Told | None:
        """What is told of the model, without loading it where that can be."""
        return told_of_model(self.request.model)

    @cached_property
    def first_columns(self) -> FirstColumns | None:
        """What keeps the first columns of vectors that go into the result."""
        request = self.request
        if request.truncate_dim is None:
            return None
        own, pool = not self.layers, request.pool
        is_ours = pool is None or pool in POOLINGS.values()
        is_vector = is_ours and pool is not POOLINGS["flatten"]
        normalizes = own and is_vector
        if normalizes:
            told, is_pooled = self._told or self.loaded.told, pool is not None
            normalizes = told.has_length_1(request.output, is_pooled=is_pooled)
        return FirstColumns(request.truncate_dim, normalizes, self.layers)

    @cached_property
    def _prompt_in_keys(self) -> Any:
        """What counts of the prompt: its text, or what is written, to load no model."""
        prompt, told = self.request.prompt, self._told
        return (prompt,) if told is None else text_of_prompt(prompt, told)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The layers asked for; none: the model's output."""
        return self._layers_of(self.request)

    def _layers_of(self, request: Request) -> tuple[str, ...]:
        # A cache may know rows under a plain name: then no model need be loaded.
        plain = () if request.store is None else literal_names(request.layer)
        if plain or request.layer is None:
            return plain
        return check_layers(self.loaded.module, request.layer)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """What is read, as asked for: keys are made of this."""
        readings = list(self.request.readings(self.layers))
        for request in self._others:
            readings += request.readings(self._layers_of(request))
        return tuple(dict.fromkeys(readings)) if self._others else tuple(readings)

    def readings_of_model(self) -> list[Reading]:
        """Return what is read, with what the model brings where nothing is asked."""
        for request in (self.request, *self._others):
            if request.store is not None:
                check_layers(self.loaded.module, request.layer)  # not looked at before
        return [self._with_defaults(reading) for reading in self.readings]

    def _with_defaults(self, reading: Reading) -> Reading:
        loaded, output, pool = self.loaded, reading.output, reading.pool
        own = loaded.layer_pooling if reading.layer else loaded.pooling
        if output is None and not reading.layer:
            output = loaded.output
        if pool is POOLINGS["auto"]:
            pool = POOLINGS[own] if isinstance(own, str) else own
        return replace(reading, output=output, pool=pool, missing=loaded.missing)

    @cached_property
    def fingerprints(self) -> tuple[bytes, list[bytes]]:
        """What decides about a vector: for the model, and with each reading."""
        self._is_received = is_received(self.request.model)
        _ = self.steadiness  # looks before the fingerprints are made
        model = self.request.model_fingerprint()
        prompt = self._prompt_in_keys
        return model, [
            self.request.fingerprint(model, reading, prompt)
            for reading in self.readings
        ]

    @cached_property
    def steadiness(self) -> Steadiness:
        """What sees whether the user's callables change what they read, as rows run."""
        callables = [("preprocess", self.request.preprocess)]
        callables += [("pooling", reading.pool) for reading in self.readings]
        return Steadiness(callables)

    def must_be_steady(self) -> bool:
        """Return whether keys were made of what must not change as rows run."""
        is_keyed = "fingerprints" in vars(self)
        return is_keyed and self.request.cache_key is None and bool(self.steadiness)

    def check_files_are_the_same(self) -> None:
        """Refuse a model whose files changed after its fingerprint was made."""
        model = self.request.model
        if not isinstance(model, str) or "fingerprints" not in vars(self):
            return
        if self.request.model_fingerprint() != self.fingerprints[0]:
            msg = (
                f"The files of `model`={model!r} changed while it was loaded. Call "
                "again when they are whole."
            )
            raise RuntimeError(msg)
        text = self.receiver.prompt_text
        if self._told is not None and text != self._prompt_in_keys:
            msg = (
                f"The prompts of `model`={model!r} must be those in its files, where "
                f"`prompt` is {self._prompt_in_keys!r}, but once loaded it is "
                f"{text!r}. Give the loaded model itself."
            )
            raise RuntimeError(msg)

    def drops_received(self) -> bool:
        """Forget fingerprints that came with a pickle, if here it is another model."""
        before = self.fingerprints[0]
        if not self._is_received:
            return False
        self.loaded  # noqa: B018 - it is loaded here
        for name in ("fingerprints", "_told", "_prompt_in_keys", "first_columns"):
            vars(self).pop(name, None)
        return self.fingerprints[0] != before

    def setting(self) -> bytes:
        """Return what sets this apart from other plans for the same model and rows."""
        return b"".join(self.fingerprints[1])

    def shared_settings(self) -> tuple[Any, ...]:
        """Return what plans must have in common to share a forward pass."""
        request = self.request
        assert request.store is not None  # noqa: S101 - asked of plans with a cache
        neutral = replace(request, layer=None, output=None, pool=None)
        rest = neutral.fingerprint(
            self.fingerprints[0], Reading(), self._prompt_in_keys
        )
        run = request.run
        return (rest, str(request.store.path), run.devices, run.on_error)
