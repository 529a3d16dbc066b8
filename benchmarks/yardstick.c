/* The practical limit: the samples of random_bases, generated and contracted as fast as a CPU can.
 *
 * Threefry-2x32-13 and the transformations of random_bases/sampling, vectorised by the compiler, one
 * direction at a time: a direction is generated once, multiplied with v and added to the result while
 * it is in the core's own cache. Compiled when the benchmark runs; not part of the package.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef union {
  float f;
  int32_t i;
  uint32_t u;
} Bits;

static inline uint32_t rotate(uint32_t x, int bits) { return (x << bits) | (x >> (32 - bits)); }

static inline void threefry(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t *w0, uint32_t *w1) {
  static const int rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  const uint32_t schedule[3] = {k0, k1, k0 ^ k1 ^ 0x1BD11BDAu};
  uint32_t x0 = c0 + k0, x1 = c1 + k1;
#pragma GCC unroll 13
  for (int round = 0; round < 13; round++) {
    x0 += x1;
    x1 = x0 ^ rotate(x1, rotations[round % 8]);
    if (round % 4 == 3) {
      const int injection = round / 4 + 1;
      x0 += schedule[injection % 3];
      x1 += schedule[(injection + 1) % 3] + injection;
    }
  }
  *w0 = x0;
  *w1 = x1;
}

static inline void two_normals(uint32_t w0, uint32_t w1, float *z0, float *z1) {
  Bits real = {.f = (float)(int32_t)(w0 & 0x7fffffffu) + 1.0f};
  const int32_t bits = real.i + (0x3F800000 - 0x3F3504F3);
  const Bits mantissa = {.i = (bits & 0x7fffff) + 0x3F3504F3};
  const float x = mantissa.f - 1.0f, x2 = x * x;
  float p = 7.0376836292e-2f;
  p = p * x - 1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x - 1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x - 1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x - 2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  const float logarithm = x + x2 * (x * p - 0.5f) + (float)((bits >> 23) - 158) * 0.69314718f;
  const float square = -2.0f * logarithm;
  Bits radius = {.f = sqrtf(square > 0.0f ? square : 0.0f)};
  radius.u |= w1 & 0x80000000u;
  const float a = (float)(int32_t)(w1 << 2) * 3.6572365e-10f, a2 = a * a; /* pi / 4 / 2^31 */
  const float sine = a + a * a2 * ((-1.9515295891e-4f * a2 + 8.3321608736e-3f) * a2 - 1.6666654611e-1f);
  const float cosine =
      1.0f + a2 * (a2 * ((2.443315711809948e-5f * a2 - 1.388731625493765e-3f) * a2 + 4.166664568298827e-2f) - 0.5f);
  const int reflect = (w1 & 0x40000000u) != 0;
  *z0 = radius.f * (reflect ? sine : cosine);
  *z1 = radius.f * (reflect ? cosine : sine);
}

/* c = P^T v / sqrt(n), out = P c / sqrt(n); v and out as two planes of n / 2 elements. */
void sketch_normal(int n, int d, const int32_t *key, const float *v, float *c, float *out) {
  const int half = n / 2;
  const float scale = 1.0f / sqrtf((float)n);
  memset(out, 0, sizeof(float) * n);
#pragma omp parallel
  {
    float *z = aligned_alloc(64, (sizeof(float) * 2 * half + 63) / 64 * 64), *sum = calloc(n, sizeof(float));
    float *z0 = z, *z1 = z + half, *s0 = sum, *s1 = sum + half;
#pragma omp for schedule(dynamic, 4)
    for (int row = 0; row < d; row++) {
      float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
      for (int j = 0; j < half; j++) {
        uint32_t w0, w1;
        float a, b;
        threefry(key[0], key[1], row, j, &w0, &w1);
        two_normals(w0, w1, &a, &b);
        z0[j] = a;
        z1[j] = b;
        dot += a * v[j] + b * v[half + j];
      }
      c[row] = dot *= scale;
#pragma omp simd
      for (int j = 0; j < half; j++) {
        s0[j] += dot * z0[j];
        s1[j] += dot * z1[j];
      }
    }
#pragma omp critical
    for (int j = 0; j < 2 * half; j++) out[j] += scale * sum[j];
    free(z);
    free(sum);
  }
}

/* The same for signs, 64 to a block; v and out as 64 planes of n / 64 elements. */
void sketch_rademacher(int n, int d, const int32_t *key, const float *v, float *c, float *out) {
  const int blocks = n / 64;
  const float scale = 1.0f / sqrtf((float)n);
  memset(out, 0, sizeof(float) * n);
#pragma omp parallel
  {
    float *sum = calloc(n, sizeof(float));
    uint32_t *words = malloc(sizeof(uint32_t) * 2 * blocks);
#pragma omp for schedule(dynamic, 4)
    for (int row = 0; row < d; row++) {
#pragma omp simd
      for (int j = 0; j < blocks; j++) threefry(key[0], key[1], row, j, &words[j], &words[blocks + j]);
      float dot = 0.0f;
      for (int p = 0; p < 64; p++) {
        const uint32_t *w = words + (p / 32) * blocks;
        const float *plane = v + (size_t)p * blocks;
        const int shift = 31 - p % 32;
        float part = 0.0f;
#pragma omp simd reduction(+ : part)
        for (int j = 0; j < blocks; j++) {
          Bits x = {.f = plane[j]};
          x.u ^= (w[j] << shift) & 0x80000000u;
          part += x.f;
        }
        dot += part;
      }
      c[row] = dot *= scale;
      const Bits weight = {.f = dot};
      for (int p = 0; p < 64; p++) {
        const uint32_t *w = words + (p / 32) * blocks;
        float *plane = sum + (size_t)p * blocks;
        const int shift = 31 - p % 32;
#pragma omp simd
        for (int j = 0; j < blocks; j++) {
          const Bits x = {.u = weight.u ^ ((w[j] << shift) & 0x80000000u)};
          plane[j] += x.f;
        }
      }
    }
#pragma omp critical
    for (int j = 0; j < n; j++) out[j] += scale * sum[j];
    free(sum);
    free(words);
  }
}
