// A stand-in for NVIDIA's driver: the functions that `runtime/cuda` calls, and our own kernels,
// compiled from their own source, a thread of the grid being a turn of a loop.
//
// Nothing happens when it is put onto a stream, but only when somebody waits for it. So whatever
// relies on an order that no stream or event guarantees fails here every time. Memory that is freed
// is filled with 0xdd and never given again, so whatever is used after that shows as well.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_shim.h"
#include "resize.cu"
#include "scatter.cu"

typedef int Result;
typedef unsigned long long Pointer;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101 };
enum { INVALID_HANDLE = 400, NOT_FOUND = 500, LAUNCH_FAILED = 719, CAPTURE = 900 };

struct Stream;
using Work = std::function<void()>;

struct Event {
  Stream* stream = nullptr;
  uint64_t place = 0;
};

struct Stream {
  std::deque<Work> waiting;
  uint64_t put = 0, done = 0;
  std::vector<Work>* recording = nullptr;

  void run_to(uint64_t place) {
    while (done < place && !waiting.empty()) {
      Work work = std::move(waiting.front());
      waiting.pop_front();
      ++done;
      work();
    }
  }
};

struct Block {
  size_t size;
  bool host, free;
};

static std::recursive_mutex lock;
static std::map<Pointer, Block> memory;
static std::map<std::string, long> counts;
static long fail_launches_after = -1;
static bool context_is_current(bool set = false) {
  static thread_local bool current = false;
  current = current || set;
  return current;
}

static long setting(const char* name, long otherwise) {
  const char* text = getenv(name);
  return text ? atol(text) : otherwise;
}

static Result put(Stream* stream, Work work) {
  if (!context_is_current()) return 201;  // no current context
  if (stream->recording) {
    stream->recording->push_back(std::move(work));
  } else {
    stream->waiting.push_back(std::move(work));
    ++stream->put;
  }
  return OK;
}

static bool inside(Pointer address, size_t size, bool host) {
  auto found = memory.upper_bound(address);
  if (found == memory.begin()) return false;
  --found;
  return !found->second.free && found->second.host == host &&
         address + size <= found->first + found->second.size;
}

static Pointer give(size_t size, bool host) {
  void* place = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(place, 0xcd, size);
  memory[(Pointer)place] = {size, host, false};
  return (Pointer)place;
}

static Result take(Pointer address) {
  auto found = memory.find(address);
  if (found == memory.end() || found->second.free) return INVALID_VALUE;
  found->second.free = true;
  memset((void*)address, 0xdd, found->second.size);
  return OK;
}

#define API extern "C" __attribute__((visibility("default")))
#define ENTER                                     \
  std::lock_guard<std::recursive_mutex> guard(lock); \
  ++counts[__func__]

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

API Result cuInit(unsigned) {
  ENTER;
  return setting("EMULATED_GPUS", 1) ? OK : NO_DEVICE;
}
// NVRTC asks a driver that is there for tables of its own.
API Result cuGetExportTable(const void** table, const void*) {
  *table = nullptr;
  return NOT_FOUND;
}
API Result cuDriverGetVersion(int* version) { return *version = 13000, OK; }
API Result cuGetErrorString(Result error, const char** text) {
  *text = error == OUT_OF_MEMORY ? "out of memory" : error == NO_DEVICE ? "no CUDA-capable device is detected" : "an emulated error";
  return OK;
}
API Result cuDeviceGetCount(int* count) { return *count = (int)setting("EMULATED_GPUS", 1), OK; }
API Result cuDeviceGet(int* device, int ordinal) { return *device = ordinal, OK; }
API Result cuDeviceGetName(char* name, int length, int device) {
  return snprintf(name, length, device ? "Emulated GPU %d" : "Emulated GPU", device), OK;
}
API Result cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 75: *value = 8; return OK;                                // compute capability, major
    case 76: *value = 7; return OK;                                // minor
    case 18: *value = (int)setting("EMULATED_INTEGRATED", 0); return OK;
    case 115: *value = (int)setting("EMULATED_POOLS", 1); return OK;
  }
  return INVALID_VALUE;
}
API Result cuDevicePrimaryCtxRetain(void** context, int) {
  ENTER;
  return *context = (void*)0x1000, OK;
}
API Result cuDevicePrimaryCtxRelease_v2(int) {
  ENTER;
  return OK;
}
API Result cuCtxSetCurrent(void*) { return context_is_current(true), OK; }

