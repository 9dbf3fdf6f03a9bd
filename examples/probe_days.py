"""Probe the embedded calendar model for the days of the week, and read the result.

Run: python examples/probe_days.py
"""

import mechfourier as mf


def main() -> mf.ProbeResult:
    model = mf.load("calendar")
    result = mf.probe(model, mf.domain("days"))
    print(result)
    print()
    print(result.frame().to_string(index=False))
    for step in result.next_steps():
        print(step)
    # result.plot().show() opens the figure; result.save("days.json") keeps all the evidence
    return result


if __name__ == "__main__":
    main()
