"""What the `feast` command registers from this folder: the same as in the embedded store."""

from feature_repo.stores.embedded.repo import *  # noqa: F403
