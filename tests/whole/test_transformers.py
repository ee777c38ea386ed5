"""``"hf:"`` over many architectures: a loop by hand gives the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from scipy.io import wavfile

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
    layer_table,
)
from tests import families

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
RATE = 16_000
TEXTS = ["a b c", "d", "e f g h i j k l m", "n o", "p a"]

pytestmark = pytest.mark.filterwarnings(
    # transformers asks the interpreter for its platform in a way that is deprecated.
    "ignore:.*is deprecated:FutureWarning"
)


@pytest.fixture
def clips(rng):
    return [
        rng.normal(size=n).astype("float32") * 0.1 for n in (4_000, 6_400, 4_000, 9_000)
    ]


def picture_processor():
    return transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})


def folder_with(tmp_path, config, *processors):
    return families.save(
        tmp_path / "model", config, *processors
    ), f"hf:{tmp_path}/model"


# Texts ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.TEXTS)
def test_texts_of_a_family(family, tmp_path):
    config, layers = families.TEXTS[family]
    tokenizer = families.make_tokenizer()
    model, name = folder_with(tmp_path, config, tokenizer)

    def prepare(text):
        made = tokenizer(text, return_tensors="pt")
        return {key: made[key] for key in ("input_ids", "attention_mask")}

    for layer in (None, *layers):
        Z = TorchFeatureExtractor(name, layer=layer, batch_size=3).transform(TEXTS)
        expected = families.by_hand(model, TEXTS, prepare, layer)
        np.testing.assert_allclose(Z, expected, **CLOSE)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_last_real_token_of_a_causal_model(tmp_path, side):
    tokenizer = families.make_tokenizer()
    tokenizer.padding_side = side
    config, _ = families.TEXTS["llama"]
    model, name = folder_with(tmp_path, config, tokenizer)
    Z = TorchFeatureExtractor(name, pooling="last", batch_size=5).transform(TEXTS)
    with torch.inference_mode():
        expected = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1]
            for text in TEXTS
        ]
    np.testing.assert_allclose(Z, torch.stack(expected).numpy(), **CLOSE)


# Images -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.IMAGES)
def test_images_of_a_family(family, tmp_path, rng):
    config, layers = families.IMAGES[family]
    model, name = folder_with(tmp_path, config, picture_processor())
    # Another class where torchvision is there, which resizes a little differently.
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "model")
    images = families.make_images(rng)

    def prepare(image):
        return processor(images=[image], return_tensors="pt")

    for layer in (None, *layers):
        Z = TorchFeatureExtractor(name, layer=layer, batch_size=2).transform(images)
        expected = families.by_hand(model, images, prepare, layer)
        np.testing.assert_allclose(Z, expected, **CLOSE)


@pytest.fixture
def vit(tmp_path):
    config, _ = families.IMAGES["vit"]
    return folder_with(tmp_path, config, picture_processor())[1]


@pytest.fixture
def image_files(tmp_path, rng):
    paths = []
    for row, image in enumerate(families.make_images(rng, 4)):
        paths.append(tmp_path / f"{row}.png")
        image.save(paths[-1])
    return paths


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


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16"])
def test_an_image_of_another_mode_is_converted(vit, rng, mode):
    image = families.make_images(rng, 1)[0].convert("L" if mode == "I;16" else mode)
    image = image.convert("I;16") if mode == "I;16" else image
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


def test_a_processor_may_be_given_beside_a_module(vit, image_files):
    folder = vit.removeprefix("hf:")
    apart = TorchFeatureExtractor(
        transformers.AutoModel.from_pretrained(folder),
        preprocess=transformers.AutoImageProcessor.from_pretrained(folder),
    )
    together = TorchFeatureExtractor(vit)
    for X in (image_files, list(map(str, image_files))):
        np.testing.assert_array_equal(apart.transform(X), together.transform(X))


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
    expected = extractor.transform([Image.fromarray(grey)])
    for array in (grey, grey[..., None], grey[None]):
        np.testing.assert_array_equal(extractor.transform([array, array])[:1], expected)


def test_a_model_of_texts_takes_no_images(rng, minilm_path):
    with pytest.raises(TypeError, match="`X` holds Image objects: give a `preprocess`"):
        TorchFeatureExtractor(f"hf:{minilm_path}").transform(families.make_images(rng))


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


# Sound ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.SOUND)
def test_sound_of_a_family(family, tmp_path, clips):
    """The clips differ in length, and none may hear the silence behind another."""
    config, layers = families.SOUND[family]
    processor = families.sound_processor(family)
    model, name = folder_with(tmp_path, config, processor)

    def prepare(clip):
        made = processor([clip], sampling_rate=RATE, return_tensors="pt")
        return {model.main_input_name: made[model.main_input_name]}

    for layer in (None, *layers):
        pooling = "auto" if family != "whisper" else _all_positions
        extractor = TorchFeatureExtractor(
            name, layer=layer, batch_size=4, pooling=pooling
        )
        expected = families.by_hand(model, clips, prepare, layer)
        np.testing.assert_allclose(extractor.transform(clips), expected, **CLOSE)


def _all_positions(hidden, mask):
    del mask
    return hidden.mean(1)


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
        (
            {"array": np.ones(4_000), "sampling_rate": 44_100},
            "row 1: ValueError: sound must have .* 16000 Hz, got 44100 Hz: resample",
        ),
        ({"array": np.ones(4_000)}, "row 1: ValueError: .*'sampling_rate', got"),
        (np.ones((2, 4_000)), r"row 1: ValueError: .*\(n_values,\)"),
        (np.full(4_000, np.nan), "row 1: ValueError: sound must be finite"),
    ],
    ids=["rate", "no rate", "two channels", "not finite"],
)
def test_sound_that_cannot_be_used_is_named(wav2vec2, row, match):
    good = {"array": np.ones(4_000), "sampling_rate": RATE}
    given = (
        {"array": row, "sampling_rate": RATE} if isinstance(row, np.ndarray) else row
    )
    with pytest.raises(ForwardError, match=match):
        TorchFeatureExtractor(wav2vec2).transform([good, given])


def test_a_file_of_another_rate_or_kind_is_named(wav2vec2, tmp_path):
    wavfile.write(tmp_path / "a.wav", 8_000, np.zeros(4_000, np.int16))
    (tmp_path / "b.wav").write_bytes(b"no sound at all")
    with pytest.raises(ForwardError, match=r"row 0: ValueError: .*got 8000 Hz"):
        TorchFeatureExtractor(wav2vec2).transform([tmp_path / "a.wav"])
    with pytest.raises(ForwardError, match="row 0: ValueError: a path must name a WAV"):
        TorchFeatureExtractor(wav2vec2).transform([tmp_path / "b.wav"])


# Several kinds ----------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    config = transformers.CLIPConfig(
        text_config={**families.TEXT, "max_position_embeddings": 32},
        vision_config=families.PICTURE,
        projection_dim=8,
    )
    processor = transformers.CLIPProcessor(
        image_processor=transformers.CLIPImageProcessorPil(
            size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=families.make_tokenizer(),
    )
    return folder_with(tmp_path, config, processor)[1]


def test_a_model_of_texts_and_images_takes_either(clip, rng, tmp_path):
    model = transformers.CLIPModel.from_pretrained(clip.removeprefix("hf:")).eval()
    processor = transformers.CLIPProcessor.from_pretrained(clip.removeprefix("hf:"))
    images = families.make_images(rng)
    extractor = TorchFeatureExtractor(clip, batch_size=2)
    with torch.inference_mode():
        of_images = model.get_image_features(
            **processor(images=images, return_tensors="pt")
        ).pooler_output
        of_texts = [
            model.get_text_features(
                **processor.tokenizer(text, return_tensors="pt")
            ).pooler_output[0]
            for text in TEXTS
        ]
    np.testing.assert_allclose(extractor.transform(images), of_images.numpy(), **CLOSE)
    np.testing.assert_allclose(
        extractor.transform(TEXTS), torch.stack(of_texts).numpy(), **CLOSE
    )
    images[0].save(tmp_path / "a.png")  # a Path names a file, a str is a text
    np.testing.assert_allclose(
        extractor.transform([tmp_path / "a.png"]), of_images[:1].numpy(), **CLOSE
    )


def test_a_processor_of_several_kinds_may_be_given_beside_a_part(clip, rng):
    model = transformers.CLIPModel.from_pretrained(clip.removeprefix("hf:"))
    processor = transformers.CLIPProcessor.from_pretrained(clip.removeprefix("hf:"))
    for part, own, rows in (
        (model.vision_model, processor.image_processor, families.make_images(rng)),
        (model.text_model, processor.tokenizer, TEXTS),
    ):
        Z, expected = (
            TorchFeatureExtractor(part, preprocess=one).transform(rows)
            for one in (processor, own)
        )
        np.testing.assert_array_equal(Z, expected)


def test_files_say_what_a_model_takes(vit, image_files):
    """Of an older transformers, whose image processors were feature extractors."""
    path = Path(vit.removeprefix("hf:"), "preprocessor_config.json")
    config = json.loads(path.read_text())
    expected = TorchFeatureExtractor(vit).transform(image_files)
    del config["image_processor_type"]
    config["feature_extractor_type"] = "ViTFeatureExtractor"
    path.write_text(json.dumps(config))
    Z = TorchFeatureExtractor(vit).transform(list(map(str, image_files)))
    np.testing.assert_array_equal(Z, expected)


def test_the_layers_of_a_string(vit, image_files):
    table = layer_table(vit, image_files)
    assert table["layers.0"].shape == (4, 17, 16)
    assert table.names == layer_table(vit).names
