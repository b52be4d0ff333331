"""Implied volatility against vollib and QuantLib: how many contracts in a CPU second of one thread, and how far off.

One process, one thread, CPU time, medians of interleaved rounds.  `python -m benchmarks.implied_vol`
"""

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import math
import resource
import statistics
import time

import numpy as np
import QuantLib as ql  # noqa: N813 - its own name for itself
from vollib.black_scholes_merton.implied_volatility import implied_volatility as vollib

from actors.domain import american, black_scholes
from actors.domain.american import Scheme
from actors.domain.black_scholes import Reason

RATE = 0.045
DAYS = np.array([2, 7, 14, 21, 30, 45, 60, 91, 121, 182, 273, 365, 545, 730])
MAKER = Scheme(nodes=16, points=24, steps=8, pricing=64, sigmas=1)
BATCH = 25  # tickers
TODAY = ql.Date(24, 11, 2026)


def chains(tickers, rng):
    """Return made-up terms, one column a field: 9 expiries of 25 strikes, both rights, on a skewed smile."""
    parts = []
    for _ in range(tickers):
        spot, base = rng.uniform(20, 500), rng.uniform(0.15, 0.7)
        carry = 0.0 if rng.random() < 0.4 else rng.uniform(0.002, 0.04)
        years = rng.choice(DAYS, 9, replace=False) / 365
        width = np.clip(2.2 * base * np.sqrt(years), 0.06, 0.7)
        k = (width[:, None] * np.linspace(-1, 1, 25)).ravel()
        years = np.repeat(years, 25)
        sigma = np.maximum(base * (1 - 0.125 * k / np.sqrt(years + 0.05) + 0.1 * k * k), 0.06)
        for call in (1.0, 0.0):
            same = np.ones_like(k)
            parts.append(
                [
                    spot * same,
                    spot * np.exp(k),
                    years,
                    RATE * same,
                    carry * same,
                    sigma,
                    call * same,
                ]
            )
    return np.concatenate(parts, axis=1)


def alive(columns, price):
    """Return what a market would quote: half a cent of time value."""
    spot, strike, *_, call = columns
    value = price - np.maximum(np.where(call > 0, spot - strike, strike - spot), 0.0)
    keep = value > 0.005
    return columns[:, keep], price[keep]


def rounds(racers, count):
    """Return each racer's median rows per CPU second; they take turns, so that a slow minute is shared."""
    speed = {name: [] for name, *_ in racers}
    for _ in range(count):
        for name, run, rows in racers:
            begun = time.process_time()
            run()
            speed[name].append(rows / (time.process_time() - begun))
    return {name: statistics.median(found) for name, found in speed.items()}


class Quant:
    """QuantLib's American option with quotes that move."""

    def __init__(self, scheme):
        ql.Settings.instance().evaluationDate = TODAY
        count = ql.Actual365Fixed()
        self.spot, self.carry, self.sigma = (ql.SimpleQuote(1.0) for _ in range(3))
        flat = ql.YieldTermStructureHandle(ql.FlatForward(TODAY, ql.QuoteHandle(self.carry), count))
        rate = ql.YieldTermStructureHandle(ql.FlatForward(TODAY, RATE, count))
        smile = ql.BlackConstantVol(TODAY, ql.NullCalendar(), ql.QuoteHandle(self.sigma), count)
        process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(self.spot), flat, rate, ql.BlackVolTermStructureHandle(smile)
        )
        self.engine = ql.QdFpAmericanEngine(process, scheme)

    def price(self, spot, strike, years, carry, call):
        """Return sigma -> value."""
        self.spot.setValue(spot)
        self.carry.setValue(carry)
        right = ql.Option.Call if call else ql.Option.Put
        last = TODAY + round(years * 365)
        option = ql.VanillaOption(
            ql.PlainVanillaPayoff(right, strike), ql.AmericanExercise(TODAY, last)
        )
        option.setPricingEngine(self.engine)

        def value(sigma):
            self.sigma.setValue(sigma)
            return option.NPV()

        return value

    def implied(self, columns, price):
        """Secant from the European volatility: what one would write with QuantLib."""
        found = []
        start = black_scholes.implied_volatility(price, *columns[:5], columns[6]).sigma
        for (spot, strike, years, _, carry, _, call), cost, first in zip(
            columns.T, price, start, strict=True
        ):
            value = self.price(spot, strike, years, carry, call)
            last, off, at = first, value(first) - cost, first * 0.98
            for _ in range(30):
                now = value(at) - cost
                if now == off or abs(at - last) < 1e-6:
                    break
                last, off, at = at, now, max(at - now * (at - last) / (now - off), 1e-3)
            found.append(at)
        return np.array(found)


