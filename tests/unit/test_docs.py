"""The page at `/docs`: every route with its example, and nothing from anywhere else."""

import re

from api.app import create_app
from api.docs import page


def test_the_page_tells_every_route_and_needs_no_other_address():
    schema = create_app(None, "9.9.9", always_open=True).openapi()
    html = page(schema, "http://127.0.0.1:8000")
    for path in schema["paths"]:
        assert path in html
    assert "curl http://127.0.0.1:8000/api/v1/market/price/AAPL" in html
    assert "&quot;price&quot;: 234.87" in html
    assert set(re.findall(r"https?://[^/<\s]+", html)) == {"http://127.0.0.1:8000"}
    assert "<script" not in html


def test_text_from_the_schema_is_escaped():
    schema = create_app(None, "<b>", always_open=True).openapi()
    assert "<b>" not in page(schema, "http://x").partition("<main>")[2].partition("</h1>")[0]
