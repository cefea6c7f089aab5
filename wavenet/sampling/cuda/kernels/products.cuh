// Matrix products of a warp: 16 streams times a weight matrix, on tensor cores.
//
// A thread `lane` belongs to group `lane / 4` of `lane % 4`: of every eight columns it has columns
// 2 (lane % 4) and the next one, of streams 2 (lane / 4) and the next one. That is what the PTX
// manual calls the fragment of C, with rows g and g + 8 taken for neighboring streams. What a
// product puts out is what the next one takes in, in the same thread: sums over k may be in any
// order, so the columns of a TF32 operand are permuted to those that the thread has.
//
// `tile`: 16 streams x 8 columns, four numbers of a thread. `slot`: 16 columns in the form of an
// operand, UNITS Fours of a thread, 32 Fours apart. Weights: for each pair of tiles (16 columns)
// and each slot of inputs UNITS Fours of a thread, 32 apart.
#pragma once
#include "machine.cuh"

#ifdef BFLOAT16

constexpr int UNITS = 1;

struct Operand {
  u32 a[4];
};

DEVICE Operand operand(const Four* slot) {
  const Four four = *slot;
  return {{four.x, four.y, four.z, four.w}};
}

DEVICE void put_slot(Four* slot, const float* left, const float* right) {
  *slot = {two_bf16(left[0], left[1]), two_bf16(left[2], left[3]), two_bf16(right[0], right[1]),
           two_bf16(right[2], right[3])};
}

DEVICE void multiply_pair(float (*sums)[4], const Operand& x, const Four* w) {
  mma_bf16(sums[0], x.a, w->x, w->y);
  mma_bf16(sums[1], x.a, w->z, w->w);
}

#else  // float32, as three products in TF32: of the leading parts, and of each with the other's rest

constexpr int UNITS = 2;

struct Operand {
  u32 leading[2][4], rest[2][4];
};

DEVICE void split(u32& leading, u32& rest, u32 bits) {
  leading = tf32(float_of(bits));
  rest = tf32(float_of(bits) - float_of(leading));
}

DEVICE Operand operand(const Four* slot) {
  Operand x;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const Four tile = slot[half * 32];
    split(x.leading[half][0], x.rest[half][0], tile.x);
    split(x.leading[half][1], x.rest[half][1], tile.z);
    split(x.leading[half][2], x.rest[half][2], tile.y);
    split(x.leading[half][3], x.rest[half][3], tile.w);
  }
  return x;
}

DEVICE void put_slot(Four* slot, const float* left, const float* right) {
  slot[0] = {bits_of(left[0]), bits_of(left[1]), bits_of(left[2]), bits_of(left[3])};
  slot[32] = {bits_of(right[0]), bits_of(right[1]), bits_of(right[2]), bits_of(right[3])};
}

// Tensor cores round their sums toward zero: each slot's is begun anew and added by an addition
// that rounds to nearest, or errors of one sign would pile up over a thousand slots.
DEVICE void multiply_tile(float* sums, const Operand& x, Four w) {
  u32 leading[4], rest[4];
  split(leading[0], rest[0], w.x);
  split(leading[1], rest[1], w.y);
  split(leading[2], rest[2], w.z);
  split(leading[3], rest[3], w.w);
  float own[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    mma_tf32(own, x.rest[half], leading[2 * half], leading[2 * half + 1]);
    mma_tf32(own, x.leading[half], rest[2 * half], rest[2 * half + 1]);
  }
#pragma unroll
  for (int half = 0; half < 2; half++)
    mma_tf32(own, x.leading[half], leading[2 * half], leading[2 * half + 1]);
#pragma unroll
  for (int e = 0; e < 4; e++) sums[e] += own[e];
}

DEVICE void multiply_pair(float (*sums)[4], const Operand& x, const Four* w) {
  multiply_tile(sums[0], x, w[0]);
  multiply_tile(sums[1], x, w[1]);
}

#endif

// Weights of all columns: of each pair of tiles, of each slot of inputs.
struct Matrix {
  const Four* weights;  // of this lane
  int slots;            // of inputs

  DEVICE const Four* at(int pair, int slot) const {
    return weights + ((long long)pair * slots + slot) * (UNITS * 32);
  }
};

DEVICE Matrix matrix(const Four* weights, long long number, int pairs, int slots, int lane) {
  return {weights + number * pairs * slots * (UNITS * 32) + lane, slots};
}

// sums += x w for PAIRS pairs of tiles from `pair` on, and `count` slots: those of `x` (of this
// lane) times those of the matrix from `slot` on. Weights are loaded one slot ahead.
template <int PAIRS>
DEVICE void multiply(float (*sums)[4], const Four* x, int count, const Matrix& w, int pair,
                     int slot) {
  if (count == 0) return;
  const Four* weights = w.at(pair, slot);
  const long long stride = (long long)w.slots * (UNITS * 32);
  Four now[PAIRS * UNITS], next[PAIRS * UNITS];
#pragma unroll
  for (int i = 0; i < PAIRS * UNITS; i++)
    now[i] = weight(weights + i / UNITS * stride + i % UNITS * 32);
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    weights += step + 1 < count ? UNITS * 32 : 0;
#pragma unroll
    for (int i = 0; i < PAIRS * UNITS; i++)
      next[i] = weight(weights + i / UNITS * stride + i % UNITS * 32);
    const Operand seen = operand(x + step * (UNITS * 32));
#pragma unroll
    for (int p = 0; p < PAIRS; p++) multiply_pair(sums + 2 * p, seen, now + p * UNITS);
#pragma unroll
    for (int i = 0; i < PAIRS * UNITS; i++) now[i] = next[i];
  }
}

template <int PAIRS>
struct Group {
  static constexpr int pairs = PAIRS;
};

// Calls `body(Group, first pair)` for all pairs of tiles, as many at a time as pays.
template <class Body>
DEVICE void in_groups(int pairs, Body body) {
  int first = 0;
  for (; first + 4 <= pairs; first += 4) body(Group<4>(), first);
  if (first + 2 <= pairs) {
    body(Group<2>(), first);
    first += 2;
  }
  if (first < pairs) body(Group<1>(), first);
}

// Starts the sums of PAIRS pairs of tiles with a bias per column.
template <int PAIRS>
DEVICE void start(float (*sums)[4], const float* bias, int pair, int lane) {
#pragma unroll
  for (int tile = 0; tile < 2 * PAIRS; tile++) {
    const float* own = bias + (2 * pair + tile) * 8 + lane % 4 * 2;
    sums[tile][0] = sums[tile][2] = own[0];
    sums[tile][1] = sums[tile][3] = own[1];
  }
}
