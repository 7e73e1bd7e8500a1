"""A model directory as an HTTP service of its own: health, schema and predictions, read by the handler's parser."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from tabstep import __version__
from tabstep.errors import UserError
from tabstep.serving.fields import Field
from tabstep.serving.handler import RefusedError, ServedModel, model_fn
from tabstep.serving.limits import Limits
from tabstep.serving.request_error import RequestError
from tabstep.serving.request_rows import CSV, JSON, JSON_LINES, PARQUET
from tabstep.serving.transform import transform_fn

_ERRORS: Final = {
    400: "The body is not what its content type says, or a column is missing or of another kind",
    406: "None of the accepted media types can be written",
    413: "The body asks for more than a limit allows",
    415: "The content type cannot be read",
}
_JSON_TYPES: Final = {"number": "number", "duration": "number", "boolean": "boolean"}


def build_app(model: ServedModel) -> FastAPI:
    """Return the ASGI app of a model: ``/health``, ``/schema``, ``/predict``, ``/openapi.json`` and ``/docs``."""
    limits = Limits.from_environment(os.environ)
    app = FastAPI(title="tabstep", version=model.version, description=f"A classifier, served by tabstep {__version__}")

    @app.get("/health", summary="Whether the service answers, and with which model")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model_version": model.version}

    @app.get("/schema", summary="The columns of a row, the classes and the task")
    async def schema() -> dict[str, Any]:
        return _schema(model)

    @app.post("/predict", summary="Label and probabilities of each row", openapi_extra=_body(model.fields))
    async def predict(request: Request) -> Response:
        try:
            body = await _limited_body(request, limits)
            kind, accept = request.headers.get("content-type"), request.headers.get("accept")
            # In a thread: the event loop answers health checks while rows are predicted.
            content, media = await run_in_threadpool(transform_fn, model, body, kind, accept)
        except RequestError as error:
            return JSONResponse({"error": str(error)}, error.status)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.status_code)
        return Response(content, media_type=media)

    return app


def serve(model_dir: Path, *, host: str, port: int) -> None:
    """Load a model and answer requests until a signal comes; prints the address once it listens.

    Raises:
        UserError: the model is damaged, or the address cannot be taken.
    """
    with _listening(host, port) as listener:  # before the model is loaded: a taken port costs no wait
        app = build_app(model_fn(str(model_dir)))
        name, taken = listener.getsockname()[:2]
        name = f"[{name}]" if ":" in name else name
        print(f"serving {model_dir}: http://{name}:{taken}/docs (Ctrl-C ends it)", flush=True)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
        uvicorn.Server(config).run([listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there: {error}") from None


async def _limited_body(request: Request, limits: Limits) -> bytes:
    """Read a body no further than its limit, whatever its length says."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        limits.check("max_request_bytes", len(body), "the body is too long")
    return bytes(body)


def _schema(model: ServedModel) -> dict[str, Any]:
    encoder = model.predictor.encoder
    return {
        "model_version": model.version,
        "task": encoder.task,
        "label": encoder.schema.label,
        "classes": list(model.predictor.class_names),
        "id": encoder.schema.id,
        "columns": [_column(field, dict(encoder.schema.parse)) for field in model.fields],
    }


def _column(field: Field, formats: Mapping[str, str]) -> dict[str, Any]:
    """Describe a column: of text that is read by a format, the format too."""
    about = {"name": field.name, "kind": field.kind, "category": field.exact}
    return {**about, "format": formats[field.name]} if field.name in formats else about


def _body(fields: tuple[Field, ...]) -> dict[str, Any]:
    """Describe the request in the terms of OpenAPI: a row has the model's own columns."""
    names = [field.name for field in fields]
    types = {field.name: {"type": [_JSON_TYPES.get(field.kind, "string"), "null"]} for field in fields}
    row = {"type": "object", "required": names, "properties": types}
    columns = {name: {"type": "array", "items": kind} for name, kind in types.items()}
    by_column = {"type": "object", "required": names, "properties": columns}
    forms = [
        row,
        {"type": "array", "items": row},
        {"type": "object", "properties": {"instances": {"type": "array", "items": row}}, "required": ["instances"]},
        {"type": "object", "properties": {"columns": by_column}, "required": ["columns"]},
    ]
    content = {
        JSON: {"schema": {"anyOf": forms}},
        **{media: {"schema": {"type": "string"}} for media in (CSV, JSON_LINES)},
        PARQUET: {"schema": {"type": "string", "format": "binary"}},
    }
    return {
        "requestBody": {"required": True, "content": content},
        "responses": {str(status): {"description": text} for status, text in _ERRORS.items()},
    }
