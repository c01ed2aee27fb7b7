"""Where the cells of a site lie on an image."""

from __future__ import annotations

from pellucid.errors import BadSite, Unsupported
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.model import Model
from pellucid.probe.ledger import untouched
from pellucid.probe.sites import find


def cells_of(model: Model, image: Image, site: str) -> tuple[str, Grid, bool]:
    """The name of a site as the network has it, the grid of its cells on the prepared image, and whether they have a fixed place there.

    Raises:
        BadSite: no such site, or one without the image's axes.
        Unsupported: a network that slides windows.
    """
    if model.windows is not None:
        raise Unsupported("a hidden site needs one pass over the whole image", "windows=", "Crop in prepare= and leave windows= out.")
    with untouched(model.module):
        ready, x = model.ready(image)
        place, _ = find(model, site, x)
    layout, grid = place.layout, ready.grid
    if layout.space is None or len(layout.space) != grid.ndim:
        fix = "Choose a site before the pooling or flattening."
        raise BadSite(f"a site with {grid.ndim} spatial axes", f"{place.text!r} of {place.shape}", fix)
    if layout.stride is not None and layout.offset is not None:
        return place.text, grid.coarsen(layout.stride, layout.offset, layout.space), True
    return place.text, grid.resize(layout.space), False
