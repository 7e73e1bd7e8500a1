/* A storage that fails, for LD_PRELOAD: the calls of one kind on files of one name fail, or do half of what is asked.

   FAULT_CALL   open, read, write, fsync or rename
   FAULT_PATH   a part of the file's path
   FAULT_ERRNO  the number that the call fails with; 0: it reads or writes half, which is no error
   FAULT_FROM   the first call that fails, counted from 1

   The variables are read at each call, so that a process may set them for what it forks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int calls;

static int due(const char *call, const char *path) {
  const char *wanted = getenv("FAULT_CALL"), *part = getenv("FAULT_PATH"), *from = getenv("FAULT_FROM");
  if (!wanted || !part || !path || strcmp(wanted, call) || !strstr(path, part)) return 0;
  return __sync_add_and_fetch(&calls, 1) >= (from ? atoi(from) : 1);
}

static int due_of(const char *call, int file) {
  char link[64], path[PATH_MAX];
  if (!getenv("FAULT_CALL")) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return due(call, path);
}

static int fails(void) {
  const char *number = getenv("FAULT_ERRNO");
  errno = number ? atoi(number) : 0;
  return errno != 0;
}

#define OPEN(name)                                                                                                     \
  int name(const char *path, int flags, ...) {                                                                         \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    mode_t mode = va_arg(rest, mode_t);                                                                                \
    va_end(rest);                                                                                                      \
    return due("open", path) && fails() ? -1 : REAL(name)(path, flags, mode);                                          \
  }
#define HALF(call, file, size)                                                                                         \
  if (size && due_of(call, file)) {                                                                                    \
    if (fails()) return -1;                                                                                            \
    size = (size + 1) / 2;                                                                                             \
  }

OPEN(open)
OPEN(open64)
ssize_t read(int file, void *data, size_t size) { HALF("read", file, size) return REAL(read)(file, data, size); }
ssize_t pread(int file, void *data, size_t size, off_t at) { HALF("read", file, size) return REAL(pread)(file, data, size, at); }
ssize_t pread64(int file, void *data, size_t size, off64_t at) { HALF("read", file, size) return REAL(pread64)(file, data, size, at); }
ssize_t write(int file, const void *data, size_t size) { HALF("write", file, size) return REAL(write)(file, data, size); }
ssize_t pwrite(int file, const void *data, size_t size, off_t at) { HALF("write", file, size) return REAL(pwrite)(file, data, size, at); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) { HALF("write", file, size) return REAL(pwrite64)(file, data, size, at); }
ssize_t sendfile(int out, int in, off_t *at, size_t size) { HALF("write", out, size) return REAL(sendfile)(out, in, at, size); }
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { HALF("write", out, size) return REAL(sendfile64)(out, in, at, size); }
int fsync(int file) { return due_of("fsync", file) && fails() ? -1 : REAL(fsync)(file); }
int rename(const char *from, const char *to) { return due("rename", to) && fails() ? -1 : REAL(rename)(from, to); }
