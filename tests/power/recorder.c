/*
 * Loaded into the daemon with LD_PRELOAD: does every call as asked, and writes down, in one order for
 * all threads, what reaches the files under one directory and what is made durable there.
 *
 * RECORD_UNDER  the directory
 * RECORD_TO     the log; records are appended
 *
 * A record is `struct head`, then the path, then the data. A change is logged after it was made and
 * before its caller goes on. A sync is logged when it is over, with the log's length at its beginning:
 * what was logged before that is covered by it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, MAKE_DIRECTORY };

struct head {
    uint32_t kind;
    uint32_t path_length;
    uint64_t file;   /* inode */
    uint64_t offset; /* WRITE: where; TRUNCATE: the new length; SYNC: the log's length when it began */
    uint64_t length; /* of the data (RENAME: the new path) */
};

#define MOST_FILES 65536
enum interest { UNKNOWN, NONE, TRACKED };
static unsigned char interest_in[MOST_FILES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -1;
static uint64_t log_length;
static const char *under;
static size_t under_length;

static void die(const char *what) {
    dprintf(2, "recorder: %s: %s\n", what, strerror(errno));
    _exit(101);
}

__attribute__((constructor)) static void begin(void) {
    under = getenv("RECORD_UNDER");
    const char *to = getenv("RECORD_TO");
    if (!under || !to) return;
    under_length = strlen(under);
    log_file = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0) die(to);
    struct stat stat;
    if (fstat(log_file, &stat) != 0) die(to);
    log_length = (uint64_t)stat.st_size;
}

static int is_under(const char *path) {
    return log_file >= 0 && strncmp(path, under, under_length) == 0 &&
           (path[under_length] == '/' || path[under_length] == 0);
}

/* Where an open file is; nothing if it is none of ours. */
static int place(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_under(path);
}

static int is_tracked(int fd) {
    if (log_file < 0 || fd < 0 || fd >= MOST_FILES) return 0;
    if (interest_in[fd] == UNKNOWN) {
        char path[PATH_MAX];
        interest_in[fd] = place(fd, path) ? TRACKED : NONE;
    }
    return interest_in[fd] == TRACKED;
}

static uint64_t inode(int fd) {
    struct stat stat;
    if (fstat(fd, &stat) != 0) die("fstat");
    return stat.st_ino;
}

static uint64_t length_now(void) {
    pthread_mutex_lock(&lock);
    uint64_t length = log_length;
    pthread_mutex_unlock(&lock);
    return length;
}

static void record(enum kind kind, uint64_t file, uint64_t offset, const char *path, const void *data, size_t length) {
    int saved = errno;
    struct head head = {kind, (uint32_t)strlen(path), file, offset, length};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, length}};
    size_t whole = sizeof head + head.path_length + length;
    pthread_mutex_lock(&lock);
    if (syscall(SYS_writev, log_file, parts, 3) != (ssize_t)whole) die("the log");
    log_length += whole;
    pthread_mutex_unlock(&lock);
    errno = saved;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(int fd, int flags, int existed) {
    if (fd < 0) return fd;
    if (fd < MOST_FILES) interest_in[fd] = UNKNOWN;
    char path[PATH_MAX];
    if ((flags & (O_CREAT | O_TRUNC)) && log_file >= 0 && place(fd, path)) {
        if (!existed) record(CREATE, inode(fd), 0, path, "", 0);
        else if (flags & O_TRUNC) record(TRUNCATE, inode(fd), 0, path, "", 0);
    }
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        int existed = !(flags & O_CREAT) || access(path, F_OK) == 0; \
        return opened(real(path, flags, mode), flags, existed); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        int existed = !(flags & O_CREAT) || faccessat(directory, path, F_OK, 0) == 0; \
        return opened(real(directory, path, flags, mode), flags, existed); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < MOST_FILES) interest_in[fd] = UNKNOWN;
    return real(fd);
}

static ssize_t wrote(int fd, const void *data, ssize_t written, off_t offset) {
    if (written > 0) record(WRITE, inode(fd), (uint64_t)offset, "", data, (size_t)written);
    return written;
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    if (!is_tracked(fd)) return real(fd, data, length);
    ssize_t written = real(fd, data, length);
    return wrote(fd, data, written, lseek(fd, 0, SEEK_CUR) - (written > 0 ? written : 0));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    REAL(pwrite);
    ssize_t written = real(fd, data, length, offset);
    return is_tracked(fd) ? wrote(fd, data, written, offset) : written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    REAL(pwrite64);
    ssize_t written = real(fd, data, length, offset);
    return is_tracked(fd) ? wrote(fd, data, written, offset) : written;
}

/* Not expected on the store's files: a test that misses writes must not pass. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (is_tracked(fd)) { errno = ENOSYS; die("writev"); }
    return real(fd, parts, count);
}

#define TRUNCATE_TO(name, type) \
    int name(int fd, type length) { \
        REAL(name); \
        int result = real(fd, length); \
        if (result == 0 && is_tracked(fd)) record(TRUNCATE, inode(fd), (uint64_t)length, "", "", 0); \
        return result; \
    }
TRUNCATE_TO(ftruncate, off_t)
TRUNCATE_TO(ftruncate64, off64_t)

static int synced(int fd, int result, uint64_t began) {
    char path[PATH_MAX];
    struct stat stat;
    if (result == 0 && place(fd, path) && fstat(fd, &stat) == 0) {
        record(S_ISDIR(stat.st_mode) ? SYNC_DIRECTORY : SYNC, stat.st_ino, began, path, "", 0);
    }
    return result;
}

#define SYNC_CALL(name) \
    int name(int fd) { \
        REAL(name); \
        if (!is_tracked(fd)) return real(fd); \
        uint64_t began = length_now(); \
        return synced(fd, real(fd), began); \
    }
SYNC_CALL(fsync)
SYNC_CALL(fdatasync)

int rename(const char *from, const char *to) {
    REAL(rename);
    int result = real(from, to);
    if (result == 0 && is_under(from)) record(RENAME, 0, 0, from, to, strlen(to));
    return result;
}

int unlink(const char *path) {
    REAL(unlink);
    int result = real(path);
    if (result == 0 && is_under(path)) record(UNLINK, 0, 0, path, "", 0);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    int result = real(path, mode);
    if (result == 0 && is_under(path)) record(MAKE_DIRECTORY, 0, 0, path, "", 0);
    return result;
}
