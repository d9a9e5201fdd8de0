"""What several schedules of EventBridge Scheduler have in common: their group, the way to the ingress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from purista.compiling import MARKER
from purista.native.awsfiles import AwsObject
from purista.native.awsroute import route_name, route_objects
from purista.native.awssettings import ApiDestinationTarget, EventBridgeSettings
from purista.native.objectnames import key_of

DEFAULT_GROUP: Final = "default"
"""It is there in every account, and cannot be made."""


def shared_objects(settings: Iterable[EventBridgeSettings], url: str) -> Iterator[AwsObject]:
    """Yield what the settings of schedules ask for, each once, by name."""
    groups: dict[str, AwsObject] = {}
    routes: dict[str, tuple[AwsObject, ...]] = {}
    for each in settings:
        if not each.create_shared:
            continue
        if each.group != DEFAULT_GROUP and each.group not in groups:
            groups[each.group] = group_object(each.group)
        if isinstance(each.target, ApiDestinationTarget):
            name = route_name(each, url)
            if name not in routes:
                routes[name] = tuple(route_objects(each, url))
    for group in sorted(groups):
        yield groups[group]
    for route in sorted(routes):
        yield from routes[route]


def group_object(group: str) -> AwsObject:
    """Return what makes a schedule group."""
    request = {"Name": group, "Tags": [{"Key": "managed-by", "Value": MARKER}]}
    return AwsObject("CreateScheduleGroup", key_of("Group", group), request, {})
