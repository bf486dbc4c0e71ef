"""The dashboard asks for what the workers and the driver count, by labels that they have."""

import json
import re
from pathlib import Path

import grafana_page

ENGINE = Path(__file__).parents[2] / "xner_ray/engine/ray_data.py"


def test_the_file_is_what_its_panels_say() -> None:
    assert grafana_page.PATH.read_text(encoding="utf-8") == grafana_page.dashboard()


def test_every_query_asks_for_a_metric_and_labels_that_there_are() -> None:
    code = ENGINE.read_text(encoding="utf-8")
    counters = dict(re.findall(r'\("(\w+)", "(\w+)", "[^"]+"\)', code))  # of Metrics: key, name
    known = {f"ray_xner_ray_{name}_total" for name in counters.values()}
    known |= {f"ray_{name}" for name in re.findall(r'(?:Counter|Gauge)\(\s*"(\w+)"', code)}
    assert len(known) >= 7
    asked = set()
    for panel in json.loads(grafana_page.dashboard())["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"ray_xner_ray_\w+", target["expr"]))
            labels = re.findall(r"by \(([\w, ]+)\)", target["expr"]) + re.findall(r"\{(\w+)=", target["expr"])
            assert {one.strip() for some in labels for one in some.split(",")} <= {"stage", "lang", "reason", "state"}
    assert asked == known
