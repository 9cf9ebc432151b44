import itertools
from pathlib import Path

import keras
import numpy as np
import pytest

from cloudgan.errors import InputError
from cloudgan.training.models import networks
from cloudgan.training.models.scaling import ToReflectance, ToScaled
from cloudgan.training.recipe import Scaling


def filters(model, *kinds):
    return [layer.filters for layer in model.layers if isinstance(layer, kinds)]


def test_the_documented_generator():
    model = networks.generator()
    assert model.input_shape == model.output_shape == (None, 256, 256, 3)
    down = [64, 128, 256, 512, 512, 512, 512]
    assert filters(model, keras.layers.Conv2D) == [*down, 512]
    assert filters(model, keras.layers.Conv2DTranspose) == [*reversed(down), 3]
    convolutions = [
        x for x in model.layers if isinstance(x, keras.layers.Conv2D | keras.layers.Conv2DTranspose)
    ]
    assert {layer.kernel_size for layer in convolutions} == {(4, 4)}
    assert {layer.strides for layer in convolutions} == {(2, 2)}
    assert [x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)] == [0.5] * 3
    # The paper's own figure for this U-Net with 3 bands: 54.4 million weights.
    assert model.count_params() == pytest.approx(54.4e6, rel=0.01)


def test_the_documented_discriminator():
    model = networks.discriminator()
    assert filters(model, keras.layers.Conv2D) == [64, 128, 256, 512, 512, 1]
    assert model.output_shape == (None, 16, 16, 1)
    assert isinstance(model.layers[-1].activation, type(keras.activations.sigmoid))


@pytest.mark.parametrize(
    ("normalisation", "upsampling"), [("batch", "transposed"), ("instance", "resize"), ("none", "transposed")]
)
def test_a_tile_depends_neither_on_its_batch_nor_on_chance(normalisation, upsampling, rng):
    model = networks.generator(width=2, normalisation=normalisation, upsampling=upsampling)
    tiles = rng.uniform(-1, 1, (2, 256, 256, 3)).astype(np.float32)
    alone, repeated = (np.asarray(model(tiles[:1], training=False)) for _ in range(2))
    np.testing.assert_array_equal(alone, repeated)
    np.testing.assert_allclose(np.asarray(model(tiles, training=False))[:1], alone, atol=1e-5)
    assert np.abs(alone).max() <= 1


def test_width_thins_every_layer_alike():
    wide, thin = networks.generator(width=8), networks.generator(width=4)
    for kind in (keras.layers.Conv2D, keras.layers.Conv2DTranspose):
        for a, b in itertools.islice(zip(filters(wide, kind), filters(thin, kind), strict=True), 7):
            assert a == 2 * b


def test_the_weights_serve_any_size(rng):
    trained, any_size = networks.generator(width=2), networks.generator(width=2, size=None)
    any_size.set_weights(trained.get_weights())
    image = rng.uniform(-1, 1, (1, 512, 256, 3)).astype(np.float32)
    assert any_size(image).shape == image.shape
    tile = image[:, :256]
    np.testing.assert_allclose(np.asarray(any_size(tile)), np.asarray(trained(tile)), atol=1e-6)
    assert networks.discriminator(width=1, size=512).output_shape == (None, 32, 32, 1)


def test_the_summary_counts_what_keras_counts():
    lines = networks.summary(width=2)
    model, discriminator = networks.generator(width=2), networks.discriminator(width=2)
    totals = [int(line.split("|")[4].replace(",", "")) for line in lines if "**" in line]
    assert totals == [model.count_params(), discriminator.count_params()]


def test_the_tables_of_the_documentation_are_these():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    shown = page.partition("<!-- networks -->\n")[2].partition("<!-- end -->")[0]
    assert shown.strip().split("\n") == networks.summary(), (
        "write networks.summary() between the markers of docs/training.md"
    )


def test_the_arithmetic_of_a_convolution_by_hand():
    # Its first layer at width 1: 128 x 128 pixels of 4 x 4 x 3 products and sums.
    first = networks.summary(width=1)[2]
    assert first.split("|")[5].strip() == f"{2 * 128 * 128 * 48 / 1e9:.3f}"


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="multiple of 256"):
        networks.generator(width=1, size=300)
    with pytest.raises(InputError, match="width"):
        networks.generator(width=0)
    with pytest.raises(InputError, match="layer"):
        networks.discriminator(normalisation="layer")
    with pytest.raises(InputError, match="bicubic"):
        networks.generator(upsampling="bicubic")
    with pytest.raises(InputError, match="gamma"):
        Scaling(gamma=2)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.7])
def test_scaling_comes_back_and_clips_only_clouds(gamma):
    reflectance = np.linspace(0, 1, 101, dtype=np.float32)
    forth, back = ToScaled(gamma=gamma), ToReflectance(gamma=gamma)
    scaled = np.asarray(forth(reflectance))
    assert (scaled[0], scaled[-1]) == (-1, 1)
    np.testing.assert_allclose(np.asarray(back(scaled)), reflectance, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(forth(np.array([-0.1, 1.7], np.float32))), [-1, 1])
    assert ToScaled.from_config(forth.get_config()).scaling == forth.scaling
