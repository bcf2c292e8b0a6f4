// Primitives of level sm90: the PTX bodies. docs/gpu.md has the table; emulator/device has the other bodies.
