"""The rule for ``used`` and ``not used`` (it is stated in `mechfourier.causal.study`), and its sentences."""

from mechfourier.causal.patch import PatchResult
from mechfourier.causal.result import AblationResult
from mechfourier.causal.rotate import RotationResult

LEVEL = 0.005
FEWEST_CONTROLS = 199  # p = 1/(199 + 1) is the least that reaches LEVEL
MATCHED = 4.0
FAR_ABOVE = (0.1, 2.0)  # least share of exact turns above the random planes', and least multiple of it


def usage_verdict(ablation: AblationResult, rotation: RotationResult) -> tuple[str, list[str]]:
    """``used`` or ``not used`` by the rule of `mechfourier.causal.study`, with a sentence for each test."""
    turns, matters = _turns(rotation), _matters(ablation)
    reasons = [
        f"turning k = {', '.join(map(str, rotation.ks))} at {rotation.site} ({rotation.position} token) "
        "moves "
        "the answer by "
        f"exactly δ on {rotation.exact_share:.1%} of prompts and turns; the same displacement in "
        f"{rotation.n_controls} random planes "
        f"does so on {rotation.random_share or 0.0:.1%} of {rotation.n_control_pairs} of them on average, "
        f"{rotation.random_max or 0.0:.1%} at most (p = {rotation.p_value:.2g})",
        f"ablating these planes changes the logit difference by {ablation.logit_diff_change:+.3g} (95 % "
        f"{ablation.logit_diff_ci[0]:+.3g} to {ablation.logit_diff_ci[1]:+.3g}); p = "
        f"{ablation.p_controls:.2g} against "
        f"{ablation.n_controls} controls of {ablation.control_variance_ratio or 0.0:.2g} times the variance",
    ]
    if matters and not turns:
        reasons.append(
            "the planes matter, but the answer does not turn with them: used, though not shown to be used as "
            "a circle"
        )
    return ("used" if turns or matters else "not used"), reasons


def _turns(rotation: RotationResult) -> bool:
    if rotation.p_value is None or rotation.random_share is None:
        return False
    above, times = FAR_ABOVE
    least = max(rotation.random_share + above, times * rotation.random_share)
    return rotation.p_value <= LEVEL and rotation.exact_ci[0] >= least


def _matters(ablation: AblationResult) -> bool:
    ratio = ablation.control_variance_ratio
    if ablation.p_controls is None or ratio is None:
        return False
    matched = 1 / MATCHED <= ratio <= MATCHED
    return matched and ablation.p_controls <= LEVEL and ablation.logit_diff_ci[1] < 0


def patch_reason(patched: PatchResult) -> str:
    """What patching the planes brings, as a sentence."""
    against = f"p = {patched.p_value or 1.0:.2g}"
    if patched.random_recovered is not None:
        against = f"random subspaces {patched.random_recovered:.1%}, {against}"
    return (
        f"patched from a prompt with another value, they bring {patched.success:.1%} of the donor's answers; "
        f"{patched.recovery()} ({against})"
    )
