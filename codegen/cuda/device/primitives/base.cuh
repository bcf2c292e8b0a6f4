// Primitives of level base: the PTX bodies. docs/gpu.md has the table; emulator/device has the other bodies.
