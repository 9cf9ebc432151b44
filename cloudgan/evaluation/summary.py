"""Results of an evaluation as means with intervals, gains over the baselines, and strata of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cloudgan.evaluation.baselines import RIVALS
from cloudgan.evaluation.cases import KINDS, Kind
from cloudgan.evaluation.scoring import EDGE, THICKNESS, Evaluation, Stratum, Unit


def interval(values: Sequence[float], regions: Sequence[str], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of a mean: regions are drawn, then units within each; with one, units alone.

    Args:
        values: One per unit.
        regions: The region of each unit.
        draws: How often; the draws are the same each time.
    """
    rng = np.random.default_rng(0)
    every = np.asarray(values, np.float64)
    by_region = [every[np.asarray(regions) == region] for region in dict.fromkeys(regions)]
    chosen = rng.integers(len(by_region), size=(draws, len(by_region)))
    sums, counts = np.zeros(chosen.shape), np.zeros(chosen.shape)
    for region, units in enumerate(by_region):
        here = chosen == region
        drawn = rng.integers(len(units), size=(np.count_nonzero(here), len(units)))
        sums[here], counts[here] = units[drawn].sum(axis=1), len(units)
    means = sums.sum(axis=1) / counts.sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


def summarise(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Means over units with their intervals, by kind and group, of all regions and of each.

    Returns:
        Of each: `kind`, `group`, `region` ("all" for all), `regions`, `units`, `pixels`, `methods` (means of
        the metrics by method, and the interval of PSNR and MAE), and `gains` of each model in dB over the
        best of all baselines that were evaluated.
    """
    result = []
    units = evaluation.units
    for kind, group in dict.fromkeys((unit.kind, unit.group) for unit in units):
        same = [unit for unit in units if (unit.kind, unit.group) == (kind, group)]
        regions = sorted({unit.region for unit in same})
        for region in ["all", *regions] if len(regions) > 1 else regions:
            chosen = [unit for unit in same if region in ("all", unit.region)]
            result.append(
                {
                    "kind": kind,
                    "group": group,
                    "region": region,
                    "regions": len({unit.region for unit in chosen}),
                    "units": len(chosen),
                    "pixels": sum(unit.pixels for unit in chosen),
                    "methods": {name: _average_scores(chosen, name) for name in evaluation.methods},
                    "gains": _compute_gains(chosen, evaluation),
                }
            )
    return result


def _average_scores(units: Sequence[Unit], name: str) -> dict[str, Any]:
    metrics = list(units[0].methods[name])
    columns = {metric: [unit.methods[name][metric] for unit in units] for metric in metrics}
    regions = [unit.region for unit in units]
    return {metric: round(float(np.mean(values)), 4) for metric, values in columns.items()} | {
        f"{metric} 95 %": interval(columns[metric], regions) for metric in ("psnr", "mae")
    }


def _compute_gains(units: Sequence[Unit], evaluation: Evaluation) -> list[dict[str, Any]]:
    there = [name for name in evaluation.methods if name in RIVALS]
    if not there:
        return []
    best = max(there, key=lambda name: np.mean([unit.methods[name]["psnr"] for unit in units]))
    found = []
    for model in evaluation.models:
        gains = [unit.methods[model]["psnr"] - unit.methods[best]["psnr"] for unit in units]
        found.append(
            {
                "model": model,
                "over": best,
                "gain dB": round(float(np.mean(gains)), 2),
                "95 %": interval(gains, [unit.region for unit in units]),
                "won": sum(gain > 0 for gain in gains),
                "units": len(gains),
            }
        )
    return found


def summarise_strata(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Mean absolute error by thickness of cloud, days to the nearest clear date, and depth in the gap.

    Returns:
        Of each stratum: `kind`, `group`, `by`, `class`, `regions`, `pixels`, `mae` by method.
    """
    merged: dict[tuple[str, str, str, str], list[Stratum]] = {}
    for one in evaluation.strata:
        merged.setdefault((one.kind, one.group, one.division, one.label), []).append(one)
    return [
        {
            "kind": kind,
            "group": group,
            "by": division,
            "class": label,
            "regions": len({part.region for part in merged[kind, group, division, label]}),
            "pixels": sum(part.pixels for part in merged[kind, group, division, label]),
            "mae": {
                name: _average_error(merged[kind, group, division, label], name)
                for name in evaluation.methods
            },
        }
        for kind, group, division, label in sorted(merged, key=_order)
    ]


def _average_error(parts: Sequence[Stratum], name: str) -> float:
    errors, pixels = [part.errors[name] for part in parts], [part.pixels for part in parts]
    return round(float(np.average(errors, weights=pixels)), 5)


def _order(key: tuple[str, str, str, str]) -> tuple[Any, ...]:
    kind, group, division, label = key
    labels = [*THICKNESS.values(), EDGE]
    low = labels.index(label) if division == "thickness" else int(label.rstrip("+").split("-")[0])
    return KINDS.index(cast("Kind", kind)), group, division, low


def reliability(uncertainty: NDArray[np.floating[Any]], error: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """How well an uncertainty predicts the error: rank correlation, and means of both by tenths of the first.

    Args:
        uncertainty: Of pixels, shape (n,).
        error: Absolute error of the same pixels, shape (n,).
    """
    order = np.argsort(uncertainty, kind="stable")
    tenths = [part for part in np.array_split(order, 10) if len(part)]
    varies = len(uncertainty) > 1 and np.ptp(uncertainty) > 0 and np.ptp(error) > 0
    return {
        "rank correlation": round(float(spearmanr(uncertainty, error).statistic), 3) if varies else None,
        "pixels": len(uncertainty),
        "tenths": [
            {
                "uncertainty": round(float(uncertainty[part].mean()), 5),
                "error": round(float(error[part].mean()), 5),
            }
            for part in tenths
        ],
    }


def summarise_uncertainty(evaluation: Evaluation) -> list[dict[str, Any]]:
    """`reliability` of the uncertainty of each model, by group, on a sample of the pixels."""
    found = []
    samples = evaluation.uncertainties
    for model in evaluation.models:
        for group in dict.fromkeys(one.group for one in samples if one.model == model):
            chosen = [one for one in samples if (one.model, one.group) == (model, group)]
            uncertainty = np.concatenate([one.uncertainty for one in chosen])
            error = np.concatenate([one.error for one in chosen])
            if len(uncertainty):
                found.append({"model": model, "group": group} | reliability(uncertainty, error))
    return found


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """All results.

    Returns:
        `summary` (see `summarise`), `by` (see `summarise_strata`), `uncertainty` (see
        `summarise_uncertainty`), and `units`.
    """
    return {
        "summary": summarise(evaluation),
        "by": summarise_strata(evaluation),
        "uncertainty": summarise_uncertainty(evaluation),
        "units": [unit.as_json() for unit in evaluation.units],
    }
