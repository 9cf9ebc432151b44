"""What grows and stands on the simulated farmland: the spectrum and the season of each land cover.

Green to near infrared are levels of surface reflectance of Sentinel-2 L2A over Lower Austria. The bands of
20 m continue them by the ratios between bands that clear L2A dates of fields in Flanders show, by class of
NDVI: at an NDVI of 0.9 rededge1 is 1.6 x green, rededge2 0.68 x nir, rededge3 0.93 x nir, nir08 nir, swir16
0.33 x nir and swir22 0.16 x nir; on bare soil swir16 is 1.35 x nir and swir22 1.2 x nir. Ripe straw lies
between the two. Of forest, roofs, asphalt and water they are typical levels, set by hand: water in leaves and
soils sets the short-wave infrared, and open water has next to none.
"""

from __future__ import annotations

from dataclasses import dataclass

Spectrum = tuple[float, float, float, float, float, float, float, float, float, float]

BANDS_AT = {
    10: ("blue", "green", "red", "nir"),
    20: ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22"),
}
"""The simulated bands by the edge of their pixels in metres."""
BANDS = (*BANDS_AT[10], *BANDS_AT[20])
"""Bands of every spectrum, in this order."""


def bands_at(resolution: int) -> slice:
    """Where in a spectrum the bands of a resolution are.

    Args:
        resolution: Edge of a pixel in metres, 10 or 20.
    """
    return slice(4) if resolution == 10 else slice(4, None)


SOIL: Spectrum = (0.070, 0.098, 0.130, 0.205, 0.150, 0.170, 0.187, 0.214, 0.276, 0.240)
BLOOM: Spectrum = (0.042, 0.165, 0.150, 0.530, 0.205, 0.405, 0.500, 0.532, 0.205, 0.110)  # rapeseed in flower
RIPE: Spectrum = (0.050, 0.092, 0.135, 0.300, 0.172, 0.224, 0.262, 0.312, 0.325, 0.225)  # before the harvest
STUBBLE: Spectrum = (0.080, 0.122, 0.175, 0.310, 0.208, 0.246, 0.276, 0.325, 0.360, 0.280)
WETTING: Spectrum = (0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.38, 0.48)
"""Share of its reflectance that wet soil loses. Water absorbs most in the short-wave infrared (Lobell and
Asner 2002, doi:10.2136/sssaj2002.7220)."""


@dataclass(frozen=True, slots=True)
class Cover:
    """One kind of land cover, and what of it is visible from above over the season."""

    name: str
    """What it is."""
    colour: Spectrum
    """Reflectance at full cover, 0 to 1, in the bands of `BANDS`."""
    season: tuple[tuple[float, float, float, float, float], ...] = ((100, 1, 0, 0, 0),)
    """Day of year, then the shares of its own colour, bloom, ripe crop and stubble; the rest is soil."""
    share: float = 0.0
    """Share of the fields that grow it."""
    texture: float = 0.015
    """Relative brightness differences between neighbouring pixels (standard deviation)."""


