"""The list of the S&P 500's members as GitHub serves it: the CSV of `datasets/s-and-p-500-companies`."""

import csv
import io

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from sandbox.company import company
from sandbox.gate import Headers
from sandbox.market import Market

PATH = "/datasets/s-and-p-500-companies/main/data/constituents.csv"
COLUMNS = (
    "Symbol",
    "Security",
    "GICS Sector",
    "GICS Sub-Industry",
    "Headquarters Location",
    "Date added",
    "CIK",
    "Founded",
)
TEXTS = {404: "404: Not Found", 429: "429: Too Many Requests"}
PLAIN = (b"content-type", b"text/plain; charset=utf-8")


def error_answer(status: int) -> tuple[bytes, Headers]:
    """Return what raw.githubusercontent.com says with an error status."""
    return TEXTS.get(status, f"{status}: error").encode(), [PLAIN]


class SP500:
    """GitHub, as far as the sandbox speaks for it."""

    name = "sp500"
    error_answer = staticmethod(error_answer)

    def __init__(self, market: Market) -> None:
        self._market = market

    def routes(self) -> Mount:
        """Return everything under /sp500."""
        return Mount(
            "/sp500", routes=[Route(PATH, self._list), Route("/{rest:path}", self._nowhere)]
        )

    async def _list(self, _: Request) -> Response:
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        write(COLUMNS)
        for row in self._market.listings:
            if row.kind != "stock":
                continue
            facts = company(row)
            place, year = f"{facts.city}, {facts.state}", facts.listed.year
            write(
                (
                    row.symbol,
                    row.name,
                    facts.sector,
                    facts.industry,
                    place,
                    facts.listed.isoformat(),
                    facts.cik,
                    year,
                )
            )
        return Response(out.getvalue(), media_type="text/plain", headers={"ETag": '"sandbox"'})

    async def _nowhere(self, _: Request) -> Response:
        return Response(TEXTS[404], 404, media_type="text/plain")
