// How a patch lies on the device, and where its entries go: plain C++, which any compiler takes.
//
// Entries are sorted: those of the tensors of 4-byte elements first, then those of 2 bytes. Each
// costs 2 bytes beside its value: its place within a page of 65,536 elements of one tensor. A block
// of threads takes a page, so no thread has to know the entries before its own, as it would with
// gaps, and a whole index of 4 bytes is never stored.
#pragma once

typedef unsigned char uda_u8;
typedef unsigned short uda_u16;
typedef unsigned int uda_u32;
typedef unsigned long long uda_u64;

#ifdef __CUDACC__
#define UDA_INLINE __device__ static inline
#else
#define UDA_INLINE static inline
#endif

struct UdaPage {
  uda_u64 start;  // byte of the arena at which the page begins
  uda_u32 first;  // its first entry among those of the whole patch
  uda_u32 count;  // its entries
};

// Byte of the arena at which an entry lies that is `low` elements of `width` bytes into its page.
UDA_INLINE uda_u64 uda_target(const UdaPage& page, uda_u16 low, uda_u32 width) {
  return page.start + (uda_u64)low * width;
}

// Byte at which the value of an entry lies among the values, if `wide` entries are of 4 bytes.
UDA_INLINE uda_u64 uda_value(uda_u32 entry, uda_u32 wide) {
  return entry < wide ? (uda_u64)entry * 4 : (uda_u64)wide * 4 + (uda_u64)(entry - wide) * 2;
}
