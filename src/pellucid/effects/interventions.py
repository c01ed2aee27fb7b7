"""Interventions by name, as a command line writes them: ``blur``, ``lesion_contrast(channel='T1c')``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from pellucid.effects.acquisition import Attenuation, Blur, Noise, Resolution, RingIntensity
from pellucid.effects.intervention import Intervention
from pellucid.effects.lesions import LesionContrast, LesionSize
from pellucid.errors import BadParameter
from pellucid.params import named

INTERVENTIONS: Mapping[str, type[Intervention]] = {
    "lesion_contrast": LesionContrast, "lesion_size": LesionSize, "ring_intensity": RingIntensity, "blur": Blur, "resolution": Resolution,
    "noise": Noise, "attenuation": Attenuation,
}  # fmt: skip


def read_intervention(text: str | Intervention) -> Intervention:
    """An intervention from its name and parameters.

    Raises:
        BadParameter: no such name, or parameters that it does not take.

    >>> read_intervention("attenuation(channel='T2')")
    Attenuation(channel='T2', fill=0.0)
    >>> read_intervention("blur")
    Blur()
    """
    if isinstance(text, Intervention):
        return text
    name, _, rest = text.strip().partition("(")
    kind = INTERVENTIONS.get(name.strip())
    if kind is None or (rest and not rest.endswith(")")):
        raise BadParameter(f"an axis among {', '.join(INTERVENTIONS)}", repr(text), "Write 'blur' or \"attenuation(channel='T2')\".")
    given = named(name, rest[:-1])
    takes = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if unknown := set(given) - set(takes):
        raise BadParameter(f"a parameter of {name}", ", ".join(sorted(unknown)), f"It takes {', '.join(takes) or 'none'}.")
    try:
        return kind(**given)
    except TypeError as error:
        raise BadParameter(f"{name} with its parameters {', '.join(takes)}", repr(text), "Give those without a default.") from error
