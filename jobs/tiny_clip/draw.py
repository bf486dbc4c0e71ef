"""Draw pictures of people, of places, of logos and of other things, with Pillow alone: data of the tiny CLIP model.

Every picture is drawn from random numbers: colours, sizes, places and kinds of parts. So there is no other source whose
licence would count, logos are invented, and pictures that training never saw are those of another seed.

    python draw.py FOLDER        # sixteen pictures of each kind, to look at
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 48
_ZOOM = 3  # pictures are drawn larger and made smaller, which smooths edges
Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw
_SKIN: list[Colour] = [(255, 219, 172), (241, 194, 125), (224, 172, 105), (198, 134, 66), (141, 85, 36), (90, 56, 37)]
_HAIR: list[Colour] = [(20, 20, 20), (60, 40, 20), (120, 80, 40), (200, 170, 90), (150, 150, 150), (160, 60, 30)]


def _any(rng: random.Random) -> Colour:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _strong(rng: random.Random) -> Colour:
    found = [rng.randrange(150, 256), rng.randrange(0, 90), rng.randrange(0, 256)]
    rng.shuffle(found)
    return found[0], found[1], found[2]


def _pale(rng: random.Random) -> Colour:
    return rng.randrange(170, 256), rng.randrange(170, 256), rng.randrange(170, 256)


def background(rng: random.Random, side: int) -> Image.Image:
    """Return a plain or a graded background."""
    if rng.random() < 0.3:
        return Image.new("RGB", (side, side), "white")
    one, other = (_pale(rng) if rng.random() < 0.7 else _any(rng) for _ in range(2))
    ramp = Image.linear_gradient("L").resize((side, side))
    if rng.random() < 0.5:
        ramp = ramp.transpose(Image.Transpose.ROTATE_90)
    return Image.composite(Image.new("RGB", (side, side), one), Image.new("RGB", (side, side), other), ramp)


def _disc(pen: Pen, x: float, y: float, r: float, fill: Colour, outline: Colour | None = None) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline)


def _head(pen: Pen, rng: random.Random, x: float, y: float, r: float) -> None:
    skin, hair = rng.choice(_SKIN), rng.choice(_HAIR)
    long = rng.random() < 0.5
    if long:
        pen.ellipse((x - 1.2 * r, y - 1.2 * r, x + 1.2 * r, y + 1.5 * r), fill=hair)
    _disc(pen, x, y, r, skin)
    pen.pieslice((x - 1.05 * r, y - 1.15 * r, x + 1.05 * r, y + 0.6 * r), 180, 360, fill=hair)
    pen.ellipse((x - 0.8 * r, y - 0.55 * r, x + 0.8 * r, y + 0.9 * r), fill=skin)
    for sign in (-1, 1):
        _disc(pen, x + sign * 0.38 * r, y, 0.13 * r, (20, 20, 20))
        if rng.random() < 0.2:
            _disc(pen, x + sign * 0.38 * r, y, 0.28 * r, skin, (20, 20, 20))
    pen.arc(
        (x - 0.4 * r, y + 0.1 * r, x + 0.4 * r, y + 0.65 * r), 20, 160, fill=(150, 30, 30), width=max(1, int(r / 8))
    )


def _portrait(pen: Pen, rng: random.Random, s: int) -> None:
    r = s * rng.uniform(0.18, 0.27)
    x, y = s * rng.uniform(0.4, 0.6), s * rng.uniform(0.32, 0.45)
    pen.ellipse((x - 2 * r, y + 1.1 * r, x + 2 * r, y + 5 * r), fill=_any(rng))
    pen.rectangle((x - 0.35 * r, y + 0.6 * r, x + 0.35 * r, y + 1.4 * r), fill=rng.choice(_SKIN))
    _head(pen, rng, x, y, r)


def _figure(pen: Pen, rng: random.Random, x: float, top: float, tall: float) -> None:
    r, clothes, width = tall * 0.13, _any(rng), max(2, int(tall * 0.06))
    y = top + r
    hip, feet = top + 0.6 * tall, top + tall
    for sign in (-1, 1):
        hand = (x + sign * tall * rng.uniform(0.15, 0.3), y + tall * rng.uniform(-0.1, 0.4))
        pen.line((x, y + 1.5 * r, *hand), fill=clothes, width=width)
        pen.line((x, hip, x + sign * tall * rng.uniform(0.05, 0.18), feet), fill=_any(rng), width=width)
    pen.polygon([(x - 1.1 * r, y + r), (x + 1.1 * r, y + r), (x + 1.3 * r, hip), (x - 1.3 * r, hip)], fill=clothes)
    _head(pen, rng, x, y, r)


def person(pen: Pen, rng: random.Random, s: int) -> None:
    kind = rng.random()
    if kind < 0.5:
        _portrait(pen, rng, s)
    elif kind < 0.85:
        _figure(pen, rng, s * rng.uniform(0.35, 0.65), s * rng.uniform(0.03, 0.15), s * rng.uniform(0.7, 0.85))
    else:
        for x in (0.3, 0.7):
            _figure(pen, rng, s * x, s * rng.uniform(0.1, 0.25), s * rng.uniform(0.55, 0.7))


def flag(pen: Pen, rng: random.Random, s: int) -> None:
    x0, y0 = s * rng.uniform(0.05, 0.15), s * rng.uniform(0.1, 0.2)
    x1, y1 = s * rng.uniform(0.85, 0.97), s * rng.uniform(0.6, 0.75)
    pen.rectangle((x0 - s * 0.04, y0 - s * 0.05, x0, s * 0.98), fill=(90, 70, 50))
    n, upright = rng.choice([2, 3, 3, 4, 5]), rng.random() < 0.4
    for i in range(n):
        a, b = i / n, (i + 1) / n
        box = (x0, y0 + (y1 - y0) * a, x1, y0 + (y1 - y0) * b)
        if upright:
            box = (x0 + (x1 - x0) * a, y0, x0 + (x1 - x0) * b, y1)
        pen.rectangle(box, fill=_strong(rng) if rng.random() < 0.75 else (255, 255, 255))
    extra, colour = rng.random(), _strong(rng)
    mid_x, mid_y, high = (x0 + x1) / 2, (y0 + y1) / 2, y1 - y0
    if extra < 0.25:
        pen.polygon([(x0, y0), (x0, y1), (x0 + (x1 - x0) * 0.4, mid_y)], fill=colour)
    elif extra < 0.45:
        _disc(pen, mid_x, mid_y, high * 0.25, colour)
    elif extra < 0.65:
        pen.rectangle((x0 + (x1 - x0) * 0.28, y0, x0 + (x1 - x0) * 0.4, y1), fill=colour)
        pen.rectangle((x0, mid_y - high * 0.1, x1, mid_y + high * 0.1), fill=colour)
    pen.rectangle((x0, y0, x1, y1), outline=(80, 80, 80))


def land(pen: Pen, rng: random.Random, s: int) -> None:
    pen.rectangle((0, 0, s, s), fill=(rng.randrange(120, 190), rng.randrange(180, 225), rng.randrange(215, 255)))
    colour = (rng.randrange(150, 230), rng.randrange(170, 230), rng.randrange(90, 160))
    cx, cy, edge = s / 2, s / 2, []
    for i in range(18):
        r = s * rng.uniform(0.26, 0.46)
        edge.append((cx + r * math.cos(i * math.tau / 18), cy + r * math.sin(i * math.tau / 18)))
    pen.polygon(edge, fill=colour, outline=(100, 100, 80))
    for _ in range(rng.randint(1, 3)):  # rivers, roads, borders
        x, y = s * rng.uniform(0.3, 0.7), s * 0.25
        points = [(x, y)]
        for _ in range(5):
            x, y = x + s * rng.uniform(-0.1, 0.1), y + s * 0.1
            points.append((x, y))
        pen.line(points, fill=rng.choice([(60, 120, 220), (200, 60, 60), (120, 120, 120)]), width=2)
    for _ in range(rng.randint(1, 4)):
        _disc(pen, s * rng.uniform(0.3, 0.7), s * rng.uniform(0.3, 0.7), s * 0.02, (200, 30, 30))


def _building(pen: Pen, rng: random.Random, x0: float, x1: float, top: float, ground: float) -> None:
    wall = (rng.randrange(90, 230), rng.randrange(80, 210), rng.randrange(70, 200))
    pen.rectangle((x0, top, x1, ground), fill=wall, outline=(60, 60, 60))
    if rng.random() < 0.6:
        roof = (rng.randrange(110, 200), rng.randrange(30, 90), rng.randrange(20, 70))
        pen.polygon([(x0 - 2, top), (x1 + 2, top), ((x0 + x1) / 2, top - (x1 - x0) * rng.uniform(0.3, 0.8))], fill=roof)
    columns, rows = max(1, int((x1 - x0) // 14)), max(1, int((ground - top) // 16))
    glass = rng.choice([(250, 240, 150), (150, 200, 240), (60, 70, 90)])
    for i in range(columns):
        for j in range(rows):
            x, y = x0 + (i + 0.5) * (x1 - x0) / columns, top + (j + 0.4) * (ground - top) / rows
            pen.rectangle((x - 3, y - 4, x + 3, y + 4), fill=glass)


def buildings(pen: Pen, rng: random.Random, s: int) -> None:
    ground = s * rng.uniform(0.82, 0.95)
    pen.rectangle((0, 0, s, ground), fill=(rng.randrange(120, 200), rng.randrange(180, 230), 250))
    pen.rectangle((0, ground, s, s), fill=(rng.randrange(80, 140), rng.randrange(110, 170), rng.randrange(70, 120)))
    n = rng.randint(1, 4)
    for i in range(n):
        left, right = s * (i + 0.08) / n, s * (i + 0.92) / n
        _building(pen, rng, left, right, s * rng.uniform(0.22, 0.6), ground)


_STROKES: dict[str, list[tuple[float, float, float, float]]] = {
    "A": [(0, 1, 0.5, 0), (0.5, 0, 1, 1), (0.2, 0.6, 0.8, 0.6)],
    "E": [(0, 0, 0, 1), (0, 0, 1, 0), (0, 0.5, 0.8, 0.5), (0, 1, 1, 1)],
    "K": [(0, 0, 0, 1), (1, 0, 0, 0.5), (0, 0.5, 1, 1)],
    "L": [(0, 0, 0, 1), (0, 1, 1, 1)],
    "M": [(0, 1, 0, 0), (0, 0, 0.5, 0.6), (0.5, 0.6, 1, 0), (1, 0, 1, 1)],
    "N": [(0, 1, 0, 0), (0, 0, 1, 1), (1, 1, 1, 0)],
    "T": [(0, 0, 1, 0), (0.5, 0, 0.5, 1)],
    "V": [(0, 0, 0.5, 1), (0.5, 1, 1, 0)],
    "X": [(0, 0, 1, 1), (1, 0, 0, 1)],
    "Z": [(0, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 1)],
}


def _letter(pen: Pen, rng: random.Random, box: tuple[float, float, float, float], fill: Colour, width: int) -> None:
    x0, y0, x1, y1 = box
    for a, b, c, d in rng.choice(list(_STROKES.values())):
        line = (x0 + a * (x1 - x0), y0 + b * (y1 - y0), x0 + c * (x1 - x0), y0 + d * (y1 - y0))
        pen.line(line, fill=fill, width=width)


def _word(pen: Pen, rng: random.Random, x0: float, x1: float, y: float, high: float, fill: Colour) -> None:
    n = rng.randint(3, 6)
    for i in range(n):
        left = x0 + (x1 - x0) * i / n
        _letter(pen, rng, (left, y, left + (x1 - x0) / n * 0.7, y + high), fill, max(2, int(high / 6)))


def logo(pen: Pen, rng: random.Random, s: int) -> None:
    pen.rectangle((0, 0, s, s), fill=(255, 255, 255) if rng.random() < 0.7 else _pale(rng))
    colour, other = _strong(rng), _strong(rng) if rng.random() < 0.5 else (255, 255, 255)
    x, y, r = s / 2, s * rng.uniform(0.34, 0.46), s * rng.uniform(0.2, 0.3)
    kind = rng.randrange(6)
    if kind == 0:
        pen.rounded_rectangle((x - r, y - r, x + r, y + r), radius=r * 0.4, fill=colour)
    elif kind == 1:
        _disc(pen, x, y, r, colour)
    elif kind == 2:
        n = rng.choice([3, 5, 6, 8])
        turn = rng.uniform(0, math.tau)
        edge = [
            (x + r * math.cos(turn + i * math.tau / n), y + r * math.sin(turn + i * math.tau / n)) for i in range(n)
        ]
        pen.polygon(edge, fill=colour)
    elif kind == 3:
        pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=max(4, int(r / 3)))
        pen.arc((x - 1.4 * r, y - 0.6 * r, x + 1.4 * r, y + 0.9 * r), 10, 170, fill=other, width=max(3, int(r / 5)))
    elif kind == 4:
        for i in range(3):
            pen.rectangle(
                (x - r + i * 0.7 * r, y + r - (i + 1) * 0.6 * r, x - r + (i * 0.7 + 0.5) * r, y + r), fill=colour
            )
    else:
        for i in range(4):
            _disc(
                pen, x + r * 0.5 * math.cos(i * math.pi / 2), y + r * 0.5 * math.sin(i * math.pi / 2), r * 0.45, colour
            )
    if kind in (0, 1, 2):
        _letter(pen, rng, (x - r * 0.4, y - r * 0.45, x + r * 0.4, y + r * 0.45), other, max(4, int(r / 4)))
    if rng.random() < 0.75:
        _word(pen, rng, s * 0.15, s * 0.88, s * rng.uniform(0.74, 0.8), s * 0.13, colour)


def thing(pen: Pen, rng: random.Random, s: int) -> None:
    x, y, r, kind = s * rng.uniform(0.4, 0.6), s * rng.uniform(0.4, 0.6), s * rng.uniform(0.15, 0.3), rng.randrange(5)
    colour = _any(rng)
    if kind == 0:  # a tree
        pen.rectangle((x - r * 0.15, y, x + r * 0.15, y + 1.4 * r), fill=(110, 75, 40))
        for i in range(3):
            _disc(pen, x + r * 0.5 * (i - 1), y - r * 0.4 * (i == 1), r * 0.6, (30, rng.randrange(100, 180), 40))
    elif kind == 1:  # a car
        pen.rounded_rectangle((x - 1.4 * r, y, x + 1.4 * r, y + 0.7 * r), radius=r * 0.2, fill=colour)
        pen.polygon(
            [(x - 0.8 * r, y), (x - 0.4 * r, y - 0.6 * r), (x + 0.5 * r, y - 0.6 * r), (x + 0.9 * r, y)], fill=colour
        )
        for sign in (-1, 1):
            _disc(pen, x + sign * 0.8 * r, y + 0.7 * r, 0.28 * r, (30, 30, 30), (200, 200, 200))
    elif kind == 2:  # a fruit
        _disc(pen, x, y, r, colour)
        pen.line((x, y - r, x + r * 0.2, y - 1.4 * r), fill=(90, 60, 30), width=4)
        pen.ellipse((x + r * 0.1, y - 1.5 * r, x + r * 0.8, y - 1.1 * r), fill=(60, 160, 60))
    elif kind == 3:  # a fish
        pen.ellipse((x - 1.3 * r, y - 0.6 * r, x + r, y + 0.6 * r), fill=colour)
        pen.polygon([(x + 0.8 * r, y), (x + 1.6 * r, y - 0.6 * r), (x + 1.6 * r, y + 0.6 * r)], fill=colour)
        _disc(pen, x - 0.8 * r, y - 0.1 * r, 0.1 * r, (0, 0, 0))
    else:  # a cup
        pen.polygon([(x - r, y - r), (x + r, y - r), (x + 0.7 * r, y + r), (x - 0.7 * r, y + r)], fill=colour)
        pen.arc((x + 0.5 * r, y - 0.6 * r, x + 1.5 * r, y + 0.5 * r), -90, 90, fill=colour, width=6)


def nothing(pen: Pen, rng: random.Random, s: int) -> None:
    """Draw nothing: the background is all."""


KINDS: dict[str, Callable[[Pen, random.Random, int], None]] = {
    "person": person,
    "flag": flag,
    "map": land,
    "buildings": buildings,
    "logo": logo,
    "thing": thing,
    "nothing": nothing,
}


def picture(kind: str, rng: random.Random, side: int = SIDE) -> Image.Image:
    """Return a picture of a kind in RGB."""
    large = background(rng, side * _ZOOM)
    KINDS[kind](ImageDraw.Draw(large), rng, side * _ZOOM)
    return large.resize((side, side), Image.Resampling.BOX)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in KINDS:
        sheet = Image.new("RGB", (8 * 100, 2 * 100), "white")
        for number in range(16):
            sheet.paste(picture(name, random.Random(number), 96), ((number % 8) * 100, number // 8 * 100))
        sheet.save(folder / f"{name}.png")
