"""Forwards of one replica: the first of a kind is watched, later ones are checked.

What a forward writes to and draws is found out once (`_findings.py`). A later one that
writes or draws for the first time shows in version counters and generators' states.
"""

import hashlib
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._replica._findings import Findings
from sklearn_torch_bridge._replica._held_state import HeldState
from sklearn_torch_bridge._replica._lent_tensors import LentTensors
from sklearn_torch_bridge._replica._random_state import (
    read_generator,
    seeding_noticed,
    set_generator,
)
from sklearn_torch_bridge._replica._rows_flow import RowsFlow
from sklearn_torch_bridge._replica._watch import RunAgainError, Watch
from sklearn_torch_bridge._tensor_bytes import new_hash, tensor_bytes
from sklearn_torch_bridge._torch_private import count_modes, leave_modes, tree_leaves
from sklearn_torch_bridge._types import Inputs

__all__ = ["Forwards", "UnfitModelError"]

_CPU = torch.device("cpu")
_MOST_SUSPICIONS = 3  # of a generator that another thread may draw from as well
_SHORTEST_WAIT, _LONGEST_WAIT = 0.02, 0.1  # seconds, for draws of other threads

_BATCH_SENSITIVITY = "sklearn_torch_bridge.inspection.batch_sensitivity"


class UnfitModelError(ValueError):
    """A forward does what no row is to blame for, so that no other would do better."""


