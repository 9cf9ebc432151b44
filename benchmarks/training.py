"""Steps per second of our trainer, beside a bare TensorFlow step of the same networks on the same data.

    python benchmarks/training.py [--widths 16 32] [--batches 1 4] [--rounds 5]

Both take turns in one process, a few steps each, so that other work on the machine strikes both alike. The
bare step is what one would write by hand: two tapes, two Keras optimisers, one `tf.function`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from cloudgan.training.models import networks
from cloudgan.training.models.gan import ConditionalGan
from cloudgan.training.models.losses import MeanAbsoluteError
from cloudgan.training.models.scaling import take_reflectance
from cloudgan.training.recipe import TILE, Discriminator, Scaling
from cloudgan.training.samples import Batch


def bare_step(width: int) -> Callable[[Batch], None]:
    """The documented step by hand."""
    generator, discriminator = networks.generator(width=width), networks.discriminator(width=width)
    first, second = keras.optimizers.Adam(2e-5, beta_1=0.5), keras.optimizers.Adam(2e-4, beta_1=0.5)
    first.build(generator.trainable_variables)
    second.build(discriminator.trainable_variables)

    def entropy(probability, truth):
        return tf.reduce_mean(
            keras.losses.binary_crossentropy(tf.fill(tf.shape(probability), truth), probability)
        )

    @tf.function
    def step(cloudy, clear):
        cloudy, clear = 2 * cloudy - 1, 2 * clear - 1
        generated = generator(cloudy, training=False)
        with tf.GradientTape() as tape:
            on_real = discriminator([cloudy, clear], training=True)
            on_made = discriminator([cloudy, generated], training=True)
            loss = 0.5 * (entropy(on_real, 1.0) + entropy(on_made, 0.0))
        variables = discriminator.trainable_variables
        second.apply(tape.gradient(loss, variables), variables)
        with tf.GradientTape() as tape:
            generated = generator(cloudy, training=True)
            loss = 100 * tf.reduce_mean(tf.abs(clear - generated))
            loss += entropy(discriminator([cloudy, generated], training=False), 1.0)
        first.apply(tape.gradient(loss, generator.trainable_variables), generator.trainable_variables)

    return lambda batch: step(*batch[:2])


def measure(width: int, size: int, steps: int, rounds: int) -> tuple[float, float]:
    """Steps per second of ours and of the bare step: medians over rounds."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (size, TILE, TILE, 3)).astype(np.float32)
    batch = image, image[::-1].copy(), np.ones_like(image[..., :1])
    scaling, step = Scaling(), bare_step(width)
    pair = (take_reflectance(networks.discriminator(width=width), scaling), Discriminator())
    generator = take_reflectance(networks.generator(width=width), scaling)
    model = ConditionalGan(generator, MeanAbsoluteError(100.0, scaling), discriminator=pair)
    model.compile(jit_compile=False)

    def ours() -> None:
        for _ in range(steps):
            model.train_on_batch(*batch, return_dict=True)

    def bare() -> None:
        for _ in range(steps):
            step(batch)

    ours(), bare()
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("bare", bare)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return steps / statistics.median(seconds["ours"]), steps / statistics.median(seconds["bare"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        "| width | batch | steps/s of the trainer | steps/s, bare TensorFlow | ratio |\n|---|---|---|---|---|"
    )
    for width in options.widths:
        for size in options.batches:
            ours, bare = measure(width, size, options.steps, options.rounds)
            print(f"| {width} | {size} | {ours:.2f} | {bare:.2f} | {ours / bare:.2f} |", flush=True)
