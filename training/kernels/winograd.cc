// Convolutions with 3x3 kernels of stride 1 in float32, with 4/9 of the multiplications:
// F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
// (arXiv:1509.09308).
//
// A tile of 4x4 inputs gives 2x2 outputs. Both are transformed along rows and columns, so that the
// convolution becomes, for each of 16 positions in the tile, one product of matrices:
//
//     y = A^T (sum over channels of (G g G^T) * (B^T d B)) A
//
// Values of +1 and -1 stay exact: their sums are small multiples of 1/4.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

#ifdef __AVX512F__
constexpr int kLanes = 16, kRows = 8;
#else
constexpr int kLanes = 8, kRows = 4;
#endif
constexpr int kChannels = 16;  // a multiple of these is what the channels must be
constexpr int kPoints = 16;    // of a tile
constexpr int64_t kBlock = 32;  // tiles

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));

Lanes Load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

void Store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof(lanes)); }

// to[r][c] = sum over k < depth of from[r * row + k * step] * by[k * columns + c], plus what `to`
// holds where `adds`, for kRows rows and kColumns times the lanes of columns.
template <int kColumns, bool adds>
void Multiply(const float* from, int64_t row, int64_t step, const float* by, int64_t columns,
              int64_t depth, float* to) {
  Lanes sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      sums[r][c] = adds ? Load(to + r * columns + c * kLanes) : Lanes{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Lanes factors[kColumns];
    for (int c = 0; c < kColumns; ++c) factors[c] = Load(by + k * columns + c * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const float value = from[r * row + k * step];
      for (int c = 0; c < kColumns; ++c) sums[r][c] += value * factors[c];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) Store(to + r * columns + c * kLanes, sums[r][c]);
  }
}

// The same for any multiple of kRows rows, and all columns.
template <bool adds>
void MultiplyAll(const float* from, int64_t rows, int64_t row, int64_t step, const float* by,
                 int64_t columns, int64_t depth, float* to) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= columns; c += 2 * kLanes) {
    for (int64_t r = 0; r < rows; r += kRows) {
      Multiply<2, adds>(from + r * row, row, step, by + c, columns, depth, to + r * columns + c);
    }
  }
  for (; c < columns; c += kLanes) {
    for (int64_t r = 0; r < rows; r += kRows) {
      Multiply<1, adds>(from + r * row, row, step, by + c, columns, depth, to + r * columns + c);
    }
  }
}

// B^T d: of four neighbours, for both directions of a tile.
void TransformInputs(const Lanes d[4], Lanes to[4]) {
  to[0] = d[0] - d[2];
  to[1] = d[1] + d[2];
  to[2] = d[2] - d[1];
  to[3] = d[1] - d[3];
}

// A d, the transpose of what gives the outputs: two neighbours' gradients become four.
void TransformGradients(const Lanes d[2], Lanes to[4]) {
  to[0] = d[0];
  to[1] = d[0] + d[1];
  to[2] = d[0] - d[1];
  to[3] = -d[1];
}

// A^T m.
void TransformOutputs(const Lanes m[4], Lanes to[2]) {
  to[0] = m[0] + m[1] + m[2];
  to[1] = m[1] - m[2] - m[3];
}

// G g.
void TransformKernel(const Lanes g[3], Lanes to[4]) {
  to[0] = g[0];
  to[1] = 0.5f * (g[0] + g[1] + g[2]);
  to[2] = 0.5f * (g[0] - g[1] + g[2]);
  to[3] = g[2];
}

// G^T u: the gradient of the kernel.
void TransformKernelGradient(const Lanes u[4], Lanes to[3]) {
  to[0] = u[0] + 0.5f * (u[1] + u[2]);
  to[1] = 0.5f * (u[1] - u[2]);
  to[2] = 0.5f * (u[1] + u[2]) + u[3];
}

// Applies one of the above along rows and columns.
template <int kFrom, int kTo, typename Transform>
void Twice(const Transform& transform, const Lanes (&from)[kFrom][kFrom], Lanes (&to)[kTo][kTo]) {
  Lanes half[kTo][kFrom], column[kFrom], result[kTo];
  for (int j = 0; j < kFrom; ++j) {
    for (int i = 0; i < kFrom; ++i) column[i] = from[i][j];
    transform(column, result);
    for (int i = 0; i < kTo; ++i) half[i][j] = result[i];
  }
  for (int i = 0; i < kTo; ++i) transform(half[i], to[i]);
}

