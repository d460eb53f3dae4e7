"""Image files of every mode that is read, each with the pixels that are in it, transparency too."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]
HEIGHT, WIDTH = 10, 12
BACKGROUNDS = {"white": 255, "black": 0, "grey": 128}
_ORIENTATION = 0x0112


def laid_on(truth: Array, background: str) -> Array:
    """Return RGB of RGBA (H, W, 4), each value rounded once."""
    colours, alpha = truth[..., :3].astype(float), truth[..., 3:].astype(float)
    if background == "drop":
        return truth[..., :3]
    return np.rint((colours * alpha + BACKGROUNDS[background] * (255 - alpha)) / 255).astype("u1")


def png(path: Path, depth: int, kind: int, rows: NDArray, **chunks: bytes) -> None:
    """Write a PNG file of any depth and colour type; values are given as the file has them."""

    def chunk(name: str, content: bytes) -> bytes:
        body = name.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = rows.shape[:2]
    lines = rows.reshape(height, -1)
    if depth == 16:
        packed = [line.astype(">u2").tobytes() for line in lines]
    else:
        bits = (lines[..., None] >> np.arange(depth)[::-1]) & 1
        packed = [np.packbits(row.ravel().astype(bool)).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = {"IHDR": header, **chunks, "IDAT": zlib.compress(b"".join(b"\0" + p for p in packed))}
    content = b"".join(chunk(name, part) for name, part in {**parts, "IEND": b""}.items())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def tiff(path: Path, bits: Sequence[int], photometric: int, content: bytes, **more: int) -> None:
    """Write a TIFF file of one strip, little-endian; `extra` says what a further sample is."""
    size = {256: WIDTH, 257: HEIGHT, 259: 1, 262: photometric, 277: len(bits), 278: HEIGHT}
    size |= {279: len(content)} | ({338: more["extra"]} if "extra" in more else {})
    count = len(size) + 2
    end = 8 + 2 + 12 * count + 4
    bits_bytes = struct.pack(f"<{len(bits)}H", *bits)
    rows = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in size.items()}
    inline_or_end = bits_bytes.ljust(4, b"\0") if len(bits) < 3 else struct.pack("<I", end)
    rows[258] = struct.pack("<HHI", 258, 3, len(bits)) + inline_or_end
    rows[273] = struct.pack("<HHII", 273, 4, 1, end + len(bits_bytes))
    table = struct.pack("<H", count) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)
    path.write_bytes(b"II" + struct.pack("<HI", 42, 8) + table + bits_bytes + content)


def _draw(*shape: int, below: int = 256) -> NDArray:
    return np.random.default_rng(shape).integers(0, below, (HEIGHT, WIDTH, *shape), np.int64)


def _rgba(colours: NDArray, alpha: NDArray | int = 255) -> Array:
    colours = np.broadcast_to(colours if colours.ndim == 3 else colours[..., None], _FULL)
    return np.dstack([colours, np.broadcast_to(alpha, _FULL[:2])]).astype("u1")


def _alpha() -> NDArray:
    """Every kind of it: none, whole, and between."""
    return np.choose(_draw(7, below=3)[..., 0], [0, 255, _draw()])


_FULL = (HEIGHT, WIDTH, 3)


def _saved(path: Path, truth: Array, mode: str = "RGBA", **options: object) -> Array:
    Image.fromarray(truth).convert(mode).save(path, **options)
    return truth


def _grey_key(path: Path, depth: int) -> Array:
    """A grey PNG file one of whose values is transparent."""
    top = 2**depth - 1
    values = _draw(below=top + 1) if depth < 16 else _draw(below=3) * 0x1111 + 0x20F0
    key = int(values[0, 0])
    png(path, depth, 0, values, tRNS=struct.pack(">H", key))
    return _rgba(
        values >> 8 if depth > 8 else values * (255 // top), np.where(values == key, 0, 255)
    )


def _colour_key(path: Path, depth: int) -> Array:
    values = _draw(3)
    key = values[0, 0]
    values[HEIGHT // 2 :, ::2] = key
    scale = 257 if depth == 16 else 1
    png(path, depth, 2, values * scale, tRNS=struct.pack(">3H", *(key * scale).tolist()))
    return _rgba(values, np.where((values == key).all(-1), 0, 255))


def _palette(path: Path, depth: int, alphas: int) -> Array:
    """A PNG file whose palette has `alphas` values of transparency, the first 0."""
    count = 2**depth
    colours, positions = _draw(3).reshape(-1, 3)[np.arange(count) % 99], _draw(below=count)
    alpha = np.full(count, 255)
    alpha[:alphas] = np.linspace(0, 200, alphas)
    plte, trns = colours.astype("u1").tobytes(), alpha[:alphas].astype("u1").tobytes()
    png(path, depth, 3, positions, PLTE=plte, tRNS=trns)
    return _rgba(colours[positions], alpha[positions])


def _gif(path: Path) -> Array:
    image = Image.fromarray(_draw(below=9).astype("u1"), "P")
    image.putpalette(_draw(3).astype("u1").ravel()[:27].tobytes())
    colours = np.asarray(image.convert("RGB"))
    image.save(path, transparency=4)
    return _rgba(colours, np.where(np.asarray(image) == 4, 0, 255))


def _palette_and_alpha(path: Path) -> Array:
    image = Image.fromarray(_draw(below=9).astype("u1"), "P")
    image.putpalette(_draw(3).astype("u1").ravel()[:27].tobytes())
    colours, alpha = np.asarray(image.convert("RGB")), _alpha()
    both = image.convert("PA")
    both.putalpha(Image.fromarray(alpha.astype("u1")))
    both.save(path)
    return _rgba(colours, alpha)


def _sixteen(path: Path, kind: int, samples: int) -> Array:
    values = _draw(samples, below=65536)
    values[..., -1] = _alpha() * 257
    png(path, 16, kind, values)
    return _rgba(values[..., :-1] >> 8, values[..., -1] >> 8)


def _premultiplied(path: Path, samples: int) -> Array:
    """A TIFF file whose colours are multiplied with its alpha already: here without a remainder."""
    alpha, stored = np.choose(_draw(below=3), [0, 51, 255]), _draw(samples - 1, below=52)
    stored = np.where(alpha[..., None] == 0, 0, stored)
    content = np.dstack([stored, alpha]).astype("u1").tobytes()
    tiff(path, (8,) * samples, 1 if samples == 2 else 2, content, extra=1)
    return _rgba(np.where(alpha[..., None] == 51, stored * 5, stored), alpha)


def _turned(path: Path) -> Array:
    exif, truth = Image.Exif(), _rgba(_draw(3), _alpha())
    exif[_ORIENTATION] = 6  # the camera was held upright
    Image.fromarray(truth).save(path, exif=exif)
    return np.rot90(truth, 3)


def _grey(path: Path, values: NDArray, shown: NDArray) -> Array:
    Image.fromarray(values).save(path)
    return _rgba(shown)


def _pgm(path: Path, top: int) -> Array:
    values = _draw(below=top + 1)
    header = f"P5\n{WIDTH} {HEIGHT}\n{top}\n".encode()
    path.write_bytes(header + values.astype(">u2").tobytes())
    return _rgba(np.rint(values / top * 65535).astype("i4") >> 8)


def _twelve(path: Path) -> Array:
    values = _draw(below=4096)
    bits = (values[..., None] >> np.arange(12)[::-1]) & 1
    tiff(path, (12,), 1, np.packbits(bits.astype(bool)).tobytes())
    return _rgba(values >> 4)


def _cmyk(path: Path) -> Array:
    image = Image.fromarray(_draw(4).astype("u1"), "CMYK")
    image.save(path)
    ink = np.asarray(image).astype(float)
    return _rgba(np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255))


TRANSPARENT: dict[str, Callable[[Path], Array]] = {
    "colour.png": lambda p: _saved(p, _rgba(_draw(3), _alpha())),
    "colour.tif": lambda p: _saved(p, _rgba(_draw(3), _alpha())),
    "colour.tga": lambda p: _saved(p, _rgba(_draw(3), _alpha())),
    "colour.webp": lambda p: _saved(p, _rgba(_draw(3), _alpha()), lossless=True, exact=True),
    "grey.png": lambda p: _saved(p, _rgba(_draw(), _alpha()), "LA"),
    "grey.tif": lambda p: _saved(p, _rgba(_draw(), _alpha()), "LA"),
    "sixteen-bits-colour.png": lambda p: _sixteen(p, 6, 4),
    "sixteen-bits-grey.png": lambda p: _sixteen(p, 4, 2),
    "premultiplied-colour.tif": lambda p: _premultiplied(p, 4),
    "premultiplied-grey.tif": lambda p: _premultiplied(p, 2),
    "palette-of-alphas.png": lambda p: _palette(p, 8, 40),
    "palette-of-four.png": lambda p: _palette(p, 2, 3),
    "palette-with-a-hole.png": lambda p: _palette(p, 4, 1),
    "palette-with-a-hole.gif": _gif,
    "palette-and-alpha.tif": _palette_and_alpha,
    "key-of-1-bit.png": lambda p: _grey_key(p, 1),
    "key-of-2-bits.png": lambda p: _grey_key(p, 2),
    "key-of-4-bits.png": lambda p: _grey_key(p, 4),
    "key-of-8-bits.png": lambda p: _grey_key(p, 8),
    "key-of-16-bits.png": lambda p: _grey_key(p, 16),
    "key-colour.png": lambda p: _colour_key(p, 8),
    "key-colour-of-16-bits.png": lambda p: _colour_key(p, 16),
    "turned.png": _turned,
}
"""By name what writes a file and returns its pixels, (H, W, 4): RGB and alpha."""

OPAQUE: dict[str, Callable[[Path], Array]] = {
    "colour.bmp": lambda p: _saved(p, _rgba(_draw(3)), "RGB"),
    "whole.png": lambda p: _saved(p, _rgba(_draw(3))),
    "grey-of-8.png": lambda p: _saved(p, _rgba(_draw()), "L"),
    "black-white.png": lambda p: _grey(p, _draw(below=2) > 0, _draw(below=2) * 255),
    "ink.tif": _cmyk,
    "sixteen.png": lambda p: _grey(p, _draw(below=65536).astype("u2"), _draw(below=65536) >> 8),
    "sixteen.tif": lambda p: _grey(p, _draw(below=65536).astype("u2"), _draw(below=65536) >> 8),
    "sixteen.pgm": lambda p: _pgm(p, 65535),
    "sixteen-but-dark.pgm": lambda p: _pgm(p, 1023),
    "twelve.tif": _twelve,
    "whole-numbers.tif": lambda p: _grey(
        p, _draw(below=65536).astype("i4"), _draw(below=65536) >> 8
    ),
    "small-whole-numbers.tif": lambda p: _grey(p, _draw().astype("i4"), _draw()),
    "floats-to-1.tif": lambda p: _grey(p, (_draw() / 255).astype("f4"), _draw()),
    "floats-to-255.tif": lambda p: _grey(p, _draw().astype("f4"), _draw()),
}
"""The same for files without transparency."""
