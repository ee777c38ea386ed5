"""Files changed at random: results, misses and clear errors, and nothing else.

Run as ``python tests/hostile_files.py 100000 0`` for so many cases from a seed. Each
case changes a file that the package has written, or forges one, and uses it. It fails
for a wrong value, an error of another kind, a hang, an import, a process begun, and a
file opened outside of the folder of the case.
"""

import copy
import faulthandler
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from sklearn_torch_bridge import (
    CacheError,
    CacheWarning,
    EmbeddingCache,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._storing import _saved_folder
from sklearn_torch_bridge.models._torch_files import load_export, load_torchscript
from tests.cache.test_store import (
    append,
    copy_a_run,
    cut_off,
    flip_bits,
    make_image,
    try_damaged,
    write_a_run,
    write_bytes,
    write_into_the_header,
)
from tiny_models import mlp

__all__ = ["TARGETS", "run"]

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "ctypes.dlopen", "import"),
)
HANG_SECONDS = 60
N_ROWS = 30


class Watch:
    """Records what Python does while a case runs, by a hook that cannot be removed."""

    def __init__(self):
        self.folder = None
        self.seen = []
        sys.addaudithook(self.record)

    def record(self, event, arguments):
        if self.folder is None:
            return
        place = str(arguments[0]) if arguments else ""
        outside = event == "open" and not place.startswith((self.folder, "/proc/"))
        outside = outside and not place.isdecimal()  # a descriptor
        outside = outside and place != "<string>"  # Python 3.13, for a syntax error
        if outside or event in FORBIDDEN:
            self.seen.append((event, place[:80]))


WATCH = Watch()


class Doubled(nn.Module):
    """Gives three columns that are exact in any batch."""

    def forward(self, x):
        return torch.stack([x[:, 0] * 2, x[:, 0] + 1, x[:, 0]], 1)


def overwrite_text(raw, chance):
    """Put characters that mean something to JSON, NumPy, zip and safetensors."""
    words = b"""0 1 9 -1 99999999999 { } [ ] ( ) , : ' " <f4 >f8 |O F16 I64 ../ PK"""
    word = words.split()[chance.integers(len(words.split()))]
    place = chance.integers(0, min(len(raw), 700))
    raw[place : place + len(word)] = word


def repeat_a_run(raw, chance):
    place = chance.integers(0, len(raw))
    raw[place:place] = raw[place : place + chance.integers(1, 200)]


def cut_out(raw, chance):
    place = chance.integers(0, len(raw))
    del raw[place : place + chance.integers(1, 100)]


WAYS = [
    *(flip_bits, write_bytes, write_a_run, write_into_the_header, append, cut_off),
    *(copy_a_run, overwrite_text, overwrite_text, repeat_a_run, cut_out),
]


def mutated(content, chance):
    raw = bytearray(content)
    for _ in range(chance.integers(1, 3)):
        way = WAYS[chance.integers(len(WAYS))]
        if len(raw) > (100 if way is write_into_the_header else 1):
            way(raw, chance)
    return bytes(raw)


