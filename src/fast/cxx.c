/*
 * cxx.c: C++'s operator new in its 8 forms (delete is in malloc.c), by their mangled names (Itanium
 * C++ ABI), without needing libstdc++ in a program that is not C++.
 *
 * On failure the throwing ones call the new_handler until it gives up, then throw std::bad_alloc;
 * both are found in the libstdc++ that the program has loaded. The nothrow ones must turn what a
 * handler throws into NULL, which needs C++: they hand a failure to libstdc++'s own, which calls
 * ours again inside its try block.
 *
 * SYNCHRONIZATION: as malloc and free.
 */
#include "counters.h"
#include "heap.h"
#include "names.h"
#include "slow.h"
#include "../global/os.h"

#include <dlfcn.h>
#include <hakmem.h>

typedef void (*new_handler)(void);
struct nothrow;

/* ---- what libstdc++ has, looked up only once an allocation has failed ---- */

/* Linked in, with a static libstdc++ or none. */
extern new_handler linked_get_new_handler(void) __asm__("_ZSt15get_new_handlerv")
    __attribute__((weak));
extern void linked_throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));

static void *find_in_libstdcxx(const char *symbol)
{
    void *found = dlsym(RTLD_NEXT, symbol);
    if (found != NULL)
        return found;
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return library != NULL ? dlsym(library, symbol) : NULL;
}

/* False: there is no handler. */
static bool call_new_handler(void)
{
    new_handler (*get)(void) = linked_get_new_handler;
    if (get == NULL)
        *(void **)&get = find_in_libstdcxx("_ZSt15get_new_handlerv");
    new_handler handler = get != NULL ? get() : NULL;
    if (handler == NULL)
        return false;
    handler();
    return true;
}

static _Noreturn void throw_bad_alloc(size_t size)
{
    void (*raise)(void) = linked_throw_bad_alloc;
    if (raise == NULL)
        *(void **)&raise = find_in_libstdcxx("_ZSt17__throw_bad_allocv");
    if (raise != NULL)
        raise();
    os_die("operator new(%zu): out of memory, and there is no libstdc++ to throw; aborting", size);
}

/* ---- throwing ---- */

static HAK_COLD void *new_again(size_t size, size_t alignment)
{
    for (;;) {
        void *p = hak_aligned_alloc(alignment, size);
        if (p != NULL)
            return p;
        if (!is_power_of_two(alignment) || !call_new_handler())
            throw_bad_alloc(size);
    }
}

static HAK_NOINLINE void *new_slow(size_t size, struct heap *h)
{
    void *p = malloc_slow(size, h);
    return HAK_LIKELY(p != NULL) ? p : new_again(size, 1);
}

/* As hak_malloc: to call that would cost half as much again. */
static void *hak_new(size_t size)
{
    COUNT(malloc);
    struct heap *h = heap_enter();
    if (HAK_LIKELY(size <= SIZE_TINY_MAX))
        return malloc_take(h, size_to_tiny_bin_place(size), size, new_slow);
    if (HAK_LIKELY(size <= SIZE_SLAB_MAX))
        return malloc_take(h, size_to_l2_bin_place(size), size, new_slow);
    return new_slow(size, h);
}

static void *hak_new_aligned(size_t size, size_t alignment)
{
    void *p = hak_aligned_alloc(alignment, size);
    return HAK_LIKELY(p != NULL) ? p : new_again(size, alignment);
}

/* ---- not throwing ---- */

static HAK_COLD void *nothrow_slow(const char *symbol, size_t size, const struct nothrow *tag)
{
    void *(*theirs)(size_t, const struct nothrow *) = NULL;
    *(void **)&theirs = find_in_libstdcxx(symbol);
    return theirs != NULL ? theirs(size, tag) : NULL;
}

static HAK_COLD void *nothrow_aligned_slow(const char *symbol, size_t size, size_t alignment,
                                           const struct nothrow *tag)
{
    void *(*theirs)(size_t, size_t, const struct nothrow *) = NULL;
    *(void **)&theirs = find_in_libstdcxx(symbol);
    return theirs != NULL ? theirs(size, alignment, tag) : NULL;
}

static void *hak_new_nothrow(size_t size, const struct nothrow *tag)
{
    void *p = hak_malloc(size);
    return HAK_LIKELY(p != NULL) ? p : nothrow_slow("_ZnwmRKSt9nothrow_t", size, tag);
}

static void *hak_new_aligned_nothrow(size_t size, size_t alignment, const struct nothrow *tag)
{
    void *p = hak_aligned_alloc(alignment, size);
    return HAK_LIKELY(p != NULL)
               ? p
               : nothrow_aligned_slow("_ZnwmSt11align_val_tRKSt9nothrow_t", size, alignment, tag);
}

HAK_SYMBOL(new_1, "_Znwm", hak_new)
HAK_SYMBOL(new_2, "_Znam", hak_new)
HAK_SYMBOL(new_3, "_ZnwmRKSt9nothrow_t", hak_new_nothrow)
HAK_SYMBOL(new_4, "_ZnamRKSt9nothrow_t", hak_new_nothrow)
HAK_SYMBOL(new_5, "_ZnwmSt11align_val_t", hak_new_aligned)
HAK_SYMBOL(new_6, "_ZnamSt11align_val_t", hak_new_aligned)
HAK_SYMBOL(new_7, "_ZnwmSt11align_val_tRKSt9nothrow_t", hak_new_aligned_nothrow)
HAK_SYMBOL(new_8, "_ZnamSt11align_val_tRKSt9nothrow_t", hak_new_aligned_nothrow)
