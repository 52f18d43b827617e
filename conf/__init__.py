"""The YAML groups; in a wheel they are the package `snn_lightning.conf`."""
