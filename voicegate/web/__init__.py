"""The page: plain HTML, CSS and JavaScript modules in `static/`, loaded once into memory.

There is no build step and nothing comes from elsewhere. Read `static/app.js` first. The WebRTC is in `package/`, which
is an npm package for other people's pages; its modules are served beside the page's own, as `/voicegate.js`.
"""

from hashlib import blake2s
from importlib.resources import files

from voicegate.signaling import Asset

_CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}


def load_assets() -> dict[str, Asset]:
    """All files of the page by URL path; the page itself is `/`."""
    assets: dict[str, Asset] = {}
    web = files(__name__)
    modules = [file for file in web.joinpath("package").iterdir() if file.name.endswith(".js")]
    for file in [*web.joinpath("static").iterdir(), *modules]:
        content_type = _CONTENT_TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            body = file.read_bytes()
            path = "/" if file.name == "index.html" else f"/{file.name}"
            assets[path] = Asset(content_type, body, f'"{blake2s(body, digest_size=12).hexdigest()}"')
    # Browsers ask for this name on every page that does not name an icon, /live for one.
    assets["/favicon.ico"] = assets["/icon.svg"]
    return assets
