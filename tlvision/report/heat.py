"""Draw a heat map over a picture, with a bar that shows the scale."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tlvision.report.draw import font_for
from tlvision.types import Pixels, check_array

_MIN_OPACITY, _MAX_OPACITY = 0.25, 0.75


def draw_heat(image: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """Return the image in grey under the heat map in colours (viridis), (H, W, 3) uint8 RGB.

    image: (H, W, 3) uint8 RGB, not changed. heat: (H, W) float32, at least 0; its maximum gets the brightest colour.

    Warm places cover the image more than cold ones, so that the image can be recognised.

    >>> draw_heat(np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.float32)).tolist()
    [[[17, 0, 21], [190, 173, 28]]]
    """
    check_array("draw_heat", "image", image, ("H", "W", 3), ("uint8",))
    check_array("draw_heat", "heat", heat, image.shape[:2], ("float32",))
    highest = float(heat.max())
    scaled = heat / np.float32(highest) if highest > 0 else heat
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    opacity = (_MIN_OPACITY + (_MAX_OPACITY - _MIN_OPACITY) * scaled)[..., None]
    mixed: Pixels = np.rint(grey * (1 - opacity) + viridis(scaled) * opacity).astype(np.uint8)
    return mixed


def draw_outline(picture: Pixels, region: npt.NDArray[np.bool_]) -> Pixels:
    """Return the picture with a white line on a dark one around a region.

    picture: (H, W, 3) uint8 RGB, not changed. region: (H, W) bool.
    """
    check_array("draw_outline", "region", region, picture.shape[:2], ("bool",))
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    canvas = picture.copy()
    thin = max(1, round(max(picture.shape) / 600))
    cv2.drawContours(canvas, contours, -1, (0, 0, 0), 3 * thin)
    cv2.drawContours(canvas, contours, -1, (255, 255, 255), thin)
    return canvas


def viridis(values: npt.NDArray[np.float32]) -> Pixels:
    """Return the colours of values 0..1: (H, W, 3) uint8 RGB for (H, W) float32. Equal steps look equally large."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)


def with_scale(picture: Pixels, caption: str) -> Pixels:
    """Return the picture with a white strip below: a bar of the colours, its ends, and a caption in one line or more.

    picture: (H, W, 3) uint8 RGB. The pixels of the picture stay as they are.
    """
    height, width = picture.shape[:2]
    font = font_for((width, height), caption)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    line = math.ceil(pen.textbbox((0, 0), "Ag", font=font)[3] * 1.4)
    lines = _wrapped(pen, caption, font, width - line)
    sheet = Image.new("RGB", (width, height + line * (len(lines) + 2)), "white")
    sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (0, 0))
    pen = ImageDraw.Draw(sheet)
    middle = height + line * 0.9
    ends = [math.ceil(pen.textlength(text, font=font)) for text in ("0", "most heat")]
    left, right = line // 2 + ends[0] + line // 3, max(width - line // 2 - ends[1] - line // 3, line * 2)
    ramp = np.linspace(0, 1, max(right - left, 2), dtype=np.float32)[None].repeat(max(line // 2, 1), axis=0)
    sheet.paste(Image.fromarray(viridis(ramp)), (left, round(middle - line / 4)))
    pen.text((line // 2, middle), "0", fill=(0, 0, 0), font=font, anchor="lm")
    pen.text((right + line // 3, middle), "most heat", fill=(0, 0, 0), font=font, anchor="lm")
    for number, text in enumerate(lines):
        pen.text((line // 2, middle + line * (number + 1)), text, fill=(0, 0, 0), font=font, anchor="lm")
    return np.asarray(sheet)


def _wrapped(pen: ImageDraw.ImageDraw, text: str, font: object, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font=font) > width:  # type: ignore[arg-type]
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
