"""The embedded stack: key service and gateway as processes, a migrated catalog, a tenant and a token.

Guarantees that both answer ready before anybody is told of them, and that what it prepares goes
through the gateway's own use cases. Does not restart what ends: that is an error here.
"""

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp

from gateway import catalog
from gateway.errors import GatewayError
from gateway.model import Right
from gateway.settings.config import Settings, load
from gateway.wiring.adapters import catalog_url
from gateway.wiring.core import open_core
from gateway.wiring.dev import children
from gateway.wiring.dev.children import Child
from gateway.wiring.dev.errors import NotReady
from gateway.wiring.dev.place import TARGETS, Place, write
from gateway.wiring.dev.screen import Screen

_PATIENCE = 60.0  # a loaded machine takes its time to load two Pythons
_MOMENT = 0.5
_RIGHTS = (Right.READ, Right.WRITE, Right.DELETE)
_LIFETIME = timedelta(days=90)
_KEPT = re.compile(r"^(TENANT|TOKEN)=(\S+)$", re.MULTILINE)
_OK = 200


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    url: str
    tenant: str
    token: str = field(repr=False)

    @property
    def files(self) -> str:
        """Return the URL of the tenant's attachments."""
        return f"{self.url}/v1/tenants/{self.tenant}/attachments"


@contextlib.asynccontextmanager
async def running(place: Place, screen: Screen, *, port: int) -> AsyncIterator[Stack]:
    """Run a stack while the block lasts. Raises NotReady and, in a group, ChildEnded."""
    async with contextlib.AsyncExitStack() as stack:
        chosen = stack.enter_context(kept_port(port))
        if port and chosen != port:
            screen.say(f"port {port} is taken, so this uses {chosen}", "yellow")
        keyservice_port = None if place.socket is not None else stack.enter_context(kept_port(0))
        place.configure(port=chosen, keyservice_port=keyservice_port)
        settings = load(place.gateway_config, environment=False)
        screen.row("configuration", f"{place.shown(place.gateway_config)} and keyservice.toml")
        keys = await stack.enter_async_context(_child(place, "key service", "keyservice"))
        with screen.busy("preparing the catalog"):
            await catalog.migrate(catalog_url(settings))
        screen.row("catalog", "SQLite, its tables are up to date")
        gateway = await stack.enter_async_context(_child(place, "gateway", "gateway"))
        watching = await stack.enter_async_context(asyncio.TaskGroup())
        watches = [watching.create_task(child.watch()) for child in (keys, gateway)]
        try:
            with screen.busy("starting the key service"):
                await _ready(settings.keyservice.url, keys)
            screen.row("key service", f"process {keys.process.pid}, its root key in a local file")
            url = f"http://127.0.0.1:{chosen}"
            with screen.busy("starting the gateway"):
                await _ready(url, gateway)
            screen.row("gateway", f"process {gateway.process.pid}, {url}")
            screen.row("stores", f"{', '.join(name for name, _ in TARGETS)}: three folders")
            with screen.busy("preparing a tenant and a token"):
                ready = await _admitted(place, settings, url)
            screen.row("tenant", f"{ready.tenant}, with a token")
            try:
                yield ready
            except Exception:
                # A service that has just ended is the reason, and is told instead.
                ended, _ = await asyncio.wait(
                    watches, timeout=_MOMENT, return_when=asyncio.FIRST_COMPLETED
                )
                for watch in ended:
                    watch.result()
                raise
        finally:
            for watch in watches:
                watch.cancel()


def _child(place: Place, name: str, package: str) -> contextlib.AbstractAsyncContextManager[Child]:
    config = place.keyservice_config if package == "keyservice" else place.gateway_config
    arguments = (package, "serve", "--config", str(config))
    return children.running(name, arguments, place.log(package))


@contextlib.contextmanager
def kept_port(wanted: int) -> Iterator[int]:
    """Give the wanted port of loopback if nobody has it, else any free one, for a service to listen on.

    On Linux nobody else is given it while the block runs: a socket is bound to it, without listening.
    """
    for port in (wanted, 0):
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = holder.getsockname()[1]
            if sys.platform != "linux":
                holder.close()
            yield found
            return
    raise NotReady("no port of 127.0.0.1 is free")


async def _ready(url: str, child: Child) -> None:
    """Wait until a service says that it is ready."""
    connector: aiohttp.BaseConnector | None = None
    if url.startswith("unix://"):
        connector, url = aiohttp.UnixConnector(url.removeprefix("unix://")), "http://localhost"
    said = "it does not answer"
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        async with session.get(f"{url}/readyz") as response:
                            said = (await response.text()).strip()
                            if response.status == _OK:
                                return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise NotReady(f"the {child.name} is not ready: {said}") from None


async def _admitted(place: Place, settings: Settings, url: str) -> Stack:
    """Return the stack with the tenant and token of last time, or new ones."""
    async with open_core(settings) as wired:
        services = wired.services
        kept = await asyncio.to_thread(_kept, place)
        try:
            token = await services.tokens.check(kept.get("TOKEN", ""))
            tenant, text = token.tenant or "", kept["TOKEN"]
        except GatewayError:
            tenant = (await services.tenants.create()).id
            text = (await services.tokens.create(tenant, _RIGHTS, lifetime=_LIFETIME)).text
    stack = Stack(url, tenant, text)
    await asyncio.to_thread(write, place.environment, environment(stack))
    return stack


def _kept(place: Place) -> dict[str, str]:
    if not place.environment.exists():
        return {}
    return dict(_KEPT.findall(place.environment.read_text()))


def environment(stack: Stack) -> str:
    """Return what a shell reads to talk to the stack."""
    return f"""\
# Read by a shell: . this-file
URL={stack.url}
TENANT={stack.tenant}
TOKEN={stack.token}
FILES=$URL/v1/tenants/$TENANT/attachments
AUTH="Authorization: Bearer $TOKEN"
"""
