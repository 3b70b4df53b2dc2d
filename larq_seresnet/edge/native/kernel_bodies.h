/* What the instruction sets share: plain C over the 16 lanes of a tile, which compilers vectorize.
 * Each kernel file inlines it into functions that it compiles for its own instruction set, which
 * EDGE_TARGET names; a register of that holds EDGE_LANES floats, or as many integers, of which
 * EDGE_MIN and EDGE_MAX give the smaller and the larger ones. */
#ifndef LARQ_SERESNET_KERNEL_BODIES_H_
#define LARQ_SERESNET_KERNEL_BODIES_H_

#include <stdbool.h>
#include <string.h>

#include "kernels.h"

#define EDGE_INLINE EDGE_TARGET static inline __attribute__((always_inline))

/* Compilers turn the operators of such a type into the instructions of the file's own set. */
typedef float EdgeVector __attribute__((vector_size(4 * EDGE_LANES)));
typedef int32_t EdgeIntegers __attribute__((vector_size(4 * EDGE_LANES)));
enum { kVectors = kEdgeTile / EDGE_LANES };

/* The same at any address. Copying the bytes would go through narrower registers. */
typedef float EdgeUnaligned __attribute__((vector_size(4 * EDGE_LANES), aligned(4), may_alias));
typedef int32_t EdgeUnalignedIntegers
    __attribute__((vector_size(4 * EDGE_LANES), aligned(4), may_alias));

/* No functions: where one that passes vectors is not inlined, compilers differ in how. */
#define EDGE_AT(values, vector) (((EdgeUnaligned *)(values))[vector])

/* The product and the sum are rounded one after the other (the library is compiled without
 * contraction), as in Larq Compute Engine: results are equal to the last bit. */
EDGE_INLINE float edge_affine(int32_t sum, int lane, const EdgeTransform *transform) {
  int32_t twice = sum * 2;
  twice = twice > transform->clamp_max ? transform->clamp_max : twice;
  twice = twice < transform->clamp_min ? transform->clamp_min : twice;
  return (float)twice * transform->multiplier[lane] + transform->bias[lane];
}

enum { kPartNorm = 1, kPartGate = 2, kPartResidual = 4 };

/* A whole tile. `parts` is a constant, so that the loop has no branches. */
EDGE_INLINE void edge_to_float_tile(int32_t (*sums)[kEdgeTile], int pixels, const int parts,
                                    const EdgeTransform *transform, const float *residual,
                                    float *output, size_t stride) {
  const EdgeIntegers low = (EdgeIntegers){0} + transform->clamp_min;
  const EdgeIntegers high = (EdgeIntegers){0} + transform->clamp_max;
  EdgeVector multiplier[kVectors], bias[kVectors], shift[kVectors], scale[kVectors];
  for (size_t v = 0; v < kVectors; v++) {
    multiplier[v] = EDGE_AT(transform->multiplier, v);
    bias[v] = EDGE_AT(transform->bias, v);
    shift[v] = -(EdgeVector){0}; /* x + -0 and x * 1 are x */
    scale[v] = (EdgeVector){0} + 1.0f;
    if (parts & kPartNorm && transform->shift) shift[v] = EDGE_AT(transform->shift, v);
    if (parts & kPartNorm && transform->scale) scale[v] = EDGE_AT(transform->scale, v);
  }
  for (int p = 0; p < pixels; p++, output += stride, residual += stride)
    for (size_t v = 0; v < kVectors; v++) {
      EdgeIntegers twice = ((EdgeUnalignedIntegers *)sums[p])[v];
      twice += twice;
      twice = EDGE_MAX(EDGE_MIN(twice, high), low);
      EdgeVector value = __builtin_convertvector(twice, EdgeVector) * multiplier[v] + bias[v];
      if (parts & kPartNorm) value = (value + shift[v]) * scale[v];
      if (parts & kPartResidual) value += EDGE_AT(residual, v);
      EDGE_AT(output, v) = value;
    }
}

