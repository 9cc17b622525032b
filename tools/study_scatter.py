"""How the numbers of `fastinit study` scatter from seed to seed, and what their margins are worth.

    python tools/study_scatter.py --seeds 100:140          # a table of checks, from which margins are taken
    python tools/study_scatter.py --seeds 0:20 --quick     # false alarms, on other seeds
    python tools/study_scatter.py --seeds 0:20 --weight-variance 1.1   # errors found

For each number: its mean and standard deviation over the seeds, and how many of those standard deviations lie between the mean
and the nearer end of the interval allowed. Then, for each claim, on how many seeds its measurement lies inside.
"""

from __future__ import annotations

import argparse
import math
import statistics

from fastinit.study import CLAIMS, Result, Settings, run_claim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:20", help="first:end")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--weight-variance", type=float, default=1.0)
    parser.add_argument("--claims", default="", help="numbers, with commas between; all by default")
    options = parser.parse_args()
    first, end = map(int, options.seeds.split(":"))
    wanted = {int(number) for number in options.claims.split(",") if number}
    inside = total = 0
    for claim in CLAIMS:
        if wanted and claim.number not in wanted:
            continue
        results = [
            run_claim(claim, Settings(seed, options.quick, options.weight_variance)) for seed in range(first, end)
        ]
        results = [result for result in results if result.matches is not None]
        if not results:
            print(f"claim {claim.number}: not measured")
            continue
        matching = sum(bool(result.matches) for result in results)
        inside, total = inside + matching, total + len(results)
        seconds = statistics.median(result.seconds for result in results)
        print(f"claim {claim.number}: {matching} of {len(results)} inside; {seconds:.2f} s", flush=True)
        _table(results)
    print(f"inside: {inside} of {total}")


def _table(results: list[Result]) -> None:
    for checks in zip(*(result.measurement.checks for result in results), strict=True):
        values = [check.value for check in checks]
        low, high = checks[0].low, checks[0].high
        missed = sum(not check.holds for check in checks)
        if all(map(math.isfinite, values)):
            mean, deviation = statistics.fmean(values), statistics.pstdev(values)
            room = min(mean - low, high - mean) / deviation if deviation else math.inf
            told = f"{mean:10.5g} ± {deviation:<9.2g} room {room:6.1f} sd"
        else:
            told = f"{min(values):10.5g} to {max(values):<9.5g}"
        print(f"    {told}  [{low:.5g}, {high:.5g}]  {checks[0].name}" + (f"  MISSED {missed}" if missed else ""))


if __name__ == "__main__":
    main()
