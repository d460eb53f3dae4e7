// A stand-in for NVIDIA's driver: the functions that `runtime/cuda` calls, and our own kernels,
// compiled from their own source, a thread of the grid being a turn of a loop. See emulated.h.
#include <dlfcn.h>

#include <chrono>

#include "emulated.h"

static long fail_launches_after = -1;
static long fail_call = -1;

static long setting(const char* name, long otherwise) {
  const char* text = getenv(name);
  return text ? atol(text) : otherwise;
}

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#define API extern "C" __attribute__((visibility("default")))
// Functions that need no context.
#define COUNTED                                      \
  std::lock_guard<std::recursive_mutex> guard(lock); \
  ++counts[__func__]
#define ENTER      \
  COUNTED;         \
  CHECK(chosen()); \
  CHECK(entered())
// Functions that a thread must not call while it records: they spoil what it records.
// So is what another thread records, unless this one said that it minds its own business.
#define ENTER_UNSAFE                       \
  ENTER;                                   \
  if (capturing) return capturing->spoil(); \
  if (everywhere && !aside) return everywhere->spoil(CAPTURE_UNSAFE)

// Fails one call, the one that was chosen.
static Result chosen() { return fail_call < 0 || fail_call-- ? OK : LAUNCH_FAILED; }

API long emulated_count(const char* name) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  return counts[name];
}
API long emulated_live_bytes() {
  std::lock_guard<std::recursive_mutex> guard(lock);
  long total = 0;
  for (auto& block : memory) total += block.second.free ? 0 : (long)block.second.size;
  return total;
}
API void emulated_fail_launches_after(long n) { fail_launches_after = n; }
// The call after so many fails, once. Returns how many were left to come.
API long emulated_fail_call(long n) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  const long left = fail_call;
  fail_call = n;
  return left;
}
API void emulated_break() { contexts[0].broken = LAUNCH_FAILED; }

API Result cuInit(unsigned) {
  COUNTED;
  return setting("EMULATED_GPUS", 1) ? OK : NO_DEVICE;
}
// NVRTC asks a driver that is there for tables of its own.
API Result cuGetExportTable(const void** table, const void*) {
  *table = nullptr;
  return NOT_FOUND;
}
// ONNX Runtime's CUDA provider does not load without it.
API Result cuTensorMapEncodeTiled() { return NOT_FOUND; }
API Result cuDriverGetVersion(int* version) { return *version = 13000, OK; }
API Result cuGetErrorString(Result error, const char** text) {
  *text = error == OUT_OF_MEMORY      ? "out of memory"
          : error == NO_DEVICE        ? "no CUDA-capable device is detected"
          : error == ILLEGAL_ADDRESS  ? "an illegal memory access was encountered"
                                      : "an emulated error";
  return OK;
}
API Result cuDeviceGetCount(int* count) { return *count = (int)setting("EMULATED_GPUS", 1), OK; }
API Result cuDeviceGet(int* device, int ordinal) { return *device = ordinal, OK; }
API Result cuDeviceGetName(char* name, int length, int device) {
  return snprintf(name, length, device ? "Emulated GPU %d" : "Emulated GPU", device), OK;
}
API Result cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 75: *value = 8; return OK;  // compute capability, major
    case 76: *value = 7; return OK;  // minor
    case 18: *value = (int)setting("EMULATED_INTEGRATED", 0); return OK;
    case 115: *value = (int)setting("EMULATED_POOLS", 1); return OK;
  }
  return INVALID_VALUE;
}
API Result cuDevicePrimaryCtxRetain(Context** context, int device) {
  COUNTED;
  if (device < 0 || device >= 8) return INVALID_DEVICE;
  *context = &contexts[device];
  ++(*context)->users;
  return OK;
}
API Result cuDevicePrimaryCtxRelease_v2(int device) {
  COUNTED;
  Context& context = contexts[device];
  if (!context.users) return NO_CONTEXT;
  if (--context.users == 0) ++context.generation, context.broken = OK;
  return OK;
}
API Result cuCtxSetCurrent(Context* context) {
  if (context && !context->alive()) return CONTEXT_IS_DESTROYED;
  return current = context, OK;
}

