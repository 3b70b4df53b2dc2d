/* AVX-512 with VPOPCNTDQ (Ice Lake, Zen 4 and newer): a tile is one register, and counting the bits
 * of its 16 words is one instruction. */
#if defined(__x86_64__)
#include <immintrin.h>

#define EDGE_LANES 16
#include "kernel_bodies.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq")))

TARGET EDGE_INLINE void accumulate_pixels(const uint32_t *input, const EdgeWindows *windows,
                                          const uint32_t *filters, const int pixels,
                                          int32_t (*sums)[kEdgeTile]) {
  const size_t step = windows->step, length = windows->length;
  __m512i total[kEdgeMaxPixels];
  for (int p = 0; p < pixels; p++) total[p] = _mm512_setzero_si512();
  for (size_t run = 0; run < windows->runs; run++) {
    const uint32_t *word = input + windows->offsets[run];
    for (const uint32_t *end = word + length; word < end; word++, filters += kEdgeTile) {
      __m512i filter = _mm512_loadu_si512(filters);
      for (int p = 0; p < pixels; p++) {
        __m512i other = _mm512_set1_epi32((int)word[(size_t)p * step]);
        __m512i differing = _mm512_popcnt_epi32(_mm512_xor_si512(filter, other));
        total[p] = _mm512_add_epi32(total[p], differing);
      }
    }
  }
  for (int p = 0; p < pixels; p++) _mm512_storeu_si512(sums[p], total[p]);
}

TARGET static void accumulate(const uint32_t *input, const EdgeWindows *windows,
                              const uint32_t *filters, int pixels, int32_t (*sums)[kEdgeTile]) {
  EDGE_DISPATCH_PIXELS(accumulate_pixels, input, windows, filters, pixels, sums)
}

TARGET static void to_float(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                            const EdgeTransform *transform, float *output, size_t stride) {
  const __m512i low = _mm512_set1_epi32(transform->clamp_min);
  const __m512i high = _mm512_set1_epi32(transform->clamp_max);
  const __m512 multiplier = _mm512_loadu_ps(transform->multiplier);
  const __m512 bias = _mm512_loadu_ps(transform->bias);
  const __mmask16 mask = (__mmask16)((1u << channels) - 1);
  for (int p = 0; p < pixels; p++, output += stride) {
    __m512i twice = _mm512_slli_epi32(_mm512_loadu_si512(sums[p]), 1);
    twice = _mm512_max_epi32(_mm512_min_epi32(twice, high), low);
    __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(twice), multiplier);
    _mm512_mask_storeu_ps(output, mask, _mm512_add_ps(product, bias));
  }
}

TARGET static void to_int8(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                           const EdgeTransform *transform, int8_t *output, size_t stride) {
  edge_to_int8_body(sums, pixels, channels, transform, output, stride);
}

TARGET static void to_bits(int32_t (*sums)[kEdgeTile], int pixels, const EdgeTransform *transform,
                           uint32_t *bits) {
  const __m512i thresholds = _mm512_loadu_si512(transform->thresholds);
  for (int p = 0; p < pixels; p++)
    bits[p] = _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(sums[p]), thresholds);
}

TARGET static void pack_float(const float *values, size_t count, uint32_t *words) {
  const __m512 zero = _mm512_setzero_ps();
  for (; count; count -= 32, values += 32) {
    uint32_t low = _mm512_cmp_ps_mask(_mm512_loadu_ps(values), zero, _CMP_LT_OQ);
    uint32_t high = _mm512_cmp_ps_mask(_mm512_loadu_ps(values + 16), zero, _CMP_LT_OQ);
    *words++ = low | high << 16;
  }
}

TARGET static void pack_int8(const int8_t *values, size_t count, int8_t zero_point,
                             uint32_t *words) {
  const __m256i zero = _mm256_set1_epi8(zero_point);
  for (; count; count -= 32, values += 32)
    *words++ = _mm256_cmplt_epi8_mask(_mm256_loadu_si256((const __m256i *)values), zero);
}

TARGET static void finish(const float *x, const float *residual, size_t pixels, size_t channels,
                   const EdgeFinish *steps, float *output) {
  edge_finish_body(x, residual, pixels, channels, steps, output);
}

TARGET static void mean(const float *x, size_t pixels, size_t channels, float *output) {
  edge_mean_body(x, pixels, channels, output);
}

const EdgeKernels edge_kernels_avx512 = {
    .name = "avx512",
    .pixels = 8,
    .grain = 1 << 21,
    .accumulate = accumulate,
    .to_float = to_float,
    .to_int8 = to_int8,
    .to_bits = to_bits,
    .pack_float = pack_float,
    .pack_int8 = pack_int8,
    .finish = finish,
    .mean = mean,
};
#endif