// Values of a point for all tiles of a block; a cache line apart, lest all points fall into the
// same lines of a cache.
int64_t SizeOfPoint(int64_t channels) { return kBlock * channels + 16; }

// How the tiles lie in the results, and in blocks that caches hold.
struct Grid {
  int64_t tiles, down, across;

  explicit Grid(const TensorShape& results)
      : down((results.dim_size(1) + 1) / 2), across((results.dim_size(2) + 1) / 2) {
    tiles = results.dim_size(0) * down * across;
  }

  int64_t Blocks() const { return (tiles + kBlock - 1) / kBlock; }
  int64_t TilesOf(int64_t block) const { return std::min(kBlock, tiles - block * kBlock); }
};

// Maps of (images, height, width, channels), seen as tiles of kSize x kSize that begin every two
// pixels, the first of them `padding` pixels outside; what lies outside is 0.
template <int kSize>
class Tiles {
 public:
  Tiles(const TensorShape& maps, int64_t padding, const Grid& grid)
      : height_(maps.dim_size(1)), width_(maps.dim_size(2)), channels_(maps.dim_size(3)),
        padding_(padding), down_(grid.down), across_(grid.across) {}

  // Transforms `count` tiles of a block: to[point][tile][channel].
  template <typename Transform>
  void Read(const float* maps, int64_t first, int64_t count, const Transform& transform,
            float* to) const {
    for (int64_t tile = 0; tile < count; ++tile) {
      const Place place = Find(first + tile);
      for (int64_t c = 0; c < channels_; c += kLanes) {
        Lanes from[kSize][kSize], points[4][4];
        for (int i = 0; i < kSize; ++i) {
          for (int j = 0; j < kSize; ++j) {
            from[i][j] = Has(place, i, j) ? Load(maps + Offset(place, i, j) + c) : Lanes{};
          }
        }
        Twice(transform, from, points);
        for (int p = 0; p < kPoints; ++p) {
          Store(to + p * SizeOfPoint(channels_) + tile * channels_ + c, points[p / 4][p % 4]);
        }
      }
    }
  }

  // The way back, into the pixels that are inside.
  void Write(const float* from, int64_t first, int64_t count, float* maps) const {
    for (int64_t tile = 0; tile < count; ++tile) {
      const Place place = Find(first + tile);
      for (int64_t c = 0; c < channels_; c += kLanes) {
        Lanes points[4][4], to[kSize][kSize];
        for (int p = 0; p < kPoints; ++p) {
          points[p / 4][p % 4] = Load(from + p * SizeOfPoint(channels_) + tile * channels_ + c);
        }
        Twice(TransformOutputs, points, to);
        for (int i = 0; i < kSize; ++i) {
          for (int j = 0; j < kSize; ++j) {
            if (Has(place, i, j)) Store(maps + Offset(place, i, j) + c, to[i][j]);
          }
        }
      }
    }
  }

 private:
  struct Place {
    int64_t y, x, corner;  // where the tile begins, and where that is in memory
    bool inside;           // all of it
  };

  Place Find(int64_t tile) const {
    const int64_t image = tile / (down_ * across_), rest = tile % (down_ * across_);
    const int64_t y = 2 * (rest / across_) - padding_, x = 2 * (rest % across_) - padding_;
    const bool inside = y >= 0 && y + kSize <= height_ && x >= 0 && x + kSize <= width_;
    return {y, x, ((image * height_ + y) * width_ + x) * channels_, inside};
  }

  bool Has(const Place& place, int i, int j) const {
    return place.inside || (0 <= place.y + i && place.y + i < height_ && 0 <= place.x + j &&
                            place.x + j < width_);
  }

  int64_t Offset(const Place& place, int i, int j) const {
    return place.corner + (i * width_ + j) * channels_;
  }

  int64_t height_, width_, channels_, padding_, down_, across_;
};

#define REQUIRE(context, condition, message) \
  OP_REQUIRES(context, condition, InvalidArgument(message))

class WinogradKernel : public OpKernel {
 public:
  explicit WinogradKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
  }

 protected:
  // Shares `count` items out among threads: calls work(first, last).
  template <typename Work>
  static void Share(OpKernelContext* context, int64_t count, int64_t cost, const Work& work) {
    context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(count, cost, work);
  }

  tensorflow::Status ShapeOfResult(const Tensor& x, int64_t channels, TensorShape* shape) const {
    const int64_t height = x.dim_size(1) + 2 * padding_ - 2;
    const int64_t width = x.dim_size(2) + 2 * padding_ - 2;
    if (height < 1 || width < 1) return InvalidArgument("x must be as large as the kernel");
    *shape = TensorShape({x.dim_size(0), height, width, channels});
    return tensorflow::OkStatus();
  }

  int64_t padding_;  // zeros around the maps, on each side
};