def remember(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(folder, files):
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


class CacheFile:
    """A cache, used by itself."""

    def __init__(self, folder):
        self.image = make_image(folder / "image.db")

    def case(self, folder, chance):
        try_damaged(folder / "a.db", self.image, chance)


class CachedRows:
    """A cache, used by an extractor: its rows are never others."""

    def __init__(self, folder):
        self.X = np.arange(N_ROWS, dtype=np.float32)[:, None]
        self.module = Doubled()
        self.expected = TorchFeatureExtractor(self.module).transform(self.X)
        with EmbeddingCache(folder / "a.db") as cache:
            self.extractor(cache).transform(self.X)
        self.content = (folder / "a.db").read_bytes()

    def extractor(self, cache):
        return TorchFeatureExtractor(self.module, cache=cache)

    def case(self, folder, chance):
        (folder / "a.db").write_bytes(mutated(self.content, chance))
        with EmbeddingCache(folder / "a.db") as cache:
            try:
                Z = self.extractor(cache).transform(self.X)
            except CacheError:
                pass
            else:
                assert np.array_equal(Z, self.expected)


class MappedFile:
    """The three files of `transform_to_file`, of a run half done or finished."""

    def __init__(self, folder):
        self.X = np.arange(N_ROWS, dtype=np.float32)[:, None]
        self.module = Doubled()
        self.bases = []
        for dtype in ("float32", None):
            extractor = TorchFeatureExtractor(self.module, dtype=dtype, batch_size=8)
            path = folder / f"{dtype}.npy"
            extractor.transform_to_file(self.X, path)
            rows = path.read_bytes()
            progress = path.with_suffix(".npy.progress").read_bytes()
            half = bytearray(progress)
            half[512 + 8 * 7 : 512 + 8 * 20] = bytes(8 * 13)
            self.bases += [
                (extractor, {"Z.npy": rows, "Z.npy.progress": progress}),
                (extractor, {"Z.npy.part": rows, "Z.npy.progress": bytes(half)}),
            ]
        self.expected = extractor.transform(self.X)

    def case(self, folder, chance):
        extractor, files = self.bases[chance.integers(len(self.bases))]
        changed = dict(files)
        for name in files:
            if chance.random() < (0.3 if name.endswith("progress") else 0.8):
                changed[name] = mutated(files[name], chance)
            elif chance.random() < 0.03:
                del changed[name]
        write(folder, changed)
        try:
            Z = extractor.transform_to_file(self.X, folder / "Z.npy")
        except FileExistsError:
            kept = {k: v for k, v in changed.items() if "progress" not in k}
            found = remember(folder)
            assert {k: found[k] for k in kept} == kept
        else:
            assert Z.dtype == np.float32
            assert np.array_equal(Z, self.expected)


class Saved:
    """A folder of `save`, its bytes changed: the same extractor or an error."""

    def __init__(self, folder):
        self.module = mlp()
        self.module.register_buffer("ids", torch.arange(9))
        extractor = TorchFeatureExtractor(
            self.module, layer=["first", "act"], batch_size=7, dtype="float64"
        )
        extractor.fit(np.ones((2, 4)))
        extractor.save(folder / "saved")
        self.files = remember(folder / "saved")
        self.parameters = extractor.get_params() | {"model": None}
        self.state = copy.deepcopy(self.module.state_dict())

    def other(self):
        module = copy.deepcopy(self.module)
        for tensor in module.state_dict().values():
            tensor.zero_()
        return module

    def case(self, folder, chance):
        files = dict(self.files)
        for name, content in self.files.items():
            rare = 0.25 if name == "config.json" else 0.85
            if chance.random() < rare:
                files[name] = mutated(content, chance)
        write(folder, files)
        try:
            loaded = TorchFeatureExtractor.load(folder, self.other)
        except ValueError:
            return
        state = loaded.model.state_dict()
        assert all(torch.equal(state[name], one) for name, one in self.state.items())
        assert loaded.get_params() | {"model": None} == self.parameters


VALUES = [
    *(None, True, 0, -1, 10**30, 1e308, "", "x", "../x", "/etc/passwd", "~/x", "a\0b"),
    *("torchscript:/etc/x.pt", "export:x.pt2", "hf:../x", "st:/etc", "own:x", "os"),
    *({"tuple": [1]}, {"tuple": 3}, {"dict": {"a": 1}}, {"dtype": "<f4"}, {"x": 1}),
    *({"dtype": "O"}, {"dtype": "V8"}, {"dtype": "os.system"}, {"device": "cpu"}),
    *({"device": "x"}, {"names": ["a", 3]}, {"names": 5}, {"no values": ["<f4", [0]]}),
    *({"no values": ["<f4", [10**9, 0]]}, {"no values": [3]}, {"a": 1, "b": 2}, {}),
    *([], [[[]]], [1, "a"], {"stored": True}, "__class__", "__reduce__", "model"),
]
KEYS = [
    *("model", "layer", "cache", "cache_key", "preprocess", "pooling", "__class__"),
    *("n_features_in_", "_sklearn_output_config", "transform", "digest", "tensors"),
    *("stored", "first.weight", "../x", "dtype", "batch_size", "x"),
]


class Forged:
    """Settings and a header that somebody has written with care, digests included."""

    def __init__(self, folder):
        base = Saved(folder)
        TorchFeatureExtractor("hf:x", layer="y").save(folder / "named")
        # Of a module, which is given again, and of a string.
        self.bases = [(base.files, base.other), (remember(folder / "named"), None)]

    def case(self, folder, chance):
        base, other = self.bases[chance.integers(2)]
        config = json.loads(base["config.json"])
        for _ in range(chance.integers(1, 4)):
            edit(config, chance)
        config["digest"] = _saved_folder._digest(config)
        files = base | {"config.json": json.dumps(config).encode()}
        if other is not None and chance.random() < 0.3:
            files["model.safetensors"] = edited_header(
                files["model.safetensors"], chance
            )
        write(folder, files)
        try:
            loaded = TorchFeatureExtractor.load(folder, other)
        except (ValueError, TypeError):
            return
        model = loaded.model
        assert model is None or model is other or isinstance(model, (nn.Module, str))
        named = isinstance(model, str) and model.startswith(("torchscript:", "export:"))
        assert not named
        assert loaded.cache is None
        assert set(vars(loaded)) <= KNOWN, vars(loaded)
        assert type(loaded) is TorchFeatureExtractor


KNOWN = set(vars(TorchFeatureExtractor(mlp()).fit(np.ones((2, 4))))) | {
    *("feature_names_in_", "_sklearn_output_config", "_no_rows", "n_features_in_"),
}


def edit(content, chance):
    """Change, add or remove one value, at any depth."""
    inner = [one for one in content.values() if isinstance(one, dict) and one]
    if inner and chance.random() < 0.75:
        edit(inner[chance.integers(len(inner))], chance)
        return
    names = [*content, *KEYS] if chance.random() < 0.3 else [*content]
    name = names[chance.integers(len(names))]
    if chance.random() < 0.15:
        content.pop(name, None)
    else:
        value = VALUES[chance.integers(len(VALUES))]
        content[name] = copy.deepcopy(value)
        if chance.random() < 0.05:
            for _ in range(chance.integers(1, 900)):
                content[name] = [content[name]]


def edited_header(raw, chance):
    """Change the header of a safetensors file, and give it its length."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    way = chance.integers(4)
    names = [name for name in header if name != "__metadata__"]
    one, two = (names[chance.integers(len(names))] for _ in range(2))
    if way == 0:
        header[one], header[two] = header[two], header[one]
    elif way == 1:
        aliases = VALUES[chance.integers(len(VALUES))]
        text = json.dumps({one: two} if chance.random() < 0.5 else aliases)
        header["__metadata__"]["aliases"] = "[" * 5000 if text == "{}" else text
    elif way == 2:
        edit(header[one], chance)
    else:
        header["__metadata__"]["digest"] = "0" * 64
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


class Program:
    """A file of TorchScript or torch.export, damaged: the same module or ValueError."""

    def __init__(self, folder, prefix):
        module = mlp().eval()
        path = folder / "program"
        self.X = torch.ones(3, 4)
        if prefix == "torchscript":
            torch.jit.save(torch.jit.script(module), path)
            self.load = load_torchscript
        else:
            path = path.with_suffix(".pt2")
            torch.export.save(torch.export.export(module, (self.X,)), path)
            self.load = load_export
        self.suffix, self.content = path.suffix, path.read_bytes()
        self.expected = self.load(str(path)).module(self.X)

    def case(self, folder, chance):
        path = folder / f"program{self.suffix}"
        path.write_bytes(mutated(self.content, chance))
        try:
            module = self.load(str(path)).module
        except ValueError:
            return
        assert torch.equal(module(self.X), self.expected)


class Script(Program):
    def __init__(self, folder):
        super().__init__(folder, "torchscript")


class Export(Program):
    def __init__(self, folder):
        super().__init__(folder, "export")


# How many of a hundred cases; a program takes longest.
TARGETS = {
    CacheFile: 22,
    CachedRows: 14,
    MappedFile: 22,
    Saved: 18,
    Forged: 20,
    Script: 3,
    Export: 1,
}


def run(target, n_cases, seed):
    """Try so many cases; the message of a failure tells which one."""
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        base, folder = Path(name, "base"), Path(name, "case")
        base.mkdir()
        folder.mkdir()
        tried = target(base)
        for case in range(n_cases):
            chance = np.random.default_rng([seed, case])
            WATCH.folder = None if issubclass(target, Program) else name
            if case < 3:  # they import what all need
                WATCH.folder = None
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            try:
                tried.case(folder, chance)
                assert not WATCH.seen, [*WATCH.seen]
            except BaseException as error:
                error.add_note(f"{target.__name__}, case {case} of seed {seed}")
                raise
            finally:
                WATCH.folder = None
                WATCH.seen.clear()
                faulthandler.cancel_dump_traceback_later()
            for left in folder.iterdir():
                left.unlink()


def memory():
    """Return a folder in memory, where there is one."""
    place = "/dev/shm"  # noqa: S108 - a new folder in it
    return place if os.path.isdir(place) else None  # noqa: PTH112 - one line


def main(n_cases, seed, *names):
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", CacheWarning)  # asked for, by the thousand
    warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    for target, share in TARGETS.items():
        if names and target.__name__ not in names:
            continue
        share_of = n_cases if names else n_cases * share // 100
        began = time.perf_counter()
        run(target, share_of, seed)
        seconds = time.perf_counter() - began
        print(f"{target.__name__}: {share_of} cases in {seconds:.0f} s", flush=True)  # noqa: T201 - what was run


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
