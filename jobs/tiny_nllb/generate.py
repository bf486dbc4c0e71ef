"""Labelled template sentences in English, Swahili and Spanish: data of the tiny NLLB-shaped model.

Method: a template is one pattern per language over the same slots; a slot is filled with a name that carries
its form and grammar in all three languages, so text, tokens and IOB2 tags of the three sides come from one
draw and their entities correspond by slot. Territory names are CLDR's (through babel), persons and companies
are Faker's, cities and public bodies are lists below. About one word in ten (by CRC-32) is kept out of all
training names: held-out sentences take persons, companies and cities from that part only. Countries and
public bodies are translated words, which nobody can guess, so both parts draw them from the same lists.

The templates ask for what a projector finds hard: entities whose order differs between the languages, the
same name twice, a city inside an organisation and again beside it, entities of the same and of different type
side by side, and words that one side only has ("del", "nchini", "kampuni ya"). Held-out names consist of
letters only, so that every word segmenter cuts them alike.

    python generate.py jobs/data        # writes templates.{en,sw,es}.conll (240 sentences, seed 20)
"""

from __future__ import annotations

import argparse
import random
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

LANGUAGES = ("en", "sw", "es")
CODES = {"en": "eng_Latn", "sw": "swh_Latn", "es": "spa_Latn"}
HELD_OUT_SEED = 20


@dataclass(frozen=True)
class Name:
    """One name in three languages, with the grammar its templates need."""

    label: str
    kind: str  # person | country | city | company | body
    en: str
    sw: str
    es: str
    the: str = ""  # English article outside the entity
    el: str = ""  # Spanish article outside the entity
    concord: str = "i"  # Swahili subject prefix: a person, i/u/li/ki noun classes


@dataclass(frozen=True)
class Side:
    """A sentence in one language; tags are IOB2, one a token."""

    text: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """The three sides of one draw and the names in it."""

    template: int
    sides: dict[str, Side]
    names: tuple[Name, ...]


@dataclass(frozen=True)
class Pools:
    """Names to draw from: first and last names, companies, cities, countries, fixed bodies."""

    first: list[str]
    last: list[str]
    company: list[str]
    city: list[Name]
    country: list[Name]
    body: list[Name] = field(default_factory=list)


