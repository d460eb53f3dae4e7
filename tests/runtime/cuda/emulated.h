// What stands behind the emulated driver: contexts, memory, streams, and what a GPU would refuse.
//
// Nothing happens when it is put onto a stream, but only when somebody waits for it. So whatever
// relies on an order that no stream or event guarantees fails here every time. Memory that is freed
// is filled with 0xdd and never given again, so whatever is used after that shows as well. What a
// GPU finds out while it works (an address out of bounds) makes its context useless, as there: from
// then on every call fails.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cuda_shim.h"
#include "resize.cu"
#include "scatter.cu"

typedef int Result;
typedef unsigned long long Pointer;
enum {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  NO_CONTEXT = 201,
  INVALID_HANDLE = 400,
  ILLEGAL_STATE = 401,
  NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700,
  CONTEXT_IS_DESTROYED = 709,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNSAFE = 906,
  CAPTURE_WRONG_THREAD = 908,
};

static std::recursive_mutex lock;
static std::map<std::string, long> counts;

struct Context {
  int users = 0;       // who retained it
  int generation = 0;  // how often it was destroyed: what it had then is no more
  Result broken = OK;
  bool alive() const { return users > 0; }
};
static Context contexts[8];
static thread_local Context* current = nullptr;

struct Owned {
  Context* context = current;
  int generation = current ? current->generation : 0;
  bool alive = true;
  bool usable() const {
    return alive && context && context->alive() && context->generation == generation;
  }
};

struct Block : Owned {
  size_t size;
  bool host, free = false, ready;
  Block(size_t size, bool host, bool ready) : size(size), host(host), ready(ready) {}
};
static std::map<Pointer, Block> memory;

static Block* block_of(Pointer address) {
  auto found = memory.upper_bound(address);
  if (found == memory.begin()) return nullptr;
  --found;
  return address < found->first + found->second.size ? &found->second : nullptr;
}

// Whether memory is there for the device: all of it, of one allocation.
static bool inside(Pointer address, size_t size) {
  Block* block = block_of(address);
  return block && !block->free && block->usable() && block_of(address + size - 1) == block;
}

static Pointer give(size_t size, bool host, bool ready = true) {
  void* place = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(place, 0xcd, size);
  memory.emplace((Pointer)place, Block(size, host, ready));
  return (Pointer)place;
}

static Result take(Pointer address) {
  auto found = memory.find(address);
  if (found == memory.end() || found->second.free) return INVALID_VALUE;
  found->second.free = true;
  memset((void*)address, 0xdd, found->second.size);
  return OK;
}

using Work = std::function<Result()>;

struct Stream : Owned {
  std::deque<Work> waiting;
  uint64_t put = 0, done = 0;
  std::vector<Work>* recording = nullptr;
  std::thread::id recorder;
  bool spoilt = false;

  void run_to(uint64_t place) {
    while (done < place && !waiting.empty()) {
      Work work = std::move(waiting.front());
      waiting.pop_front();
      ++done;
      if (context->broken) continue;
      if (Result found = work()) context->broken = found;
    }
  }
  Result spoil(Result found = CAPTURE_UNSUPPORTED) {
    spoilt = true;
    return found;
  }
};
static thread_local Stream* capturing = nullptr;
static Stream* everywhere = nullptr;        // what is recorded in mode GLOBAL, for all threads
static thread_local bool aside = false;     // whether this thread ignores that

struct Event : Owned {
  Stream* stream = nullptr;
  uint64_t place = 0;
  double seconds = 0;
};
struct Graph : Owned {
  std::vector<Work> work;
};

// Whether the calling thread may call the driver at all.
static Result entered() {
  if (!current) return NO_CONTEXT;
  if (!current->alive()) return CONTEXT_IS_DESTROYED;
  return current->broken;
}

static Result put(Stream* stream, Work work) {
  if (!stream->usable() || stream->context != current) return INVALID_HANDLE;
  if (stream->recording) {
    stream->recording->push_back(std::move(work));
  } else {
    stream->waiting.push_back(std::move(work));
    ++stream->put;
  }
  return OK;
}

