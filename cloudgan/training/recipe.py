"""Recipes: everything that sets one way of training apart from another, validated once and read from TOML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from cloudgan.settings import Settings
from cloudgan.training.data.sources import Source

BANDS = ("green", "red", "nir")
"""Bands of the documented false colour, and of the temporal generator."""
TILE = 256
"""Edge of a tile, and what the edge of a U-Net's image is a multiple of: eight halvings lead to one pixel."""

Normalisation = Literal["batch", "instance", "none"]
Upsampling = Literal["transposed", "resize"]
Precision = Literal["float32", "mixed_bfloat16"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Scaling(Settings):
    """The fixed scale on which a U-Net works: `2 * (clip(reflectance, 0, full) / full) ** gamma - 1`."""

    full: PositiveFloat = 1.0
    """Reflectance that becomes 1; brighter is clipped (only clouds are)."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """1 is linear; 0.5 stretches the dark end, where green and red of fields lie."""


class UNet(Settings):
    """The generator of the study, which sees one image alone; the defaults are what the study documents."""

    kind: Literal["unet"] = "unet"
    """Its name in a recipe."""
    width: PositiveInt = 64
    """Filters of the first layer."""
    size: Annotated[int, Field(ge=TILE, multiple_of=TILE)] = TILE
    """Edge in pixels of the images that it trains on, a multiple of 256."""
    normalisation: Normalisation = "batch"
    """After each convolution but the first."""
    upsampling: Upsampling = "transposed"
    """In the decoder."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """In the first three decoder blocks, while training."""
    residual: bool = False
    """Whether the generator makes what is to be added to the cloudy image."""
    precision: Precision = "float32"
    """Of the arithmetic while training; last activations and losses are float32 in any case."""
    scaling: Scaling = Scaling()
    """From reflectance to the network and back."""


class Temporal(Settings):
    """The default generator, which sees clear observations of other dates."""

    kind: Literal["temporal"]
    """Its name in a recipe."""
    width: PositiveInt = 16
    """Filters at full resolution."""
    surface_classes: PositiveInt = 4
    """Soft classes of surface in the radiometric alignment."""
    dates_each_side: Annotated[int, Field(ge=1, le=9)] = 4
    """Clear dates before the target, and as many after, that it asks for."""
    precision: Precision = "float32"
    """Of the convolutions while training; alignment and losses are float32 in any case."""


class Discriminator(Settings):
    """The PatchGAN; the defaults are what the study documents. Without the table there is none."""

    width: PositiveInt | None = None
    """Filters of the first layer; the generator's by default."""
    normalisation: Normalisation = "batch"
    """After each convolution but the first."""
    learning_rate: PositiveFloat = 2e-4
    """Of its Adam; it follows the stage's schedule from the step at which the discriminator joins."""
    beta_1: Fraction = 0.5
    """Adam's memory of the gradient."""
    weight: NonNegativeFloat = 0.5
    """Weight of each half of its loss."""
    adversarial_weight: PositiveFloat = 1.0
    """Weight of the cross entropy in the generator's loss."""
    adversarial_after: Fraction = 0.0
    """Share of all steps that come first, on the pixel loss alone: they cost a third."""


class MaeLoss(Settings):
    """The pixel loss of the study: mean absolute error on the U-Net's scale."""

    kind: Literal["mae"] = "mae"
    """Its name in a recipe."""
    weight: NonNegativeFloat = 100.0
    """In the generator's loss."""


class LogErrorLoss(Settings):
    """The pixel loss of the temporal generator: each sample counts by the logarithm of its error."""

    kind: Literal["log_error"]
    """Its name in a recipe."""
    log_error_weight: NonNegativeFloat = 0.02
    """Of the logarithms of the absolute and of the root mean squared error."""
    gradient_weight: NonNegativeFloat = 0.3
    """Of the absolute error of differences between neighbours."""
    ssim_weight: NonNegativeFloat = 0.1
    """Of one minus SSIM."""
    sam_weight: NonNegativeFloat = 0.05
    """Of one minus the cosine of the spectral angle."""
    uncertainty_weight: NonNegativeFloat = 0.01
    """Of the negative log-likelihood of the error under the predicted uncertainty."""


class Optimizer(Settings):
    """Adam, of the generator."""

    beta_1: Fraction = 0.5
    """Memory of the gradient; 0.5 is documented."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of all gradients together; none by default."""


class Stage(Settings):
    """A part of the training with a learning rate of its own; the default is what the study documents.

    Each stage starts at the averaged weights of the stage before, with an optimiser that remembers nothing.
    """

    steps: PositiveInt = 1700
    """How long it is."""
    learning_rate: PositiveFloat = 2e-5
    """Adam's, at its highest."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on from there."""
    final_fraction: Fraction = 0.02
    """Share of the learning rate at which a cosine ends."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises from zero."""
    unaugmented_fraction: Fraction = 0.0
    """Share of samples of real series that keep their own dates and radiometry: 0 to learn widely, more
    towards the end."""
    trainable: Literal["all", "uncertainty"] = "all"
    """What learns: all of the generator, or only the layers that predict its uncertainty."""

    def rate_factor(self, step: int) -> float:
        """The share of a learning rate that holds at a step, counted from 0 at the start of the schedule."""
        rising = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "constant":
            return rising
        course = 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
        return rising * (self.final_fraction + (1 - self.final_fraction) * course)


class Stack(Settings):
    """Batches as the study draws them: ten turned copies of one pair, in order, again and again."""

    skewed: bool = False
    """1, 2, 3, 4, 1', 2', 3', 4', 1, 1' with five of the ten skewed; else 1, 2, 3, 4, 1, 2, 3, 4, 1, 2."""
    shear: tuple[float, float] = (15.0, 0.0)
    """Angles of the skew along rows and along columns, in degrees."""
    crop: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    """Top row and left column, in the first pair (or clear scene), of the area to train on."""


class Samples(Settings):
    """Batches of single images: crops, turns, flips and gains of all the imagery, under ever new clouds."""

    real: Fraction = 0.15
    """Share of real pairs, where there are any; the others are simulated."""
    jitter: NonNegativeFloat = 0.1
    """Standard deviation of the random gain on clear surface, see `augmentation.draw_gain`."""
    glints: NonNegativeInt = 0
    """Bright pixels put on the observed surface of each image, see `single_image.add_glints`."""
    observed_weight: NonNegativeFloat = 1.0
    """How much an observed pixel counts in the error, against 1 for a masked one."""


class Series(Settings):
    """Batches of time series: known dates masked by the real clouds of other dates."""

    pixels: PositiveInt = 2 * 128 * 128
    """Of a batch; patches of 64, 96 or 128 pixels an edge make it up."""
    observed_weight: NonNegativeFloat = 0.05
    """How much an observed pixel counts in the error, against 1 for a masked one."""
    real: Fraction = 0.2
    """Share of samples under the clouds of their own date, where another date tells the truth."""


_TEMPORAL_DEFAULTS: dict[str, Any] = {
    "loss": LogErrorLoss(kind="log_error"),
    "optimizer": Optimizer(beta_1=0.9, clip_norm=1.0),
    "series": Series(),
}


class TrainConfig(Settings):
    """One way to train, on one set of imagery."""

    title: ClassVar[str] = "recipe"
    remedy: ClassVar[str] = "see the recipes that ship"

    name: str
    """What to call the model in its contract."""
    version: str = "0.1.0"
    """Version of the model in its contract."""
    data: tuple[Source, ...]
    """Imagery to train on and to validate on."""
    held_out: tuple[str, ...]
    """Regions of it to validate on."""
    bands: tuple[str, ...] = BANDS
    """Bands of the cloudy image and of the generated one."""
    stack: Stack | None = None
    """How to draw batches as the study does; or"""
    samples: Samples | None = None
    """how to draw single images our own way; or"""
    series: Series | None = None
    """how to draw time series. One of the three."""
    generator: Annotated[UNet | Temporal, Field(discriminator="kind")] = UNet()
    """What is trained."""
    discriminator: Discriminator | None = None
    """What it is trained against."""
    loss: Annotated[MaeLoss | LogErrorLoss, Field(discriminator="kind")] = MaeLoss()
    """What is minimised in each pixel; `log_error` is the default of the temporal generator."""
    optimizer: Optimizer = Optimizer()
    """Adam; `beta_1 = 0.9` and `clip_norm = 1.0` are the defaults of the temporal generator."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (Stage(),)
    """How long, one after the other."""
    batch: PositiveInt = 1
    """Images per step, of `stack` and `samples`."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Memory of the exponential moving average of the weights, per step; 0 keeps none."""
    eval_every: PositiveInt = 100
    """Steps between rows of metrics, each of which may become the best checkpoint."""
    keep: Literal["best", "last"] = "best"
    """Which weights are exported: those with the least held-out error, or those at the end."""
    collapse_rows: NonNegativeInt = 0
    """Rows in a row at 6 dB or more below the best after which the run stops; 0 never stops it."""
    study: bool = False
    """Whether rows hold the study's own measure too, on the first pair or clear scene trained on."""
    seed: NonNegativeInt = 0
    """Of weights, batches and validation samples."""

    @field_validator("data", mode="before")
    @classmethod
    def _refuse_one_table(cls, given: Any) -> Any:
        if not isinstance(given, tuple):
            raise ValueError("the imagery is named in [[data]] tables, with double brackets")
        return given

    @model_validator(mode="before")
    @classmethod
    def _choose_defaults(cls, given: Any) -> Any:
        """The temporal generator is trained by other losses and batches than the study's."""
        generator = given.get("generator", UNet())
        if isinstance(generator, dict):
            generator = {"kind": "unet"} | generator
            given = given | {"generator": generator}
        kind = generator["kind"] if isinstance(generator, dict) else getattr(generator, "kind", None)
        loss = given.get("loss")
        if isinstance(loss, dict):
            given = given | {"loss": {"kind": "log_error" if kind == "temporal" else "mae"} | loss}
        return _TEMPORAL_DEFAULTS | given if kind == "temporal" else given

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        drawn = [name for name in ("stack", "samples", "series") if getattr(self, name) is not None]
        if len(drawn) != 1:
            raise ValueError(
                "a recipe draws its batches by one of the tables [stack], [samples] and [series]"
            )
        if (drawn == ["series"]) != isinstance(self.generator, Temporal):
            raise ValueError(
                "the temporal generator trains on [series], and the unet on [stack] or [samples]"
            )
        if isinstance(self.generator, Temporal) != isinstance(self.loss, LogErrorLoss):
            raise ValueError('the temporal generator trains by the loss "log_error", and the unet by "mae"')
        if isinstance(self.generator, Temporal) and self.bands != BANDS:
            raise ValueError(f"the temporal generator works on the bands {', '.join(BANDS)}")
        if not isinstance(self.generator, Temporal) and any(s.trainable != "all" for s in self.stages):
            raise ValueError(
                "only the temporal generator predicts an uncertainty that could be trained alone"
            )
        if not self.data:
            raise ValueError("a recipe names its imagery in [[data]] tables, and there is none")
        return self

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, Stage, int]:
        """The stage to which a step belongs: its number, the stage, and the step counted from its start."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, stage, step
            step -= stage.steps
        raise IndexError(f"a recipe of {self.steps} steps has no step that far on")

    @classmethod
    def load(
        cls, file: Path | None, overrides: Mapping[str, Any] | None = None, data: Path | None = None
    ) -> Self:
        """Read a recipe from TOML.

        Args:
            file: The file.
            overrides: Values instead of the file's, by field name; None stands for one that was not given.
            data: Folder from which the paths of its sources count; else, and for what is not there, the
                folder of the recipe, or the working directory.

        Raises:
            InputError: The file cannot be read, or has a key or a value that no recipe has.
        """
        recipe = super().load(file, overrides)
        folders = [folder for folder in (data, file and file.resolve().parent) if folder is not None]
        return recipe.replace(data=tuple(source.locate(*folders) for source in recipe.data))
