// Kernels of this folder's operations but convolution. All tensors are contiguous, images NCHW. Arithmetic is in float
// for float and bf16, in double for double. Compiled at run time without headers, so bf16 is taken apart by hand.

struct bf16 {
  unsigned short bits;
};

template <typename T> struct Wide { typedef float type; };
template <> struct Wide<double> { typedef double type; };

__device__ float widen(float x) { return x; }
__device__ double widen(double x) { return x; }
__device__ float widen(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

__device__ void store(float *to, float x) { *to = x; }
__device__ void store(double *to, double x) { *to = x; }
// Rounds to nearest even.
__device__ void store(bf16 *to, float x) {
  unsigned bits = __float_as_uint(x);
  to->bits = x != x ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

__device__ size_t index() { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }

// The sum over all threads of the block, of which there is a multiple of 32; every thread gets it.
template <typename W> __device__ W block_sum(W value) {
  __shared__ W warps[32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffff, value, offset);
  __syncthreads(); // the sum before this one has been read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  W sum = 0;
  for (int warp = 0; warp < blockDim.x / 32; warp++) sum += warps[warp];
  return sum;
}

// One thread per value. bias has `biases` values, C or N * C.
template <typename T>
__device__ void add_bias(const T *x, const T *bias, T *y, size_t count, int pixels, int biases) {
  size_t i = index();
  if (i < count) store(y + i, widen(x[i]) + widen(bias[i / pixels % biases]));
}

// One block per sum. Sum number i is over the planes i, i + sums, i + 2 sums ... of `planes`.
template <typename T> __device__ void channel_sums(const T *x, T *y, int planes, int pixels, int sums) {
  typename Wide<T>::type sum = 0;
  for (int plane = blockIdx.x; plane < planes; plane += sums)
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) sum += widen(x[(size_t)plane * pixels + i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) store(y + blockIdx.x, sum);
}

// One thread per value: v where x >= 0, else slope * v.
template <typename T> __device__ void slope_times(const T *x, const T *v, T *y, size_t count, double slope) {
  typedef typename Wide<T>::type W;
  size_t i = index();
  if (i < count) store(y + i, widen(x[i]) >= 0 ? widen(v[i]) : (W)slope * widen(v[i]));
}

// One thread per value.
template <typename T> __device__ void clamp_values(const T *x, T *y, size_t count, double low, double high) {
  typedef typename Wide<T>::type W;
  size_t i = index();
  if (i >= count) return;
  W value = widen(x[i]);
  store(y + i, value < (W)low ? (W)low : value > (W)high ? (W)high : value);
}

// One thread per value: v where x lies between low and high, else 0.
template <typename T>
__device__ void where_between(const T *x, const T *v, T *y, size_t count, double low, double high) {
  typedef typename Wide<T>::type W;
  size_t i = index();
  if (i >= count) return;
  W value = widen(x[i]);
  store(y + i, (W)low < value && value < (W)high ? widen(v[i]) : (W)0);
}

// One thread per value of y. x is h by w, y is out_h by out_w, a kernel has k * k weights.
template <typename T>
__device__ void depthwise_gather(const T *x, const T *weight, T *y, size_t count, int channels, int h, int w,
                                 int out_h, int out_w, int k, int stride, int pad) {
  size_t i = index();
  if (i >= count) return;
  int first_row = i / out_w % out_h * stride - pad, first_column = i % out_w * stride - pad;
  size_t plane = i / out_w / out_h;
  x += plane * h * w;
  weight += plane % channels * k * k;
  typename Wide<T>::type sum = 0;
  for (int a = 0; a < k; a++)
    for (int b = 0; b < k; b++) {
      int row = first_row + a, column = first_column + b;
      if (row >= 0 && row < h && column >= 0 && column < w) sum += widen(weight[a * k + b]) * widen(x[row * w + column]);
    }
  store(y + i, sum);
}

// One thread per value of x; the adjoint of the former, from y's gradient.
template <typename T>
__device__ void depthwise_spread(const T *y, const T *weight, T *x, size_t count, int channels, int h, int w, int out_h,
                                 int out_w, int k, int stride, int pad) {
  size_t i = index();
  if (i >= count) return;
  int last_row = i / w % h + pad, last_column = i % w + pad;
  size_t plane = i / w / h;
  y += plane * out_h * out_w;
  weight += plane % channels * k * k;
  typename Wide<T>::type sum = 0;
  for (int a = 0; a < k; a++)
    for (int b = 0; b < k; b++) {
      int row = last_row - a, column = last_column - b;
      if (row < 0 || column < 0 || row % stride || column % stride) continue;
      row /= stride;
      column /= stride;
      if (row < out_h && column < out_w) sum += widen(weight[a * k + b]) * widen(y[row * out_w + column]);
    }
  store(x + i, sum);
}

enum FirMode { UPSAMPLE, DOWNSAMPLE, SMOOTH, SMOOTH_ADJOINT };

// The inputs first .. first + 3 and their weights that output i of one dimension is made of.
template <typename W> __device__ int fir_taps(int mode, int i, W weights[4]) {
  if (mode == UPSAMPLE) {
    weights[0] = i % 2 ? 0.75 : 0.25;
    weights[1] = i % 2 ? 0.25 : 0.75;
    weights[2] = weights[3] = 0;
    return i % 2 ? i / 2 : i / 2 - 1;
  }
  weights[0] = weights[3] = 0.125;
  weights[1] = weights[2] = 0.375;
  return mode == DOWNSAMPLE ? 2 * i - 1 : mode == SMOOTH ? i - 2 : i - 1;
}

// One thread per output.
template <typename T>
__device__ void fir(const T *x, T *y, size_t count, int mode, int h, int w, int out_h, int out_w) {
  typedef typename Wide<T>::type W;
  size_t i = index();
  if (i >= count) return;
  W row_weights[4], column_weights[4];
  int first_row = fir_taps(mode, i / out_w % out_h, row_weights);
  int first_column = fir_taps(mode, i % out_w, column_weights);
  x += i / out_w / out_h * h * w;
  W sum = 0;
  for (int a = 0; a < 4; a++) {
    int row = first_row + a;
    if (row < 0 || row >= h) continue;
    W line = 0;
    for (int b = 0; b < 4; b++) {
      int column = first_column + b;
      if (column >= 0 && column < w) line += column_weights[b] * widen(x[row * w + column]);
    }
    sum += row_weights[a] * line;
  }
  store(y + i, sum);
}

// Mean, and one over the standard deviation, of a group of `count` values.
template <typename T, typename W> __device__ void moments(const T *x, int count, double eps, W *mean, W *rstd) {
  W sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += widen(x[i]);
  *mean = block_sum(sum) / count;
  W squares = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    W centred = widen(x[i]) - *mean;
    squares += centred * centred;
  }
  *rstd = 1 / sqrt(block_sum(squares) / count + (W)eps);
}

// One block per sample and group. scale and shift have `rows` rows of C values, rows being 1 or N.
template <typename T>
__device__ void group_norm(const T *x, const T *scale, const T *shift, T *y, int channels, int pixels, int groups,
                           int rows, int silu, double eps) {
  typedef typename Wide<T>::type W;
  int count = channels / groups * pixels;
  int row = rows == 1 ? 0 : blockIdx.x / groups;
  int first = row * channels + blockIdx.x % groups * (channels / groups);
  x += (size_t)blockIdx.x * count;
  y += (size_t)blockIdx.x * count;
  W mean, rstd;
  moments(x, count, eps, &mean, &rstd);
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    int c = first + i / pixels;
    W u = (widen(x[i]) - mean) * rstd * widen(scale[c]) + widen(shift[c]);
    store(y + i, silu ? u * sigmoid(u) : u);
  }
}

