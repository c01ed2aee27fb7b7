"""Scripts and styles of the pages, put together from small files; the seam that report and viewer share is ``seam()`` and ``seam_style()``.

``scene/`` holds Scene, Panel and Board: one scan with its maps, drawn on canvases in 2D or in three planes, with marks of orientation. Its
interface is told at the top of ``scene/scene.js``; what it draws is what ``pictures.for_script`` gives. It knows no page. ``page/`` holds what
only pages of this folder use. No bundler: plain scripts, one after the other, all their names known to the page.
"""

from __future__ import annotations

from importlib import resources

SEAM = ("numbers", "samples", "scene", "panel", "gestures", "board")
SOLID = ("solid",)  # NiiVue on a scene; wants ``vendor/niivue-0.69.0.umd.js``, in the pages of volumes only
REPORT = ("theme", "controls", "inside", "process", "main")


def part(name: str) -> str:
    """A file that lies beside this one, or in a folder here."""
    return resources.files("pellucid.report").joinpath(*name.split("/")).read_text(encoding="utf-8")


def seam() -> str:
    """Scene, Panel, Board, Solid and what they need, as one script."""
    return "\n".join(part(f"scene/{name}.js") for name in (*SEAM, *SOLID))


def seam_style() -> str:
    """The look of panels; it takes the colors of controls from the page (``--accent``)."""
    return part("scene/scene.css")


def niivue() -> str:
    """NiiVue with its license, as the page runs it."""
    return f"/*! {part('vendor/LICENSE')}*/\n{part('vendor/niivue-0.69.0.umd.js')}"


def script(names: tuple[str, ...], *, scene: bool = True) -> str:
    """A page's whole script."""
    return "\n".join([*([seam()] if scene else []), *(part(f"page/{name}.js") for name in names)])


def style(*more: str) -> str:
    """A page's whole style."""
    return "\n".join([part("page/report.css"), seam_style(), *(part(f"page/{name}.css") for name in more)])
