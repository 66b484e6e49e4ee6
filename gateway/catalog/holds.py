"""Whether a tenant is under a hold: until both the database's clock and the counted time say not."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from gateway.catalog import tables

_TENANTS = tables.tenants


def no_hold(at: datetime, counted: timedelta | ColumnElement[Any]) -> ColumnElement[bool]:
    """Tell of a row of tenants, at a moment of both clocks, that nothing holds what it has."""
    by_both = and_(_TENANTS.c.hold <= at, _TENANTS.c.hold_tick <= counted)
    return or_(_TENANTS.c.hold.is_(None), by_both)
