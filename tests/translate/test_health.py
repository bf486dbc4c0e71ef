"""Health checks: each on made examples, on any text, and on good translations of NTREX."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest
from bench import health_table
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data.languages import LANGUAGES
from xner_ray.errors import MissingExtraError, Reason
from xner_ray.translate import health
from xner_ray.translate.health import COPIED, LENGTH, LOST_DIGITS, REPEATS, WRONG_SCRIPT, check
from xner_ray.translate.numbers import lost_digits

ENGLISH = "The minister said on Tuesday that the new bridge will be opened in spring."
GOOD = {
    "deu_Latn": "Der Minister sagte am Dienstag, dass die neue Brücke im Frühling eröffnet wird.",
    "arb_Arab": "قال الوزير يوم الثلاثاء إن الجسر الجديد سيفتتح في الربيع.",
    "heb_Hebr": "השר אמר ביום שלישי שהגשר החדש ייפתח באביב.",
    "tha_Thai": "รัฐมนตรีกล่าวเมื่อวันอังคารว่าสะพานใหม่จะเปิดในฤดูใบไม้ผลิ",
    "amh_Ethi": "ሚኒስትሩ ማክሰኞ ዕለት አዲሱ ድልድይ በጸደይ ወቅት እንደሚከፈት ተናግረዋል።",
    "zho_Hans": "部长星期二说，新桥将于春天开通。",
    "zho_Hant": "部長星期二說，新橋將於春天開通。",
    "jpn_Jpan": "大臣は火曜日、新しい橋が春に開通すると述べた。",
    "kor_Hang": "장관은 화요일에 새 다리가 봄에 개통될 것이라고 말했다.",
    "srp_Cyrl": "Министар је у уторак рекао да ће нови мост бити отворен на пролеће.",
    "ind_Latn": "Menteri mengatakan pada hari Selasa bahwa jembatan baru akan dibuka pada musim semi.",
    "hin_Deva": "मंत्री ने मंगलवार को कहा कि नया पुल वसंत में खोला जाएगा।",
}  # fmt: skip


@pytest.mark.parametrize("lang", GOOD)
def test_a_good_translation_has_no_flag_in_either_direction(lang: str) -> None:
    assert check(ENGLISH, GOOD[lang], "eng_Latn", lang) == []
    assert check(GOOD[lang], ENGLISH, lang, "eng_Latn") == []


@pytest.mark.parametrize("lang", GOOD)
def test_what_translators_do_wrong_is_flagged(lang: str) -> None:
    good = GOOD[lang]
    looped = good + (" " + good.split()[-1] if LANGUAGES[lang].spaces else good[-4:]) * 8
    assert REPEATS in check(ENGLISH, looped, "eng_Latn", lang)
    assert REPEATS in check(ENGLISH, f"{good} {good} {good} {good}", "eng_Latn", lang)
    assert COPIED in check(ENGLISH, ENGLISH.lower(), "eng_Latn", lang)
    assert LENGTH in check(ENGLISH, good[:5], "eng_Latn", lang)
    other = GOOD["srp_Cyrl" if LANGUAGES[lang].script == "Latn" else "ind_Latn"]
    assert check(ENGLISH, other, "eng_Latn", lang) == [WRONG_SCRIPT]


def test_the_names_are_reason_codes_in_the_order_of_the_checks() -> None:
    assert {*health.CHECKS, health.LANGUAGE} <= set(Reason)
    assert all(name.startswith("translation_") for name in (*health.CHECKS, health.LANGUAGE))
    english = "In 1987 the old king and the young queen of the small country were there."
    flags = check(english, english.replace("1987", "") + " the" * 60, "eng_Latn", "rus_Cyrl")
    assert flags == [REPEATS, COPIED, WRONG_SCRIPT, LENGTH, LOST_DIGITS]


@pytest.mark.parametrize(
    ("source", "translation", "fires"),
    [
        ("The na river.", "Mto wa na na na na na na na", True),
        ("He laughed.", "他笑了哈哈哈哈哈哈哈哈哈哈哈哈", True),
        ("She came home late.", "ከቤት ከቤት ከቤት ከቤት ከቤት", True),
        ("She came home late.", "aaaaaaaaaaaaaaaaaaaaaaaa", True),
        ("The children play.", "Anak-anak bermain.", False),
        ("Slowly, slowly.", "Pole pole, pole pole.", False),
        ("All of them.", "gbogbogbo", False),
        ('"No, no, no, no, no."', '"Hapana, hapana, hapana, hapana, hapana."', False),
        ('"No, no, no, no, no."', '"' + "Hapana, " * 11 + '"', True),
        ("Nooooooooooo!", "Ràráaaaaaaaaaaaaaaa!", False),
        ("It cost 1000000000000.", "Kostete 1000000000000.", False),
        ("- - - -", "- - - - - - - - - - - - - - - - -", False),
        ("", "", False),
    ],
)
def test_repetition(source: str, translation: str, fires: bool) -> None:
    assert health.repeats(source, translation) is fires


@pytest.mark.parametrize(
    ("source", "translation", "pair", "fires"),
    [
        (ENGLISH, ENGLISH, "eng_Latn fra_Latn", True),
        (ENGLISH, ENGLISH.upper() + "!", "eng_Latn tha_Thai", True),
        (ENGLISH, ENGLISH.replace("Tuesday", "Mardi"), "eng_Latn fra_Latn", True),
        (GOOD["arb_Arab"], GOOD["arb_Arab"], "arb_Arab eng_Latn", True),
        (GOOD["tha_Thai"], GOOD["tha_Thai"], "tha_Thai lao_Laoo", True),
        (ENGLISH, ENGLISH, "eng_Latn eng_Latn", False),  # nothing to translate
        (ENGLISH, ENGLISH, "eng_Latn pcm_Latn", False),
        (GOOD["zho_Hant"], GOOD["zho_Hant"], "zho_Hant zho_Hans", False),
        (GOOD["srp_Cyrl"], GOOD["srp_Cyrl"], "srp_Cyrl bos_Latn", False),
        ("Barack Obama, Angela Merkel, New York", "Barack Obama, Angela Merkel, New York", "eng_Latn deu_Latn", False),
        ("1,000 2,000 3,000 4,000 5,000", "1,000 2,000 3,000 4,000 5,000", "eng_Latn deu_Latn", False),
        ("Hotel in Berlin", "Hotel in Berlin", "eng_Latn deu_Latn", False),
        ("東京タワー", "東京タワー", "jpn_Jpan eng_Latn", False),
        ("", "", "eng_Latn deu_Latn", False),
    ],
)
def test_copied(source: str, translation: str, pair: str, fires: bool) -> None:
    assert health.copied(source, translation, *pair.split()) is fires


@pytest.mark.parametrize(
    ("source", "translation", "lang", "fires"),
    [
        (ENGLISH, GOOD["zho_Hans"], "zho_Hant", True),
        (ENGLISH, GOOD["zho_Hant"], "zho_Hans", True),
        (ENGLISH, GOOD["zho_Hans"] * 2, "jpn_Jpan", True),  # no kana
        (ENGLISH, GOOD["jpn_Jpan"], "zho_Hans", True),
        (ENGLISH, GOOD["arb_Arab"], "kas_Deva", True),
        (ENGLISH, "Ministar je rekao da će novi most biti otvoren.", "srp_Cyrl", True),
        ("Apple and Google bought WhatsApp and YouTube.", "Apple和Google买了WhatsApp和YouTube", "zho_Hans", False),
        ("iPhone sales by Apple fell in Boston.", "የApple አይፎን ሽያጭ በBoston ቀነሰ", "amh_Ethi", False),
        ("東京タワー", "東京鐵塔", "zho_Hant", False),
        ("OK", "OK", "hin_Deva", False),  # too short
        ("1,234,567,890,123", "1,234,567,890,123", "hin_Deva", False),
        ("", "", "hin_Deva", False),
    ],
)
def test_script(source: str, translation: str, lang: str, fires: bool) -> None:
    assert health.wrong_script(source, translation, lang) is fires


def test_every_script_of_the_table_is_known() -> None:
    for code in LANGUAGES:
        assert not health.wrong_script("", "", code)


@pytest.mark.parametrize(
    ("source", "translation", "fires"),
    [
        (ENGLISH, ENGLISH[:10], True),
        (ENGLISH[:10], ENGLISH * 2, True),
        (ENGLISH, "", True),
        ("No.", "Hapana kabisa.", False),
        ("", "", False),
    ],
)
def test_length(source: str, translation: str, fires: bool) -> None:
    assert health.odd_length(source, translation) is fires


@pytest.mark.parametrize(
    ("source", "translation", "pair", "lost"),
    [
        ("It weighs 1,000.5 kg", "Es wiegt 1.000,5 kg", "eng_Latn deu_Latn", []),
        ("It weighs 1,000.5 kg", "Il pèse 1\u202f000,5 kg", "eng_Latn fra_Latn", []),
        ("It weighs 1,000.5 kg", "Es wiegt 1.000,6 kg", "eng_Latn deu_Latn", ["10005"]),
        ("1,234,567 people", "12,34,567 लोग", "eng_Latn hin_Deva", []),
        ("In 1987 and 2003", "१९८७ और २००३ में", "eng_Latn hin_Deva", []),
        ("In 1987 and 2003", "در سال ۱۹۸۷ و ۲۰۰۳", "eng_Latn pes_Arab", []),
        ("In 1987 and 2003", "في ١٩٨٧ و", "eng_Latn arb_Arab", ["2003"]),
        ("in 1990", "በ፲፱፻፺ ዓ.ም.", "eng_Latn amh_Ethi", []),
        ("in 2018", "በ2010 ዓ.ም.", "eng_Latn amh_Ethi", []),  # the Ethiopian calendar
        ("in 2018", "ในปี พ.ศ. ๒๕๖๑", "eng_Latn tha_Thai", []),
        ("ในปี พ.ศ. 2561", "in 2018", "tha_Thai eng_Latn", []),
        ("in 2018", "ในปี 2562", "eng_Latn tha_Thai", ["2018"]),
        ("in 2018", "en 2561", "eng_Latn fra_Latn", ["2018"]),
        ("4.5 million", "450万", "eng_Latn zho_Hans", []),
        ("649 million people", "約6億4900万人", "eng_Latn jpn_Jpan", []),
        ("約6億4900万人", "649 million people", "jpn_Jpan eng_Latn", []),
        ("約6億4900万人", "639 million people", "jpn_Jpan eng_Latn", ["649000000"]),
        ("$15,000", "1 万 5 千ドル", "eng_Latn jpn_Jpan", []),
        ("in 2018, 35 people", "二〇一八年三十五人", "eng_Latn zho_Hans", []),
        ("4,500,000 people", "4,5 Millionen Menschen", "eng_Latn deu_Latn", []),
        ("He is 7, she 12.", "Er ist sieben, sie zwölf.", "eng_Latn deu_Latn", []),
        ("at 7.45 pm", "um 19.45 Uhr", "eng_Latn deu_Latn", []),
        ("at 7:45 pm", "um 19:45 Uhr", "eng_Latn deu_Latn", []),
        ("on 9/11/2001", "am 11. September 2001", "eng_Latn deu_Latn", []),
        ("6.11.1987", "November 6, 1987", "fin_Latn eng_Latn", []),
        ("from 1950-53", "von 1950 bis 1953", "eng_Latn deu_Latn", []),
        ("von 1950 bis 1953", "from 1950-53", "deu_Latn eng_Latn", []),
        ("in the 1980s", "in den achtziger Jahren", "eng_Latn deu_Latn", []),
        ("the 42nd street", "die zweiundvierzigste Straße", "eng_Latn deu_Latn", []),
        ("1800-luvulla", "in the 19th century", "fin_Latn eng_Latn", []),
        ("300 people", "dreihundert Menschen", "eng_Latn deu_Latn", []),
        ("45 people", "Menschen", "eng_Latn deu_Latn", ["45"]),
        ("45 people", "ènìyàn márùndínláàádọ́ta", "eng_Latn yor_Latn", []),
        ("in 1987", "ní ọdún", "eng_Latn yor_Latn", ["1987"]),
        ("45 people", "1345 Menschen", "eng_Latn deu_Latn", []),  # may be half a year: 1940-45
        ("ages 33,34 and 39", "aged 33, 34 and 39", "zul_Latn eng_Latn", []),
        ("", "5", "eng_Latn deu_Latn", []),
    ],
)
def test_lost_digits(source: str, translation: str, pair: str, lost: list[str]) -> None:
    assert lost_digits(source, translation, *pair.split()) == lost


CODES = st.sampled_from(sorted(LANGUAGES))
ANY_TEXT = st.one_of(st.text(), st.text("0123456789.,-/ ٣४五十百万億፻፲ab"), st.text("ab \ud800é"))


@given(ANY_TEXT, ANY_TEXT, CODES, CODES)
def test_any_text_gets_flags_in_order(source: str, translation: str, source_lang: str, lang: str) -> None:
    flags = check(source, translation, source_lang, lang)
    assert flags == [name for name in health.CHECKS if name in flags]


@given(ANY_TEXT, CODES)
def test_a_text_is_a_sound_translation_of_itself_but_for_its_script(text: str, lang: str) -> None:
    assert set(check(text, text, lang, lang)) <= {WRONG_SCRIPT}


@given(st.integers(32, 10**9), st.sampled_from("٠۰०๐０"))
def test_a_number_is_found_in_any_digits(number: int, zero: str) -> None:
    native = "".join(chr(ord(zero) + int(digit)) for digit in str(number))
    assert lost_digits(f"{number:,}", native, "eng_Latn", "deu_Latn") == []
    assert lost_digits(native, f"{number:,}", "eng_Latn", "deu_Latn") == []


@pytest.mark.parametrize(
    "text", ["1" * 20_000, "1." * 10_000, "一" * 20_000, "1万" * 10_000, "ab" * 10_000, "a" * 20_000, "1 " * 10_000]
)
def test_long_texts_take_no_more_than_linear_time(text: str) -> None:
    started = time.perf_counter()
    check(text, text + "x", "eng_Latn", "zho_Hans")
    assert time.perf_counter() - started < 5


@pytest.fixture(scope="module")
def ntrex(shared_data: Path) -> dict[str, list[str]]:
    return health_table.ntrex(shared_data)


NTREX = [
    *("amh_Ethi", "arb_Arab", "fin_Latn", "hin_Deva", "jpn_Jpan"),
    *("swh_Latn", "tha_Thai", "yor_Latn", "zho_Hans", "zul_Latn"),
]


@pytest.mark.slow
@pytest.mark.parametrize("lang", NTREX)
def test_at_most_one_per_cent_of_good_pairs_is_flagged(ntrex: dict[str, list[str]], lang: str) -> None:
    for pair in (("eng_Latn", lang), (lang, "eng_Latn")):
        alarms = health_table.false_alarms(ntrex[pair[0]], ntrex[pair[1]], *pair)
        assert max(alarms.values()) <= 1.0, (pair, alarms)


@pytest.mark.parametrize("lang", NTREX)
def test_spoilt_translations_are_found(ntrex: dict[str, list[str]], lang: str) -> None:
    sources, translations = ntrex["eng_Latn"][::20], ntrex[lang][::20]
    other = ntrex["hin_Deva" if LANGUAGES[lang].script == "Latn" else "swh_Latn"][::20]
    columns = health_table.spoils(lang, dict(zip(sources, other, strict=True)), seed=0)
    floors = {"looped word": 90, "looped clause": 90, "doubled": 80, "source copied": 90, "other script": 95}
    if lang != "yor_Latn":
        floors["number > 31 deleted"] = 70
    for column, floor in floors.items():
        spoil, name = columns[column]
        one, _ = health_table.found(sources, translations, lang, spoil, name, bool)
        assert one >= floor, column


HAS_LID = importlib.util.find_spec("py3langid") is not None


@pytest.mark.skipif(HAS_LID, reason="py3langid is installed")
def test_the_identifier_asks_for_its_extra() -> None:
    with pytest.raises(MissingExtraError, match="pip install 'py3langid"):
        health.LanguageIdentifier()


@pytest.mark.skipif(not HAS_LID, reason="needs py3langid")
def test_the_identifier_speaks_of_languages_that_it_knows() -> None:
    identifier = health.LanguageIdentifier()
    for lang, text in GOOD.items():
        assert identifier.knows(lang)
        assert not identifier.wrong(text, lang), lang
        assert identifier.wrong(ENGLISH, lang), lang
    assert identifier.knows("nob_Latn") and not identifier.knows("ckb_Arab")
    assert not identifier.knows("twi_Latn") and not identifier.wrong(ENGLISH, "twi_Latn")
    assert not any(identifier.wrong(text, "deu_Latn") for text in ("", "...", "1,234,567,890", "OK"))