class Winograd : public WinogradKernel {
 public:
  explicit Winograd(OpKernelConstruction* context) : WinogradKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("turned", &turned_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& kernel = context->input(1);
    REQUIRE(context, x.dims() == 4 && kernel.dims() == 4, "x and kernel must have 4 dimensions");
    const int64_t inputs = kernel.dim_size(turned_ ? 3 : 2);
    const int64_t outputs = kernel.dim_size(turned_ ? 2 : 3);
    REQUIRE(context, kernel.dim_size(0) == 3 && kernel.dim_size(1) == 3 && x.dim_size(3) == inputs,
            "the kernel must be 3x3, with the channels of x");
    REQUIRE(context, inputs % kChannels == 0 && outputs % kChannels == 0,
            "the channels must be multiples of 16");
    TensorShape shape;
    OP_REQUIRES_OK(context, ShapeOfResult(x, outputs, &shape));
    Tensor* y;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &y));
    Tensor factors;
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT,
                                                   TensorShape({kPoints, inputs, outputs}),
                                                   &factors));
    const float* from = x.flat<float>().data();
    float* by = factors.flat<float>().data();
    float* to = y->flat<float>().data();
    Transform(kernel.flat<float>().data(), inputs, outputs, by);
    const Grid grid(shape);
    const Tiles<4> read(x.shape(), padding_, grid);
    const Tiles<2> write(shape, 0, grid);
    const int64_t cost = kPoints * kBlock * inputs * outputs / kLanes;
    Share(context, grid.Blocks(), cost, [&](int64_t begin, int64_t end) {
      Eigen::ArrayXf points(kPoints * SizeOfPoint(inputs));
      Eigen::ArrayXf products(kPoints * SizeOfPoint(outputs));
      for (int64_t block = begin; block < end; ++block) {
        const int64_t count = grid.TilesOf(block);
        read.Read(from, block * kBlock, count, TransformInputs, points.data());
        for (int p = 0; p < kPoints; ++p) {  // what lies beyond `count` is not used
          MultiplyAll<false>(points.data() + p * SizeOfPoint(inputs), kBlock, inputs, 1,
                             by + p * inputs * outputs, outputs, inputs,
                             products.data() + p * SizeOfPoint(outputs));
        }
        write.Write(products.data(), block * kBlock, count, to);
      }
    });
  }

 private:
  // to[point][input][output]
  void Transform(const float* kernel, int64_t inputs, int64_t outputs, float* to) const {
    const int64_t size = inputs * outputs;
    for (int64_t i = 0; i < size; i += kLanes) {
      Lanes from[3][3], points[4][4];
      for (int p = 0; p < 9; ++p) {
        from[p / 3][p % 3] = Load(kernel + (turned_ ? 8 - p : p) * size + i);
      }
      Twice(TransformKernel, from, points);
      for (int p = 0; p < kPoints; ++p) {
        float* point = to + p * size;
        if (!turned_) {
          Store(point + i, points[p / 4][p % 4]);
        } else {
          for (int lane = 0; lane < kLanes; ++lane) {
            point[(i + lane) % inputs * outputs + i / inputs] = points[p / 4][p % 4][lane];
          }
        }
      }
    }
  }

  bool turned_;  // by 180 degrees, and the kernel's inputs are outputs: for the gradient of x
};

