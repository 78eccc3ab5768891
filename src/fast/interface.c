/*
 * interface.c: the rest of the allocation interface, over malloc and free.
 *
 * SYNCHRONIZATION: as malloc and free; a block that is passed in is the caller's.
 */
#include "block.h"
#include "counters.h"
#include "foreign.h"
#include "heap.h"
#include "names.h"
#include "slow.h"

#include <errno.h>
#include <hakmem.h>
#include <string.h>

/* ---- zeroed ---- */

#define ZERO_HERE_MOST 128 /* bytes; beyond, memset is the faster */

typedef uint64_t granule __attribute__((vector_size(SIZE_GRANULE), may_alias));

/* A block is a whole number of granules; here, one at least. */
HAK_INLINE void *zero_granules(void *p, size_t bytes)
{
    ptrdiff_t at = (ptrdiff_t)((bytes - 1) & ~(size_t)(SIZE_GRANULE - 1));
    do {
        *(granule *)((char *)p + at) = (granule){0};
        at -= SIZE_GRANULE;
        HAK_OPAQUE(at); /* or the compiler calls memset after all */
    } while (at >= 0);
    return p;
}

static HAK_NOINLINE void *calloc_more(size_t bytes)
{
    bool zeroed = bytes > SIZE_RUN_LEAST;
    void *p = zeroed ? large_alloc(bytes, SIZE_GRANULE, &zeroed) : hak_malloc(bytes);
    return p == NULL || zeroed ? p : memset(p, 0, bytes);
}

static HAK_NOINLINE void *calloc_slow(size_t bytes, struct heap *h)
{
    void *p = malloc_slow(bytes, h);
    return p == NULL ? p : memset(p, 0, bytes);
}

void *hak_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (HAK_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    if (HAK_UNLIKELY(bytes - 1 >= ZERO_HERE_MOST)) /* or 0 */
        return calloc_more(bytes);
    COUNT(malloc);
    struct heap *h = heap_enter();
    void *p = heap_pop(h, size_to_tiny_bin_place(bytes));
    if (HAK_UNLIKELY(p == NULL))
        return calloc_slow(bytes, h);
    heap_leave(h);
    return zero_granules(p, bytes);
}

/* ---- resizing ---- */

static void *move_to(void *moved, void *block, uintptr_t word, size_t bytes)
{
    memcpy(moved, block, bytes);
    if (unit_word_kind(word) == UNIT_RUN)
        large_free_moved(block);
    else
        hak_free(block);
    return moved;
}

static void *move(void *block, uintptr_t word, size_t old_bytes, size_t size)
{
    int saved = errno;
    bool grown = size > old_bytes && size > SIZE_GROWN_RUN;
    void *moved = grown ? large_alloc_to_grow(size) : hak_malloc(size);
    if (moved == NULL && size <= old_bytes) {
        errno = saved;
        return block; /* it can always be shorter where it is */
    }
    return moved == NULL ? NULL : move_to(moved, block, word, min_size(old_bytes, size));
}

static void *resize_whale(void *block, size_t bytes, size_t size)
{
    void *roomier = size > bytes ? large_roomier(block, size) : NULL;
    return roomier != NULL ? move_to(roomier, block, UNIT_WHALE, bytes)
                           : large_resize(block, UNIT_WHALE, bytes, size);
}

/* Neither too large for the block nor worth a smaller one. */
HAK_INLINE bool fits(size_t size, size_t bytes)
{
    return size <= bytes && size >= bytes / 2;
}

/* NULL: the contents must be copied yet. */
static void *resize_in_place(void *block, uintptr_t word, size_t bytes, size_t size)
{
    if (word == UNIT_WHALE)
        return resize_whale(block, bytes, size);
    if (unit_word_kind(word) == UNIT_RUN)
        return large_resize(block, word, bytes, size);
    return fits(max_size(size, SIZE_GRANULE), bytes) ? block : NULL;
}

