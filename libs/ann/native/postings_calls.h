// The functions for indexes of postings that JavaScript sees.
#pragma once
#include <node_api.h>

namespace kith {

void definePostings(napi_env env, napi_value exports);

}  // namespace kith
