#include "tail.h"

#include <stdlib.h>
#include <string.h>

#include "op.h"

static int count_flags(uint8_t flags) { return __builtin_popcount(flags); }

int edge_tail_inputs(const EdgeTail *tail) {
  return count_flags(tail->flags & (kEdgeTailShift | kEdgeTailScale | kEdgeTailGate |
                                    kEdgeTailResidual | kEdgeTailStep));
}

int edge_tail_outputs(const EdgeTail *tail) {
  return count_flags(tail->flags & (kEdgeTailFloat | kEdgeTailBits));
}

const char *edge_tail_parse(EdgeTail *tail, int first_input, const uint8_t *options, size_t size) {
  if (!size) return "the options are missing";
  tail->flags = options[0];
  tail->input = first_input;
  return edge_tail_outputs(tail) ? NULL : "there is no output";
}

/* The place among the inputs of the tensor that a flag stands for. */
static int input_of(const EdgeTail *tail, uint8_t flag) {
  return tail->input + count_flags(tail->flags & (flag - 1) & 0x1f);
}

static TfLiteTensor *float_input(TfLiteContext *context, const EdgeOp *op, uint8_t flag) {
  TfLiteTensor *tensor = edge_input(context, op, input_of(&op->tail, flag));
  return tensor && tensor->type == kTfLiteFloat32 && edge_has_data(tensor, 4) ? tensor : NULL;
}

static size_t count_elements(const TfLiteIntArray *dims) {
  size_t bytes;
  return edge_tensor_bytes(dims, 1, &bytes) ? bytes : 0;
}

/* A constant with one value for each of `count` channels: its data, or NULL. */
static const float *constant(TfLiteContext *context, const EdgeOp *op, uint8_t flag, size_t count) {
  const TfLiteTensor *tensor = float_input(context, op, flag);
  return tensor && tensor->allocation_type == kTfLiteMmapRo && count_elements(tensor->dims) == count
             ? tensor->data.f
             : NULL;
}

static bool same_shape(const TfLiteIntArray *dims, int rank, const int *sizes) {
  return dims->size == rank && !memcmp(dims->data, sizes, (size_t)rank * sizeof *sizes);
}

/* The distance between two images' gates, 0 where all share one; false where it fits no image. */
static bool gate_stride(const TfLiteIntArray *dims, int rank, const int *sizes, size_t *stride) {
  const int *gate = dims->data;
  if (rank != 4 || dims->size != 4 || gate[1] != 1 || gate[2] != 1 || gate[3] != sizes[3] ||
      (gate[0] != 1 && gate[0] != sizes[0]))
    return false;
  *stride = gate[0] == 1 ? 0 : (size_t)gate[3];
  return true;
}

static bool is_float(const TfLiteTensor *tensor) {
  return tensor && tensor->type == kTfLiteFloat32;
}

TfLiteStatus edge_tail_prepare(TfLiteContext *context, EdgeOp *op, int rank, const int *sizes,
                               size_t block_pixels) {
  EdgeTail *tail = &op->tail;
  size_t channels = (size_t)sizes[rank - 1], unused;
  if ((tail->flags & kEdgeTailShift && !constant(context, op, kEdgeTailShift, channels)) ||
      (tail->flags & kEdgeTailScale && !constant(context, op, kEdgeTailScale, channels)) ||
      (tail->flags & kEdgeTailStep && !constant(context, op, kEdgeTailStep, 1)))
    return edge_fail(context, op, "a constant does not fit %d channels", sizes[rank - 1]);
  if (tail->flags & kEdgeTailGate) {
    const TfLiteTensor *gate = edge_input(context, op, input_of(tail, kEdgeTailGate));
    if (!is_float(gate) || !gate_stride(gate->dims, rank, sizes, &unused))
      return edge_fail(context, op, "the gate does not fit the image");
  }
  if (tail->flags & kEdgeTailResidual) {
    const TfLiteTensor *residual = edge_input(context, op, input_of(tail, kEdgeTailResidual));
    if (!is_float(residual) || !same_shape(residual->dims, rank, sizes))
      return edge_fail(context, op, "what is added has another shape");
  }
  int output = 0;
  if (tail->flags & kEdgeTailFloat) {
    TfLiteTensor *tensor = edge_output_at(context, op, output++);
    if (!is_float(tensor)) return edge_fail(context, op, "the output is not float32");
    if (edge_resize(context, op, tensor, rank, sizes) != kTfLiteOk) return kTfLiteError;
  } else {
    size_t threads = (size_t)edge_threads_count(op->threads), floats;
    if (__builtin_mul_overflow(block_pixels, channels, &floats) || floats > SIZE_MAX / 4 / threads)
      return edge_fail(context, op, "the output is too large");
    if (tail->scratch_floats != floats || tail->scratch_threads != threads) {
      edge_tail_release(tail);
      tail->scratch = calloc(threads * floats, sizeof *tail->scratch);
      if (!tail->scratch) return edge_fail(context, op, "out of memory");
      tail->scratch_floats = floats;
      tail->scratch_threads = threads;
    }
  }
  if (tail->flags & kEdgeTailBits) {
    TfLiteTensor *tensor = edge_output_at(context, op, output);
    if (!tensor || tensor->type != kTfLiteInt32)
      return edge_fail(context, op, "the output of signs is not int32");
    int packed[kEdgeMaxRank];
    memcpy(packed, sizes, (size_t)rank * sizeof *sizes);
    packed[rank - 1] = edge_words(sizes[rank - 1]);
    return edge_resize(context, op, tensor, rank, packed);
  }
  return kTfLiteOk;
}