# Slots: P person, L country or city, C country, T city, O any organisation, K company, U institution of the
# city T and W institution of the country C of the same index; N number, D day, M month, Y year.
# Modifiers: {the X} English article; {el X}, {de X}, {a X}, {y X} Spanish article, contraction, conjunction;
# {org X} "kampuni ya" before a company, {in X} nchini/mjini/katika, {s X} subject prefix, {enye X} "having".
TEMPLATES: tuple[tuple[str, str, str], ...] = (
    (
        "{P1} travelled to {the L1} on {D1}.",
        "{P1} alisafiri kwenda {L1} siku ya {D1}.",
        "{P1} viajó {a L1} el {D1}.",
    ),
    (
        "On {D1}, {the O1} opened an office in {the L1}.",
        "{org O1} {s O1}lifungua ofisi {in L1} siku ya {D1}.",
        "El {D1}, {el O1} abrió una oficina en {el L1}.",
    ),
    (
        "{the C1}'s president met {P1} in {T1}.",
        "Rais wa {C1} alikutana na {P1} mjini {T1}.",
        "El presidente {de C1} se reunió con {P1} en {T1}.",
    ),
    (
        "{P1} was appointed by {P2} to lead {the O1}.",
        "{P2} alimteua {P1} kuongoza {org O1}.",
        "{P2} nombró a {P1} para dirigir {el O1}.",
    ),
    (
        "{the O1}, which has its headquarters in {the L1}, hired {P1} in {Y1}.",
        "{org O1}, {enye O1} makao makuu {in L1}, {s O1}limwajiri {P1} mwaka {Y1}.",
        "{el O1}, con sede en {el L1}, contrató a {P1} en {Y1}.",
    ),
    (
        "{P1} and {P2} were born in {the L1}.",
        "{P1} na {P2} walizaliwa {in L1}.",
        "{P1} {y P2} nacieron en {el L1}.",
    ),
    (
        "In {T1} {P1} met {the O1} officials.",
        "Mjini {T1} {P1} alikutana na maafisa wa {org O1}.",
        "En {T1} {P1} se reunió con funcionarios {de O1}.",
    ),
    (
        "{P1} gave {P2} {P3}'s letter.",
        "{P1} alimpa {P2} barua ya {P3}.",
        "{P1} le dio a {P2} la carta de {P3}.",
    ),
    (
        "In {the C1} {T1} is a famous city.",
        "{in C1} {T1} ni mji maarufu.",
        "En {el C1} {T1} es una ciudad famosa.",
    ),
    (
        "{T1} is the largest city in {the C1}, and {P1} lives in {T1}.",
        "{T1} ni mji mkubwa zaidi {in C1}, na {P1} anaishi mjini {T1}.",
        "{T1} es la ciudad más grande {de C1}, y {P1} vive en {T1}.",
    ),
    (
        "{P1} stopped working at {the O1} in {Y1}, but {P1} returned to {the O1} in {Y2}.",
        "{P1} aliacha kufanya kazi katika {org O1} mwaka {Y1}, lakini {P1} alirudi katika {org O1} mwaka {Y2}.",
        "{P1} dejó de trabajar en {el O1} en {Y1}, pero {P1} volvió {a O1} en {Y2}.",
    ),
    (
        "{P1} said that {the O1} would help farmers in {the L1}.",
        "{P1} alisema kwamba {org O1} {s O1}tawasaidia wakulima {in L1}.",
        "{P1} dijo que {el O1} ayudaría a los agricultores {de L1}.",
    ),
    (
        "When {P1} arrived in {the L1}, {P2} was working for {the O1}.",
        "{P1} alipofika {in L1}, {P2} alikuwa akifanya kazi katika {org O1}.",
        "Cuando {P1} llegó {a L1}, {P2} trabajaba para {el O1}.",
    ),
    (
        "{the O1} will build {N1} schools in {the L1} and {the L2}.",
        "{org O1} {s O1}tajenga shule {N1} {in L1} na {in L2}.",
        "{el O1} construirá {N1} escuelas en {el L1} y en {el L2}.",
    ),
    (
        '"We will return to {the L1}," said {P1}.',
        '"Tutarudi {L1}," alisema {P1}.',
        "«Volveremos {a L1}», dijo {P1}.",
    ),
    (
        "{P1}, a representative of {the O1}, lives in {T1}.",
        "{P1}, mwakilishi wa {org O1}, anaishi mjini {T1}.",
        "{P1}, representante {de O1}, vive en {T1}.",
    ),
    (
        "{the C1}'s representative {P1} visited {T1}.",
        "Mwakilishi wa {C1} {P1} alitembelea mji wa {T1}.",
        "{P1}, representante {de C1}, visitó {T1}.",
    ),
    (
        "{T1} was visited by {P1} in {Y1}.",
        "Mwaka {Y1} {P1} alitembelea mji wa {T1}.",
        "{P1} visitó {T1} en {Y1}.",
    ),
    (
        "In {the L1}, {the O1} employs {N1} people.",
        "{org O1} {s O1}meajiri watu {N1} {in L1}.",
        "{el O1} emplea a {N1} personas en {el L1}.",
    ),
    (
        "{K1} bought {K2} for {N1} million dollars.",
        "{org K1} {s K1}linunua {org K2} kwa dola milioni {N1}.",
        "{K1} compró {K2} por {N1} millones de dólares.",
    ),
    (
        "{P1} of {the O1} and {P2} of {the O2} will meet in {the L1} in {M1}.",
        "{P1} wa {org O1} na {P2} wa {org O2} watakutana {in L1} mwezi wa {M1}.",
        "{P1}, {de O1}, y {P2}, {de O2}, se reunirán en {el L1} en {M1}.",
    ),
    (
        "{P1} flew from {T1} to {T2} with {P2}.",
        "{P1} alisafiri kwa ndege kutoka {T1} hadi {T2} pamoja na {P2}.",
        "{P1} voló de {T1} a {T2} con {P2}.",
    ),
    (
        "Does {P1} work for {the O1} in {the L1}?",
        "Je, {P1} anafanya kazi katika {org O1} {in L1}?",
        "¿Trabaja {P1} para {el O1} en {el L1}?",
    ),
    (
        "Although {the C1} and {the C2} signed the agreement, {P1} rejected it.",
        "Ingawa {C1} na {C2} zilitia saini makubaliano hayo, {P1} aliyakataa.",
        "Aunque {el C1} {y C2} firmaron el acuerdo, {P1} lo rechazó.",
    ),
    (
        "{P1}'s colleague {P2} studied at {the U1} in {Y1}.",
        "{P2}, mfanyakazi mwenza wa {P1}, alisoma katika {U1} mwaka {Y1}.",
        "{P2}, colega de {P1}, estudió en {el U1} en {Y1}.",
    ),
    (
        "{the U1} is in {T1}, and {the W1} is in {the C1}.",
        "{U1} {s U1}ko mjini {T1}, na {W1} {s W1}ko {in C1}.",
        "{el U1} está en {T1}, y {el W1} está en {el C1}.",
    ),
    (
        "{the O1} thanked {P1} and {P2} for their work in {the L1}.",
        "{org O1} {s O1}liwashukuru {P1} na {P2} kwa kazi yao {in L1}.",
        "{el O1} agradeció a {P1} y a {P2} su trabajo en {el L1}.",
    ),
    (
        "{the C1}, {the C2} and {the C3} will send {N1} doctors to {the L1}.",
        "{C1}, {C2} na {C3} zitatuma madaktari {N1} {in L1}.",
        "{el C1}, {el C2} {y C3} enviarán {N1} médicos {a L1}.",
    ),
    (
        "More than {N1} people attended the conference on {D1}.",
        "Zaidi ya watu {N1} walihudhuria mkutano huo siku ya {D1}.",
        "Más de {N1} personas asistieron a la conferencia el {D1}.",
    ),
    (
        "The price of maize rose by {N1} percent in {M1}.",
        "Bei ya mahindi ilipanda kwa asilimia {N1} mwezi wa {M1}.",
        "El precio del maíz subió un {N1} por ciento en {M1}.",
    ),
    (
        "The children read {N1} books in {M1}, but they did not watch television.",
        "Watoto walisoma vitabu {N1} mwezi wa {M1}, lakini hawakutazama televisheni.",
        "Los niños leyeron {N1} libros en {M1}, pero no vieron la televisión.",
    ),
    (
        "Heavy rain is expected on {D1}, and {N1} roads are closed.",
        "Mvua kubwa inatarajiwa siku ya {D1}, na barabara {N1} zimefungwa.",
        "Se esperan fuertes lluvias el {D1}, y {N1} carreteras están cerradas.",
    ),
)