class WinogradKernelGrad : public WinogradKernel {
 public:
  using WinogradKernel::WinogradKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& upstream = context->input(1);
    REQUIRE(context, x.dims() == 4 && upstream.dims() == 4,
            "x and upstream must have 4 dimensions");
    const int64_t inputs = x.dim_size(3), outputs = upstream.dim_size(3);
    REQUIRE(context, inputs % kChannels == 0 && outputs % kChannels == 0,
            "the channels must be multiples of 16");
    TensorShape shape;
    OP_REQUIRES_OK(context, ShapeOfResult(x, outputs, &shape));
    REQUIRE(context, upstream.shape() == shape, "upstream must have the shape of the result");
    Tensor* kernel_grad;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({3, 3, inputs, outputs}),
                                                     &kernel_grad));
    const float* from = x.flat<float>().data();
    const float* above = upstream.flat<float>().data();
    const Grid grid(shape);
    const Tiles<4> read(x.shape(), padding_, grid);
    const Tiles<2> read_above(shape, 0, grid);
    // Each part has sums of its own, which are added up in order.
    const int64_t size = inputs * outputs, blocks = grid.Blocks();
    const int64_t threads = context->device()->tensorflow_cpu_worker_threads()->num_threads;
    const int64_t parts = std::max<int64_t>(1, std::min(threads, blocks));
    Tensor sums;
    OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT,
                                                   TensorShape({parts, kPoints * size}), &sums));
    float* sum = sums.flat<float>().data();
    const int64_t cost = kPoints * kBlock * size / kLanes * (blocks / parts);
    Share(context, parts, cost, [&](int64_t begin, int64_t end) {
      Eigen::ArrayXf points(kPoints * SizeOfPoint(inputs));
      Eigen::ArrayXf gradients(kPoints * SizeOfPoint(outputs));
      for (int64_t part = begin; part < end; ++part) {
        float* to = sum + part * kPoints * size;
        std::fill_n(to, kPoints * size, 0.0f);
        for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; ++block) {
          const int64_t count = grid.TilesOf(block);
          read.Read(from, block * kBlock, count, TransformInputs, points.data());
          read_above.Read(above, block * kBlock, count, TransformGradients, gradients.data());
          for (int p = 0; p < kPoints; ++p) {
            MultiplyAll<true>(points.data() + p * SizeOfPoint(inputs), inputs, 1, inputs,
                              gradients.data() + p * SizeOfPoint(outputs), outputs, count,
                              to + p * size);
          }
        }
      }
    });
    for (int64_t part = 1; part < parts; ++part) {
      for (int64_t i = 0; i < kPoints * size; ++i) sum[i] += sum[part * kPoints * size + i];
    }
    float* to = kernel_grad->flat<float>().data();
    for (int64_t i = 0; i < size; i += kLanes) {
      Lanes points[4][4], kernel[3][3];
      for (int p = 0; p < kPoints; ++p) points[p / 4][p % 4] = Load(sum + p * size + i);
      Twice(TransformKernelGradient, points, kernel);
      for (int p = 0; p < 9; ++p) Store(to + p * size + i, kernel[p / 3][p % 3]);
    }
  }
};

}  // namespace

REGISTER_OP("LarqSeresnetWinograd")
    .Attr("padding: int")
    .Attr("turned: bool")
    .Input("x: float")
    .Input("kernel: float")
    .Output("y: float")
    .SetShapeFn([](InferenceContext* context) {
      int64_t padding;
      bool turned;
      TF_RETURN_IF_ERROR(context->GetAttr("padding", &padding));
      TF_RETURN_IF_ERROR(context->GetAttr("turned", &turned));
      tensorflow::shape_inference::ShapeHandle x = context->input(0), kernel, y;
      TF_RETURN_IF_ERROR(context->WithRank(x, 4, &x));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 4, &kernel));
      TF_RETURN_IF_ERROR(context->ReplaceDim(x, 3, context->Dim(kernel, turned ? 2 : 3), &y));
      for (int i = 1; i < 3; ++i) {
        tensorflow::shape_inference::DimensionHandle size;
        TF_RETURN_IF_ERROR(context->Add(context->Dim(x, i), 2 * padding, &size));
        TF_RETURN_IF_ERROR(context->Subtract(size, 2, &size));
        TF_RETURN_IF_ERROR(context->ReplaceDim(y, i, size, &y));
      }
      context->set_output(0, y);
      return tensorflow::OkStatus();
    });

REGISTER_OP("LarqSeresnetWinogradKernelGrad")
    .Attr("padding: int")
    .Input("x: float")
    .Input("upstream: float")
    .Output("kernel_grad: float")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->MakeShape({3, 3, context->Dim(context->input(0), 3),
                                                 context->Dim(context->input(1), 3)}));
      return tensorflow::OkStatus();
    });

REGISTER_KERNEL_BUILDER(Name("LarqSeresnetWinograd").Device(tensorflow::DEVICE_CPU), Winograd);
REGISTER_KERNEL_BUILDER(Name("LarqSeresnetWinogradKernelGrad").Device(tensorflow::DEVICE_CPU),
                        WinogradKernelGrad);