void edge_tail_release(EdgeTail *tail) {
  free(tail->scratch);
  tail->scratch = NULL;
  tail->scratch_floats = tail->scratch_threads = 0;
}

TfLiteStatus edge_tail_bind(TfLiteContext *context, const EdgeOp *op, int rank, const int *sizes,
                            EdgeTailRun *run) {
  const EdgeTail *tail = &op->tail;
  size_t channels = (size_t)sizes[rank - 1], pixels = 1;
  for (int i = 0; i < rank - 1; i++) pixels *= (size_t)sizes[i];
  *run = (EdgeTailRun){.flags = tail->flags,
                       .kernels = op->kernels,
                       .channels = channels,
                       .pixels = pixels,
                       .image_pixels = rank > 1 ? pixels / (size_t)sizes[0] : 1,
                       .finish = {.relu = tail->flags & kEdgeTailRelu},
                       .scratch = tail->scratch,
                       .scratch_floats = tail->scratch_floats};
  bool fine = true;
  if (tail->flags & kEdgeTailShift)
    fine = fine && (run->finish.shift = constant(context, op, kEdgeTailShift, channels));
  if (tail->flags & kEdgeTailScale)
    fine = fine && (run->finish.scale = constant(context, op, kEdgeTailScale, channels));
  if (tail->flags & kEdgeTailStep) {
    const float *step = constant(context, op, kEdgeTailStep, 1);
    fine = fine && step;
    if (step) run->step = *step;
  }
  if (tail->flags & kEdgeTailGate) {
    const TfLiteTensor *gate = float_input(context, op, kEdgeTailGate);
    fine = fine && gate && gate_stride(gate->dims, rank, sizes, &run->gate_stride);
    if (gate) run->gate = gate->data.f;
  }
  if (tail->flags & kEdgeTailResidual) {
    const TfLiteTensor *residual = float_input(context, op, kEdgeTailResidual);
    fine = fine && residual && same_shape(residual->dims, rank, sizes);
    if (residual) run->residual = residual->data.f;
  }
  int output = 0;
  if (tail->flags & kEdgeTailFloat) {
    const TfLiteTensor *tensor = edge_output_at(context, op, output++);
    fine = fine && edge_has_data(tensor, 4) && same_shape(tensor->dims, rank, sizes);
    run->output = tensor->data.f;
  }
  if (tail->flags & kEdgeTailBits) {
    const TfLiteTensor *tensor = edge_output_at(context, op, output);
    fine = fine && tensor->data.raw &&
           tensor->bytes / sizeof(uint32_t) / (size_t)edge_words(sizes[rank - 1]) >= pixels;
    run->bits = tensor->data.u32;
  }
  return fine ? kTfLiteOk : edge_fail(context, op, "a tensor's memory or shape changed");
}

float *edge_tail_target(const EdgeTailRun *run, int worker, size_t first) {
  return run->output ? run->output + first * run->channels
                     : run->scratch + (size_t)worker * run->scratch_floats;
}

void edge_tail_apply(const EdgeTailRun *run, int worker, const float *x, size_t first,
                     size_t pixels) {
  size_t channels = run->channels;
  float *target = edge_tail_target(run, worker, first);
  const float *values = x;
  if (run->flags & (kEdgeTailShift | kEdgeTailScale | kEdgeTailGate | kEdgeTailResidual |
                    kEdgeTailRelu)) {
    EdgeFinish finish = run->finish;
    for (size_t done = 0, count; done < pixels; done += count) {
      size_t within = (first + done) % run->image_pixels, offset = done * channels;
      count = run->image_pixels - within < pixels - done ? run->image_pixels - within
                                                         : pixels - done;
      if (run->gate) finish.gate = run->gate + (first + done) / run->image_pixels * run->gate_stride;
      run->kernels->finish(x + offset,
                           run->residual ? run->residual + first * channels + offset : NULL, count,
                           channels, &finish, target + offset);
    }
    values = target;
  }
  if (run->flags & kEdgeTailStep) {
    for (size_t i = 0; i < pixels * channels; i++) target[i] = values[i] >= run->step ? 1 : 0;
    values = target;
  }
  if (run->output && values != target) memmove(target, values, pixels * channels * sizeof *values);
  if (run->bits)
    edge_pack_rows(run->kernels, values, pixels, channels,
                   run->bits + first * (size_t)edge_words((int)channels));
}

void edge_pack_rows(const EdgeKernels *kernels, const float *values, size_t rows, size_t channels,
                    uint32_t *words) {
  size_t rest = channels % 32, whole = channels - rest;
  if (!rest) {
    kernels->pack_float(values, rows * channels, words);
    return;
  }
  if (channels == 16) { /* two rows to a word, which is then halved */
    size_t pairs = rows / 2;
    kernels->pack_float(values, pairs * 32, words + pairs);
    for (size_t i = 0; i < pairs; i++) {
      uint32_t both = words[pairs + i];
      words[2 * i] = both & 0xffff;
      words[2 * i + 1] = both >> 16;
    }
    values += pairs * 32;
    words += pairs * 2;
    rows -= pairs * 2;
  }
  for (; rows; rows--, values += channels) {
    float padded[32] = {0};
    kernels->pack_float(values, whole, words);
    words += whole / 32;
    memcpy(padded, values + whole, rest * sizeof *values);
    kernels->pack_float(padded, 32, words++);
  }
}
