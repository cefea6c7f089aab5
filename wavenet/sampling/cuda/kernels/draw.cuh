// How a code is drawn: noise, classes with temperature, top-k, top-p and floor, mixtures.
//
// The four threads of a group share the parameters of a stream: each has a quarter of the classes,
// neighbors, in order.
#pragma once
#include "machine.cuh"

constexpr int NOT_FINITE = -1;  // in place of a code: a parameter is NaN or infinite
constexpr float LARGEST = 3e38f;  // finite; tensor cores may round what overflows toward zero

struct Drawing {
  double inverse_temperature;  // 0 for a temperature of 0
  double temperature;
  double top_p;              // 1 for all classes
  double probability_floor;
  int top_k;                 // 0 for all classes
  int num_params;            // without padding
  int num_mixtures;          // 0 for classes
  bool is_gaussian;
  double min_log_scale;
};

// Uniform `number` of a seed, as `wavenet.sampling.state.uniforms`: Philox 4x64 of ten rounds
// (Salmon et al. 2011), whose counter NumPy increments before it draws.
DEVICE float uniform(u64 seed, u64 number) {
  u64 c0 = number / 4 + 1, c1 = 0, c2 = 0, c3 = 0, k0 = seed, k1 = 0;
#pragma unroll 1
  for (int round = 0; round < 10; round++) {
    const u64 m0 = 0xD2E7470EE14C6C93ull, m1 = 0xCA5A826395121157ull;
    const u64 high0 = high_product(m0, c0), high1 = high_product(m1, c2);
    const u64 next1 = m1 * c2, next3 = m0 * c0;
    c0 = high1 ^ c1 ^ k0;
    c2 = high0 ^ c3 ^ k1;
    c1 = next1;
    c3 = next3;
    k0 += 0x9E3779B97F4A7C15ull;
    k1 += 0xBB67AE8584CAA73Bull;
  }
  const u64 word = number % 4 == 0 ? c0 : number % 4 == 1 ? c1 : number % 4 == 2 ? c2 : c3;
  return (float)(word >> 40) * 5.9604644775390625e-8f;
}

template <class T>
DEVICE T quad_sum(T x) {  // in the same order in all four threads
  return (of_quad(x, 0) + of_quad(x, 1)) + (of_quad(x, 2) + of_quad(x, 3));
}

template <class T>
DEVICE T quad_before(T x, int number) {  // the sum of the threads before
  const T first = of_quad(x, 0), second = of_quad(x, 1), third = of_quad(x, 2);
  T sum = 0;
  if (number > 0) sum += first;
  if (number > 1) sum += second;
  if (number > 2) sum += third;
  return sum;
}

