"""Counts for Prometheus: studies, queue, deliveries, disk. No label names a patient, study or peer."""

import shutil
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from config.identity import VERSION
from db.worklist import counts, node_status
from preread.web.site import Site, site_of


class _Now(Collector):
    """What the rows say at this moment."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def collect(self) -> Iterator[GaugeMetricFamily]:
        site, status, by_chip = self._site, node_status(self._site.db), counts(self._site.db)
        ended = {name: by_chip[name] for name in ("not_analysed", "failed", "running")}
        studies = GaugeMetricFamily("preread_studies", "Studies on this node by outcome.", labels=["outcome"])
        for name, count in {"delivered": by_chip["all"] - sum(ended.values()), **ended}.items():
            studies.add_metric([name], count)
        yield studies
        yield GaugeMetricFamily(
            "preread_studies_with_findings", "Studies with a finding.", by_chip["findings"]
        )
        jobs = GaugeMetricFamily("preread_jobs", "Jobs by state.", labels=["state"])
        for name, count in (
            ("queued", status.queued),
            ("running", status.running),
            ("failed", status.failed),
        ):
            jobs.add_metric([name], count)
        yield jobs
        oldest = status.oldest_queued_at
        age = (site.now() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("preread_oldest_job_seconds", "Age of the oldest waiting job.", max(0.0, age))
        deliveries = GaugeMetricFamily("preread_deliveries", "Open deliveries by state.", labels=["state"])
        deliveries.add_metric(["queued"], status.deliveries_queued)
        deliveries.add_metric(["parked"], status.deliveries_parked)
        yield deliveries
        yield GaugeMetricFamily("preread_workers", "Workers seen.", len(status.workers))
        refused = sum(item.count for item in status.refused)
        yield GaugeMetricFamily("preread_associations_refused", "Associations refused.", refused)
        yield GaugeMetricFamily("preread_instances", "Images on this node.", status.instances)
        yield GaugeMetricFamily("preread_stored_bytes", "Bytes of images on this node.", status.stored_bytes)
        usage = shutil.disk_usage(site.settings.state_folder)
        yield GaugeMetricFamily(
            "preread_disk_free_bytes", "Free bytes of the state folder's disk.", usage.free
        )
        yield GaugeMetricFamily("preread_disk_bytes", "Size of the state folder's disk.", usage.total)
        version = GaugeMetricFamily("preread_info", "The version that runs.", labels=["version"])
        version.add_metric([VERSION], 1)
        yield version


def metrics(request: Request) -> Response:
    """/metrics in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Now(site_of(request)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def healthz(request: Request) -> Response:
    """Whether the page and its database answer; the database's failure is a 503 by the error handler."""
    counts(site_of(request).db)
    return PlainTextResponse("ok\n")
