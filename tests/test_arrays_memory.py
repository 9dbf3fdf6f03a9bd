"""Memory: a large file is read in parts, and many sites cost little beyond their inner products."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from value_arrays import planted

from mechfourier.probes.arrays.asked import Request
from mechfourier.probes.arrays.pages import forget
from mechfourier.probes.arrays.plan import plan
from mechfourier.stats.shapes.contest import contest
from mechfourier.stats.shapes.decide import decide_site
from mechfourier.stats.shapes.families import family
from mechfourier.stats.shapes.tables import canonical_frame, cross_gram, unbiased_mean


def resident() -> int:
    """Megabytes of mapped files in memory."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssFile:\s+(\d+)", status)[1]) // 1024  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are let go on Linux only")
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "pt"])
def test_pages_of_a_large_file_are_let_go_once_read(kind: str, tmp_path: Path) -> None:
    path, sites = tmp_path / f"large.{kind}", 12
    acts = torch.randn(sites, 7, 8, 20_000, generator=torch.Generator().manual_seed(0))
    if kind in ("npy", "npz"):
        (np.save if kind == "npy" else np.savez)(path, acts.numpy())
    elif kind == "pt":
        torch.save({"acts": acts}, path)
    else:
        save_file({"acts": acts}, path)
    made = plan(path, Request("days", None, None, None, None, "site value template d", "auto", False, -1))
    before, most = resident(), 0
    for cells, expected in zip(made.sites, acts, strict=True):
        for _ in range(2):  # what was let go is read again, and is the same
            found = torch.cat(list(cells.windows()), dim=-1)
            assert torch.equal(found, expected.double())
        most = max(most, resident() - before)
    assert most < 2 * acts[0].numel() * 4 / 2**20 + 4


def test_pages_that_are_not_a_file_are_left_alone() -> None:
    kept = torch.randn(2**20)
    same = kept.clone()
    forget([kept], ours=True)
    assert torch.equal(kept, same)


def test_decisions_of_many_sites_share_the_designs() -> None:
    gram = cross_gram(planted("circle", 12, d=24, snr=4.0)[0].double().numpy())
    found = decide_site(gram, canonical_frame(unbiased_mean(gram)), n_bootstrap=20, seed=0)
    shared = family(12)
    assert found.designs.grid is shared.grid and "packed" not in vars(found.designs)
    own = sum(row.nbytes for row in found.designs.fitted.values())
    assert 0 < own < shared.grid.nbytes / 20
    # and it is the same linear form as one with a table of its own
    whole = found.designs.weights
    assert np.array_equal(whole[list(found.designs.fitted)], np.stack(list(found.designs.fitted.values())))
    assert np.array_equal(found.designs.forms(range(len(whole))), whole)
    assert np.allclose(found.designs.packed, found.designs._pack(whole), rtol=1e-6)


def test_sites_that_are_copies_are_decided_once_wherever_they_stand() -> None:
    one, other = (planted("circle", 12, d=24, snr=4.0, seed=seed)[0].numpy() for seed in (0, 1))
    sites = contest(np.stack([one, other, one * 3, other]), n_bootstrap=20).sites
    assert sites[0] is sites[2] and sites[1] is sites[3] and sites[0] is not sites[1]
