"""Family-wise p-values hold for all tests at once."""

import numpy as np

from mechfourier.stats.family import largest_p, sign_flip_p


def test_false_alarms_of_a_whole_family_keep_the_level() -> None:
    """40 correlated tests in the spread of their own: any p ≤ 0.05 in at most about 1 in 20 families."""
    rng, alarms = np.random.default_rng(0), [0, 0]
    scale = 10.0 ** rng.uniform(-2, 2, 40)
    for _ in range(200):
        drawn = (rng.normal(size=(40, 40)) + rng.normal(size=(1, 40))) * scale[:, None]
        alarms[0] += bool((largest_p(drawn[:, 0], drawn[:, 1:]) <= 0.05).any())
        values = (rng.normal(size=(40, 24)) + rng.normal(size=(1, 24))) * scale[:, None]
        alarms[1] += bool((sign_flip_p(values, seed=1, flips=199) <= 0.05).any())
    assert max(alarms) <= 20 and min(alarms) >= 2


def test_what_is_there_is_found() -> None:
    rng = np.random.default_rng(1)
    null = rng.normal(size=(30, 39))
    observed = rng.normal(size=30)
    observed[4] = 30.0
    p = largest_p(observed, null)
    assert p[4] == 1 / 40 and (np.delete(p, 4) > 0.05).all()
    values = rng.normal(size=(30, 24))
    values[7] += 3.0
    p = sign_flip_p(values, seed=0)
    assert p[7] == 0.001 and (np.delete(p, 7) > 0.02).all()


def test_tests_in_which_nothing_varies_say_nothing() -> None:
    assert largest_p(np.zeros(2), np.zeros((2, 9))).tolist() == [1.0, 1.0]
    assert sign_flip_p(np.zeros((2, 9)), seed=0).tolist() == [1.0, 1.0]
