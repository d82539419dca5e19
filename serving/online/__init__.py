"""Feast's online features, read straight from its stores."""

from serving.online.features import Clock, OnlineFeatures

__all__ = ["Clock", "OnlineFeatures"]
