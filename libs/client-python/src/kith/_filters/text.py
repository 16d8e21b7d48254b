"""The textual form of filters, as the JSON form; docs/filters.md has the grammar, libs/filter/text the same for TypeScript."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from kith._filters.datetimes import NoZoneError, micros_of
from kith._filters.paths import end_of_key, end_of_path, path_problem
from kith.errors import KithError, error_of

T = TypeVar("T")
Json = dict[str, Any]
Kind = Literal["name", "string", "number", "distance", "datetime", "uuid", "symbol", "end"]

_RESERVED: Final = frozenset(("and", "or", "not", "in", "except", "between", "is", "null", "empty", "true", "false"))
_LENGTH_MAX: Final = 65_536
_DEPTH_MAX: Final = 32

_SPACE: Final = re.compile(r"\s*")
_END: Final = r"(?![\w-])"
_LITERALS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    (
        "datetime",
        re.compile(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
            r"(?:[Tt][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?(?![\w:-])"
        ),
    ),
    ("uuid", re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}" + _END)),
    ("distance", re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?k?m" + _END)),
    ("number", re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?" + _END)),
)
_SYMBOL: Final = re.compile(r"<=|>=|!=|\[any:|[()\[\],=<>~]")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

_BOUND: Final = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_MIRRORED: Final = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


@dataclass(frozen=True)
class _Token:
    kind: Kind
    #: As it is written; of a string what it says.
    text: str
    start: int
    end: int


class _Lexer:
    """Splits a text into tokens, one at a time, and reads paths where the parser expects one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.peek = self._read()

    def at_end(self) -> bool:
        return self.peek.kind == "end"

    def next(self) -> _Token:
        token = self.peek
        self._at = token.end
        self.peek = self._read()
        return token

    def take(self, text: str) -> bool:
        if self.peek.kind != "symbol" or self.peek.text != text:
            return False
        self.next()
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.expected(f'"{text}"')

    def is_word(self, word: str) -> bool:
        return self.peek.kind == "name" and self.peek.text.lower() == word

    def take_word(self, word: str) -> bool:
        if not self.is_word(word):
            return False
        self.next()
        return True

    def is_call(self) -> bool:
        """Whether the next token is a name with a parenthesis behind it."""
        if self.peek.kind != "name":
            return False
        return self._text[self._space(self.peek.end) :].startswith("(")

    def path(self) -> str:
        """The path that begins with the next token; it holds no spaces."""
        start = self.peek.start
        if self.peek.kind not in ("name", "string"):
            raise self.expected("a field")
        end = end_of_path(self._text, start)
        path = self._text[start:end]
        problem = path_problem(path)
        if problem is not None:
            raise self.error(problem[0], start + problem[1])
        self._at = end
        self.peek = self._read()
        return path

    def _space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return at if match is None else match.end()

    def _read(self) -> _Token:
        start = self._space(self._at)
        if start == len(self._text):
            return _Token("end", "", start, start)
        for kind, pattern in _LITERALS:
            if (found := pattern.match(self._text, start)) is not None:
                return _Token(kind, found[0], start, found.end())
        first = self._text[start]
        if first in "\"'":
            return self._string(start, first)
        if (found := _SYMBOL.match(self._text, start)) is not None:
            return _Token("symbol", found[0], start, found.end())
        end = end_of_key(self._text, start)
        if end is None:
            raise self.error(f"the character {json.dumps(first)} has no meaning here", start)
        return _Token("name", self._text[start:end], start, end)

    def _string(self, start: int, quote: str) -> _Token:
        end = start + 1
        while end < len(self._text) and self._text[end] != quote:
            end += 2 if self._text[end] == "\\" else 1
        if end >= len(self._text):
            raise self.error("the string has no closing quote", start)

        def unescaped(match: re.Match[str]) -> str:
            code = match[1]
            if len(code) == 5:
                return chr(int(code[1:], 16))
            if code == "u":
                raise self.error("after \\u come four hexadecimal digits", start)
            return _ESCAPES.get(code, code)

        text = _ESCAPE.sub(unescaped, self._text[start + 1 : end])
        # Two escapes may be the halves of one character.
        return _Token("string", text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), start, end + 1)

    def expected(self, what: str) -> KithError:
        token = self.peek
        found = "the end" if token.kind == "end" else json.dumps(token.text, ensure_ascii=False)
        return self.error(f"expected {what}, found {found}", token.start)

    def error(self, problem: str, at: int) -> KithError:
        """With a caret under the character at a place."""
        line_start = self._text.rfind("\n", 0, at) + 1
        line_end = self._text.find("\n", at)
        line = self._text[line_start : None if line_end < 0 else line_end]
        before = at - line_start
        number = self._text.count("\n", 0, line_start) + 1
        where = f"column {before + 1}" if number == 1 else f"line {number}, column {before + 1}"
        begin = max(0, before - 60)
        shown = line[begin : begin + 100].replace("\t", " ")
        message = f"{where}: {problem}\n  {shown}\n  {' ' * (before - begin)}^"
        return error_of("INVALID_FILTER", message, {"path": where, "line": number, "column": before + 1})