@dataclass
class Forwards:
    """Runs batches through a replica, up to `layers`.

    `RunAgainError` asks for a new replica, and for the same batch again.
    """

    lent: LentTensors
    findings: Findings
    place: torch.device
    state: HeldState
    layers: tuple[str, ...] = ()
    _keeps_rows: bool = False
    _stays_watched: bool = False
    _kind: Any = None
    _is_single: bool = False
    _is_watched: bool = True
    _states: list[torch.Tensor] = field(default_factory=list)
    _flow: RowsFlow | None = None

    def begin(
        self, layers: tuple[str, ...], keeps_rows: bool, stays_watched: bool
    ) -> None:
        """Say what forwards are for; with `stays_watched` all of them are watched."""
        self.layers = layers
        self._keeps_rows = keeps_rows
        self._stays_watched = stays_watched

    def flow_now(self) -> RowsFlow | None:
        """Return what follows the rows of the forward that runs, if it is new."""
        return self._flow

    def run(self, call: Callable[[Inputs], None], inputs: Inputs, n_rows: int) -> None:
        """Run one batch."""
        is_first = self._kind is None
        if not is_first:
            self.state.put_back()
            self.lent.restore()
        if is_first or self._is_single is not (n_rows == 1):
            self._find_out(inputs, n_rows)
        if is_first and self.state:
            self.lent.note_memory()
        if self._is_watched:
            self._run_watched(call, inputs, n_rows)
            return
        try:
            call(inputs)
        finally:
            if self.lent.was_written():
                self._refuse_write()
        # This forward, or another thread: it must be seen.
        if self._have_drawn() and not self.findings.seeds:
            self.findings.seen.discard(self._kind)
            raise RunAgainError(stays_watched=True)

    def _find_out(self, inputs: Inputs, n_rows: int) -> None:
        """Look up what is known of forwards of this kind."""
        findings, layers = self.findings, self.layers
        self._is_single = n_rows == 1
        self._kind = layers, self.place.type, self._is_single, _kind_of(inputs)
        if self.lent.is_untracked:
            self._stays_watched = True
        is_known = self._kind in findings.seen and not self._stays_watched
        self._is_watched = not is_known or layers in findings.draws
        self._states = [read_generator(device) for device in self._devices()]
        if layers in findings.foreign:
            self._refuse_foreign()

    def _have_drawn(self) -> bool:
        """Return whether the state of a global generator is not what it was."""
        if self.place.type == "cpu":
            return not self._states[0].equal(read_generator(_CPU))
        return any(
            not before.equal(read_generator(device))
            for device, before in zip(self._devices(), self._states, strict=True)
        )

    def _devices(self) -> tuple[torch.device, ...]:
        return (_CPU,) if self.place.type == "cpu" else (_CPU, self.place)

    def _run_watched(
        self, call: Callable[[Inputs], None], inputs: Inputs, n_rows: int
    ) -> None:
        findings = self.findings
        seed = 0
        if findings.needs_rows_alone(self.layers):
            if n_rows > 1:
                raise RunAgainError
            seed = _seed_of(inputs)
        is_new = self._kind not in findings.seen
        before = self._all_states() if is_new else []
        follows = is_new and (n_rows > 1 or inputs.mask is not None)
        self._flow = RowsFlow(inputs, n_rows) if follows else None
        guards = self.lent.guards()
        watch = Watch(findings, self.layers, guards, seed, n_rows, flow=self._flow)
        began = time.perf_counter()
        try:
            seeded = self._watch_one(watch, call, inputs, before)
        finally:
            self._flow = None
        seconds = time.perf_counter() - began
        if is_new:
            if seeded and not findings.seeds:
                findings.seeds = True  # from now on torch's generators are put back
                self._put_back(findings.suspected.pop(self.layers)[0], ["torch"])
                raise RunAgainError
            self._look_at_generators(before, watch.foreign, seconds)
            self.lent.note_written()
            findings.seen.add(self._kind)
        if watch.mixing is not None:
            findings.warn_once(_mixing(watch.mixing))
        self._is_watched = self.layers in findings.draws or self._stays_watched

    def _watch_one(
        self,
        watch: Watch,
        call: Callable[[Inputs], None],
        inputs: Inputs,
        before: list[tuple[str, Any]],
    ) -> list[str]:
        """Run one batch in a watch; return what seeded a generator, if suspected."""
        suspected = self.findings.suspected
        seeded: list[str] = []
        is_suspected = self.layers in suspected
        n_modes = count_modes()
        try:
            with watch, seeding_noticed(seeded) if is_suspected else nullcontext():
                call(inputs)
        except Exception:
            if watch.again is None:
                raise
        except RunAgainError:
            pass
        except BaseException:  # Ctrl-C, also as torch enters or leaves the watch
            leave_modes(n_modes)
            raise
        if watch.again is not None:  # also where the model has caught it
            if before and self._drawn_since(before):  # until it was ended
                suspected.setdefault(self.layers, []).append(before)
            raise watch.again from None
        return seeded

    def _drawn_since(self, before: list[tuple[str, Any]]) -> list[str]:
        """Name the global generators whose state has changed, by any thread."""
        pairs = zip(before, self._all_states(), strict=True)
        with np.printoptions(threshold=sys.maxsize):
            drawn = [then[0] for then, now in pairs if repr(then[1]) != repr(now[1])]
        if self.findings.seeds:
            return [name for name in drawn if not name.startswith("torch")]
        return drawn

    def _look_at_generators(
        self, before: list[tuple[str, Any]], operator: str | None, seconds: float
    ) -> None:
        """Find draws that could not be sent elsewhere; another thread may draw too."""
        findings, layers = self.findings, self.layers
        drawn = self._drawn_since(before)
        if drawn and operator is None:
            others = self._drawn_by_others(seconds)
            drawn = [name for name in drawn if name not in others]
        if operator is not None:
            findings.foreign[layers] = (
                f"{drawn[0] if drawn else 'a generator'} ({operator})"
            )
        elif drawn:
            suspected = findings.suspected.setdefault(layers, [])
            suspected.append(before)
            if len(suspected) < _MOST_SUSPICIONS:
                raise RunAgainError
            findings.foreign[layers] = drawn[0]
            self._put_back(suspected[0], drawn)
        findings.suspected.pop(layers, None)
        if layers in findings.foreign:
            self._refuse_foreign()

    def _drawn_by_others(self, seconds: float) -> list[str]:
        """Name the generators that change while this thread waits, as long as it ran.

        Draws of this thread by torch are seen as they happen, whatever others do.
        """
        before = self._all_states()
        time.sleep(min(max(2 * seconds, _SHORTEST_WAIT), _LONGEST_WAIT))
        return self._drawn_since(before)

    def _put_back(self, states: list[tuple[str, Any]], names: Sequence[str]) -> None:
        """Give the global generators of these names the states that they had."""
        named = tuple(names)
        *of_torch, (numpy, of_numpy), (python, of_python) = states
        for device, (name, state) in zip(self._devices(), of_torch, strict=True):
            if name.startswith(named):
                words = torch.frombuffer(bytearray(state), dtype=torch.int64)
                set_generator(device, words)
        if numpy.startswith(named):
            np.random.set_state(of_numpy)  # noqa: NPY002 - which is the one meant
        if python.startswith(named):
            random.setstate(of_python)

    def _all_states(self) -> list[tuple[str, Any]]:
        """Return the states of all global generators, each with its name."""
        states: list[tuple[str, Any]] = [
            (f"torch's generator of {device}", read_generator(device).numpy().tobytes())
            for device in self._devices()
        ]
        states.append(("NumPy's global generator", np.random.get_state()))  # noqa: NPY002 - which is the one meant
        states.append(("Python's `random`", random.getstate()))
        return states

    def _refuse_foreign(self) -> None:
        """Raise where vectors are kept; else warn."""
        where = self.findings.foreign[self.layers]
        said = (
            f"`model` draws random numbers from {where} in eval mode. They cannot be "
            "made to depend on the row alone, so its vectors differ from call to call"
        )
        do = "Draw with torch.rand and the like in `forward`."
        if self._keeps_rows:
            msg = f"{said}, and `cache` must be None. {do}"
            raise UnfitModelError(msg)
        self.findings.warn_once(f"{said}. {do}")

    def _refuse_write(self) -> None:
        """Raise for a write that no forward before has shown."""
        spans, names = self.lent.spans_of_written()
        self.findings.written.update(spans)
        if not names:  # copies on a device
            raise RunAgainError
        what = ", ".join(map(repr, names))
        msg = (
            "`model` must not write to its weights for some rows only, but its forward "
            f"has written to {what}, after one that did not. These values of your "
            "module have changed: restore them, and call again. From now on a copy is "
            "written to."
        )
        raise UnfitModelError(msg)


