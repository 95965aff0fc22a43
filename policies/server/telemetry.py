"""What the server says of itself: counts for Prometheus, and log lines without audio, texts or keys."""

import json
import logging
from collections import Counter
from datetime import UTC, datetime

from policies.engine.stats import EngineStats

LOGGER = logging.getLogger("soundflow.server")
_FAULTS_OF_CLIENTS = {  # which uvicorn calls errors; our own lines tell of them
    "ASGI callable returned without completing handshake.",  # somebody was refused
    "Invalid UTF-8 sequence received from client.",
}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, and the fields of the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Of an exception it names the type and the place, and not the values."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["where"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        return json.dumps(line)


def is_no_fault_of_a_client(record: logging.LogRecord) -> bool:
    """Return whether a line is to be written: a filter."""
    return record.getMessage() not in _FAULTS_OF_CLIENTS


def log(event: str, level: int = logging.INFO, **fields: str | float | None) -> None:
    """Write one line about something that happened."""
    LOGGER.log(level, event, extra={"fields": fields})


class Telemetry:
    """Counts of connections, of what was refused, and of how connections ended."""

    def __init__(self) -> None:
        self.connections = 0  # open now
        self.counters: dict[str, Counter[str]] = {name: Counter() for name in ("errors", "closes", "refusals")}
        self.audio_s = 0.0

    def prometheus(self, engine: EngineStats) -> str:
        """Return the engine's and the server's numbers in Prometheus' text format."""
        lines = ["# TYPE soundflow_connections gauge", f"soundflow_connections {self.connections}"]
        lines += ["# TYPE soundflow_audio_seconds_total counter", f"soundflow_audio_seconds_total {self.audio_s}"]
        labels = {"errors": "code", "closes": "code", "refusals": "reason"}
        for name, counts in self.counters.items():
            lines.append(f"# TYPE soundflow_{name}_total counter")
            lines += [f'soundflow_{name}_total{{{labels[name]}="{k}"}} {n}' for k, n in sorted(counts.items())]
        return engine.prometheus() + "\n".join(lines) + "\n"
