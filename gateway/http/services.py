"""What the routes may call: the use cases, wired by `gateway.wiring.app`, and how a route finds them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway.attachments.admission import Admission
from gateway.attachments.downloads import Downloads
from gateway.attachments.listing import Listing
from gateway.attachments.operations import Operations
from gateway.attachments.tenants import Tenants
from gateway.attachments.terms import Agreements
from gateway.attachments.tokens import Tokens
from gateway.attachments.trash import Trash
from gateway.attachments.uploads import Uploads
from gateway.http.metrics import Metrics
from gateway.http.pace import Pace
from gateway.keys.entrance import Entrance
from gateway.ports import Catalog


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases behind the routes.

    `pace` gives each request its credit; `ready` names each dependency and how to ask after it;
    `required` tells whether those that are good suffice.
    """

    catalog: Catalog
    uploads: Uploads
    operations: Operations
    downloads: Downloads
    listing: Listing
    trash: Trash
    tenants: Tenants
    agreements: Agreements
    tokens: Tokens
    metrics: Metrics
    admission: Admission
    pace: Callable[[], Pace]
    entrance: Entrance
    ready: Mapping[str, Callable[[], Awaitable[None]]]
    required: Callable[[frozenset[str]], bool]


SERVICES = web.AppKey("services", Services)


def services(request: web.Request) -> Services:
    """Return the use cases of the application that serves this request."""
    return request.app[SERVICES]
