"""The page: plain HTML, CSS and JavaScript modules in `static/`, loaded once into memory.

There is no build step and nothing comes from elsewhere. Read `static/app.js` first; `static/call.js` is the WebRTC.
"""

from dataclasses import dataclass
from hashlib import blake2s
from importlib.resources import files

_CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page, ready to be served. `etag` changes with every octet of `body`."""

    content_type: str
    body: bytes
    etag: str


def load_assets() -> dict[str, Asset]:
    """All files of the page by URL path; the page itself is `/`."""
    assets: dict[str, Asset] = {}
    for file in files(__name__).joinpath("static").iterdir():
        content_type = _CONTENT_TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            body = file.read_bytes()
            path = "/" if file.name == "index.html" else f"/{file.name}"
            assets[path] = Asset(content_type, body, f'"{blake2s(body, digest_size=12).hexdigest()}"')
    return assets
