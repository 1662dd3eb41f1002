"""Whether a training run fits, before a device is there: bytes on each device, and what to change."""
