// Primitives of level sm90: the emulated bodies. codegen/cuda/device/primitives/sm90.cuh has the PTX bodies and says
// what each does.
