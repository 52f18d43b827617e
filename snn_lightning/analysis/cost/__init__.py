"""What a calibration costs: workload, operations, seconds on this machine, and the report of them."""
