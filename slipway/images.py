"""The images that components run in, by role. `make compile` replaces them by digests."""

from slipway import __version__

DATA = f"slipway-data:{__version__}"
TRAIN = f"slipway-train:{__version__}"
SERVE = f"slipway-serve:{__version__}"
TOOLS = f"slipway-tools:{__version__}"