API Result cuMemAlloc_v2(Pointer* address, size_t size) {
  ENTER_UNSAFE;
  if (!size) return INVALID_VALUE;
  if ((long)size > setting("EMULATED_BYTES", 1L << 30)) return OUT_OF_MEMORY;
  return *address = give(size, false), OK;
}
API Result cuMemAllocAsync(Pointer* address, size_t size, Stream* stream) {
  ENTER;
  if (!size) return INVALID_VALUE;
  if ((long)size > setting("EMULATED_BYTES", 1L << 30)) return OUT_OF_MEMORY;
  const Pointer place = *address = give(size, false, false);
  return put(stream, [=] { return block_of(place)->ready = true, OK; });
}
API Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  ENTER;
  *total = 1L << 40;
  *free = *total - emulated_live_bytes();
  return OK;
}
API Result cuMemFree_v2(Pointer address) {
  ENTER_UNSAFE;
  return take(address);
}
API Result cuMemFreeAsync(Pointer address, Stream* stream) {
  ENTER;
  if (!inside(address, 1)) return INVALID_VALUE;
  return put(stream, [=] { return take(address); });
}
API Result cuMemHostAlloc(void** address, size_t size, unsigned) {
  ENTER_UNSAFE;
  if (!size) return INVALID_VALUE;
  if ((long)size > setting("EMULATED_HOST_BYTES", 1L << 30)) return OUT_OF_MEMORY;
  return *address = (void*)give(size, true), OK;
}
API Result cuMemHostGetDevicePointer_v2(Pointer* address, void* host, unsigned flags) {
  ENTER;
  Block* block = block_of((Pointer)host);
  if (flags || !block || !block->host || block->free) return INVALID_VALUE;
  return *address = (Pointer)host, OK;
}
API Result cuMemFreeHost(void* address) {
  ENTER_UNSAFE;
  return take((Pointer)address);
}

static Result copy(void* to, const void* from, size_t size, bool to_host, bool from_host) {
  CHECK(to_host ? reach_host(to) : reach(to, size));
  CHECK(from_host ? reach_host(from) : reach(from, size));
  return memcpy(to, from, size), OK;
}
API Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t size, Stream* stream) {
  ENTER;
  if (!inside(to, size)) return INVALID_VALUE;
  return put(stream, [=] { return copy((void*)to, from, size, false, true); });
}
API Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t size, Stream* stream) {
  ENTER;
  if (!inside(from, size)) return INVALID_VALUE;
  return put(stream, [=] { return copy(to, (void*)from, size, true, false); });
}
API Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, Stream* stream) {
  ENTER;
  if (!inside(to, size) || !inside(from, size)) return INVALID_VALUE;
  return put(stream, [=] { return copy((void*)to, (void*)from, size, false, false); });
}

static std::vector<Stream*> streams;

API Result cuStreamCreate(Stream** stream, unsigned) {
  ENTER;
  streams.push_back(*stream = new Stream);
  return OK;
}
// Waits for the whole GPU, and spoils what any thread records on it.
API Result cuCtxSynchronize() {
  ENTER;
  Result result = OK;
  for (Stream* stream : streams)
    if (stream->usable() && stream->context == current && stream->recording)
      result = stream->spoil();
  CHECK(result);
  for (Stream* stream : streams)
    if (stream->usable() && stream->context == current) stream->run_to(stream->put);
  return current->broken;
}
API Result cuStreamDestroy_v2(Stream* stream) {
  ENTER;
  if (!stream->usable()) return INVALID_HANDLE;
  stream->alive = false;  // kept: events may still name it
  return OK;
}
API Result cuStreamSynchronize(Stream* stream) {
  ENTER;
  if (!stream->usable()) return INVALID_HANDLE;
  if (stream->recording) return stream->spoil();
  stream->run_to(stream->put);
  return current->broken;
}
API Result cuEventCreate(Event** event, unsigned) {
  ENTER;
  return *event = new Event, OK;
}
API Result cuEventRecord(Event* event, Stream* stream) {
  ENTER;
  if (!event->usable() || !stream->usable()) return INVALID_HANDLE;
  // It would become part of what is recorded, and with it the stream that waits for it.
  if (stream->recording) return stream->spoil();
  const Result result = put(stream, [=] { return event->seconds = now(), OK; });
  event->stream = stream;
  event->place = stream->put;
  return result;
}
API Result cuEventElapsedTime_v2(float* ms, Event* start, Event* end) {
  ENTER;
  if (!start->usable() || !end->usable()) return INVALID_HANDLE;
  return *ms = (float)(1e3 * (end->seconds - start->seconds)), OK;
}
API Result cuEventSynchronize(Event* event) {
  ENTER;
  if (!event->usable()) return INVALID_HANDLE;
  if (event->stream) event->stream->run_to(event->place);
  return current->broken;
}
API Result cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
  ENTER;
  if (!event->usable()) return INVALID_HANDLE;
  Event then = *event;
  return put(stream, [=] { return then.stream->run_to(then.place), OK; });
}
API Result cuEventDestroy_v2(Event* event) {
  ENTER;
  if (!event->usable()) return INVALID_HANDLE;
  return event->alive = false, OK;
}

