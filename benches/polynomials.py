#!/usr/bin/env python3
"""Minimax polynomials for the kernel, with their errors, and the errors of those in its sources.

    python3 -m venv target/polynomials && target/polynomials/bin/pip install mpmath
    target/polynomials/bin/python benches/polynomials.py

Every function is divided by its leading term at 0, so that each approximation is a polynomial c0 + c1·t + c2·t² …: for
eᶠ and log(1 + f)/f, t is f; for log(1 + f)/z with z = f/(2 + f), t is z². The largest relative error on the range is
minimised, by Remez' exchange with fifty digits. Coefficients left of the bar are fixed, and exact; the others are
rounded one by one, from the lowest, and after each the rest is fitted again. Each degree has the error of one less
beside it. Errors are those of the polynomial alone, without rounding in its evaluation. For exp that rounding decides:
its coefficients are from a search (exp_coefficients.rs), which began with these.
"""

import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpmath import atanh, cos, exp, log, log1p, lu_solve, matrix, mp, mpf, pi, sign, sqrt

mp.dps = 50
KERNEL = Path(__file__).resolve().parent.parent / "src/kernel"
# Ranges are this much wider, for rounding errors of the argument.
HAIR = 1 + mpf(2) ** -18
# A fit is minimax where its error is at most this factor above the lower bound for its degree.
SLACK = mpf("1.005")


@dataclass(frozen=True)
class Approximation:
    name: str
    range: str
    # The polynomial, and its range, in t.
    function: Callable
    low: mpf
    high: mpf
    first: list
    rounded_to: str
    degrees: list
    # Where the coefficients in use are: the file, the item and their order.
    source: tuple = None


def log_ratio(t):
    return log1p(t) / t


def atanh_ratio(t):
    """log(1 + f)/z for t = z², which is log((1 + z)/(1 − z))/z."""
    return 2 * atanh(sqrt(t)) / sqrt(t)


ONE, HALF, TWO, ZERO = mpf(1), mpf(1) / 2, mpf(2), mpf(0)
F_OF_OCTAVE = (sqrt(HALF) - 1) * HAIR, (sqrt(2) - 1) * HAIR
Z2_OF_OCTAVE = ZERO, ((sqrt(2) - 1) / (sqrt(2) + 1)) ** 2 * HAIR
Z2_ABOVE_ONE = ZERO, ONE / 9 * HAIR
EXP, LOG, LOSS, Z = "exp(f)", "log(1+f)/f", "-log(1-p)/p", "log(1+f)/z in z^2, z = f/(2+f)"
OCTAVE, ABOVE_ONE = "1+f in [sqrt 1/2, sqrt 2]", "f in [0, 1]"
HIGHEST_FIRST, LOWEST_FIRST = -1, 1
IN_EXP = "exp.rs", "fn exp_rest", HIGHEST_FIRST
IN_LOG = "log1p.rs", "const P", LOWEST_FIRST
IN_COSTS = "costs.rs", "const LOSS", HIGHEST_FIRST

APPROXIMATIONS = [
    Approximation(EXP, "|f| <= 0.3469", exp, mpf("-0.3469"), mpf("0.3469"), [ONE, ONE], "f32", [6], IN_EXP),
    Approximation(EXP, "|f| <= 0.34658", exp, mpf("-0.34658"), mpf("0.34658"), [ONE, ONE], "f64", [7, 8]),
    Approximation(LOG, OCTAVE, log_ratio, *F_OF_OCTAVE, [ONE, -HALF], "f32", [10]),
    Approximation(LOG, ABOVE_ONE, log_ratio, ZERO, HAIR, [ONE, -HALF], "f32", [10], IN_LOG),
    Approximation(LOSS, "p in [0, 1/2]", lambda p: log_ratio(-p), ZERO, HALF * HAIR, [ONE], "f32", [9], IN_COSTS),
    Approximation(Z, ABOVE_ONE, atanh_ratio, *Z2_ABOVE_ONE, [TWO], "f64", [5, 6]),
    Approximation(Z, OCTAVE, atanh_ratio, *Z2_OF_OCTAVE, [TWO], "f64", [4]),
]


def rounded(c, to):
    return mpf(float(c)) if to == "f64" else mpf(struct.unpack("<f", struct.pack("<f", float(c)))[0])


def written(c, to):
    return f"{float(c):.17g}" if to == "f64" else "0x" + struct.pack(">f", float(c)).hex()


def value(coefficients, t):
    result = mpf(0)
    for c in reversed(coefficients):
        result = result * t + c
    return result


def points(low, high, count):
    """Dense at the ends, and none at 0, where the functions are 0/0 and errors vanish by the fixed coefficients."""
    all_points = ((low + high) / 2 - (high - low) / 2 * cos(pi * i / count) for i in range(count + 1))
    return [t for t in all_points if abs(t) > (high - low) * mpf("1e-6")]