@dataclass(frozen=True)
class _Subject:
    """What is compared: a field, or the number of its values."""

    path: str
    counted: bool
    start: int


def parse_filter(text: str) -> Json:
    """The JSON form of a filter. INVALID_FILTER with the column, and the line with a caret under it, where it is none."""
    if len(text) > _LENGTH_MAX:
        raise error_of(
            "INVALID_FILTER",
            f"the filter has {len(text)} characters; at most {_LENGTH_MAX} are allowed",
            {"limit": _LENGTH_MAX},
        )
    return _Parser(_Lexer(text)).filter()


class _Parser:
    def __init__(self, lexer: _Lexer) -> None:
        self._lexer = lexer
        self._depth = 0

    def filter(self) -> Json:
        if self._lexer.at_end():
            return {}
        condition = self._or()
        if not self._lexer.at_end():
            raise self._lexer.expected('"and", "or" or the end')
        return _filter_from(condition)

    def _or(self) -> Json:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._lexer.error(f"parentheses are more than {_DEPTH_MAX} deep", self._lexer.peek.start)
        terms = [self._and()]
        while self._lexer.take_word("or"):
            terms.append(self._and())
        self._depth -= 1
        if len(terms) == 1:
            return terms[0]
        return {"should": [each for term in terms for each in _only_part(term, "should") or [term]]}

    def _and(self) -> Json:
        terms = [self._not()]
        while self._lexer.take_word("and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else _all_of(terms)

    def _not(self) -> Json:
        negations = 0
        while self._lexer.take_word("not"):
            negations += 1
        condition = self._primary()
        for _ in range(negations):
            condition = _negated(condition)
        return condition

    def _primary(self) -> Json:
        token = self._lexer.peek
        if self._lexer.take("("):
            condition = self._or()
            self._lexer.expect(")")
            return condition
        if token.kind in ("number", "datetime"):
            return self._chain()
        if token.kind == "name" and token.text.lower() != "count" and self._lexer.is_call():
            return self._call()
        if token.kind == "name" and token.text.lower() in _RESERVED:
            raise self._lexer.error(
                f'"{token.text}" is a word of the language: a field of that name stands in quotes', token.start
            )
        subject = self._subject()
        return self._count_comparison(subject) if subject.counted else self._comparison(subject)

    def _subject(self) -> _Subject:
        start = self._lexer.peek.start
        if not self._lexer.is_word("count") or not self._lexer.is_call():
            return _Subject(self._lexer.path(), False, start)
        self._lexer.next()
        return _Subject(self._arguments(self._lexer.path), True, start)

    def _comparison(self, subject: _Subject) -> Json:
        path, lexer = subject.path, self._lexer
        if lexer.take("[any:"):
            inner = _filter_from(self._or())
            lexer.expect("]")
            return {"nested": {"key": path, "filter": inner}}
        if lexer.take("="):
            return self._equals(path)
        if lexer.take("!="):
            return _negated(self._equals(path))
        if lexer.take("~"):
            return self._words(path)
        if lexer.take_word("in"):
            return self._values("any", path)
        if lexer.take_word("except"):
            return self._values("except", path)
        if lexer.take_word("not"):
            if not lexer.take_word("in"):
                raise lexer.expected('"in"')
            return _negated(self._values("any", path))
        if lexer.take_word("is"):
            negative = lexer.take_word("not")
            kind = "is_null" if lexer.take_word("null") else "is_empty" if lexer.take_word("empty") else None
            if kind is None:
                raise lexer.expected('"null" or "empty"')
            condition: Json = {kind: {"key": path}}
            return _negated(condition) if negative else condition
        compared = self._range(subject)
        if compared is None:
            raise lexer.expected("an operator: =, !=, <, <=, >, >=, between, in, not in, except, ~, is or [any: ...]")
        return compared

    def _count_comparison(self, subject: _Subject) -> Json:
        if self._lexer.take("="):
            bound = self._bound()
            return self._ranged(subject, {"gte": bound, "lte": bound})
        compared = self._range(subject)
        if compared is None:
            raise self._lexer.expected("=, <, <=, >, >= or between")
        return compared

    def _range(self, subject: _Subject) -> Json | None:
        relation = self._relation()
        if relation is not None:
            return self._ranged(subject, {_BOUND[relation]: self._bound()})
        if not self._lexer.take_word("between"):
            return None
        low = self._bound()
        if not self._lexer.take_word("and"):
            raise self._lexer.expected('"and"')
        return self._ranged(subject, {"gte": low, "lte": self._bound()})

    def _chain(self) -> Json:
        """`1990 < year <= 2000`: one value of the field lies between both."""
        first = self._bound()
        relation = self._relation()
        if relation is None:
            raise self._lexer.expected("<, <=, > or >=")
        subject = self._subject()
        bounds = {_BOUND[_MIRRORED[relation]]: first}
        token = self._lexer.peek
        second = self._relation()
        if second is not None:
            if second[0] != relation[0]:
                raise self._lexer.error(f'"{relation}" and "{token.text}" point in different directions', token.start)
            bounds[_BOUND[second]] = self._bound()
        return self._ranged(subject, bounds)

    def _relation(self) -> str | None:
        return next((relation for relation in ("<=", ">=", "<", ">") if self._lexer.take(relation)), None)

    def _ranged(self, subject: _Subject, bounds: dict[str, int | float | str]) -> Json:
        """Bounds that are text are datetimes."""
        datetimes = [isinstance(bound, str) for bound in bounds.values()]
        if any(datetimes) and not all(datetimes):
            raise self._lexer.error("one bound is a number and the other a datetime", subject.start)
        if subject.counted:
            if any(datetimes):
                raise self._lexer.error("a count is compared with numbers", subject.start)
            return {"key": subject.path, "values_count": bounds}
        return {"key": subject.path, "range": bounds}

    def _bound(self) -> int | float | str:
        token = self._lexer.peek
        if token.kind == "number":
            return self._number()
        if token.kind not in ("datetime", "string"):
            raise self._lexer.expected("a number or a datetime")
        try:
            micros_of(token.text)
        except NoZoneError:
            problem = 'the datetime has no zone: add "Z" for UTC, or an offset like "+02:00"'
            raise self._lexer.error(problem, token.start) from None
        except ValueError:
            raise self._lexer.error("not a datetime of RFC 3339, like 2024-05-01T12:00:00Z", token.start) from None
        return self._lexer.next().text

    def _number(self) -> int | float:
        token = self._lexer.peek
        if token.kind != "number":
            raise self._lexer.expected("a number")
        if re.match(r"-?0[0-9]", token.text):
            raise self._lexer.error("a number does not begin with 0", token.start)
        self._lexer.next()
        return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)

    def _equals(self, path: str) -> Json:
        token = self._lexer.peek
        if token.kind == "name" and token.text.lower() in ("true", "false"):
            self._lexer.next()
            return {"key": path, "match": {"value": token.text.lower() == "true"}}
        return {"key": path, "match": {"value": self._scalar()}}

    def _values(self, operator: str, path: str) -> Json:
        start = self._lexer.peek.start
        values = self._parenthesized(self._scalar)
        if len({isinstance(value, str) for value in values}) > 1:
            raise self._lexer.error("strings and integers in one list; use one condition for each", start)
        return {"key": path, "match": {operator: values}}

    def _scalar(self) -> str | int:
        token = self._lexer.peek
        if token.kind == "number":
            if re.search(r"[.eE]", token.text):
                raise self._lexer.error("only integers are matched exactly; use between for floats", token.start)
            return int(self._number())
        if token.kind == "name" and token.text.lower() == "null":
            raise self._lexer.error('use "is null"', token.start)
        if token.kind == "datetime":
            problem = "datetimes are compared with <, <=, >, >= and between; its text stands in quotes"
            raise self._lexer.error(problem, token.start)
        return self._string("a string or an integer")

    def _string(self, what: str = "a string") -> str:
        token = self._lexer.peek
        if token.kind == "name" and token.text.lower() in _RESERVED:
            raise self._lexer.error(
                f'"{token.text}" is a word of the language: as a value it stands in quotes', token.start
            )
        if token.kind not in ("string", "name", "uuid"):
            raise self._lexer.expected(what)
        return self._lexer.next().text

    def _words(self, path: str) -> Json:
        for word, operator in (
            ("any", "text_any"),
            ("phrase", "phrase"),
            ("prefix", "prefix"),
            ("substring", "substring"),
        ):
            if not self._lexer.is_word(word):
                continue
            token = self._lexer.next()
            if self._lexer.peek.kind not in ("string", "name", "uuid"):
                raise self._lexer.error(f'"{token.text}" is followed by a string', token.start)
            return {"key": path, "match": {operator: self._string()}}
        return {"key": path, "match": {"text": self._string()}}

    def _call(self) -> Json:
        token = self._lexer.next()
        name = token.text.lower()
        if name == "exists":
            return _negated(self._arguments(lambda: {"is_empty": {"key": self._lexer.path()}}))
        if name == "near":
            return self._arguments(self._near)
        if name == "within":
            return self._arguments(self._within)
        if name == "has_id":
            return {"has_id": self._parenthesized(self._id)}
        if name == "has_vector":
            return self._arguments(lambda: {"has_vector": self._string()})
        if name == "slice":
            return self._arguments(self._slice)
        if name == "partition":
            return self._arguments(lambda: {"partition": self._string()})
        if name == "at_least":
            return self._arguments(self._at_least)
        known = "count, exists, near, within, has_id, has_vector, slice, partition, at_least"
        raise self._lexer.error(f'unknown function "{token.text}"; known: {known}', token.start)

    def _near(self) -> Json:
        path = self._lexer.path()
        lat, lon = self._after(), self._after()
        self._lexer.expect(",")
        token = self._lexer.peek
        if token.kind != "distance":
            raise self._lexer.expected('a distance, like "500m" or "10km"')
        self._lexer.next()
        radius = float(token.text[:-2]) * 1000 if token.text.endswith("km") else float(token.text[:-1])
        return {"key": path, "geo_radius": {"center": {"lat": lat, "lon": lon}, "radius": radius}}

    def _within(self) -> Json:
        path = self._lexer.path()
        self._lexer.expect(",")
        if self._lexer.take_word("box"):
            north, west, south, east = self._arguments(
                lambda: (self._number(), self._after(), self._after(), self._after())
            )
            box = {"top_left": {"lat": north, "lon": west}, "bottom_right": {"lat": south, "lon": east}}
            return {"key": path, "geo_bounding_box": box}
        if not self._lexer.take_word("polygon"):
            raise self._lexer.expected("box(...) or polygon(...)")
        rings = [{"points": ring} for ring in self._parenthesized(self._ring)]
        polygon: Json = {"exterior": rings[0] if rings else {"points": []}}
        if len(rings) > 1:
            polygon["interiors"] = rings[1:]
        return {"key": path, "geo_polygon": polygon}

    def _ring(self) -> list[Json]:
        def point() -> Json:
            lat = self._number()
            return {"lat": lat, "lon": self._number()}

        return self._parenthesized(point)

    def _after(self) -> int | float:
        self._lexer.expect(",")
        return self._number()

    def _id(self) -> object:
        token = self._lexer.peek
        if token.kind == "number":
            return self._number()
        text = self._string("a number, a UUID or a string")
        return text if token.kind == "uuid" else {"name": text}

    def _slice(self) -> Json:
        index = self._number()
        return {"slice": {"index": index, "total": self._after()}}

    def _at_least(self) -> Json:
        count = self._number()
        conditions = []
        while self._lexer.take(","):
            conditions.append(self._or())
        return {"min_should": {"conditions": conditions, "min_count": count}}

    def _arguments(self, read: Callable[[], T]) -> T:
        self._lexer.expect("(")
        value = read()
        self._lexer.expect(")")
        return value

    def _parenthesized(self, read: Callable[[], T]) -> list[T]:
        """`(a, b)`, also empty."""
        self._lexer.expect("(")
        values: list[T] = []
        if self._lexer.take(")"):
            return values
        values.append(read())
        while self._lexer.take(","):
            values.append(read())
        self._lexer.expect(")")
        return values


def _is_filter(condition: Json) -> bool:
    return all(key in ("must", "should", "must_not", "min_should") for key in condition)


def _filter_from(condition: Json) -> Json:
    return condition if _is_filter(condition) else {"must": [condition]}


def _only_part(condition: Json, part: str) -> list[Json] | None:
    """Filters that have nothing but this part give it to the one around them."""
    return condition[part] if list(condition) == [part] else None


def _all_of(terms: list[Json]) -> Json:
    must: list[Json] = []
    must_not: list[Json] = []
    for term in terms:
        if _is_filter(term) and "should" not in term and "min_should" not in term:
            must += term.get("must", [])
            must_not += term.get("must_not", [])
        else:
            must.append(term)
    return {**({"must": must} if must else {}), **({"must_not": must_not} if must_not else {})}


def _negated(condition: Json) -> Json:
    refused = _only_part(condition, "must_not")
    return refused[0] if refused is not None and len(refused) == 1 else {"must_not": [condition]}