EDGE_INLINE void edge_to_float_body(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                                    const EdgeTransform *transform, const float *residual,
                                    float *output, size_t stride) {
  if (channels < kEdgeTile)
    for (int p = 0; p < pixels; p++)
      for (int c = 0; c < channels; c++) {
        const size_t at = (size_t)p * stride + (size_t)c;
        float value = edge_affine(sums[p][c], c, transform);
        if (transform->shift) value += transform->shift[c];
        if (transform->scale) value *= transform->scale[c];
        output[at] = residual ? value + residual[at] : value;
      }
  else if (residual)
    edge_to_float_tile(sums, pixels, kPartNorm | kPartResidual, transform, residual, output,
                       stride);
  else if (transform->shift || transform->scale)
    edge_to_float_tile(sums, pixels, kPartNorm, transform, output, output, stride);
  else
    edge_to_float_tile(sums, pixels, 0, transform, output, output, stride);
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

/* One whole tile of channels of all pixels. `parts` is a constant. */
EDGE_INLINE void edge_finish_tile(const float *x, const float *residual, size_t pixels,
                                  size_t stride, const int parts, const EdgeFinish *finish,
                                  size_t first, float *output) {
  EdgeVector shift[kVectors], scale[kVectors], gate[kVectors];
  for (size_t v = 0; v < kVectors; v++) { /* x + -0 and x * 1 are x */
    shift[v] = -(EdgeVector){0};
    scale[v] = gate[v] = (EdgeVector){0} + 1.0f;
    if (finish->shift) shift[v] = EDGE_AT(finish->shift + first, v);
    if (finish->scale) scale[v] = EDGE_AT(finish->scale + first, v);
    if (finish->gate) gate[v] = EDGE_AT(finish->gate + first, v);
  }
  for (size_t p = 0, i = first; p < pixels; p++, i += stride)
    for (size_t v = 0; v < kVectors; v++) {
      EdgeVector value = EDGE_AT(x + i, v);
      if (parts & kPartNorm) value = (value + shift[v]) * scale[v];
      if (parts & kPartGate) value *= gate[v];
      if (parts & kPartResidual) value += EDGE_AT(residual + i, v);
      EDGE_AT(output + i, v) = value;
    }
}

/* The channels behind the last whole tile. */
EDGE_INLINE void edge_finish_rest(const float *x, const float *residual, size_t pixels,
                                  size_t stride, const EdgeFinish *finish, size_t first,
                                  float *output) {
  for (size_t p = 0, i = 0; p < pixels; p++, i += stride)
    for (size_t c = first; c < stride; c++) {
      float value = x[i + c];
      if (finish->shift) value += finish->shift[c];
      if (finish->scale) value *= finish->scale[c];
      if (finish->gate) value *= finish->gate[c];
      output[i + c] = residual ? value + residual[i + c] : value;
    }
}

EDGE_INLINE void edge_finish_body(const float *x, const float *residual, size_t pixels,
                                  size_t channels, const EdgeFinish *finish, float *output) {
  const bool norm = finish->shift || finish->scale, gate = finish->gate;
  const size_t rest = channels % kEdgeTile;
  for (size_t first = 0; first < channels - rest; first += kEdgeTile) {
#define EDGE_FINISH(parts) \
  edge_finish_tile(x, residual, pixels, channels, parts, finish, first, output)
    if (norm && !gate && residual)
      EDGE_FINISH(kPartNorm | kPartResidual);
    else if (norm && !gate)
      EDGE_FINISH(kPartNorm);
    else if (!norm && gate && residual)
      EDGE_FINISH(kPartGate | kPartResidual);
    else if (residual)
      EDGE_FINISH(kPartNorm | kPartGate | kPartResidual);
    else
      EDGE_FINISH(kPartNorm | kPartGate);
#undef EDGE_FINISH
  }
  if (rest) edge_finish_rest(x, residual, pixels, channels, finish, channels - rest, output);
  if (finish->relu)
    for (size_t i = 0; i < pixels * channels; i++) output[i] = output[i] < 0 ? 0 : output[i];
}

enum { kMeanParts = 4 }; /* sums that do not wait for each other */

EDGE_INLINE void edge_mean_body(const float *x, size_t pixels, size_t channels, float *output) {
  const size_t rest = channels % kEdgeTile;
  const float count = (float)pixels;
  for (size_t first = 0; first < channels - rest; first += kEdgeTile) {
    EdgeVector sums[kMeanParts][kVectors] = {{{0}}};
    const float *pixel = x + first;
    size_t p = 0;
    for (; p + kMeanParts <= pixels; p += kMeanParts)
      for (int part = 0; part < kMeanParts; part++, pixel += channels)
        for (size_t v = 0; v < kVectors; v++) sums[part][v] += EDGE_AT(pixel, v);
    for (; p < pixels; p++, pixel += channels)
      for (size_t v = 0; v < kVectors; v++) sums[0][v] += EDGE_AT(pixel, v);
    for (size_t v = 0; v < kVectors; v++)
      EDGE_AT(output + first, v) =
          ((sums[0][v] + sums[1][v]) + (sums[2][v] + sums[3][v])) / count;
  }
  for (size_t c = channels - rest; c < channels; c++) {
    float sums[kMeanParts] = {0};
    for (size_t p = 0; p < pixels; p++)
      sums[p < pixels / kMeanParts * kMeanParts ? p % kMeanParts : 0] += x[p * channels + c];
    output[c] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / count;
  }
}

/* Expands to a call of accumulate_pixels with a constant number of pixels, so that the compiler
 * keeps all sums in registers. */
#define EDGE_DISPATCH_PIXELS(accumulate_pixels, input, windows, filters, pixels, sums) \
  switch (pixels) {                                                                    \
    case 8: accumulate_pixels(input, windows, filters, 8, sums); break;                \
    case 7: accumulate_pixels(input, windows, filters, 7, sums); break;                \
    case 6: accumulate_pixels(input, windows, filters, 6, sums); break;                \
    case 5: accumulate_pixels(input, windows, filters, 5, sums); break;                \
    case 4: accumulate_pixels(input, windows, filters, 4, sums); break;                \
    case 3: accumulate_pixels(input, windows, filters, 3, sums); break;                \
    case 2: accumulate_pixels(input, windows, filters, 2, sums); break;                \
    default: accumulate_pixels(input, windows, filters, 1, sums); break;               \
  }

#endif /* LARQ_SERESNET_KERNEL_BODIES_H_ */
