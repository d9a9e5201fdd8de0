"""How to open a bridge, in words that another process can be told."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple


class Access(NamedTuple):
    """``bridge`` is ``module:Class``, ``options`` its keywords; ``timeout`` in seconds, where it has one."""

    bridge: str
    url: str
    options: Mapping[str, Any]
    timeout: float | None = 10.0

    def open(self) -> Any:
        """Return a new bridge."""
        module, _, name = self.bridge.partition(":")
        options = dict(self.options)
        if self.timeout is not None:
            options["timeout"] = timedelta(seconds=self.timeout)
        return getattr(importlib.import_module(module), name)(self.url, **options)

    def text(self) -> str:
        return json.dumps(self)

    @classmethod
    def of(cls, text: str) -> Access:
        return cls(*json.loads(text))
