"""Named views of a C-arm at the operating table: angles only, as its user names them."""

from types import MappingProxyType

VIEW_PRESETS = MappingProxyType(
    {
        "ap": (0.0, 0.0),
        "pa": (180.0, 0.0),
        "lateral": (90.0, 0.0),
        "lateral-right": (-90.0, 0.0),
        "inlet": (0.0, 40.0),
        "outlet": (0.0, -40.0),
        "judet-obturator-right": (-45.0, 0.0),
        "judet-obturator-left": (45.0, 0.0),
    }
)
"""(primary_deg, secondary_deg) by name; the Judet views are named for the obturator foramen that
they open: right obturator = left iliac oblique, left obturator = right iliac oblique. AP is 0/0, a
C-arm user's name for it although the beam runs from back to front."""


def view_preset(name: str) -> tuple[float, float]:
    """Return (primary_deg, secondary_deg) of the view called `name`.

    Raises:
        ValueError: If there is no such preset; the message lists those there are.
    """
    try:
        return VIEW_PRESETS[name.lower().replace("_", "-").replace(" ", "-")]
    except KeyError:
        known = ", ".join(VIEW_PRESETS)
        raise ValueError(f"There is no view preset {name!r}; the presets are {known}.") from None
