"""The server of the page: a fixed list of files, to this machine alone, with the right headers."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from pliant.errors import UserError
from pliant.jobs import web
from pliant.runtime.archive import open_archive

make_bundle = run_path(str(Path(__file__).parents[1] / "runtime" / "conftest.py"))["make_bundle"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle().folder(tmp_path / "bundle")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Stands for the installed page."""
    folder = tmp_path / "page"
    (folder / "vendor").mkdir(parents=True)
    for name in web.PAGE_FILES:
        (folder / name).write_text(f"this is {name}")
    (folder / "vendor.json").write_text('{"a.mjs": "a/dist/a.mjs", "a.wasm": "a/dist/a.wasm"}')
    for name in ("a.mjs", "a.wasm"):
        (folder / "vendor" / name).write_text(name)
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def port(bundle: Path, page: Path) -> Iterator[int]:
    with web.serving(bundle, page=page) as address:
        yield int(address.rstrip("/").rpartition(":")[2])


def get(port: int, path: str, *, method: str = "GET", host: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_page_and_parts_have_their_types(port: int):
    for path, kind, body in [
        ("/", "text/html; charset=utf-8", b"this is index.html"),
        ("/pliant.js", "text/javascript; charset=utf-8", b"this is pliant.js"),
        ("/vendor/a.mjs", "text/javascript; charset=utf-8", b"a.mjs"),
        ("/vendor/a.wasm", "application/wasm", b"a.wasm"),
        ("/mark.svg", "image/svg+xml", b"this is mark.svg"),
        ("/pliant.js?again", "text/javascript; charset=utf-8", b"this is pliant.js"),
    ]:
        status, headers, found = get(port, path)
        assert (status, headers["Content-Type"], found) == (200, kind, body)


def test_headers_isolate_the_page_and_let_nothing_out(port: int):
    for path in ("/", "/vendor/a.mjs", "/nothing"):
        headers = get(port, path)[1]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt", "/../secret.txt", "/vendor/../secret.txt", "/%2e%2e/secret.txt",
        "//etc/passwd", "/vendor/", "/index.html/", "/vendor.json", "http://elsewhere/",
    ],
)  # fmt: skip
def test_nothing_but_the_list_is_handed_out(port: int, path: str):
    status, _, body = get(port, path)
    assert status in (400, 404)
    assert b"secret" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:1", "[::1]", " "])
def test_other_names_are_not_answered(port: int, host: str):
    status, _, body = get(port, "/bundle.pliant", host=host)
    assert status == 421
    assert len(body) < 100


def test_localhost_and_head_are_answered(port: int):
    assert get(port, "/", host=f"localhost:{port}")[0] == 200
    status, headers, body = get(port, "/bundle.pliant", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 150
    assert get(port, "/", method="POST")[0] == 501


def test_a_folder_is_served_as_one_stored_zip(port: int, bundle: Path, tmp_path: Path):
    packed = tmp_path / "packed.pliant"
    packed.write_bytes(get(port, "/bundle.pliant")[2])
    with zipfile.ZipFile(packed) as file:
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}
    archive = open_archive(packed)
    assert {name: archive.read(name) for name in archive.sizes} == {
        name: (bundle / name).read_bytes() for name in archive.sizes
    }
    assert len(archive.sizes) == len([f for f in bundle.rglob("*") if f.is_file()])
    assert web.bundle_bytes(packed) == packed.read_bytes()


def test_what_no_browser_runs_is_refused(bundle: Path, tmp_path: Path):
    tiny = make_bundle()
    tiny.record |= {"target": "litert", "model_file": "model.tflite", "selection": None}
    tiny.files["model.tflite"] = tiny.files.pop("model.onnx")
    with pytest.raises(UserError, match="for litert"):
        web.bundle_bytes(tiny.zip(tmp_path / "mobile.pliant"))
    with pytest.raises(UserError, match="not signed"):
        web.bundle_bytes(bundle, "ab" * 32)
    (bundle / "model.onnx").write_bytes(b"another")
    with pytest.raises(UserError, match=r"model\.onnx does not match its hash"):
        web.bundle_bytes(bundle)
    with pytest.raises(UserError, match="no such bundle"):
        web.bundle_bytes(tmp_path / "none")


def test_missing_parts_say_what_to_run(tmp_path: Path, page: Path):
    with pytest.raises(UserError, match=r"without its page.*pip install"):
        web.page_files(tmp_path / "none")
    (page / "vendor" / "a.wasm").unlink()
    with pytest.raises(UserError, match=r"lacks a\.wasm.*pip install"):
        web.page_files(page)
    (page / "package-lock.json").write_text("{}")
    with pytest.raises(UserError, match="npm ci --prefix"):
        web.page_files(page)


def test_the_checkouts_page_lists_what_it_needs():
    demo = Path(__file__).parents[2] / "demo"
    listed = json.loads((demo / web.VENDOR_LIST).read_text())
    script = (demo / "pliant.js").read_text()
    pinned = json.loads((demo / "package.json").read_text())["dependencies"]
    for inside in listed.values():
        assert any(inside.startswith(f"{name}/") for name in pinned)
    assert all(version[0].isdigit() for version in pinned.values()), "pinned, not ranged"
    for name in ("ort.wasm.min.mjs", "human.esm.js", "blazeface.json"):
        assert name in listed
        assert name in script
    lock = (demo / "package-lock.json").read_text()
    assert '"resolved"' not in lock or '"resolved": "https://registry.npmjs.org/' in lock
    page = (demo / "index.html").read_text()
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_taken_port_is_said_or_avoided(bundle: Path, page: Path, monkeypatch: Any):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"port {port} cannot be used"),
            web.serving(bundle, port=port, page=page),
        ):
            pass
        monkeypatch.setattr(web, "PORT", port)
        with web.serving(bundle, port=None, page=page) as address:
            assert str(port) not in address
    with (
        pytest.raises(UserError, match=r"\[0, 65535\]"),
        web.serving(bundle, port=70_000, page=page),
    ):
        pass


def test_many_at_once(port: int):
    bodies = []
    threads = [
        threading.Thread(target=lambda: bodies.append(get(port, "/vendor/a.wasm")[2]))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [b"a.wasm"] * 16


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as SIGINT")
def test_ctrl_c_ends_it_cleanly(bundle: Path, page: Path):
    code = (
        "import pathlib, signal, sys; from pliant.jobs import web;"
        # a shell's background job starts its children deaf to Ctrl-C
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "web.page_folder = lambda: pathlib.Path(sys.argv[2]);"
        "done = web.web(pathlib.Path(sys.argv[1]), port=0, open=False);"
        "print(done.address, web.summary(done))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(bundle), str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith("http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()  # or leaving the context waits for it
    assert process.returncode == 0
    assert out == f"{said.split()[0]} []\n"
    assert err == "stopped\n"
