// Stands in for the CUDA libraries on a machine without a GPU: memory is the host's, kernels do nothing, and what the
// program asks for is counted, by name. The file that COUNTS names gets it as JSON when the program ends. With
// RECORDING=refused nothing can be recorded as a CUDA graph.

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOES_NOTHING(name) \
  int name(void) { return 0; }
#define MAKES_HANDLE(name) \
  int name(void **handle) { \
    *handle = &any; \
    return 0; \
  }

enum { OUT_OF_MEMORY = 2, CAPTURE_UNSUPPORTED = 900, MOST_KERNELS = 1024 };

static int any;
static int capturing;
static long captured;
static struct {
  const char *name;
  long launches;
} kernels[MOST_KERNELS];
static long launches, replays, replayed, copies, waits, allocations;

static int launch(const char *name) {
  captured += capturing;
  if (capturing) return 0;
  launches++;
  for (int i = 0; i < MOST_KERNELS; i++) {
    if (!kernels[i].name) kernels[i].name = name;
    if (strcmp(kernels[i].name, name)) continue;
    kernels[i].launches++;
    break;
  }
  return 0;
}

__attribute__((destructor)) static void write_counts(void) {
  const char *path = getenv("COUNTS");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "{\"launches\": %ld, \"replays\": %ld, \"replayed\": %ld, \"copies\": %ld, ", launches, replays, replayed, copies);
  fprintf(file, "\"waits\": %ld, \"allocations\": %ld, \"kernels\": {", waits, allocations);
  for (int i = 0; i < MOST_KERNELS && kernels[i].name; i++) {
    fprintf(file, "%s\"%s\": %ld", i ? ", " : "", kernels[i].name, kernels[i].launches);
  }
  fprintf(file, "}}");
  fclose(file);
}

// Devices
DOES_NOTHING(cuInit)
DOES_NOTHING(cuCtxSetCurrent)
DOES_NOTHING(cuCtxDestroy_v2)
DOES_NOTHING(cuDevicePrimaryCtxRelease_v2)
MAKES_HANDLE(cuCtxGetCurrent)
MAKES_HANDLE(cuDevicePrimaryCtxRetain)
MAKES_HANDLE(cuDeviceGetDefaultMemPool)
int cuDeviceGetCount(int *count) {
  *count = 1;
  return 0;
}
int cuDeviceGet(int *device, int number) {
  *device = number;
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  enum { PROCESSORS = 16, MAJOR = 75, MINOR = 76, MEMORY_POOLS = 115 };
  *value = attribute == MAJOR          ? 9
           : attribute == MINOR        ? 0
           : attribute == PROCESSORS   ? 132
           : attribute == MEMORY_POOLS ? 1
                                       : 1024;
  return 0;
}
int cuGetErrorString(int error, const char **text) {
  *text = error == CAPTURE_UNSUPPORTED ? "recording is refused here" : "out of memory";
  return 0;
}

// Memory. What a recording frees, its replays use again.
static int allocate(void **place, size_t bytes) {
  allocations++;
  *place = calloc(bytes ? bytes : 1, 1);
  return *place ? 0 : OUT_OF_MEMORY;
}
static int release(void *place) {
  if (!capturing) free(place);
  return 0;
}
static int copy(void *to, const void *from, size_t bytes) {
  copies++;
  memcpy(to, from, bytes);
  return 0;
}
int cuMemAlloc_v2(void **place, size_t bytes) { return allocate(place, bytes); }
int cuMemAllocAsync(void **place, size_t bytes, void *stream) { return allocate(place, bytes); }
int cuMemFree_v2(void *place) { return release(place); }
int cuMemFreeAsync(void *place, void *stream) { return release(place); }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) { return copy(to, from, bytes); }
// Into memory that is not pinned: the host waits for it.
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
  waits++;
  return copy(to, from, bytes);
}
int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
  memcpy(to, from, bytes);
  return launch("copy of memory");
}
int cuMemsetD8Async(void *to, unsigned char value, size_t bytes, void *stream) {
  memset(to, value, bytes);
  return launch("set of memory");
}
DOES_NOTHING(cuMemPoolSetAttribute)
DOES_NOTHING(cuMemcpyPeerAsync)

// Streams, events and recordings
MAKES_HANDLE(cuStreamCreate)
MAKES_HANDLE(cuEventCreate)
DOES_NOTHING(cuStreamDestroy_v2)
DOES_NOTHING(cuStreamWaitEvent)
DOES_NOTHING(cuEventRecord)
DOES_NOTHING(cuEventDestroy_v2)
int cuStreamSynchronize(void *stream) {
  waits++;
  return 0;
}
int cuCtxSynchronize(void) {
  waits++;
  return 0;
}
int cuStreamIsCapturing(void *stream, int *status) {
  *status = capturing;
  return 0;
}
int cuStreamBeginCapture_v2(void *stream, int mode) {
  const char *recording = getenv("RECORDING");
  if (recording && !strcmp(recording, "refused")) return CAPTURE_UNSUPPORTED;
  capturing = 1;
  captured = 0;
  return 0;
}
int cuStreamEndCapture(void *stream, long **graph) {
  capturing = 0;
  *graph = malloc(sizeof **graph);
  if (!*graph) return OUT_OF_MEMORY;
  **graph = captured;
  return 0;
}
int cuGraphInstantiateWithFlags(long **executable, long *graph, unsigned long long flags) {
  *executable = graph;
  return 0;
}
int cuGraphLaunch(const long *executable, void *stream) {
  replays++;
  replayed += *executable;
  return 0;
}
DOES_NOTHING(cuGraphDestroy)
DOES_NOTHING(cuGraphExecDestroy)

