"""Mean-field theory of wide random networks, by quadrature.

A layer z = a W + b of independent weights of variance sigma_w^2 / fan_in and biases of variance sigma_b^2 has, in the limit of
many units, normal pre-activations of variance q' = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2 (Poole, Lahiri, Raghu,
Sohl-Dickstein & Ganguli, "Exponential expressivity in deep neural networks through transient chaos", 2016), and its
gradients' energy grows per layer, backward, by chi_1 = sigma_w^2 E phi'(sqrt(q) z)^2 (Schoenholz, Gilmer, Ganguli &
Sohl-Dickstein, "Deep information propagation", 2017).

In all functions, q > 0 or, where it makes sense, q >= 0 is a variance, c in [-1, 1] a correlation, and `weight_variance` and
`bias_variance` are >= 0; anything else is a ValueError, and a TypeError if it is no real number.

May import: _common, _core.
"""

from .maps import (
    chi_1,
    correlation_map,
    correlation_slope,
    critical_pair,
    expectation,
    fixed_correlation,
    fixed_point,
    forward_gain,
    function,
    length_scale,
    slope,
    stability,
    variance_map,
)

__all__ = [
    "chi_1",
    "correlation_map",
    "correlation_slope",
    "critical_pair",
    "expectation",
    "fixed_correlation",
    "fixed_point",
    "forward_gain",
    "function",
    "length_scale",
    "slope",
    "stability",
    "variance_map",
]
