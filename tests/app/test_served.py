"""The app through its address: the Python client, and requests as a stranger may send them."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from src.app.steps import TURN
from src.app.studio import Studio
from src.recipe import read
from tests.app.conftest import EXAMPLES

SKETCH, REFERENCE = (str(EXAMPLES / f"elf.{kind}.png") for kind in ("sketch", "reference"))


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def request(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def asked(address: str, name: str, data: list[Any]) -> bytes:
    """The last event of a call that is written by hand."""
    body = json.dumps({"data": data}).encode()
    status, answer = request(f"{address}/gradio_api/call/{name}", body, **{"Content-Type": "application/json"})
    assert status == 200, answer
    return request(f"{address}/gradio_api/call/{name}/{json.loads(answer)['event_id']}")[1]


def test_only_the_three_endpoints_are_told_of(client: Client) -> None:
    api = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == {"/colorize", "/manipulate", "/heatmap"} and not api["unnamed_endpoints"]


def test_a_picture_of_the_api_is_made_again_by_its_recipe(client: Client, tmp_path: Path) -> None:
    first, second = client.predict(handle_file(SKETCH), handle_file(REFERENCE), steps=4, size=32, variants=2, api_name="/colorize")
    assert [read(Path(path))["config"]["seed"] for path in (first, second)] == [0, 1]
    assert Path(first).read_bytes() != Path(second).read_bytes()
    arguments = [sys.executable, "-m", "src.sample", f"from_png={first}", f"output={tmp_path}/again.png"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.png").read_bytes() == Path(first).read_bytes()


def test_an_edit_changes_the_picture_and_is_in_its_recipe(client: Client) -> None:
    options = {"steps": 4, "size": 32}
    plain = client.predict(handle_file(SKETCH), handle_file(REFERENCE), **options, api_name="/colorize")[0]
    edits = [{"target": "green hair", "anchor": "red hair", "control": "red hair", "target_scale": 12}]
    changed = client.predict(handle_file(SKETCH), handle_file(REFERENCE), edits, **options, api_name="/manipulate")
    assert read(Path(changed))["config"]["edits"][0]["target"] == "green hair"
    assert np.abs(np.asarray(Image.open(plain), float) - np.asarray(Image.open(changed), float)).max() > 20
    with pytest.raises(Exception, match="edits need to be a list"):
        client.predict(handle_file(SKETCH), handle_file(REFERENCE), "all", **options, api_name="/manipulate")
    with pytest.raises(Exception, match=r"no model|not in the list of choices"):
        client.predict(handle_file(SKETCH), handle_file(REFERENCE), edits, "../secret", **options, api_name="/manipulate")


def test_a_heatmap_while_somebody_else_samples(client: Client) -> None:
    with TURN:
        matches, zones = client.predict(handle_file(REFERENCE), "red hair", [0.1, 0.2, 0.3, 0.4], "noisy", api_name="/heatmap")
    assert Image.open(matches).size == Image.open(zones).size == (384, 384)


def test_a_job_that_is_cancelled_does_not_block_the_next(client: Client) -> None:
    job = client.submit(handle_file(SKETCH), handle_file(REFERENCE), steps=100, size=96, variants=8, api_name="/colorize")
    while not TURN.locked():
        time.sleep(0.05)
    job.cancel()
    with contextlib.suppress(Exception):
        job.result(timeout=5)
    assert client.predict(handle_file(SKETCH), handle_file(REFERENCE), steps=2, size=32, api_name="/colorize")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(Path("src/app/examples/elf.reference.png").resolve()), "https://example.org/a.png"]
)
def test_no_path_and_no_address_of_a_request_is_opened(address: str, path: str) -> None:
    for file in ({"path": path, "meta": {"_type": "gradio.FileData"}}, {"path": path}, {"path": "x.png", "url": path}):
        answer = asked(address, "heatmap", [file, "red hair", [0.1, 0.2, 0.3, 0.4], "noisy"])
        assert b"event: error" in answer and b"root:" not in answer, (file, answer)


def test_only_what_the_app_wrote_is_served(address: str, studio: Studio, client: Client) -> None:
    for path in ("/etc/passwd", Path("README.md").resolve(), Path("backbone/demo/clip.json").resolve(), studio.folder / "inputs"):
        assert request(f"{address}/gradio_api/file={path}")[0] in {403, 404}, path
    assert request(f"{address}/gradio_api/file={studio.folder}/pictures/../../../../etc/passwd")[0] in {403, 404}
    assert request(f"{address}/gradio_api/file=https://example.org/")[0] == 403
    client.predict(handle_file(SKETCH), handle_file(REFERENCE), steps=2, size=32, api_name="/colorize")
    made = next((studio.folder / "pictures").glob("*.png"))
    assert request(f"{address}/gradio_api/file={made}") == (200, made.read_bytes())


def test_a_body_that_is_too_large_is_refused_before_it_is_read(address: str) -> None:
    status, answer = request(f"{address}/gradio_api/upload", b"", **{"Content-Length": str(200 * 2**20)})
    assert status == 413 and json.loads(answer)["detail"].startswith("This file is too large: at most 20 MB")


def test_a_text_file_named_png_and_a_very_wide_picture(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    Image.new("1", (40_000, 8)).save(tmp_path / "b.png")
    for name, words in (("a.png", "no picture that can be read"), ("b.png", "40000 x 8 pixels")):
        with pytest.raises(Exception, match=words):
            client.predict(handle_file(tmp_path / name), handle_file(REFERENCE), api_name="/colorize")
