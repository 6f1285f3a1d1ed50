"""`pliant web FILE`: the page that runs a bundle in the browser, served to this machine alone.

The server hands out a fixed list of files and nothing else, to 127.0.0.1 and under that name or
`localhost` alone, so another site cannot reach it through a name of its own (DNS rebinding). Its
headers isolate the page (WASM threads need that) and forbid it to talk to anyone else: photos,
frames and scores stay in the browser by the browser's own rule, not by promise.
"""

import json
import sys
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from pliant.errors import UserError

PORT = 8471
"""Unless another is asked for; the page's memory of its tier belongs to the address."""
PAGE_FILES = ("index.html", "pliant.css", "pliant.js", "mark.svg", "NOTICE")
VENDOR_LIST = "vendor.json"
"""Beside the page: name under /vendor/ -> path inside node_modules."""
BUNDLE = "/bundle.pliant"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".bin": "application/octet-stream",
    ".pliant": "application/octet-stream",
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """What was served until Ctrl-C."""

    address: str
    bundle: Path


def web(
    file: Annotated[Path, Positional, arg(metavar="FILE")],
    *,
    port: int | None = None,
    open: bool = True,
    public_key: str | None = None,
) -> Served:
    """Open a bundle in the browser: webcam or photos, verdicts, tiers switched live.

    Args:
        file: A bundle, as `pliant export` wrote it: a file or a folder.
        port: Where to listen on 127.0.0.1; 0: any free port; None: 8471, or any if that is taken.
        open: Open the page in the default browser.
        public_key: Whose signature it must carry: 64 hexadecimal digits, or their file.

    Raises:
        UserError: if the bundle is damaged, not signed as demanded or cannot run in a browser, the
            port is taken, or the page's npm parts are missing.
    """
    with serving(file, port=port, public_key=public_key) as address:
        try:
            print(
                f"{address}  (for this machine alone; Ctrl-C stops it)", file=sys.stderr, flush=True
            )
            if open:
                webbrowser.open(address)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return Served(address=address, bundle=file)


def summary(served: Served) -> list[str]:
    """Nothing more to say: the address was printed when it began to answer."""
    return []


@contextmanager
def serving(
    file: Path | str,
    *,
    port: int | None = 0,
    page: Path | None = None,
    public_key: str | None = None,
) -> Iterator[str]:
    """Serves a bundle from a thread as long as the context lasts; gives the page's address.

    Args:
        file: A bundle, a file or a folder.
        port: As for `web`.
        public_key: As for `web`.
        page: Folder of the page's files; None: the installed ones, else those of the checkout.

    Raises:
        UserError: as `web` does.
    """
    files = page_files(page_folder() if page is None else page)
    files[BUNDLE] = bundle_bytes(Path(file), public_key)
    server = _bind(files, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page_folder() -> Path:
    """Where the page lies: inside the installed package, else in the checkout."""
    installed = Path(__file__).parents[1] / "page"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "demo"


def page_files(folder: Path) -> dict[str, Path | bytes]:
    """Everything the page may ask for, by its path in the address.

    Raises:
        UserError: if a file is missing; says what to run.
    """
    if not (folder / VENDOR_LIST).is_file():
        raise UserError(f"this pliant was installed without its page; {_remedy(folder)}")
    files: dict[str, Path | bytes] = {f"/{name}": folder / name for name in PAGE_FILES}
    listed = json.loads((folder / VENDOR_LIST).read_text(encoding="utf-8"))
    packed = (folder / "vendor").is_dir()
    for name, inside in listed.items():
        path = folder / "vendor" / name if packed else folder / "node_modules" / inside
        files[f"/vendor/{name}"] = path
    missing = [path for path in files.values() if isinstance(path, Path) and not path.is_file()]
    if missing:
        raise UserError(f"the page lacks {missing[0].name}; {_remedy(folder)}")
    files["/"] = files.pop("/index.html")
    return files


def _remedy(folder: Path) -> str:
    if (folder / "package-lock.json").is_file():
        return f"run: npm ci --prefix {folder}"
    return "with the npm registry in reach run: pip install --force-reinstall --no-deps pliant"


def bundle_bytes(path: Path, public_key: str | None = None) -> bytes:
    """The bundle as one zip of stored entries, checked; the page runs the self-test.

    Raises:
        UserError: if it is no bundle, damaged, not signed as demanded, or for another runtime.
    """
    from pliant.runtime.archive import open_archive, stored_zip
    from pliant.runtime.checked import read_checked

    read_checked(path, public_key)
    archive = open_archive(path)
    return stored_zip({name: archive.read(name) for name in sorted(archive.sizes)})


def _bind(files: Mapping[str, Path | bytes], port: int | None) -> ThreadingHTTPServer:
    handler = partial(_Handler, files)
    wanted = PORT if port is None else port
    if not 0 <= wanted <= 65535:
        raise UserError(f"--port must lie in [0, 65535], got {wanted}")
    try:
        return _Server(("127.0.0.1", wanted), handler)
    except OSError as problem:
        if port is not None:
            raise UserError(f"port {port} cannot be used ({problem.strerror}); try --port 0") from (
                problem
            )
        return _Server(("127.0.0.1", 0), handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle of an answer is no news."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pliant", ""
    timeout = 30

    def __init__(self, files: Mapping[str, Path | bytes], *args: Any) -> None:
        self.files = files
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        found = self.files.get(path)
        if not self._is_local():
            status, kind, body = 421, "text/plain", b"only localhost is answered\n"
        elif found is None:
            status, kind, body = 404, "text/plain", b"no such file\n"
        else:
            status = 200
            kind = TYPES.get(Path("index.html" if path == "/" else path).suffix, "text/plain")
            body = found if isinstance(found, bytes) else found.read_bytes()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _is_local(self) -> bool:
        host, _, port = self.headers.get("Host", "").partition(":")
        assert isinstance(self.server, ThreadingHTTPServer)
        mine = self.server.server_port
        return host in ("localhost", "127.0.0.1") and port in ("", str(mine))

    def log_message(self, format: str, *args: Any) -> None:
        """The page's own requests are no news."""
