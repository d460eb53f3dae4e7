// What a kernel's source needs to be plain C++: threads of a grid are turns of a loop.
#pragma once

#define __global__
#define __device__

struct Dim3 {
  unsigned int x, y, z;
};

inline thread_local Dim3 blockIdx, threadIdx, blockDim, gridDim;
