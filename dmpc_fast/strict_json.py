"""Strict JSON (RFC 8259) for text that nobody vouches for.

Duplicate keys, deep nesting, long numbers, numbers beyond double precision's range and lone
surrogates are refused. ``csrc/core/json.cpp`` accepts exactly the same texts.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 32
MAX_NUMBER_LENGTH = 64
_SHOWN_LENGTH = 80


def parse(text: str) -> Any:
    """The value of `text`. Raises ValueError saying what is wrong, and nothing else."""
    try:
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError(f"more than {MAX_DEPTH} levels of nesting") from None
    _check_tree(value)
    return value


def shown(value: Any) -> str:
    """What a reader of an error message sees of a value: its repr, shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of more than {MAX_NUMBER_LENGTH} characters")


def _integer(text: str) -> int:
    _check_length(text)
    return int(text)


def _real(text: str) -> float:
    _check_length(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is beyond double precision's range")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the key {shown(key)} appears twice")
        members[key] = value
    return members


def _check_tree(root: Any) -> None:
    """Refuse deep nesting and texts that are not Unicode (JSON's escapes allow half a character)."""
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                for key in value:
                    _check_text(key)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below
    raise ValueError(f"more than {MAX_DEPTH} levels of nesting")


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"the text {shown(text)} holds half of a surrogate pair")
