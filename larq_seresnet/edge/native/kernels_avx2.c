/* AVX2: a tile is two registers. There is no instruction that counts bits, so each half byte is
 * looked up in a table of 16 counts, and counts are summed as bytes as long as those cannot
 * overflow. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel_bodies.h"

#define TARGET __attribute__((target("avx2")))

enum { kPixels = 2, kWordsPerBlock = 31 }; /* 31 words of at most 8 bits a byte: 248 */

TARGET EDGE_INLINE __m256i count_bytes(__m256i bits) {
  const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                          2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(0x0f);
  __m256i low = _mm256_and_si256(bits, nibble);
  __m256i high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(counts, low), _mm256_shuffle_epi8(counts, high));
}

/* Sums the four bytes of each 32-bit lane. */
TARGET EDGE_INLINE __m256i add_bytes(__m256i bytes) {
  __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

TARGET EDGE_INLINE void accumulate_pixels(const uint32_t *patches, const uint32_t *filters,
                                          size_t words, const int pixels,
                                          int32_t (*sums)[kEdgeTile]) {
  __m256i total[kPixels][2];
  for (int p = 0; p < pixels; p++) total[p][0] = total[p][1] = _mm256_setzero_si256();
  for (size_t start = 0; start < words; start += kWordsPerBlock) {
    size_t end = words - start < kWordsPerBlock ? words : start + kWordsPerBlock;
    __m256i bytes[kPixels][2];
    for (int p = 0; p < pixels; p++) bytes[p][0] = bytes[p][1] = _mm256_setzero_si256();
    for (size_t k = start; k < end; k++) {
      const __m256i *filter = (const __m256i *)(filters + k * kEdgeTile);
      for (int p = 0; p < pixels; p++) {
        __m256i patch = _mm256_set1_epi32((int)patches[(size_t)p * words + k]);
        for (int half = 0; half < 2; half++) {
          __m256i differing = _mm256_xor_si256(_mm256_loadu_si256(filter + half), patch);
          bytes[p][half] = _mm256_add_epi8(bytes[p][half], count_bytes(differing));
        }
      }
    }
    for (int p = 0; p < pixels; p++)
      for (int half = 0; half < 2; half++)
        total[p][half] = _mm256_add_epi32(total[p][half], add_bytes(bytes[p][half]));
  }
  for (int p = 0; p < pixels; p++)
    for (int half = 0; half < 2; half++)
      _mm256_storeu_si256((__m256i *)sums[p] + half, total[p][half]);
}

TARGET static void accumulate(const uint32_t *patches, const uint32_t *filters, size_t words,
                              int pixels, int32_t (*sums)[kEdgeTile]) {
  if (pixels == 2)
    accumulate_pixels(patches, filters, words, 2, sums);
  else
    accumulate_pixels(patches, filters, words, 1, sums);
}

TARGET static void to_float(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                            const EdgeTransform *transform, float *output, size_t stride) {
  edge_to_float_body(sums, pixels, channels, transform, output, stride);
}

TARGET static void to_int8(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                           const EdgeTransform *transform, int8_t *output, size_t stride) {
  edge_to_int8_body(sums, pixels, channels, transform, output, stride);
}

TARGET static void to_bits(int32_t (*sums)[kEdgeTile], int pixels, const EdgeTransform *transform,
                           uint32_t *bits) {
  for (int p = 0; p < pixels; p++) {
    uint32_t word = 0;
    for (int half = 0; half < 2; half++) {
      __m256i sum = _mm256_loadu_si256((const __m256i *)sums[p] + half);
      __m256i threshold = _mm256_loadu_si256((const __m256i *)transform->thresholds + half);
      __m256 above = _mm256_castsi256_ps(_mm256_cmpgt_epi32(sum, threshold));
      word |= (uint32_t)_mm256_movemask_ps(above) << (8 * half);
    }
    bits[p] = word;
  }
}

TARGET static void pack_float(const float *values, size_t count, uint32_t *words) {
  for (; count; count -= 32) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i += 8, values += 8) {
      __m256 negative = _mm256_cmp_ps(_mm256_loadu_ps(values), _mm256_setzero_ps(), _CMP_LT_OQ);
      word |= (uint32_t)_mm256_movemask_ps(negative) << i;
    }
    *words++ = word;
  }
}

TARGET static void pack_int8(const int8_t *values, size_t count, int8_t zero_point,
                             uint32_t *words) {
  const __m256i zero = _mm256_set1_epi8(zero_point);
  for (; count; count -= 32, values += 32) {
    __m256i below = _mm256_cmpgt_epi8(zero, _mm256_loadu_si256((const __m256i *)values));
    *words++ = (uint32_t)_mm256_movemask_epi8(below);
  }
}

const EdgeKernels edge_kernels_avx2 = {
    .name = "avx2",
    .pixels = kPixels,
    .grain = 1 << 20,
    .accumulate = accumulate,
    .to_float = to_float,
    .to_int8 = to_int8,
    .to_bits = to_bits,
    .pack_float = pack_float,
    .pack_int8 = pack_int8,
};
#endif
