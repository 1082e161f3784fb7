/* Stands between a child process and its files: counts chosen calls on files below one directory and,
 * at the n-th, kills the process, cuts the power of the file system, or makes the call fail.
 *
 * MINTAGE_SHIM="calls nth fault for_good where", numbers; MINTAGE_CRASH_DIRECTORY names the directory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, OPEN = 8, TRUNCATE = 16, UNLINK = 32 };
enum { KILL = 1, IO = 2, FULL = 3, SHORT = 4, CUT = 5, LOSE = 6 };
enum { LOG = 1, SLED = 2 };
#define FDS 4096

static long calls, nth, fault, for_good, where_;
static const char *directory;
static int cut_at = -1;
static long count;
static int is_short, is_told;
static unsigned char of[FDS];

__attribute__((constructor)) static void begin(void) {
    const char *job = getenv("MINTAGE_SHIM");
    directory = getenv("MINTAGE_CRASH_DIRECTORY");
    if (!job || !directory || sscanf(job, "%ld %ld %ld %ld %ld", &calls, &nth, &fault, &for_good, &where_) != 5)
        calls = 0;
    const char *mount = getenv("MINTAGE_SHIM_MOUNT");
    if (calls && mount) cut_at = syscall(SYS_openat, AT_FDCWD, mount, O_RDONLY);
}

static void say(const char *text) { syscall(SYS_write, 1, text, strlen(text)); }

__attribute__((destructor)) static void end(void) {
    char text[64];
    if (!calls) return;
    snprintf(text, sizeof text, "\nS %ld\n", count);
    say(text);
}

static int class_of_path(const char *path) {
    size_t len = directory ? strlen(directory) : 0;
    if (!calls || !path || !len || strncmp(path, directory, len)) return 0;
    return strncmp(path + len, "/sled", 5) ? LOG : SLED;
}
static int class_of(int fd) { return fd >= 0 && fd < FDS ? of[fd] : 0; }
static int class_at(int fd, const char *path) { return path && path[0] == '/' ? class_of_path(path) : class_of(fd); }
static int keep(int fd, int class) {
    if (fd >= 0 && fd < FDS) of[fd] = class;
    return fd;
}

/* What became of this call: 0, or the fault that strikes it. */
static int strike(int call, int class) {
    if (!(call & calls) || !(class & where_)) return 0;
    long n = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (!nth || n < nth || (n > nth && !for_good)) return 0;
    if (!__atomic_exchange_n(&is_told, 1, __ATOMIC_SEQ_CST)) say("\nF\n");
    return fault;
}
static void die(void) {
    __u32 no_log_flush = 2;
    if (fault == CUT && ioctl(cut_at, _IOR('X', 125, __u32), &no_log_flush)) say("\nX cut\n");
    kill(getpid(), SIGKILL);
    for (;;) pause();
}
static int fail(int fault) {
    errno = fault == FULL || fault == SHORT ? ENOSPC : EIO;
    return -1;
}

/* What un-synced writes replaced, to be put back when the sync fails: a kernel may drop such pages. */
struct undo { struct undo *next; int fd; off64_t at; size_t len; char old[]; };
static struct undo *undone;
static pthread_mutex_t undo_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_undo(int fd, off64_t at, size_t len) {
    if (fault != LOSE || class_of(fd) != LOG) return;
    struct undo *undo = calloc(1, sizeof *undo + len);
    if (!undo) return;
    undo->fd = fd; undo->at = at; undo->len = len;
    syscall(SYS_pread64, fd, undo->old, len, at);
    pthread_mutex_lock(&undo_lock);
    undo->next = undone; undone = undo;
    pthread_mutex_unlock(&undo_lock);
}
static void settle_undo(int fd, int is_lost) {
    if (fault != LOSE) return;
    pthread_mutex_lock(&undo_lock);
    for (struct undo **at = &undone; *at;) {
        struct undo *undo = *at;
        if (undo->fd != fd) { at = &undo->next; continue; }
        if (is_lost) syscall(SYS_pwrite64, fd, undo->old, undo->len, undo->at);
        *at = undo->next;
        free(undo);
    }
    pthread_mutex_unlock(&undo_lock);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A write that is struck: nothing, or half of it and the rest refused, or half of it and death. */
#define STRUCK_WRITE(fd, len, half)                                              \
    int hit = strike(WRITE, class_of(fd));                                        \
    if (!hit && class_of(fd) & where_ && is_short) { is_short = for_good; return fail(FULL); } \
    if (hit == KILL || hit == CUT) { if (nth % 2 && len > 1) (void)!(half); die(); } \
    if (hit == SHORT && len > 1 && !is_short) { is_short = 1; return half; }        \
    if (hit && hit != LOSE) return fail(hit);

ssize_t write(int fd, const void *bytes, size_t len) {
    if (class_of(fd)) { STRUCK_WRITE(fd, len, syscall(SYS_write, fd, bytes, len / 2)) }
    return syscall(SYS_write, fd, bytes, len);
}
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    if (class_of(fd)) {
        STRUCK_WRITE(fd, len, syscall(SYS_pwrite64, fd, bytes, len / 2, at))
        note_undo(fd, at, len);
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }

static int synced(int fd, long number) {
    int hit = class_of(fd) ? strike(SYNC, class_of(fd)) : 0;
    if (hit == KILL || hit == CUT) die();
    if (hit) { settle_undo(fd, 1); return fail(hit); }
    int result = syscall(number, fd);
    if (class_of(fd) && !result) settle_undo(fd, 0);
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    int hit = class_of(fd) ? strike(SYNC, class_of(fd)) : 0;
    if (hit == KILL || hit == CUT) die();
    return hit ? fail(hit) : REAL(sync_file_range)(fd, at, len, flags);
}

#define STRUCK(call, class)                       \
    int hit = strike(call, class);                \
    if (hit == KILL || hit == CUT) die();         \
    if (hit) return fail(hit);

int ftruncate64(int fd, off64_t len) { STRUCK(TRUNCATE, class_of(fd)) return syscall(SYS_ftruncate, fd, len); }
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }
int rename(const char *from, const char *to) { STRUCK(RENAME, class_of_path(from)) return syscall(SYS_rename, from, to); }
int unlink(const char *path) { STRUCK(UNLINK, class_of_path(path)) return syscall(SYS_unlink, path); }
int unlinkat(int fd, const char *path, int flags) {
    STRUCK(UNLINK, class_at(fd, path))
    return syscall(SYS_unlinkat, fd, path, flags);
}
int mkdir(const char *path, mode_t mode) { STRUCK(OPEN, class_of_path(path)) return syscall(SYS_mkdir, path, mode); }

static int opened(int at, const char *path, int flags, va_list rest) {
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    int class = class_at(at, path);
    STRUCK(OPEN, class)
    return keep(syscall(SYS_openat, at, path, flags | O_LARGEFILE, mode), class);
}
#define OPENED(at)                            \
    va_list rest;                             \
    va_start(rest, flags);                    \
    int fd = opened(at, path, flags, rest);   \
    va_end(rest);                             \
    return fd;
int open(const char *path, int flags, ...) { OPENED(AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPENED(AT_FDCWD) }
int openat(int at, const char *path, int flags, ...) { OPENED(at) }
int openat64(int at, const char *path, int flags, ...) { OPENED(at) }
int close(int fd) {
    if (class_of(fd)) { settle_undo(fd, 0); of[fd] = 0; }
    return syscall(SYS_close, fd);
}