def alternating(errors, count):
    """Indices of `count` errors of alternating sign, as large as possible; fewer if there are not so many."""
    chosen = []
    for i, error in enumerate(errors):
        if not chosen or (errors[chosen[-1]] > 0) != (error > 0):
            chosen.append(i)
        elif abs(error) > abs(errors[chosen[-1]]):
            chosen[-1] = i
    while len(chosen) > count:
        sizes = [abs(errors[i]) for i in chosen]
        least = min(range(len(sizes)), key=sizes.__getitem__)
        if len(chosen) == count + 1:
            del chosen[0 if sizes[0] < sizes[-1] else -1]
        elif least in (0, len(chosen) - 1):
            del chosen[least]
        else:  # With one of its neighbours, so that the signs still alternate.
            left = least if sizes[least + 1] < sizes[least - 1] else least - 1
            del chosen[left : left + 2]
    return chosen


def fit(sampled, degree, first):
    """The minimax coefficients after the fixed ones, and a lower bound of the error of any."""
    k, n = len(first), degree + 1 - len(first)
    # With t^k, the lowest free power, as a factor, errors alternate up to the sign of t^k.
    sides = [sign(t) ** k for t, _ in sampled]
    rows = [[t**i / exact for i in range(k, degree + 1)] for t, exact in sampled]
    given = [1 - value(first, t) / exact for t, exact in sampled]
    chosen = [int(len(sampled) * (i + 0.5) / (n + 1)) for i in range(n + 1)]
    for _ in range(50):
        system = matrix([rows[at] + [(-1) ** i * sides[at]] for i, at in enumerate(chosen)])
        *free, level = lu_solve(system, matrix([given[at] for at in chosen]))
        errors = [side * (mp.fdot(row, free) - rest) for row, rest, side in zip(rows, given, sides)]
        last, chosen = chosen, alternating(errors, n + 1)
        if chosen == last:
            return first + free, abs(level)
        if len(chosen) <= n:
            break
    sys.exit(f"polynomials.py: no fit of degree {degree} behind {k} coefficients")


def largest_error(coefficients, sampled):
    return max(abs(value(coefficients, t) / exact - 1) for t, exact in sampled)


def sample(a, count):
    return [(t, a.function(t)) for t in points(a.low, a.high, count)]


def minimax_error(a, degree):
    """Of the coefficients before rounding."""
    coefficients, bound = fit(sample(a, 24 * (degree + 2)), degree, a.first)
    error = largest_error(coefficients, sample(a, 1000))
    if error > bound * SLACK:
        sys.exit(f"polynomials.py: {a.name}, {a.range}: what was found for degree {degree} is not minimax")
    return error


def rounded_minimax(a, degree):
    sampled, coefficients = sample(a, 24 * (degree + 2)), a.first
    while len(coefficients) <= degree:
        refitted = fit(sampled, degree, coefficients)[0]
        coefficients = coefficients + [rounded(refitted[len(coefficients)], a.rounded_to)]
    return coefficients


def in_use(a):
    """The coefficients in the source, from the lowest."""
    file, item, order = a.source
    _, _, rest = (KERNEL / file).read_text().partition(item)
    body = rest.split("\n}" if item.startswith("fn") else ";\n", 1)[0]
    found = [int(digits.replace("_", ""), 16) for digits in re.findall(r"\b0x([0-9a-f_]{9})\b", body)]
    if len(found) != a.degrees[0] + 1 - len(a.first):
        sys.exit(f"polynomials.py: {len(found)} coefficients of {a.name} in {item} of {file}")
    return a.first + [mpf(struct.unpack("<f", struct.pack("<I", bits))[0]) for bits in found[::order]]


def power_of_two(error):
    return f"2^{float(log(error, 2)):.2f}"


def show(coefficients, a):
    n = len(a.first)
    given = " ".join(f"{float(c):g}" for c in coefficients[:n])
    print(f"    {given} | {' '.join(written(c, a.rounded_to) for c in coefficients[n:])}")


def main():
    print("largest relative errors; coefficients from the lowest, those left of the bar given")
    for a in APPROXIMATIONS:
        print(f"{a.name}; {a.range}; {a.rounded_to}")
        for degree in a.degrees:
            coefficients = rounded_minimax(a, degree)
            exact, less = (power_of_two(minimax_error(a, d)) for d in (degree, degree - 1))
            after = power_of_two(largest_error(coefficients, sample(a, 1000)))
            print(f"  degree {degree}: {exact}, rounded {after}; degree {degree - 1} has {less}")
            show(coefficients, a)
        if a.source:
            error = largest_error(in_use(a), sample(a, 1000))
            print(f"  in use, {a.source[0]}: {power_of_two(error)}")
            show(in_use(a), a)
            if error > 2 * minimax_error(a, a.degrees[0]):
                sys.exit(f"polynomials.py: the coefficients of {a.name} in use have twice the least error")


if __name__ == "__main__":
    main()
