// tanh(a) sigmoid(b) of rows, of which a is the first half and b the second, and the gradients.
//
// A thread has four columns side by side, or one where rows are not aligned, of every `lanes`-th row
// of its block; `across` threads have what lies side by side in a row. A block sums the gradients of
// its rows in float32, for the bias, in an order that is fixed.
#include "machine.cuh"

constexpr int THREADS = 128, ROWS = 8;  // of a block; of a thread

struct Task {  // gated_activation.py; every field has eight bytes
  const void* y;        // (rows, 2 half)
  const float* bias;    // (2 half), or null
  const void* grad_z;   // (rows, half)
  void* z;              // (rows, half)
  void* grad_y;         // (rows, 2 half)
  float* sums;          // (parts, 2 half)
  long long rows, half, z_stride, grad_z_stride;  // the last two: numbers from row to row
  long long tiles, across;  // blocks, and threads of a block, side by side in a row
};

// Both factors of a gate, the derivative of the first and what the second lacks of 1; the last two
// are no differences of near numbers, so gradients of closed gates keep their digits.
struct Gate {
  float tanh, slope, sigmoid, rest;
};

// decay = e^-2|a|, lost = 1 - decay, other_decay = e^-|b|.
DEVICE Gate gate_of(float a, float b, float decay, float lost, float other_decay) {
  const float inverse = divided(1.0f, 1.0f + decay), near = divided(1.0f, 1.0f + other_decay);
  const float far = other_decay * near;
  return {copysignf(lost * inverse, a), 4.0f * decay * inverse * inverse, b < 0.0f ? far : near,
          b < 0.0f ? near : far};
}

struct Float32 {
  typedef u32 Stored;
  DEVICE static void unpack(u32 word, float* x) { x[0] = float_of(word); }
  DEVICE static u32 pack(const float* x) { return bits_of(x[0]); }
  DEVICE static Gate gate(float a, float b) {
    const float twice = -2.0f * fabsf(a);
    return gate_of(a, b, expf(twice), -expm1f(twice), expf(-fabsf(b)));
  }
};

// What is rounded to 8 or 11 bits needs less; but small numbers keep their digits.
struct Short {
  typedef unsigned short Stored;
  DEVICE static Gate gate(float a, float b) {
    const float size = fabsf(a), decay = rough_exp(-2.0f * size), square = a * a;
    Gate gate = gate_of(a, b, decay, 1.0f - decay, rough_exp(-fabsf(b)));
    if (size < 0.05f) gate.tanh = a + a * square * (-1.0f / 3 + square * (2.0f / 15));
    return gate;
  }
};

struct Bfloat16 : Short {
  DEVICE static void unpack(u32 word, float* x) {
    x[0] = float_of(word << 16), x[1] = float_of(word & 0xffff0000u);
  }
  DEVICE static u32 pack(const float* x) { return two_bf16(x[0], x[1]); }
};

struct Float16 : Short {
  DEVICE static void unpack(u32 word, float* x) {
    x[0] = of_half(word & 0xffffu), x[1] = of_half(word >> 16);
  }
  DEVICE static u32 pack(const float* x) { return two_half(x[0], x[1]); }
};

// Numbers as they are stored: four that one access moves, or one.
template <class Kind, int N>
struct Pack {
  typedef typename Kind::Stored Stored;
  static constexpr int EACH = 4 / sizeof(Stored), WORDS = 4 / EACH;  // numbers of a word
  struct alignas(4 * sizeof(Stored)) Words {
    u32 word[WORDS];
  } words;

  DEVICE void load(const void* from, long long at) {
    words = *(const Words*)((const Stored*)from + at);
  }
  DEVICE void store(void* to, long long at) const { *(Words*)((Stored*)to + at) = words; }
  DEVICE void unpack(float* x) const {
#pragma unroll
    for (int i = 0; i < WORDS; i++) Kind::unpack(words.word[i], x + EACH * i);
  }
  DEVICE void pack(const float* x) {
#pragma unroll
    for (int i = 0; i < WORDS; i++) words.word[i] = Kind::pack(x + EACH * i);
  }
};

template <class Kind>
struct Pack<Kind, 1> {
  typedef typename Kind::Stored Stored;
  Stored one;

  DEVICE void load(const void* from, long long at) { one = ((const Stored*)from)[at]; }
  DEVICE void store(void* to, long long at) const { ((Stored*)to)[at] = one; }
  DEVICE void unpack(float* x) const {
    float two[2];
    Kind::unpack(one, two);
    x[0] = two[0];
  }
  DEVICE void pack(const float* x) {
    const float two[2] = {x[0], 0.0f};
    one = (Stored)Kind::pack(two);
  }
};

// What a thread computes: columns from `column` on, of rows `row`, `row + lanes`, ...
struct Place {
  long long part, row;
  int first_column, column, lane, lanes;
  bool is_used;
};

