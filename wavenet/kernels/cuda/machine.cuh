// What kernels ask of a GPU. tests/gpu/stand_in has the same names for a machine without one.
#pragma once

#define DEVICE __device__ __forceinline__
#define FUNCTION __device__ __noinline__  // one copy, whoever calls it
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)

typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(16) Four {  // what one load or store of a thread moves
  u32 x, y, z, w;
};

DEVICE int thread_number() { return threadIdx.x; }
DEVICE long long block_number() { return blockIdx.x; }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE void sync_block() { __syncthreads(); }

DEVICE Four* shared_memory() {
  extern __shared__ Four memory[];
  return memory;
}

// Weights are read only, so that they may pass through the read-only path.
DEVICE Four weight(const Four* address) {
  Four four;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(four.x), "=r"(four.y), "=r"(four.z), "=r"(four.w)
      : "l"(address));
  return four;
}

// The value of lane `from` of the same four, which alone need be here.
template <class T>
DEVICE T of_quad(T value, int from) {
  return __shfl_sync(0xfu << (threadIdx.x & 28), value, from, 4);
}

DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
DEVICE float infinity() { return float_of(0x7f800000u); }
DEVICE u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
DEVICE float divided(float a, float b) { return __fdividef(a, b); }
DEVICE float rough_exp(float x) { return __expf(x); }  // 2 ulp and |x| 2^-23

DEVICE u32 two_bf16(float low, float high) {
  u32 two;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
  return two;
}

DEVICE u32 two_half(float low, float high) {
  u32 two;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
  return two;
}

DEVICE float of_half(u32 bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((unsigned short)bits));
  return x;
}

DEVICE u32 tf32(float x) {
  u32 rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
}

// sums (16 x 8) += a (16 x 16) b (16 x 8), in bfloat16.
DEVICE void mma_bf16(float* sums, const u32* a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// sums (16 x 8) += a (16 x 8) b (8 x 8), in TF32.
DEVICE void mma_tf32(float* sums, const u32* a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
