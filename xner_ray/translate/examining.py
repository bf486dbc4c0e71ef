"""What the health checks find in a translation, and what the recipe wants done about it."""

from __future__ import annotations

from xner_ray.errors import Reason
from xner_ray.sections import Health
from xner_ray.translate import health
from xner_ray.translate.numbers import lost_digits


class Examiner:
    """Applies `translate.health`. MissingExtraError if it asks for the language and the extra is missing."""

    def __init__(self, settings: Health) -> None:
        names = {check: str(check).removeprefix("translation_") for check in (*health.CHECKS, health.LANGUAGE)}
        self._actions = {check: getattr(settings, name) for check, name in names.items()}
        self._identifier = health.Identifier() if settings.language != "off" else None

    def examine(
        self, source: str, translation: str, source_lang: str, lang: str
    ) -> tuple[list[str], tuple[Reason, str] | None]:
        """Flags of a translation, and the reason and detail of its reject, if it is one."""
        fired = health.check(source, translation, source_lang, lang)
        if self._identifier is not None and self._identifier.wrong(translation, lang):
            fired.append(health.LANGUAGE)
        flags = [str(check) for check in fired if self._actions[check] == "flag"]
        for check in fired:
            if self._actions[check] == "reject":
                lost = lost_digits(source, translation, source_lang, lang) if check == health.LOST_DIGITS else []
                shown = f"{', '.join(lost)} missing in " if lost else ""
                return flags, (check, f"{shown}{translation[:200]!r}")
        return flags, None
