#include "op.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TfLiteStatus edge_fail(TfLiteContext *context, const EdgeOp *op, const char *format, ...) {
  char message[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  /* The runtime goes on behind it with the number of the node. */
  context->ReportError(context, "%s: %s.\n", op->type->name, message);
  return kTfLiteError;
}

static TfLiteTensor *tensor_at(TfLiteContext *context, int index) {
  if (index < 0 || (size_t)index >= context->tensors_size) return NULL;
  TfLiteTensor *tensor = &context->tensors[index];
  return tensor->dims ? tensor : NULL;
}

TfLiteTensor *edge_input(TfLiteContext *context, const EdgeOp *op, int index) {
  return tensor_at(context, op->inputs[index]);
}

TfLiteTensor *edge_output_at(TfLiteContext *context, const EdgeOp *op, int index) {
  return tensor_at(context, op->outputs[index]);
}

TfLiteTensor *edge_output(TfLiteContext *context, const EdgeOp *op) {
  return edge_output_at(context, op, 0);
}

TfLiteTensor *edge_checked_input(TfLiteContext *context, const EdgeOp *op, int index,
                                 const char *name, int type, int rank) {
  TfLiteTensor *tensor = edge_input(context, op, index);
  if (!tensor) {
    edge_fail(context, op, "the %s tensor is missing", name);
    return NULL;
  }
  if (tensor->type != type) {
    edge_fail(context, op, "the %s tensor has type %d, not %d", name, tensor->type, type);
    return NULL;
  }
  if (tensor->dims->size != rank) {
    edge_fail(context, op, "the %s tensor has %d dimensions, not %d", name, tensor->dims->size,
              rank);
    return NULL;
  }
  size_t bytes;
  if (!edge_tensor_bytes(tensor->dims, 4, &bytes)) {
    edge_fail(context, op, "the %s tensor's sizes are not positive or too large", name);
    return NULL;
  }
  return tensor;
}

TfLiteTensor *edge_constant_input(TfLiteContext *context, const EdgeOp *op, int index,
                                  const char *name, int type, int rank) {
  TfLiteTensor *tensor = edge_checked_input(context, op, index, name, type, rank);
  if (!tensor) return NULL;
  if (tensor->allocation_type != kTfLiteMmapRo || !edge_has_data(tensor, 4)) {
    edge_fail(context, op, "the %s tensor is not a constant of its shape's size", name);
    return NULL;
  }
  return tensor;
}

bool edge_tensor_bytes(const TfLiteIntArray *dims, size_t element_bytes, size_t *bytes) {
  size_t product = element_bytes;
  for (int i = 0; i < dims->size; i++) {
    if (dims->data[i] <= 0) return false;
    if (__builtin_mul_overflow(product, (size_t)dims->data[i], &product)) return false;
  }
  *bytes = product;
  /* On 32 bits that is half a GiB. A tile's 16 lanes for every four bytes can still be counted. */
  return product <= SIZE_MAX / 8;
}

bool edge_has_data(const TfLiteTensor *tensor, size_t element_bytes) {
  size_t bytes;
  return tensor->data.raw && edge_tensor_bytes(tensor->dims, element_bytes, &bytes) &&
         tensor->bytes >= bytes;
}

TfLiteStatus edge_resize(TfLiteContext *context, const EdgeOp *op, TfLiteTensor *tensor, int rank,
                         const int *sizes) {
  TfLiteIntArray *shape = malloc(sizeof *shape + (size_t)rank * sizeof *shape->data);
  if (!shape) return edge_fail(context, op, "out of memory");
  shape->size = rank;
  memcpy(shape->data, sizes, (size_t)rank * sizeof *sizes);
  size_t bytes;
  if (!edge_tensor_bytes(shape, sizeof(float), &bytes)) {
    free(shape);
    return edge_fail(context, op, "the output is too large");
  }
  return context->ResizeTensor(context, tensor, shape);
}

TfLiteStatus edge_resize_output(TfLiteContext *context, const EdgeOp *op, int rank,
                                const int *sizes) {
  return edge_resize(context, op, edge_output(context, op), rank, sizes);
}

bool edge_window(int input, int filter, int stride, int dilation, int padding,
                 EdgeWindow *window) {
  if (input <= 0 || filter <= 0 || stride <= 0 || dilation <= 0) return false;
  if (padding != kEdgePaddingSame && padding != kEdgePaddingValid) return false;
  int64_t span = (int64_t)(filter - 1) * dilation + 1; /* input positions that a window covers */
  if (span > INT32_MAX || (int64_t)input + stride > INT32_MAX) return false;
  int64_t output = padding == kEdgePaddingSame ? ((int64_t)input + stride - 1) / stride
                                               : ((int64_t)input + stride - span) / stride;
  if (padding == kEdgePaddingValid && input < span) return false;
  int64_t padded = (output - 1) * stride + span - input;
  *window = (EdgeWindow){(int)output, padded > 0 ? (int)(padded / 2) : 0};
  return true;
}
