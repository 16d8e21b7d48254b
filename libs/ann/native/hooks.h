// What the benchmarks and tests of libs/ann alone may call (libs/ann/testing.ts).
#pragma once
#include <node_api.h>
#include "kernels.h"

namespace kith {

/** The object that holds these functions. */
napi_value hooks(napi_env env);
/** The kernels for indexes that are made from now on. */
const Kernels& currentKernels();

}  // namespace kith
