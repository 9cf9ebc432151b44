"""Recipes: the few numbers that set one way of training apart from another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cloudgan.errors import InputError
from cloudgan.training.networks import Normalisation, Upsampling
from cloudgan.training.scaling import Scaling


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train; the defaults are what the study documents."""

    name: str = "documented"
    """What to call it in a model's contract."""
    width: int = 64
    """Filters of the first layer of both networks."""
    normalisation: Normalisation = "batch"
    """In the generator."""
    judge_normalisation: Normalisation = "batch"
    """In the discriminator."""
    upsampling: Upsampling = "transposed"
    """In the generator's decoder."""
    dropout: float = 0.5
    """In the first three decoder blocks, while training."""
    scaling: Scaling = field(default_factory=Scaling)
    """From reflectance to the networks and back."""
    batch: int = 1
    """Tiles per step."""
    steps: int = 1700
    """Steps in all."""
    generator_rate: float = 2e-5
    """Adam's learning rate of the generator."""
    discriminator_rate: float = 2e-4
    """Adam's learning rate of the discriminator."""
    discriminator_weight: float = 0.5
    """Weight of each half of the discriminator's loss."""
    mae_weight: float = 100.0
    """Weight of the mean absolute error, in [-1, 1], in the generator's loss."""
    adversarial_weight: float = 1.0
    """Weight of the cross entropy in the generator's loss; 0 trains without a discriminator."""
    adversarial_after: float = 0.0
    """Share of the steps that come first, on the mean absolute error alone: they cost a third."""
    observed_weight: float = 1.0
    """How much a pixel under clear sky counts in the error, against 1 for a hidden one."""
    jitter: float = 0.1
    """Spread of the random gain on clear ground, see `augmentation.random_gain`."""
    decay: bool = False
    """Whether the rates fall along a cosine to a fiftieth."""
    average: float = 0.0
    """Memory of the weights' moving average, per step; 0 keeps none."""
    validate_every: int = 100
    """Steps between rows of metrics."""

    def __post_init__(self) -> None:
        if min(self.width, self.batch, self.steps, self.validate_every) < 1:
            raise InputError(f"width, batch, steps and validate_every are at least 1, got {self}")
        if not 0 <= self.adversarial_after <= 1:
            raise InputError(f"adversarial_after is a share of the steps, got {self.adversarial_after}")
        if not (0 <= self.average < 1 and 0 <= self.dropout < 1 and self.observed_weight >= 0):
            raise InputError(
                f"average and dropout lie in [0, 1), observed_weight is not negative, got {self}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as written in a run's summary."""
        return asdict(self)


DOCUMENTED = Recipe()
"""What the study documents."""

PIX2PIX = Recipe(name="pix2pix", generator_rate=2e-4)
"""The same with the rate of the pix2pix paper (Isola et al. 2017) for both networks."""

SHIPPED = Recipe(
    name="shipped",
    width=16,
    judge_normalisation="instance",
    dropout=0.2,
    scaling=Scaling(gamma=0.5),
    batch=4,
    steps=5600,
    generator_rate=6e-4,
    adversarial_after=0.7,
    observed_weight=0.25,
    jitter=0.2,
    decay=True,
    average=0.995,
    validate_every=250,
)
"""The documented networks, thinner, trained so that they work at inference: see docs/training.md."""

RECIPES = {recipe.name: recipe for recipe in (DOCUMENTED, PIX2PIX, SHIPPED)}
"""Recipes by name."""
