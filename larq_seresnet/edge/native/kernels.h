/* The arithmetic, once for each instruction set.
 *
 * Bits are stored as Larq Compute Engine stores them: 32 channels to a word, the first channel in
 * the lowest bit, a set bit for -1 and a clear one for +1. Bits past the last channel are clear.
 *
 * A binary convolution is a matrix product of windows (the input words under the filter, for each
 * output pixel) and filters. Filters are reordered once, into tiles of 16 output channels: for each
 * word of a window, the 16 filters' words side by side. So a vector register holds one word of several filters, the
 * pixel's word is broadcast over it, and the sums of the output channels come out in its lanes,
 * with nothing left to add up across lanes.
 */
#ifndef LARQ_SERESNET_KERNELS_H_
#define LARQ_SERESNET_KERNELS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { kEdgeTile = 16, kEdgeMaxPixels = 8 };

/* How a sum of differing bits becomes an output. `multiplier` and so on hold a tile's 16 values. */
typedef struct {
  int32_t clamp_min, clamp_max; /* bounds of twice the sum */
  const float *multiplier;
  const float *bias;
  const float *shift, *scale; /* what a float output is then added to and multiplied with, or NULL */
  const int32_t *thresholds;
} EdgeTransform;

/* Where the words under the windows of neighbouring output pixels are: those of pixel p begin at
 * `step` * p, and lie in `runs` runs of `length` words, which begin at `offsets` from there. */
typedef struct {
  size_t runs, length, step;
  const size_t *offsets;
} EdgeWindows;

/* What is done to the floats of a pixel, in this order, each operation rounded by itself:
 * (x + shift) * scale * gate + residual, then ReLU. All but the residual, which is x's like, hold a
 * value for each channel; NULL is for what is left out. */
typedef struct {
  const float *shift, *scale, *gate;
  bool relu;
} EdgeFinish;

typedef struct {
  const char *name;
  int pixels; /* how many windows `accumulate` takes at a time, at most kEdgeMaxPixels */
  /* How many words a thread compares in about 10 microseconds: for less it does not pay to wake
   * one. */
  double grain;

  /* sums[p][c] = number of bits that differ between pixel p's window and filter c; `filters` is one
   * tile of words x 16. */
  void (*accumulate)(const uint32_t *input, const EdgeWindows *windows, const uint32_t *filters,
                     int pixels, int32_t (*sums)[kEdgeTile]);

  /* (multiplier * clamp(2 * sum) + bias + shift) * scale + residual for the first `channels` of a
   * tile; outputs of neighbouring pixels lie `stride` elements apart, and so do residuals, which may
   * be NULL. */
  void (*to_float)(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                   const EdgeTransform *transform, const float *residual, float *output,
                   size_t stride);
  /* multiplier * clamp(2 * sum) + bias, rounded (half away from zero) and limited to int8. */
  void (*to_int8)(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                  const EdgeTransform *transform, int8_t *output, size_t stride);
  /* bits[p] has bit c set where sum > threshold. */
  void (*to_bits)(int32_t (*sums)[kEdgeTile], int pixels, const EdgeTransform *transform,
                  uint32_t *bits);

  /* Packs `count` values, a multiple of 32: a bit is set where value < 0, or < zero_point. */
  void (*pack_float)(const float *values, size_t count, uint32_t *words);
  void (*pack_int8)(const int8_t *values, size_t count, int8_t zero_point, uint32_t *words);

  /* `output` may be `x`; `residual` may be NULL. */
  void (*finish)(const float *x, const float *residual, size_t pixels, size_t channels,
                 const EdgeFinish *finish, float *output);
  /* The mean of each channel, of sums that are cut into four interleaved parts. */
  void (*mean)(const float *x, size_t pixels, size_t channels, float *output);
} EdgeKernels;

/* The fastest kernels that this CPU can run. */
const EdgeKernels *edge_best_kernels(void);

/* "portable", and "avx2", "avx512" or "neon" where the CPU has them; NULL for any other name. */
const EdgeKernels *edge_kernels_by_name(const char *name);

extern const EdgeKernels edge_kernels_portable;
#if defined(__x86_64__)
extern const EdgeKernels edge_kernels_avx2;
extern const EdgeKernels edge_kernels_avx512;
#elif defined(__ARM_NEON)
extern const EdgeKernels edge_kernels_neon;
#endif

#endif /* LARQ_SERESNET_KERNELS_H_ */
