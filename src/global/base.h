/*
 * base.h: the few macros and sizes that every file of hakmem shares.
 *
 * SYNCHRONIZATION: none; there is no state here.
 */
#ifndef HAK_BASE_H
#define HAK_BASE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HAK_LIKELY(x)   __builtin_expect(!!(x), 1)
#define HAK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HAK_INLINE      static inline __attribute__((always_inline))
#define HAK_NOINLINE    __attribute__((noinline))
#define HAK_COLD        __attribute__((noinline, cold))
#define HAK_CACHE_LINE  64

/* Hides from the compiler how x came about. Where it knows, it folds a sum that an address would
 * have taken for nothing into instructions of their own. */
#define HAK_OPAQUE(x) __asm__("" : "+r"(x))

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)

/* A unit is what a segment is cut into; a segment is what is mapped at a time. */
#define UNIT_SHIFT        16
#define UNIT_SIZE         ((size_t)1 << UNIT_SHIFT)
#define SEGMENT_SHIFT     22
#define SEGMENT_SIZE      ((size_t)1 << SEGMENT_SHIFT)
#define UNITS_PER_SEGMENT ((unsigned)(SEGMENT_SIZE / UNIT_SIZE))

static_assert(UNITS_PER_SEGMENT == 64, "the free units of a segment are one 64-bit word");
static_assert(sizeof(void *) == 8, "hakmem is for 64-bit address spaces");

/* A free block. Its first word links it; its second is in use only in the head of a chain that was
 * pushed on a remote stack (see remote/chain.h). Owner only, once it was popped. */
struct block {
    struct block *next;
    uint64_t chain;
};

HAK_INLINE size_t align_up(size_t n, size_t alignment)
{
    return (n + alignment - 1) & ~(alignment - 1);
}

/* alignment: a power of two */
HAK_INLINE bool is_aligned(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

/* So many units hold as many bytes. */
HAK_INLINE unsigned units_for(size_t bytes)
{
    return (unsigned)(align_up(bytes, UNIT_SIZE) >> UNIT_SHIFT);
}

HAK_INLINE bool is_power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

HAK_INLINE long min_long(long a, long b)
{
    return a < b ? a : b;
}

HAK_INLINE long max_long(long a, long b)
{
    return a > b ? a : b;
}

HAK_INLINE size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

HAK_INLINE size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
