"""ControlNet, IP-Adapter, T2I-Adapter and reference-only, run on the same samples."""
