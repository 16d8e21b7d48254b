"""A search service with FastAPI and the asynchronous client: one connection for the life of the application.

pip install fastapi uvicorn
uvicorn --app-dir examples/python fastapi_app:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from text_vectors import DIMENSION, vector_of

import kith

NAME = "notes-fastapi"


class Note(BaseModel):
    id: int
    text: str
    tags: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with await kith.connect_async(os.environ.get("KITH_TARGET", kith.DEFAULT_TARGET)) as client:
        app.state.notes = client.collection(NAME)
        await app.state.notes.create(vectors={"dimension": DIMENSION}, if_not_exists=True)
        yield


app = FastAPI(lifespan=lifespan)

# What a caller can mend is 4xx; what will pass, 503 with a time to wait.
STATUS = {kith.NotFoundError: 404, kith.InvalidRequestError: 422, kith.UnavailableError: 503, kith.ExhaustedError: 503}


@app.exception_handler(kith.KithError)
async def on_kith_error(_: Request, error: kith.KithError) -> JSONResponse:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    headers = {"retry-after": str(max(1, round((error.retry_after_ms or 1000) / 1000)))} if error.retryable else {}
    return JSONResponse({"code": error.code, "message": error.message}, status, headers)


@app.put("/notes")
async def put_notes(request: Request, notes: list[Note]) -> dict[str, int]:
    points = [
        {"id": note.id, "vector": vector_of(note.text), "payload": note.model_dump(exclude={"id"})} for note in notes
    ]
    return {"written": (await request.app.state.notes.upsert(points)).upserted}


@app.get("/notes/{id}")
async def get_note(request: Request, id: int) -> dict[str, Any]:
    point = await request.app.state.notes.get(id)
    if point is None:
        raise HTTPException(404)
    return {"id": point.id, **point.payload}


@app.get("/search")
async def search(
    request: Request,
    text: str,
    filter: str = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> list[dict[str, Any]]:
    """`filter` is the textual form: `tags = work`."""
    result = await request.app.state.notes.query(vector=vector_of(text), filter=filter, limit=limit)
    return [{"id": point.id, "score": point.score, **point.payload} for point in result.points]
