"""Probe the embedded calendar model for the months of the year, and read the result.

Run: python examples/probe_months.py
"""

import mechfourier as mf


def main() -> mf.ProbeResult:
    model = mf.load("calendar")
    result = mf.probe(model, mf.domain("months"))
    print(result)
    print()
    print(result.frame().to_string(index=False))
    for step in result.next_steps():
        print(step)
    # result.plot().show() opens the figure; result.save("months.json") keeps all the evidence
    return result


if __name__ == "__main__":
    main()