// What the device finds when it gets to memory that work names.
static Result reach(const void* place, size_t size, size_t alignment = 1) {
  if ((Pointer)place % alignment) return MISALIGNED_ADDRESS;
  if (!inside((Pointer)place, size) || !block_of((Pointer)place)->ready) return ILLEGAL_ADDRESS;
  return OK;
}

// The host's side of a copy: any memory of the process, but none that was page-locked and let go.
static Result reach_host(const void* place) {
  Block* block = block_of((Pointer)place);
  return block && block->free ? ILLEGAL_ADDRESS : OK;
}

#define CHECK(call) \
  if (Result found_ = (call)) return found_
#define A(type, n) (*(type*)arguments[n])

static Result check_scatter(void** arguments, unsigned blocks, bool patch) {
  const auto arena = A(uda_u8*, 0);
  const auto pages = A(const UdaPage*, 1);
  const auto lows = A(const uda_u16*, 2);
  const auto values = patch ? A(const uda_u8*, 3) : nullptr, undo = A(const uda_u8*, patch ? 4 : 3);
  const uda_u32 wide = A(uda_u32, patch ? 5 : 4);
  CHECK(reach(arena, 1, 256));
  CHECK(reach(pages, blocks * sizeof(UdaPage), 8));
  for (const UdaPage* page = pages; page < pages + blocks; ++page) {
    const uda_u32 width = page->first < wide ? 4 : 2;
    const uda_u64 start = uda_value(page->first, wide);
    CHECK(reach(lows + page->first, 2 * page->count, 2));
    CHECK(reach(undo + start, page->count * width, width));
    if (patch) CHECK(reach(values + start, page->count * width, width));
    for (uda_u32 i = 0; i < page->count; ++i) {
      const uda_u8* place = arena + uda_target(*page, lows[page->first + i], width);
      CHECK(reach(place, width, width));
      if (block_of((Pointer)place) != block_of((Pointer)arena)) return ILLEGAL_ADDRESS;
    }
  }
  return OK;
}

static Result run_patch(void** arguments, unsigned blocks, bool first) {
  if (first) return check_scatter(arguments, blocks, true);
  uda_patch(A(uda_u8*, 0), A(const UdaPage*, 1), A(const uda_u16*, 2), A(const uda_u8*, 3),
            A(uda_u8*, 4), A(uda_u32, 5));
  return OK;
}

static Result run_undo(void** arguments, unsigned blocks, bool first) {
  if (first) return check_scatter(arguments, blocks, false);
  uda_undo(A(uda_u8*, 0), A(const UdaPage*, 1), A(const uda_u16*, 2), A(const uda_u8*, 3),
           A(uda_u32, 4));
  return OK;
}

static Result run_resize(void** arguments, unsigned, bool first) {
  const auto source = A(const uda_u8*, 0);
  const auto firsts = A(const int*, 2), weights = A(const int*, 3);
  const size_t outer = A(uda_u32, 4), length = A(uda_u32, 5), count = A(uda_u32, 6);
  const size_t taps = A(uda_u32, 7), inner = A(uda_u32, 8);
  if (first) {
    CHECK(reach(source, outer * length * inner));
    CHECK(reach(A(uda_u8*, 1), outer * count * inner));
    CHECK(reach(firsts, 4 * count, 4));
    CHECK(reach(weights, 4 * count * taps, 4));
    for (size_t i = 0; i < count; ++i)
      if (firsts[i] < 0 || (size_t)firsts[i] >= length) return ILLEGAL_ADDRESS;
    return OK;
  }
  uda_resize(source, A(uda_u8*, 1), firsts, weights, outer, length, count, taps, inner);
  return OK;
}

struct Kernel {
  const char* name;
  Result (*run)(void** arguments, unsigned blocks, bool first);  // the first call only checks
  std::vector<size_t> sizes;
};
static Kernel kernels[] = {{"uda_patch", run_patch, {8, 8, 8, 8, 8, 4}},
                           {"uda_undo", run_undo, {8, 8, 8, 8, 4}},
                           {"uda_resize", run_resize, {8, 8, 8, 8, 4, 4, 4, 4, 4}}};
struct Module : Owned {};
struct Function {
  Kernel* kernel;
  Module* module;
};
