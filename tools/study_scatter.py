"""Measures how the numbers of `fastinit study` vary from seed to seed, to choose their intervals and to test them.

    python tools/study_scatter.py --seeds 100:140          # means and deviations, from which intervals are chosen
    python tools/study_scatter.py --seeds 0:20 --quick     # false alarms, on other seeds
    python tools/study_scatter.py --seeds 0:20 --weight-variance 1.1   # whether wrong weights are detected

Prints for each claim on how many seeds its measurement is inside the predicted range, and for each number its mean and
standard deviation over the seeds, and how many standard deviations are between the mean and the nearer end of its interval.
"""

from __future__ import annotations

import argparse
import math
import statistics

from fastinit.study import CLAIMS, Result, Settings, run_claim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:20", help="first:end, without end (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="smaller networks, as fastinit study --quick")
    parser.add_argument("--weight-variance", type=float, default=1.0, help="factor on the variance of all weights")
    parser.add_argument("--claims", default="", help="numbers separated by commas; all by default")
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
        place = f"{matching} of {len(results)} seeds inside the predicted range"
        print(f"claim {claim.number}: {place}; {seconds:.2f} s each", flush=True)
        _table(results)
    print(f"measurements inside the predicted range: {inside} of {total}")


def _table(results: list[Result]) -> None:
    for checks in zip(*(result.measurement.checks for result in results), strict=True):
        values = [check.value for check in checks]
        low, high = checks[0].low, checks[0].high
        missed = sum(not check.holds for check in checks)
        if all(map(math.isfinite, values)):
            mean, deviation = statistics.fmean(values), statistics.pstdev(values)
            room = min(mean - low, high - mean) / deviation if deviation else math.inf
            text = f"{mean:10.5g} ± {deviation:<9.2g} {room:6.1f} sd to the end of the interval"
        else:
            text = f"{min(values):10.5g} to {max(values):<9.5g}"
        print(f"    {text}  [{low:.5g}, {high:.5g}]  {checks[0].name}" + (f"  OUTSIDE on {missed} seeds" if missed else ""))


if __name__ == "__main__":
    main()
