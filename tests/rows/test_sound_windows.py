"""Sound in windows of what an extractor takes."""

import numpy as np
import pytest
import torch
import transformers as t

from sklearn_torch_bridge import ForwardError, TorchFeatureExtractor, Windows
from tests.families import BOTH, SMALL

CLOSE = {"rtol": 0, "atol": 1e-5}
RATE, SIZE = 16_000, 32_000
STEP = 320  # values of a position


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(0)
    config = t.WhisperConfig(**BOTH, decoder_start_token_id=2, max_source_positions=100)
    return t.AutoModel.from_config(config).get_encoder().eval()


@pytest.fixture(scope="module")
def extractor():
    return t.WhisperFeatureExtractor(chunk_length=2)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    lengths = (9_000, 70_001, SIZE, SIZE + 5_000)
    return [rng.normal(size=n).astype("float32") for n in lengths]


def hidden_by_hand(model, extractor, clip, overlap=0, size=SIZE):
    step, start, parts = size - overlap, 0, []
    while True:
        part = clip[start : start + size]
        given = extractor(part, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(given["input_features"]).last_hidden_state[0]
        parts.append(hidden[: -(-len(part) // STEP)])
        if start + size >= len(clip):
            return parts
        start += step


@pytest.mark.parametrize("overlap", [0, 10 * STEP])
def test_clips_equal_windows_by_hand(whisper, extractor, clips, overlap):
    hidden = [hidden_by_hand(whisper, extractor, clip, overlap) for clip in clips]
    options = {"too_long": Windows(overlap=overlap), "batch_size": 3}
    means = [
        sum(part.sum(0) for part in parts) / sum(map(len, parts)) for parts in hidden
    ]
    pooled = TorchFeatureExtractor(whisper, preprocess=extractor, **options)
    np.testing.assert_allclose(pooled.transform(clips), torch.stack(means), **CLOSE)
    largest = [torch.cat(parts).amax(0) for parts in hidden]
    pooled.set_params(pooling="max")
    np.testing.assert_allclose(pooled.transform(clips), torch.stack(largest), **CLOSE)
    pooled.set_params(pooling=None)
    for row, parts in zip(pooled.transform(clips), hidden, strict=True):
        later = [part[overlap // STEP :] for part in parts[1:]]
        np.testing.assert_allclose(row, torch.cat([parts[0], *later]), **CLOSE)


def test_clips_that_fit_are_as_before(whisper, extractor, clips):
    fitting = [clips[0], clips[2]]
    cut = TorchFeatureExtractor(whisper, preprocess=extractor, too_long="cut")
    expected = cut.transform(fitting)
    windows = cut.set_params(too_long="windows").transform(fitting)
    np.testing.assert_array_equal(windows, expected)


def test_an_overlap_of_no_whole_position_has_no_tokens(whisper, extractor, clips):
    options = {"too_long": Windows(overlap=STEP + 1), "preprocess": extractor}
    TorchFeatureExtractor(whisper, **options).transform(clips)
    with pytest.raises(ValueError, match="321 values that windows share"):
        TorchFeatureExtractor(whisper, pooling=None, **options).transform(clips)


def test_max_length_makes_windows_for_an_extractor_without_a_maximum(clips):
    torch.manual_seed(0)
    config = t.Wav2Vec2Config(
        **SMALL,
        intermediate_size=32,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    model = t.AutoModel.from_config(config).eval()
    extractor = t.Wav2Vec2FeatureExtractor(do_normalize=False)
    short = [clip[::20] for clip in clips]
    expected = []
    for clip in short:
        total = 0
        for start in range(0, len(clip), 1_000):
            part = torch.from_numpy(clip[None, start : start + 1_000].copy())
            with torch.inference_mode():
                total += part.shape[1] * model(part).last_hidden_state.mean(1)[0]
        expected.append(total / len(clip))
    Z = TorchFeatureExtractor(
        model, preprocess=extractor, max_length=1_000, too_long="windows"
    ).transform(short)
    np.testing.assert_allclose(Z, torch.stack(expected), **CLOSE)


def test_rows_of_one_array_are_cut_with_a_cache(whisper, extractor, clips, tmp_path):
    X = np.stack([clips[1][:40_000], clips[3][:37_000].repeat(2)[:40_000]])
    windows = TorchFeatureExtractor(
        whisper, preprocess=extractor, too_long="windows", cache=tmp_path / "c.db"
    )
    first = windows.transform(X[1:])
    np.testing.assert_allclose(windows.transform(X)[1:], first, **CLOSE)
    alone = TorchFeatureExtractor(whisper, preprocess=extractor, too_long="windows")
    np.testing.assert_allclose(windows.transform(X), alone.transform([*X]), **CLOSE)


def test_a_clip_that_cannot_be_used_is_named(whisper, extractor, clips):
    bad = clips[1].copy()
    bad[-1] = np.nan
    windows = TorchFeatureExtractor(
        whisper, preprocess=extractor, too_long="windows", on_error="nan"
    )
    with pytest.warns(UserWarning, match="row 1 of `X`.*window . of row 1, values"):
        Z = windows.transform([clips[0], bad])
    assert np.isnan(Z).all(1).tolist() == [False, True]
    windows.set_params(on_error="raise")
    with pytest.raises(ForwardError, match=r"window . of row 1, values"):
        windows.transform([clips[0], bad])
