/* A stand-in for libcuda.so.1 that holds its caller to the driver's rules.

   Each function refuses what the driver refuses: calls before cuInit, calls without a current
   context, handles and addresses that it did not give, copies beyond a buffer. Copies and kernels
   happen when the stream is waited for. An address of device memory is none of the CPU's: whoever
   follows it crashes. Memory that both share has two addresses, as nothing promises one.

   With -DWITH_CUDA_H the definitions are held against the vendor's header. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef WITH_CUDA_H
#include <cuda.h>
#else
typedef int CUresult, CUdevice, CUdevice_attribute;
typedef unsigned long long CUdeviceptr;
typedef struct context *CUcontext;
typedef struct stream *CUstream;
#endif

enum { MOST = 256, LONGEST = 64 };
enum { OK, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, NO_DEVICE = 100, INVALID_DEVICE = 101 };
enum { INVALID_CONTEXT = 201, INVALID_HANDLE = 400 };
enum { SM_COUNT = 16, INTEGRATED = 18, CAN_MAP = 19, MAJOR = 75, MINOR = 76, DEVICE_MAP = 2 };
static const CUdeviceptr DEVICE_TAG = 1ull << 56; /* no address of the CPU has this bit */
static const CUdevice DEVICE = 7;

struct block { char *host; CUdeviceptr device; size_t bytes; unsigned flags; };
struct work { void *to; const void *from; size_t bytes; void (*kernel)(void); };

static struct block on_device[MOST], on_host[MOST];
static struct work pending[MOST];
static char calls[MOST * MOST][LONGEST];
static int call_count, pending_count, stream_count, retained, initialized;
static int devices, integrated, fail_code;
static char fail_name[LONGEST];
static size_t memory_left;
static char context, stream;
static __thread int depth; /* of the thread's stack of contexts */

void standin_reset(int device_count, int is_integrated, size_t memory) {
    memset(on_device, 0, sizeof on_device);
    memset(on_host, 0, sizeof on_host);
    call_count = pending_count = stream_count = retained = initialized = depth = 0;
    devices = device_count; integrated = is_integrated; memory_left = memory;
    fail_code = 0;
}
void standin_fail(const char *name, int code);

/* A process that only loads it is set up by its environment. */
__attribute__((constructor)) static void load(void) {
    const char *count = getenv("STANDIN_DEVICES"), *fails = getenv("STANDIN_FAILS");
    standin_reset(count ? atoi(count) : 0, 0, (size_t)1 << 30);
    if (fails) standin_fail(fails, NO_DEVICE);
}
void standin_fail(const char *name, int code) {
    strncpy(fail_name, name, LONGEST - 1);
    fail_code = code;
}
int standin_call_count(void) { return call_count; }
const char *standin_call(int index) { return calls[index]; }
int standin_depth(void) { return depth; }
int standin_streams(void) { return stream_count; }
int standin_retained(void) { return retained; }
static int used(const struct block *blocks) {
    int count = 0;
    for (int i = 0; i < MOST; i++) count += blocks[i].bytes != 0;
    return count;
}
int standin_device_buffers(void) { return used(on_device); }
int standin_host_buffers(void) { return used(on_host); }

static int begin(const char *name) {
    strncpy(calls[call_count++ % (MOST * MOST)], name, LONGEST - 1);
    return fail_code && !strcmp(name, fail_name) ? fail_code : OK;
}
#define BEGIN() do { int code = begin(__func__); if (code) return code; } while (0)
#define NEED(condition, error) do { if (!(condition)) return error; } while (0)
#define READY() do { BEGIN(); NEED(initialized, NOT_INITIALIZED); } while (0)
#define IN_CONTEXT() do { READY(); NEED(depth, INVALID_CONTEXT); } while (0)

static struct block *slot(struct block *blocks) {
    for (int i = 0; i < MOST; i++) if (!blocks[i].bytes) return &blocks[i];
    return NULL;
}
static struct block *of_device(CUdeviceptr at, size_t bytes) {
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < MOST; i++) {
            struct block *b = side ? &on_host[i] : &on_device[i];
            if (b->bytes && b->device && at >= b->device && at + bytes <= b->device + b->bytes)
                return b;
        }
    return NULL;
}
static struct block *of_host(const void *at, size_t bytes) {
    for (int i = 0; i < MOST; i++) {
        struct block *b = &on_host[i];
        if (b->bytes && (char *)at >= b->host && (char *)at + bytes <= b->host + b->bytes) return b;
    }
    return NULL;
}
/* What a kernel sees at an address of the device. */
void *standin_resolve(CUdeviceptr at, size_t bytes) {
    struct block *b = of_device(at, bytes);
    if (!b) return NULL;
    return at & DEVICE_TAG ? b->host + (at - b->device) : (void *)(size_t)at;
}
int standin_launch(void *where, void (*kernel)(void)) {
    NEED(depth && where == &stream && stream_count && pending_count < MOST, INVALID_HANDLE);
    pending[pending_count++] = (struct work){.kernel = kernel};
    return OK;
}

