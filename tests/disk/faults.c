/* Makes a disk fail for one process: preloaded into the daemon, it stands between the program and the
 * C library's calls that write, and refuses or delays those that concern files under one directory.
 *
 * FAULTS_DIRECTORY says which directory, FAULTS_CONTROL names the file that says what happens now: the
 * four numbers of `struct control`, which the test changes while the program runs. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum kind {
    NOTHING = 0,
    GROWTH = 1,  /* what needs more space is refused: a full disk */
    CHANGES = 2, /* every change is refused: a read-only disk */
    DATA = 3,    /* data can be neither written nor synced: a broken disk */
    SYNCS = 4,   /* data can be written, and not synced */
};

struct control {
    _Atomic int kind;
    _Atomic int error;    /* the errno that a refused call gets */
    _Atomic int spared;   /* so many calls still succeed */
    _Atomic int delay_ms; /* each sync takes so much longer */
};

static struct control none;
static struct control *control = &none;
static char directory[PATH_MAX];
static size_t directory_length;

__attribute__((constructor)) static void start(void) {
    const char *file = getenv("FAULTS_CONTROL"), *where = getenv("FAULTS_DIRECTORY");
    if (!file || !where)
        return;
    int fd = open(file, O_RDWR);
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED || strlen(where) >= sizeof directory) {
        fprintf(stderr, "faults: %s can't be mapped\n", file);
        abort();
    }
    close(fd);
    strcpy(directory, where);
    directory_length = strlen(directory);
    control = mapped;
}

static int is_under(const char *path) {
    return directory_length && strncmp(path, directory, directory_length) == 0 &&
           (path[directory_length] == '/' || path[directory_length] == 0);
}

static int concerns_fd(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_under(path);
}

static int concerns_path(int at, const char *path) {
    char whole[2 * PATH_MAX], base[PATH_MAX];
    if (path[0] == '/')
        return is_under(path);
    if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0)
            return 0;
        base[length] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return is_under(whole);
}

/* Whether a call of this sort is refused now. */
static int refused(int is_refused_kind) {
    if (!is_refused_kind)
        return 0;
    if (atomic_load(&control->spared) > 0 && atomic_fetch_sub(&control->spared, 1) > 0)
        return 0;
    errno = atomic_load(&control->error);
    return 1;
}

static int kind_now(void) { return atomic_load(&control->kind); }

/* How much of a write at `offset` has space: a full disk still takes what overwrites. */
static ssize_t allowed(int fd, off_t offset, size_t length) {
    int kind = kind_now();
    if (kind == NOTHING || kind == SYNCS || !concerns_fd(fd))
        return (ssize_t)length;
    if (kind != GROWTH)
        return refused(1) ? -1 : (ssize_t)length;
    struct stat file;
    if (fstat(fd, &file) != 0 || offset + (off_t)length <= file.st_size)
        return (ssize_t)length;
    if (!refused(1))
        return (ssize_t)length;
    return offset < file.st_size ? file.st_size - offset : -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t length) {
    if (kind_now() != NOTHING) {
        off_t offset = lseek(fd, 0, SEEK_CUR);
        ssize_t most = offset < 0 ? (ssize_t)length : allowed(fd, offset, length);
        if (most < 0)
            return -1;
        length = (size_t)most;
    }
    return REAL(write)(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    ssize_t most = allowed(fd, offset, length);
    return most < 0 ? -1 : REAL(pwrite64)(fd, bytes, (size_t)most, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

int ftruncate64(int fd, off64_t length) {
    if (kind_now() == CHANGES && concerns_fd(fd) && refused(1))
        return -1;
    return REAL(ftruncate64)(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int open_is_refused(int at, const char *path, int flags) {
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    return writes && kind_now() == CHANGES && concerns_path(at, path) && refused(1);
}

#define MODE(flags, last)                                                                             \
    mode_t mode = 0;                                                                                  \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                            \
        va_list more;                                                                                 \
        va_start(more, last);                                                                         \
        mode = va_arg(more, mode_t);                                                                  \
        va_end(more);                                                                                 \
    }

int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_is_refused(AT_FDCWD, path, flags) ? -1 : REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_is_refused(AT_FDCWD, path, flags) ? -1 : REAL(open)(path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_is_refused(at, path, flags) ? -1 : REAL(openat64)(at, path, flags, mode);
}

/* A name needs space as well, but for a small directory it is there. */
static int change_is_refused(const char *path) {
    return kind_now() == CHANGES && concerns_path(AT_FDCWD, path) && refused(1);
}

int rename(const char *from, const char *to) { return change_is_refused(to) ? -1 : REAL(rename)(from, to); }

int unlink(const char *path) { return change_is_refused(path) ? -1 : REAL(unlink)(path); }

int mkdir(const char *path, mode_t mode) { return change_is_refused(path) ? -1 : REAL(mkdir)(path, mode); }

static int sync_is_refused(int fd) {
    int delay = atomic_load(&control->delay_ms), kind = kind_now();
    if (!delay && kind != DATA && kind != SYNCS)
        return 0;
    if (!concerns_fd(fd))
        return 0;
    struct timespec span = {.tv_sec = delay / 1000, .tv_nsec = (delay % 1000) * 1000000L};
    nanosleep(&span, NULL);
    return refused(kind == DATA || kind == SYNCS);
}

int fdatasync(int fd) { return sync_is_refused(fd) ? -1 : REAL(fdatasync)(fd); }

int fsync(int fd) { return sync_is_refused(fd) ? -1 : REAL(fsync)(fd); }
