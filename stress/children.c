/*
 * children: fork upon fork from a process whose threads are busy.
 *
 * Why: the child has what one moment of all threads looked like, without the threads: their heaps
 * are taken over, blocks of theirs are freed, and nothing may be waited for. How: two threads make
 * blocks of all sizes, two free them; a fifth starts a thread for each fork, one that never
 * allocated, so that the child's first allocation adopts a heap of a vanished thread. The child
 * checks and frees all blocks that were on their way, makes and frees blocks in every tier, takes
 * statistics, trims, and may fork once more. It starts no thread, which TSan would not bear. Edges:
 * `holder` in try_adopt; in the parent, as prodcons. How long: 2 s.
 */
#include "stress.h"

#include <sys/wait.h>
#include <unistd.h>

#define MAKERS 2
#define SLOTS  128
#define BLOCKS 200

static slot slots[MAKERS][SLOTS];

static void make_and_free(struct worker *w)
{
    static parcel blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = parcel_make(w, i % 64 == 0 ? 5000000 : rng_size(&w->rng));
    for (unsigned i = 0; i < BLOCKS; i++)
        parcel_free(blocks[i]);
}

static void fork_and_wait(struct worker *w, unsigned depth);

static void child(struct worker *w, unsigned depth)
{
    alarm(30);
    make_and_free(w);
    slots_free(slots[0], MAKERS * SLOTS);
    if (hak_mallinfo2().arena == 0)
        stress_fail("in the child: mallinfo2 finds no segment");
    if (depth > 0 && rng_below(&w->rng, 8) == 0)
        fork_and_wait(w, depth - 1);
    hak_malloc_trim(0);
    make_and_free(w);
    _exit(0);
}

static void fork_and_wait(struct worker *w, unsigned depth)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        stress_fail("no child");
    if (pid == 0)
        child(w, depth);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        stress_fail("a child ended with status %#x", (unsigned)status);
    w->met++;
}

static void fork_once(struct worker *w)
{
    fork_and_wait(w, 1);
}

static void fork_often(struct worker *w)
{
    for (unsigned i = 0; !stress_over(w); i++) {
        struct worker forker;
        stress_start(&forker, 100 + i, fork_once, NULL);
        pthread_join(forker.thread, NULL);
    }
}

static void body(struct worker *w)
{
    if (w->number == 2 * MAKERS)
        fork_often(w);
    slot *which = slots[w->number % MAKERS];
    while (!stress_over(w)) {
        if (w->number < MAKERS)
            slots_put(w, which, SLOTS, parcel_make(w, rng_size(&w->rng)));
        else
            slots_free(which, SLOTS);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "children");
    stress_expect(20, "forks", 1);
    stress_run(2 * MAKERS + 1, body, NULL);
    slots_free(slots[0], MAKERS * SLOTS);
    return stress_end();
}
