"""The running text of the calendar corpus: values in sentences, neighbours of values, and everyday filler.

The filler is a small grammar in which the verb decides the objects and the person the place, so that a model
can learn something and "text perplexity" has a floor well below the size of the vocabulary.
"""

import itertools
import random
from dataclasses import dataclass

from mechfourier.toys.calendar.task import (
    CLOCK_12,
    CLOCK_24,
    DAYS,
    LETTERS,
    MONTHS,
    NUMBERS,
    SEASONS,
)

TEXT_SEED = 7
HELD_OUT_SENTENCES = 400
FILLER_SENTENCES = 4000


@dataclass(frozen=True)
class Values:
    """The values of a domain and the sentences they stand in; ``unit`` names a step ("day")."""

    name: str
    unit: str
    values: tuple[str, ...]
    templates: tuple[str, ...]
    suffix: str = ""  # what follows a value when it stands alone: " o'clock", ":00"
    cyclic: bool = True


DOMAIN_TEXT: tuple[Values, ...] = (
    Values(
        "days",
        "day",
        DAYS,
        (
            "Today is {value}",
            "It is {value}",
            "The day is {value}",
            "Tomorrow is {value}",
            "Yesterday was {value}",
            "We meet on {value}",
            "See you on {value}",
            "The shop is closed on {value}",
            "My favourite day is {value}",
            "The party is on {value}",
            "The letter came on {value}",
            "Every {value}",
        ),
    ),
    Values(
        "months",
        "month",
        MONTHS,
        (
            "It is {value}",
            "The month is {value}",
            "This month is {value}",
            "She was born in {value}",
            "We meet in {value}",
            "The school opens in {value}",
            "My favourite month is {value}",
            "The party is in {value}",
            "The last week of {value}",
            "In the middle of {value}",
            "Every {value}",
        ),
    ),
    Values(
        "seasons",
        "season",
        SEASONS,
        (
            "It is {value}",
            "The season is {value}",
            "We meet in {value}",
            "She was born in {value}",
            "My favourite season is {value}",
            "In the middle of {value}",
            "The last week of {value}",
            "The garden is beautiful in {value}",
            "Every {value}",
        ),
    ),
    Values(
        "hours-12",
        "hour",
        CLOCK_12,
        (
            "It is {value} o'clock",
            "The time is {value} o'clock",
            "The train leaves at {value} o'clock",
            "We meet at {value} o'clock",
            "See you at {value} o'clock",
            "The shop opens at {value} o'clock",
            "Dinner is at {value} o'clock",
            "The clock says {value} o'clock",
            "The party starts at {value} o'clock",
        ),
        suffix=" o'clock",
    ),
    Values(
        "hours-24",
        "hour",
        CLOCK_24,
        (
            "It is {value}:00",
            "The time is {value}:00",
            "The train leaves at {value}:00",
            "We meet at {value}:00",
            "See you at {value}:00",
            "The shop opens at {value}:00",
            "Dinner is at {value}:00",
            "The clock says {value}:00",
            "The party starts at {value}:00",
        ),
        suffix=":00",
    ),
    Values(
        "alphabet",
        "letter",
        LETTERS,
        (
            "The letter {value}",
            "The letter is {value}",
            "The word starts with {value}",
            "The word ends with {value}",
            "Press the key {value}",
            "The answer is {value}",
            "Write the letter {value}",
            "The name starts with {value}",
            "We live in house {value}",
            "Take the bus {value}",
        ),
    ),
    Values(
        "numbers",
        "number",
        tuple(map(str, range(NUMBERS))),
        (
            "The number {value}",
            "The number is {value}",
            "The answer is {value}",
            "The result is {value}",
            "There are {value} books",
            "Open the book at page {value}",
            "She counts to {value}",
            "Room {value}",
            "We live in house {value}",
            "Take the bus {value}",
            "x = {value}",
        ),
        cyclic=False,
    ),
)

_PEOPLE = {
    "Anna": ("at home", "in the garden"),
    "Tom": ("at school", "in the garden"),
    "Maria": ("in the city", "at work"),
    "Peter": ("at work", "at home"),
    "The teacher": ("at school", "in the city"),
    "The child": ("at home", "at school"),
}
_DOES = {
    "reads": ("a book", "the newspaper", "a letter"),
    "writes": ("a letter", "a story", "a book"),
    "plays": ("the piano", "football", "a game"),
    "drinks": ("tea", "coffee", "water"),
    "eats": ("bread", "soup", "an apple"),
    "buys": ("bread", "an apple", "a book"),
}


def value_sentences() -> tuple[str, ...]:
    """Every value in every template, alone and followed by its next and its previous value."""
    return tuple(text for domain in DOMAIN_TEXT for text in _domain_sentences(domain))


def _domain_sentences(domain: Values) -> list[str]:
    texts = []
    for index, value in enumerate(domain.values):
        starts = [template.format(value=value) for template in domain.templates]
        texts += [f"{start}." for start in starts]
        for word, step in (("next", 1), ("previous", -1)):
            other = index + step
            if not domain.cyclic and not 0 <= other < len(domain.values):
                continue
            neighbour = domain.values[other % len(domain.values)] + domain.suffix
            relation = "after" if step > 0 else "before"
            texts += [f"{start}. The {word} {domain.unit} is {neighbour}." for start in starts]
            texts.append(f"The {domain.unit} {relation} {value}{domain.suffix} is {neighbour}.")
    return texts


def day_statements() -> tuple[str, ...]:
    """ "Today is Monday. Tomorrow is Tuesday." and "Today is Monday. Yesterday was Sunday."."""
    pairs = [(day, DAYS[(i + 1) % 7], DAYS[i - 1]) for i, day in enumerate(DAYS)]
    return tuple(
        f"Today is {day}. {sentence}."
        for day, after, before in pairs
        for sentence in (f"Tomorrow is {after}", f"Yesterday was {before}")
    )


def filler_sentences() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Everyday sentences, (training, held out): a seeded sample of the grammar without repeats."""
    times = [
        *(f"on {day}" for day in DAYS),
        *(f"in {month}" for month in MONTHS),
        *(f"in {season}" for season in SEASONS),
        *(f"at {hour} o'clock" for hour in CLOCK_12),
        "every day",
        "every week",
        "every year",
    ]
    everything = [
        f"{person} {verb} {thing} {place} {time}."
        for person, places in _PEOPLE.items()
        for verb, things in _DOES.items()
        for place, thing, time in itertools.product(places, things, times)
    ]
    random.Random(TEXT_SEED).shuffle(everything)
    chosen = everything[: FILLER_SENTENCES + HELD_OUT_SENTENCES]
    return tuple(chosen[HELD_OUT_SENTENCES:]), tuple(chosen[:HELD_OUT_SENTENCES])


def held_out_text() -> tuple[str, ...]:
    """The filler sentences that the calendar model never saw: what its text perplexity is measured on."""
    return filler_sentences()[1]


def training_text() -> tuple[str, ...]:
    """All running text the calendar model is trained on."""
    return (*value_sentences(), *day_statements(), *filler_sentences()[0])
