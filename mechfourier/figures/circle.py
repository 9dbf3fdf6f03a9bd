"""A circle to turn by hand: the value is dragged round it, the residual stream is edited, the answers follow.

With the extra ``widgets`` (anywidget) every step is computed live, from the edited block on; without it, the answers of
96 steps are computed once and a slider shows them.
"""

import json
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from mechfourier._arguments import checked
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.plane import curve
from mechfourier.causal.steering import class_columns, displaced_scores
from mechfourier.causal.task import AnswerTask
from mechfourier.drawing.html import asset, inert
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.waves import harmonic_waves
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model
from mechfourier.results.base import Result

STEPS = 96  # of the slider
HINT = "pip install 'mechfourier[widgets]' lets the model answer while the value is dragged; here it answered beforehand."


class CircleEdit:
    """One prompt whose value is moved round the circle of harmonics ``ks`` at a site.

    ``values``: the domain's; ``points [n, 2]``: the class means in the plane of the first harmonic, in radii.
    """

    def __init__(self, asked: Experiment, place: SiteActivations, ks: tuple[int, ...], prompt: int) -> None:
        self.asked, self.place, self.ks, self.prompt = asked, place, ks, torch.tensor([prompt])
        domain = asked.design.domain
        self.values, self.n = domain.values, len(place.means)
        self.text = asked.design.prompts[int(asked.task.rows[prompt])]
        self.own = int(place.label[prompt])
        self.columns = class_columns(asked, place.position, asked.task.rows[self.prompt])[0]
        means = place.means.double()
        basis = torch.linalg.qr(means.T @ harmonic_waves(self.n, ks[0])).Q
        points = (means - means.mean(0)) @ basis
        self.points: list[tuple[float, float]] = (points / points.norm(dim=1).mean()).tolist()

    def answers(self, values: "list[float]") -> list[list[float]]:
        """Probability of the answer for every value of the domain (of the candidates), with the prompt's value
        moved to each of ``values``: 2.5 is half-way between the third and the fourth."""
        at = torch.tensor(values, dtype=torch.float64)
        start = curve(self.place.means, self.ks, torch.tensor([float(self.own)], dtype=torch.float64))
        added = curve(self.place.means, self.ks, at) - start
        scores = self.asked.baseline.scores[self.prompt].expand(len(at), -1).clone()
        moved = (added.norm(dim=1) > 1e-6 * start.norm()).nonzero()[:, 0]  # an edit by nothing is refused
        if len(moved):
            rows = self.prompt.expand(len(moved))
            scores[moved] = displaced_scores(self.asked, self.place, rows, added[moved], "circle").to(scores)
        return scores.double().softmax(1)[:, self.columns].tolist()

    def told(self) -> dict[str, Any]:
        """What the drawing needs."""
        names = [str(value) for value in self.values]
        about = {"prompt": self.text, "site": str(self.place.site), "model": model_name(self.asked.model)}
        return {"values": names, "points": self.points, "own": self.own, "k": self.ks[0], **about}


def circle_edit(
    result: Result, model: Model | None = None, *, prompt: int = 0, site: str | None = None
) -> CircleEdit:
    """The edit that ``circle`` shows. ``prompt``: which of the task's prompts; arguments as there."""
    found: Any = result
    ks = tuple(getattr(found, "ks", ())) or _ks_of(found)
    where = (
        site or getattr(found, "site", None) or (found.best.site if getattr(found, "best", None) else None)
    )
    if not ks or where is None or not getattr(found, "domain", None):
        raise UsageError(
            f"a {type(result).__name__} shows no circle at a place; give the result of study, rotate, dose or of a "
            "probe that found one"
        )
    if model is None:
        from mechfourier.models.registry import load

        model = load(found.model)
    of = getattr(found, "domain_file", "") or found.domain
    asked = Experiment.of(model, of, task=getattr(found, "task", None) or None)
    if not isinstance(asked.task, AnswerTask):
        raise UsageError(f"{model_name(model)} has no logits, so it answers nothing; choose a language model")
    position = getattr(found, "position", None) or "value"
    place = asked.at(where, position)
    if not 0 <= prompt < len(place.label):
        raise OutOfRange(f"prompt {prompt} of {len(place.label)}; give 0 to {len(place.label) - 1}")
    return CircleEdit(asked, place, ks, prompt)


def _ks_of(found: Any) -> tuple[int, ...]:
    best = getattr(found, "best", None)
    return (int(best.k),) if best is not None and getattr(best, "k", None) else ()


@checked
def circle(result: Result, model: Model | None = None, *, prompt: int = 0, site: str | None = None) -> Any:
    """A widget of the circle of ``result`` (of ``study``, ``rotate``, ``dose`` or ``probe``): drag the value round
    it, and the model answers with its residual stream edited there.

    ``model``: the loaded one (by default it is loaded by the result's name); ``prompt``: which of the task's
    prompts; ``site``: another place than the result's. Needs a notebook; without the extra ``widgets`` the
    result is a slider over answers computed beforehand. Raises ``UsageError`` for a result without a circle.
    """
    edit = circle_edit(result, model, prompt=prompt, site=site)
    return _widget(edit) if find_spec("anywidget") else CircleSlider(edit)


class CircleSlider:
    """The circle with a slider over ``STEPS`` answers computed once: HTML that needs no widget."""

    def __init__(self, edit: CircleEdit) -> None:
        self.steps = [edit.n * i / STEPS for i in range(STEPS)]
        self.answers = edit.answers(self.steps)
        self.told = edit.told()

    def page(self) -> str:
        """A page of its own."""
        short = [[round(p, 4) for p in row] for row in self.answers]
        data = inert(json.dumps({**self.told, "steps": self.steps, "answers": short, "hint": HINT}))
        script = asset("circle.js").replace("export default", "window.circle =")
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Circle</title><body>'
            f'<main id="circle"></main><script>{script}\n'
            f'window.circle.draw(document.getElementById("circle"), {data});</script></body></html>'
        )

    def _repr_html_(self) -> str:
        frame = f'srcdoc="{escape(self.page(), quote=True)}" title="circle" style="width:100%;height:430px;border:0"'
        return f"<iframe {frame}></iframe>"


def _widget(edit: CircleEdit) -> Any:
    """The live widget: JavaScript sends the value, Python answers."""
    anywidget, traitlets = import_module("anywidget"), import_module("traitlets")

    class CircleWidget(anywidget.AnyWidget):
        _esm = str(asset("circle.js"))
        told = traitlets.Dict(edit.told()).tag(sync=True)
        value = traitlets.Float(float(edit.own)).tag(sync=True)
        answer = traitlets.List(edit.answers([float(edit.own)])[0]).tag(sync=True)

        @traitlets.observe("value")
        def _moved(self, change: Any) -> None:
            self.answer = edit.answers([float(change["new"])])[0]

    return CircleWidget()