DEVICE int key_of(float logit) {  // integers in the same order as floats
  const int bits = (int)bits_of(logit + 0.0f);  // -0 becomes 0
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

// Where number `i` of a thread lies from its first one on: of 512 bytes each thread has 16.
DEVICE int place(int i) { return i / 4 * 128 + i % 4; }

// The classes of one stream: those of this thread.
struct Classes {
  float* logits;
  int count, number;  // of this thread: its classes, its place among the four
  float peak, factor;
  double floor;

  DEVICE float& logit(int i) const { return logits[place(i)]; }

  DEVICE double weight(int i) const {
    const double full = expf((logit(i) - peak) * factor);
    return full > floor ? full - floor : 0.0;
  }

  DEVICE double total() const {
    double sum = 0.0;
    for (int i = 0; i < count; i++) sum += weight(i);
    return quad_sum(sum);
  }

  DEVICE int num_from(int least) const {
    int sum = 0;
    for (int i = 0; i < count; i++) sum += key_of(logit(i)) >= least;
    return quad_sum(sum);
  }

  DEVICE double weight_from(int least) const {
    double sum = 0.0;
    for (int i = 0; i < count; i++) sum += key_of(logit(i)) >= least ? weight(i) : 0.0;
    return quad_sum(sum);
  }

  // The largest key that `wanted` classes reach, or with 0 classes of a weight of `share`.
  DEVICE int least_key(int wanted, double share) const {
    long long low = -2147483648ll, high = 2147483647ll;
    while (low < high) {
      const long long middle = (low + high + 1) >> 1;
      const bool enough =
          wanted > 0 ? num_from((int)middle) >= wanted : weight_from((int)middle) >= share;
      if (enough) low = middle;
      else high = middle - 1;
    }
    return (int)low;
  }

  // Takes out all classes but those with a larger key than `least`, and the first `equals` with it.
  DEVICE void keep(int least, int equals) const {
    int own = 0;
    for (int i = 0; i < count; i++) own += key_of(logit(i)) == least;
    equals -= quad_before(own, number);
    for (int i = 0; i < count; i++) {
      const int key = key_of(logit(i));
      equals -= key == least;
      if (key < least || (key == least && equals < 0)) logit(i) = -infinity();
    }
  }

  DEVICE void truncate(int top_k, double top_p) const {
    int least_k = -2147483647 - 1, least_p = least_k;
    int equals_k = 4 * count, equals_p = equals_k;
    if (top_k > 0 && top_k < 4 * count) {
      least_k = least_key(top_k, 0.0);
      equals_k = top_k - num_from(least_k + 1);
    }
    if (top_p < 1.0) {
      const double share = top_p * total();
      least_p = least_key(0, share);
      const double above = weight_from(least_p + 1);
      double one = 0.0;  // equal classes have equal weights
      for (int i = 0; i < count; i++)
        if (key_of(logit(i)) == least_p) one = weight(i);
      for (int i = 0; i < 4; i++) one = fmax(one, of_quad(one, i));
      equals_p = one > 0.0 ? (int)fmin(ceil((share - above) / one), 4.0 * count) : 4 * count;
    }
    keep(least_k, equals_k);
    keep(least_p, equals_p);
  }

  // The first class at which the running sum of weights exceeds a share of `uniform`.
  DEVICE int search(float uniform) const {
    double own = 0.0;
    for (int i = 0; i < count; i++) own += weight(i);
    const double limit = (double)uniform * quad_sum(own);
    double sum = quad_before(own, number);
    int passed = 0;
    for (int i = 0; i < count; i++) {
      sum += weight(i);
      passed += sum <= limit;
    }
    return quad_sum(passed);
  }
};

// A class of the stream whose logits these are, or NOT_FINITE.
DEVICE int draw_class(float* logits, int count, int number, float uniform, const Drawing& how) {
  Classes classes{logits, count, number, -infinity(), (float)how.inverse_temperature, 0.0};
  float peak = -infinity();
  bool nan = false;
  for (int i = 0; i < count; i++) {
    peak = fmaxf(peak, classes.logit(i));
    nan = nan || classes.logit(i) != classes.logit(i);
  }
  for (int i = 0; i < 4; i++) peak = fmaxf(peak, of_quad(peak, i));
  if (quad_sum((int)nan) || !(fabsf(peak) < LARGEST)) return NOT_FINITE;
  classes.peak = peak;
  if (how.inverse_temperature == 0.0) {
    int first = 4 * count;
    for (int i = count - 1; i >= 0; i--)
      if (classes.logit(i) == peak) first = number * count + i;
    for (int i = 0; i < 4; i++) first = min(first, of_quad(first, i));
    return first;
  }
  if (how.probability_floor > 0.0) classes.floor = how.probability_floor * classes.total();
  if (how.top_k > 0 || how.top_p < 1.0) classes.truncate(how.top_k, how.top_p);
  return min(classes.search(uniform), how.num_params - 1);
}

// The normal quantile to 1 part in 10^16: Wichura 1988, algorithm AS 241 (PPND16). Numerator and
// denominator of three rational functions, highest power first.
DEVICE double rational(const double (&numerator)[8], const double (&denominator)[8], double x) {
  double above = 0.0, below = 0.0;
  for (int i = 0; i < 8; i++) {
    above = above * x + numerator[i];
    below = below * x + denominator[i];
  }
  return above / below;
}

DEVICE double normal_quantile(double uniform) {
  const double centre[2][8] = {
      {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
       13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608},
      {5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
       5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0}};
  const double side[2][8] = {
      {7.7454501427834140764e-4, 2.27238449892691845833e-2, 0.24178072517745061177,
       1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
       4.6303378461565452959, 1.42343711074968357734},
      {1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2,
       0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
       2.05319162663775882187, 1.0}};
  const double tail[2][8] = {
      {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
       2.65321895265761230930e-2, 0.29656057182850489123, 1.7848265399172913358,
       5.4637849111641143699, 6.6579046435011037772},
      {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
       7.868691311456132591e-4, 1.48753612908506148525e-2, 0.13692988092273580531,
       0.59983220655588793769, 1.0}};
  const double q = uniform - 0.5;
  if (fabs(q) <= 0.425) return q * rational(centre[0], centre[1], 0.180625 - q * q);
  const double r = sqrt(-log(q < 0.0 ? uniform : 1.0 - uniform));
  const double size =
      r <= 5.0 ? rational(side[0], side[1], r - 1.6) : rational(tail[0], tail[1], r - 5.0);
  return q > 0.0 ? size : -size;
}

// The parameters of a stream, of which each thread of its group has stored a quarter.
struct Params {
  const float* first;  // of the first thread
  int each;

  DEVICE double operator[](int i) const { return first[place(i % each) + i / each * 4]; }
};

// A 16-bit code, or NOT_FINITE; all threads of a group compute the same.
DEVICE int draw_mixture(const Params& params, float choice, float noise, const Drawing& how) {
  const int components = how.num_mixtures, means = components > 1 ? components : 0;
  for (int i = 0; i < how.num_params; i++)
    if (!(fabs(params[i]) < LARGEST)) return NOT_FINITE;
  int chosen = 0;
  if (components > 1) {
    for (int i = 1; i < components; i++)
      if (params[i] > params[chosen]) chosen = i;
    if (how.temperature > 0.0) {
      const double peak = params[chosen];
      double total = 0.0, sum = 0.0;
      for (int i = 0; i < components; i++) total += exp((params[i] - peak) / how.temperature);
      const double limit = (double)choice * total;
      for (chosen = 0; chosen < components - 1; chosen++) {
        sum += exp((params[chosen] - peak) / how.temperature);
        if (sum > limit) break;
      }
    }
  }
  double value = params[means + chosen];
  if (how.temperature > 0.0) {
    const double least = 1.0 / 33554432.0;  // uniforms are moved away from 0 and 1
    const double uniform = noise * (1.0 - 2.0 * least) + least;
    const double quantile = how.is_gaussian ? normal_quantile(uniform)
                                            : log(uniform) - log1p(-uniform);
    const double log_scale = fmax(params[means + components + chosen], how.min_log_scale);
    value += exp(log_scale) * how.temperature * quantile;
  }
  return (int)fmin(fmax(rint(value * 32768.0), -32768.0), 32767.0) + 32768;
}
