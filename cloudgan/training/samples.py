"""What a network trains on and is evaluated on: samples with their truth, and batches of them drawn ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Batch = tuple[Floats, Floats, Floats]
"""Input channels, truth and weight, each with a leading batch axis, channels last."""
Draw = Callable[[int], Batch]
"""From the number of a step to its batch."""

_AHEAD = 6  # batches


@dataclass(frozen=True, slots=True)
class Sample:
    """One tile with its truth."""

    channels: Floats
    """Input channels, shape (size, size, channel); the first of them are the bands of the cloudy image."""
    truth: Floats
    """Reflectance, shape (size, size, band)."""
    masked: Mask
    """Masked pixels whose truth is known, shape (size, size)."""
    observed: Mask
    """Pixels in clear view, same shape."""

    @property
    def cloudy(self) -> Floats:
        """The cloudy image, shape (size, size, band)."""
        return self.channels[..., : self.truth.shape[-1]]

    def weight(self, observed: float) -> Floats:
        """Weight in the loss: 1 where masked, `observed` where observed, 0 without truth; (size, size, 1)."""
        return np.where(self.masked, np.float32(1), np.float32(observed) * self.observed)[..., None]


def stack_batch(samples: Sequence[Sample], observed: float) -> Batch:
    """Samples of one size as one batch.

    Args:
        samples: Of one size.
        observed: Weight of observed pixels.
    """
    return (
        np.stack([sample.channels for sample in samples]),
        np.stack([sample.truth for sample in samples]),
        np.stack([sample.weight(observed) for sample in samples]),
    )


def draw_ahead(draw: Draw, steps: range) -> Generator[Batch]:
    """The batches of some steps in order, drawn by a thread beside the training.

    An error of the thread is raised here. Close the iterator (`contextlib.closing`) to end the thread early.
    """
    ready: queue.Queue[Batch | BaseException] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: Batch | BaseException) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def fill() -> None:
        try:
            for step in steps:
                if stopped.is_set():
                    return
                put(draw(step))
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=fill, daemon=True, name="draw-ahead")
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
