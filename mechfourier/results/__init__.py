"""Results: what every one of them can do, how they are saved and read, and where they came from."""

from mechfourier._lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Kind": ".kinds",
        "Result": ".base",
        "Saved": ".saved",
        "compare": ".compare",
        "load_result": ".saved",
        "read": ".saved",
    },
)
