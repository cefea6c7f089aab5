// A warp draws 16 streams from end to end, in bfloat16 or in float32.
//
// A thread reads of shared memory, queues and scratch memory what it wrote itself, so threads do not
// wait for each other within a sample. The four threads of a group exchange numbers by shuffles when
// a class is drawn, and read each other's parameters, between two barriers, for a mixture. All
// widths are multiples of 16 and are given at run time: one kernel serves every model of a weight
// dtype. A block is one warp.
//
// Streams are padded to whole warps: what the others compute is never read.
//
// With PREDICTOR the model has a linear predictor, whose numbers are in prediction.cuh.
#include "draw.cuh"
#include "prediction.cuh"
#include "products.cuh"

DEVICE int lane_number() { return thread_number(); }
DEVICE long long warp_number() { return block_number(); }

#ifdef PREDICTOR
constexpr int SIGNALS = 3;  // of the input layer: last sample, prediction, residual of the last
#define SAMPLE_WARPS sample_predicted_warps  // another name: a mix-up is an error
#else
constexpr int SIGNALS = 1;
#define SAMPLE_WARPS sample_warps
#endif

struct Block {
  long long first_row;  // of its queue, in `queues`
  int rows, dilation;   // of the queue; of the convolution
  int row, unused;      // of the first sample
};

struct Task {  // wavenet/sampling/cuda/task.py; every field has eight bytes
  const Four *gates, *residuals, *skips, *hidden, *output;  // weights
  const float* gate_biases;      // (blocks, 2 gated): of each 16 tanh columns, then their sigmoids
  const float* residual_biases;  // (blocks, residual)
  const float* biases;           // of input, skips, hidden, output
  const float* table;            // of the input layer, newest tap first: (taps, rows, residual)
  const int* rows_of_codes;      // row of each code, or null
  const float* values;           // of each code for a scalar input, or null
  const Block* blocks;
  const Four* shared_conditioning;  // (warps, global slots)
  const Four* local_conditioning;   // (length, warps, local slots)
  const u64* seeds;                 // (streams)
  const float* noise;               // (length, streams, uniforms), or null
  const int* forced;                // codes (length, streams), or null where they are drawn
  Four* gated;                      // scratch memory (warps, blocks, gated slots)
  Four* queues;                     // (rows, warps, residual slots)
  int* history;                     // codes (input taps - 1, signals, warps, 32, 2)
  int* last;                        // codes (streams)
  int* codes;                       // (length, streams), or null
  float* params;                    // (length, streams, parameters), or null
  const int *coefficients, *part_of_sample;  // as in `Predictor`, of all streams
  const float* scales;
  int* samples;
  float* predicted;
  long long length, warps, num_blocks, taps, input_taps, input_rows, history_row;
  long long residual, gated_width, skip, head, params_width, local, shared;  // widths
  long long first_uniform, num_uniforms, guided;
  long long top_k, num_params, num_mixtures, is_gaussian;
  long long order, first_place;
  double guidance_scale, temperature, inverse_temperature, top_p, probability_floor;
  double min_log_scale, residual_scale;
};

