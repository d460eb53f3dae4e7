// One pass of Pillow's antialiased resize, in its own integer arithmetic: bit for bit the same.
#include "pages.h"

#define UDA_BITS 22  // fractional bits of Pillow's weights

// Return a sum of pixels and weights as a pixel.
UDA_INLINE uda_u8 uda_pixel(int sum) {
  const int value = sum >> UDA_BITS;
  return (uda_u8)(value < 0 ? 0 : value > 255 ? 255 : value);
}

// (outer, length, inner) -> (outer, count, inner). Rows are a pass with inner 3, columns one with
// outer 1 and the values of a row as inner.
//   first    (count,) first input of each output
//   weights  (count, taps) of its inputs, 0 beyond its own
extern "C" __global__ void uda_resize(const uda_u8* __restrict__ source, uda_u8* out,
                                      const int* __restrict__ first,
                                      const int* __restrict__ weights, uda_u32 outer,
                                      uda_u32 length, uda_u32 count, uda_u32 taps,
                                      uda_u32 inner) {
  const uda_u64 total = (uda_u64)outer * count * inner;
  const uda_u64 at = (uda_u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= total) {
    return;
  }
  const uda_u32 value = (uda_u32)(at % inner);
  const uda_u32 output = (uda_u32)(at / inner % count);
  const uda_u64 row = at / inner / count;
  const uda_u32 start = (uda_u32)first[output];
  const uda_u32 there = length - start < taps ? length - start : taps;
  const uda_u8* pixel = source + (row * length + start) * inner + value;
  const int* weight = weights + (uda_u64)output * taps;
  int sum = 1 << (UDA_BITS - 1);
  for (uda_u32 tap = 0; tap < there; ++tap) {
    sum += *pixel * weight[tap];
    pixel += inner;
  }
  out[at] = uda_pixel(sum);
}
