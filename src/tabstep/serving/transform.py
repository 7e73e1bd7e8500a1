"""The handler as one function, for containers that look for that; a copy is ``code/transform.py`` of every artifact.

AWS's current images with a server want ``transform_fn``, and none wants it beside the functions of ``handler``.
"""

from __future__ import annotations

from tabstep.serving import handler

model_fn = handler.model_fn


def transform_fn(
    model: handler.ServedModel, body: bytes | bytearray | str, content_type: str | None, accept: str | None
) -> tuple[bytes, str]:
    """Answer a request: its body and media type; what is wrong with it is raised as the handler does."""
    return handler.output_fn(handler.predict_fn(handler.input_fn(body, content_type), model), accept)