# English, Swahili, Spanish, English article, Spanish article, Swahili subject prefix.
BODIES = """
African Union|Umoja wa Afrika|Unión Africana|the|la|u
European Union|Umoja wa Ulaya|Unión Europea|the|la|u
United Nations|Umoja wa Mataifa|ONU|the|la|u
World Bank|Benki ya Dunia|Banco Mundial|the|el|i
World Health Organization|Shirika la Afya Duniani|Organización Mundial de la Salud|the|la|li
World Trade Organization|Shirika la Biashara Duniani|Organización Mundial del Comercio|the|la|li
International Monetary Fund|Shirika la Fedha Duniani|Fondo Monetario Internacional|the|el|li
World Food Programme|Mpango wa Chakula Duniani|Programa Mundial de Alimentos|the|el|u
African Development Bank|Benki ya Maendeleo ya Afrika|Banco Africano de Desarrollo|the|el|i
East African Community|Jumuiya ya Afrika Mashariki|Comunidad de África Oriental|the|la|i
Arab League|Jumuiya ya Nchi za Kiarabu|Liga Árabe|the|la|i
Red Cross|Msalaba Mwekundu|Cruz Roja|the|la|u
Ministry of Health|Wizara ya Afya|Ministerio de Salud|the|el|i
Ministry of Education|Wizara ya Elimu|Ministerio de Educación|the|el|i
Ministry of Agriculture|Wizara ya Kilimo|Ministerio de Agricultura|the|el|i
Ministry of Finance|Wizara ya Fedha|Ministerio de Finanzas|the|el|i
Ministry of Defence|Wizara ya Ulinzi|Ministerio de Defensa|the|el|i
UNICEF|UNICEF|UNICEF|||i
NATO|NATO|OTAN||la|i
FIFA|FIFA|FIFA||la|i
"""
# {} is the city or country in the language of the column.
CITY_BODIES = """
University of {}|Chuo Kikuu cha {}|Universidad de {}|the|la|ki
Bank of {}|Benki ya {}|Banco de {}|the|el|i
{} Hospital|Hospitali ya {}|Hospital de {}||el|i
{} City Council|Baraza la Jiji la {}|Ayuntamiento de {}||el|li
"""
COUNTRY_BODIES = """
Central Bank of {}|Benki Kuu ya {}|Banco Central de {}|the|el|i
Parliament of {}|Bunge la {}|Parlamento de {}|the|el|li
"""
# Cities with a form of their own (English/Swahili/Spanish); always in training, since nobody can guess them.
TRANSLATED_CITIES = """
London/London/Londres Paris/Paris/París Cairo/Kairo/El_Cairo Geneva/Geneva/Ginebra
New_York/New_York/Nueva_York Cape_Town/Cape_Town/Ciudad_del_Cabo Brussels/Brussels/Bruselas Rome/Roma/Roma
Beijing/Beijing/Pekín Moscow/Moscow/Moscú Berlin/Berlin/Berlín Addis_Ababa/Addis_Ababa/Adís_Abeba
Mecca/Makka/La_Meca Jerusalem/Yerusalemu/Jerusalén Johannesburg/Johannesburg/Johannesburgo
Algiers/Algiers/Argel Tunis/Tunis/Túnez Khartoum/Khartoum/Jartum Vienna/Vienna/Viena Lisbon/Lisbon/Lisboa
Athens/Athens/Atenas Milan/Milan/Milán Stockholm/Stockholm/Estocolmo Warsaw/Warsaw/Varsovia
Prague/Prague/Praga Havana/Havana/La_Habana Alexandria/Alexandria/Alejandría Damascus/Damascus/Damasco
Tokyo/Tokyo/Tokio Seville/Seville/Sevilla
"""
CITIES = """
Nairobi Mombasa Kisumu Nakuru Eldoret Thika Malindi Lamu Garissa Kitale Nyeri Machakos Kakamega Kericho
Naivasha Dodoma Arusha Mwanza Tanga Mbeya Morogoro Moshi Tabora Kigoma Iringa Songea Bukoba Lindi Mtwara
Singida Shinyanga Dar_es_Salaam Kampala Entebbe Jinja Gulu Mbarara Masaka Mbale Kigali Butare Gitega
Bujumbura Goma Bukavu Kisangani Lubumbashi Matadi Lusaka Ndola Kitwe Livingstone Harare Bulawayo Mutare
Gweru Maputo Beira Nampula Lilongwe Blantyre Zomba Gaborone Francistown Maun Windhoek Swakopmund Luanda
Lobito Huambo Maseru Mbabane Durban Pretoria Bloemfontein Polokwane Soweto Lagos Abuja Ibadan Kano Kaduna
Enugu Benin_City Port_Harcourt Jos Owerri Abeokuta Sokoto Maiduguri Calabar Accra Kumasi Tamale Takoradi
Sunyani Lome Cotonou Abidjan Bouake Yamoussoukro Dakar Touba Banjul Bamako Segou Mopti Ouagadougou Niamey
Zinder Conakry Freetown Monrovia Libreville Douala Bamenda Garoua Bangui Malabo Juba Bor Wau Asmara Massawa
Mekelle Gondar Hawassa Adama Jimma Mogadishu Kismayo Hargeisa Bosaso Rabat Casablanca Agadir Fez Oran Annaba
Sfax Sousse Tripoli Benghazi Giza Luxor Aswan Omdurman Madrid Barcelona Bilbao Malaga Toledo Salamanca
Burgos Murcia Alicante Vigo Gijon Lima Cusco Arequipa Trujillo Quito Guayaquil Cuenca Bogota Medellin Cali
Cartagena Caracas Maracaibo Santiago Valparaiso Temuco Buenos_Aires Rosario Mendoza Salta Montevideo
Asuncion La_Paz Sucre Cochabamba Potosi Managua Tegucigalpa San_Salvador Guadalajara Monterrey Puebla
Tijuana Oaxaca Veracruz Merida Chicago Boston Denver Seattle Houston Dallas Atlanta Portland Miami Toronto
Ottawa Calgary Winnipeg Halifax Sydney Melbourne Brisbane Perth Hobart Auckland Wellington Dunedin
Manchester Liverpool Leeds Bristol Oxford Cambridge Cardiff Dublin Galway Cork Lyon Nantes Lille Bordeaux
Munich Hamburg Bremen Dresden Stuttgart Leipzig Zurich Bern Basel Oslo Bergen Helsinki Tampere Riga Tallinn
Vilnius Kaunas Delhi Mumbai Chennai Kolkata Pune Jaipur Karachi Lahore Dhaka Colombo Kathmandu Hanoi Manila
Cebu Jakarta Bandung Osaka Kyoto Nagoya Seoul Busan Ankara Izmir Bursa
"""
COMPANY_WORDS = """
Holdings Motors Industries Foods Energy Telecom Airlines Media Logistics Group Enterprises Farms Textiles
Ltd Cement
"""
PERSON_LOCALES = """
en_KE en_NG en_US en_GB es_ES es_MX sw yo_NG ha_NG ig_NG zu_ZA tw_GH fr_FR pt_BR de_DE it_IT en_IN
"""
COMPANY_LOCALES = "en_US en_GB en_KE en_NG sw yo_NG zu_ZA tw_GH es_MX it_IT"
ENGLISH_ARTICLE = "AE BS CF DO GB GM KM MV NL PH PS US"  # and every "... Islands"
SPANISH_ARTICLE = {"el": "GB LB", "la": "CF DO IN VA", "los": "AE NL PS", "las": "BS KM MV SC"}
# Regions, dependent territories ("nchini" means "in the country of") and names with a bracket or a dash.
NO_TERRITORY = """
AC AI AQ AS AW AX BL BM BQ BV CC CD CG CK CP CW CX DG EA EH EU EZ FK FO GF GG GI GL GP GS GU HK HM IC IM IO JE KY
MF MM MO MP MQ MS NC NF NU PF PM PN PR QO RE SH SJ SX TA TC TF TK UM UN VG VI WF XA XB YT ZZ
"""
DAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "sw": "Jumatatu Jumanne Jumatano Alhamisi Ijumaa Jumamosi Jumapili",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "sw": "Januari Februari Machi Aprili Mei Juni Julai Agosti Septemba Oktoba Novemba Desemba",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
HAVING = {"i": "yenye", "u": "wenye", "li": "lenye", "ki": "chenye"}
# Letters that training mixes into copied names, so that all of them are known and copied.
RARE_LETTERS = "".join(
    c
    for c in map(chr, [*range(0xC0, 0x180), *map(ord, "ƁɓƊɗƘƙƳƴŊŋƐɛƆɔƏəẸẹỌọṢṣỊịỤụṄṅȘșȚțǍǎǦǧ")])
    if c.isalpha() and unicodedata.normalize("NFKC", c) == c
)

