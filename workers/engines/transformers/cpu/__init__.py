"""How one step is computed on a CPU: by OpenVINO, over blocks of keys and values that ``core`` gives out."""
