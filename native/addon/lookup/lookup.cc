#include "lookup.h"

namespace hawser {

static void closeTable(napi_env env, void* data, void*) {
  Region* region = static_cast<Region*>(data);
  napi_delete_reference(env, region->array);
  delete region;
}

napi_value openTable(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value array;
  napi_typedarray_type type;
  size_t length = 0;
  void* at = nullptr;
  if (napi_get_cb_info(env, info, &count, &array, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_get_typedarray_info(env, array, &type, &length, &at, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    napi_throw_type_error(env, nullptr, "openTable: the table's memory must be a Uint8Array");
    return nullptr;
  }
  Region* region = new Region{static_cast<uint8_t*>(at), length, nullptr};
  napi_value handle = nullptr;
  if (napi_create_reference(env, array, 1, &region->array) != napi_ok ||
      napi_create_external(env, region, closeTable, nullptr, &handle) != napi_ok) {
    delete region;
    napi_throw_error(env, nullptr, "openTable: out of memory");
    return nullptr;
  }
  return handle;
}

}  // namespace hawser

void registerLookup(Napi::Env env, Napi::Object exports) {
  hawser::setFunction(env, exports, "openTable", hawser::openTable);
}