API Result cuModuleLoadData(Module** module, const void* image) {
  ENTER_UNSAFE;
  if (memcmp(image, "\x7f" "ELF", 4)) return INVALID_IMAGE;
  return *module = new Module, OK;
}
API Result cuModuleUnload(Module* module) {
  ENTER_UNSAFE;
  if (!module->usable()) return INVALID_HANDLE;
  return module->alive = false, OK;
}
API Result cuModuleGetFunction(Function** function, Module* module, const char* name) {
  ENTER;
  for (Kernel& kernel : kernels)
    if (!strcmp(kernel.name, name)) return *function = new Function{&kernel, module}, OK;
  return NOT_FOUND;
}
API Result cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                          unsigned by, unsigned bz, unsigned, Stream* stream, void** given, void**) {
  ENTER;
  if (!function->module->usable()) return INVALID_HANDLE;
  if (!gx || !bx || gx > 0x7fffffff || gy * gz * by * bz != 1 || bx > 1024) return INVALID_VALUE;
  if (fail_launches_after == 0) return LAUNCH_FAILED;
  if (fail_launches_after > 0) --fail_launches_after;
  static const bool idle = setting("EMULATED_IDLE", 0);  // to measure what the host does
  if (idle) return put(stream, [] { return OK; });
  // Arguments are copied when a kernel is launched, not when it runs.
  Kernel* kernel = function->kernel;
  std::vector<std::vector<char>> copies;
  for (size_t i = 0; i < kernel->sizes.size(); ++i)
    copies.emplace_back((char*)given[i], (char*)given[i] + kernel->sizes[i]);
  return put(stream, [=]() mutable {
    std::vector<void*> arguments;
    for (auto& copy : copies) arguments.push_back(copy.data());
    CHECK(kernel->run(arguments.data(), gx, true));
    gridDim = {gx, 1, 1}, blockDim = {bx, 1, 1};
    for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x)
      for (threadIdx.x = 0; threadIdx.x < bx; ++threadIdx.x)
        kernel->run(arguments.data(), gx, false);
    return (Result)OK;
  });
}

// Puts a function of the host onto a stream, once for each replay of what records it.
API Result emulated_call(Stream* stream, void (*function)()) {
  ENTER;
  return put(stream, [=] { return function(), OK; });
}

API int emulated_recording(Stream* stream) { return stream->recording != nullptr; }

API Result cuStreamBeginCapture_v2(Stream* stream, int mode) {
  ENTER;
  if (!stream->usable() || (mode != 0 && mode != 1)) return INVALID_VALUE;
  if (stream->recording || capturing) return ILLEGAL_STATE;
  stream->recording = new std::vector<Work>;
  stream->recorder = std::this_thread::get_id();
  stream->spoilt = false;
  capturing = stream;
  if (mode == 0) everywhere = stream;
  return OK;
}
API Result cuThreadExchangeStreamCaptureMode(int* mode) {
  const int former = aside ? 1 : 0;
  if (*mode != 0 && *mode != 1) return INVALID_VALUE;
  aside = *mode == 1;
  return *mode = former, OK;
}
API Result cuStreamEndCapture(Stream* stream, Graph** graph) {
  ENTER;
  *graph = nullptr;
  if (!stream->recording) return ILLEGAL_STATE;
  if (stream->recorder != std::this_thread::get_id()) return CAPTURE_WRONG_THREAD;
  Graph* made = new Graph;
  made->work.swap(*stream->recording);
  delete stream->recording;
  capturing = nullptr, stream->recording = nullptr;
  if (everywhere == stream) everywhere = nullptr;
  if (stream->spoilt) return delete made, CAPTURE_INVALIDATED;
  ++counts["graphs"];
  return *graph = made, OK;
}
API Result cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
  ENTER;
  *executable = new Graph;
  (*executable)->work = graph->work;
  ++counts["graphs"];
  return OK;
}
API Result cuGraphLaunch(Graph* graph, Stream* stream) {
  ENTER;
  if (!graph->usable()) return INVALID_HANDLE;
  for (const Work& work : graph->work) CHECK(put(stream, work));
  return OK;
}
API Result cuGraphDestroy(Graph* graph) {
  COUNTED;
  if (!graph || !graph->alive) return INVALID_VALUE;
  --counts["graphs"];
  return graph->alive = false, OK;
}
API Result cuGraphExecDestroy(Graph* graph) { return cuGraphDestroy(graph); }

API Result cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  std::string exported(name);
  static const char* const second[] = {
      "cuDevicePrimaryCtxRelease", "cuMemAlloc", "cuMemFree", "cuMemGetInfo",
      "cuMemHostGetDevicePointer", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync",
      "cuStreamDestroy", "cuEventDestroy", "cuEventElapsedTime", "cuStreamBeginCapture",
      "cuGetProcAddress"};
  for (const char* each : second)
    if (exported == each) exported += "_v2";
  if (exported == "cuGraphInstantiate") exported = "cuGraphInstantiateWithFlags";
  static void* const self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  *function = dlsym(self, exported.c_str());
  if (status) *status = *function ? 0 : 1;
  if (!*function) return NOT_FOUND;
  return OK;
}
