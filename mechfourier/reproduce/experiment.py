"""What a published experiment is: a name, what was claimed, and what it takes. No torch here."""

from dataclasses import dataclass

LANGUAGE = "language model"


@dataclass(frozen=True)
class Experiment:
    """``needs``: the architecture of its network or ``LANGUAGE``, ``packaged``: the model taken where none is
    given ("" where the package has none that fits), ``train``: the command that makes what is missing,
    ``function``: a dotted path (Session) -> tuple of claims. ``minutes``: on two cores, with Qwen3-0.6B for
    the language model, and with the training where one is needed."""

    name: str
    title: str
    claimed: str
    needs: str
    packaged: str
    function: str
    minutes: float
    train: str = ""
