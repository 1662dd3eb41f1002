"""Values in JSON's types."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def plain(value: Any) -> Any:
    """`value` in JSON's types: dataclasses as objects, tuples as lists, infinite and NaN as null, others described."""
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return (value if math.isfinite(value) else None) if isinstance(value, float) else repr(value)
