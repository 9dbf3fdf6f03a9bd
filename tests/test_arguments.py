"""Wrong arguments, and models whose numbers are damaged, are said before anything is printed."""

import copy
import inspect
from typing import Any

import numpy as np
import pytest
import torch

import mechfourier as mf
from mechfourier.causal.edits import orthonormal
from mechfourier.hooks.site import Site
from mechfourier.probes.numbers import number_line

SITE = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def calendar() -> Any:
    return mf.load("calendar")


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (mf.ablate, dict(site=SITE, dims="31"), "dims is '31'"),
    (mf.ablate, dict(site=SITE, dims=["31"]), "dims is '31'"),
    (mf.ablate, dict(site=SITE, dims=[3.7]), "dims is 3.7"),
    (mf.ablate, dict(site=SITE, dims=True), "dims is True"),
    (mf.ablate, dict(site=SITE, dims=[1], n_controls="5"), "n_controls is '5'"),
    (mf.ablate, dict(site=SITE, dims=[1], n_prompts=-4), "n_prompts is -4"),
    (mf.patch, dict(site=SITE, ks="12"), "ks is '12'"),
    (mf.rotate, dict(site=SITE, k="1"), "k is '1'"),
    (mf.probe, dict(n_permutations="many"), "n_permutations is 'many'"),
    (mf.probe, dict(n_permutations=199.5), "n_permutations is 199.5"),
    (mf.probe, dict(seed="x"), "seed is 'x'"),
    (mf.probe, dict(seed=-1), "seed is -1"),
    (mf.probe, dict(controls="no"), "controls is 'no'"),
    (mf.probe, dict(sites=""), "sites is empty"),
    (mf.probe, dict(layers=[]), "layers is empty"),
    (mf.sweep_ablate, dict(n_permutations=0), "n_permutations is 0"),
    (mf.study, dict(task=" "), "task is empty"),
    (mf.steer, dict(to=""), "to is empty"),
    (mf.ablate, dict(site=SITE, plane=np.full((128, 2), np.nan)), "not real, finite numbers"),
    (mf.rotate, dict(site=SITE, plane=torch.ones(2, 128)), "transpose it"),
]


@pytest.mark.parametrize(("verb", "options", "told"), WRONG)
def test_a_wrong_argument_is_one_sentence(calendar: Any, verb: Any, options: Any, told: str) -> None:
    with pytest.raises(mf.UsageError, match=told):
        verb(calendar, "months", **options)


