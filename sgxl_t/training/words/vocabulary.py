"""What captions are made of: things, places and the words around them, from the embedded data sets."""

from __future__ import annotations

from dataclasses import dataclass

from sgxl_t.datasets.embedded.scene_captions import SCENE_WORDS
from sgxl_t.datasets.embedded.sprites import COLOURS, load_sprites

SIZES = ("small", "little", "tiny", "big", "large", "huge")
COUNTS = ("two", "three", "four", "several", "many", "a pair of", "a group of", "a couple of")
STYLES = ("flat", "3D", "cartoon", "drawn", "glossy", "clay", "painted", "minimal", "realistic", "shiny")
STYLE_FORMS = ("{} style", "in {} style", "as a {} picture")
TIMES = ("", "", "", "", "at night", "at dusk", "at dawn", "at sunset", "by day", "in the morning")
PLACES = (
    *("in a forest", "in the woods", "under a starry sky", "in the mountains", "on a hill", "by a river"),
    *("under the sea", "in space", "on the moon", "in the rain", "under a cloudy sky", "in the garden"),
    *("on a road", "in a field of flowers", "at the seaside", "by the ocean", "in winter", "in summer"),
    *("on the shore", "by a lake", "in the fog", "in autumn leaves", "on ice", "in the sky", "at home"),
)
MORE_COLOURS = ("black", "golden", "turquoise", "violet", "crimson", "silver", "gray", "scarlet", "teal")
FORMS = (
    *("{thing} {place}", "{thing} {place}", "{place}, {thing}", "a picture of {thing} {place}"),
    *("{thing}", "{thing}, {place}", "{thing} standing {place}", "{place} there is {thing}"),
    *("an image of {thing} {place}", "{thing} {place}, {style}", "{style}: {thing} {place}"),
    *("{thing} and {other} {place}", "{thing} with {other} {place}", "{thing} next to {other}"),
)
"""Word orders; the plain one stands twice because it is what people type."""


@dataclass(frozen=True)
class Vocabulary:
    """things: of each object its name and synonyms. places: phrases that say where. colours: words."""

    things: tuple[tuple[str, ...], ...]
    places: tuple[str, ...]
    colours: tuple[str, ...]


def embedded_vocabulary() -> Vocabulary:
    """That of the embedded data sets, in a fixed order."""
    places = [place for words in SCENE_WORDS.values() for place in words.places]
    return Vocabulary(tuple(sprite.names for sprite in load_sprites()), tuple(places), tuple(COLOURS))
