"""What a JPEG, JPEG-LS or JPEG 2000 stream says of the image in it, without decoding it."""

import struct
from dataclasses import dataclass

_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a segment (ISO/IEC 10918-1, table B.1)."""
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of frame, of JPEG (SOF0 to SOF15) and JPEG-LS (SOF55, ISO/IEC 14495-1)."""
_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_START_2000 = b"\xff\x4f\xff\x51"
"""SOC and SIZ (ISO/IEC 15444-1, annex A)."""


@dataclass(frozen=True)
class StreamSize:
    """Size of a compressed image.

    Attributes:
        rows, columns, samples: samples a pixel.
        bits: of a sample.
        signed: None where the format does not say.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool | None = None

    @property
    def words(self) -> str:
        """ "50 rows x 40 columns x 12 bits"."""
        samples = "" if self.samples == 1 else f" x {self.samples} samples"
        sign = {None: "", True: " with a sign", False: " without a sign"}[self.signed]
        return f"{self.rows} rows x {self.columns} columns{samples} x {self.bits} bits{sign}"


def jpeg_size(stream: bytes) -> StreamSize | None:
    """The size of a JPEG or JPEG-LS image; None where the stream is damaged or does not come to its end."""
    if not stream.startswith(_START) or not stream.rstrip(b"\0").endswith(_END):
        return None
    place = 2
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF or marker in _NO_LENGTH:  # 0xFF may be repeated before a marker
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS and place + 10 <= len(stream):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, place + 4)
            return StreamSize(rows, columns, samples, bits)
        if marker == _SCAN:
            return None
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def jpeg_2000_size(stream: bytes) -> StreamSize | None:
    """The size of a JPEG 2000 image, of its first component; None where the stream does not come to its end."""
    if not stream.startswith(_START_2000) or len(stream) < 43 or not stream.rstrip(b"\0").endswith(_END):
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
    samples, depth = struct.unpack_from(">HB", stream, 40)
    return StreamSize(y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, bool(depth & 0x80))
