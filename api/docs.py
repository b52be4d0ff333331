"""`/docs`: the API described on one page made here, from its own OpenAPI document.

FastAPI's page loads its scripts from a public address; this one needs none, and no script at all.
"""

import json
import re
from html import escape
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

STYLE = """
:root{--ground:#f6f7f9;--card:#fff;--ink:#16202c;--soft:#5d6b7a;--line:#e3e7ec;--accent:#2857c5}
@media (prefers-color-scheme:dark){:root{--ground:#0f151c;--card:#18212b;--ink:#e7edf3;--soft:#93a1b0;
--line:#283442;--accent:#7ea6ff}}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:860px;margin:0 auto;padding:24px 16px}
h1{font-size:24px;margin:0}h2{font-size:13px;color:var(--soft);margin:28px 0 8px;letter-spacing:.04em}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;margin:0 0 12px}
h3{font:600 15px ui-monospace,monospace;margin:0 0 4px;overflow-wrap:anywhere}h3 b{color:var(--accent)}
p{margin:4px 0;color:var(--soft)}table{border-collapse:collapse;width:100%;margin:8px 0 0;font-size:14px}
td{padding:4px 8px 4px 0;border-top:1px solid var(--line);vertical-align:top}
code,pre{font:13px ui-monospace,monospace}pre{overflow-x:auto;background:var(--ground);padding:10px;border-radius:8px;
margin:10px 0 0}.intro{white-space:pre-line}a{color:var(--accent)}
"""


def install(app: FastAPI) -> None:
    """Serve the page at `/docs`."""

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page(app.openapi(), str(request.base_url).rstrip("/")))


def page(schema: dict[str, Any], base: str) -> str:
    """Return the whole page."""
    info = schema["info"]
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(schema, base, method, path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(cards)}" for tag, cards in groups.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f'<p class="intro">{_prose(info["description"].strip())}</p>'
        f'<p>The same for machines: <a href="/openapi.json">/openapi.json</a></p>{body}</main></body></html>'
    )


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _operation(
    schema: dict[str, Any], base: str, method: str, path: str, operation: dict[str, Any]
) -> str:
    parameters = operation.get("parameters", [])
    rows = "".join(_parameter(schema, parameter) for parameter in parameters)
    asked = path
    for parameter in parameters:
        examples = parameter["schema"].get("examples")
        if parameter["in"] == "path" and examples:
            asked = asked.replace(f"{{{parameter['name']}}}", str(examples[0]))
    answer = _example(schema, operation["responses"].get("200", {}))
    shown = f"\n{json.dumps(answer, indent=2)}" if answer is not None else ""
    codes = ", ".join(
        f"{code} {_prose(told['description'])}"
        for code, told in operation["responses"].items()
        if code != "200"
    )
    return (
        f"<section><h3><b>{method.upper()}</b> {escape(path)}</h3>"
        f"<p>{_prose(operation.get('description', ''))}</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<p>Also: {codes}</p>" if codes else "")
        + f"<pre>curl {escape(base + asked)}{escape(shown)}</pre></section>"
    )


def _parameter(schema: dict[str, Any], parameter: dict[str, Any]) -> str:
    shape = _resolved(schema, parameter["schema"])
    kinds = [_resolved(schema, one) for one in shape.get("anyOf", [shape])]
    said = " or ".join(
        " | ".join(map(str, kind["enum"]))
        if "enum" in kind
        else kind.get("format") or kind.get("type", "")
        for kind in kinds
        if kind.get("type") != "null"
    )
    default = shape.get("default", parameter["schema"].get("default"))
    more = f", default {default}" if default is not None else ""
    told = parameter.get("description") or shape.get("description", "")
    return f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(said + more)}</td><td>{_prose(told)}</td></tr>"


def _example(schema: dict[str, Any], response: dict[str, Any]) -> Any:
    content = response.get("content", {}).get("application/json", {})
    return _sample(schema, content["schema"]) if content.get("schema") else None


def _sample(schema: dict[str, Any], shape: dict[str, Any]) -> Any:
    """Return an example value of a schema, from the examples of its fields."""
    shape = _resolved(schema, shape)
    if shape.get("examples"):
        return shape["examples"][0]
    if "anyOf" in shape:
        return _sample(schema, shape["anyOf"][0])
    if "enum" in shape:
        return shape["enum"][0]
    if shape.get("properties"):
        return {name: _sample(schema, part) for name, part in shape["properties"].items()}
    match shape.get("type"):
        case "array":
            return [_sample(schema, shape["items"])]
        case "string":
            return "2026-11-24T15:30:00Z" if shape.get("format") == "date-time" else "…"
        case "number":
            return 101.25
        case "integer":
            return 1
        case "boolean":
            return False
    return {}


def _resolved(schema: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in shape:
        return shape
    name = shape["$ref"].rpartition("/")[2]
    found: dict[str, Any] = schema["components"]["schemas"][name]
    return found
