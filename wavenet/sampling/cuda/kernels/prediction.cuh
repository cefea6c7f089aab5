// The linear predictor: wavenet/linear_predictor.py defines it.
//
// Samples and coefficients are integers, in units of 2^-15 and 2^-20, so sums of their products are
// exact and may be in any order. Of the last samples of a stream each thread of its group has those
// whose numbers leave the same rest when divided by four, in memory of its own.
#pragma once
#include "draw.cuh"

constexpr int HALF_LEVELS = 32768;  // of 16-bit samples

// Coefficients of a launch, and the state of a warp's streams; all pointers are those of a lane.
struct Predictor {
  const int* coefficients;  // of its first stream: (parts, order, streams), oldest sample first
  const float* scales;      // of the residual, of its first stream: (parts, streams)
  const int* part_of_sample;
  int* samples;      // the last ones, (order / 4, warps, 32, 2): a ring
  float* predicted;  // (2, warps, 32, 2): the last prediction, the last scale
  int order;         // a multiple of four; coefficients of the oldest samples may be zero
  long long streams, first_place;  // of the launch's first sample, in the ring
};

// The code of a value in [-1, 1]; values outside get the outermost ones.
DEVICE int code_of(float value) {
  return (int)fminf(fmaxf(rintf(value * 32768.0f), -32768.0f), 32767.0f) + HALF_LEVELS;
}

// Takes the last samples, `signals[0]`, and predicts the next one of both streams: puts the codes
// of the predictions into `signals[1]` and of the last residuals into `signals[2]`.
DEVICE void predict(const Predictor& own, int (*signals)[2], int t, int number) {
  const long long row_size = 4 * own.streams;
  const int newest = (int)((own.first_place + t) % own.order), part = own.part_of_sample[t];
  if (newest % 4 == number)
    for (int half = 0; half < 2; half++)
      own.samples[newest / 4 * row_size + half] = signals[0][half] - HALF_LEVELS;
  const int* coefficients = own.coefficients + (long long)part * own.order * own.streams;
  long long sums[2] = {0, 0};
#pragma unroll 2
  for (int row = 0; row < own.order / 4; row++) {
    int age = newest - (4 * row + number);
    age += age < 0 ? own.order : 0;
    const int* factors = coefficients + (own.order - 1 - age) * own.streams;
    const int* samples = own.samples + row * row_size;
    sums[0] += (long long)factors[0] * samples[0];
    sums[1] += (long long)factors[1] * samples[1];
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float* predicted = own.predicted + half;
    const float sample = (float)(signals[0][half] - HALF_LEVELS) * 0x1p-15f;
    const float residual = (sample - predicted[0]) / (predicted[row_size] * 8.0f);
    const float prediction = (float)((double)quad_sum(sums[half]) * 0x1p-35);
    predicted[0] = prediction;
    predicted[row_size] = own.scales[part * own.streams + half];
    signals[1][half] = code_of(prediction);
    signals[2][half] = code_of(residual);
  }
}
