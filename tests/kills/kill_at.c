// A library to preload: ends a process by SIGKILL right before its N-th call that changes something in a folder, and in
// the middle of it where that call writes. Or lets that call fail.
//
//   KILL_FOLDER=/path KILL_COUNTER=FILE KILL_AT=N [KILL_ERROR=NUMBER [KILL_LASTS=1]] LD_PRELOAD=kill_at.so PROGRAM ...
//
// FILE has four bytes, the number of calls so far; a program's children count on in it. With KILL_AT=0 it only counts.
// Calls are counted whose path is relative or lies in KILL_FOLDER, or whose descriptor is of a file or folder in it. With
// KILL_ERROR the call does nothing and fails with that errno value, and with KILL_LASTS so do all after it; calls that read
// count too. With KILL_NO_SWAP the file system can neither swap two names nor refuse to replace one.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int* counter;
static int kill_at, error, lasts;
static const char* folder;

__attribute__((constructor)) static void start(void) {
  const char* file = getenv("KILL_COUNTER");
  const char* number = getenv("KILL_AT");
  folder = getenv("KILL_FOLDER");
  if (!file || !number || !folder) return;
  kill_at = atoi(number);
  error = getenv("KILL_ERROR") ? atoi(getenv("KILL_ERROR")) : 0;
  lasts = getenv("KILL_LASTS") != NULL;
  int (*real)(const char*, int, ...) = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, "open");
  const int descriptor = real(file, O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return;
  void* map = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (map != MAP_FAILED) counter = (int*)map;
}

// Whether this call is the one.
static int is_due(void) {
  if (!counter) return 0;
  const int count = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
  return lasts ? kill_at > 0 && count >= kill_at : count == kill_at;
}
// Does not return where the process is to be killed.
static int end(void) {
  if (!error) kill(getpid(), SIGKILL);
  errno = error;
  return -1;
}
#define POINT(concerned) \
  if ((concerned) && is_due()) return end()

static int concerns(const char* path) {
  return counter && path && (path[0] != '/' || strncmp(path, folder, strlen(folder)) == 0);
}

static int concerns_open(int descriptor, int for_writing) {
  struct stat status;
  if (!counter || descriptor <= 2 || fstat(descriptor, &status) != 0) return 0;
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return 0;
  if (for_writing && (fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strncmp(path, folder, strlen(folder)) == 0;
}

#define REAL(result, name, ...)                                         \
  static result (*real)(__VA_ARGS__);                                   \
  if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                      \
  int name(const char* path, int flags, ...) {                          \
    REAL(int, name, const char*, int, ...);                             \
    va_list list;                                                       \
    va_start(list, flags);                                              \
    const mode_t mode = (flags & O_CREAT) ? va_arg(list, mode_t) : 0;   \
    va_end(list);                                                       \
    POINT((error || (flags & (O_CREAT | O_TRUNC))) && concerns(path));  \
    return real(path, flags, mode);                                     \
  }
OPEN(open)
OPEN(open64)

#define BY_PATH(name)                       \
  int name(const char* path) {              \
    REAL(int, name, const char*);           \
    POINT(concerns(path));                  \
    return real(path);                      \
  }
BY_PATH(unlink)
BY_PATH(rmdir)
BY_PATH(remove)

int mkdir(const char* path, mode_t mode) {
  REAL(int, mkdir, const char*, mode_t);
  POINT(concerns(path));
  return real(path, mode);
}

int rename(const char* from, const char* to) {
  REAL(int, rename, const char*, const char*);
  POINT(concerns(to));
  return real(from, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  REAL(int, renameat2, int, const char*, int, const char*, unsigned);
  if (flags && getenv("KILL_NO_SWAP")) {
    errno = EINVAL;
    return -1;
  }
  POINT(concerns(to));
  return real(from_folder, from, to_folder, to, flags);
}

int unlinkat(int in, const char* path, int flags) {
  REAL(int, unlinkat, int, const char*, int);
  POINT(in == AT_FDCWD ? concerns(path) : concerns_open(in, 0));
  return real(in, path, flags);
}

int fsync(int descriptor) {
  REAL(int, fsync, int);
  POINT(concerns_open(descriptor, 0));
  return real(descriptor);
}

// What cannot be closed without an error is closed all the same.
int close(int descriptor) {
  REAL(int, close, int);
  const int due = concerns_open(descriptor, 1) && is_due();
  if (due && !error) end();
  const int result = real(descriptor);
  return due ? end() : result;
}

int flock(int descriptor, int operation) {
  REAL(int, flock, int, int);
  POINT(error && concerns_open(descriptor, 0));
  return real(descriptor, operation);
}

ssize_t read(int descriptor, void* data, size_t bytes) {
  REAL(ssize_t, read, int, void*, size_t);
  POINT(error && concerns_open(descriptor, 0));
  return real(descriptor, data, bytes);
}

#define PREAD(name, type)                                                     \
  ssize_t name(int descriptor, void* data, size_t bytes, type offset) {       \
    REAL(ssize_t, name, int, void*, size_t, type);                            \
    POINT(error && concerns_open(descriptor, 0));                             \
    return real(descriptor, data, bytes, offset);                             \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define TRUNCATE(name, type)                                \
  int name(int descriptor, type length) {                   \
    REAL(int, name, int, type);                             \
    POINT(concerns_open(descriptor, 1));                    \
    return real(descriptor, length);                        \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

// Half of the bytes, so that what is written is torn.
ssize_t write(int descriptor, const void* data, size_t bytes) {
  REAL(ssize_t, write, int, const void*, size_t);
  if (concerns_open(descriptor, 1) && is_due()) {
    if (!error) (void)!real(descriptor, data, bytes / 2);
    return end();
  }
  return real(descriptor, data, bytes);
}

#define PWRITE(name, type)                                                          \
  ssize_t name(int descriptor, const void* data, size_t bytes, type offset) {       \
    REAL(ssize_t, name, int, const void*, size_t, type);                            \
    if (concerns_open(descriptor, 1) && is_due()) {                                 \
      if (!error) (void)!real(descriptor, data, bytes / 2, offset);                 \
      return end();                                                                 \
    }                                                                               \
    return real(descriptor, data, bytes, offset);                                   \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
