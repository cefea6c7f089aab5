// What kernels ask of a GPU, asked of the stand-in: wavenet/kernels/cuda/machine.cuh.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#define DEVICE inline
#define FUNCTION inline
#define KERNEL(threads) extern "C" void

typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(16) Four {
  u32 x, y, z, w;
};

extern "C" {  // stand_in.cpp
int stand_in_thread();
long long stand_in_block();
void* stand_in_shared_memory();
void stand_in_sync_warp();
void stand_in_sync_block();
void stand_in_of_quad(void* value, int bytes, int from);
void stand_in_mma(float* sums, const u32* a, u32 b0, u32 b1, int is_tf32);
}

using std::min;

DEVICE int thread_number() { return stand_in_thread(); }
DEVICE long long block_number() { return stand_in_block(); }
DEVICE void sync_warp() { stand_in_sync_warp(); }
DEVICE void sync_block() { stand_in_sync_block(); }
DEVICE Four* shared_memory() { return (Four*)stand_in_shared_memory(); }
DEVICE Four weight(const Four* address) { return *address; }

template <class T>
DEVICE T of_quad(T value, int from) {
  stand_in_of_quad(&value, sizeof value, from);
  return value;
}

DEVICE u32 bits_of(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  return bits;
}
DEVICE float float_of(u32 bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
DEVICE float infinity() { return float_of(0x7f800000u); }
DEVICE u64 high_product(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
DEVICE float divided(float a, float b) { return a / b; }
DEVICE float rough_exp(float x) { return std::exp(x); }

DEVICE u32 bf16(float x) {
  const u32 bits = bits_of(x);
  return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
DEVICE u32 two_bf16(float low, float high) { return bf16(low) | bf16(high) << 16; }
DEVICE u32 half(float x) {
  const u32 bits = bits_of(x), sign = bits >> 16 & 0x8000;
  const float size = std::fabs(x);
  if (x != x) return 0x7fff;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 0x1p-14f) return sign | (u32)std::nearbyint(size * 0x1p24f);
  return sign | ((bits & 0x7fffffff) - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
}
DEVICE u32 two_half(float low, float high) { return half(low) | half(high) << 16; }
DEVICE float of_half(u32 bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  const float size = exponent == 0    ? std::ldexp((float)fraction, -24)
                     : exponent == 31 ? (fraction ? NAN : infinity())
                                      : std::ldexp((float)(1024 + fraction), exponent - 25);
  return bits & 0x8000 ? -size : size;
}
DEVICE u32 tf32(float x) { return x != x ? bits_of(x) : (bits_of(x) + 0x1000) & ~0x1fffu; }

DEVICE void mma_bf16(float* sums, const u32* a, u32 b0, u32 b1) {
  stand_in_mma(sums, a, b0, b1, 0);
}
DEVICE void mma_tf32(float* sums, const u32* a, u32 b0, u32 b1) {
  stand_in_mma(sums, a, b0, b1, 1);
}
