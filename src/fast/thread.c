/*
 * thread.c: thread exit, by the destructor of a thread-specific key.
 *
 * glibc runs the destructors and frees afterwards (the thread's dynamic TLS, for one), and other
 * keys' destructors may come after ours: from then on the thread's heap is HEAP_GONE, and each call
 * borrows.
 *
 * SYNCHRONIZATION. The key is made by the first thread that asks; `key_state` goes NONE -> MAKING
 * -> READY (release; acquire by who uses the key). A thread that meets MAKING does not wait: it
 * asks again at its next slow path, as it does when there is no key or no memory for its value.
 */
#include "thread.h"
#include "heap.h"

#include <errno.h>
#include <pthread.h>

enum key_state { KEY_NONE, KEY_MAKING, KEY_READY };

static _Atomic(int) key_state;
static pthread_key_t key;

__thread bool thread_is_watched;

static void at_exit(void *unused)
{
    (void)unused;
    heap_retire(heap_enter());
    heap_leave(heap_sentinel(HEAP_GONE));
}

static bool key_is_ready(void)
{
    int state = KEY_NONE;
    if (atomic_load_explicit(&key_state, memory_order_acquire) == KEY_READY)
        return true;
    if (!atomic_compare_exchange_strong_explicit(&key_state, &state, KEY_MAKING,
                                                 memory_order_acquire, memory_order_acquire))
        return state == KEY_READY;
    bool made = pthread_key_create(&key, at_exit) == 0;
    atomic_store_explicit(&key_state, made ? KEY_READY : KEY_NONE, memory_order_release);
    return made;
}

void thread_begin_to_watch(void)
{
    int saved = errno;
    thread_is_watched = true; /* before the call, which may allocate */
    thread_is_watched = key_is_ready() && pthread_setspecific(key, heap_current) == 0;
    errno = saved;
}

__attribute__((constructor(101))) static void make_key_early(void)
{
    key_is_ready();
}