SLOT = re.compile(r"\{(?:(\w+) )?([A-Z])(\d)\}")
TOKEN = re.compile(r"['’]s\b|\w+(?:[-'’](?!s\b)\w+)*|[^\w\s]")


def tokenise(text: str) -> list[str]:
    """Cut a generated text into words and punctuation, "'s" apart: "Ana's dog." -> Ana 's dog ."""
    return TOKEN.findall(text)


def detokenise(tokens: list[str] | tuple[str, ...]) -> str:
    """Inverse of `tokenise` for every sentence this file makes."""
    text, quote_open, glue = "", False, True
    for token in tokens:
        closing = token in {*".,?!;:»)", "'s", "’s"} or (token == '"' and quote_open)
        text += token if glue or closing else " " + token
        glue = token in set("¿¡«(") or (token == '"' and not quote_open)
        quote_open ^= token == '"'
    return text


def held_out_word(word: str) -> bool:
    """Whether names with this word are kept out of training."""
    return zlib.crc32(word.lower().encode()) % 10 == 0


def _rows(table: str) -> Iterator[list[str]]:
    return (line.split("|") for line in table.strip().splitlines())


def _countries() -> list[Name]:
    from babel import Locale

    names = {lang: Locale(lang).territories for lang in LANGUAGES}
    article = {code: el for el, codes in SPANISH_ARTICLE.items() for code in codes.split()}
    countries = []
    for code in sorted(names["en"]):
        if not code.isalpha() or code in NO_TERRITORY.split() or any(code not in names[x] for x in LANGUAGES):
            continue
        en, sw, es = (names[x][code] for x in LANGUAGES)
        if any(set(".()") & set(x) for x in (en, sw, es)):
            continue
        the = "the" if "Islands" in en or code in ENGLISH_ARTICLE.split() else ""
        el = "las" if es.startswith("Islas ") else article.get(code, "")
        countries.append(Name("LOC", "country", en, sw, es, the, el))
    return countries