def european(columns, count):
    """Print the race and the errors of European volatilities."""
    spot, strike, years, rate, carry, sigma, call = columns
    truth = black_scholes.greeks(spot, strike, years, rate, carry, sigma, call)
    price = truth.price
    few = np.linspace(0, len(price) - 1, 2000).astype(int)
    more = np.linspace(0, len(price) - 1, 20_000).astype(int)
    flags = ["c" if right else "p" for right in call]
    forward = spot * np.exp((rate - carry) * years)
    discount = np.exp(-rate * years)

    def by_vollib():
        for i in few:
            vollib(price[i], spot[i], strike[i], years[i], rate[i], carry[i], flags[i])

    def by_quantlib():
        for i in more:
            right = ql.Option.Call if call[i] else ql.Option.Put
            ql.blackFormulaImpliedStdDev(
                right, strike[i], forward[i], price[i], discount[i], 0.0, 0.2, 1e-12, 100
            ) / math.sqrt(years[i])

    def ours():
        return black_scholes.implied_volatility(price, spot, strike, years, rate, carry, call)

    speed = rounds(
        [
            ("ours", ours, len(price)),
            ("vollib", by_vollib, 2000),
            ("QuantLib", by_quantlib, 20_000),
        ],
        count,
    )
    found = ours()
    # what rounding the price and its two terms once moves sigma by
    blur = 2.0**-52 * (price + np.abs(truth.delta) * spot + strike * discount) / truth.vega
    well = blur <= 1e-12
    print(f"European, {len(price)} contracts ({well.sum()} well-conditioned), contracts/s:")
    for name, rate_ in speed.items():
        print(f"  {name:9}{rate_:12,.0f}   ours is x{speed['ours'] / rate_:.1f}")
    off = np.abs(found.sigma - sigma)[well]
    print(f"  largest error of the well-conditioned {off.max():.1e} (goal 1e-12)")
    print(f"  without an answer there: {(found.reason[well] != Reason.OK).sum()}")


def americans(columns, count):
    """Print the race and the errors of American volatilities."""
    made = american.price(*columns[:5], columns[5], columns[6], scheme=MAKER).price
    columns, price = alive(columns, made)
    fields, call = columns[:5], columns[6]
    rng = np.random.default_rng(5)
    some, few, judged = (rng.choice(len(price), size, replace=False) for size in (400, 60, 600))
    fast = Quant(ql.QdFpAmericanEngine.fastScheme())
    accurate = Quant(ql.QdFpAmericanEngine.accurateScheme())
    speed = rounds(
        [
            ("ours", lambda: american.implied_volatility(price, *fields, call), len(price)),
            ("QdFp fast", lambda: fast.implied(columns[:, some], price[some]), len(some)),
            ("QdFp accurate", lambda: accurate.implied(columns[:, few], price[few]), len(few)),
        ],
        count,
    )
    print(f"American, {len(price)} contracts, contracts/s:")
    for name, rate in speed.items():
        print(f"  {name:14}{rate:10,.0f}   ours is x{speed['ours'] / rate:.1f}")
    exact = Quant(ql.QdFpAmericanEngine.highPrecisionScheme())
    sample = columns[:, judged]
    spot, strike, years, _, carry, sigma, right = sample
    cost = np.array(
        [
            exact.price(*row)(v)
            for *row, v in zip(spot, strike, years, carry, right, sigma, strict=True)
        ]
    )
    found = american.implied_volatility(cost, *sample[:5], right)
    off = 100 * np.abs(found.sigma - sigma)
    vega = american.greeks(*sample[:5], sigma, right).vega / spot * 100
    out = np.where(right > 0, strike >= spot, strike <= spot)
    for name, rows, goal in (("out of", out, 0.005), ("in", ~out & (vega > 0.2), 0.05)):
        print(
            f"  error against QuantLib's high precision, {name} the money: {rows.sum()} rows, median"
            f" {np.nanmedian(off[rows]):.1e}, largest {np.nanmax(off[rows]):.4f} vol points (goal {goal})"
        )
    print(f"  without an answer: {np.isnan(off).sum()} of {len(off)}")


def many(contracts, rng):
    """Print how long a whole market takes, a batch of tickers at a time, and the process's peak."""
    batches, rows = [], 0
    while rows < contracts:
        columns = chains(BATCH, rng)
        price = american.price(*columns[:5], columns[5], columns[6]).price
        batches.append(alive(columns, price))
        rows += len(batches[-1][1])
    begun = time.process_time()
    lost = 0
    for columns, price in batches:
        found = american.implied_volatility(price, *columns[:5], columns[6], tick=0.01)
        lost += int((found.reason != Reason.OK).sum())
    took = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"A market: {rows} American contracts in {took:.2f} s of CPU, {lost} without an answer;")
    print(f"  the process at its peak {peak:.0f} MB, its made-up quotes and QuantLib included")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tickers", type=int, default=150)
    parser.add_argument("--contracts", type=int, default=500_000)
    args = parser.parse_args()
    rng = np.random.default_rng(11)
    columns = chains(args.tickers, rng)
    european(columns, args.rounds)
    americans(columns, args.rounds)
    many(args.contracts, rng)


if __name__ == "__main__":
    main()
