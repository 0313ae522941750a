"""What a stranger's request may not do: open other files, send too much, or be let in without the password."""

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like, traverse
from PIL import Image

from src.data.images import READ, ImageError, from_bytes
from src.files import UserError

MAX_BYTES = 20 * 2**20  # of an upload
MAX_SIDE = 8192
MAX_ASPECT = 8
# A drawing of the canvas comes without a file, so nothing looks at it first: Pillow itself raises above twice this number.
Image.MAX_IMAGE_PIXELS = MAX_SIDE * MAX_SIDE // 2
QUEUE = 40  # requests that wait
LOCAL = ("127.0.0.1", "localhost", "::1")


def login(host: str, share: bool, password: str | None) -> Any:
    """Gradio's `auth`: None for an app that only this machine reaches. UserError: others would reach it without a password."""
    if not password:
        if share or host not in LOCAL:
            raise UserError(
                "Others could use this app: give a password with --password, or in the environment variable COLORIZE_PASSWORD."
            )
        return None
    wanted = password.encode()
    return lambda user, given: hmac.compare_digest(given.encode(), wanted)


def look_at(path: Path) -> None:
    """Reads the header of an uploaded picture. UserError: too large in any way, no picture, or no upload of this app."""
    if not path.resolve().is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise UserError("This picture was not uploaded here: choose a file.")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"This file is too large: at most {MAX_BYTES // 2**20} MB are taken.")
    try:
        with Image.open(path, formats=READ) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise UserError(f"This picture has too many pixels: at most {MAX_SIDE} on a side are taken.") from None
    except Exception:  # Pillow raises many kinds for broken files
        raise UserError("This file is no picture that can be read: choose a PNG, JPEG or WebP file.") from None
    if max(width, height) > MAX_SIDE:
        raise UserError(f"This picture has {width} x {height} pixels: at most {MAX_SIDE} on a side are taken.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(f"This picture of {width} x {height} pixels is too long and thin: cut a part of it out first.")


def read_picture(path: str) -> np.ndarray:
    """A picture that was looked at, uint8 [H, W, 3]. UserError: it cannot be decoded."""
    try:
        return from_bytes(Path(path).read_bytes())
    except ImageError as error:
        raise UserError(f"This picture cannot be read: {error}.") from None


class Page(gr.Blocks):
    """Blocks that look at every file of a request before Gradio does, which would decode any, and fetch one that is an address."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        traverse(inputs, _looked_at, _is_file)
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)


def _is_file(value: Any) -> bool:
    """Wider than Gradio's own test, which lets a path through that comes without `meta`."""
    return isinstance(value, dict) and bool({"path", "url"} & value.keys())


def _looked_at(file: Mapping[str, Any]) -> Mapping[str, Any]:
    address = is_http_url_like(str(file.get("path"))) or str(file.get("url") or "").startswith("data:")
    try:
        if address:
            raise UserError("Addresses are not opened: upload the picture itself.")
        look_at(Path(str(file.get("path") or "")))
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    return file


class Limits:
    """ASGI middleware: a body of more than MAX_BYTES, and some for its form, is refused; so are requests to fetch for somebody."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most, path = MAX_BYTES + 2**20, scope["path"].lower()
        if "/proxy=" in path or "/file=http:" in path or "/file=https:" in path:
            return await _answer(send, 403, "This app fetches nothing from elsewhere.")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            return await _answer(send, 413, f"This file is too large: at most {MAX_BYTES // 2**20} MB are taken.")
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            # A client that declared no length is cut off, as one that hung up.
            return {"type": "http.disconnect"} if seen > most else message

        await self.app(scope, counted, send)


async def _answer(send: Any, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