DEVICE float relu(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays

// tanh(a) sigmoid(g) with one division; above 15, tanh is 1 in float32.
DEVICE float gate(float a, float g) {
  const float e = expf(2.0f * (a > 15.0f ? 15.0f : a));
  return divided(e - 1.0f, (e + 1.0f) * (1.0f + expf(-g)));
}

// Where a warp keeps its activations in shared memory; all pointers are those of this lane.
struct Activations {
  Four* conditioning;  // slots: local, then global
  Four* seen;          // slots of the residual path, next to those
  Four* x;             // its tiles in float32, which are the slots of float32
  Four* z;             // slots of gates
  Four* skips;         // slots; in place of seen, x and z, which are no longer needed
  float* logits;       // of both streams a quarter of the classes; in place of skips
  Four* hidden;        // slots
};

DEVICE Activations activations(const Task& task, int lane) {
  const int width = (int)task.residual, params = (int)task.params_width;
  const int slots = (int)task.skip / 16 * UNITS, classes = params / 8;
  Activations own;
  own.conditioning = shared_memory() + lane;
  own.seen = own.conditioning + (task.local + task.shared) / 16 * UNITS * 32;
  own.x = UNITS == 2 ? own.seen : own.seen + width / 16 * 32;
  own.z = own.x + width / 8 * 32;
  own.skips = own.seen;
  own.logits = (float*)own.seen;
  own.hidden = own.seen + (slots > classes ? slots : classes) * 32;
  return own;
}

DEVICE void put_tiles(const Activations& own, int pair, const float* left, const float* right) {
  Four* x = own.x + pair * 64;
  x[0] = {bits_of(left[0]), bits_of(left[1]), bits_of(left[2]), bits_of(left[3])};
  x[32] = {bits_of(right[0]), bits_of(right[1]), bits_of(right[2]), bits_of(right[3])};
  if (UNITS == 1) put_slot(own.seen + pair * (UNITS * 32), left, right);
}

// The input of the first block: the sum of a row per tap, or of values times weights.
DEVICE void compute_input(const Task& task, const Activations& own, const int (*signals)[2], int t,
                          int lane) {
  const int memory = (int)task.input_taps - 1, width = (int)task.residual;
  const long long streams = task.warps * 32;
  int* history = task.history + (warp_number() * 32 + lane) * 2;
  for (int pair = 0; pair < width / 16; pair++) {
    float tiles[2][4];
    start<1>(tiles, task.biases, pair, lane);
    for (int tap = 0; tap <= memory; tap++) {
#pragma unroll
      for (int signal = 0; signal < SIGNALS; signal++) {
        int codes[2] = {signals[signal][0], signals[signal][1]};
        if (tap > 0) {
          const long long row =
              (task.history_row + t + memory - tap) % memory * SIGNALS + signal;
          codes[0] = history[row * 2 * streams], codes[1] = history[row * 2 * streams + 1];
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
          const int column = (2 * pair + e / 4) * 8 + lane % 4 * 2 + e % 2, code = codes[e / 2 % 2];
          long long row = (tap * SIGNALS + signal) * task.input_rows;
          if (!task.values) row += task.rows_of_codes ? task.rows_of_codes[code] : code;
          const float found = task.table[row * width + column];
          tiles[e / 4][e % 4] += task.values ? task.values[code] * found : found;
        }
      }
    }
    put_tiles(own, pair, tiles[0], tiles[1]);
  }
  if (memory > 0) {
    int* now = history + (task.history_row + t) % memory * SIGNALS * 2 * streams;
#pragma unroll
    for (int signal = 0; signal < SIGNALS; signal++) {
      now[signal * 2 * streams] = signals[signal][0];
      now[signal * 2 * streams + 1] = signals[signal][1];
    }
  }
}

DEVICE void compute_block(const Task& task, const Activations& own, int number, int t, int lane) {
  const Block block = task.blocks[number];
  const int taps = (int)task.taps, width = (int)task.residual / 16, gated = (int)task.gated_width;
  const int conditioning = (int)(task.local + task.shared) / 16;
  const long long row_size = task.warps * width * (UNITS * 32);
  Four* queue = task.queues + block.first_row * row_size + warp_number() * width * (UNITS * 32) +
                lane;
  Four* kept = task.gated +
               (warp_number() * task.num_blocks + number) * (gated / 16) * (UNITS * 32) + lane;
  const Matrix gates =
      matrix(task.gates, number, gated / 8, conditioning + taps * width, lane);
  const float* bias = task.gate_biases + (long long)number * 2 * gated;
  in_groups(gated / 8, [&](auto group, int first) {
    constexpr int PAIRS = decltype(group)::pairs;
    if constexpr (PAIRS > 1) {  // pairs of tanh and sigmoid
      float sums[2 * PAIRS][4];
      start<PAIRS>(sums, bias, first, lane);
      multiply<PAIRS>(sums, own.conditioning, conditioning + width, gates, first, 0);
      for (int tap = 1; tap < taps; tap++) {
        const unsigned back = (unsigned)tap * (unsigned)block.dilation;
        const unsigned row = ((unsigned)block.row + t + block.rows - back) % (unsigned)block.rows;
        multiply<PAIRS>(sums, queue + row * row_size, width, gates, first,
                        conditioning + tap * width);
      }
#pragma unroll
      for (int couple = 0; couple < PAIRS / 2; couple++) {
        float(*tiles)[4] = sums + 4 * couple;
#pragma unroll
        for (int e = 0; e < 8; e++)
          tiles[e / 4][e % 4] = gate(tiles[e / 4][e % 4], tiles[2 + e / 4][e % 4]);
        const int slot = (first / 2 + couple) * (UNITS * 32);
        put_slot(own.z + slot, tiles[0], tiles[1]);
        put_slot(kept + slot, tiles[0], tiles[1]);
      }
    }
  });
  if (taps > 1) {
    Four* now = queue + ((unsigned)block.row + t) % (unsigned)block.rows * row_size;
    for (int i = 0; i < width * UNITS; i++) now[i * 32] = own.seen[i * 32];
  }
  if (number + 1 == task.num_blocks) return;  // nothing reads its residual output
  const Matrix residuals = matrix(task.residuals, number, width, gated / 16, lane);
  in_groups(width, [&](auto group, int first) {
    constexpr int PAIRS = decltype(group)::pairs;
    float sums[2 * PAIRS][4];
    start<PAIRS>(sums, task.residual_biases + number * task.residual, first, lane);
#pragma unroll
    for (int tile = 0; tile < 2 * PAIRS; tile++) {
      const Four x = own.x[(2 * first + tile) * 32];
      const float scale = (float)task.residual_scale;
      sums[tile][0] += float_of(x.x) * scale, sums[tile][1] += float_of(x.y) * scale;
      sums[tile][2] += float_of(x.z) * scale, sums[tile][3] += float_of(x.w) * scale;
    }
    multiply<PAIRS>(sums, own.z, gated / 16, residuals, first, 0);
#pragma unroll
    for (int pair = 0; pair < PAIRS; pair++)
      put_tiles(own, first + pair, sums[2 * pair], sums[2 * pair + 1]);
  });
}

// bias + x w: relu of it in slots `y`, or the numbers themselves to where classes are drawn.
FUNCTION void compute_dense(Four* y, float* logits, int pairs, const Four* x, int slots,
                            const Four* weights, const float* bias, int lane) {
  const Matrix w = matrix(weights, 0, pairs, slots, lane);
  in_groups(pairs, [&](auto group, int first) {
    constexpr int PAIRS = decltype(group)::pairs;
    float sums[2 * PAIRS][4];
    start<PAIRS>(sums, bias, first, lane);
    multiply<PAIRS>(sums, x, slots, w, first, 0);
#pragma unroll
    for (int pair = 0; pair < PAIRS; pair++) {
      float *left = sums[2 * pair], *right = sums[2 * pair + 1];
      if (y) {
#pragma unroll
        for (int e = 0; e < 4; e++) left[e] = relu(left[e]), right[e] = relu(right[e]);
        put_slot(y + (first + pair) * (UNITS * 32), left, right);
      } else {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          float* four = logits + place((half * pairs + first + pair) * 4);
          four[0] = left[2 * half], four[1] = left[2 * half + 1];
          four[2] = right[2 * half], four[3] = right[2 * half + 1];
        }
      }
    }
  });
}

