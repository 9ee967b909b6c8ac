// Registers the functions of native.ts; nothing else.
#include "arena.h"

void registerMemory(Napi::Env env, Napi::Object exports);
void registerEvents(Napi::Env env, Napi::Object exports);
void registerNetns(Napi::Env env, Napi::Object exports);
void registerSockets(Napi::Env env, Napi::Object exports);
void registerTun(Napi::Env env, Napi::Object exports);
void registerUdp(Napi::Env env, Napi::Object exports);
void registerXsk(Napi::Env env, Napi::Object exports);
void registerBpf(Napi::Env env, Napi::Object exports);
void registerChecksum(Napi::Env env, Napi::Object exports);
void registerThreads(Napi::Env env, Napi::Object exports);
void registerBatch(Napi::Env env, Napi::Object exports);
void registerLookup(Napi::Env env, Napi::Object exports);
void registerLookupAclTree(Napi::Env env, Napi::Object exports);
void registerLookupTuplemerge(Napi::Env env, Napi::Object exports);
void registerLookupFlow(Napi::Env env, Napi::Object exports);
void registerLookupKnownFlows(Napi::Env env, Napi::Object exports);
void registerHugePages(Napi::Env env, Napi::Object exports);
void registerLookupDir24_8(Napi::Env env, Napi::Object exports);
void registerLookupDxr(Napi::Env env, Napi::Object exports);
void registerLookupPoptrie(Napi::Env env, Napi::Object exports);
void registerLookupPlanb6(Napi::Env env, Napi::Object exports);
void registerLookupTrie6(Napi::Env env, Napi::Object exports);

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // Each environment (main thread, workers) has its own arena; freed with the environment.
  env.SetInstanceData(new hawser::Instance());
  registerMemory(env, exports);
  registerEvents(env, exports);
  registerNetns(env, exports);
  registerSockets(env, exports);
  registerTun(env, exports);
  registerUdp(env, exports);
  registerXsk(env, exports);
  registerBpf(env, exports);
  registerChecksum(env, exports);
  registerThreads(env, exports);
  registerBatch(env, exports);
  registerLookup(env, exports);
  registerLookupAclTree(env, exports);
  registerLookupTuplemerge(env, exports);
  registerLookupFlow(env, exports);
  registerLookupKnownFlows(env, exports);
  registerHugePages(env, exports);
  registerLookupDir24_8(env, exports);
  registerLookupDxr(env, exports);
  registerLookupPoptrie(env, exports);
  registerLookupPlanb6(env, exports);
  registerLookupTrie6(env, exports);
  return exports;
}

NODE_API_MODULE(hawser_native, initialize)
