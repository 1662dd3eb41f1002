"""Codes of 8-bit and 4-bit optimizers, from their papers; NumPy only."""

import numpy as np


def dynamic_map(bits, signed):
    """Dettmers et al. 2021, section 2.2: decades below 1, the fraction linear; sorted, with 0 and 1."""
    values = [0.0, 1.0]
    for zeros in range(bits - 1):  # leading zeros of the code: the exponent
        fraction_bits = bits - 1 - zeros - (1 if signed else 0)
        parts = 2**fraction_bits
        for part in range(parts):
            low, high = 0.1 + 0.9 * part / parts, 0.1 + 0.9 * (part + 1) / parts
            value = 10.0**-zeros * (low + high) / 2
            values += [value, -value] if signed else [value]
    return np.array(sorted(values))


def nearest_codes(x, code_map, block):
    """Codes and scales of consecutive blocks; a number in the middle of two is rounded up."""
    blocks = np.asarray(x, np.float32).reshape(-1, block)
    scale = np.abs(blocks).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(scale == 0, 0, blocks / scale)
    middles = (code_map[1:] + code_map[:-1]) / 2
    return np.searchsorted(middles, scaled, side="right"), scale


def decoded(codes, scale, code_map):
    """The numbers that codes and scales stand for, as one vector."""
    return (code_map[codes] * scale).ravel()


class Adam8bit:
    """Adam whose moments go through the codes after every step, as in bitsandbytes and torchao."""

    def __init__(self, learning_rate, b1=0.9, b2=0.999, eps=1e-8, block=256):
        self.rate, self.b1, self.b2, self.eps, self.block = learning_rate, b1, b2, eps, block
        self.maps = dynamic_map(8, True), dynamic_map(8, False)
        self.codes, self.count = None, 0

    def step(self, w, g):
        """The next weights."""
        self.count += 1
        if self.codes is None:
            m, v = np.zeros_like(w), np.zeros_like(w)
        else:
            m, v = (decoded(*kept, code_map) for kept, code_map in zip(self.codes, self.maps, strict=True))
        m = self.b1 * m + (1 - self.b1) * g
        v = self.b2 * v + (1 - self.b2) * g * g
        self.codes = [nearest_codes(x, code_map, self.block) for x, code_map in zip((m, v), self.maps, strict=True)]
        m_hat, v_hat = m / (1 - self.b1**self.count), v / (1 - self.b2**self.count)
        return w - self.rate * m_hat / (np.sqrt(v_hat) + self.eps)


def bfloat16_neighbours(x):
    """The bfloat16 numbers next to a float32, towards zero and away from it."""
    pattern = np.asarray(x, np.float32).view(np.uint32)
    toward = (pattern & np.uint32(0xFFFF0000)).view(np.float32)
    away = ((pattern & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    return toward, np.where(toward == x, toward, away)
