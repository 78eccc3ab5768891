/*
 * malloc.c: malloc and free. Page one of hakmem.
 *
 * malloc:  size -> bin -> its head.           A miss, or a large size, is malloc_slow's. free:
 * address -> word of its unit -> if the slab is mine or nobody's, push on that bin.
 *          A bin that runs over is free_overflow's; another's block, and the rest, is free_elsewhere's.
 *
 * SYNCHRONIZATION: everything touched here is this thread's own, but for the word, which free
 * reads. It says "mine" only if this thread wrote it; a block of nobody's slab may be in any heap's
 * bin of its class. Nothing waits, and a signal handler may call both at any instruction (heap.h).
 */
#include "counters.h"
#include "heap.h"
#include "slow.h"
#include "names.h"

#include <hakmem.h>

void *hak_malloc(size_t size)
{
    COUNT(malloc);
    struct heap *h = heap_enter();
    if (HAK_LIKELY(size <= SIZE_TINY_MAX))
        return malloc_take(h, size_to_tiny_bin_place(size), size, malloc_slow);
    if (HAK_LIKELY(size <= SIZE_SLAB_MAX))
        return malloc_take(h, size_to_l2_bin_place(size), size, malloc_slow);
    return malloc_slow(size, h);
}

void hak_free(void *p)
{
    COUNT(free);
    struct heap *h = heap_enter();
    uintptr_t word;
    if (HAK_LIKELY(registry_near_word(&h->near, p, &word)) && HAK_LIKELY(heap_keeps(h, word)))
        free_keep(h, unit_word_place(word), p);
    else
        free_elsewhere(p, h);
}

HAK_ALIAS(malloc, hak_malloc)
HAK_ALIAS(free, hak_free)
HAK_ALIAS(cfree, hak_free)

/* C++'s operator delete, in all 12 forms: the size, alignment and tag say nothing the address does
 * not. */
HAK_SYMBOL(delete_1, "_ZdlPv", hak_free)
HAK_SYMBOL(delete_2, "_ZdaPv", hak_free)
HAK_SYMBOL(delete_3, "_ZdlPvm", hak_free)
HAK_SYMBOL(delete_4, "_ZdaPvm", hak_free)
HAK_SYMBOL(delete_5, "_ZdlPvRKSt9nothrow_t", hak_free)
HAK_SYMBOL(delete_6, "_ZdaPvRKSt9nothrow_t", hak_free)
HAK_SYMBOL(delete_7, "_ZdlPvSt11align_val_t", hak_free)
HAK_SYMBOL(delete_8, "_ZdaPvSt11align_val_t", hak_free)
HAK_SYMBOL(delete_9, "_ZdlPvmSt11align_val_t", hak_free)
HAK_SYMBOL(delete_10, "_ZdaPvmSt11align_val_t", hak_free)
HAK_SYMBOL(delete_11, "_ZdlPvSt11align_val_tRKSt9nothrow_t", hak_free)
HAK_SYMBOL(delete_12, "_ZdaPvSt11align_val_tRKSt9nothrow_t", hak_free)
