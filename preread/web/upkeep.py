"""The pages of whoever keeps the node well: Queue, Models, Node."""

import shutil
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from config.settings import PeerSettings
from db.views import NodeStatus
from db.worklist import node_status, queue
from models.package import installed_packages_folder
from preread.check_result import CheckResult
from preread.web import words
from preread.web.cards import figure_words
from preread.web.forms import text_of
from preread.web.site import Site, live, page, site_of
from preread.web.versions import versions_of


def queue_page(request: Request) -> Response:
    """What runs, waits, failed and is parked."""
    return page(request, "queue.html", "Queue", part="_queue.html", **_queue_part(site_of(request)))


def live_queue(request: Request, form: FormData) -> Response:
    """The queue again."""
    part = _queue_part(site_of(request))
    return live(request, "_queue.html", seen=text_of(form, "seen"), page_path="/queue", **part)


def _queue_part(site: Site) -> dict[str, Any]:
    return {"queue": queue(site.db), "stages": words.STAGES}


def models_page(request: Request) -> Response:
    """One card per model package."""
    site = site_of(request)
    return page(
        request,
        "models.html",
        "Models",
        cards=site.shelf.cards(),
        figure_words=figure_words,
        folder=installed_packages_folder(),
    )


def node_page(request: Request, echoes: Sequence[CheckResult] = ()) -> Response:
    """Is this node well, and what to do where it is not; with the answers of peers that were called."""
    part = _node_part(site_of(request))
    return page(request, "node.html", "Node", part="_node.html", echoes=echoes, **part)


def live_node(request: Request, form: FormData) -> Response:
    """The node again."""
    part = _node_part(site_of(request))
    return live(request, "_node.html", seen=text_of(form, "seen"), page_path="/node", echoes=(), **part)


def _node_part(site: Site) -> dict[str, Any]:
    settings = site.settings
    status = node_status(site.db)
    usage = shutil.disk_usage(settings.state_folder)
    return {
        "checks": site.checks.results(),
        "facts": status,
        "peers": _peers(site, status),
        "disk": {
            # As the doctor counts it: what is reserved for root is not free for us.
            "percent": 100.0 * (1.0 - usage.free / usage.total),
            "free": usage.free,
            "mark": settings.retention.disk_percent_max,
        },
        "retention": settings.retention,
        "versions": versions_of(status),
    }


def _peers(site: Site, status: NodeStatus) -> list[dict[str, Any]]:
    active = {peer.source_ae: peer for peer in status.peers}
    lines = []
    for peer in site.settings.peers:
        seen = active.get(peer.ae_title)
        gets = ", ".join(target.name for target in site.settings.destinations_of(peer.ae_title))
        lines.append(
            {
                "name": peer.name,
                "ae_title": peer.ae_title,
                "may_send": peer.may_send,
                "tls": _tls_of(peer, takes_tls=site.settings.tls.port is not None),
                "gets": f"to {gets}" if gets else "kept here",
                "last_at": seen.last_received_at if seen else None,
                "studies": seen.studies if seen else 0,
                "images": seen.received_last_day if seen else 0,
            }
        )
    return lines


def _tls_of(peer: PeerSettings, *, takes_tls: bool) -> str:
    """Whether it sends by TLS."""
    if peer.certificates and takes_tls:
        return "always, by its certificate"
    return "possible" if takes_tls else "no"
