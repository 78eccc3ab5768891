/*
 * handlers: signal handlers allocate, reallocate and free, whatever they interrupt.
 *
 * Why: malloc and free are async-signal-safe. A handler that interrupts one finds a sentinel and
 * borrows a heap. How: two threads make blocks, two free them, all four interrupted by a timer of
 * their own; the handler makes two blocks, resizes one and frees it, and hands the other over if
 * its thread is a maker. Whether a handler interrupted hakmem is known by a flag around the calls.
 * (TSan delivers signals when one of the functions that it intercepts is called; in hakmem that is
 * mmap and munmap, so whales are made now and then.) Blocks go one way only. Edges: a borrowed heap
 * through `parked`; else as prodcons. How long: 2 s.
 */
#include "stress.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAKERS 2
#define SLOTS  128
#define PERIOD 1000000 /* nanoseconds */

static slot slots[MAKERS][SLOTS];
static __thread struct worker
    *handling; /* what the handler counts and numbers with: its thread's only */
static __thread volatile sig_atomic_t inside;

static void handle(int number)
{
    int saved = errno;
    struct worker *w = handling;
    (void)number;
    w->met += inside != 0;
    parcel x = parcel_make(w, rng_slab_size(&w->rng));
    parcel resized = parcel_make(w, rng_slab_size(&w->rng));
    parcel_free(parcel_resize(w, resized, rng_slab_size(&w->rng)));
    unsigned thread = ((struct worker *)w->argument)->number;
    if (thread >= MAKERS || !slot_put(&slots[thread][rng_below(&w->rng, SLOTS)], x))
        parcel_free(x);
    errno = saved;
}

static timer_t start_timer(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    struct itimerspec every = {{0, PERIOD}, {0, PERIOD}};
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
        timer_settime(timer, 0, &every, NULL) != 0)
        stress_fail("no timer: %s", strerror(errno));
    return timer;
}

static void churn(struct worker *w)
{
    inside = 1;
    for (unsigned i = 0; i < 100; i++)
        hak_free(hak_malloc(rng_slab_size(&w->rng)));
    hak_free(hak_malloc((size_t)40 << 20)); /* more than is cached: mmap, munmap */
    inside = 0;
}

static void turn(struct worker *w)
{
    slot *which = slots[w->number % MAKERS];
    if (rng_below(&w->rng, 100) == 0)
        churn(w);
    if (w->number >= MAKERS) {
        slots_free(which, SLOTS);
        return;
    }
    size_t n = rng_slab_size(&w->rng);
    inside = 1;
    void *p = hak_malloc(n);
    inside = 0;
    block_receive(w, p, n);
    slots_put(w, which, SLOTS, parcel_of(p));
}

static void body(struct worker *w)
{
    static struct worker in_handlers[2 * MAKERS]; /* a late signal finds it still */
    struct worker *mine = &in_handlers[w->number];
    *mine = (struct worker){.number = 100 + w->number, .rng = {w->rng.state + 1}, .argument = w};
    handling = mine;
    timer_t timer = start_timer();
    for (uint64_t told = 0; !stress_over(w);) {
        uint64_t met = mine->met;
        w->met += met - told;
        told = met;
        turn(w);
    }
    timer_delete(timer);
    w->made += mine->made;
    w->crossed += mine->crossed;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    stress_begin(argc, argv, "handlers");
    stress_expect(20, "handlers that interrupted hakmem", 2);
    sigaction(SIGUSR1, &action, NULL);
    stress_run(2 * MAKERS, body, NULL);
    slots_free(slots[0], MAKERS * SLOTS);
    return stress_end();
}
