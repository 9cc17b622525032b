"""What `fastinit.torch.init_` takes to start a whole model, beside the framework's own start, on two threads.

`python -m bench.model_start`: GPT-2 of 124 M parameters and a Llama of 1.1 B (needs transformers), and ResNet-50 (needs
torchvision); `--quick` leaves out the Llama. Each start is timed in a process of its own, from the model on the meta device to
the model with values, so that memory and its first touch count on both sides:

- ours: `init_` with a recipe, with all that it checks;
- framework: `to_empty`, then `initialize_weights` of Transformers; the constructor of torchvision;
- anyinit: `to_empty`, then `anyinit.initialize(model)`, where it is installed (left out otherwise);
- pages: `to_empty` and a zero to every page: what no start can be faster than.

Medians of `--rounds` processes each, in turn. Memory is the growth of the largest resident set over the model's own bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS = ("gpt2", "resnet50", "llama")
STARTS = ("ours", "framework", "anyinit", "pages")
THREADS = 2
TARGET, MEMORY = 8.0, 1.05
LLAMA = {
    "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4,
}  # fmt: skip


def built(name: str) -> Any:
    """The model on the meta device."""
    import torch

    with torch.device("meta"):
        if name == "resnet50":
            from torchvision.models import resnet50

            return resnet50()
        import transformers

        config = transformers.GPT2Config() if name == "gpt2" else transformers.LlamaConfig(**LLAMA)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def own(name: str, model: Any) -> None:
    import fastinit
    import fastinit.torch
    from fastinit import plans

    source = "torchvision" if name == "resnet50" else "transformers"
    recipe = getattr(plans, name.removesuffix("50"))(model, source=source)
    fastinit.torch.init_(model, recipe, key=fastinit.Key(0))


def of_framework(name: str, model: Any) -> None:
    import torch

    if name == "resnet50":
        from torchvision.models import resnet50

        resnet50()
        return
    model.to_empty(device="cpu")
    model.tie_weights()
    with torch.no_grad():
        model.initialize_weights()


def of_anyinit(name: str, model: Any) -> None:
    import anyinit

    model.to_empty(device="cpu")
    anyinit.initialize(model)


def of_pages(name: str, model: Any) -> None:
    model.to_empty(device="cpu")
    for parameter in {p.data_ptr(): p for p in model.parameters()}.values():
        parameter.detach().view(-1)[::1024] = 0


CALLS: dict[str, Callable[[str, Any], None]] = {
    "ours": own, "framework": of_framework, "anyinit": of_anyinit, "pages": of_pages,
}  # fmt: skip


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def largest() -> int:
    """Of the resident set of this process until now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def one(name: str, start: str) -> dict[str, float]:
    """Seconds, and growth of memory over the model's bytes, of one start in this process."""
    import torch

    import fastinit.torch
    from fastinit import plans

    torch.set_num_threads(THREADS)
    fastinit.set_num_threads(THREADS)
    small = torch.nn.Linear(64, 64, device="meta")  # imports and the threads are there before the clock starts
    fastinit.torch.init_(small, plans.Plan([plans.Rule("**", "normal")]), key=fastinit.Key(0))
    torch.ones(1 << 20).normal_()
    model = built(name)
    size = sum(p.numel() * p.element_size() for p in {id(p): p for p in model.parameters()}.values())
    before, begin = resident(), time.perf_counter()
    CALLS[start](name, model)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "memory": (largest() - before) / size, "size": size}


def check(name: str) -> None:
    """The values are those that the recipe asks for: a start that is not done is not timed."""
    import torch

    model = built(name)
    own(name, model)
    assert not any(t.is_meta or not torch.isfinite(t).all() for t in (*model.parameters(), *model.buffers()))
    if name == "resnet50":
        assert abs(float(model.conv1.weight.std()) / (2 / (49 * 64)) ** 0.5 - 1) < 0.05
    else:
        assert abs(float(model.get_input_embeddings().weight.std()) / 0.02 - 1) < 0.01


def run(name: str, start: str) -> dict[str, float] | str:
    """`one` in a process of its own, or why there is none: a package is missing, or anyinit does not take the model."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.model_start", "--one", name, start], capture_output=True, text=True, check=False
    )
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr:
            return "not installed"
        if start == "anyinit":
            return done.stderr.strip().splitlines()[-1]
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out the model of 1.1 billion parameters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "START"), help="time one start in this process, and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return 0
    print("| model | start | seconds | GB/s | times as long as ours | memory over the model's |\n|---|---|---|---|---|---|")
    missed = 0
    for name in MODELS[: 2 if options.quick else 3]:
        if isinstance(missing := run(name, "pages"), str):
            print(f"| {name} | {missing} |")
            continue
        if name != "llama":
            check(name)
        rounds = [{start: run(name, start) for start in STARTS} for _ in range(options.rounds)]
        for start in STARTS:
            rows = [row for each in rounds if isinstance(row := each[start], dict)]
            if not rows:
                print(f"| {name} | {start} | {rounds[0][start]} |")
                continue
            seconds = statistics.median(row["seconds"] for row in rows)
            pairs = [(each[start], each["ours"]) for each in rounds]
            both = [(a, b) for a, b in pairs if isinstance(a, dict) and isinstance(b, dict)]
            ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in both)
            memory = max(row["memory"] for row in rows)
            missed += (start == "framework" and ratio < TARGET) or (start == "ours" and memory > MEMORY)
            rate = rows[0]["size"] / seconds / 1e9
            print(f"| {name} | {start} | {seconds:.3f} | {rate:.2f} | {ratio:.2f} | {memory:.3f} |", flush=True)
    print(f"\nTargets: the framework takes at least {TARGET:g} times as long; memory at most {MEMORY:g}. Missed: {missed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
