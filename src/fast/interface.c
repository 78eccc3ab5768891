/*
 * interface.c: the rest of the allocation interface, over malloc and free.
 *
 * SYNCHRONIZATION: as malloc and free; a block that is passed in is the caller's.
 */
#include "block.h"
#include "foreign.h"
#include "heap.h"
#include "names.h"
#include "slow.h"

#include <errno.h>
#include <hakmem.h>
#include <string.h>

/* ---- zeroed ---- */

void *hak_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (HAK_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    bool zeroed = false;
    void *p = HAK_LIKELY(bytes <= SIZE_SLAB_MAX) ? hak_malloc(bytes)
                                                 : large_alloc(bytes, SIZE_GRANULE, &zeroed);
    if (HAK_LIKELY(p != NULL) && !zeroed)
        memset(p, 0, bytes);
    return p;
}

/* ---- resizing ---- */

static void *move(void *block, size_t old_bytes, size_t size)
{
    int saved = errno;
    void *moved = hak_malloc(size);
    if (moved == NULL && size <= old_bytes) {
        errno = saved;
        return block; /* it can always be shorter where it is */
    }
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, min_size(old_bytes, size));
    hak_free(block);
    return moved;
}

/* NULL: the contents must be copied. */
static void *resize_in_place(void *block, uintptr_t word, size_t bytes, size_t size)
{
    if (word == UNIT_WHALE || word == UNIT_RUN)
        return large_resize(block, word, size);
    return size <= bytes && size >= bytes / 2 ? block : NULL;
}

void *hak_realloc(void *block, size_t size)
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
    return resized != NULL ? resized : move(block, bytes, size);
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

/* A power-of-two alignment. */
static void *aligned(size_t alignment, size_t size)
{
    bool zeroed;
    if (alignment <= SIZE_GRANULE)
        return hak_malloc(size);
    if (size > SIZE_MAX_ASK || alignment > SIZE_MAX_ASK) {
        errno = ENOMEM;
        return NULL;
    }
    unsigned class_no = size_to_aligned_class(size, alignment);
    if (class_no < SIZE_CLASS_COUNT)
        return hak_malloc(size_class_bytes[class_no]);
    return large_alloc(size, alignment, &zeroed);
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
    if (alignment > SIZE_MAX_ASK) {
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
    int saved = errno;
    void *p = aligned(alignment, size);
    errno = saved;
    if (p == NULL)
        return ENOMEM;
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
