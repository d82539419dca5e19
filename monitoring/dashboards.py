"""Writes the dashboards of Grafana from dashboards.yaml: `python monitoring/dashboards.py`.

Grafana wants sixty lines of JSON for a panel of four; a test fails when the two differ.
"""

import json
import string
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).with_suffix(".yaml")
FOLDER = Path(__file__).with_suffix("")
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
SHORT = {
    "@served": 'namespace="$namespace", model="$model", version=~"$version"',
    "@model": 'namespace="$namespace", model="$model"',
}
WIDTH = 24
HEIGHT = {"row": 1, "stat": 4}

Json = dict[str, Any]


def dashboards() -> dict[str, str]:
    """Their JSON, by name."""
    listed = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return {
        name: json.dumps(_dashboard(name, told), indent=1) + "\n" for name, told in listed.items()
    }


def _dashboard(name: str, told: Json) -> Json:
    panels = []
    for row in told["rows"]:
        panels.append({"type": "row", "title": row["row"], "collapsed": False, "panels": []})
        panels += [_panel(one) for one in row["panels"]]
    _place(panels)
    return {
        "uid": f"slipway-{name}",
        "title": told["title"],
        "tags": ["slipway"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                _choice(one, query, one in told["several"])
                for one, query in told["choices"].items()
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": title,
                    "datasource": PROMETHEUS,
                    "enable": True,
                    "iconColor": "blue",
                    "expr": _long(query),
                    "titleFormat": "version {{version}}",
                }
                for title, query in told.get("marks", {}).items()
            ]
        },
        "panels": panels,
    }


def _panel(told: Json) -> Json:
    kind = told.get("kind", "timeseries")
    unit = told.get("unit", "short")
    defaults: Json = {"unit": unit, "min": 0}
    if kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10}
    options: dict[str, Json] = {
        "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"},
        "heatmap": {"calculate": False, "yAxis": {"unit": unit}},
    }
    return {
        "type": kind,
        "title": told["title"],
        "description": told.get("about", ""),
        "datasource": PROMETHEUS,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options[kind],
        "gridPos": {"w": told.get("width", 8)},
        "targets": [
            {
                "refId": letter,
                "datasource": PROMETHEUS,
                "expr": _long(query),
                "legendFormat": "{{le}}" if kind == "heatmap" else legend,
                "format": "heatmap" if kind == "heatmap" else "time_series",
            }
            for letter, (legend, query) in zip(
                string.ascii_uppercase, told["lines"].items(), strict=False
            )
        ],
    }


def _choice(name: str, query: str, several: bool) -> Json:
    """A drop-down of the values of a label."""
    made: Json = {
        "type": "query",
        "name": name,
        "datasource": PROMETHEUS,
        "definition": _long(query),
        "query": {"query": _long(query), "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    return {**made, "allValue": ".*"} if several else made


def _place(panels: list[Json]) -> None:
    """In reading order, wrapped where a line is full."""
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        width = panel.get("gridPos", {}).get("w", WIDTH)
        height = HEIGHT.get(panel["type"], 8)
        if x + width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        panel |= {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, tallest = x + width, max(tallest, height)


def _long(query: str) -> str:
    for short, text in SHORT.items():
        query = query.replace(short, text)
    return query


if __name__ == "__main__":
    for name, text in dashboards().items():
        file = FOLDER / f"{name}.json"
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file}")