API Result cuMemAlloc_v2(Pointer* address, size_t size) {
  ENTER;
  if ((long)size > setting("EMULATED_BYTES", 1L << 30)) return OUT_OF_MEMORY;
  return *address = give(size, false), OK;
}
API Result cuMemAllocAsync(Pointer* address, size_t size, Stream*) {
  ENTER;
  if ((long)size > setting("EMULATED_BYTES", 1L << 30)) return OUT_OF_MEMORY;
  return *address = give(size, false), OK;
}
API Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  *total = 1L << 40;
  *free = *total - emulated_live_bytes();
  return OK;
}
API Result cuMemFree_v2(Pointer address) {
  ENTER;
  return take(address);
}
API Result cuMemFreeAsync(Pointer address, Stream* stream) {
  ENTER;
  if (!inside(address, 1, false)) return INVALID_VALUE;
  return put(stream, [=] { take(address); });
}
API Result cuMemHostAlloc(void** address, size_t size, unsigned) {
  ENTER;
  return *address = (void*)give(size, true), OK;
}
API Result cuMemHostGetDevicePointer_v2(Pointer* address, void* host, unsigned) {
  return *address = (Pointer)host, OK;
}
API Result cuMemFreeHost(void* address) {
  ENTER;
  return take((Pointer)address);
}
API Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t size, Stream* stream) {
  ENTER;
  if (!inside(to, size, false)) return INVALID_VALUE;
  return put(stream, [=] { memcpy((void*)to, from, size); });
}
API Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t size, Stream* stream) {
  ENTER;
  if (!inside(from, size, false)) return INVALID_VALUE;
  return put(stream, [=] { memcpy(to, (void*)from, size); });
}
API Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, Stream* stream) {
  ENTER;
  if (!inside(to, size, false) || !inside(from, size, false)) return INVALID_VALUE;
  return put(stream, [=] { memcpy((void*)to, (void*)from, size); });
}

API Result cuStreamCreate(Stream** stream, unsigned) {
  ENTER;
  return *stream = new Stream, OK;
}
API Result cuStreamDestroy_v2(Stream*) {
  ENTER;
  return OK;  // kept: events may still name it
}
API Result cuStreamSynchronize(Stream* stream) {
  ENTER;
  if (stream->recording) return CAPTURE;
  stream->run_to(stream->put);
  return OK;
}
API Result cuEventCreate(Event** event, unsigned) {
  ENTER;
  return *event = new Event, OK;
}
API Result cuEventRecord(Event* event, Stream* stream) {
  ENTER;
  if (stream->recording) return CAPTURE;
  event->stream = stream;
  event->place = stream->put;
  return OK;
}
API Result cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
  ENTER;
  Event then = *event;
  return put(stream, [=] { then.stream->run_to(then.place); });
}
API Result cuEventDestroy_v2(Event*) { return OK; }

