"""A reference pickles small, and is opened once by each process."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.adapters import _parcel
from sklearn_torch_bridge.adapters._parcel import (
    Reference,
    at_worker,
    in_file,
    pack,
    put_in_file,
)
from tests.tiny_models import mlp
from tests.worker_models import Noted


@pytest.fixture(autouse=True)
def nothing_opened(monkeypatch):
    monkeypatch.setattr(_parcel, "_OPENED", type(_parcel._OPENED)())


def sent(reference):
    """Give what another process gets."""
    return pickle.loads(pickle.dumps(reference))  # noqa: S301 - our own bytes


def large(**options):
    torch.manual_seed(0)
    return TorchFeatureExtractor(nn.Linear(1_000, 1_000), **options)


@pytest.mark.parametrize("where", ["reference", "file"])
def test_what_is_opened_is_what_was_packed(rng, tmp_path, where):
    X = rng.normal(size=(12, 4))
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
    pipe.fit(X, np.arange(12) % 2)
    parcel = pack(pipe)
    assert parcel.is_small
    place = None if where == "reference" else put_in_file(parcel, tmp_path)
    opened = sent(Reference(pipe, parcel, place=place)).open()
    assert opened is not pipe
    np.testing.assert_array_equal(opened.predict_proba(X), pipe.predict_proba(X))


def test_the_process_that_made_a_reference_has_the_object_itself():
    extractor = large()
    assert Reference(extractor, pack(extractor)).open() is extractor


def test_weights_do_not_go_along():
    extractor = large()
    reference = Reference(extractor, pack(extractor))
    assert len(pickle.dumps(reference)) < 1_000
    assert len(pickle.dumps(sent(reference))) < 1_000  # as by a scheduler


def test_nothing_is_written_before_a_reference_is_sent(tmp_path):
    extractor = large()
    reference = Reference(extractor, pack(extractor), folder=tmp_path)
    assert [*tmp_path.iterdir()] == []
    pickle.dumps([reference, reference])
    pickle.dumps(
        Reference(
            extractor, pack(extractor), place=put_in_file(pack(extractor), tmp_path)
        )
    )
    assert len([*tmp_path.iterdir()]) == 1  # of equal contents there is one


def test_a_process_opens_a_parcel_once(tmp_path):
    extractor = TorchFeatureExtractor(Noted(tmp_path))
    parcel = pack(extractor)
    references = [sent(Reference(extractor, parcel)) for _ in range(3)]
    assert references[0].open() is references[1].open() is references[2].open()
    assert len((tmp_path / "loads").read_text().split()) == 1


def test_threads_open_a_parcel_once_among_them(tmp_path):
    extractor = TorchFeatureExtractor(Noted(tmp_path))
    parcel = pack(extractor)
    references = [sent(Reference(extractor, parcel)) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(Reference.open, references))
    assert all(one is opened[0] for one in opened)
    assert len((tmp_path / "loads").read_text().split()) == 1


def test_a_process_keeps_a_few_opened_parcels(monkeypatch):
    monkeypatch.setattr(_parcel, "_N_KEPT", 2)
    models = [TorchFeatureExtractor(mlp(seed=seed)) for seed in range(3)]
    first, *rest = [sent(Reference(model, pack(model))) for model in models]
    opened = first.open()
    for reference in rest:
        reference.open()
    assert first.open() is not opened
    assert len(_parcel._OPENED) == 2


def test_weights_of_a_file_may_be_written_to_and_the_file_stays(tmp_path):
    extractor = large()
    parcel = pack(extractor)
    reference = sent(Reference(extractor, parcel, place=put_in_file(parcel, tmp_path)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    weight = reference.open().model.weight
    assert torch.equal(weight, extractor.model.weight)
    with torch.no_grad():
        weight.zero_()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is mapped")
def test_the_file_is_mapped_not_read(tmp_path):
    extractor = large()
    parcel = pack(extractor)
    place = put_in_file(parcel, tmp_path)
    opened = sent(Reference(extractor, parcel, place=place)).open()
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - no file of ours
        assert place.args[0] in maps.read()
    assert opened.model.weight.data_ptr() % 64 == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "header", "empty"])
def test_a_damaged_file_is_an_error(tmp_path, damage):
    extractor = large()
    parcel = pack(extractor)
    place = put_in_file(parcel, tmp_path)
    data = bytearray((tmp_path / f"{parcel.digest}.weights").read_bytes())
    if damage == "flip":
        data[-5] ^= 1
    elif damage == "header":
        data[9] ^= 1
    else:
        data = data[: len(data) // 2] if damage == "cut" else data[:0]
    (tmp_path / f"{parcel.digest}.weights").write_bytes(data)
    with pytest.raises(ValueError, match="the file was changed or damaged"):
        sent(Reference(extractor, parcel, place=place)).open()


def test_a_file_that_is_not_there_says_what_to_do(tmp_path):
    extractor = large()
    place = partial(in_file, str(tmp_path / "gone"), "digest")
    with pytest.raises(FileNotFoundError, match="`weights`='scheduler'"):
        sent(Reference(extractor, pack(extractor), place=place)).open()


def test_weights_that_were_not_delivered_are_an_error():
    extractor = large()
    with pytest.raises(LookupError, match="sent no weights to this worker"):
        sent(
            Reference(extractor, pack(extractor), place=partial(at_worker, "gone"))
        ).open()


def test_a_model_that_was_trained_meanwhile_is_refused(tmp_path):
    extractor = large()
    reference = Reference(extractor, pack(extractor), folder=tmp_path)
    with torch.no_grad():
        extractor.model.weight[0, 0] += 1
    with pytest.raises(RuntimeError, match="have changed since the graph was made"):
        pickle.dumps(reference)
    assert [*tmp_path.iterdir()] == []


def test_another_version_of_the_package_is_refused():
    extractor = large()
    reference = sent(Reference(extractor, pack(extractor)))
    reference.versions = {**reference.versions, "sklearn-torch-bridge": "0.0.1"}
    words = r"workers must have the version of sklearn-torch-bridge .* torch .* 0\.0\.1"
    with pytest.raises(ImportError, match=words):
        reference.open()


def test_equal_models_have_equal_digests():
    assert pack(large()).digest == pack(large()).digest
    assert pack(large()).digest != pack(large(batch_size=7)).digest
    other = large()
    with torch.no_grad():
        other.model.weight[0, 0] += 1
    assert pack(large()).digest != pack(other).digest
