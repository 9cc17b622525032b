# ---- the floating-point environment: part of _core.pyx ----


def fpenv_enter():
    """Round to nearest, with subnormal numbers, in this thread; returns what `fpenv_leave` brings back."""
    return <unsigned long long>fi_fpenv_enter()


def fpenv_leave(unsigned long long saved):
    """The floating-point environment of before `fpenv_enter`."""
    fi_fpenv_leave(<fi_fpenv>saved)


# torch.compile runs them outside of its graph, as torch.compiler.disable would make it.
fpenv_enter._torchdynamo_disable = fpenv_leave._torchdynamo_disable = True
