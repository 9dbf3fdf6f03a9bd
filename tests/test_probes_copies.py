"""Templates that read the same vectors count once, and their agreement is no evidence."""

import math

import pytest
import torch
from test_examples import example
from value_arrays import planted

from mechfourier.probes.probe import probe
from mechfourier.stats.copies import distinct, distinct_gram, effective_templates, template_groups
from mechfourier.stats.spectrum import cross_gram, shared_gram
from mechfourier.stats.value import ValueEvidence, analyse_value
from mechfourier.stats.verdict import verdict_value


def analysed(acts: torch.Tensor) -> ValueEvidence:
    return analyse_value(acts, permutations=199, bootstrap=60)


def with_copies(acts: torch.Tensor, copies: int, jitter: float = 0.0) -> torch.Tensor:
    """The first template again, ``copies`` times, each with a relative jitter."""
    first = acts[:, :, :1].expand(-1, -1, copies, -1)
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(9))
    return torch.cat([acts, first + jitter * first.std() * noise], 2)


def test_different_templates_are_all_distinct() -> None:
    acts = planted("circle", 12, seed=1)
    groups = template_groups(cross_gram(acts)[0])
    assert groups.tolist() == list(range(8)) and effective_templates(groups) == 8.0
    assert torch.allclose(distinct_gram(cross_gram(acts), [distinct(groups)]), shared_gram(cross_gram(acts)))


def test_copies_are_found_up_to_rounding_and_counted_by_what_they_are_worth() -> None:
    groups = template_groups(cross_gram(with_copies(planted("circle", 12, seed=1), 4, jitter=1e-3))[0])
    assert groups.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0]
    assert effective_templates(groups) == pytest.approx(12**2 / (5**2 + 7))
    shifted = planted("circle", 12, seed=1)
    shifted = torch.cat([shifted, shifted[:, :, :1] + 3.0], 2)  # a template's own mean is no difference
    assert distinct(template_groups(cross_gram(shifted)[0])) == list(range(8))


def test_added_copies_change_no_number() -> None:
    acts = planted("circle", 12, seed=3)
    plain, copied = analysed(acts), analysed(with_copies(acts, 6))
    for name in ("p_value", "signal_p", "harmonic_p", "order_p", "dimension_p"):
        assert getattr(copied, name) == pytest.approx(getattr(plain, name)), name
    a, b = plain.sites[0], copied.sites[0]
    assert (b.share, b.agreement, b.r2) == pytest.approx((a.share, a.agreement, a.r2))
    assert a.closure is not None and b.closure is not None and b.closure.turns == a.closure.turns
    assert (a.distinct, b.distinct) == (8, 8) and b.effective < a.effective == 8.0
    assert "copies" in " ".join(verdict_value(copied).reasons)


@pytest.mark.parametrize("jitter", [0.0, 1e-3])
def test_one_vector_in_every_template_is_no_agreement(jitter: float) -> None:
    found = analysed(with_copies(planted("circle", 12, seed=3)[:, :, :1], 9, jitter))
    site = found.sites[0]
    assert site.copies and site.distinct == 1 and site.effective == 1.0
    assert math.isnan(found.harmonic_p) and math.isnan(found.signal_p) and math.isnan(site.agreement)
    assert site.closure is not None and math.isnan(site.closure.turns.low)
    told = " ".join(verdict_value(found).reasons)
    assert "the same vectors in every template" in told and "sign-flip" not in told and "nan" not in told
    assert "held-out values and templates" not in told


def test_templates_that_hardly_differ_are_said_to_hardly_disagree() -> None:
    near = analysed(planted("circle", 12, seed=3, snr=1000.0))
    assert 0.01 < near.sites[0].spread < 0.1 and near.sites[0].distinct == 8
    assert "could hardly disagree" in " ".join(verdict_value(near).reasons)
    plain = analysed(planted("circle", 12, seed=3))
    assert plain.sites[0].spread > 0.5
    assert "could hardly disagree" not in " ".join(verdict_value(plain).reasons)


def test_a_site_of_copies_has_no_say_in_the_agreement_of_others() -> None:
    copies = with_copies(planted("circle", 12, seed=3)[:, :, :1], 7)
    noise = planted("walk per template", 12, seed=4)
    found = analyse_value(torch.cat([copies, noise]), permutations=199, bootstrap=60)
    alone = analyse_value(noise, permutations=199, bootstrap=60)
    assert found.signal_p == pytest.approx(alone.signal_p)


def test_fewer_than_six_distinct_templates_are_said_to_be_few() -> None:
    found = analysed(with_copies(planted("circle", 12, seed=3)[:, :, :4], 8))
    told = " ".join(verdict_value(found).reasons)
    assert "4 distinct templates (12 templates, the others are copies) are too few" in told


def test_the_embedding_of_a_model_is_one_vector_per_value() -> None:
    found = probe(example("own_model").Clock(), "mod-12", sites="embed", n_permutations=199)
    assert found.value is not None and found.value.sites[0].copies
    assert "agreement between templates is not evidence" in " ".join(found.reasons)