// Kernels
MAKES_HANDLE(cuModuleLoad)
MAKES_HANDLE(cuModuleLoadData)
DOES_NOTHING(cuModuleUnload)
int cuModuleGetFunction(char **function, void *module, const char *name) {
  *function = strdup(name);
  return *function ? 0 : OUT_OF_MEMORY;
}
int cuLaunchKernel(const char *function) { return launch(function); }
MAKES_HANDLE(nvrtcCreateProgram)
DOES_NOTHING(nvrtcCompileProgram)
DOES_NOTHING(nvrtcDestroyProgram)
static int empty_text(char *text) {
  *text = 0;
  return 0;
}
static int size_of_empty_text(size_t *bytes) {
  *bytes = 1;
  return 0;
}
int nvrtcGetPTX(void *program, char *text) { return empty_text(text); }
int nvrtcGetPTXSize(void *program, size_t *bytes) { return size_of_empty_text(bytes); }
int nvrtcGetProgramLog(void *program, char *text) { return empty_text(text); }
int nvrtcGetProgramLogSize(void *program, size_t *bytes) { return size_of_empty_text(bytes); }

// cuBLAS and cuRAND
MAKES_HANDLE(cublasCreate_v2)
DOES_NOTHING(cublasDestroy_v2)
DOES_NOTHING(cublasSetStream_v2)
int cublasGemmStridedBatchedEx(void) { return launch("matrix product"); }
int cublasDgemmStridedBatched(void) { return launch("matrix product"); }
MAKES_HANDLE(curandCreateGenerator)
DOES_NOTHING(curandDestroyGenerator)
DOES_NOTHING(curandSetPseudoRandomGeneratorSeed)
DOES_NOTHING(curandSetStream)

// cuDNN
typedef struct {
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math, reserved[3];
} Choice;
#define CHOOSES_FIRST(name) \
  int name(void *a, void *b, void *c, void *d, void *e, int asked, int *given, Choice *choice) { \
    *choice = (Choice){0}; \
    *given = 1; \
    return 0; \
  }
#define NEEDS_NO_WORKSPACE(name) \
  int name(void *a, void *b, void *c, void *d, void *e, int algorithm, size_t *bytes) { \
    *bytes = 0; \
    return 0; \
  }
MAKES_HANDLE(cudnnCreate)
MAKES_HANDLE(cudnnCreateTensorDescriptor)
MAKES_HANDLE(cudnnCreateFilterDescriptor)
MAKES_HANDLE(cudnnCreateConvolutionDescriptor)
DOES_NOTHING(cudnnDestroy)
DOES_NOTHING(cudnnDestroyTensorDescriptor)
DOES_NOTHING(cudnnDestroyFilterDescriptor)
DOES_NOTHING(cudnnDestroyConvolutionDescriptor)
DOES_NOTHING(cudnnSetStream)
DOES_NOTHING(cudnnSetTensor4dDescriptor)
DOES_NOTHING(cudnnSetTensor4dDescriptorEx)
DOES_NOTHING(cudnnSetFilter4dDescriptor)
DOES_NOTHING(cudnnSetConvolution2dDescriptor)
DOES_NOTHING(cudnnSetConvolutionMathType)
CHOOSES_FIRST(cudnnGetConvolutionForwardAlgorithm_v7)
CHOOSES_FIRST(cudnnGetConvolutionBackwardDataAlgorithm_v7)
CHOOSES_FIRST(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
NEEDS_NO_WORKSPACE(cudnnGetConvolutionForwardWorkspaceSize)
NEEDS_NO_WORKSPACE(cudnnGetConvolutionBackwardDataWorkspaceSize)
NEEDS_NO_WORKSPACE(cudnnGetConvolutionBackwardFilterWorkspaceSize)
int cudnnConvolutionForward(void) { return launch("convolution"); }
int cudnnConvolutionBackwardData(void) { return launch("convolution, input gradient"); }
int cudnnConvolutionBackwardFilter(void) { return launch("convolution, weight gradient"); }

// The runtime, which parts of Candle that training does not use are linked with.
DOES_NOTHING(__cudaGetKernel)
DOES_NOTHING(__cudaLaunchKernel_ptsz)
DOES_NOTHING(__cudaPopCallConfiguration)
DOES_NOTHING(__cudaPushCallConfiguration)
DOES_NOTHING(__cudaRegisterFatBinary)
DOES_NOTHING(__cudaRegisterFatBinaryEnd)
DOES_NOTHING(__cudaRegisterFunction)
DOES_NOTHING(__cudaRegisterVar)
DOES_NOTHING(__cudaUnregisterFatBinary)
DOES_NOTHING(cudaDeviceGetAttribute)
DOES_NOTHING(cudaFree)
DOES_NOTHING(cudaFreeAsync_ptsz)
DOES_NOTHING(cudaFuncGetAttributes)
DOES_NOTHING(cudaFuncSetAttribute)
DOES_NOTHING(cudaGetDevice)
DOES_NOTHING(cudaGetDeviceCount)
DOES_NOTHING(cudaGetErrorName)
DOES_NOTHING(cudaGetErrorString)
DOES_NOTHING(cudaGetLastError)
DOES_NOTHING(cudaMalloc)
DOES_NOTHING(cudaMallocAsync_ptsz)
DOES_NOTHING(cudaMemsetAsync_ptsz)
DOES_NOTHING(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
DOES_NOTHING(cudaPeekAtLastError)
DOES_NOTHING(cudaSetDevice)
DOES_NOTHING(cudaStreamSynchronize_ptsz)