NEEDED: dict[str, Any] = dict(
    domain="months",
    domains="days",
    site=SITE,
    to="March",
    prompts=["Monday"],
    moduli=[5],
    path="x.json",
    sites="resid_post",
)
FUNCTIONS = [name for name in sorted(mf.__all__) if inspect.isfunction(getattr(mf, name))]
FREE = {
    "stability": {"options"},
    "validate": {"cells", "done"},
    "compare": {"results"},
}
"""Arguments that take whatever there is."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_argument_of_a_wrong_type_starts_work(
    calendar: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def began(*_: Any, **__: Any) -> Any:
        raise AssertionError("work began with a wrong argument")

    for method in ("forward", "run_with_hooks", "run_with_cache"):
        monkeypatch.setattr(calendar, method, began)
    function = getattr(mf, name)
    parameters = inspect.signature(function).parameters
    known = {**NEEDED, "model": calendar, "models": [calendar] if name == "atlas" else ["calendar"]}
    needed = {
        each.name
        for each in parameters.values()
        if each.default is each.empty and each.kind is not each.VAR_POSITIONAL
    }
    arrays = {
        each.name for each in parameters.values() if "jaxtyping" in str(each.annotation)
    }  # tests check these first
    for argument in parameters.keys() - FREE.get(name, set()) - arrays:
        given = {each: known[each] for each in needed & known.keys()} | {argument: object()}
        if needed <= given.keys() and argument != "tokens":
            with pytest.raises(mf.MechFourierError):
                function(**given)


@pytest.mark.parametrize("domain", [["months"], None, 12, {"values": 3}])
def test_what_is_no_domain_is_said(calendar: Any, domain: Any) -> None:
    with pytest.raises(mf.UsageError, match="domain is"):
        mf.probe(calendar, domain)


@pytest.mark.parametrize(
    ("model", "told"), [("calendar", "load it first"), (None, "NoneType"), (torch.nn.Linear(3, 3), "Linear")]
)
def test_what_is_no_model_is_said(model: Any, told: str) -> None:
    with pytest.raises(mf.UsageError, match=told):
        mf.probe(model, "months")


@pytest.mark.parametrize("model", [3, ["calendar"], None, torch.nn.Linear(3, 3)])
def test_what_is_neither_a_model_nor_the_name_of_one_is_said(model: Any) -> None:
    with pytest.raises(mf.UsageError, match="model is of type"):
        mf.reproduce(["ablation-layer7-dim8"], model=model)


def test_arrays_of_numbers_are_numbers(calendar: Any) -> None:
    options: dict[str, Any] = dict(site=SITE, n_controls=20, text=None)
    plain = mf.ablate(calendar, "months", dims=[3, 1], **options)
    lists: Any = (np.array([3, 1]), torch.tensor([3, 1]), (np.int64(3), 1))
    for dims in lists:
        assert mf.ablate(calendar, "months", dims=dims, **options).frame().equals(plain.frame())


DAMAGE = {
    "one weight is NaN": lambda model: model.blocks[0].mlp.W_in[3, 5].fill_(float("nan")),
    "infinite weights": lambda model: model.blocks[1].mlp.W_out.fill_(float("inf")),
    "one value's embedding is NaN": lambda model: model.embed.W_E[3].fill_(float("nan")),
    "all weights are zero": lambda model: [weight.zero_() for weight in model.parameters()],
}
VERBS = {
    "ablate": lambda model: mf.ablate(model, "months", site=SITE, dims=[1], n_controls=20, text=None),
    "rotate": lambda model: mf.rotate(model, "months", site=SITE, n_controls=20),
    "patch": lambda model: mf.patch(model, "months", site=SITE, ks=[1], n_controls=20),
    "tasks": lambda model: mf.tasks(model, "months"),
    "lens": lambda model: mf.lens(model, "months", n_permutations=99),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("verb", VERBS)
def test_a_damaged_model_gives_no_numbers(calendar: Any, damage: str, verb: str) -> None:
    model = copy.deepcopy(calendar)
    with torch.no_grad():
        DAMAGE[damage](model)
    with pytest.raises(mf.MechFourierError, match=r"NaN or infinit|same score"):
        VERBS[verb](model)


def test_study_of_a_model_that_shows_no_value_reads_the_last_token() -> None:
    result = mf.study(mf.load("adder"), "digit-sum-mod-10", n_controls=199, n_permutations=99)
    assert result.used == "used"
    assert {candidate.position for candidate in result.candidates} == {"last"}
    assert all(candidate.site.startswith("decoder.") for candidate in result.candidates)


def test_attention_of_two_stacks_is_refused() -> None:
    with pytest.raises(mf.MechFourierError, match="stacks of this model attend to sequences"):
        mf.attention(mf.load("adder"), "digit-sum-mod-10", n_permutations=99)


NAME: Any = "calendar"
TWICE: list[tuple[Any, str]] = [
    (lambda m: mf.scan(m, [7, 7]), "moduli names 7 more than once"),
    (lambda m: mf.stability(["calendar", "calendar"], "days"), "calendar more than once"),
    (lambda m: mf.atlas([m, m], "days", quick=True, n_permutations=99), "calendar .* more than once"),
    (lambda m: mf.token_report("days", NAME), "load it first"),
    (lambda m: mf.scan(m, []), "moduli is empty"),
]


@pytest.mark.parametrize(("call", "told"), TWICE)
def test_what_counts_once_is_given_once(calendar: Any, call: Any, told: str) -> None:
    with pytest.raises(mf.UsageError, match=told):
        call(calendar)


@pytest.mark.parametrize("periods", [[0], [-1], [10, 10], [float("inf")], [1e308], [1], []])
def test_periods_that_no_numbers_show_are_refused(calendar: Any, periods: list[float]) -> None:
    with pytest.raises(mf.UsageError, match=r"cannot be seen in 31|given twice|is empty"):
        number_line(calendar, low=0, high=30, periods=periods, n_permutations=99)


@pytest.mark.parametrize(
    ("plane", "told"),
    [
        ("x", "the plane is 'x'"),
        (None, "the plane is None"),
        ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
        (torch.ones(4, 2, dtype=torch.complex64), "not real, finite numbers"),
        (torch.full((4, 2), torch.inf), "not real, finite numbers"),
        (torch.zeros(4, 2), "the plane is zero"),
    ],
)
def test_what_is_no_plane_is_refused(plane: Any, told: str) -> None:
    with pytest.raises(mf.UsageError, match=told):
        orthonormal(plane, Site.parse(SITE), 4)
