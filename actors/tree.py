"""The whole system on one screen: which processes run, in what order, and what each may cost.

Children start top to bottom and stop bottom to top.  Adding an actor is one row here and one module;
`tests/unit/test_tree.py` fails if the row points at nothing.
"""

from actors.spec import Child, Restart, mib

# The root itself: restarted by Ray, never by its own judgement; its drain is that of the whole tree.
ROOT = Child(id="supervisor", start="actors.supervisor:Supervisor", memory=mib(110, 160), drain=60)

TREE = (
    # One OAuth refresh token has one owner: two of them refreshing would log each other out.
    Child(
        id="provider_pool",
        start="actors.provider_pool:ProviderPool",
        check="actors.providers.choice:check",
        memory=mib(130, 180),
        restart=Restart.DRAIN_FIRST,
    ),
    Child(
        id="price_ingestor",
        start="actors.price_ingestor:PriceIngestor",
        memory=mib(130, 180),
        drain=20,  # a refresh in hand is a vendor's answer and one transaction
    ),
    Child(id="api_server", start="api.server:ApiServer", memory=mib(130, 180)),
    # Last, because it sends the first messages; one at a time, because it is the clock.
    Child(
        id="scheduler",
        start="scheduling.scheduler:Scheduler",
        check="scheduling.jobs:check",
        memory=mib(110, 150),
        restart=Restart.DRAIN_FIRST,
    ),
)

RAY_MIB = (
    420  # gcs, raylet, the agents, the supervisor and, where it is on, the dashboard: measured
)