# Calendar of Lower Austria. Bands of 10 m stand on the first line, those of 20 m on the second.
COVERS = (
    Cover("winter wheat", (0.026, 0.055, 0.028, 0.43,
        0.086, 0.300, 0.400, 0.430, 0.160, 0.075), (
        (91, 0.60, 0, 0, 0), (115, 0.88, 0, 0, 0), (140, 0.97, 0, 0, 0), (162, 0.90, 0, 0.08, 0),
        (178, 0.40, 0, 0.58, 0), (190, 0.05, 0, 0.93, 0), (201, 0.02, 0, 0.95, 0), (203, 0, 0, 0, 0.95),
    ), 0.27),
    Cover("winter barley", (0.030, 0.064, 0.034, 0.42,
        0.100, 0.300, 0.392, 0.422, 0.168, 0.082), (
        (91, 0.65, 0, 0, 0), (112, 0.92, 0, 0, 0), (138, 0.95, 0, 0, 0), (152, 0.75, 0, 0.22, 0),
        (166, 0.15, 0, 0.83, 0), (178, 0.03, 0, 0.95, 0), (180, 0, 0, 0, 0.95), (197, 0.05, 0, 0, 0.85),
        (202, 0, 0, 0, 0.25),
    ), 0.10),
    Cover("spring barley", (0.032, 0.068, 0.036, 0.41,
        0.106, 0.298, 0.384, 0.412, 0.172, 0.086), (
        (95, 0.04, 0, 0, 0), (110, 0.30, 0, 0, 0), (128, 0.85, 0, 0, 0), (150, 0.94, 0, 0, 0),
        (168, 0.45, 0, 0.50, 0), (180, 0.05, 0, 0.92, 0), (193, 0, 0, 0.96, 0), (195, 0, 0, 0, 0.93),
    ), 0.08),
    Cover("rapeseed", (0.030, 0.078, 0.036, 0.50,
        0.120, 0.352, 0.462, 0.500, 0.185, 0.090), (
        (91, 0.75, 0.02, 0, 0), (106, 0.88, 0.08, 0, 0), (115, 0.32, 0.66, 0, 0), (124, 0.22, 0.76, 0, 0),
        (134, 0.72, 0.25, 0, 0), (145, 0.96, 0.01, 0, 0), (165, 0.85, 0, 0.12, 0), (182, 0.30, 0, 0.65, 0),
        (194, 0.06, 0, 0.90, 0), (196, 0.03, 0, 0, 0.90),
    ), 0.11),
    Cover("maize", (0.028, 0.062, 0.030, 0.46,
        0.097, 0.315, 0.428, 0.460, 0.180, 0.085), (
        (138, 0.01, 0, 0, 0), (150, 0.10, 0, 0, 0), (165, 0.42, 0, 0, 0), (180, 0.85, 0, 0, 0),
        (192, 0.97, 0, 0, 0),
    ), 0.16),
    Cover("sugar beet", (0.030, 0.078, 0.034, 0.57,
        0.122, 0.395, 0.532, 0.570, 0.192, 0.087), (
        (118, 0.01, 0, 0, 0), (135, 0.12, 0, 0, 0), (150, 0.42, 0, 0, 0), (165, 0.82, 0, 0, 0),
        (180, 0.97, 0, 0, 0),
    ), 0.11),
    Cover("sunflower", (0.032, 0.076, 0.040, 0.48,
        0.118, 0.338, 0.446, 0.482, 0.195, 0.095), (
        (122, 0.01, 0, 0, 0), (140, 0.14, 0, 0, 0), (158, 0.55, 0, 0, 0), (174, 0.92, 0, 0, 0),
        (190, 0.80, 0.16, 0, 0), (203, 0.86, 0.08, 0, 0),
    ), 0.05),
    Cover("meadow", (0.036, 0.078, 0.046, 0.41,
        0.120, 0.298, 0.382, 0.412, 0.200, 0.105), (
        (91, 0.80, 0, 0, 0), (120, 0.98, 0, 0, 0), (144, 0.95, 0, 0, 0), (147, 0.45, 0, 0.35, 0),
        (165, 0.88, 0, 0.05, 0), (185, 0.92, 0, 0.05, 0), (188, 0.48, 0, 0.36, 0), (206, 0.80, 0, 0.12, 0),
    ), 0.07),
    Cover("alfalfa", (0.028, 0.068, 0.030, 0.47,
        0.106, 0.328, 0.437, 0.470, 0.175, 0.082), (
        (91, 0.55, 0, 0, 0), (115, 0.93, 0, 0, 0), (132, 0.97, 0, 0, 0), (135, 0.30, 0, 0.20, 0),
        (152, 0.93, 0, 0, 0), (168, 0.97, 0, 0, 0), (171, 0.30, 0, 0.20, 0), (188, 0.92, 0, 0, 0),
        (204, 0.96, 0, 0, 0),
    ), 0.05, 0.03),
    Cover("broadleaved wood", (0.018, 0.040, 0.020, 0.39,
        0.066, 0.268, 0.362, 0.395, 0.165, 0.070), (
        (96, 0.42, 0, 0.05, 0), (106, 0.60, 0, 0.02, 0), (120, 0.98, 0, 0, 0), (160, 1, 0, 0, 0),
    ), 0.0, 0.07),
    Cover("conifers", (0.014, 0.028, 0.017, 0.215,
        0.045, 0.150, 0.198, 0.220, 0.095, 0.042), texture=0.08),
    Cover("garden", (0.034, 0.062, 0.044, 0.30,
        0.098, 0.222, 0.278, 0.304, 0.190, 0.115), ((91, 0.75, 0, 0, 0), (125, 1, 0, 0, 0)), texture=0.10),
    Cover("tiled roof", (0.078, 0.092, 0.125, 0.210,
        0.150, 0.172, 0.190, 0.214, 0.260, 0.235), texture=0.10),
    Cover("pale roof", (0.190, 0.205, 0.220, 0.270,
        0.232, 0.244, 0.256, 0.275, 0.290, 0.265), texture=0.12),
    Cover("yard", (0.092, 0.108, 0.125, 0.190,
        0.140, 0.160, 0.176, 0.196, 0.228, 0.208), texture=0.06),
    Cover("road", (0.098, 0.112, 0.125, 0.165,
        0.134, 0.145, 0.155, 0.169, 0.200, 0.185), texture=0.02),
    Cover("track", (0.082, 0.112, 0.138, 0.235,
        0.165, 0.194, 0.213, 0.244, 0.282, 0.238), texture=0.03),
    Cover("water", (0.034, 0.044, 0.027, 0.014,
        0.022, 0.015, 0.012, 0.011, 0.007, 0.005), texture=0.02),
)  # fmt: skip
TOWN = ("garden", "tiled roof", "broadleaved wood", "yard", "pale roof")
TOWN_SHARES = (0.46, 0.24, 0.18, 0.08, 0.04)
KIND = {cover.name: number for number, cover in enumerate(COVERS)}
