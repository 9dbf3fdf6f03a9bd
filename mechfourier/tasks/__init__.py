"""The data that models are trained on. The package can also be called: ``mechfourier.tasks(model, domain)`` measures which
tasks of a domain a model answers (`mechfourier.probes.tasks`), since both go by that name in ``mechfourier``."""

import importlib
import sys
import types
from typing import Any


class _Package(types.ModuleType):
    def __call__(self, model: Any, domain: Any, **options: Any) -> Any:
        """`mechfourier.probes.tasks.tasks`."""
        return importlib.import_module("mechfourier.probes.tasks").tasks(model, domain, **options)


sys.modules[__name__].__class__ = _Package
