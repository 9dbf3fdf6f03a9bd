"""Planted planes, and the roles of the words in a prompt."""

import numpy as np
import pytest

from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.models.interface import Encoding
from mechfourier.probes.roles import role_spans, role_tokens
from mechfourier.stats.planes import SharedPlane, harmonic_plane, overlap, principal_angles, shared_plane


def planted(n: int, plane: np.ndarray, *, seed: int, noise: float = 0.15) -> np.ndarray:
    angle = 2 * np.pi * np.arange(n) / n
    rng = np.random.default_rng(seed)
    return np.stack([np.cos(angle), np.sin(angle)], -1) @ plane.T + noise * rng.standard_normal(
        (n, len(plane))
    )


def random_plane(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, 2)))[0]


def test_a_planted_plane_is_recovered() -> None:
    plane = random_plane(40, 0)
    fitted = harmonic_plane(planted(12, plane, seed=1, noise=0.01), 1)
    assert principal_angles(plane, fitted).max() < 3
    assert overlap(plane, fitted) == pytest.approx(1, abs=1e-2)


def test_angles_of_known_planes() -> None:
    eye = np.eye(4)
    turned = np.stack([eye[0], np.cos(0.5) * eye[1] + np.sin(0.5) * eye[2]], -1)
    assert principal_angles(eye[:, :2], turned) == pytest.approx([0.0, np.degrees(0.5)], abs=1e-4)
    assert overlap(eye[:, :2], eye[:, 2:]) == 0


def test_two_domains_in_one_plane_share_it() -> None:
    plane = random_plane(64, 2)
    result = shared_plane(
        planted(12, plane, seed=3), planted(7, plane, seed=4), draws=199, names=("months", "days")
    )
    assert result.p_value <= 2 / 200  # one of the drawn planes may come as near
    assert result.overlap > 1.5 * result.null_upper
    assert SharedPlane.from_json(result.to_json()) == result


def test_two_domains_in_unrelated_planes_do_not() -> None:
    p = [
        shared_plane(
            planted(12, random_plane(64, 2 * s), seed=s),
            planted(7, random_plane(64, 2 * s + 1), seed=s + 99),
            draws=99,
        ).p_value
        for s in range(20)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.2


def test_a_common_large_component_is_no_shared_circle() -> None:
    """Every prompt shares a few large components; planes of high variance overlap through them, and the null
    must know."""
    rng = np.random.default_rng(0)
    big = np.linalg.qr(rng.standard_normal((64, 2)))[0]
    found = []
    for _ in range(20):
        noisy = [
            3 * rng.standard_normal((n, 2)) @ big.T + 0.3 * rng.standard_normal((n, 64)) for n in (12, 7)
        ]
        found.append(shared_plane(noisy[0], noisy[1], draws=99))
    assert np.median([r.overlap for r in found]) > 5 * 2 / 64  # isotropic random planes overlap by 2/64
    assert np.mean([r.p_value < 0.05 for r in found]) <= 0.2


@pytest.mark.parametrize("k", [0, 6, 7])
def test_a_harmonic_without_a_plane_is_refused(k: int) -> None:
    with pytest.raises(OutOfRange, match="k runs from 1 to 5"):
        harmonic_plane(np.random.default_rng(0).standard_normal((12, 4)), k)


def test_roles_of_calendar_and_arithmetic_prompts() -> None:
    design = domain("mod-12").operation_design(1, template=1)
    spans = role_spans(design)[design.prompts.index("5 + 9 mod 12 =")]
    assert {r: "5 + 9 mod 12 ="[a:b] for r, (a, b) in spans.items()} == {
        "first operand": "5",
        "operator": "+",
        "second operand": "9",
        "modulus": "12",
        "equals": "=",
    }
    design = domain("days").operation_design(1, template=1)
    prompt = "Monday + 3 days ="
    spans = role_spans(design)[design.prompts.index(prompt)]
    assert {r: prompt[a:b] for r, (a, b) in spans.items()} == {
        "first operand": "Monday",
        "operator": "+",
        "second operand": "3",
        "unit": "days",
        "equals": "=",
    }
    encoding = Encoding((1, 2, 3, 4, 5, 6), ((0, 3), (3, 6), (7, 8), (9, 10), (11, 15), (16, 17)))
    assert role_tokens(spans, encoding)["first operand"] == (0, 1)
    with pytest.raises(UsageError, match="operation design"):
        role_spans(domain("days").value_design())
