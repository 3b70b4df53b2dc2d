/* What the instruction sets share: plain C over the 16 lanes of a tile, which compilers vectorize.
 * Each kernel file inlines it into functions that it compiles for its own instruction set. */
#ifndef LARQ_SERESNET_KERNEL_BODIES_H_
#define LARQ_SERESNET_KERNEL_BODIES_H_

#include <string.h>

#include "kernels.h"

#define EDGE_INLINE static inline __attribute__((always_inline))

/* The product and the sum are rounded one after the other (the library is compiled without
 * contraction), as in Larq Compute Engine: results are equal to the last bit. */
EDGE_INLINE float edge_affine(int32_t sum, int lane, const EdgeTransform *transform) {
  int32_t twice = sum * 2;
  twice = twice > transform->clamp_max ? transform->clamp_max : twice;
  twice = twice < transform->clamp_min ? transform->clamp_min : twice;
  return (float)twice * transform->multiplier[lane] + transform->bias[lane];
}

/* The lanes are written to `row` first, whose size is known: the loop needs no remainder. */
EDGE_INLINE void edge_to_float_body(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                                    const EdgeTransform *transform, float *output,
                                    size_t stride) {
  for (int p = 0; p < pixels; p++, output += stride) {
    float row[kEdgeTile];
    for (int c = 0; c < kEdgeTile; c++) row[c] = edge_affine(sums[p][c], c, transform);
    if (channels == kEdgeTile)
      memcpy(output, row, sizeof row);
    else
      memcpy(output, row, (size_t)channels * sizeof *row);
  }
}

EDGE_INLINE int8_t edge_round_to_int8(float value) {
  /* Limits first: converting a number that int cannot hold, or a NaN, is undefined. */
  value = value > -129.0f ? value : -129.0f;
  value = value < 128.0f ? value : 128.0f;
  int32_t whole = (int32_t)value;
  float rest = value - (float)whole;
  whole += (rest >= 0.5f) - (rest <= -0.5f);
  whole = whole > 127 ? 127 : whole;
  return (int8_t)(whole < -128 ? -128 : whole);
}

EDGE_INLINE void edge_to_int8_body(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                                   const EdgeTransform *transform, int8_t *output, size_t stride) {
  for (int p = 0; p < pixels; p++, output += stride) {
    int8_t row[kEdgeTile];
    for (int c = 0; c < kEdgeTile; c++)
      row[c] = edge_round_to_int8(edge_affine(sums[p][c], c, transform));
    memcpy(output, row, (size_t)channels);
  }
}

EDGE_INLINE void edge_to_bits_body(int32_t (*sums)[kEdgeTile], int pixels,
                                   const EdgeTransform *transform, uint32_t *bits) {
  for (int p = 0; p < pixels; p++) {
    uint32_t word = 0;
    for (int c = 0; c < kEdgeTile; c++)
      word |= (uint32_t)(sums[p][c] > transform->thresholds[c]) << c;
    bits[p] = word;
  }
}

/* Expands to a call of accumulate_pixels with a constant number of pixels, so that the compiler
 * keeps all sums in registers. */
#define EDGE_DISPATCH_PIXELS(accumulate_pixels, patches, filters, words, pixels, sums) \
  switch (pixels) {                                                                    \
    case 8: accumulate_pixels(patches, filters, words, 8, sums); break;                \
    case 7: accumulate_pixels(patches, filters, words, 7, sums); break;                \
    case 6: accumulate_pixels(patches, filters, words, 6, sums); break;                \
    case 5: accumulate_pixels(patches, filters, words, 5, sums); break;                \
    case 4: accumulate_pixels(patches, filters, words, 4, sums); break;                \
    case 3: accumulate_pixels(patches, filters, words, 3, sums); break;                \
    case 2: accumulate_pixels(patches, filters, words, 2, sums); break;                \
    default: accumulate_pixels(patches, filters, words, 1, sums); break;               \
  }

#endif /* LARQ_SERESNET_KERNEL_BODIES_H_ */
