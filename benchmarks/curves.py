"""Small multiples of curves over a common time, drawn as SVG."""

import math
from dataclasses import dataclass
from html import escape

COLUMNS, WIDTH, HEIGHT = 2, 560, 150  # of one panel, in px
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 26, 22
HEAD = 60
INK, FAINT, LINE, HIT = "#1f2933", "#d5dbe1", "#1f6fb2", "#d1352b"


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel: lines of (x, y), one a life, and the x at which a life was ended on purpose."""

    name: str
    lives: list[list[tuple[float, float]]]
    hits: list[float]


def ticks(low, high, about):
    """Return round numbers from low to high, about so many."""
    raw = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= raw)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def draw(curves, x_label, y_label):
    """Return the SVG of all panels: y begins at 0, so that a slope looks as big as it is."""
    end = max((x for c in curves for life in c.lives for x, _ in life), default=1.0) or 1.0
    title, rows = f"{y_label} by process, over {x_label}", -(-len(curves) // COLUMNS)
    width, height = COLUMNS * WIDTH, HEAD + rows * HEIGHT + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = f'font-family="system-ui, sans-serif" font-size="11" fill="{INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<line x1="{LEFT}" x2="{LEFT + 22}" y1="42" y2="42" stroke="{LINE}" stroke-width="1.6"/>',
        f'<text x="{LEFT + 28}" y="46">one life of the process</text>',
        f'<line x1="{LEFT + 180}" x2="{LEFT + 180}" y1="36" y2="48" stroke="{HIT}"/>',
        f'<text x="{LEFT + 188}" y="46">it was killed, hung or bloated on purpose</text>',
    ]
    for number, curve in enumerate(curves):
        x0 = number % COLUMNS * WIDTH + LEFT
        y0 = HEAD + number // COLUMNS * HEIGHT + TOP
        parts += panel(curve, x0, y0, end, x_label)
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(curve, x0, y0, end, x_label):
    """Yield one panel whose plot begins at (x0, y0)."""
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    top = 1.1 * max((y for life in curve.lives for _, y in life), default=1.0) or 1.0

    def at(x, y):
        return f"{x0 + wide * x / end:.1f},{y0 + tall * (1 - y / top):.1f}"

    yield f'<text x="{x0}" y="{y0 - 8}" font-weight="600">{escape(curve.name)}, MB</text>'
    for y in ticks(0, top, 4):
        level = y0 + tall * (1 - y / top)
        yield f'<line x1="{x0}" x2="{x0 + wide}" y1="{level:.1f}" y2="{level:.1f}" stroke="{FAINT}"/>'
        yield f'<text x="{x0 - 6}" y="{level + 4:.1f}" text-anchor="end">{y:g}</text>'
    marks = ticks(0, end, 8)
    for x in marks:
        label = f"{x:g} {x_label}" if x == marks[-1] else f"{x:g}"
        anchor = "end" if x > 0.95 * end else "middle"
        yield (
            f'<text x="{x0 + wide * x / end:.1f}" y="{y0 + tall + 15}" text-anchor="{anchor}">'
            f"{escape(label)}</text>"
        )
    for x in curve.hits:
        here = f"{x0 + wide * x / end:.1f}"
        yield f'<line x1="{here}" x2="{here}" y1="{y0 + tall - 14}" y2="{y0 + tall}" stroke="{HIT}"/>'
    for life in curve.lives:
        if len(life) == 1:
            x, y = at(*life[0]).split(",")
            yield f'<circle cx="{x}" cy="{y}" r="1.4" fill="{LINE}"/>'
        else:
            points = " ".join(at(x, y) for x, y in life)
            yield f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.6"/>'
