"""Metrics for Prometheus, structured logs, and the trace of the request being served."""

from mainspring.core.telemetry.instruments import LATENCY_S, Counter, Family, Gauge, Histogram
from mainspring.core.telemetry.metrics import Metrics

__all__ = ["LATENCY_S", "Counter", "Family", "Gauge", "Histogram", "Metrics"]
