"""Gradients of a loss on whichever backend Keras runs: TensorFlow, PyTorch or JAX.

The losses themselves are written once, in `keras.ops`; only how they are differentiated differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from cloudgan.errors import InputError

Objective = Callable[[], tuple[Any, Any]]
"""Gives a loss to differentiate, and anything else worth knowing."""


def descend(
    objective: Objective,
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    state: Sequence[keras.Variable],
) -> tuple[Any, Any]:
    """Take one step of an optimiser down the gradient of a loss.

    Args:
        objective: Called once; what it assigns on the way (moving statistics, random seeds) is kept.
        optimizer: Built for these variables.
        variables: The only ones that the step moves.
        state: Every variable that the objective may read or assign.

    Returns:
        What the objective gave.

    Raises:
        InputError: Keras runs on a backend that cannot train.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise InputError(
            f"Keras's backend {backend} cannot train; set KERAS_BACKEND to one of {list(_BACKENDS)}"
        )
    given: tuple[Any, Any] = _BACKENDS[backend](objective, optimizer, list(variables), list(state))
    return given


def _tensorflow(objective: Objective, optimizer: Any, variables: list[Any], state: list[Any]) -> Any:
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in variables:
            tape.watch(variable.value)
        loss, more = objective()
        # Keras's optimisers add the gradients of all replicas up.
        share = loss / tf.distribute.get_strategy().num_replicas_in_sync
    optimizer.apply(tape.gradient(share, [variable.value for variable in variables]), variables)
    return loss, more


def _torch(objective: Objective, optimizer: Any, variables: list[Any], state: list[Any]) -> Any:
    import torch

    loss, more = objective()
    gradients = torch.autograd.grad(loss, [variable.value for variable in variables])
    with torch.no_grad():
        optimizer.apply(list(gradients), variables)
    return loss.detach(), more


def _jax(objective: Objective, optimizer: Any, variables: list[Any], state: list[Any]) -> Any:
    import jax

    def pure(values: list[Any]) -> tuple[Any, Any]:
        mapping = [(variable, variable.value) for variable in others]
        with keras.StatelessScope([*mapping, *zip(variables, values, strict=True)]) as scope:
            loss, more = objective()
            changed = [scope.get_current_value(variable) for variable in others]
        return loss, (more, changed)

    moved = {id(variable) for variable in variables}
    others = [variable for variable in state if id(variable) not in moved]
    differentiated = jax.value_and_grad(pure, has_aux=True)
    (loss, (more, changed)), gradients = differentiated([variable.value for variable in variables])
    for variable, value in zip(others, changed, strict=True):
        variable.assign(value)
    optimizer.apply(gradients, variables)
    return loss, more


_BACKENDS = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