struct Kernel {
  const char* name;
  void (*run)(void** arguments);
  std::vector<size_t> sizes;
};
#define A(type, n) (*(type*)arguments[n])
static void run_patch(void** arguments) {
  uda_patch(A(uda_u8*, 0), A(const UdaPage*, 1), A(const uda_u16*, 2), A(const uda_u8*, 3),
            A(uda_u8*, 4), A(uda_u32, 5));
}
static void run_undo(void** arguments) {
  uda_undo(A(uda_u8*, 0), A(const UdaPage*, 1), A(const uda_u16*, 2), A(const uda_u8*, 3),
           A(uda_u32, 4));
}
static void run_resize(void** arguments) {
  uda_resize(A(const uda_u8*, 0), A(uda_u8*, 1), A(const int*, 2), A(const int*, 3), A(uda_u32, 4),
             A(uda_u32, 5), A(uda_u32, 6), A(uda_u32, 7), A(uda_u32, 8));
}
static Kernel kernels[] = {{"uda_patch", run_patch, {8, 8, 8, 8, 8, 4}},
                           {"uda_undo", run_undo, {8, 8, 8, 8, 4}},
                           {"uda_resize", run_resize, {8, 8, 8, 8, 4, 4, 4, 4, 4}}};

API Result cuModuleLoadData(void** module, const void* image) {
  ENTER;
  if (memcmp(image, "\x7f" "ELF", 4)) return INVALID_VALUE;
  return *module = (void*)0x2000, OK;
}
API Result cuModuleUnload(void*) {
  ENTER;
  return OK;
}
API Result cuModuleGetFunction(Kernel** function, void*, const char* name) {
  ENTER;
  for (Kernel& kernel : kernels)
    if (!strcmp(kernel.name, name)) return *function = &kernel, OK;
  return NOT_FOUND;
}
API Result cuLaunchKernel(Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                          unsigned by, unsigned bz, unsigned, Stream* stream, void** given, void**) {
  ENTER;
  if (!gx || !bx || gy * gz * by * bz != 1 || bx > 1024) return INVALID_VALUE;
  if (fail_launches_after == 0) return LAUNCH_FAILED;
  if (fail_launches_after > 0) --fail_launches_after;
  // Arguments are copied when a kernel is launched, not when it runs.
  std::vector<std::vector<char>> copies;
  for (size_t i = 0; i < kernel->sizes.size(); ++i)
    copies.emplace_back((char*)given[i], (char*)given[i] + kernel->sizes[i]);
  return put(stream, [=]() mutable {
    std::vector<void*> arguments;
    for (auto& copy : copies) arguments.push_back(copy.data());
    gridDim = {gx, 1, 1}, blockDim = {bx, 1, 1};
    for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x)
      for (threadIdx.x = 0; threadIdx.x < bx; ++threadIdx.x) kernel->run(arguments.data());
  });
}

API Result cuStreamBeginCapture_v2(Stream* stream, int) {
  ENTER;
  return stream->recording = new std::vector<Work>, OK;
}
API Result cuStreamEndCapture(Stream* stream, std::vector<Work>** graph) {
  ENTER;
  *graph = stream->recording;
  stream->recording = nullptr;
  return OK;
}
API Result cuGraphInstantiateWithFlags(std::vector<Work>** executable, std::vector<Work>* graph,
                                       unsigned long long) {
  ENTER;
  return *executable = new std::vector<Work>(*graph), OK;
}
API Result cuGraphLaunch(std::vector<Work>* graph, Stream* stream) {
  ENTER;
  for (const Work& work : *graph) put(stream, work);
  return OK;
}
API Result cuGraphDestroy(std::vector<Work>* graph) {
  ENTER;
  delete graph;
  return OK;
}
API Result cuGraphExecDestroy(std::vector<Work>*) {
  ENTER;
  return OK;
}

#include <dlfcn.h>
API Result cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  std::string exported(name);
  static const char* const second[] = {"cuDevicePrimaryCtxRelease", "cuMemAlloc", "cuMemFree",
      "cuMemGetInfo", "cuMemHostGetDevicePointer", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync",
      "cuStreamDestroy", "cuEventDestroy", "cuStreamBeginCapture"};
  for (const char* each : second)
    if (exported == each) exported += "_v2";
  if (exported == "cuGraphInstantiate") exported = "cuGraphInstantiateWithFlags";
  static void* const self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  *function = dlsym(self, exported.c_str());
  if (status) *status = *function ? 0 : 1;
  if (!*function) return NOT_FOUND;
  return OK;
}
