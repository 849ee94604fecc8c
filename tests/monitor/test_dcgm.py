"""DCGM's exporter, over a real HTTP server on this machine."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.evidence.power.channels import CHANNELS
from lydite.monitor.sources.dcgm import METRICS, Dcgm
from tests.monitor.virtual import SECOND, VirtualTiming, sample

LABELS = 'gpu="{gpu}",UUID="GPU-{gpu}-aa",device="nvidia{gpu}",modelName="NVIDIA H100"'
PAGE = """# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{{{0}}} 412.5
DCGM_FI_DEV_POWER_USAGE{{{1}}} 71.25
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{0}}} 123456789
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{{{0}}} 1980
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{{{0}}} 2048
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{{{0}}} 87
# TYPE DCGM_FI_PROF_SM_ACTIVE gauge
DCGM_FI_PROF_SM_ACTIVE{{{0}}} 0.625
# TYPE DCGM_FI_DEV_MEMORY_TEMP gauge
DCGM_FI_DEV_MEMORY_TEMP{{{0}}} {blank}
# TYPE DCGM_FI_DEV_XID_ERRORS gauge
DCGM_FI_DEV_XID_ERRORS{{{0}}} 0
"""


class Exporter(http.server.ThreadingHTTPServer):
    """Serves one page, with one status."""

    page: bytes = b""
    status = 200
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/metrics"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.page)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


def page(blank: str = "45") -> bytes:
    return PAGE.format(LABELS.format(gpu=0), LABELS.format(gpu=1), blank=blank).encode()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    server = Exporter(("127.0.0.1", 0), _Handler)
    server.page = page()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("gpu", ["0", "GPU-0-aa"])
def test_a_page_becomes_readings_in_si_units(exporter: Exporter, gpu: str) -> None:
    source = Dcgm(exporter.url, gpu, SECOND)
    found = {reading.channel: reading.value for reading in source.read(5)}
    assert found == {
        "power_average_w": 412.5,
        "energy_j": pytest.approx(123456.789),
        "sm_clock_hz": 1.98e9,
        "memory_used_b": 2048 * 2**20,
        "gpu_busy": 0.87,
        "sm_active": 0.625,
        "memory_temperature_c": 45,
    }
    assert source.device == "NVIDIA H100/0"


def test_it_is_scraped_at_its_own_rate(exporter: Exporter) -> None:
    source = Dcgm(exporter.url, "1", SECOND)
    found = sample(source, VirtualTiming(5 * SECOND))
    assert [reading.value for reading in found] == [71.25] * 5
    assert exporter.asked == 6


@pytest.mark.parametrize("blank", ["2147483632", "9223372036854775792", "140737488355328", "NaN"])
def test_the_words_for_no_value_are_counted_and_are_no_values(
    exporter: Exporter, blank: str
) -> None:
    source = Dcgm(exporter.url, "0", SECOND)
    exporter.page = page(blank)
    assert "memory_temperature_c" not in {reading.channel for reading in source.read(0)}
    assert source.tally.counts() == {"blank": 1}


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"no"), (200, b"DCGM_FI_DEV_POWER_USAGE{gpu= 4"), (200, b"\xff\xfe"), (404, b"")],
)
def test_an_exporter_that_fails_is_counted_at_each_beat(
    exporter: Exporter, status: int, body: bytes
) -> None:
    source = Dcgm(exporter.url, "1", SECOND)
    exporter.status, exporter.page = status, body
    assert sample(source, VirtualTiming(3 * SECOND)) == []
    assert source.tally.counts() == {"not-read": 3}


def test_a_page_that_does_not_end_is_refused(exporter: Exporter) -> None:
    source = Dcgm(exporter.url, "0", SECOND)
    exporter.page = b"# nothing\n" * 900_000
    with pytest.raises(UnavailableError) as caught:
        source.read(0)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_gpu_that_the_page_does_not_name_is_refused(exporter: Exporter) -> None:
    with pytest.raises(UnavailableError, match="nothing of GPU 7"):
        Dcgm(exporter.url, "7", SECOND)


def test_nobody_there_is_an_error_that_says_so(exporter: Exporter) -> None:
    with pytest.raises(ConfigurationError, match="expected http"):
        Dcgm("ftp://x/metrics", "0", SECOND)
    with pytest.raises(UnavailableError):
        Dcgm("http://127.0.0.1:1/metrics", "0", SECOND)


def test_every_metric_leads_to_a_channel() -> None:
    assert {channel for channel, _ in METRICS.values()} <= set(CHANNELS)
