"""What to look at while and after training: gradients by layer, curvature, landscapes, paths; the style of pictures."""

from jaxopt_lectures.diagnostics.curvature import (
    condition_number,
    extreme_eigenvalues,
    hessian,
    hessian_vector_product,
    spectral_density,
    spectral_quadrature,
)
from jaxopt_lectures.diagnostics.gradients import NoiseScale, noise_scale, norms_by_layer, update_ratios
from jaxopt_lectures.diagnostics.landscapes import grid, random_direction, slice_1d, slice_2d
from jaxopt_lectures.diagnostics.trajectories import Trajectory, trajectory

__all__ = [
    "NoiseScale",
    "Trajectory",
    "condition_number",
    "extreme_eigenvalues",
    "grid",
    "hessian",
    "hessian_vector_product",
    "noise_scale",
    "norms_by_layer",
    "random_direction",
    "slice_1d",
    "slice_2d",
    "spectral_density",
    "spectral_quadrature",
    "trajectory",
    "update_ratios",
]