CUresult cuInit(unsigned int flags) {
    BEGIN();
    NEED(flags == 0, INVALID_VALUE);
    NEED(devices, NO_DEVICE);
    initialized = 1;
    return OK;
}
CUresult cuDriverGetVersion(int *version) { BEGIN(); *version = 12060; return OK; }
static const char *error_text(int error, int want_name) {
    switch (error) {
    case INVALID_VALUE: return want_name ? "CUDA_ERROR_INVALID_VALUE" : "invalid argument";
    case OUT_OF_MEMORY: return want_name ? "CUDA_ERROR_OUT_OF_MEMORY" : "out of memory";
    case NO_DEVICE: return want_name ? "CUDA_ERROR_NO_DEVICE" : "no CUDA-capable device is detected";
    case INVALID_CONTEXT: return want_name ? "CUDA_ERROR_INVALID_CONTEXT" : "invalid device context";
    default: return NULL;
    }
}
CUresult cuGetErrorName(CUresult error, const char **text) {
    *text = error_text(error, 1);
    return *text ? OK : INVALID_VALUE;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error_text(error, 0);
    return *text ? OK : INVALID_VALUE;
}
CUresult cuDeviceGetCount(int *count) { READY(); *count = devices; return OK; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    READY();
    NEED(ordinal == 0, INVALID_DEVICE);
    *device = DEVICE;
    return OK;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    READY();
    NEED(device == DEVICE, INVALID_DEVICE);
    strncpy(name, "Orin", length);
    return OK;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
    READY();
    NEED(device == DEVICE, INVALID_DEVICE);
    switch ((int)which) {
    case SM_COUNT: *value = 8; return OK;
    case INTEGRATED: *value = integrated; return OK;
    case CAN_MAP: *value = 1; return OK;
    case MAJOR: *value = 8; return OK;
    case MINOR: *value = 7; return OK;
    default: return INVALID_VALUE;
    }
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    READY();
    NEED(device == DEVICE, INVALID_DEVICE);
    *bytes = (size_t)8 << 30;
    return OK;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *result, CUdevice device) {
    READY();
    NEED(device == DEVICE, INVALID_DEVICE);
    retained++;
    *result = (CUcontext)&context;
    return OK;
}
CUresult cuCtxGetCurrent(CUcontext *result) {
    READY();
    *result = depth ? (CUcontext)&context : NULL;
    return OK;
}
CUresult cuCtxGetDevice(CUdevice *device) { IN_CONTEXT(); *device = DEVICE; return OK; }
CUresult cuCtxPushCurrent_v2(CUcontext pushed) {
    READY();
    NEED(retained && (void *)pushed == &context, INVALID_CONTEXT);
    depth++;
    return OK;
}
CUresult cuCtxPopCurrent_v2(CUcontext *popped) {
    IN_CONTEXT();
    depth--;
    *popped = (CUcontext)&context;
    return OK;
}
CUresult cuMemGetInfo_v2(size_t *unused, size_t *total) {
    IN_CONTEXT();
    *unused = memory_left;
    *total = (size_t)8 << 30;
    return OK;
}
CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes) {
    IN_CONTEXT();
    struct block *b = slot(on_device);
    NEED(bytes, INVALID_VALUE);
    NEED(b && bytes <= memory_left, OUT_OF_MEMORY);
    b->host = calloc(1, bytes);
    b->bytes = bytes;
    *at = b->device = (CUdeviceptr)(size_t)b->host | DEVICE_TAG;
    return OK;
}
CUresult cuMemFree_v2(CUdeviceptr at) {
    IN_CONTEXT();
    struct block *b = of_device(at, 1);
    NEED(b && at & DEVICE_TAG && b->device == at, INVALID_VALUE);
    free(b->host);
    memset(b, 0, sizeof *b);
    return OK;
}
CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned int flags) {
    IN_CONTEXT();
    struct block *b = slot(on_host);
    NEED(bytes, INVALID_VALUE);
    NEED(b && bytes <= memory_left, OUT_OF_MEMORY);
    int memory = memfd_create("page-locked", 0);
    NEED(memory >= 0 && !ftruncate(memory, bytes), OUT_OF_MEMORY);
    b->host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    b->device = flags & DEVICE_MAP && integrated
        ? (CUdeviceptr)(size_t)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) : 0;
    close(memory);
    b->bytes = bytes;
    *at = b->host;
    return OK;
}
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *at, unsigned int flags) {
    IN_CONTEXT();
    struct block *b = of_host(at, 1);
    NEED(b && b->device && flags == 0, INVALID_VALUE);
    *device = b->device;
    return OK;
}
CUresult cuMemFreeHost(void *at) {
    IN_CONTEXT();
    struct block *b = of_host(at, 1);
    NEED(b && b->host == at, INVALID_VALUE);
    munmap(b->host, b->bytes);
    if (b->device) munmap((void *)(size_t)b->device, b->bytes);
    memset(b, 0, sizeof *b);
    return OK;
}
static CUresult copy(void *to, const void *from, size_t bytes, CUstream where) {
    NEED((void *)where == &stream && stream_count && pending_count < MOST, INVALID_HANDLE);
    pending[pending_count++] = (struct work){.to = to, .from = from, .bytes = bytes};
    return OK;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream where) {
    IN_CONTEXT();
    NEED(of_host(from, bytes) && of_device(to, bytes), INVALID_VALUE);
    return copy(standin_resolve(to, bytes), from, bytes, where);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream where) {
    IN_CONTEXT();
    NEED(of_host(to, bytes) && of_device(from, bytes), INVALID_VALUE);
    return copy(to, standin_resolve(from, bytes), bytes, where);
}
CUresult cuStreamCreate(CUstream *result, unsigned int flags) {
    IN_CONTEXT();
    NEED(flags == 0, INVALID_VALUE);
    stream_count++;
    *result = (CUstream)&stream;
    return OK;
}
CUresult cuStreamSynchronize(CUstream where) {
    IN_CONTEXT();
    NEED((void *)where == &stream && stream_count, INVALID_HANDLE);
    for (int i = 0; i < pending_count; i++) {
        if (pending[i].kernel) pending[i].kernel();
        else memcpy(pending[i].to, pending[i].from, pending[i].bytes);
    }
    pending_count = 0;
    return OK;
}
CUresult cuStreamDestroy_v2(CUstream where) {
    IN_CONTEXT();
    NEED((void *)where == &stream && stream_count, INVALID_HANDLE);
    stream_count--;
    return OK;
}
