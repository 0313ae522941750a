"""What people's folders, metadata and shards really hold: nothing crashes, all is in its place, and every reason can be read."""

import functools
import io
import json
import os
import re
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from src.data import openmoji
from src.data.color import color_shard
from src.data.columns import Column, build_column
from src.data.images import ImageError, fitted, from_bytes, image_in
from src.data.rows import write_rows
from src.data.sources import source

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SIZE = 32
FOLDER = {
    "kind": "folder",
    "extensions": ["png", "jpg", "jpeg", "webp", "gif", "tif", "bmp", "ppm"],
    "sketches": None,
    "group": None,
}
PADDED = {"fit": "pad", "padding": "#ffffff", "min_side": 1}
NOISE = re.compile(r"[<>{}]|0x|b'|object at|Error|Errno|Traceback|\\x|\.py|None")


def readable(reason: str) -> bool:
    return len(reason) > 5 and reason.isprintable() and not NOISE.search(reason)


def built(options: dict[str, Any], out: Path, **image: Any) -> tuple[dict[str, dict[str, bytes]], dict[str, str]]:
    """The column `color` of all rows: samples by what their image was named, and the quarantine's reasons by key."""
    rows = write_rows(source(options["kind"]).rows(options), "train", out, val_share=0, limit=None, rows_per_shard=7)
    make = functools.partial(
        color_shard, rows=rows.file, starts=rows.starts, kind=options["kind"], options=options, size=SIZE,
        image=PADDED | image, encoding={"format": "png", "quality": 95},
    )  # fmt: skip
    build_column(out / "color", rows.keys, make, {}, max_quarantined=1.0)
    samples = {_name(sample, key): sample for key, sample in Column(out / "color")}
    listed = out / "color" / "quarantine.jsonl"
    entries = [json.loads(line) for line in listed.read_text().splitlines()] if listed.exists() else []
    assert all(readable(entry["reason"]) for entry in entries), entries
    return samples, {entry["key"]: entry["reason"] for entry in entries}


def _name(sample: dict[str, bytes], key: str) -> str:
    return json.loads(sample["json"]).get("path", key)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def drawn(size: int = 48) -> np.ndarray:
    return openmoji.render(openmoji.drawings()[900], 0, size, 0).color


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def frames(kind: str, **options: Any) -> bytes:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    return encoded(red, kind, save_all=True, append_images=[blue], duration=100, **options)


def with_size(data: bytes, at: int, pattern: str, *sizes: int) -> bytes:
    claimed = struct.pack(pattern, *sizes)
    return data[:at] + claimed + data[at + len(claimed) :]