def _mixing(operator: str) -> str:
    return (
        f"`model` computes with values of the whole batch in eval mode ({operator}: "
        "batch normalisation without running statistics, or quantisation by the range "
        "of a batch), so a row's vector depends on the other rows of its batch, also "
        f"in a cache. Measure how much with {_BATCH_SENSITIVITY}. Batch normalisation "
        "needs running statistics (track_running_stats=True); else batch_size=1 keeps "
        "rows apart."
    )


def _kind_of(inputs: Inputs) -> object:
    return _kinds(inputs.args), _kinds(inputs.kwargs)


def _kinds(value: Any) -> object:
    """Return of what kind inputs are: another kind may take another way.

    >>> _kinds((torch.zeros(2, 3), {"mask": None}))
    ((torch.float32, 2), (('mask', <class 'NoneType'>),))
    """
    if isinstance(value, torch.Tensor):
        return value.dtype, value.ndim
    if isinstance(value, Mapping):
        return tuple((key, _kinds(item)) for key, item in value.items())
    if type(value) in (tuple, list):
        return tuple(map(_kinds, value))
    return type(value)


def _seed_of(inputs: Inputs) -> int:
    """Make a seed of all values that go into a forward."""
    content: hashlib.blake2b = new_hash()
    for leaf in tree_leaves((inputs.args, dict(inputs.kwargs))):
        if isinstance(leaf, torch.Tensor):
            content.update(repr((leaf.dtype, tuple(leaf.shape))).encode())
            content.update(tensor_bytes(leaf.cpu()).data)
        else:
            content.update(repr(leaf).encode())
    return int.from_bytes(content.digest()[:8], "little") >> 1