DEVICE void compute_head(const Task& task, const Activations& own, int lane) {
  const int skip = (int)task.skip / 16, head = (int)task.head / 16;
  const long long gated = task.num_blocks * (task.gated_width / 16);
  const Four* z = task.gated + warp_number() * gated * (UNITS * 32) + lane;
  const float* bias = task.biases + task.residual;
  compute_dense(own.skips, nullptr, skip, z, (int)gated, task.skips, bias, lane);
  compute_dense(own.hidden, nullptr, head, own.skips, skip, task.hidden, bias + task.skip, lane);
  compute_dense(nullptr, own.logits, (int)task.params_width / 16, own.hidden, head, task.output,
                bias + task.skip + task.head, lane);
}

DEVICE Predictor predictor(const Task& task, int lane) {
  const long long streams = task.warps * 16, stream = warp_number() * 16 + lane / 4 * 2;
  const long long place = (warp_number() * 32 + lane) * 2;
  return {task.coefficients + stream, task.scales + stream, task.part_of_sample,
          task.samples + place,       task.predicted + place, (int)task.order,
          streams,                    task.first_place};
}

// Turns parameters of scaled residuals into those of the samples: means, then logs of scales.
DEVICE void shift_params(const Task& task, const Predictor& predictor, float* logits, int number) {
  const int each = (int)task.params_width / 4, components = (int)task.num_mixtures;
  for (int half = 0; half < 2; half++) {
    const float prediction = predictor.predicted[half];
    const float scale = predictor.predicted[4 * predictor.streams + half], log_scale = logf(scale);
    for (int i = 0; i < each; i++) {
      const int component = number * each + i - (components > 1 ? components : 0);
      float& param = logits[place(half * each + i)];
      if (component < 0 || component >= 2 * components) continue;
      param = component < components ? prediction + scale * param : param + log_scale;
    }
  }
}

