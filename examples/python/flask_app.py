"""A search page with Flask and the synchronous client, which the threads of the server share.

pip install flask
flask --app examples/python/flask_app.py run
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from flask import Flask, jsonify, request
from text_vectors import DIMENSION, vector_of

import kith
from kith import where

NAME = "products-flask"

app = Flask(__name__)


@cache
def products() -> kith.CollectionHandle:
    """Connected with the first request, so that processes which are forked before have their own."""
    collection = kith.connect(os.environ.get("KITH_TARGET", kith.DEFAULT_TARGET)).collection(NAME)
    collection.create(vectors={"dimension": DIMENSION}, if_not_exists=True)
    collection.create_payload_index("category", "keyword")
    collection.create_payload_index("price", "float", wait=True)
    return collection


@app.errorhandler(kith.KithError)
def on_kith_error(error: kith.KithError) -> Any:
    status = 400 if isinstance(error, kith.InvalidRequestError) else 503 if error.retryable else 500
    return jsonify(code=error.code, message=error.message), status


@app.post("/products")
def add() -> Any:
    items = request.get_json()
    points = ({"id": item["sku"], "vector": vector_of(item["name"]), "payload": item} for item in items)
    result = products().upsert_many(points)
    return jsonify(written=result.upserted, refused=[each.message for each in result.errors])


@app.get("/products")
def search() -> Any:
    conditions = []
    if category := request.args.get("category"):
        conditions.append(where.equals("category", category))
    if (maximum := request.args.get("max_price", type=float)) is not None:
        conditions.append(where.range("price", lte=maximum))
    condition = where.all(*conditions)
    found = products().query(vector=vector_of(request.args.get("q", "")), filter=condition, limit=20)
    categories = products().facet("category", filter=condition)
    return jsonify(
        products=[point.payload for point in found.points],
        categories={str(hit.value): hit.count for hit in categories.hits},
    )
