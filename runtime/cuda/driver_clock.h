// The clock of a GPU: two events of the driver's around what is timed.
#pragma once

#include "runtime/cuda/cuda_device.h"
#include "runtime/cuda/driver.h"

namespace tilewright {

/// In the context that is current; `driver` and `device` outlive the clock.
Result<std::unique_ptr<CudaClock>> make_driver_clock(const CudaDriver& driver, const CudaDevice& device);

}  // namespace tilewright
