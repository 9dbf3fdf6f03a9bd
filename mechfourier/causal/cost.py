"""What passes cost, so that what cannot be afforded is left out before it is begun."""

from collections.abc import Callable
from typing import cast

from torch import nn

from mechfourier.causal.task import AnswerTask, Task
from mechfourier.hooks.run import device_of
from mechfourier.models.interface import Model

EDIT_BUDGET = 2**24  # numbers in the bases of one batch
FLOP_BUDGET = 1e13  # for all controls together on a CPU: two minutes or so on two cores
FEWEST_PROMPTS = 8
COSTLY = 10**8  # weights of the unembedding, once for every logit
FEWER = 0.25  # part of the samples where answers have several tokens
ROWS = 40_000  # rows that a study runs by default where prompts times interventions would be more


def block_weights(model: Model, start: int = 0) -> int:
    """Weights of the blocks from ``start`` on, each of which costs two operations per token; of the whole
    model where it has no list of blocks."""
    blocks, whole = getattr(model, "blocks", None), cast(nn.Module, model)
    if blocks is None:
        return sum(p.numel() for name, p in whole.named_parameters() if "W_E" not in name)
    return sum(p.numel() for block in list(blocks)[start:] for p in block.parameters())


def vocabulary_weights(model: Model) -> int:
    """Weights of the unembedding, each of which costs two operations per position whose logits are made."""
    return int(getattr(model.cfg, "d_vocab", 0) or 0) * int(getattr(model.cfg, "d_model", 0) or 0)


def affordable(
    model: Model, task: Task, interventions: int, *, start: int = 0, least: int = FEWEST_PROMPTS
) -> int:
    """How many prompts, ``least`` at least, ``FLOP_BUDGET`` allows for so many interventions on each (on a
    GPU: all of them), where passes begin at block ``start``."""
    count = len(task.rows)
    if not isinstance(task, AnswerTask) or device_of(model).type != "cpu":
        return count
    # a prompt runs once, and what can follow it after it; of answers of one token no other logits are made
    tokens = sum(len(e.ids) for e in task.encodings) / count + _after(task)
    words = _words(model, task)
    one = 2 * (max(1, block_weights(model, start)) * tokens + words)
    budget = FLOP_BUDGET * (FEWER if costly(model, task) else 1.0)
    return min(count, max(least, int(budget / (one * max(1, interventions)))))


def _after(task: AnswerTask) -> int:
    """Tokens of the continuations of a prompt."""
    return sum(len(path) for path in task.plan.paths)


def _words(model: Model, task: AnswerTask) -> int:
    """Weights of the unembedding that a prompt's scores take; none to speak of where answers are one token each."""
    return 0 if task.plan.of_one_token else vocabulary_weights(model) * (1 + _after(task))


def costly(model: Model, task: Task) -> bool:
    """Whether the logits of an edit, of the whole vocabulary and after every continuation, take as long as the edit itself."""
    return isinstance(task, AnswerTask) and _words(model, task) > COSTLY


def fewer(model: Model, task: Task, count: int) -> int:
    """``count`` samples, or a part of them where each is costly."""
    return max(1, round(count * FEWER)) if costly(model, task) else count


def bounded(model: Model, task: Task, interventions: int) -> int:
    """How many prompts so many interventions on each can afford: ``ROWS`` rows, and what ``affordable``
    says."""
    few = max(FEWEST_PROMPTS, ROWS // max(1, interventions))
    return min(len(task.rows), few, affordable(model, task, interventions))


def whole_steps(advance: Callable[[int], None], parts: int) -> Callable[[int], None]:
    """A report of small parts as one of whole steps, of ``parts`` parts each."""
    done = 0

    def report(count: int) -> None:
        nonlocal done
        before, done = done // parts, done + count
        if steps := done // parts - before:
            advance(steps)

    return report
