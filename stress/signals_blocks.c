/*
 * signals_blocks.c: see signals_blocks.h.
 */
#include "signals_blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWNERS_MOST 100000u
#define ERRNO_MARK  1234 /* no call sets it */

__thread _Atomic(void *) *block_in_hand;

static void set_in_hand(void *p)
{
    if (block_in_hand != NULL)
        atomic_store(block_in_hand, p);
}

void complain(int status, const char *format, ...)
{
    char line[400];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)length) != length)
        status += 64;
    _exit(status);
}

/* The exponent first, so that each tier's small sizes are as frequent as its large ones. */
size_t random_size(uint64_t random)
{
    unsigned dice = random & 4095, from = 4, to = 9;
    if (dice == 0)
        from = to = 20;
    else if (dice < 12)
        from = 15, to = 19;
    else if (dice < 200)
        from = 10, to = 14;
    unsigned exponent = from + (unsigned)(random >> 12) % (to - from + 1);
    return ((size_t)1 << exponent) + (random >> 32) % (((size_t)1 << exponent) + 1);
}

/* ---- the stamp and the pattern ---- */

static uint64_t pattern_of(const struct stamp *stamp)
{
    return ((uint64_t)stamp->owner << 32 | stamp->sequence) * 0x9e3779b97f4a7c15u | 1;
}

static void stamp_write(void *p, const struct stamp *stamp)
{
    uint64_t pattern = pattern_of(stamp);
    size_t words = (stamp->bytes - sizeof *stamp) / 8;
    uint64_t *word = (uint64_t *)((char *)p + sizeof *stamp);
    memcpy(p, stamp, sizeof *stamp);
    for (size_t i = 0; i < words; i++)
        word[i] = pattern;
    memcpy(&word[words], &pattern, stamp->bytes % 8);
}

static bool is_pattern(const struct stamp *stamp, const void *p, size_t bytes)
{
    uint64_t pattern = pattern_of(stamp), difference = 0;
    size_t words = (bytes - sizeof *stamp) / 8;
    const uint64_t *word = (const uint64_t *)((const char *)p + sizeof *stamp);
    for (size_t i = 0; i < words; i++)
        difference |= word[i] ^ pattern;
    return difference == 0 && memcmp(&word[words], &pattern, bytes % 8) == 0;
}

static bool is_sane(const struct stamp *stamp)
{
    return stamp->owner < OWNERS_MOST && stamp->bytes >= SIZE_LEAST && stamp->bytes <= 4u << 20;
}

/* That `bytes` of the block are as the stamp says. */
static void check_against(const struct stamp *stamp, const void *p, size_t bytes)
{
    if (memcmp(p, stamp, sizeof *stamp) != 0 || !is_sane(stamp))
        complain(1, "block %p: its stamp is broken: owner %u, turn %u, %llu bytes; ending", p,
                 stamp->owner, stamp->sequence, (unsigned long long)stamp->bytes);
    if (!is_pattern(stamp, p, bytes))
        complain(1, "block %p of owner %u, turn %u, %llu bytes: its contents are broken; ending", p,
                 stamp->owner, stamp->sequence, (unsigned long long)stamp->bytes);
}

void block_check(const void *p)
{
    struct stamp stamp;
    memcpy(&stamp, p, sizeof stamp);
    check_against(&stamp, p, is_sane(&stamp) ? stamp.bytes : sizeof stamp);
}

/* ---- blocks ---- */

static void *allocate_zeroed(size_t bytes)
{
    static const char zero[7];
    uint64_t *p = calloc(1, bytes), any = 0;
    if (p == NULL)
        return NULL;
    for (size_t i = 0; i < bytes / 8; i++)
        any |= p[i];
    if (any != 0 || memcmp(&p[bytes / 8], zero, bytes % 8) != 0)
        complain(1, "calloc(1, %zu) gave a block that is not zero; ending", bytes);
    return p;
}

static void *allocate_aligned(size_t alignment, size_t bytes)
{
    void *p = aligned_alloc(alignment, bytes);
    if (((uintptr_t)p & (alignment - 1)) != 0)
        complain(1, "aligned_alloc(%zu, %zu) gave %p; ending", alignment, bytes, p);
    return p;
}

static void *allocate(size_t bytes, uint64_t random)
{
    if (random % 8 == 0)
        return allocate_zeroed(bytes);
    if (random % 8 == 1)
        return allocate_aligned((size_t)16 << random / 8 % 9, bytes);
    return malloc(bytes);
}

void *block_make(uint32_t owner, uint32_t sequence, uint64_t random)
{
    struct stamp stamp = {owner, sequence, random_size(random)};
    void *p = allocate(stamp.bytes, random >> 16);
    if (p == NULL)
        complain(1, "out of memory at %llu bytes; ending", (unsigned long long)stamp.bytes);
    if (((uintptr_t)p & 15) != 0)
        complain(1, "a block of %llu bytes is at %p, not aligned; ending",
                 (unsigned long long)stamp.bytes, p);
    set_in_hand(p);
    stamp_write(p, &stamp);
    set_in_hand(NULL);
    return p;
}

void *block_resize(void *p, uint32_t owner, uint32_t sequence, uint64_t random)
{
    struct stamp before, stamp = {owner, sequence, random_size(random)};
    set_in_hand(p);
    block_check(p);
    memcpy(&before, p, sizeof before);
    set_in_hand(NULL);
    void *moved = realloc(p, stamp.bytes);
    if (moved == NULL)
        complain(1, "out of memory at %llu bytes; ending", (unsigned long long)stamp.bytes);
    set_in_hand(moved);
    check_against(&before, moved, before.bytes < stamp.bytes ? before.bytes : stamp.bytes);
    stamp_write(moved, &stamp);
    set_in_hand(NULL);
    return moved;
}

void block_free(void *p)
{
    if (p == NULL)
        return;
    set_in_hand(p);
    block_check(p);
    memset(p, 0xdd, sizeof(struct stamp));
    set_in_hand(NULL);
    errno = ERRNO_MARK;
    free(p);
    if (errno != ERRNO_MARK)
        complain(1, "free(%p) changed errno to %d; ending", p, errno);
}

/* ---- memory ---- */

long status_kib(const char *field)
{
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = '\0';
    const char *at = strstr(text, field);
    return at != NULL ? strtol(at + strlen(field), NULL, 10) : -1;
}
