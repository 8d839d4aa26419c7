"""What AWS charges for a million change records."""

from __future__ import annotations

import math
from dataclasses import dataclass

ASSUMPTIONS = (
    "List prices as recalled in November 2026, not checked: arm64 $0.0000133334 a GB-second, $0.20 a million "
    "requests, S3 $0.005 a thousand PUTs. 512 MB, of 1,769 MB to a vCPU. CPU as measured here, the runtime's "
    "json.loads included; arm64 itself was not measured. A round of PUTs waits 30 ms: the peers make one PUT "
    "a round, this handler up to 16. Full events. Kinesis, storage and logs are left out."
)
GB_SECOND, REQUEST, PUT = 0.0000133334, 0.20 / 1e6, 0.005 / 1e3
MEMORY_MB, VCPU_MB = 512, 1769
PUT_SECONDS = 0.030


@dataclass(frozen=True)
class Cost:
    """Dollars per million records."""

    compute: float
    puts: float

    @property
    def total(self) -> float:
        return self.compute + self.puts


def cost(cpu_us: float, batch_records: int, batch_puts: int, parallel_puts: int) -> Cost:
    """cpu_us is CPU per record; a batch has so many records and makes so many PUTs."""
    batches = 1e6 / batch_records
    waiting = batches * math.ceil(batch_puts / parallel_puts) * PUT_SECONDS
    billed_seconds = cpu_us / (MEMORY_MB / VCPU_MB) + waiting  # cpu_us a record is seconds a million records
    return Cost(
        compute=billed_seconds * MEMORY_MB / 1024 * GB_SECOND + batches * REQUEST,
        puts=batches * batch_puts * PUT,
    )
