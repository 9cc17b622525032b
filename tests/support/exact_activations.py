"""The activations and their derivatives by definition, in multiprecision."""


def exact(name):
    """(phi, phi') in mpmath, safe for any float64."""
    import mpmath as mp

    def sigmoid(x):
        return 1 / (1 + mp.exp(-x))

    def softplus(x):
        return mp.log1p(mp.exp(x)) if x < 1000 else x

    def ncdf(x):
        return mp.ncdf(x) if abs(x) < 1000 else mp.mpf(x > 0)

    def density(x):
        return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)

    def u(x):
        return mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)

    def derivative_u(x):
        return mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * x**2)

    scale, alpha = mp.mpf("1.0507009873554804934"), mp.mpf("1.6732632423543772848")
    one, zero = mp.mpf(1), mp.mpf(0)
    return {
        "linear": (lambda x: x, lambda x: one),
        "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2),
        "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
        "relu": (lambda x: max(x, zero), lambda x: one if x > 0 else zero),
        "leaky_relu": (lambda x: x if x > 0 else x / 8, lambda x: one if x > 0 else one / 8),
        "hard_tanh": (lambda x: min(max(x, -one), one), lambda x: one if abs(x) < 1 else zero),
        "elu": (lambda x: x if x > 0 else mp.expm1(x), lambda x: one if x > 0 else mp.exp(x)),
        "selu": (
            lambda x: scale * (x if x > 0 else alpha * mp.expm1(x)),
            lambda x: scale * (one if x > 0 else alpha * mp.exp(x)),
        ),
        "softplus": (softplus, sigmoid),
        "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
        "gelu": (lambda x: x * ncdf(x), lambda x: ncdf(x) + x * density(x)),
        "gelu_tanh": (
            lambda x: x * sigmoid(2 * u(x)),
            lambda x: (
                sigmoid(2 * u(x)) + x * 2 * derivative_u(x) * sigmoid(2 * u(x)) * sigmoid(-2 * u(x))
            ),
        ),
        "silu": (
            lambda x: x * sigmoid(x),
            lambda x: sigmoid(x) + x * sigmoid(x) * sigmoid(-x),
        ),
        "mish": (
            lambda x: x * mp.tanh(softplus(x)),
            lambda x: mp.tanh(softplus(x)) + x * mp.sech(softplus(x)) ** 2 * sigmoid(x),
        ),
        "sin": (mp.sin, mp.cos),
    }[name]
