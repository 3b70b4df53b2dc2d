/* LceQuantize: packs the signs of float, int8 or bool values, 32 along the last axis to a word. */
#include "op.h"

#include <string.h>

/* Below this many values a second thread costs more than it saves. */
enum { kValuesPerPart = 1 << 16 };

typedef struct {
  const EdgeKernels *kernels;
  const TfLiteTensor *input;
  uint32_t *words;
  size_t rows, channels;
  size_t rows_per_part;
} Work;

/* Sizes at run time; the checks of `prepare` hold for the shape it saw. */
static bool measure(const TfLiteTensor *input, const TfLiteTensor *output, Work *work) {
  size_t element = input->type == kTfLiteFloat32 ? 4 : 1;
  int rank = input->dims->size;
  if (rank < 1 || !edge_has_data(input, element) || !edge_has_data(output, 4)) return false;
  work->channels = (size_t)input->dims->data[rank - 1];
  work->rows = 1;
  for (int i = 0; i < rank - 1; i++) work->rows *= (size_t)input->dims->data[i];
  return output->bytes / 4 >= work->rows * (size_t)edge_words((int)work->channels);
}

static TfLiteStatus prepare(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *input = edge_input(context, op, 0);
  const TfLiteTensor *output = edge_output(context, op);
  if (!input) return edge_fail(context, op, "the input tensor is missing");
  if (input->type != kTfLiteFloat32 && input->type != kTfLiteInt8 && input->type != kTfLiteBool)
    return edge_fail(context, op, "the input tensor has type %d, not float32, int8 or bool",
                     input->type);
  if (output->type != kTfLiteInt32)
    return edge_fail(context, op, "the output tensor has type %d, not int32", output->type);
  size_t bytes;
  int rank = input->dims->size;
  if (rank < 1 || rank > kEdgeMaxRank || !edge_tensor_bytes(input->dims, 4, &bytes))
    return edge_fail(context, op, "the input's shape is not supported");
  if (input->type == kTfLiteInt8 &&
      (input->params.zero_point < INT8_MIN || input->params.zero_point > INT8_MAX))
    return edge_fail(context, op, "the input's zero point is not an int8 value");
  int sizes[kEdgeMaxRank];
  memcpy(sizes, input->dims->data, (size_t)rank * sizeof *sizes);
  sizes[rank - 1] = edge_words(sizes[rank - 1]);
  return edge_resize_output(context, op, rank, sizes);
}

static void pack(const Work *work, size_t offset, size_t count, uint32_t *words) {
  const TfLiteTensor *input = work->input;
  work->kernels->pack_int8(input->data.int8 + offset, count,
                           input->type == kTfLiteBool ? 1 : (int8_t)input->params.zero_point,
                           words);
}

/* The last word of a row whose length is no multiple of 32. */
static uint32_t pack_rest(const Work *work, size_t offset, size_t count) {
  uint32_t word;
  int8_t values[32];
  int8_t zero = work->input->type == kTfLiteBool ? 1 : (int8_t)work->input->params.zero_point;
  memset(values, zero, sizeof values);
  memcpy(values, work->input->data.int8 + offset, count);
  work->kernels->pack_int8(values, 32, zero, &word);
  return word;
}

static void pack_part(void *argument, int worker, int part) {
  (void)worker;
  const Work *work = argument;
  size_t first = (size_t)part * work->rows_per_part;
  size_t rows = work->rows - first < work->rows_per_part ? work->rows - first : work->rows_per_part;
  size_t row_words = (size_t)edge_words((int)work->channels);
  size_t rest = work->channels % 32;
  uint32_t *words = work->words + first * row_words;
  if (work->input->type == kTfLiteFloat32) {
    edge_pack_rows(work->kernels, work->input->data.f + first * work->channels, rows,
                   work->channels, words);
    return;
  }
  if (!rest) {
    pack(work, first * work->channels, rows * work->channels, words);
    return;
  }
  for (size_t row = first; row < first + rows; row++, words += row_words) {
    size_t offset = row * work->channels, whole = work->channels - rest;
    pack(work, offset, whole, words);
    words[row_words - 1] = pack_rest(work, offset + whole, rest);
  }
}

static TfLiteStatus invoke(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *output = edge_output(context, op);
  Work work = {.kernels = op->kernels, .input = edge_input(context, op, 0)};
  if (!measure(work.input, output, &work))
    return edge_fail(context, op, "a tensor's memory is smaller than its shape");
  work.words = output->data.u32;
  size_t rows = kValuesPerPart / work.channels;
  work.rows_per_part = rows ? rows : 1;
  size_t parts = (work.rows + work.rows_per_part - 1) / work.rows_per_part;
  if (parts > INT32_MAX) return edge_fail(context, op, "the input is too large");
  edge_threads_run(op->threads, pack_part, &work, (int)parts);
  return kTfLiteOk;
}

const EdgeOpType edge_quantize = {
    .name = "LceQuantize", .inputs = 1, .state_size = 1, .prepare = prepare, .invoke = invoke};
