// A switch: `uda_undo` with what the old patch replaced, then `uda_patch` with the new one's values.
//
// One block per page. Values move as bit patterns, so what they mean does not matter.
#include "pages.h"

template <typename Element>
__device__ static inline void patch_page(uda_u8* arena, const UdaPage& page,
                                         const uda_u16* __restrict__ lows,
                                         const uda_u8* __restrict__ values, uda_u8* undo,
                                         uda_u32 wide) {
  for (uda_u32 i = threadIdx.x; i < page.count; i += blockDim.x) {
    const uda_u32 entry = page.first + i;
    Element* const place = (Element*)(arena + uda_target(page, lows[entry], sizeof(Element)));
    const uda_u64 at = uda_value(entry, wide);
    // Both are read before either is written: what is written might be what is read, for all that
    // the compiler knows.
    const Element value = *(const Element*)(values + at);
    const Element former = *place;
    *(Element*)(undo + at) = former;
    *place = value;
  }
}

template <typename Element>
__device__ static inline void undo_page(uda_u8* arena, const UdaPage& page,
                                        const uda_u16* __restrict__ lows,
                                        const uda_u8* __restrict__ undo, uda_u32 wide) {
  for (uda_u32 i = threadIdx.x; i < page.count; i += blockDim.x) {
    const uda_u32 entry = page.first + i;
    Element* const place = (Element*)(arena + uda_target(page, lows[entry], sizeof(Element)));
    *place = *(const Element*)(undo + uda_value(entry, wide));
  }
}

// Write a patch's values over the bare base, and keep what they replace in `undo`.
extern "C" __global__ void uda_patch(uda_u8* arena, const UdaPage* __restrict__ pages,
                                     const uda_u16* __restrict__ lows,
                                     const uda_u8* __restrict__ values, uda_u8* undo,
                                     uda_u32 wide) {
  const UdaPage page = pages[blockIdx.x];
  if (page.first < wide) {
    patch_page<uda_u32>(arena, page, lows, values, undo, wide);
  } else {
    patch_page<uda_u16>(arena, page, lows, values, undo, wide);
  }
}

// Make the weights the bare base again.
extern "C" __global__ void uda_undo(uda_u8* arena, const UdaPage* __restrict__ pages,
                                    const uda_u16* __restrict__ lows,
                                    const uda_u8* __restrict__ undo, uda_u32 wide) {
  const UdaPage page = pages[blockIdx.x];
  if (page.first < wide) {
    undo_page<uda_u32>(arena, page, lows, undo, wide);
  } else {
    undo_page<uda_u16>(arena, page, lows, undo, wide);
  }
}
