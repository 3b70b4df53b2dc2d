/* EdgeElementwise: a tail (tail.h) on a tensor of any shape, as one pass over memory. */
#include "op.h"

#include <string.h>

enum {
  kValuesPerBlock = 2048,    /* stays in the first-level cache between the steps */
  kValuesPerPart = 1 << 14   /* below two of these a second thread costs more than it saves */
};

typedef struct {
  const EdgeTailRun *run;
  const float *input;
  size_t block_pixels, blocks_per_part;
} Work;

static size_t block_pixels(size_t channels) {
  return channels < kValuesPerBlock ? kValuesPerBlock / channels : 1;
}

static TfLiteStatus prepare(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *input = edge_input(context, op, 0);
  size_t bytes;
  if (!input || input->type != kTfLiteFloat32)
    return edge_fail(context, op, "the input is not float32");
  int rank = input->dims->size;
  if (rank < 1 || rank > kEdgeMaxRank || !edge_tensor_bytes(input->dims, 4, &bytes))
    return edge_fail(context, op, "the input's shape is not supported");
  int sizes[kEdgeMaxRank];
  memcpy(sizes, input->dims->data, (size_t)rank * sizeof *sizes);
  return edge_tail_prepare(context, op, rank, sizes, block_pixels((size_t)sizes[rank - 1]));
}

static void run_part(void *argument, int worker, int part) {
  const Work *work = argument;
  size_t first = (size_t)part * work->blocks_per_part * work->block_pixels;
  for (size_t block = 0; block < work->blocks_per_part && first < work->run->pixels; block++) {
    size_t left = work->run->pixels - first;
    size_t pixels = left < work->block_pixels ? left : work->block_pixels;
    edge_tail_apply(work->run, worker, work->input + first * work->run->channels, first, pixels);
    first += pixels;
  }
}

static TfLiteStatus invoke(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *input = edge_input(context, op, 0);
  int rank = input->dims->size;
  if (rank < 1 || rank > kEdgeMaxRank || !edge_has_data(input, 4))
    return edge_fail(context, op, "a tensor's memory is smaller than its shape");
  EdgeTailRun run;
  if (edge_tail_bind(context, op, rank, input->dims->data, &run) != kTfLiteOk) return kTfLiteError;
  Work work = {.run = &run,
               .input = input->data.f,
               .block_pixels = block_pixels(run.channels)};
  size_t values = work.block_pixels * run.channels;
  if (!run.output && values > run.scratch_floats)
    return edge_fail(context, op, "a tensor's memory or shape changed");
  work.blocks_per_part = values < kValuesPerPart ? kValuesPerPart / values : 1;
  size_t step = work.block_pixels * work.blocks_per_part;
  size_t parts = (run.pixels - 1) / step + 1;
  if (parts > INT32_MAX) return edge_fail(context, op, "the input is too large");
  edge_threads_run(op->threads, run_part, &work, (int)parts);
  return kTfLiteOk;
}

const EdgeOpType edge_elementwise = {.name = "EdgeElementwise",
                                     .inputs = 1,
                                     .has_tail = true,
                                     .state_size = 1,
                                     .prepare = prepare,
                                     .invoke = invoke};
