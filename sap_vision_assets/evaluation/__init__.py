"""What a checkpoint does on documents that it has not seen: metrics, thresholds, gates and the report.

`report.evaluate` is the station's entry. Modules are imported by name: `gates` loads in no time, for the
graph's definitions, while `predict` and `report` load torch.
"""
