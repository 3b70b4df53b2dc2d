/* The part of TensorFlow Lite's binary interface that an external delegate touches.
 *
 * No wheel of LiteRT or tflite-runtime ships C headers, so the structs are declared here, member by
 * member, as far as the delegate reads them. They hold for tflite-runtime 2.14 and, on 64-bit
 * machines, LiteRT 2.x. `abi_contradicts` in delegate.c refuses to run where what it sees
 * contradicts them. Names of the members are TensorFlow Lite's, so that its documentation applies.
 */
#ifndef LARQ_SERESNET_TFLITE_ABI_H_
#define LARQ_SERESNET_TFLITE_ABI_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian machines are supported"
#endif

typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;

/* Element types; those that no Larq Compute Engine operator uses are left out. */
enum { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteBool = 6, kTfLiteInt8 = 9 };

/* Where a tensor's memory comes from. */
enum {
  kTfLiteMmapRo = 1,               /* a constant of the model file */
  kTfLiteArenaRw = 2,              /* shared memory, reused by other tensors within an inference */
  kTfLiteArenaRwPersistent = 3,    /* the tensor's own memory, kept between inferences */
  kTfLiteDynamic = 4,              /* the tensor's own, resized while the graph runs */
  kTfLitePersistentRo = 5          /* computed once while tensors are allocated */
};

enum { kTfLiteBuiltinCustom = 32 };
enum { kTfLiteOptionalTensor = -1 };

/* Without this flag TFLite prepares the graph before a delegate sees it, and stops at the first
 * custom operator that nothing resolves. */
enum { kTfLiteDelegateFlagsAllowDynamicTensors = 1 };

typedef struct TfLiteIntArray {
  int size;
  int data[];
} TfLiteIntArray;

typedef struct TfLiteContext TfLiteContext;
typedef struct TfLiteDelegate TfLiteDelegate;

typedef struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
} TfLiteQuantizationParams;

typedef struct TfLiteTensor {
  int type;
  union {
    void *raw;
    float *f;
    int8_t *int8;
    uint8_t *uint8;
    int32_t *i32;
    uint32_t *u32;
  } data;
  TfLiteIntArray *dims;
  TfLiteQuantizationParams params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  TfLiteDelegate *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const TfLiteIntArray *dims_signature;
} TfLiteTensor;

typedef struct TfLiteNode {
  TfLiteIntArray *inputs;
  TfLiteIntArray *outputs;
  TfLiteIntArray *intermediates;
  TfLiteIntArray *temporaries;
  void *user_data;
  void *builtin_data;
  const void *custom_initial_data;
  int custom_initial_data_size;
  TfLiteDelegate *delegate;
  bool might_have_side_effect;
} TfLiteNode;

/* Passed by value, on the stack: the struct must be at least as long as the runtime's, hence the
 * members that are never set. On 32-bit ARM further arguments lie behind it, so that it must be
 * exactly as long. */
typedef struct TfLiteRegistration {
  void *(*init)(TfLiteContext *context, const char *buffer, size_t length);
  void (*free)(TfLiteContext *context, void *buffer);
  TfLiteStatus (*prepare)(TfLiteContext *context, TfLiteNode *node);
  TfLiteStatus (*invoke)(TfLiteContext *context, TfLiteNode *node);
  const char *(*profiling_string)(const TfLiteContext *context, const TfLiteNode *node);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *async_kernel;
  uint64_t inplace_operator;
#if __SIZEOF_POINTER__ == 8
  void *reserved[4];
#endif
} TfLiteRegistration;

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext *context, TfLiteIntArray **execution_plan);
  TfLiteTensor *tensors;
  void *impl_;
  /* Takes ownership of `new_size`, which must come from malloc. */
  TfLiteStatus (*ResizeTensor)(TfLiteContext *context, TfLiteTensor *tensor,
                               TfLiteIntArray *new_size);
  void (*ReportError)(TfLiteContext *context, const char *format, ...);
  TfLiteStatus (*AddTensors)(TfLiteContext *context, int count, int *first_new_tensor_index);
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext *context, int node_index, TfLiteNode **node,
                                         TfLiteRegistration **registration);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext *context,
                                                        TfLiteRegistration registration,
                                                        const TfLiteIntArray *nodes_to_replace,
                                                        TfLiteDelegate *delegate);
  int recommended_num_threads;
  /* More members follow in the runtime's struct; it is only ever reached through a pointer. */
};

struct TfLiteDelegate {
  void *data_;
  TfLiteStatus (*Prepare)(TfLiteContext *context, TfLiteDelegate *delegate);
  void *CopyFromBufferHandle;
  void *CopyToBufferHandle;
  void *FreeBufferHandle;
  int64_t flags;
  void *opaque_delegate_builder;
};

/* What a delegate kernel's `init` receives in place of an operator's options. */
typedef struct TfLiteDelegateParams {
  TfLiteDelegate *delegate;
  TfLiteIntArray *nodes_to_replace;
  TfLiteIntArray *input_tensors;
  TfLiteIntArray *output_tensors;
} TfLiteDelegateParams;

#endif /* LARQ_SERESNET_TFLITE_ABI_H_ */
