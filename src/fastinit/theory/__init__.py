"""Mean-field theory of wide random networks, by quadrature.

A layer z = a W + b of independent weights of variance sigma_w^2 / fan_in and biases of variance sigma_b^2 has, in the limit of
many units, normal pre-activations of variance q' = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2, z ~ N(0, 1) (Poole, Lahiri, Raghu,
Sohl-Dickstein & Ganguli, "Exponential expressivity in deep neural networks through transient chaos", 2016). On the way back
the mean square of the gradients is multiplied, in each layer, by chi_1 = sigma_w^2 E phi'(sqrt(q) z)^2 (Schoenholz, Gilmer,
Ganguli & Sohl-Dickstein, "Deep information propagation", 2017).

Everywhere here q is the variance of the pre-activations, c the correlation of the pre-activations of two inputs,
`weight_variance` is sigma_w^2 (fan_in times the variance of a weight) and `bias_variance` is sigma_b^2. An activation phi
is a name that `Stack` takes, a function of arrays, or an `Activation`. Functions of one layer and of its limit take arrays of
numbers, too, which are broadcast.

- one layer: `variance_map`, `correlation_map`, `chi_1`, `stability`, `correlation_slope`, and gains
- its limit: `fixed_point`, `fixed_correlation`, `critical_pair`, `phase`, `phase_diagram`
- how deep: `length_scale`, `gradient_scale`, `variance_scale`, `trainable_depth`
- a whole stack: `profile`, `residual_profile`, `jacobian_moments`, `nngp_kernel`, `ntk_kernel`
- normalisation: `layer_norm_chi`, `batch_norm_chi`

May import: _common, _core.
"""

from .activations import Activation
from .correlations import correlation_map, correlation_slope, fixed_correlation, length_scale
from .critical import critical_pair
from .jacobian import jacobian_moments, jacobian_singular_values
from .kernels import condition_number, nngp_kernel, ntk_kernel
from .maps import chi_1, expectation, fixed_point, forward_gain, function, slope, stability, variance_map
from .normalisation import batch_norm_chi, layer_norm_chi
from .phases import PhaseDiagram, gradient_scale, phase, phase_diagram, trainable_depth, variance_scale
from .profile import DepthProfile, profile
from .residual_stacks import ResidualProfile, residual_profile

__all__ = [
    "Activation",
    "DepthProfile",
    "PhaseDiagram",
    "ResidualProfile",
    "batch_norm_chi",
    "chi_1",
    "condition_number",
    "correlation_map",
    "correlation_slope",
    "critical_pair",
    "expectation",
    "fixed_correlation",
    "fixed_point",
    "forward_gain",
    "function",
    "gradient_scale",
    "jacobian_moments",
    "jacobian_singular_values",
    "layer_norm_chi",
    "length_scale",
    "nngp_kernel",
    "ntk_kernel",
    "phase",
    "phase_diagram",
    "profile",
    "residual_profile",
    "slope",
    "stability",
    "trainable_depth",
    "variance_map",
    "variance_scale",
]
