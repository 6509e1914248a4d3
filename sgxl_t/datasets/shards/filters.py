"""Filters over what is known of a sample: expressions such as `similarity > 0.3 and punsafe < 0.5`.

An expression is parsed once and walked by hand; nothing of it is ever run as Python.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

from sgxl_t.datasets.rejects import RejectedItemError
from sgxl_t.files.untrusted import kind_of

MAX_CHARS = 1000
MAX_BITS = 2**14
"""Whole numbers that arithmetic may make; products of long ones would take ever longer."""
COMPUTED = ("min_side", "max_aspect")
"""Shorter side in pixels, and longer over shorter side."""

_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
_COMPUTE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LEAVES = (ast.Constant, ast.Name)
_ALLOWED = (
    *_COMPARE,
    *_COMPUTE,
    *_LEAVES,
    ast.Expression,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.BinOp,
    ast.Compare,
    ast.List,
    ast.Tuple,
    ast.Load,
)


class MissingValueError(LookupError):
    """A sample has no value under a name of the expression."""


class Filter:
    """One expression. names: the fields it reads.

    Numbers, texts, lists, names of fields, + - * /, comparisons (also `in`), and, or, not. Raises ValueError
    for anything else.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        if len(expression) > MAX_CHARS:
            raise ValueError(f"data.filter has {len(expression)} characters: use at most {MAX_CHARS}")
        try:
            self._tree = ast.parse(expression.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._mistake("cannot be read") from error
        for node in ast.walk(self._tree):
            if not isinstance(node, _ALLOWED):
                raise self._mistake(f"holds {type(node).__name__}")
            if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
                raise self._mistake(f"holds {node.value!r}")
        names = (node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name))
        self.names = tuple(dict.fromkeys(names))

    def keeps(self, value_of: Callable[[str], Any]) -> bool:
        """Whether a sample passes. value_of: a name's value; None where the sample has none.

        A sample without a value that the answer depends on does not pass. Raises RejectedItemError for values
        that cannot be compared, or that arithmetic fails on: texts, divisors of zero, numbers too large.
        """
        try:
            return bool(_value(self._tree.body, value_of))
        except MissingValueError:
            return False
        except TypeError as error:
            raise RejectedItemError("filter cannot compare", str(error)) from error
        except ArithmeticError as error:
            raise RejectedItemError("filter cannot compute", str(error)) from error
        except RecursionError:
            raise self._mistake("is nested too deeply") from None

    def _mistake(self, what: str) -> ValueError:
        return ValueError(
            f"data.filter={self.expression!r} {what}: write comparisons of fields, numbers and texts joined "
            'by and, or, not, such as "similarity > 0.3 and punsafe < 0.5"'
        )


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            value = value_of(name)
            if value is None or (isinstance(value, float) and math.isnan(value)):  # an empty cell of a table
                raise MissingValueError(name)
            return value
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(part, value_of) for part in values)
        case ast.BoolOp(values=values):
            return any(_value(part, value_of) for part in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, value_of)
        case ast.UnaryOp(operand=operand):
            return -_value(operand, value_of)
        case ast.BinOp(left=left, op=op, right=right):
            sides = [_value(side, value_of) for side in (left, right)]
            if not all(isinstance(side, int | float) for side in sides):
                raise TypeError(f"arithmetic on {' and '.join(map(kind_of, sides))}")
            return _bounded(_COMPUTE[type(op)](*sides))
        case ast.Compare(left=first, ops=ops, comparators=rest):
            left = _value(first, value_of)
            for comparison, right_node in zip(ops, rest, strict=True):
                right = _value(right_node, value_of)
                if not _COMPARE[type(comparison)](left, right):
                    return False
                left = right
            return True
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, value_of) for part in parts]
    raise AssertionError(type(node))


def _bounded(number: float) -> float:
    if isinstance(number, int) and number.bit_length() > MAX_BITS:
        raise OverflowError(f"a whole number of {number.bit_length()} bits")
    return number


def computed(name: str, width: Any, height: Any) -> float | None:
    """min_side or max_aspect from an image's sides; None where these are no sizes."""
    if not all(isinstance(side, int | float) and side > 0 for side in (width, height)):
        return None
    short, long = sorted((width, height))
    return short if name == "min_side" else long / short


def known_names(fields: Iterable[str]) -> str:
    """Names that a filter may use, for messages."""
    return ", ".join([*sorted(fields)[:30], *COMPUTED])
