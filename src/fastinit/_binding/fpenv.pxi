# ---- the floating-point environment: part of _core.pyx ----


def fpenv_enter():
    """Make this thread round to nearest and keep subnormal numbers; returns the state for `fpenv_leave` to restore."""
    return <unsigned long long>fi_fpenv_enter()


def fpenv_leave(unsigned long long saved):
    """Restore the floating-point environment that `fpenv_enter` returned."""
    fi_fpenv_leave(<fi_fpenv>saved)


# torch.compile calls them outside of its graph: what torch.compiler.disable sets, without importing torch.
fpenv_enter._torchdynamo_disable = fpenv_leave._torchdynamo_disable = True
