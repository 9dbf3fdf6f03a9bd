"""The rule for ``used`` and ``not used`` (it is stated in `mechfourier.causal.study`), and its sentences."""

from mechfourier.causal.patch import PatchResult
from mechfourier.causal.result import AblationResult
from mechfourier.causal.rotate import RotationResult
from mechfourier.causal.share import BARE, LINE, WHOLE, UseShare
from mechfourier.causal.where import LEVEL as MAP_LEVEL
from mechfourier.causal.where import UseMap

LEVEL = 0.005
FEWEST_CONTROLS = 199  # p = 1/(199 + 1) is the least that reaches LEVEL
MATCHED = 4.0


def usage_verdict(ablation: AblationResult | None, rotation: RotationResult) -> tuple[str, list[str]]:
    """``used`` or ``not used`` by the rule of `mechfourier.causal.study`, with a sentence for each test;
    without ``ablation`` (a model at chance) by the turns alone."""
    turns, matters = _turns(rotation), ablation is not None and _matters(ablation)
    reasons = [
        f"turning k = {', '.join(map(str, rotation.ks))} at {rotation.site} ({rotation.position} token) moves "
        f"the answer by exactly δ on {rotation.exact_share:.1%} of prompts and turns; on the "
        f"{rotation.n_control_pairs} that controls were given as well, on {rotation.paired_share:.1%}, the same "
        f"displacement in {rotation.n_controls} random planes on {rotation.random_share or 0.0:.1%} (p = "
        f"{rotation.p_value:.2g})",
        rotation.direction(),
    ]
    if ablation is not None:
        reasons.append(
            f"ablating these planes changes the logit difference by {ablation.logit_diff_change:+.3g} (95 % "
            f"{ablation.logit_diff_ci[0]:+.3g} to {ablation.logit_diff_ci[1]:+.3g}); p = "
            f"{ablation.p_controls:.2g} against {ablation.n_controls} controls of "
            f"{ablation.control_variance_ratio or 0.0:.2g} times the variance"
        )
    if matters and not turns:
        reasons.append(
            "the planes matter, but the answer does not turn with them: used, though not shown to be used as "
            "a circle"
        )
    elif not turns and _nearly(rotation):
        reasons.append(
            f"that is near to it, but *used* asks for p ≤ {LEVEL} at the place that was chosen, so that of a hundred planes "
            "that nothing reads at most one is called used"
        )
    return ("used" if turns or matters else "not used"), reasons


def _nearly(rotation: RotationResult) -> bool:
    return rotation.directed_p is not None and rotation.directed_p <= MAP_LEVEL


def _turns(rotation: RotationResult) -> bool:
    if rotation.directed_p is None or rotation.directed_ci is None:
        return False
    return rotation.directed_p <= LEVEL and rotation.directed_ci[0] > 0


def _matters(ablation: AblationResult) -> bool:
    ratio = ablation.control_variance_ratio
    if ablation.p_controls is None or ratio is None:
        return False
    matched = 1 / MATCHED <= ratio <= MATCHED
    return matched and ablation.p_controls <= LEVEL and ablation.logit_diff_ci[1] < 0


def share_sentence(share: UseShare) -> str:
    """How much of what the token carries goes through the planes."""
    token = "value" if share.position == "value" else "last"
    ks = ", ".join(map(str, share.ks))
    if share.share.value is None and share.share_difference.value is None:
        return f"the {token} token carries nothing here that turns could be a share of: {share.share.reason}"
    whole = share.rung(WHOLE)
    moved = 0.0 if whole is None else whole.moved
    difference = f"{share.share_difference} by the rise of the score difference"
    if share.share.value is None:
        return f"these planes (k = {ks}) carry {difference} of what the {token} token carries"
    return (
        f"these planes (k = {ks}) carry {share.share} of what the {token} token carries, by exact moves (all "
        f"that the token says of it moves {moved:.0%} of the answers by δ); {difference}"
    )


def along_sentence(share: UseShare, circular: bool) -> str | None:
    """Whether it is used as a circle or along a line, with what says so; None where neither is used. ``circular``: the
    probe calls it a circle."""
    line, bare = share.rung(LINE), share.rung(BARE)
    if share.along is None or line is None or bare is None:
        return None
    numbers = (
        f"of a circle beside a line, fitted together, the circle moves {bare.moved:.0%} of the answers by δ "
        f"and the line {line.moved:.0%} (score of the answer δ away {bare.directed:+.2g} and "
        f"{line.directed:+.2g}; each counts as used where that is beyond steps in random planes)"
    )
    words = {
        "line": "represented on a circle, used along a line"
        if circular
        else "used along a line, not as a circle",
        "circle": "used as a circle, not along a line",
        "circle and line": "used as a circle and along a line",
    }
    aside = (
        ""
        if circular or share.along == "line"
        else " (by turns of this plane; the probe finds no circle at the place it names)"
    )
    return f"{words[share.along]}{aside}: {numbers}"


def where_sentence(found: UseMap, name: str = "value") -> str:
    """At which layers the circle is used, and where it goes from there."""
    layers = found.used(name)
    used = f"used at no layer of the {name} token (family-wise)"
    if layers:
        others = ((p, found.used(p)) for p in found.positions if p != name)
        further = "".join(f", at {spans(at)} of {_token(p)}" for p, at in others if at)
        used = f"used at {spans(layers)} of the {name} token{further} (in the map; p ≤ {MAP_LEVEL}, corrected for its places)"
    if found.moves_at is not None:
        interval = f" [{found.low}, {found.high}]"
        used += f"; what the value's token says has reached the last one at layer {found.moves_at}{interval}"
    return used


def _token(position: str) -> str:
    """``value+2`` in words."""
    after = position.partition("+")[2]
    if not after:
        return f"the {position} token"
    return "the token after it" if after == "1" else f"the token {after} places after it"


def spans(layers: tuple[int, ...]) -> str:
    """``(0, 1, 2, 5)`` as "layers 0–2, 5"; −1 is the embedding."""
    runs: list[list[int]] = []
    for layer in layers:
        if layer >= 0 and runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        elif layer >= 0:
            runs.append([layer])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    named = [f"layer{'s' * (sum(map(len, runs)) > 1)} {', '.join(words)}"] if words else []
    return " and ".join([*(["the embedding"] if -1 in layers else []), *named])


def patch_reason(patched: PatchResult) -> str:
    """What patching the planes brings, as a sentence."""
    against = f"p = {1.0 if patched.p_value is None else patched.p_value:.2g}"
    if patched.random_recovered is not None:
        against = f"random subspaces {patched.random_recovered:.1%}, {against}"
    return (
        f"patched from a prompt with another value, they bring {patched.success:.1%} of the donor's answers; "
        f"{patched.recovery()} ({against})"
    )