// The codes of both streams, drawn from what `compute_head` left.
DEVICE void draw(const Task& task, const Drawing& how, const Activations& own, int t, int lane,
                 int* codes) {
  const int each = (int)task.params_width / 4, number = lane % 4;
  if (task.guided)  // the second stream is the unconditional one
    for (int i = 0; i < each; i++) {
      float& given = own.logits[place(i)];
      const float free = own.logits[place(each + i)];
      if (given != free) given = free + (float)task.guidance_scale * (given - free);
    }
  if (how.num_mixtures) sync_warp();  // every thread reads the parameters of its whole group
#pragma unroll 1
  for (int half = 0; half < (task.guided ? 1 : 2); half++) {
    const long long stream = warp_number() * 16 + lane / 4 * 2 + half;
    float noise[2];
    for (int i = 0; i < task.num_uniforms; i++)
      noise[i] = task.noise ? task.noise[(t * task.warps * 16 + stream) * task.num_uniforms + i]
                            : uniform(task.seeds[stream],
                                      task.first_uniform + t * task.num_uniforms + i);
    float* params = own.logits + place(half * each);
    codes[half] = how.num_mixtures ? draw_mixture({params - number * 4, each}, noise[0],
                                                  noise[task.num_uniforms - 1], how)
                                   : draw_class(params, each, number, noise[0], how);
  }
  if (task.guided) codes[1] = codes[0];
}

KERNEL(32) SAMPLE_WARPS(Task task) {
  const int lane = lane_number(), stream = lane / 4 * 2, each = (int)task.params_width / 4;
  const long long warp = warp_number(), streams = task.warps * 16;
  const Activations own = activations(task, lane);
  const Drawing how{task.inverse_temperature, task.temperature,        task.top_p,
                    task.probability_floor,   (int)task.top_k,         (int)task.num_params,
                    (int)task.num_mixtures,   task.is_gaussian != 0,   task.min_log_scale};
  const int local = (int)task.local / 16 * UNITS, shared = (int)task.shared / 16 * UNITS;
  for (int i = 0; i < shared; i++)
    own.conditioning[(local + i) * 32] = task.shared_conditioning[(warp * shared + i) * 32 + lane];
  int signals[SIGNALS][2] = {{task.last[warp * 16 + stream], task.last[warp * 16 + stream + 1]}};
  for (int t = 0; t < task.length; t++) {
    for (int i = 0; i < local; i++)
      own.conditioning[i * 32] =
          task.local_conditioning[((t * task.warps + warp) * local + i) * 32 + lane];
    if constexpr (SIGNALS > 1) predict(predictor(task, lane), signals, t, lane % 4);
    compute_input(task, own, signals, t, lane);
    for (int block = 0; block < task.num_blocks; block++) compute_block(task, own, block, t, lane);
    const long long at = t * streams + warp * 16 + stream;
    if (task.params || !task.forced) {
      compute_head(task, own, lane);
      if constexpr (SIGNALS > 1)
        shift_params(task, predictor(task, lane), own.logits, lane % 4);
    }
    if (task.params)
      for (int i = 0; i < 2 * each; i++)
        task.params[(at + i / each) * task.params_width + lane % 4 * each + i % each] =
            own.logits[place(i)];
    if (task.forced) {
      signals[0][0] = task.forced[at], signals[0][1] = task.forced[at + 1];
      continue;
    }
    int codes[2];
    draw(task, how, own, t, lane, codes);
    sync_warp();  // parameters are read no more; products want the warp, which may have parted
    for (int half = 0; half < 2; half++) {
      if (lane % 4 == 0) task.codes[at + half] = codes[half];
      signals[0][half] = codes[half] < 0 ? 0 : codes[half];
    }
  }
}
