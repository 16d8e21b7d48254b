"""Indexes and queries of texts by BM25, on the wire; what is left out is the server's default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kith._checks import finite, names_of, one_of, only_keys, whole_number
from kith.errors import error_of
from kith.types import AnalyzerOptions, Bm25Field, Bm25Options
from kith.v1 import points_pb2, text_pb2

_ANALYZER_KEYS: Final = (
    "tokenizer",
    "language",
    "lowercase",
    "fold_accents",
    "remove_stopwords",
    "stem",
    "stopwords",
    "min_gram",
    "max_gram",
    "cjk_bigrams",
)
_HIGHLIGHT_KEYS: Final = (
    "text",
    "using",
    "fields",
    "before",
    "after",
    "fragment_length",
    "fragment_count",
    "escape_html",
)
_TOKENIZERS: Final = {
    "word": text_pb2.ANALYZER_TOKENIZER_WORD,
    "whitespace": text_pb2.ANALYZER_TOKENIZER_WHITESPACE,
    "keyword": text_pb2.ANALYZER_TOKENIZER_KEYWORD,
    "ngram": text_pb2.ANALYZER_TOKENIZER_NGRAM,
    "edge_ngram": text_pb2.ANALYZER_TOKENIZER_EDGE_NGRAM,
}
_SWITCHES: Final = ("lowercase", "fold_accents", "remove_stopwords", "stem", "cjk_bigrams")


def bm25_to_wire(given: object, at: str) -> text_pb2.Bm25Options:
    options = only_keys(given, ("fields", "k1", "analyzer"), at)
    wire = text_pb2.Bm25Options()
    for i, each in enumerate(options.get("fields", ())):
        field = only_keys(each, ("path", "weight", "b"), f"{at}.fields[{i}]")
        added = wire.fields.add(path=field.get("path", ""))
        if field.get("weight") is not None:
            added.weight = finite(field["weight"], f"{at}.fields[{i}].weight")
        if field.get("b") is not None:
            added.b = finite(field["b"], f"{at}.fields[{i}].b")
    if options.get("k1") is not None:
        wire.k1 = finite(options["k1"], f"{at}.k1")
    if options.get("analyzer") is not None:
        wire.analyzer.CopyFrom(_analyzer_to_wire(options["analyzer"], f"{at}.analyzer", "INVALID_SCHEMA"))
    return wire


def text_query_to_wire(given: object, at: str) -> text_pb2.TextQuery:
    if isinstance(given, str):
        return text_pb2.TextQuery(text=given)
    fields = only_keys(given, ("text", "analyzer", "plain"), at)
    wire = text_pb2.TextQuery(text=fields.get("text", ""), plain=bool(fields.get("plain", False)))
    if fields.get("analyzer") is not None:
        wire.analyzer.CopyFrom(_analyzer_to_wire(fields["analyzer"], f"{at}.analyzer", "INVALID_ARGUMENT"))
    return wire


def highlight_to_wire(given: object, at: str) -> points_pb2.Highlight:
    options = only_keys({} if given is True else given, _HIGHLIGHT_KEYS, at)
    wire = points_pb2.Highlight(
        using=options.get("using") or "",
        fields=names_of(options.get("fields", ()), f"{at}.fields"),
        fragment_length=_size(options, "fragment_length", at),
        fragment_count=_size(options, "fragment_count", at),
        escape_html=bool(options.get("escape_html", False)),
    )
    if options.get("text") is not None:
        wire.text.CopyFrom(text_query_to_wire(options["text"], f"{at}.text"))
    if options.get("before") is not None:
        wire.before = options["before"]
    if options.get("after") is not None:
        wire.after = options["after"]
    return wire


def _size(options: Mapping[str, Any], name: str, at: str) -> int:
    """0, "the default" on the wire, is nothing that anybody asks for."""
    value = whole_number(options.get(name, 0), f"{at}.{name}")
    if value == 0 and options.get(name) is not None:
        raise error_of("LIMIT_OUT_OF_RANGE", f"{at}.{name} is 0; ask for at least 1", {"field": f"{at}.{name}"})
    return value


def bm25_from_wire(wire: text_pb2.Bm25Options) -> Bm25Options:
    """As the server tells it, which names every default."""
    analyzer = wire.analyzer
    names = {number: name for name, number in _TOKENIZERS.items()}
    options: AnalyzerOptions = {
        "tokenizer": names.get(analyzer.tokenizer, "word"),  # type: ignore[typeddict-item]
        "lowercase": analyzer.lowercase,
        "fold_accents": analyzer.fold_accents,
        "remove_stopwords": analyzer.remove_stopwords,
        "stem": analyzer.stem,
        "stopwords": list(analyzer.stopwords),
        "min_gram": analyzer.min_gram,
        "max_gram": analyzer.max_gram,
        "cjk_bigrams": analyzer.cjk_bigrams,
    }
    if analyzer.language:
        options["language"] = analyzer.language
    fields: list[Bm25Field] = [{"path": each.path, "weight": each.weight, "b": each.b} for each in wire.fields]
    return {"fields": fields, "k1": wire.k1, "analyzer": options}


def _analyzer_to_wire(given: object, at: str, code: str) -> text_pb2.Analyzer:
    options = only_keys(given, _ANALYZER_KEYS, at)
    switches: dict[str, Any] = {name: bool(options[name]) for name in _SWITCHES if options.get(name) is not None}
    return text_pb2.Analyzer(
        tokenizer=one_of(_TOKENIZERS, options.get("tokenizer", "word"), f"{at}.tokenizer", code),
        language=options.get("language") or "",
        stopwords=names_of(options.get("stopwords", ()), f"{at}.stopwords"),
        min_gram=whole_number(options.get("min_gram", 0), f"{at}.min_gram"),
        max_gram=whole_number(options.get("max_gram", 0), f"{at}.max_gram"),
        **switches,
    )