DEVICE Place place_of(const Task& task, int columns) {
  Place place;
  const int across = (int)task.across, thread = thread_number();
  place.part = block_number() / task.tiles;
  place.lanes = THREADS / across;
  place.lane = thread / across;
  place.row = place.part * (place.lanes * ROWS) + place.lane;
  place.first_column = (int)(block_number() % task.tiles) * across * columns;
  place.column = place.first_column + thread % across * columns;
  place.is_used = place.lane < place.lanes && place.column < task.half;
  return place;
}

template <int N>
DEVICE void load_bias(const Task& task, const Place& place, float* a, float* b) {
  for (int i = 0; i < N; i++) {
    a[i] = task.bias ? task.bias[place.column + i] : 0.0f;
    b[i] = task.bias ? task.bias[task.half + place.column + i] : 0.0f;
  }
}

template <class Kind, int N>
DEVICE void forward(const Task& task) {
  constexpr int AT_ONCE = 4;  // rows that are loaded before they are used
  const Place place = place_of(task, N);
  if (!place.is_used) return;
  float bias_a[N], bias_b[N];
  load_bias<N>(task, place, bias_a, bias_b);
#pragma unroll 1
  for (int group = 0; group < ROWS; group += AT_ONCE) {
    Pack<Kind, N> a[AT_ONCE], b[AT_ONCE];
    const long long first = place.row + group * place.lanes;
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
      const long long row = first + i * place.lanes, at = row * 2 * task.half + place.column;
      if (row < task.rows) a[i].load(task.y, at), b[i].load(task.y, at + task.half);
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
      const long long row = first + i * place.lanes;
      if (row >= task.rows) continue;
      float left[N], right[N], z[N];
      a[i].unpack(left), b[i].unpack(right);
#pragma unroll
      for (int n = 0; n < N; n++) {
        const Gate gate = Kind::gate(left[n] + bias_a[n], right[n] + bias_b[n]);
        z[n] = gate.tanh * gate.sigmoid;
      }
      a[i].pack(z);
      a[i].store(task.z, row * task.z_stride + place.column);
    }
  }
}

template <class Kind, int N>
DEVICE void backward(const Task& task) {
  constexpr int AT_ONCE = 2;
  const Place place = place_of(task, N);
  float sums_a[N] = {}, sums_b[N] = {};
  if (place.is_used) {
    float bias_a[N], bias_b[N];
    load_bias<N>(task, place, bias_a, bias_b);
#pragma unroll 1
    for (int group = 0; group < ROWS; group += AT_ONCE) {
      Pack<Kind, N> a[AT_ONCE], b[AT_ONCE], grad[AT_ONCE];
      const long long first = place.row + group * place.lanes;
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++) {
        const long long row = first + i * place.lanes, at = row * 2 * task.half + place.column;
        if (row >= task.rows) continue;
        a[i].load(task.y, at), b[i].load(task.y, at + task.half);
        grad[i].load(task.grad_z, row * task.grad_z_stride + place.column);
      }
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++) {
        const long long row = first + i * place.lanes, at = row * 2 * task.half + place.column;
        if (row >= task.rows) continue;
        float left[N], right[N], z[N];
        a[i].unpack(left), b[i].unpack(right), grad[i].unpack(z);
#pragma unroll
        for (int n = 0; n < N; n++) {
          const Gate gate = Kind::gate(left[n] + bias_a[n], right[n] + bias_b[n]);
          const float own = z[n];
          z[n] = gate.tanh * gate.sigmoid;
          left[n] = own * gate.sigmoid * gate.slope;
          right[n] = own * z[n] * gate.rest;
          sums_a[n] += left[n], sums_b[n] += right[n];
        }
        a[i].pack(left), b[i].pack(right), grad[i].pack(z);
        a[i].store(task.grad_y, at), b[i].store(task.grad_y, at + task.half);
        grad[i].store(task.z, row * task.z_stride + place.column);
      }
    }
  }
  const int width = (int)task.across * N, thread = thread_number();
  float* sums = (float*)shared_memory();  // (lanes, 2 width)
  if (place.is_used)
    for (int n = 0; n < N; n++) {
      float* own = sums + place.lane * 2 * width + place.column - place.first_column + n;
      own[0] = sums_a[n], own[width] = sums_b[n];
    }
  sync_block();
  for (int i = thread; i < 2 * width; i += THREADS) {
    const int column = place.first_column + i % width;
    if (column >= task.half) continue;
    float total = 0.0f;
    for (int lane = 0; lane < place.lanes; lane++) total += sums[lane * 2 * width + i];
    task.sums[place.part * 2 * task.half + i / width * task.half + column] = total;
  }
}

#define BOTH(name, Kind, N)                                                           \
  KERNEL(THREADS) gate_forward_##name(const Task task) { forward<Kind, N>(task); }    \
  KERNEL(THREADS) gate_backward_##name(const Task task) { backward<Kind, N>(task); }

BOTH(float32, Float32, 4)
BOTH(bfloat16, Bfloat16, 4)
BOTH(float16, Float16, 4)
BOTH(float32_narrow, Float32, 1)
BOTH(bfloat16_narrow, Bfloat16, 1)
BOTH(float16_narrow, Float16, 1)
