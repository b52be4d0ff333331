"""The soak's slope: flat noise and a single step are no leak, a leak is one; levels of lives do not matter."""

import itertools

import numpy as np
import pytest

from benchmarks.soak import CHILDREN, WARM_UP, WAYS, deals, settled, slope


def life(minutes, mb=60.0, leak=0.0, noise=0.05, step=0.0, seed=0):
    """Return a life of one sample each 5 s and ten cycles between, with noise that lasts."""
    rng, held, points = np.random.default_rng(seed), 0.0, []
    for n in range(minutes * 12):
        held = 0.9 * held + rng.normal() * noise
        risen = step if n > minutes * 6 else 0.0
        points.append((n * 5.0, n * 10, mb + held + risen + leak * n / 100))
    return points


@pytest.mark.parametrize("seed", range(5))
def test_flat_noise_at_different_levels_is_no_slope(seed):
    found = slope([life(10, mb=50 + 20 * n, seed=seed * 10 + n) for n in range(3)])
    assert found.growths == 27
    assert found.flat
    assert abs(found.value) < 0.5


def test_a_single_step_is_no_leak():
    found = slope([life(30, step=0.5, noise=0.01)])
    assert found.value > 0.1
    assert found.flat


@pytest.mark.parametrize("leak", [0.5, -0.5])
def test_a_leak_is_told_with_its_size(leak):
    found = slope([life(20, leak=leak, noise=0.02, seed=n) for n in range(2)])
    assert found.flat is False
    assert found.low <= leak <= found.high
    assert found.value == pytest.approx(leak, abs=0.1)


def test_of_too_little_nothing_is_told():
    assert slope([]).flat is None
    assert slope([life(5)]).flat is None
    assert slope([life(1)]).value is None


def test_the_warm_up_and_what_a_blow_did_are_not_measured():
    samples = [(at, at * 2, 60.0, ("a",)) for at in range(0, 600, 5)]
    samples += [(at, at * 2, 70.0, ("b",)) for at in range(600, 1200, 5)]
    first, second = settled(samples, [(400, 410)])
    assert first[0][0] == WARM_UP
    assert {400, 405, 410}.isdisjoint(at for at, _, _ in first)
    assert second[0] == (600 + WARM_UP, 2 * (600 + WARM_UP), 70.0)


def test_each_deal_hits_everybody_and_the_seed_decides_it():
    import random

    def dealt(seed):
        return list(itertools.islice(deals(random.Random(seed)), 48))

    assert dealt(1) == dealt(1)
    assert dealt(1) != dealt(2)
    victims = {*CHILDREN, "supervisor", "postgresql", "sandbox", "raylet", "gcs_server"}
    assert {victim for victim, _ in dealt(1)} == victims
    assert {way for victim, way in dealt(1) if victim in CHILDREN} == set(WAYS)