static HAK_NOINLINE void *realloc_more(void *block, size_t size)
{
    if (block == NULL)
        return hak_malloc(size);
    uintptr_t word = registry_word(block);
    if (HAK_UNLIKELY(word == UNIT_FOREIGN))
        return foreign_realloc(block, size);
    if (size == 0) {
        hak_free(block);
        return NULL;
    }
    if (size > SIZE_MAX_ASK) {
        errno = ENOMEM;
        return NULL;
    }
    size_t bytes = block_bytes(block, word);
    void *resized = resize_in_place(block, word, bytes, size);
    return resized != NULL ? resized : move(block, word, bytes, size);
}

/* A block that this thread would keep tells its size by its bin; and 0 fits in none. */
void *hak_realloc(void *block, size_t size)
{
    uintptr_t word = registry_word(block);
    if (HAK_LIKELY(heap_keeps(heap_current, word)) &&
        HAK_LIKELY(fits(size, size_class_bytes[unit_word_class(word)])))
        return block;
    return realloc_more(block, size);
}

void *hak_reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return hak_realloc(block, bytes);
}

void hak_free_sized(void *block, size_t size)
{
    (void)size;
    hak_free(block);
}

void hak_free_aligned_sized(void *block, size_t alignment, size_t size)
{
    (void)alignment;
    (void)size;
    hak_free(block);
}

/* ---- aligned ---- */

static HAK_NOINLINE void *aligned_large(size_t alignment, size_t size)
{
    bool zeroed = false;
    if (size == 0)
        return hak_aligned_alloc(alignment, 1);
    if (size <= SIZE_MAX_ASK && alignment <= SIZE_MAX_ASK)
        return large_alloc(size, alignment, &zeroed);
    errno = ENOMEM;
    return NULL;
}

/* A power-of-two alignment. */
HAK_INLINE void *aligned(size_t alignment, size_t size)
{
    if (HAK_LIKELY(size - 1 < SIZE_SLAB_MAX && alignment <= SIZE_SLAB_MAX)) /* and not 0 */
        return hak_malloc(size_to_aligned(size, alignment));
    return aligned_large(alignment, size);
}

void *hak_aligned_alloc(size_t alignment, size_t size)
{
    if (!is_power_of_two(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return aligned(alignment, size);
}

/* As glibc does, it takes the next power of two for what is none. */
void *hak_memalign(size_t alignment, size_t size)
{
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = SIZE_GRANULE;
    while (power < alignment)
        power *= 2;
    return aligned(power, size);
}

int hak_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    void *p = aligned(alignment, size);
    if (p == NULL)
        return ENOMEM; /* errno says so, too, as glibc's does */
    *block = p;
    return 0;
}

void *hak_valloc(size_t size)
{
    return aligned(os_page_size(), size);
}

void *hak_pvalloc(size_t size)
{
    size_t page = os_page_size();
    if (size > SIZE_MAX_ASK) {
        errno = ENOMEM;
        return NULL;
    }
    return aligned(page, align_up(max_size(size, 1), page));
}

size_t hak_malloc_usable_size(const void *block)
{
    if (block == NULL)
        return 0;
    uintptr_t word = registry_word(block);
    return word == UNIT_FOREIGN ? foreign_usable_size(block) : block_bytes(block, word);
}

HAK_ALIAS(calloc, hak_calloc)
HAK_ALIAS(realloc, hak_realloc)
HAK_ALIAS(reallocarray, hak_reallocarray)
HAK_ALIAS(free_sized, hak_free_sized)
HAK_ALIAS(free_aligned_sized, hak_free_aligned_sized)
HAK_ALIAS(aligned_alloc, hak_aligned_alloc)
HAK_ALIAS(memalign, hak_memalign)
HAK_ALIAS(posix_memalign, hak_posix_memalign)
HAK_ALIAS(valloc, hak_valloc)
HAK_ALIAS(pvalloc, hak_pvalloc)
HAK_SYMBOL(usable_size_of_libc, "malloc_usable_size", hak_malloc_usable_size)
