/* What follows an operator and is done while its result is in the cache: batch norm that did not
 * fold, the gate, the shortcut, ReLU, the binarization of a gate, and the signs of the result.
 *
 * TFLite runs these as ADD, MUL, RELU, GREATER_EQUAL + CAST and LceQuantize, each over the whole
 * tensor. Here they are done in the same order, each rounded by itself, so that results are equal
 * to the last bit, but for numbers below 2^-126, which XNNPACK takes for 0, for which of the two
 * zeros comes out, and for NaN.
 *
 * The first byte of the operator's options says which there are; the tensors that they take follow
 * the operator's own inputs, in this order. */
#ifndef LARQ_SERESNET_TAIL_H_
#define LARQ_SERESNET_TAIL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"
#include "tflite_abi.h"

enum {
  kEdgeTailShift = 1,    /* + a constant for each channel */
  kEdgeTailScale = 2,    /* * a constant for each channel */
  kEdgeTailGate = 4,     /* * a value for each channel of each image */
  kEdgeTailResidual = 8, /* + a tensor of the same shape */
  kEdgeTailStep = 16,    /* 1 where >= a constant, else 0; last of all */
  kEdgeTailRelu = 32,
  kEdgeTailFloat = 64, /* the result is an output */
  kEdgeTailBits = 128, /* its signs are an output */
  kEdgeTailInputs = 5
};

typedef struct EdgeOp EdgeOp;

typedef struct {
  uint8_t flags; /* 0: there is no tail */
  int input;     /* the first of the inputs above */
  float *scratch; /* a block for each thread, where the result is no output */
  size_t scratch_floats, scratch_threads;
} EdgeTail;

/* A tail with the tensors of one inference. */
typedef struct {
  uint8_t flags;
  const EdgeKernels *kernels;
  size_t channels, pixels, image_pixels, gate_stride;
  EdgeFinish finish;
  const float *gate, *residual;
  float step;
  float *output, *scratch;
  size_t scratch_floats;
  uint32_t *bits;
} EdgeTailRun;

/* Reads the flags; NULL or what is wrong. */
const char *edge_tail_parse(EdgeTail *tail, int first_input, const uint8_t *options, size_t size);
int edge_tail_inputs(const EdgeTail *tail);
int edge_tail_outputs(const EdgeTail *tail);

/* Checks the tail's tensors against the shape of what it follows and gives the outputs their
 * shapes. `block_pixels` is how many pixels `edge_tail_apply` will get at most. */
TfLiteStatus edge_tail_prepare(TfLiteContext *context, EdgeOp *op, int rank, const int *sizes,
                               size_t block_pixels);

/* Checks again what may have changed and collects the tensors' memory. */
TfLiteStatus edge_tail_bind(TfLiteContext *context, const EdgeOp *op, int rank, const int *sizes,
                            EdgeTailRun *run);

/* Where the values of a block of pixels may be put before `edge_tail_apply` gets them. */
float *edge_tail_target(const EdgeTailRun *run, int worker, size_t first);

/* Does a block of pixels, from the image's pixel `first` on; `x` may be the target. */
void edge_tail_apply(const EdgeTailRun *run, int worker, const float *x, size_t first,
                     size_t pixels);

void edge_tail_release(EdgeTail *tail);

/* Packs the signs of rows of floats, each into whole words. */
void edge_pack_rows(const EdgeKernels *kernels, const float *values, size_t rows, size_t channels,
                    uint32_t *words);

#endif /* LARQ_SERESNET_TAIL_H_ */
