"""Blood cells drawn by a program: lymphoblasts and healthy cells, with subjects."""

from __future__ import annotations

import dataclasses
from numbers import Integral
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.utils import Bunch, check_random_state

__all__ = ["make_blood_cells"]

_Floats = npt.NDArray[np.float32]

# How far apart the classes stand, in units of the differences listed in _TRAITS.
_SEPARATION: Final = {"easy": 1.0, "hard": 0.45}

# Optical densities (R, G, B) of a stained nucleus and of cytoplasm, in the order of what
# Wright-Giemsa smears show; chosen by eye, not measured.
_NUCLEUS_DENSITY: Final = np.array([0.80, 1.35, 0.52], dtype=np.float32)
_CYTOPLASM_DENSITY: Final = np.array([0.42, 0.52, 0.16], dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class _Trait:
    """A measure of a cell: its middle, blast minus healthy, and its spread.

    The spread is that of cells of one subject, and of subjects of one class.
    """

    middle: float
    difference: float
    cells: float
    subjects: float


# Lengths are shares of the frame (diameter) or of the cell's radius (nucleus).
_TRAITS: Final = {
    "diameter": _Trait(0.54, 0.05, 0.030, 0.017),
    "nucleus": _Trait(0.80, 0.11, 0.035, 0.021),
    "clumping": _Trait(0.42, -0.34, 0.080, 0.070),
    "irregularity": _Trait(0.045, 0.035, 0.012, 0.008),
    "indentation": _Trait(0.08, 0.10, 0.060, 0.021),
    "nucleoli": _Trait(0.90, 1.60, 0.600, 0.280),
}


@dataclasses.dataclass(frozen=True)
class _Smear:
    """What all images of one subject share: stain, light, lens, and the subject's own cells."""

    nucleus_density: _Floats
    cytoplasm_density: _Floats
    light: _Floats
    magnification: float
    blur: float
    traits: dict[str, float]


def make_blood_cells(
    n_subjects: int = 20,
    images_per_subject: int = 30,
    *,
    image_size: int = 450,
    difficulty: str = "easy",
    subject_effect: float = 1.0,
    return_masks: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw images of single blood cells, cut out on black, from subjects with and without ALL.

    Lymphoblasts ("ALL") are larger, their nucleus nearly fills them, has an irregular, sometimes
    indented outline, fine even chromatin and pale nucleoli. Healthy cells ("HEM") have more
    cytoplasm around a round nucleus with coarse dark clumps. Both vary and overlap.

    Stain, light, magnification and sharpness belong to the subject, as they do to a smear in a
    laboratory. They tell nothing of the class, but a model that meets a subject's cells in
    training may know the subject again by them: a split by image then scores visibly higher
    than a split by subject, which is what real data does to careless experiments.

    Parameters
    ----------
    n_subjects : int, default=20
        Number of subjects, 2 or more; every other one has ALL.
    images_per_subject : int, default=30
        Images of each subject.
    image_size : int, default=450
        Side of the images in pixels, 32 or more; 450 is that of C-NMC 2019. The cell spans
        about half of it.
    difficulty : {"easy", "hard"}, default="easy"
        How much the classes overlap.
    subject_effect : float, default=1.0
        Strength of what belongs to the subject; 0 makes all subjects of a class alike.
    return_masks : bool, default=False
        Also return which pixels belong to the cell.
    random_state : int, RandomState instance or None, default=None
        Seed. The images of the first subjects stay the same when more are asked for.

    Returns
    -------
    Bunch
        - images : ndarray of shape (n_samples, image_size, image_size, 3), uint8
        - target : ndarray of shape (n_samples,) of str, "ALL" or "HEM"
        - groups : ndarray of shape (n_samples,) of str, the subjects "S000", "S001", ...
        - masks : ndarray of shape (n_samples, image_size, image_size), bool, True on the cell;
          with ``return_masks=True`` alone
        - target_names : list of str

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    The images take ``3 * image_size ** 2`` bytes each, all in memory.

    Examples
    --------
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=2, image_size=64, random_state=0)
    >>> cells.images.shape, cells.target[:3].tolist(), cells.groups[:3].tolist()
    ((8, 64, 64, 3), ['ALL', 'ALL', 'HEM'], ['S000', 'S000', 'S001'])
    """
    _check_whole("n_subjects", n_subjects, 2)
    _check_whole("images_per_subject", images_per_subject, 1)
    _check_whole("image_size", image_size, 32)
    if difficulty not in _SEPARATION:
        raise ValueError(f'difficulty={difficulty!r}; it is "easy" or "hard"')
    if not subject_effect >= 0:
        raise ValueError(f"subject_effect={subject_effect!r}; it is a number, 0 or more")
    entropy = int(check_random_state(random_state).randint(2**31 - 1))
    n = n_subjects * images_per_subject
    images = np.zeros((n, image_size, image_size, 3), dtype=np.uint8)
    masks = np.zeros((n, image_size, image_size), dtype=bool)
    for subject, sequence in enumerate(np.random.SeedSequence(entropy).spawn(n_subjects)):
        rng = np.random.default_rng(sequence)
        side = 0.5 if subject % 2 == 0 else -0.5
        smear = _draw_smear(rng, side * _SEPARATION[difficulty], subject_effect)
        for i in range(subject * images_per_subject, (subject + 1) * images_per_subject):
            images[i], masks[i] = _draw_cell(rng, smear, image_size)
    subjects = np.repeat(np.arange(n_subjects), images_per_subject)
    data = Bunch(
        images=images,
        target=np.array(["ALL", "HEM"])[subjects % 2],
        groups=np.array([f"S{subject:03d}" for subject in subjects]),
        target_names=["ALL", "HEM"],
    )
    if return_masks:
        data.masks = masks
    return data


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name}={value!r}; it is a whole number, {least} or more")


def _draw_smear(rng: np.random.Generator, side: float, effect: float) -> _Smear:
    traits = {
        name: trait.middle + side * trait.difference + effect * trait.subjects * rng.normal()
        for name, trait in _TRAITS.items()
    }

    def varied(spread: float) -> _Floats:
        return np.exp(effect * spread * rng.standard_normal(3, dtype=np.float32))

    strength = np.exp(np.float32(effect * 0.19 * rng.normal()))
    return _Smear(
        nucleus_density=_NUCLEUS_DENSITY * strength * varied(0.14),
        cytoplasm_density=_CYTOPLASM_DENSITY * strength * varied(0.18),
        light=np.minimum(0.96 * varied(0.07), 1),
        magnification=float(np.exp(effect * 0.07 * rng.normal())),
        blur=0.0022 * float(np.exp(effect * 0.45 * rng.normal())),
        traits=traits,
    )


def _draw_cell(
    rng: np.random.Generator, smear: _Smear, size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    trait = {name: smear.traits[name] + t.cells * rng.normal() for name, t in _TRAITS.items()}
    # The whole cell lies within the paper's centre crop of 448 of 450 pixels.
    radius = float(np.clip(0.5 * trait["diameter"] * smear.magnification, 0.16, 0.37))
    box, rows, columns = _box_around(rng.normal(0, 0.01, size=2), 1.25 * radius, size)
    outline = radius * _wobble(rng, rows, columns, 0.035)
    cell = _inside(np.hypot(rows, columns), outline, size)
    nucleus, chromatin = _draw_nucleus(rng, trait, radius, rows, columns, size)
    nucleus = np.minimum(nucleus, cell)
    plasma = 1 + 0.18 * _smooth_noise(rng, cell.shape, 0.05 * size)
    plasma -= 0.25 * (np.hypot(rows, columns) / radius)
    density = (
        nucleus[..., None] * chromatin[..., None] * smear.nucleus_density
        + ((1 - nucleus) * np.clip(plasma, 0.2, 2))[..., None] * smear.cytoplasm_density
    )
    picture = smear.light * np.exp(-density)  # Beer and Lambert
    picture = gaussian_filter(picture, (smear.blur * size, smear.blur * size, 0), truncate=3)
    picture += 0.008 * rng.standard_normal(picture.shape, dtype=np.float32)
    inside = cell > 0.5
    mask = np.zeros((size, size), dtype=bool)
    mask[box] = inside
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    # At least 1 inside, so that black means background and nothing else.
    pixels[box] = np.clip(np.rint(picture * cell[..., None] * 255), 1, 255) * inside[..., None]
    return pixels, mask


def _draw_nucleus(
    rng: np.random.Generator,
    trait: dict[str, float],
    radius: float,
    rows: _Floats,
    columns: _Floats,
    size: int,
) -> tuple[_Floats, _Floats]:
    """Return the share of each pixel that is nucleus, and the relative density of its chromatin."""
    share = float(np.clip(trait["nucleus"], 0.45, 0.95))
    shift = (1 - share) * radius * 0.6 * rng.uniform(-1, 1, size=2)
    down, right = rows - np.float32(shift[0]), columns - np.float32(shift[1])
    irregularity = float(np.clip(trait["irregularity"], 0.008, 0.12))
    rim = share * radius * _wobble(rng, down, right, irregularity)
    rim = rim * _notch(rng, down, right, float(np.clip(trait["indentation"], 0, 0.35)))
    nucleus = _inside(np.hypot(down, right), rim, size)
    clumping = float(np.clip(trait["clumping"], 0.02, 0.9))
    chromatin = _chromatin(rng, nucleus.shape, radius * size, clumping)
    chromatin -= _nucleoli(rng, down, right, share * radius, trait["nucleoli"])
    return nucleus, np.clip(chromatin, 0.25, 2.2)


def _box_around(
    centre: npt.NDArray[np.float64], half: float, size: int
) -> tuple[tuple[slice, slice], _Floats, _Floats]:
    """Return the part of the frame around the cell, and its coordinates from the cell's centre."""
    low = np.floor((0.5 + centre - half) * size).clip(0).astype(int)
    high = np.ceil((0.5 + centre + half) * size).clip(max=size).astype(int)
    rows, columns = (
        ((np.arange(low[k], high[k]) + 0.5) / size - 0.5 - centre[k]).astype(np.float32)
        for k in (0, 1)
    )
    grid = np.broadcast_arrays(rows[:, None], columns[None, :])
    return (slice(low[0], high[0]), slice(low[1], high[1])), grid[0], grid[1]


def _direction(rows: _Floats, columns: _Floats) -> npt.NDArray[np.complex64]:
    z = (columns + 1j * rows).astype(np.complex64)
    z /= np.maximum(np.abs(z), 1e-6)
    return z


def _wobble(rng: np.random.Generator, rows: _Floats, columns: _Floats, amount: float) -> _Floats:
    """Return the radius of a closed smooth outline in each direction, 1 on average."""
    z = _direction(rows, columns)
    wave = z
    out = np.ones(z.shape, dtype=np.float32)
    for order in range(2, 7):
        wave = wave * z  # cosine and sine of `order` times the angle
        size = amount * rng.normal() / (order - 1) ** 0.8
        out += np.real(wave * np.complex64(size * np.exp(1j * rng.uniform(0, 2 * np.pi))))
    return np.clip(out, 0.7, 1.2)


def _notch(rng: np.random.Generator, rows: _Floats, columns: _Floats, depth: float) -> _Floats:
    """Return the radius of a circle with one soft indentation, 1 elsewhere."""
    turned = _direction(rows, columns) * np.complex64(np.exp(1j * rng.uniform(0, 2 * np.pi)))
    return 1 - np.float32(depth) * np.exp((np.real(turned) - 1) * rng.uniform(6, 20))


def _inside(distance: _Floats, outline: _Floats, size: int) -> _Floats:
    """Share of each pixel that lies inside an outline: 1 within, 0 without, soft at the edge."""
    return np.clip((outline - distance) * size + 0.5, 0, 1)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> _Floats:
    """Return noise with mean 0 and variance near 1, with grains of a number of pixels."""
    coarse = (max(4, round(length / grain)) for length in shape)
    grid = Image.fromarray(rng.standard_normal(tuple(coarse), dtype=np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _chromatin(
    rng: np.random.Generator, shape: tuple[int, ...], radius: float, clumping: float
) -> _Floats:
    """Return the relative density of chromatin: coarse dark clumps, or a fine even grain."""
    clumps = np.tanh(1.6 * _smooth_noise(rng, shape, 0.16 * radius))
    fine = _smooth_noise(rng, shape, 0.05 * radius)
    shade = _smooth_noise(rng, shape, 0.6 * radius)
    return 1 + 0.38 * clumping * clumps + 0.10 * (1 - clumping) * fine + 0.05 * shade


def _nucleoli(
    rng: np.random.Generator, rows: _Floats, columns: _Floats, radius: float, expected: float
) -> _Floats:
    """Return how much paler the nucleoli make the nucleus."""
    out = np.zeros(rows.shape, dtype=np.float32)
    for _ in range(min(4, max(0, round(expected)))):
        angle, away = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.1, 0.65)
        distance = np.hypot(rows - away * np.sin(angle), columns - away * np.cos(angle))
        width = radius * rng.uniform(0.13, 0.20)
        out += rng.uniform(0.25, 0.45) * np.exp(-((distance / width) ** 4))
    return out