def _clean(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _letters(name: str) -> bool:
    return all(word.isalpha() for word in name.split())


def _splice(names: list[str], count: int, taken: set[str]) -> list[str]:
    """New names from the head of one and the tail of another, cut after a vowel: Nairo|bi + Lubu|mbashi."""
    rng = random.Random(5)
    cut = re.compile(r"(?<=[aeiouáéíóú])(?=[a-z])", re.IGNORECASE)
    new: set[str] = set()
    while len(new) < count:
        head, tail = (rng.choice(names) for _ in range(2))
        heads, tails = ([m.start() for m in cut.finditer(word)] for word in (head, tail))
        if heads and tails:
            name = head[: rng.choice(heads)] + tail[rng.choice(tails) :]
            if 3 < len(name) < 15 and name not in taken and not held_out_word(name):
                new.add(name)
    return sorted(new)


@lru_cache(maxsize=1)
def load_pools() -> tuple[Pools, Pools]:
    """(training pools, held-out pools); always the same for the same versions of babel and Faker."""
    from faker import Faker

    first: set[str] = set()
    last: set[str] = set()
    for locale in PERSON_LOCALES.split():
        fake = Faker(locale)
        fake.seed_instance(1)
        first |= {_clean(fake.first_name()) for _ in range(800)}
        last |= {_clean(fake.last_name()) for _ in range(800)}
    companies: set[str] = set()
    for locale in COMPANY_LOCALES.split():
        fake = Faker(locale)
        fake.seed_instance(2)
        companies |= {_clean(fake.company()) for _ in range(500)}
    companies = {name for name in companies if not set(",.&()") & set(name) and len(name.split()) < 5}
    rng = random.Random(3)
    companies |= {f"{name} {rng.choice(COMPANY_WORDS.split())}" for name in sorted(last) if _letters(name)}
    count = Counter(word for name in companies for word in name.split())
    common = {word for word, n in count.items() if n > 60}

    def part(names: set[str], held: bool) -> list[str]:
        """Names whose own words are all kept out (held) or all allowed in training."""
        own = {name: [w for w in name.split() if w not in common] for name in names}
        chosen = (n for n, words in own.items() if words and all(held_out_word(w) == held for w in words))
        return sorted(n for n in chosen if _letters(n) or not held)

    countries = _countries()
    cities = [Name("LOC", "city", *form.replace("_", " ").split("/")) for form in TRANSLATED_CITIES.split()]
    plain = {name.replace("_", " ") for name in CITIES.split()}
    fake = Faker("en_US")
    fake.seed_instance(4)
    invented = part({fake.city() for _ in range(1500)} - plain, held=False)
    invented += _splice(part(plain, held=False), 3000, {*plain, *(c.en for c in countries)})
    train_cities = cities * 3 + [Name("LOC", "city", c, c, c) for c in [*part(plain, held=False) * 3, *invented]]
    test_cities = [Name("LOC", "city", c, c, c) for c in part(plain, held=True)]
    bodies = [Name("ORG", "body", *row) for row in _rows(BODIES)]
    plain_countries = [c for c in countries if all(map(_letters, (c.en, c.sw, c.es)))]
    train, test = ((part(first, held), part(last, held), part(companies, held)) for held in (False, True))
    more_first, more_last = (_splice(pool, 3000, first | last) for pool in train[:2])
    train[0].extend(more_first)
    train[1].extend(more_last)
    return Pools(*train, train_cities, countries, bodies), Pools(*test, test_cities, plain_countries, bodies)


class Generator:
    """Endless labelled sentences; the same seed gives the same sentences."""

    def __init__(self, seed: int, held_out: bool = False) -> None:
        self.rng = random.Random(seed)
        self.pools = load_pools()[held_out]
        self.held_out = held_out

    def sentence(self, template: int) -> Sentence:
        patterns = TEMPLATES[template]
        slots = {kind + index: None for _, kind, index in SLOT.findall(patterns[0])}
        filled: dict[str, Name | dict[str, str]] = {}
        for slot in sorted(slots):  # C before W, T before U
            while True:
                filled[slot] = self._fill(slot, filled)
                if list(filled.values()).count(filled[slot]) == 1:
                    break
        pairs = zip(LANGUAGES, patterns, strict=True)
        sides = {lang: render(pattern, lang, filled) for lang, pattern in pairs}
        return Sentence(template, sides, tuple(x for x in filled.values() if isinstance(x, Name)))

    def _fill(self, slot: str, filled: dict[str, Name | dict[str, str]]) -> Name | dict[str, str]:
        rng, kind = self.rng, slot[0]
        if kind == "L":
            kind = rng.choice("CT")
        elif kind == "O":
            kind = rng.choices("KBUW", (5, 3, 2, 1))[0]
        if kind == "P":
            name = self._spell(f"{rng.choice(self.pools.first)} {rng.choice(self.pools.last)}")
            return Name("PER", "person", name, name, name, concord="a")
        if kind == "K":
            name = self._spell(rng.choice(self.pools.company))
            return Name("ORG", "company", name, name, name)
        if kind in "CTB":
            return rng.choice({"C": self.pools.country, "T": self.pools.city, "B": self.pools.body}[kind])
        if kind in "UW":
            base = "T" if kind == "U" else "C"
            place = filled.get(base + slot[1]) if slot[0] == kind else None
            if not isinstance(place, Name):
                place = self._fill(base + slot[1], {})
            assert isinstance(place, Name)
            return self._institution(kind, place)
        if kind == "N":
            number = str(rng.randint(2, 99) if rng.random() < 0.6 else rng.randint(100, 999))
            return dict.fromkeys(LANGUAGES, number)
        if kind == "Y":
            return dict.fromkeys(LANGUAGES, str(rng.randint(1950, 2029)))
        table = DAYS if kind == "D" else MONTHS
        index = rng.randrange(len(table["en"].split()))
        return {lang: table[lang].split()[index] for lang in LANGUAGES}

    def _institution(self, kind: str, place: Name) -> Name:
        """An organisation named after a place: "Bank of Lima", "Parlamento de los Países Bajos"."""
        table = CITY_BODIES if kind == "U" else COUNTRY_BODIES
        en, sw, es, the, el, concord = self.rng.choice(list(_rows(table)))
        spanish = es.replace("de {}", _spanish("de", place.el) + place.es)
        english = en.format(f"{place.the} {place.en}".strip())
        return Name("ORG", "body", english, sw.format(place.sw), spanish, the, el, concord)

    def _spell(self, name: str) -> str:
        """In training, one name in thirty gets a rare letter, a hyphen or an apostrophe."""
        if self.held_out or self.rng.random() > 0.03:
            return name
        at = self.rng.randrange(1, len(name) - 1)
        if name[at] == " ":
            return name.replace(" ", "-", 1)
        letter = self.rng.choice(RARE_LETTERS + "-'")
        inside = (name[at - 1] + name[at + 1]).isalpha() and name[at + 1] != "s"
        return name[:at] + letter + name[at + 1 :] if letter.isalpha() or inside else name


def _spanish(word: str, article: str) -> str:
    """A preposition and an article, contracted: ("de", "el") -> "del "."""
    joined = f"{word} {article} ".replace("  ", " ").lstrip()
    return {"de el ": "del ", "a el ": "al "}.get(joined, joined)


def _before(lang: str, modifier: str, name: Name) -> str:
    """The text that a modifier puts before its name."""
    form = getattr(name, lang)
    if modifier == "the":
        return f"{name.the} " if name.the else ""
    if modifier == "org":
        return "kampuni ya " if name.kind == "company" else ""
    if modifier == "in":
        if name.kind == "city":
            return "mjini "
        plain = form.split()[0] not in {"Visiwa", "Kisiwa", "Jamhuri", "Falme", "Ufalme", "Maeneo", "Mji"}
        return "nchini " if plain else "katika "
    if modifier == "y":
        sound = unicodedata.normalize("NFD", form.lower())
        vowel = re.match(r"h?i(?![aeo])|i", sound) and not re.match(r"hi[aeo]", sound)
        return _spanish("e" if vowel and not name.el else "y", name.el)
    return _spanish("" if modifier == "el" else modifier, name.el)


def render(pattern: str, lang: str, filled: dict[str, Name | dict[str, str]]) -> Side:
    """Fill one pattern, raise the first letter, cut literals and names into words apart."""
    pieces: list[tuple[str, str | None]] = [("", None)]

    def add(text: str, label: str | None = None) -> None:
        if label is None and pieces[-1][1] is None:
            pieces[-1] = (pieces[-1][0] + text, None)
        else:
            pieces.append((text, label))

    at = 0
    for match in SLOT.finditer(pattern):
        add(pattern[at : match.start()])
        at = match.end()
        modifier, kind, index = match.groups()
        value = filled[kind + index]
        if isinstance(value, dict):
            add(value[lang])
        elif modifier == "s":
            add(value.concord)
        elif modifier == "enye":
            add(HAVING[value.concord])
        else:
            add(_before(lang, modifier, value) if modifier else "")
            add(getattr(value, lang), value.label)
    add(pattern[at:])
    opening = pieces[0][0]
    raised = re.sub(r"\w", lambda m: m.group().upper(), opening, count=1)
    pieces[0] = (raised, None)
    tokens: list[str] = []
    tags: list[str] = []
    for text, label in pieces:
        words = tokenise(text)
        tokens += words
        tags += ["O" if label is None else ("I-" if i else "B-") + label for i in range(len(words))]
    return Side("".join(text for text, _ in pieces), tuple(tokens), tuple(tags))


def sentences(count: int, seed: int, held_out: bool = False) -> list[Sentence]:
    """`count` sentences with different English texts, templates in turn, shuffled."""
    generator = Generator(seed, held_out)
    seen: dict[str, Sentence] = {}
    turn = 0
    while len(seen) < count:
        sentence = generator.sentence(turn % len(TEMPLATES))
        turn += 1
        seen.setdefault(sentence.sides["en"].text, sentence)
    drawn = list(seen.values())
    generator.rng.shuffle(drawn)
    return drawn


def entities(sentence: Sentence, lang: str) -> list[tuple[int, int]]:
    """Code points of the entities in one language, in the order of the English sentence.

    The k-th occurrence of a slot is the same entity in every language.
    """
    side = sentence.sides[lang]
    places: list[tuple[int, int]] = []
    at = 0
    for token, tag in zip(side.tokens, side.tags, strict=True):
        start = side.text.index(token, at)
        at = start + len(token)
        if tag[0] == "B":
            places.append((start, at))
        elif tag[0] == "I":
            places[-1] = (places[-1][0], at)
    of_slot = dict(zip(_entity_slots(sentence.template, lang), places, strict=True))
    return [of_slot[slot] for slot in _entity_slots(sentence.template, "en")]


def _entity_slots(template: int, lang: str) -> list[tuple[str, int]]:
    """The slots of entities in the order of one language, each with its number among equal ones."""
    pattern = TEMPLATES[template][LANGUAGES.index(lang)]
    slots = [kind + index for modifier, kind, index in SLOT.findall(pattern) if _is_entity(modifier, kind)]
    return [(slot, slots[:number].count(slot)) for number, slot in enumerate(slots)]


def _is_entity(modifier: str, kind: str) -> bool:
    """Whether a slot holds a name: not a number or a date, nor what stands in the place of a name."""
    return kind not in "NDMY" and modifier not in ("s", "enye")


def write_conll(path: Path, drawn: list[Sentence], lang: str) -> None:
    """Token, tab, tag; `# id` before and a blank line after each sentence; line ends are \\n everywhere."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for number, sentence in enumerate(drawn, 1):
            side = sentence.sides[lang]
            rows = "".join(f"{token}\t{tag}\n" for token, tag in zip(side.tokens, side.tags, strict=True))
            out.write(f"# id = tmpl-{number:04}\n{rows}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the held-out template sentences as CoNLL.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    options = parser.parse_args()
    drawn = sentences(options.count, options.seed, held_out=True)
    for lang in LANGUAGES:
        write_conll(options.folder / f"templates.{lang}.conll", drawn, lang)


if __name__ == "__main__":
    main()
