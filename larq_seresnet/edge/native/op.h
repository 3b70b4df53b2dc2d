/* What the operators have in common: how the delegate finds, prepares and runs them. */
#ifndef LARQ_SERESNET_OP_H_
#define LARQ_SERESNET_OP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"
#include "tail.h"
#include "tflite_abi.h"
#include "threads.h"

enum { kEdgeMaxInputs = 5 + kEdgeTailInputs, kEdgeMaxOutputs = 2, kEdgeMaxRank = 8 };

typedef struct EdgeOp EdgeOp;

typedef struct {
  const char *name; /* the custom operator's name in the file */
  int inputs;     /* without the tail's */
  bool has_tail;  /* see tail.h */
  size_t state_size;
  /* Reads the options into the state, which starts zeroed. Returns NULL or what is wrong. */
  const char *(*parse)(void *state, const uint8_t *options, size_t size);
  TfLiteStatus (*prepare)(TfLiteContext *context, EdgeOp *op);
  TfLiteStatus (*invoke)(TfLiteContext *context, EdgeOp *op);
  void (*release)(void *state);
} EdgeOpType;

extern const EdgeOpType edge_quantize;
extern const EdgeOpType edge_dequantize;
extern const EdgeOpType edge_bconv2d;
extern const EdgeOpType edge_bmaxpool2d;
/* Those that the rewriting on loading makes (fuse.py) */
extern const EdgeOpType edge_fused_bconv2d;
extern const EdgeOpType edge_elementwise;
extern const EdgeOpType edge_mean;

/* One node of the graph. */
struct EdgeOp {
  const EdgeOpType *type;
  const EdgeKernels *kernels;
  EdgeThreads *threads;
  int inputs[kEdgeMaxInputs]; /* tensor indices, kTfLiteOptionalTensor for one left out */
  int outputs[kEdgeMaxOutputs], output_count;
  EdgeTail tail;
  const char *error; /* what is wrong with the node, told when it is prepared */
  void *state;
};

/* Reports "<operator>: <message>" and returns kTfLiteError. */
TfLiteStatus edge_fail(TfLiteContext *context, const EdgeOp *op, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* NULL for an optional tensor that was left out. */
TfLiteTensor *edge_input(TfLiteContext *context, const EdgeOp *op, int index);
/* The first output, and any. */
TfLiteTensor *edge_output(TfLiteContext *context, const EdgeOp *op);
TfLiteTensor *edge_output_at(TfLiteContext *context, const EdgeOp *op, int index);

/* The input with its type, number of dimensions and positive sizes checked; reports and returns
 * NULL otherwise. `name` is for the message. */
TfLiteTensor *edge_checked_input(TfLiteContext *context, const EdgeOp *op, int index,
                                 const char *name, int type, int rank);

/* The same for a constant, whose data are complete in the file. */
TfLiteTensor *edge_constant_input(TfLiteContext *context, const EdgeOp *op, int index,
                                  const char *name, int type, int rank);

/* Product of all sizes and `element_bytes`; false where a size is not positive or it overflows. */
bool edge_tensor_bytes(const TfLiteIntArray *dims, size_t element_bytes, size_t *bytes);

TfLiteStatus edge_resize(TfLiteContext *context, const EdgeOp *op, TfLiteTensor *tensor, int rank,
                         const int *sizes);

/* The same for the first output. */
TfLiteStatus edge_resize_output(TfLiteContext *context, const EdgeOp *op, int rank,
                                const int *sizes);

/* Whether the tensor's memory holds what its shape says, `element_bytes` to an element. Shapes can
 * change between preparing and running where a tensor is dynamic, so running checks again. */
bool edge_has_data(const TfLiteTensor *tensor, size_t element_bytes);

static inline int edge_words(int channels) { return channels / 32 + (channels % 32 != 0); }

/* TensorFlow's window arithmetic along one axis. */
typedef struct {
  int output;
  int pad_before;
} EdgeWindow;

enum { kEdgePaddingSame = 0, kEdgePaddingValid = 1 };

/* False where a number is not positive, overflows, or nothing would come out. */
bool edge_window(int input, int filter, int stride, int dilation, int padding, EdgeWindow *window);

#endif /* LARQ_SERESNET_OP_H_ */
