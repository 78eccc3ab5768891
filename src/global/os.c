/*
 * os.c: the system calls.
 *
 * SYNCHRONIZATION: one relaxed hint (where the last aligned mapping went); losing a race for it
 * costs a second mmap. And an option.
 */
#include "os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, of Linux 5.14: headers may be older */

/* Atomic, relaxed: below it the next aligned mapping may well fit. Any value is right. */
static _Atomic(uintptr_t) next_hint;
static _Atomic(bool) never_populates; /* atomic, relaxed: the system can't */

static void *map_at(void *hint, size_t bytes)
{
    void *start = mmap(hint, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

/* Maps too much and gives the ends back. */
static void *map_and_trim(size_t bytes, size_t alignment)
{
    if (bytes > PTRDIFF_MAX - alignment)
        return NULL;
    char *start = map_at(NULL, bytes + alignment);
    if (start == NULL)
        return NULL;
    char *aligned = (char *)align_up((uintptr_t)start, alignment);
    if (aligned != start)
        munmap(start, (size_t)(aligned - start));
    if (munmap(aligned + bytes, (size_t)(start + alignment - aligned)) == 0)
        return aligned;
    /* At the limit of their number no mapping may be split; but all of this can go. */
    munmap(aligned, (size_t)(start + bytes + alignment - aligned));
    return NULL;
}

static bool advise(void *start, size_t bytes, int advice)
{
    int saved = errno;
    bool done = madvise(start, bytes, advice) == 0;
    errno = saved;
    return done;
}

void os_ask_huge_pages(void *start, size_t bytes)
{
    advise(start, bytes, MADV_HUGEPAGE); /* refused where there are none */
}

void *os_map_aligned(size_t bytes, size_t alignment)
{
    int saved = errno;
    uintptr_t hint = atomic_load_explicit(&next_hint, memory_order_relaxed);
    hint = hint > bytes ? (hint - bytes) & ~(alignment - 1) : 0;
    void *start = map_at((void *)hint, bytes);
    if (start != NULL && !is_aligned(start, alignment)) {
        munmap(start, bytes);
        start = map_and_trim(bytes, alignment);
    }
    if (start != NULL)
        atomic_store_explicit(&next_hint, (uintptr_t)start, memory_order_relaxed);
    errno = saved;
    return start;
}

bool os_avoid_huge_pages(void *start, size_t bytes)
{
    uintptr_t page = os_page_size(), first = align_up((uintptr_t)start, page);
    uintptr_t end = ((uintptr_t)start + bytes) & ~(page - 1);
    return advise((void *)first, end - first, MADV_NOHUGEPAGE);
}

void *os_map(size_t bytes)
{
    int saved = errno;
    void *start = map_at(NULL, bytes);
    if (start != NULL)
        os_avoid_huge_pages(start, bytes);
    errno = saved;
    return start;
}

/* Without this, addresses would only ever go down, each with a page of the registry to it. */
static void raise_hint(uintptr_t end)
{
    uintptr_t hint = atomic_load_explicit(&next_hint, memory_order_relaxed);
    end = align_up(end, SEGMENT_SIZE);
    if (end > hint)
        atomic_store_explicit(&next_hint, end, memory_order_relaxed);
}

bool os_unmap(void *start, size_t bytes)
{
    int saved = errno;
    bool done = munmap(start, bytes) == 0;
    if (done && bytes >= MIB(1))
        raise_hint((uintptr_t)start + bytes);
    errno = saved;
    return done;
}

/* That the pages are called cold is by the way: it is the advice that splits, and loses nothing. */
void os_split_huge_pages(void *start, size_t bytes)
{
    advise(start, bytes, MADV_COLD); /* refused by Linux before 5.4 */
}

static bool populates(void)
{
    return !atomic_load_explicit(&never_populates, memory_order_relaxed);
}

void os_populate(void *start, size_t bytes)
{
    int saved = errno;
    if (populates() && madvise(start, bytes, POPULATE_WRITE) != 0 &&
        (errno == EINVAL || errno == EPERM || errno == ENOSYS))
        atomic_store_explicit(&never_populates, true, memory_order_relaxed);
    errno = saved;
}

bool os_purge(void *start, size_t bytes)
{
    return advise(start, bytes, MADV_DONTNEED);
}

/* Of `count` pages, in parts of `each`: in how many there is one that is resident. */
static size_t parts_with_any(const unsigned char *pages, size_t count, size_t each)
{
    size_t parts = 0;
    for (size_t first = 0; first < count; first += each) {
        unsigned char any = 0;
        for (size_t i = first; i < count && i < first + each; i++)
            any |= pages[i];
        parts += any & 1;
    }
    return parts;
}

/* mincore's answer is a byte a page. */
size_t os_resident_parts(void *start, size_t bytes, size_t part, size_t otherwise)
{
    unsigned char pages[1024];
    size_t page = os_page_size(), resident = 0;
    int saved = errno;
    for (size_t at = 0; at < bytes; at += sizeof pages * page) {
        size_t asked = min_size(bytes - at, sizeof pages * page);
        if (mincore((char *)start + at, asked, pages) != 0) {
            resident = otherwise;
            break;
        }
        resident += parts_with_any(pages, (asked + page - 1) / page, part / page);
    }
    errno = saved;
    return resident;
}

size_t os_resident(void *start, size_t bytes, size_t otherwise)
{
    size_t page = os_page_size();
    return os_resident_parts(start, bytes, page, otherwise / page) * page;
}

/* Of a thread: for the whole process all threads would be counted, though this is of all anyway. */
size_t os_peak_resident(void)
{
    int saved = errno;
    struct rusage usage = {0};
    getrusage(RUSAGE_THREAD, &usage);
    errno = saved;
    return (size_t)usage.ru_maxrss * 1024;
}

bool os_resize_in_place(void *start, size_t old_bytes, size_t new_bytes)
{
    int saved = errno;
    bool done = mremap(start, old_bytes, new_bytes, 0) != MAP_FAILED;
    errno = saved;
    return done;
}

/* What is nowhere else: it tells whether the place is still the one that was marked. */
struct mark {
    uint32_t word[2];
};

static uint32_t *mark_place(void *to, size_t bytes)
{
    return (uint32_t *)(void *)((char *)to + bytes - sizeof(struct mark));
}

/* Of all calls under way no other has its mark at the same address, so that says whose it is. */
static void mark_set(struct mark *mark, void *to, size_t bytes)
{
    mark->word[0] = (uint32_t)(uintptr_t)mark ^ 0x9e3779b9u;
    mark->word[1] = (uint32_t)((uintptr_t)mark >> 32) ^ 0x6b616d68u;
    memcpy(mark_place(to, bytes), mark, sizeof *mark);
}

/* futex(2) has the kernel compare, since nothing may be mapped there any more: it times out at
 * once, or says that the word is another. */
static bool is_word(uint32_t *at, uint32_t word)
{
    static const struct timespec at_once;
    long waited;
    do
        waited = syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, word, &at_once, NULL, 0);
    while (waited != 0 && errno == EINTR);
    return waited != 0 && errno == ETIMEDOUT;
}

static bool is_marked(const struct mark *mark, void *to, size_t bytes)
{
    uint32_t *at = mark_place(to, bytes);
    return is_word(at, mark->word[0]) && is_word(at + 1, mark->word[1]);
}

/* Where the kernel refuses, it has unmapped the new place before, and others may have mapped it
 * since; or it has not. */
bool os_move(void *start, size_t old_bytes, void *to, size_t new_bytes)
{
    int saved = errno;
    struct mark mark;
    os_avoid_huge_pages(to, new_bytes); /* it goes; the old one's pages come as they are */
    mark_set(&mark, to, new_bytes);
    void *moved = mremap(start, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (moved == MAP_FAILED && is_marked(&mark, to, new_bytes))
        munmap(to, new_bytes);
    errno = saved;
    return moved != MAP_FAILED;
}

bool os_barrier_all(void)
{
    int saved = errno;
    bool done = syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
    errno = saved;
    return done;
}

size_t os_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

uint64_t os_milliseconds(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC_COARSE, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Of this thread's own time: it may be preempted. The system call itself, not the C library's
 * function, which others interpose, and may allocate in. */
static int64_t thread_nanoseconds(void)
{
    struct timespec now = {0};
    syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

unsigned os_touch(char *pages, unsigned count)
{
    int saved = errno;
    size_t page = os_page_size();
    int64_t start = thread_nanoseconds();
    for (unsigned i = 0; i < count; i++)
        *(volatile char *)(pages + i * page) = 0;
    int64_t took = thread_nanoseconds() - start;
    errno = saved;
    return (unsigned)min_long(took, UINT_MAX);
}

unsigned os_processors(void)
{
    int saved = errno;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    errno = saved;
    return n > 0 ? (unsigned)n : 1;
}

static void say(const char *format, va_list arguments)
{
    char line[256] = "hakmem: ";
    const size_t prefix = 8;
    int n = vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
    size_t length = prefix + min_size(n > 0 ? (size_t)n : 0, sizeof line - prefix - 2);
    line[length++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
}

void os_say(const char *format, ...)
{
    int saved = errno;
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    errno = saved;
}

void os_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    abort();
}