// One block per sample and group. affine is scale, then shift. out is the gradient of x, then those of scale and shift
// for every sample, N rows each.
template <typename T>
__device__ void group_norm_grad(const T *x, const T *affine, const T *grad, T *out, int samples, int channels,
                                int pixels, int groups, int rows, int silu, double eps) {
  typedef typename Wide<T>::type W;
  int group_channels = channels / groups;
  int count = group_channels * pixels;
  int sample = blockIdx.x / groups, first = blockIdx.x % groups * group_channels;
  const T *scale = affine + (rows == 1 ? 0 : sample) * channels + first;
  const T *shift = scale + rows * channels;
  T *dx = out + (size_t)blockIdx.x * count;
  T *dscale = out + (size_t)samples * channels * pixels + sample * channels + first;
  T *dshift = dscale + samples * channels;
  x += (size_t)blockIdx.x * count;
  grad += (size_t)blockIdx.x * count;
  W mean, rstd;
  moments(x, count, eps, &mean, &rstd);
  // The normalised value, and the gradient on it before scale.
  auto normalised = [&](int i) { return (widen(x[i]) - mean) * rstd; };
  auto before_activation = [&](int i, W normal) {
    W d = widen(grad[i]);
    if (!silu) return d;
    W u = normal * widen(scale[i / pixels]) + widen(shift[i / pixels]);
    W s = sigmoid(u);
    return d * s * (1 + u * (1 - s));
  };
  W sum_d = 0, sum_dn = 0;
  for (int c = 0; c < group_channels; c++) {
    W d_sum = 0, dn_sum = 0;
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
      W normal = normalised(c * pixels + p);
      W d = before_activation(c * pixels + p, normal);
      d_sum += d;
      dn_sum += d * normal;
    }
    d_sum = block_sum(d_sum);
    dn_sum = block_sum(dn_sum);
    if (threadIdx.x == 0) {
      store(dshift + c, d_sum);
      store(dscale + c, dn_sum);
    }
    sum_d += d_sum * widen(scale[c]);
    sum_dn += dn_sum * widen(scale[c]);
  }
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    W normal = normalised(i);
    W d = before_activation(i, normal) * widen(scale[i / pixels]);
    store(dx + i, rstd * (d - sum_d / count - normal * (sum_dn / count)));
  }
}

