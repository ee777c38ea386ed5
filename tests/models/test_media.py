"""Images and sound, from files and from memory."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from scipy.io import wavfile
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._types import UnevenBatchError
from sklearn_torch_bridge.models._media import ImageRows, SoundRows
from tests import families
from tests.families import CLOSE, RATE, folder_with

pytestmark = pytest.mark.filterwarnings(
    # transformers asks the interpreter for its platform in a way that is deprecated.
    "ignore:.*is deprecated:FutureWarning"
)


DRESSES = {
    "paths": list,
    "str": lambda paths: [str(path) for path in paths],
    "array of str": lambda paths: np.array([str(path) for path in paths]),
    "images": lambda paths: [Image.open(path) for path in paths],
    "arrays": lambda paths: [np.array(Image.open(path)) for path in paths],
    "tensors": lambda paths: [
        torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths
    ],
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("dress", DRESSES)
def test_images_in_every_dress(vit, image_files, dress, num_workers):
    extractor = TorchFeatureExtractor(vit, batch_size=3, num_workers=num_workers)
    expected = extractor.transform([Image.open(path) for path in image_files])
    Z = extractor.fit_transform(DRESSES[dress](image_files))
    np.testing.assert_array_equal(Z, expected)


def test_an_array_of_pictures_of_one_size(vit, rng):
    pictures = rng.integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    extractor = TorchFeatureExtractor(vit)
    expected = extractor.transform([Image.fromarray(one) for one in pictures])
    np.testing.assert_array_equal(extractor.transform(pictures), expected)


def test_an_array_that_is_prepared_already_stays(vit, rng):
    pixels = rng.normal(size=(2, 3, 32, 32)).astype("float32")
    model = transformers.AutoModel.from_pretrained(vit.removeprefix("hf:"))
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels)).last_hidden_state.mean(1)
    Z = TorchFeatureExtractor(vit).transform(pixels)
    np.testing.assert_allclose(Z, expected.numpy(), **CLOSE)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_an_image_of_another_mode_is_converted(vit, rng, mode):
    image = families.make_images(rng, 1)[0].convert(mode)
    extractor = TorchFeatureExtractor(vit)
    np.testing.assert_array_equal(
        extractor.transform([image]), extractor.transform([image.convert("RGB")])
    )


def test_an_image_is_turned_as_its_camera_says(vit, tmp_path, rng):
    image = families.make_images(rng, 1)[0]
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "turned.png", exif=exif)
    extractor = TorchFeatureExtractor(vit)
    Z = extractor.transform([tmp_path / "turned.png"])
    expected = extractor.transform([image.transpose(Image.Transpose.ROTATE_270)])
    np.testing.assert_allclose(Z, expected, **CLOSE)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (np.ones((4, 4, 3), np.float32), "uint8, .* got float32 of shape"),
        (np.ones((4, 4, 3, 1), np.uint8), r"uint8, .* got uint8 of shape \(4, 4, 3, 1"),
        (3, "a row must be an image of Pillow, .* got int"),
    ],
    ids=["floats", "four axes", "number"],
)
def test_a_row_that_is_no_picture_is_named(vit, rng, row, words):
    image = families.make_images(rng, 1)[0]
    with pytest.raises(ForwardError, match=rf"failed on row 1: TypeError: .*{words}"):
        TorchFeatureExtractor(vit).transform([image, row])


def test_an_array_of_two_axes_is_a_grey_picture(vit, rng):
    grey = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    extractor = TorchFeatureExtractor(vit)
    expected = extractor.transform([Image.fromarray(grey)] * 2)
    for array in (grey, grey[..., None], grey[None]):
        np.testing.assert_array_equal(extractor.transform([array, array]), expected)


def test_the_content_of_a_file_counts_and_not_its_name(vit, image_files, tmp_path, rng):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(vit, cache=store)
    Z = extractor.transform(list(map(str, image_files)))
    families.make_images(rng, 1)[0].save(image_files[0])
    changed = extractor.transform(list(map(str, image_files)))
    assert store.stats()["rows"] == 5
    assert not np.array_equal(changed[0], Z[0])
    np.testing.assert_array_equal(changed[1:], Z[1:])


def test_a_missing_file_is_named_before_anything_runs(vit, image_files, tmp_path):
    paths = [*image_files[:2], tmp_path / "gone.png", image_files[3]]
    with pytest.raises(ValueError, match=r"row 2 of `X` names a file .*gone\.png"):
        TorchFeatureExtractor(vit).transform(paths)
    with pytest.warns(BadRowWarning, match="row 2 "):
        Z = TorchFeatureExtractor(vit, on_error="nan").transform(list(map(str, paths)))
    assert np.isnan(Z).all(axis=1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_image_is_named(vit, rng, value):
    image = families.make_images(rng, 1)[0]
    with pytest.raises(ValueError, match="row 1 of `X` is missing"):
        TorchFeatureExtractor(vit).transform([image, value])


def test_a_file_that_is_no_image_is_named(vit, image_files):
    image_files[1].write_bytes(b"no image")
    with pytest.raises(ForwardError, match="failed on row 1: UnidentifiedImageError"):
        TorchFeatureExtractor(vit).transform(image_files)
    with pytest.warns(BadRowWarning, match="row 1 "):
        Z = TorchFeatureExtractor(vit, on_error="nan").transform(image_files)
    assert np.isnan(Z).any(axis=1).tolist() == [False, True, False, False]


def test_no_images_have_the_width_of_images(vit):
    assert TorchFeatureExtractor(vit).transform([]).shape == (0, 16)


def test_whisper_is_averaged_over_what_was_said(tmp_path, clips):
    config, _ = families.SOUND["whisper"]
    processor = families.sound_processor("whisper")
    model, name = folder_with(tmp_path, config, processor)
    Z = TorchFeatureExtractor(name).transform(clips)
    for row, clip in enumerate(clips):
        made = processor([clip], sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(made["input_features"]).last_hidden_state[0]
        n_positions = -(-len(clip) // 320)  # of 20 ms each, the last one in part
        expected = hidden[:n_positions].mean(0).numpy()
        np.testing.assert_allclose(Z[row], expected, **CLOSE)


@pytest.fixture
def wav2vec2(tmp_path):
    config, _ = families.SOUND["wav2vec2"]
    return folder_with(tmp_path, config, families.sound_processor("wav2vec2"))[1]


def test_sound_in_every_dress(wav2vec2, clips, tmp_path):
    extractor = TorchFeatureExtractor(wav2vec2, batch_size=3)
    expected = extractor.transform(clips)
    as_dicts = [{"array": clip, "sampling_rate": RATE} for clip in clips]
    paths = [tmp_path / f"{row}.wav" for row in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        wavfile.write(path, RATE, clip)
    for X in (as_dicts, paths, list(map(str, paths)), [*map(torch.tensor, clips)]):
        np.testing.assert_array_equal(extractor.transform(X), expected)
    even = np.stack([clips[0], clips[2]])
    np.testing.assert_allclose(extractor.transform(even), expected[[0, 2]], **CLOSE)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_whole_numbers_of_a_wav_file_become_one_at_most(wav2vec2, tmp_path, dtype):
    steps = np.arange(8_000) / RATE
    wave = np.sin(2 * np.pi * 440 * steps)
    info = np.iinfo(dtype)
    middle, half = (128, 127) if dtype == "uint8" else (0, info.max)
    stored = np.round(middle + wave * half).astype(dtype)
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([stored, stored], axis=1))
    extractor = TorchFeatureExtractor(wav2vec2)
    Z = extractor.transform([tmp_path / "a.wav"])
    np.testing.assert_allclose(Z, extractor.transform([wave]), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"array": np.ones(4_000)}, "row 1: ValueError: .*'sampling_rate', got"),
        (np.ones((99, 4_000)), r"row 1: ValueError: .*\(n_values,\)"),
        ({"array": [0.5], "sampling_rate": 0}, "must be a whole number of Hz .* got 0"),
        ({"bytes": None, "path": None}, "row 1: TypeError: .* the bytes or the path"),
        (object(), "row 1: TypeError: sound must be an array, .* got object"),
        (np.full(4_000, np.nan), "row 1: ValueError: sound must be finite"),
    ],
    ids=["no rate", "no channels", "rate 0", "no file", "object", "not finite"],
)
def test_sound_that_cannot_be_used_is_named(wav2vec2, row, match):
    good = {"array": np.ones(4_000), "sampling_rate": RATE}
    given = (
        {"array": row, "sampling_rate": RATE} if isinstance(row, np.ndarray) else row
    )
    with pytest.raises(ForwardError, match=match):
        TorchFeatureExtractor(wav2vec2).transform([good, given])


def test_a_file_without_sound_is_named(wav2vec2, tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.zeros(0, np.int16))
    with pytest.raises(
        ForwardError, match=r"row 0: ValueError: the file '.*a\.wav' .* got none"
    ):
        TorchFeatureExtractor(wav2vec2).transform([tmp_path / "a.wav"])


class Extractor:
    """Stands for a feature extractor of transformers that pads to the longest clip."""

    sampling_rate = 100

    def __call__(self, clips, *, sampling_rate, return_tensors):
        assert sampling_rate == self.sampling_rate
        return {"input_values": torch.tensor(np.stack(clips))}


@pytest.fixture
def sound():
    return SoundRows(Extractor(), nn.Linear(1, 1).half())


def sizes(images):
    return [(image.size, image.mode) for image in images]


def test_pictures_in_any_form_are_opened_in_one_mode(tmp_path, rng):
    grey = rng.integers(0, 256, (4, 6), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    rows = [tmp_path / "a.png", str(tmp_path / "a.png"), grey, torch.tensor(grey)]
    rows += [Image.fromarray(grey), np.stack([grey] * 3), np.dstack([grey] * 4)]
    assert sizes(ImageRows(list)(rows)) == [((6, 4), "RGB")] * len(rows)
    assert sizes(ImageRows(list, mode="L")(rows)) == [((6, 4), "L")] * len(rows)


@pytest.mark.parametrize(
    ("shape", "dtype", "taken"),
    [
        ((4, 6), np.dtype("uint8"), True),
        ((4, 6, 3), np.dtype("uint8"), True),
        ((3, 4, 6), torch.uint8, True),
        ((5, 6, 7), torch.uint8, False),
        ((3, 4, 6), np.dtype("float32"), False),
        ((3, 4, 6), torch.float32, False),
        ((2, 3, 4, 6), torch.uint8, False),
    ],
    ids=str,
)
def test_arrays_that_are_pictures_are_known_by_shape_and_dtype(shape, dtype, taken):
    assert ImageRows(list).takes(shape, dtype) == taken


@pytest.mark.parametrize(
    ("row", "words"),
    [(3, "got int"), (np.ones((2, 2)), "got float64 of shape"), ("none.png", "none")],
    ids=["number", "floats", "no file"],
)
def test_what_is_no_picture_is_refused(row, words):
    with pytest.raises((TypeError, FileNotFoundError), match=words):
        ImageRows(list)([row])


def test_clips_become_floats_of_the_model(sound, tmp_path):
    wave = np.array([-(2**15), 0, 2**14], np.int16)
    wavfile.write(tmp_path / "a.wav", 100, wave)
    rows = [
        tmp_path / "a.wav",
        wave / 2**15,
        {"array": wave / 2**15, "sampling_rate": 100},
    ]
    values = sound(rows).kwargs["input_values"]
    assert values.dtype == torch.float16
    assert values.tolist() == [[-1, 0, 0.5]] * 3
    assert sound.lengths(rows).tolist() == [3, 3, 3]
    assert sound.even


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (np.ones((2, 2)), "must be an array"),
        (np.ones(0), "must be an array"),
        (np.array([np.nan]), "sound must be finite"),
        ({"array": [1], "sampling_rate": 100}, "int64 has no known range"),
        ({"array": [1.0], "sampling_rate": 10**6}, "cannot be brought to 100 Hz"),
        ({"array": [1.0]}, "must have 'array' and 'sampling_rate'"),
    ],
    ids=["two axes", "nothing", "NaN", "no range", "rates too far apart", "no rate"],
)
def test_what_is_no_sound_for_the_model_is_refused(sound, row, words):
    with pytest.raises(ValueError, match=words):
        sound([row])


def test_a_file_that_is_no_sound_has_no_length_and_is_refused(sound, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    assert sound.lengths([tmp_path / "a.wav"]).tolist() == [0]
    with pytest.raises((ImportError, ValueError), match=r"the file '.*a\.wav' cannot"):
        sound([tmp_path / "a.wav"])


def test_channels_are_averaged_and_bytes_lie_around_their_middle(sound, tmp_path):
    wavfile.write(tmp_path / "a.wav", 100, np.array([[0, 128], [128, 128]], np.uint8))
    assert sound([tmp_path / "a.wav"]).kwargs["input_values"].tolist() == [[-0.5, 0]]


def test_sound_in_memory_is_scaled_and_its_channels_averaged(sound):
    wave = np.tile(np.array([-(2**15), 0, 2**14], np.int16), 20)
    expected = np.tile(np.float32([-1, 0, 0.5]), 20)
    stereo = np.stack([wave, np.zeros_like(wave)])
    for array, half in [(wave, 1), (wave[:, None], 1), (stereo, 2), (stereo.T, 2)]:
        clip = sound.clips([{"array": array, "sampling_rate": 100}])[0]
        assert clip.samples.dtype == np.float32
        np.testing.assert_array_equal(clip.samples, expected / half)
    np.testing.assert_array_equal(sound.clips([wave])[0].samples, expected)
    np.testing.assert_array_equal(
        sound.clips([torch.from_numpy(wave)])[0].samples, expected
    )


def test_clips_share_a_batch_only_where_they_have_one_length(sound):
    """The head of a file may be wrong about that, and padding would be heard."""
    with pytest.raises(UnevenBatchError) as raised:
        sound([np.ones(3), np.ones(4), np.ones(3)])
    assert [part.tolist() for part in raised.value.parts] == [[0, 2], [1]]


class Stereo(Extractor):
    feature_size = 2

    def __call__(self, clips, *, sampling_rate, return_tensors=None):
        if any(len(clip) != 2 for clip in clips):
            msg = "Expected stereo audio"
            raise ValueError(msg)
        return {"input_values": torch.tensor(np.stack(clips))}


@pytest.mark.parametrize(
    "extractor",
    [Stereo(), transformers.EncodecFeatureExtractor(feature_size=2, sampling_rate=100)],
    ids=["own", "EnCodec"],
)
def test_a_model_of_several_channels_gets_them(extractor):
    sound = SoundRows(extractor, nn.Linear(1, 1))
    stereo = np.stack([np.ones(50), np.zeros(50)]).astype("float32")
    rows = [{"array": array, "sampling_rate": 100} for array in (stereo, stereo.T)]
    made = sound([*rows, stereo[0]]).kwargs["input_values"].numpy()
    np.testing.assert_array_equal(made, [stereo, stereo, stereo[[0, 0]]])
    assert sound.lengths([*rows, stereo[0]]).tolist() == [50] * 3
    with pytest.raises(ValueError, match=r"must have 1 or 2 channels, .* got 6: mix"):
        sound([{"array": np.ones((6, 50)), "sampling_rate": 100}])


def opened(image, mode="RGB"):
    """Return the values that a model is shown of an image."""
    return ImageRows(lambda images: np.array(images[0]), mode=mode)([image])


GREY = np.array([[0, 1000, 4095], [40000, 65278, 65535]], "u2")
EIGHT_BITS = [[0, 4, 16], [156, 254, 255]]


@pytest.mark.parametrize("kind", ["I;16", "I;16L", "I;16B"])
@pytest.mark.parametrize("suffix", [None, ".png", ".tif"])
def test_grey_values_of_16_bits_are_scaled(kind, suffix, tmp_path):
    """Pillow makes white of all from 255 on: all scans had one vector."""
    memory = GREY.astype(">u2" if kind == "I;16B" else "<u2").tobytes()
    image = Image.frombytes(kind, (3, 2), memory)
    if suffix:
        Image.fromarray(GREY).save(tmp_path / f"scan{suffix}")
        image = tmp_path / f"scan{suffix}"
        with Image.open(image) as file:
            if file.mode == "I":
                pytest.skip("this Pillow opens it with 32 bits")
    shown = opened(image)
    assert shown[..., 0].tolist() == EIGHT_BITS
    assert (shown == shown[..., :1]).all()
    assert opened(image, "L").tolist() == EIGHT_BITS


@pytest.mark.parametrize("kind", ["I", "F"])
def test_values_without_a_known_range_are_refused_with_the_row(kind, vit):
    good = Image.new("RGB", (8, 8))
    scan = Image.fromarray(GREY.astype({"I": "i4", "F": "f4"}[kind]))
    words = f"row 1: ValueError: an image of mode '{kind}' must be scaled to 8 bits"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(vit).transform([good, scan])
    extractor = TorchFeatureExtractor(vit, on_error="nan")
    with pytest.warns(BadRowWarning, match="^row 1 of"):
        assert np.isnan(extractor.transform([good, scan])[:, 0]).tolist() == [
            False,
            True,
        ]


COLOURS = np.array([[[250, 0, 0], [0, 200, 0], [0, 0, 100]]], "u1")
ALPHA = np.array([[0, 255, 51]], "u1")
ON_WHITE = [[[255, 255, 255], [0, 200, 0], [204, 204, 224]]]
GREY_ON_WHITE = [[255, 200, 224]]


def with_key(image, key):
    image.info["transparency"] = key
    return image


def of_a_palette():
    image = Image.new("P", (3, 1))
    image.putpalette([*COLOURS.ravel()])
    image.putdata([0, 1, 2])
    return with_key(image, bytes(ALPHA.ravel()))


TRANSPARENT = {
    "RGBA": lambda: (Image.fromarray(np.dstack([COLOURS, ALPHA])), ON_WHITE),
    "array": lambda: (np.dstack([COLOURS, ALPHA]), ON_WHITE),
    "P": lambda: (of_a_palette(), ON_WHITE),
    "PA": lambda: (of_a_palette().convert("PA"), ON_WHITE),
    "LA": lambda: (
        Image.merge(
            "LA", [Image.fromarray(COLOURS.max(axis=2)), Image.fromarray(ALPHA)]
        ),
        np.repeat(np.array(GREY_ON_WHITE)[..., None], 3, axis=2).tolist(),
    ),
    "RGB with a key": lambda: (
        with_key(Image.fromarray(COLOURS), (250, 0, 0)),
        [[[255, 255, 255], [0, 200, 0], [0, 0, 100]]],
    ),
    "L with a key": lambda: (
        with_key(Image.fromarray(COLOURS.max(axis=2)), 100),
        [[[250] * 3, [200] * 3, [255] * 3]],
    ),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_images_lie_on_white(name):
    """Colours that nobody sees were shown to the model."""
    image, expected = TRANSPARENT[name]()
    np.testing.assert_allclose(opened(image), expected, atol=1)


@pytest.mark.parametrize("kind", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_opaque_images_are_shown_as_pillow_shows_them(kind, rng):
    pixels = Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8))
    image = pixels.convert(kind)
    np.testing.assert_array_equal(opened(image), np.array(image.convert("RGB")))


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 9, 1), (8, 9, 4), (8, 9)])
@pytest.mark.parametrize("dtype", ["uint16", "bool", "float32", "float64", "int64"])
@pytest.mark.parametrize(
    "dress",
    [list, np.stack, lambda X: [*map(torch.tensor, X)]],
    ids=["list", "array", "tensors"],
)
def test_pictures_of_other_dtypes_are_refused(vit, shape, dtype, dress):
    X = dress([np.ones(shape, dtype)] * 2)
    words = rf"row 0.*must be a picture of uint8.*got {dtype} of shape"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(vit).transform(X)
