"""What moves in the drawn street."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter

from runtime.sources.live.scenery import FINE, LOOKS, Colour, tinted

KINDS = ("car", "van", "bus", "car", "bicycle")
_PAINT: tuple[Colour, ...] = (
    *((206, 52, 48), (46, 98, 184), (240, 240, 236)),
    *((250, 190, 40), (52, 140, 96), (70, 74, 84)),
)
_GLASS: Colour = (142, 184, 208)
_DARK: Colour = (32, 34, 38)


@lru_cache(maxsize=256)
def sprite(kind: str, number: int, look: str, step: int) -> Image.Image:
    """Return something that moves to the right, with transparency.

    Args:
        kind: One of `KINDS`, or `walker`.
        number: Which one, which chooses its colour.
        look: Name of the look whose light falls on it.
        step: Phase of its legs, 0 to 3; vehicles do not change.
    """
    size = {"car": (104, 40), "van": (112, 54), "bus": (164, 62), "bicycle": (52, 50)}
    width, height = size.get(kind, (20, 46))
    image = Image.new("RGBA", (FINE * width, FINE * height))
    pen = _Pen(image, _PAINT[number % len(_PAINT)])
    getattr(pen, kind)(step)
    tint = next(entry.tint for entry in LOOKS if entry.name == look)
    return tinted(image.reduce(FINE), tint)


@lru_cache(maxsize=2)
def glow(direction: int) -> Image.Image:
    """Return the light in front of a vehicle.

    Args:
        direction: 1 to the right, -1 to the left.
    """
    size = (124, 56)
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon([(10, 22), (102, 12), (106, 28), (102, 42), (10, 28)], fill=120)
    image = Image.new("RGBA", size, (255, 236, 178, 0))
    image.putalpha(mask.filter(ImageFilter.GaussianBlur(6)))
    return image if direction > 0 else image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class _Pen:
    """Draws in the units of the small picture."""

    def __init__(self, image: Image.Image, paint: Colour) -> None:
        self._pen, self._paint = ImageDraw.Draw(image), paint

    def car(self, step: int) -> None:
        self._shape((18, 20), (34, 3), (70, 3), (86, 20))
        self._shape((26, 18), (37, 6), (51, 6), (51, 18), colour=_GLASS)
        self._shape((54, 18), (54, 6), (68, 6), (78, 18), colour=_GLASS)
        self._round((2, 17, 102, 34), 7)
        self._ends(102, 22)
        self._wheels(24, 80, y=32, radius=8)

    def van(self, step: int) -> None:
        self._round((2, 3, 110, 46), 8)
        self._shape((78, 8), (92, 8), (104, 25), (78, 25), colour=_GLASS)
        self._ends(110, 32)
        self._wheels(24, 86, y=45, radius=9)

    def bus(self, step: int) -> None:
        self._round((2, 2, 162, 54), 7)
        for x in range(10, 140, 22):
            self._round((x, 10, x + 18, 28), 2, _GLASS)
        self._round((144, 10, 160, 34), 2, _GLASS)
        self._ends(162, 40)
        self._wheels(32, 126, y=52, radius=10)

    def bicycle(self, step: int) -> None:
        for x in (11, 41):
            self._ring(x, 38, 10)
        self._line((11, 38), (22, 24), (36, 24), (26, 38), (11, 38))
        self._line((26, 38), (20, 20))
        self._line((41, 38), (35, 20), (39, 18))
        self._line((21, 20), (27, 10), (36, 20), width=5)
        knee = ((29, 30), (31, 28), (29, 27), (27, 29))[step]
        self._line((21, 20), knee, (26, 38), width=3, colour=(60, 66, 92))
        self._round((25, 0, 33, 8), 4, (222, 176, 146))

    def walker(self, step: int) -> None:
        swing = (0, 5, 0, -5)[step]
        for side in (1, -1):
            foot = (10 + side * swing, 45)
            self._line((10, 26), foot, width=4, colour=(58, 62, 84))
        self._round((5, 10, 15, 29), 4)
        self._round((6, 0, 14, 9), 4, (222, 176, 146))

    def _shape(self, *points: tuple[float, float], colour: Colour | None = None) -> None:
        fine = [(FINE * x, FINE * y) for x, y in points]
        self._pen.polygon(fine, colour or self._paint)

    def _round(self, box: tuple[float, ...], radius: float, colour: Colour | None = None) -> None:
        fine = [FINE * number for number in box]
        self._pen.rounded_rectangle(fine, FINE * radius, colour or self._paint)

    def _line(
        self, *points: tuple[float, float], width: float = 2, colour: Colour | None = None
    ) -> None:
        fine = [(FINE * x, FINE * y) for x, y in points]
        self._pen.line(fine, colour or self._paint, int(FINE * width), joint="curve")

    def _ring(self, x: float, y: float, radius: float) -> None:
        box = (x - radius, y - radius, x + radius, y + radius)
        self._pen.ellipse([FINE * number for number in box], outline=_DARK, width=2 * FINE)

    def _wheels(self, *places: float, y: float, radius: float) -> None:
        for x in places:
            for size, colour in ((radius, _DARK), (radius / 2, (168, 172, 178))):
                self._round((x - size, y - size, x + size, y + size), size, colour)

    def _ends(self, right: float, y: float) -> None:
        """Draw the lights at both ends."""
        self._round((right - 6, y, right, y + 6), 2, (255, 244, 200))
        self._round((2, y, 7, y + 6), 2, (196, 30, 34))
