/*
 * touched.c: see touched.h.
 *
 * SYNCHRONIZATION: see touched.h.
 */
#include "touched.h"
#include "os.h"
#include "size_class.h"

#define ALL        64u  /* of a block: what is touched is counted in such parts */
#define ASK_OFTEN  4u   /* one in so many */
#define ASK_SELDOM 128u /* the same, where the system says what it has said before */
#define SAME       8u   /* parts, by which it may differ */

static _Atomic(unsigned) touched = ALL;                  /* atomic, relaxed */
static _Atomic(unsigned) ask_every = ASK_OFTEN;          /* atomic, relaxed */
static _Alignas(HAK_CACHE_LINE) _Atomic(unsigned) noted; /* atomic, relaxed: a count */

static bool is_to_ask(size_t bytes)
{
    return bytes > SIZE_GROWN_RUN && bytes <= SIZE_RUN_MAX &&
           atomic_fetch_add_explicit(&noted, 1, memory_order_relaxed) %
                   atomic_load_explicit(&ask_every, memory_order_relaxed) ==
               0;
}

/* In parts of all. */
static unsigned ask(void *p, size_t bytes)
{
    size_t units = units_for(bytes);
    return (unsigned)(os_resident_parts(p, bytes, UNIT_SIZE, units) * ALL / units);
}

/* More counts at once, less by halves. */
void touched_note(void *p, size_t bytes)
{
    if (!is_to_ask(bytes))
        return;
    unsigned was = atomic_load_explicit(&touched, memory_order_relaxed), is = ask(p, bytes);
    bool same = is <= was && was - is <= SAME;
    atomic_store_explicit(&touched, is >= was ? is : (was + is) / 2, memory_order_relaxed);
    atomic_store_explicit(&ask_every, same ? ASK_SELDOM : ASK_OFTEN, memory_order_relaxed);
}

bool touched_mostly(void)
{
    return atomic_load_explicit(&touched, memory_order_relaxed) >= ALL / 2;
}