#define KERNELS(T)                                                                                                     \
  extern "C" __global__ void add_bias_##T(const T *x, const T *bias, T *y, size_t count, int pixels, int biases) {     \
    add_bias(x, bias, y, count, pixels, biases);                                                                       \
  }                                                                                                                    \
  extern "C" __global__ void channel_sums_##T(const T *x, T *y, int planes, int pixels, int sums) {                    \
    channel_sums(x, y, planes, pixels, sums);                                                                          \
  }                                                                                                                    \
  extern "C" __global__ void slope_times_##T(const T *x, const T *v, T *y, size_t count, double slope) {               \
    slope_times(x, v, y, count, slope);                                                                                \
  }                                                                                                                    \
  extern "C" __global__ void clamp_values_##T(const T *x, T *y, size_t count, double low, double high) {               \
    clamp_values(x, y, count, low, high);                                                                              \
  }                                                                                                                    \
  extern "C" __global__ void where_between_##T(const T *x, const T *v, T *y, size_t count, double low, double high) {  \
    where_between(x, v, y, count, low, high);                                                                          \
  }                                                                                                                    \
  extern "C" __global__ void depthwise_gather_##T(const T *x, const T *weight, T *y, size_t count, int channels, int h,\
                                                  int w, int out_h, int out_w, int k, int stride, int pad) {           \
    depthwise_gather(x, weight, y, count, channels, h, w, out_h, out_w, k, stride, pad);                               \
  }                                                                                                                    \
  extern "C" __global__ void depthwise_spread_##T(const T *y, const T *weight, T *x, size_t count, int channels, int h,\
                                                  int w, int out_h, int out_w, int k, int stride, int pad) {           \
    depthwise_spread(y, weight, x, count, channels, h, w, out_h, out_w, k, stride, pad);                               \
  }                                                                                                                    \
  extern "C" __global__ void fir_##T(const T *x, T *y, size_t count, int mode, int h, int w, int out_h, int out_w) {   \
    fir(x, y, count, mode, h, w, out_h, out_w);                                                                        \
  }                                                                                                                    \
  extern "C" __global__ void group_norm_##T(const T *x, const T *scale, const T *shift, T *y, int channels,            \
                                            int pixels, int groups, int rows, int silu, double eps) {                  \
    group_norm(x, scale, shift, y, channels, pixels, groups, rows, silu, eps);                                         \
  }                                                                                                                    \
  extern "C" __global__ void group_norm_grad_##T(const T *x, const T *affine, const T *grad, T *out, int samples,      \
                                                 int channels, int pixels, int groups, int rows, int silu,             \
                                                 double eps) {                                                         \
    group_norm_grad(x, affine, grad, out, samples, channels, pixels, groups, rows, silu, eps);                         \
  }

KERNELS(float)
KERNELS(double)
KERNELS(bf16)

// A parameter and what Adam needs of it; a row of the table that adam.rs makes.
struct Slot {
  float *value, *first, *second;
  const float *gradient;
  size_t count;
};

// PORTIONS blocks (x) for each tensor (y): the sum of the squares of their part of its gradient.
extern "C" __global__ void gradient_squares(const Slot *slots, double *sums) {
  Slot slot = slots[blockIdx.y];
  double sum = 0;
  for (size_t i = index(); i < slot.count; i += (size_t)gridDim.x * blockDim.x)
    sum += (double)slot.gradient[i] * slot.gradient[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// One block: the root of the sum.
extern "C" __global__ void gradient_norm(const double *sums, int count, float *norm) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = sqrt(sum);
}

// What changes from step to step, see adam.rs.
struct Step {
  double rate, beta1, beta2, correct2, epsilon, clip;
};

// PORTIONS blocks for each tensor. Gradients of a norm above `clip` are scaled down to it.
extern "C" __global__ void adam_update(const Slot *slots, const float *norm, const Step *numbers) {
  if (!isfinite(*norm)) return;
  Slot slot = slots[blockIdx.y];
  Step step = *numbers;
  float scale = fmin(step.clip / (*norm + 1e-6), 1.0);
  float beta1 = step.beta1, beta2 = step.beta2, take1 = 1 - step.beta1, take2 = 1 - step.beta2;
  for (size_t i = index(); i < slot.count; i += (size_t)gridDim.x * blockDim.x) {
    float gradient = slot.gradient[i] * scale;
    float first = slot.first[i] * beta1 + gradient * take1;
    float second = slot.second[i] * beta2 + gradient * gradient * take2;
    slot.first[i] = first;
    slot.second[i] = second;
    slot.value[i] -= first / (sqrtf(second / (float)step.correct2) + (float)step.epsilon) * (float)step.rate;
  }
}

struct Pair {
  float *average;
  const float *value;
  size_t count;
};

extern "C" __global__ void move_average(const Pair *pairs, const float *norm, double decay) {
  if (!isfinite(*norm)) return;
  Pair pair = pairs[blockIdx.y];
  float keep = decay, take = 1 - decay;
  for (size_t i = index(); i < pair.count; i += (size_t)gridDim.x * blockDim.x)
    pair.average[i] = pair.average[i] * keep + pair.value[i] * take;
}
