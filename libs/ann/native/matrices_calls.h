// What JavaScript calls of matrices.
#pragma once
#include <node_api.h>

namespace kith {

void defineMatrices(napi_env env, napi_value exports);

}  // namespace kith