def oriented(value: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[value]  # fmt: skip
    image = Image.fromarray(drawn()).crop((0, 0, 48, 32)).transpose(turned)
    return encoded(image, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def profiled(mode: str = "RGB") -> bytes:
    """Pure green of a profile whose primaries are turned: red in sRGB is what it calls green."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    at = profile.index(b"s\0R\0G\0B")
    profile[at : at + 7] = b"x\0X\0X\0X"
    return encoded(Image.new("RGB", (8, 8), (0, 255, 0)), "PNG", icc_profile=bytes(profile))


def jpeg_bomb() -> bytes:
    data = encoded(drawn(), "JPEG")
    return with_size(data, data.index(b"\xff\xc0") + 5, ">HH", 65000, 65000)


ORIENTATION_9 = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0\0\0\0\0"
GREYS = np.array([[0, 255, 256, 32768, 65280, 65535]] * 6, np.uint16)
GREY_BYTES = b"".join(b"\0" + row.astype(">u2").tobytes() for row in GREYS)
COLOUR_BYTES = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in GREYS)
SCALED = np.array([0, 0, 1, 128, 255, 255])
RED, WHITE, BLACK = [255, 0, 0], [255, 255, 255], [0, 0, 0]


def corner(expected: list[int], tolerance: int = 2) -> Callable[[np.ndarray], bool]:
    return lambda pixels: bool(np.abs(pixels[SIZE // 2, SIZE // 2].astype(int) - expected).max() <= tolerance)


def anything(pixels: np.ndarray) -> bool:
    return pixels.shape == (SIZE, SIZE, 3)


def palette(transparency: bytes | int) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 0])
    return encoded(image, "PNG", transparency=transparency)


# File name, bytes, and what its middle must show.
USABLE: dict[str, tuple[str, Callable[[], bytes], Callable[[np.ndarray], bool]]] = {
    "wrong extension": ("a.jpg", lambda: encoded(drawn(), "PNG"), anything),
    "upper case extension": ("A.PNG", lambda: encoded(drawn(), "PNG"), anything),
    "cmyk jpeg": ("a.jpg", lambda: encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), corner(RED, 4)),
    "cmyk tiff": ("a.tif", lambda: encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), corner(RED)),
    "16-bit grey png": ("a.png", lambda: png(6, 6, 16, 0, GREY_BYTES), anything),
    "16-bit rgb png": ("a.png", lambda: png(6, 6, 16, 2, COLOUR_BYTES), anything),
    "16-bit tiff": ("a.tif", lambda: encoded(GREYS, "TIFF"), anything),
    "16-bit pgm": ("a.ppm", lambda: encoded(GREYS, "PPM"), anything),
    "float tiff": ("a.tif", lambda: encoded(np.full((8, 8), 0.5, np.float32), "TIFF"), corner([128] * 3)),
    "1-bit png": ("a.png", lambda: encoded(Image.new("1", (8, 8), 1), "PNG"), corner(WHITE)),
    "grey png": ("a.png", lambda: encoded(Image.new("L", (8, 8), 77), "PNG"), corner([77] * 3)),
    "palette with transparency": ("a.png", lambda: palette(b"\xff\x00"), corner(WHITE)),
    "palette with half transparency": ("a.png", lambda: palette(b"\xff\x80"), corner([127] * 3)),
    "palette with a transparent index": ("a.png", lambda: palette(1), corner(WHITE)),
    "palette gif": ("a.gif", lambda: encoded(Image.new("P", (8, 8), 0), "GIF"), corner(BLACK)),
    "transparent gif": ("a.gif", lambda: encoded(Image.new("P", (8, 8), 0), "GIF", transparency=0), corner(WHITE)),
    "alpha png": ("a.png", lambda: encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG"), corner(WHITE)),
    "half alpha webp": (
        "a.webp",
        lambda: encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "WEBP", lossless=True),
        corner([127] * 3),
    ),
    "grey and alpha": ("a.png", lambda: encoded(Image.new("LA", (8, 8), (0, 0)), "PNG"), corner(WHITE)),
    "colour key": ("a.png", lambda: encoded(Image.new("RGB", (8, 8), "black"), "PNG", transparency=(0, 0, 0)), corner(WHITE)),
    "animated gif": ("a.gif", lambda: frames("GIF"), corner(RED)),
    "animated webp": ("a.webp", lambda: frames("WEBP", lossless=True), corner(RED)),
    "animated png": ("a.png", lambda: frames("PNG"), corner(RED)),
    "pages of a tiff": ("a.tif", lambda: frames("TIFF"), corner(RED)),
    "1 x 1": ("a.png", lambda: encoded(Image.new("RGB", (1, 1), "red"), "PNG"), corner(RED)),
    "1 x 1 gif": ("a.gif", lambda: encoded(Image.new("RGB", (1, 1), "red"), "GIF"), corner(RED)),
    "30,000 px wide": ("a.png", lambda: encoded(Image.new("RGB", (30000, 1), "red"), "PNG"), anything),
    "30,000 px high": ("a.jpg", lambda: encoded(Image.new("RGB", (9, 30000), "red"), "JPEG"), anything),
    "progressive jpeg": ("a.jpg", lambda: encoded(drawn(), "JPEG", progressive=True), anything),
    "ycck or rgb jpeg": ("a.jpg", lambda: encoded(Image.new("RGB", (8, 8), "red"), "JPEG", keep_rgb=True), corner(RED, 4)),
    "broken exif": ("a.jpg", lambda: encoded(drawn(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff" + b"\xff" * 40), anything),
    "orientation 9": ("a.jpg", lambda: encoded(drawn(), "JPEG", exif=ORIENTATION_9), anything),
    "broken icc profile": ("a.png", lambda: encoded(drawn(), "PNG", icc_profile=b"no profile"), anything),
    "icc profile of greys": (
        "a.png",
        lambda: encoded(drawn(), "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()),
        anything,
    ),
    "icc profile": ("a.png", profiled, corner(RED, 6)),
    "bytes after the end": ("a.png", lambda: encoded(drawn(), "PNG") + b"more" * 1000, anything),
    "a name that is not utf-8": ("caf\udce9.png", lambda: encoded(drawn(), "PNG"), anything),
    "a name in another script": ("少女 (1), [v=2].png", lambda: encoded(drawn(), "PNG"), anything),
    "a name of dots": ("v1.2...final .png", lambda: encoded(drawn(), "PNG"), anything),
    "a name with a line break": ("a\nb.png", lambda: encoded(drawn(), "PNG"), anything),
    "a long name": ("n" * 250 + ".png", lambda: encoded(drawn(), "PNG"), anything),
    **{f"orientation {v} of a {k.lower()}": (f"a.{k.lower()}", functools.partial(oriented, v, k), anything)
       for v in range(2, 9) for k in ("JPEG", "PNG")},
}  # fmt: skip

# File name, bytes, and what the reason must say.
UNUSABLE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zero length": ("a.png", bytes, "the file is empty"),
    "zero length jpeg": ("a.jpg", bytes, "the file is empty"),
    "text": ("a.png", lambda: b"this is no image\n" * 9, "no known format"),
    "html": ("a.jpg", lambda: b"<!doctype html><title>404 Not Found</title>", "no known format"),
    "zeros": ("a.png", lambda: bytes(5000), "no known format"),
    "svg": ("a.png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no known format"),
    "postscript, which runs programs": ("a.png", lambda: encoded(Image.new("RGB", (8, 8)), "EPS"), "no known format"),
    "a signature alone": ("a.png", lambda: b"\x89PNG\r\n\x1a\n", "not a readable image"),
    "a jpeg's start alone": ("a.jpg", lambda: b"\xff\xd8\xff", "not a readable image"),
    "a wrong checksum": ("a.png", lambda: encoded(drawn(), "PNG").replace(b"IDAT", b"IDAT\1", 1), "not a readable image"),
    "zero width": ("a.png", lambda: png(0, 5, 8, 2, b""), "not a readable image"),
    "an impossible bit depth": ("a.png", lambda: png(5, 5, 7, 2, bytes(80)), "not a readable image"),
    "png bomb": ("a.png", lambda: png(60000, 60000, 8, 2, bytes(99)), "pixels, more than 64000000"),
    "smaller png bomb": ("a.png", lambda: png(9000, 9000, 8, 2, bytes(99)), "pixels, more than 64000000"),
    "png that claims 2^31": ("a.png", lambda: png(2**31 - 1, 2**31 - 1, 1, 0, bytes(99)), "pixels, more than 64000000"),
    "jpeg bomb": ("a.jpg", jpeg_bomb, "pixels, more than 64000000"),
    "gif bomb": ("a.gif", lambda: with_size(frames("GIF"), 6, "<HH", 65535, 65535), "pixels, more than 64000000"),
    "bmp bomb": ("a.bmp", lambda: with_size(encoded(drawn(), "BMP"), 18, "<ii", 50000, 50000), "pixels, more than 64000000"),
    "bomb of text": (
        "a.png",
        lambda: png(2, 2, 8, 2, bytes(14), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
        "not a readable image",
    ),
    "tiff of negative numbers": ("a.tif", lambda: encoded(np.full((8, 8), -5, np.int32), "TIFF"), "outside 0 to 65535"),
    "tiff of not-a-numbers": ("a.tif", lambda: encoded(np.full((8, 8), np.nan, np.float32), "TIFF"), "outside 0 to 1"),
    **{f"{kind} cut off at {tenth} tenths": (f"a.{kind.lower()}",
       lambda k=kind, t=tenth: (d := encoded(drawn(), k))[: len(d) * t // 10], "not a readable image")  # type: ignore[misc]
       for kind in ("PNG", "JPEG", "WEBP", "GIF") for tenth in range(1, 10)},
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with one good drawing, which must be in the column whatever lies beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded(drawn(), "PNG"))
    return folder


@pytest.mark.parametrize("case", USABLE)
def test_odd_images_are_in_the_column(case: str, images: Path, tmp_path: Path) -> None:
    name, data, shows = USABLE[case]
    (images / name).write_bytes(data())
    samples, quarantine = built(FOLDER | {"images": str(images)}, tmp_path)
    assert not quarantine and len(samples) == 2
    sample = next(sample for path, sample in samples.items() if path != "good.png")
    assert shows(from_bytes(image_in(sample))), from_bytes(image_in(sample))[SIZE // 2, SIZE // 2]


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_images_are_in_the_quarantine(case: str, images: Path, tmp_path: Path) -> None:
    name, data, reason = UNUSABLE[case]
    (images / name).write_bytes(data())
    samples, quarantine = built(FOLDER | {"images": str(images)}, tmp_path)
    assert list(samples) == ["good.png"]
    assert len(quarantine) == 1 and reason in next(iter(quarantine.values())), quarantine


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_cut_off_at_every_tenth_byte(kind: str) -> None:
    whole = encoded(drawn(), kind)
    expected = from_bytes(whole)
    refused = 0
    for length in range(0, len(whole), 10):
        try:
            assert np.array_equal(from_bytes(whole[:length]), expected), length  # only what is no pixel is missing
        except ImageError as error:
            refused += 1
            assert readable(str(error)), error
    assert refused > 0.9 * len(whole) / 10


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM"])
def test_noise_in_a_file_is_an_image_or_an_error(kind: str) -> None:
    whole, rng = bytearray(encoded(drawn(), kind)), np.random.default_rng(0)
    for _ in range(150):
        data = whole.copy()
        for at in rng.integers(0, len(data), 5):
            data[at] = rng.integers(256)
        try:
            assert fitted(bytes(data), SIZE, "pad")[0].shape == (SIZE, SIZE, 3)
        except ImageError as error:
            assert readable(str(error)), error


@pytest.mark.parametrize("value", range(2, 9))
def test_an_orientation_is_undone(value: int) -> None:
    upright = np.asarray(Image.fromarray(drawn()).crop((0, 0, 48, 32)))
    assert np.array_equal(from_bytes(oriented(value, "PNG")), upright)
    pixels, own = fitted(oriented(value, "JPEG"), SIZE, "longest")
    assert own == (48, 32) and pixels.shape == (21, 32, 3)


def test_sixteen_bits_keep_their_range() -> None:
    for data in (png(6, 6, 16, 0, GREY_BYTES), png(6, 6, 16, 2, COLOUR_BYTES), encoded(GREYS, "TIFF"), encoded(GREYS, "PPM")):
        assert np.array_equal(from_bytes(data)[0, :, 0], SCALED)


def link_to_itself(images: Path) -> None:
    (images / "a.png").symlink_to("a.png")


def link_to_nothing(images: Path) -> None:
    (images / "a.png").symlink_to("nowhere.png")


def pipe(images: Path) -> None:
    os.mkfifo(images / "a.png")


def broken_caption(text: bytes, extension: str, images: Path) -> None:
    (images / "a.png").write_bytes(encoded(drawn(), "PNG"))
    (images / f"a{extension}").write_bytes(text)


UNUSABLE_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to itself": (link_to_itself, "Too many levels of symbolic links"),
    "a link to nothing": (link_to_nothing, "a link to nothing"),
    "a pipe, which would be waited for": (pipe, "neither a file nor a folder"),
    "a caption that is not utf-8": (functools.partial(broken_caption, b"caf\xe9", ".txt"), "not UTF-8"),
    "a caption of a megabyte": (functools.partial(broken_caption, b"x" * 2**21, ".txt"), "more than 1048576 bytes"),
    "json cut off": (functools.partial(broken_caption, b'{"caption": "a', ".json"), "not JSON"),
    "json with NaN": (functools.partial(broken_caption, b'{"score": NaN}', ".json"), "not JSON"),
    "json nested without end": (functools.partial(broken_caption, b"[" * 100_000, ".json"), "not JSON"),
    "json that is a list": (functools.partial(broken_caption, b'["a"]', ".json"), "no JSON object with a text as its caption"),
    "json whose caption is a number": (
        functools.partial(broken_caption, b'{"caption": 3}', ".json"),
        "no JSON object with a text as its caption",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE_FILES)
def test_unusable_files_and_captions_are_in_the_quarantine(case: str, images: Path, tmp_path: Path) -> None:
    make, reason = UNUSABLE_FILES[case]
    make(images)
    samples, quarantine = built(FOLDER | {"images": str(images)}, tmp_path)
    assert list(samples) == ["good.png"]
    assert len(quarantine) == 1 and reason in next(iter(quarantine.values())), quarantine


def test_folders_of_every_kind(images: Path, tmp_path: Path) -> None:
    drawing = encoded(drawn(), "PNG")
    deep = images / "x.png" / "inside"
    deep.mkdir(parents=True)
    (deep / "a.png").write_bytes(drawing)
    (images / "x.png" / "up").symlink_to(images)  # a circle
    (images / "again").symlink_to(images / "x.png")  # sorted first, so that its name counts
    (images / "._good.png").write_bytes(b"what another system leaves beside a file")
    (images / ".hidden").mkdir()
    (images / ".hidden" / "a.png").write_bytes(drawing)
    (images / "notes.txt").write_text("no caption of any drawing")
    (images / "photo.avif").write_bytes(b"an extension that is not chosen")
    samples, quarantine = built(FOLDER | {"images": str(images)}, tmp_path)
    assert set(samples) == {"good.png", "again/inside/a.png"} and not quarantine


def test_a_tree_deeper_than_pythons_stack(images: Path, tmp_path: Path) -> None:
    here = os.open(images, os.O_RDONLY)
    try:
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            outer, here = here, os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(outer)
        os.close(os.open("a.png", os.O_CREAT, dir_fd=here))
        samples, quarantine = built(FOLDER | {"images": str(images)}, tmp_path)
    finally:
        os.close(here)
        subprocess.run(["rm", "-r", str(images)], check=True)  # Python's own removal, and pytest's, is recursive
    assert list(samples) == ["good.png"] and len(quarantine) == 1


@pytest.mark.parametrize("locked", ["a.png", "inside", "a.txt"])
def test_files_and_folders_without_permission(locked: str) -> None:
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp())  # pytest's own folder is closed to other users
    try:
        root.chmod(0o755)
        (root / "a.png").write_bytes(encoded(drawn(), "PNG"))
        (root / "a.txt").write_text("a thing")
        (root / "inside").mkdir()
        (root / locked).chmod(0)
        options = FOLDER | {"images": str(root)}
        if os.geteuid() == 0:
            os.seteuid(65534)  # nobody, for whom permissions hold
        try:
            items = list(source("folder").rows(options))
            reasons = [item.reason for item in items if hasattr(item, "reason")]
            if locked == "a.png":
                with pytest.raises(PermissionError):
                    source("folder").load(items[0].place, options)  # type: ignore[union-attr]
            else:
                assert len(reasons) == 1 and "cannot be read (Permission denied)" in reasons[0]
        finally:
            if os.geteuid() == 65534:
                os.seteuid(0)
    finally:
        shutil.rmtree(root)


def test_an_image_that_vanishes_or_is_locked_after_the_listing(images: Path, tmp_path: Path) -> None:
    (images / "gone.png").write_bytes(encoded(drawn(), "PNG"))
    options = FOLDER | {"images": str(images)}
    rows = write_rows(source("folder").rows(options), "train", tmp_path, val_share=0, limit=None, rows_per_shard=7)
    (images / "gone.png").unlink()
    shard = color_shard(
        0, rows.keys[0], rows=rows.file, starts=rows.starts, kind="folder", options=options, size=SIZE, image=PADDED,
        encoding={"format": "webp", "quality": 100},
    )  # fmt: skip
    reasons = [item.reason for item in shard if hasattr(item, "reason")]
    assert reasons == ["gone.png: cannot be read (No such file or directory)"]


@pytest.mark.parametrize(
    ("sketch", "reason"),
    [
        (bytes, "its sketch: not a readable image (the file is empty)"),
        (lambda: encoded(Image.new("L", (10, 30)), "PNG"), "its sketch has 10 x 30 pixels, other proportions than 48 x 48"),
    ],
)
def test_unusable_sketches(sketch: Callable[[], bytes], reason: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "sketches").mkdir()
    (images / "a.jpg").write_bytes(encoded(drawn(), "JPEG"))
    (tmp_path / "sketches" / "a.png").write_bytes(sketch())
    samples, quarantine = built(FOLDER | {"images": str(images), "sketches": str(tmp_path / "sketches")}, tmp_path)
    assert list(samples) == ["good.png"] and list(quarantine.values()) == [f"a.jpg: {reason}"]


def test_sides_below_the_least_and_results_beyond_the_most(images: Path, tmp_path: Path) -> None:
    (images / "small.png").write_bytes(encoded(drawn(16), "PNG"))
    options = FOLDER | {"images": str(images)}
    samples, quarantine = built(options, tmp_path / "a", min_side=32)
    assert list(samples) == ["good.png"]
    assert list(quarantine.values()) == ["small.png: its shorter side has 16 pixels, fewer than 32"]
    (images / "small.png").write_bytes(encoded(Image.new("L", (3_000_000, 1)), "PNG"))
    samples, quarantine = built(options, tmp_path / "b", fit="shorter")
    assert "it would become 96000000 x 32 pixels" in next(iter(quarantine.values()))


POST: dict[str, Any] = {
    "id": "1042", "rating": "s", "score": "5", "file_ext": "png", "image_width": "48", "image_height": "48", "is_deleted": False,
    "is_banned": False, "tags": [{"id": "1", "name": "long_hair", "category": "0"}, {"id": "2", "name": "alice", "category": "4"}],
}  # fmt: skip
BOORU = {
    "kind": "danbooru2021", "extension": None, "ratings": ["s"], "extensions": ["png"], "deleted": False, "banned": False,
    "min_score": None, "min_side": 32, "require": [], "exclude": ["comic"],
}  # fmt: skip


def line(**changes: Any) -> bytes:
    return json.dumps(POST | {"id": "2042"} | changes).encode()


METADATA: dict[str, tuple[bytes, str]] = {
    **{f"a line cut off at {tenth} tenths": (line()[: len(line()) * tenth // 10], "not JSON") for tenth in range(1, 10)},
    "a list": (b"[1, 2]", "no JSON object"),
    "a number": (b"7", "no JSON object"),
    "bytes that are not utf-8": (b'{"id": "\xff\xfe"}', "not JSON"),
    "nesting without end": (b'{"a":' * 50_000, "not JSON"),
    "infinity": (line().replace(b'"5"', b"-Infinity"), "not JSON"),
    "no id": (json.dumps({k: v for k, v in POST.items() if k != "id"}).encode(), "its id is no whole number"),
    "an id of words": (line(id="../../etc/passwd"), "its id is no whole number"),
    "a negative id": (line(id=-4), "its id is -4"),
    "an id of a thousand digits": (line(id="9" * 1000), "its id is no whole number"),
    "an id of five thousand digits": (line(id="9" * 5000), "its id is no whole number"),
    "a score of words": (line(score="many"), "its score is no whole number"),
    "no size": (line(image_width=None), "its image_width is no whole number"),
    "tags that are a text": (line(tags="long_hair alice"), "its tags are no list of objects"),
    "tags without category": (line(tags=[{"name": "long_hair"}]), "its tags are no list of objects"),
    "a category beyond all numbers": (line(tags=[{"name": "a", "category": 0}]).replace(b": 0}", b": 1e999}"), "its tags are no"),
    "a line of two megabytes": (b'{"a": "' + b"x" * 2**21 + b'"}', "longer than 1048576 bytes"),
    "zeros": (bytes(900), "not JSON"),
}  # fmt: skip


def booru(tmp_path: Path, *lines: bytes) -> dict[str, Any]:
    for number in (42, 1042, 2042):
        path = tmp_path / "images" / "0042" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(drawn(), "PNG"))
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "posts0.json").write_bytes(b"\n".join(lines) + b"\n\n" + json.dumps(POST).encode())
    return BOORU | {"metadata": str(tmp_path / "metadata"), "images": str(tmp_path / "images")}


@pytest.mark.parametrize("case", METADATA)
def test_broken_metadata_lines_are_in_the_quarantine(case: str, tmp_path: Path) -> None:
    text, reason = METADATA[case]
    samples, quarantine = built(booru(tmp_path, text), tmp_path)
    assert list(samples) == ["1042"]
    assert len(quarantine) == 1
    assert next(iter(quarantine.values())).startswith(f"posts0.json line 1: {reason}"), quarantine


def test_odd_but_whole_metadata_is_used(tmp_path: Path) -> None:
    ids = (
        line(id=42, score=None, tags=None, image_width=48),  # numbers as numbers, and nothing known
        line(id=2042, file_ext="PNG", rating="s", surprise={"a": []}),
    )
    samples, quarantine = built(booru(tmp_path, *ids, ids[0], b"", b"\xef\xbb\xbf" + ids[1]), tmp_path)
    assert set(samples) == {"42", "1042", "2042"} and not quarantine
    assert json.loads(samples["42"]["json"])["caption"] == "" and json.loads(samples["42"]["json"])["tags"] == {}


def test_an_extension_is_no_path(tmp_path: Path) -> None:
    samples, quarantine = built(booru(tmp_path, line(file_ext="/../../../secret.png"), line(rating=["s"])), tmp_path)
    assert list(samples) == ["1042"] and not quarantine


@pytest.mark.parametrize("packed", ["gz", "xz"])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_packed_metadata_is_read_up_to_where_it_breaks(packed: str, share: float, tmp_path: Path) -> None:
    import gzip
    import lzma

    options = booru(tmp_path)
    lines = b"".join(line(id=i, padding=str(np.random.default_rng(i).random(20))) + b"\n" for i in (42, 2042))
    whole = {"gz": gzip.compress, "xz": lzma.compress}[packed](lines)
    (tmp_path / "metadata" / f"posts1.json.{packed}").write_bytes(whole[: int(len(whole) * share)])
    samples, quarantine = built(options, tmp_path)
    assert "1042" in samples and (set(samples) == {"42", "1042", "2042"}) == (share == 1)
    assert all("compressed data is broken or cut off" in r or "not JSON" in r for r in quarantine.values())
    assert bool(quarantine) == (0 < share < 1)


Members = list[tuple[str, bytes]]


def tar(members: Members, format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def good(key: str) -> Members:
    return [(f"{key}.jpg", encoded(drawn(), "JPEG")), (f"{key}.json", b'{"caption": "%s"}' % key.encode())]


def special(kind: bytes, target: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        info = tarfile.TarInfo("b.jpg")
        info.type, info.linkname = kind, target
        out.addfile(info)
    return buffer.getvalue()[:512] + tar(good("a"))


def broken_header(members: Members) -> bytes:
    data = bytearray(tar(members))
    at = data.index(b"b.jpg")
    data[at + 148 : at + 156] = b"xxxxxxxx"  # its checksum
    return bytes(data)


def claimed(size: bytes) -> bytes:
    """The second sample's image claims another size, in a header whose checksum is right."""
    data = bytearray(tar([*good("a"), *good("b")]))
    at = data.index(b"b.jpg")
    data[at + 124 : at + 136] = size
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


PAIR = [*good("a"), *good("b")]

# A shard, the keys whose samples are used, and what the quarantine says.
SHARDS: dict[str, tuple[Callable[[], bytes], set[str], str]] = {
    "zero length": (bytes, set(), "no tar file"),
    "text": (lambda: b"no tar\n" * 500, set(), "no tar file"),
    "cut off in a header": (lambda: tar(PAIR)[:100], set(), "no tar file"),
    "cut off in the first image": (lambda: tar(PAIR)[:900], set(), "cut off in a.jpg"),
    "cut off in the second image": (lambda: tar(PAIR)[: tar(PAIR).index(b"b.jpg") + 700], {"a"}, "cut off in b.jpg"),
    "cut off in the second header": (lambda: tar(PAIR)[: tar(PAIR).index(b"b.jpg") + 70], {"a"}, "broken at byte"),
    "cut off in the second caption": (lambda: tar(PAIR)[: tar(PAIR).index(b"b.json") + 515], {"a", "b"}, "cut off in b.json"),
    "a broken header": (lambda: broken_header(PAIR), {"a"}, "broken at byte"),
    "a size beyond the end": (lambda: claimed(b"77777777777\0"), {"a"}, "cut off in b.jpg"),
    "a negative size": (lambda: claimed(b"\xff" * 10 + b"\xfc\0"), {"a"}, "cut off in b.jpg"),
    "two joined": (lambda: tar(good("a")) + tar(good("b")), {"a"}, "goes on after its end"),
    "packed": (lambda: zlib.compress(tar(PAIR), wbits=31), set(), "no tar file"),
    "path traversal": (lambda: tar([(f"../../{n}", d) for n, d in PAIR]), {"../../a", "../../b"}, ""),
    "absolute names": (lambda: tar([(f"/tmp/{n}", d) for n, d in PAIR]), {"tmp/a", "tmp/b"}, ""),
    "a key twice": (lambda: tar([*PAIR, *good("a")]), {"a", "b"}, "the shard has this key twice"),
    "a member twice": (lambda: tar([*good("a"), *good("a"), *good("b")]), {"a", "b"}, "the shard has this key twice"),
    "no image": (lambda: tar([*good("a"), ("b.txt", b"a thing"), ("b.cls", b"3")]), {"a"}, "no image among its txt, cls"),
    "an empty image": (lambda: tar([*good("a"), ("b.png", b"")]), {"a"}, "the file is empty"),
    "a broken image": (lambda: tar([*good("a"), ("b.webp", encoded(drawn(), "WEBP")[:99])]), {"a"}, "not a readable image"),
    "broken json": (lambda: tar([*good("a"), good("b")[0], ("b.json", b"{")]), {"a"}, "its text is not JSON"),
    "a caption that is not utf-8": (lambda: tar([*good("a"), good("b")[0], ("b.txt", b"\xff")]), {"a"}, "its text is not UTF-8"),
    "a long caption": (lambda: tar([*good("a"), good("b")[0], ("b.txt", b"x" * 2**21)]), {"a"}, "its text is longer than 1048576"),
    "names that are not utf-8": (lambda: tar([(n.replace("b", "caf\udce9"), d) for n, d in PAIR]), {"a", "caf\ufffd"}, ""),
    "pax headers": (lambda: tar([("é" * 150 + n, d) for n, d in PAIR], tarfile.PAX_FORMAT), {"é" * 150 + "a", "é" * 150 + "b"}, ""),
    "folders, dots and no extensions": (lambda: tar([("a", b""), (".hidden", b""), ("x/.b.jpg", b""), *PAIR]), {"a", "b"}, ""),
    "a link out of the shard": (lambda: special(tarfile.SYMTYPE, "/etc/passwd"), {"a"}, ""),
    "a hard link": (lambda: special(tarfile.LNKTYPE, "/etc/passwd"), {"a"}, ""),
    "a device": (lambda: special(tarfile.CHRTYPE), {"a"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_shards_are_used_up_to_where_they_break(case: str, tmp_path: Path) -> None:
    data, keys, reason = SHARDS[case]
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").write_bytes(data())
    (tmp_path / "shards" / "1.tar").write_bytes(tar(good("good")))
    samples, quarantine = built({"kind": "webdataset", "shards": str(tmp_path / "shards"), "group": None}, tmp_path)
    assert set(samples) == {f"0.tar/{key}" for key in keys} | {"1.tar/good"}
    assert len(quarantine) == bool(reason)
    assert all(r.startswith("0.tar") and reason in r for r in quarantine.values()), quarantine


def test_a_shard_cut_off_anywhere(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    whole = tar(PAIR)
    options = {"kind": "webdataset", "shards": str(tmp_path / "shards"), "group": None}
    for length in range(0, whole.index(b"b.json") + 600, 97):
        (tmp_path / "shards" / "0.tar").write_bytes(whole[:length])
        reasons = [item.reason for item in source("webdataset").rows(options) if hasattr(item, "reason")]
        boundary = length in {whole.index(name.encode()) for name, _ in PAIR}
        assert (len(reasons) == 1 or boundary) and all(map(readable, reasons)), (length, reasons)


def test_there_are_more_than_sixty() -> None:
    assert len(USABLE) + len(UNUSABLE) + len(UNUSABLE_FILES) + len(METADATA) + len(SHARDS) >= 60
