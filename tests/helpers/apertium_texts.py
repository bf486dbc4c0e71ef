"""What tests of the Apertium engine share: languages, the line that installs it, the texts of an answer."""

from xner_ray.errors import Reason
from xner_ray.translate.base import Translation

EN, ES = "eng_Latn", "spa_Latn"
INSTALL = "apt-get install --no-install-recommends apertium apertium-eng-spa"


def texts_of(results: list[Translation | tuple[Reason, str]]) -> list[str]:
    assert all(isinstance(result, Translation) for result in results), results
    return [result.text for result in results if isinstance(result, Translation)]
