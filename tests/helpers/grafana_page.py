"""The Grafana dashboard of a run, made from the list of its panels. `python tests/helpers/grafana_page.py --write`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PATH = Path(__file__).parents[2] / "cluster" / "grafana.json"
# title, unit, (query, legend) of each line
PANELS = (
    ("Rows a second, by stage", "rows/s", [("sum by (stage) (rate(ray_xner_ray_rows_total[2m]))", "{{stage}}")]),
    ("Rows left", "short", [("sum(ray_xner_ray_rows_left)", "rows")]),
    (
        "Hours left",
        "h",
        [('sum(ray_xner_ray_rows_left) / sum(rate(ray_xner_ray_rows_total{stage="match"}[10m])) / 3600', "hours")],
    ),
    (
        "Share of its time that a stage spends in its model",
        "percentunit",
        [
            (
                "sum by (stage) (rate(ray_xner_ray_model_seconds_total[2m])) / "
                "sum by (stage) (rate(ray_xner_ray_stage_seconds_total[2m]))",
                "{{stage}}",
            )
        ],
    ),
    (
        "Workers of a stage that are busy",
        "short",
        [("sum by (stage) (rate(ray_xner_ray_stage_seconds_total[2m]))", "{{stage}}")],
    ),
    ("Units at each stage", "short", [("sum by (stage, state) (ray_xner_ray_units)", "{{stage}} {{state}}")]),
    ("Tokens a second, by stage", "short", [("sum by (stage) (rate(ray_xner_ray_tokens_total[2m]))", "{{stage}}")]),
    (
        "Rows rejected a minute, by reason",
        "short",
        [("60 * sum by (stage, reason) (rate(ray_xner_ray_rejects_total[5m]))", "{{stage}} {{reason}}")],
    ),
    (
        "Rows a second, by language",
        "rows/s",
        [('sum by (lang) (rate(ray_xner_ray_rows_total{stage="match"}[2m]))', "{{lang}}")],
    ),
)


def dashboard() -> str:
    """Return the dashboard as Grafana imports it; the source of data is asked for at the import."""
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "gridPos": {"x": 8 * (number % 3), "y": 8 * (number // 3), "w": 8, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + place), "datasource": source, "expr": query, "legendFormat": legend}
                for place, (query, legend) in enumerate(lines)
            ],
        }
        for number, (title, unit, lines) in enumerate(PANELS)
    ]
    asked = {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}
    made = {
        "__inputs": [asked],
        "title": "xner_ray",
        "uid": "xner-ray",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "panels": panels,
    }
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PATH.write_text(dashboard(), encoding="utf-8")
    else:
        print(dashboard())
