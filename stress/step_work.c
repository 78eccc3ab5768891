/*
 * step_work.c: the operations that step goes through instruction by instruction, and the other
 * thread.
 *
 * A scenario prepares, says INSIDE, traps (int3: the tracer takes over), does one call, says AFTER
 * and traps again; the tracer asks for more of the same until the functions that the scenario is
 * for were met. The other thread does its set of allocations and frees each time it is asked; among
 * them is the free of a block that the stepped thread has made.
 *
 * How threads meet: through step_shared.h, the array of blocks that change hands, and pthread_join
 * while nothing is stepped.
 */
#include "park_shared.h"
#include "step_shared.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GIVEN_MOST 8192
#define KEPT_MOST  4096
#define SLEEPERS   1024 /* blocks */
#define SMALL      64u
#define SELDOM     300u
#define MIDDLE     20000u /* three a slab, four a bin: slow paths are frequent */
#define RUN        (1000u << 10)
#define SHORT_RUN  (50u << 10)
#define WHALE      (6000u << 10)
#define GREAT      (1000u << 20)  /* more than the cache of whales maps at first; never touched */
#define GREATEST   (4000ul << 20) /* more than twice as much: none that is cached will do */

static struct step_shared *shared;
static void *given[GIVEN_MOST]; /* by the stepped thread, while the other one is not asked */
static _Atomic(int) given_count;
static void *kept[KEPT_MOST];
static unsigned kept_count;
static pthread_key_t last_key;
static FILE *sink;

/* ---- the other thread ---- */

static void free_given(void)
{
    int i = given_count;
    if (i > 0) {
        given_count = i - 1;
        free(given[i - 1]);
    }
}

static void touch_all_tiers(void)
{
    void *block[8];
    for (unsigned i = 0; i < 8; i++)
        block[i] = malloc(i < 6 ? MIDDLE : SMALL);
    for (unsigned i = 0; i < 8; i++)
        free(block[i]);
    free(malloc(RUN));
    free(malloc(WHALE));
    free(malloc(GREAT)); /* retires a descriptor: polls for a grace period */
    free_given();
}

static void *other(void *unused)
{
    (void)unused;
    shared->tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        uint64_t asked = shared->asked;
        if (asked != shared->answered) {
            touch_all_tiers();
            shared->answered = asked;
        }
        sched_yield();
    }
    return NULL;
}

/* ---- preparing ---- */

static void keep(void *p)
{
    if (kept_count == KEPT_MOST)
        free(p);
    else
        kept[kept_count++] = p;
}

static void *unkeep(void)
{
    return kept_count != 0 ? kept[--kept_count] : NULL;
}

static void drop_kept(void)
{
    while (kept_count != 0)
        free(unkeep());
}

static void give(size_t n, int count)
{
    while (given_count < count) {
        given[given_count] = malloc(n);
        given_count++;
    }
}

static void give_small(void)
{
    give(SMALL, GIVEN_MOST);
}

static void keep_many(size_t n, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char *p = malloc(n);
        for (size_t at = 0; at < n; at += 4096)
            p[at] = 1;
        keep(p);
    }
}

static void keep_middle(void)
{
    keep_many(MIDDLE, 100);
}

/* So much that slabs are long. */
static void keep_much(void)
{
    keep_many(MIDDLE, 800);
}

/* The same, and bins are small. */
static void keep_much_anew(void)
{
    malloc_trim(0);
    keep_much();
}

/* None of them stays with the process, however use swings. */
static void keep_runs(void)
{
    mallopt(M_TRIM_THRESHOLD, 0);
    keep_many(RUN, 48);
}

static void drop_runs(void)
{
    drop_kept();
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

/* Short, as copying is stepped too, byte by byte. */
static void keep_short_runs(void)
{
    drop_kept();
    keep_many(SHORT_RUN, 8);
}

static void keep_whales(void)
{
    keep_many(WHALE, 4);
}

/* Aligned to more than a segment: so short, and a whale. Others wait in the cache. */
static void keep_short_whale(void)
{
    keep_whales();
    drop_kept();
    keep(aligned_alloc(8 << 20, 100));
}

static void keep_great(void)
{
    keep(malloc(GREAT));
}

static void *live_short(void *body)
{
    ((void (*)(void))body)();
    return NULL;
}

static void in_another_thread(void (*body)(void))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, live_short, (void *)body) != 0)
        exit(2);
    pthread_join(thread, NULL);
}

static void make_unowned(void)
{
    keep_many(MIDDLE, KEPT_MOST);
}

/* Full slabs that nobody owns, of a class that this thread has come to only free. */
static void prepare_deposit(void)
{
    keep_many(MIDDLE, KEPT_MOST);
    drop_kept();
    malloc_trim(0);
    in_another_thread(make_unowned);
}

/* The same, where it allocates many too. */
static void prepare_claim(void)
{
    void *p[32];
    prepare_deposit();
    for (int i = 0; i < 32; i++)
        p[i] = malloc(MIDDLE);
    for (int i = 0; i < 32; i++)
        free(p[i]);
}

static void make_shared(void)
{
    keep_many(MIDDLE, 120);
    for (unsigned i = 0; i < kept_count; i += 3) {
        free(kept[i]);
        kept[i] = malloc(16);
    }
}

static void prepare_shared(void)
{
    drop_kept();
    in_another_thread(make_shared);
}

/* Full slabs of mine that the other thread has freed into. */
static void prepare_freed_into(void)
{
    while (given_count != 0)
        free_given();
    give(MIDDLE, 32);
    for (unsigned i = 0; i < 12; i++) {
        uint64_t asked = shared->asked + 1;
        shared->asked = asked;
        while (shared->answered != asked)
            sched_yield();
    }
}

/* Blocks of slabs that a living thread owns: it waits until they are freed. */
static pthread_barrier_t made, freed;

static void *make_and_wait(void *unused)
{
    keep_many(SMALL, 2000);
    pthread_barrier_wait(&made);
    pthread_barrier_wait(&freed);
    return unused;
}

/* The same, and it has found that it needs them all. */
static void *make_by_turns_and_wait(void *unused)
{
    for (int turn = 0; turn < 8; turn++) {
        drop_kept();
        keep_many(MIDDLE, SLEEPERS);
    }
    pthread_barrier_wait(&made);
    pthread_barrier_wait(&freed);
    return unused;
}

static pthread_t maker;

static void start_maker(void *(*body)(void *))
{
    drop_kept();
    if (pthread_create(&maker, NULL, body, NULL) != 0)
        exit(2);
    pthread_barrier_wait(&made);
}

static void prepare_remote(void)
{
    start_maker(make_and_wait);
}

/* It is watched from the first of these frees on. */
static void prepare_sleeper(void)
{
    start_maker(make_by_turns_and_wait);
    while (kept_count > SLEEPERS / 2)
        free(unkeep());
    usleep(2000);
}

static void finish_remote(void)
{
    drop_kept();
    pthread_barrier_wait(&freed);
    pthread_join(maker, NULL);
}

/* ---- one call each ---- */

static void trap(int phase)
{
    shared->phase = phase;
    __asm__ volatile("int3" ::: "memory");
}

static void malloc_small(void)
{
    keep(malloc(SMALL));
}

static void malloc_middle(void)
{
    keep(malloc(MIDDLE));
}

/* Of a class that nothing else here is of; a step takes so long that it never is in demand. */
static void malloc_seldom(void)
{
    keep(malloc(SELDOM));
}

static void malloc_run(void)
{
    keep(malloc(RUN));
}

static void malloc_whale(void)
{
    keep(malloc(WHALE));
}

static void malloc_greatest(void)
{
    keep(malloc(GREATEST));
}

static void free_one(void)
{
    free(unkeep());
}

static void grow(void)
{
    void *p = unkeep();
    void *grown = realloc(p, malloc_usable_size(p) * 2);
    keep(grown != NULL ? grown : p);
}

static void grow_to_whale(void)
{
    void *p = unkeep();
    void *grown = realloc(p, WHALE / 4 * 3);
    keep(grown != NULL ? grown : p);
}

static void shrink(void)
{
    void *p = unkeep();
    void *shrunk = realloc(p, malloc_usable_size(p) / 2);
    keep(shrunk != NULL ? shrunk : p);
}

static void zeroed(void)
{
    keep(calloc(1, MIDDLE));
}

static void aligned(void)
{
    keep(aligned_alloc(4096, 5000));
}

static void refused(void)
{
    volatile size_t too_much = (size_t)1 << 45;
    free(malloc(too_much));
}

static void trim(void)
{
    malloc_trim(0);
}

static void statistics(void)
{
    struct mallinfo2 info = mallinfo2();
    (void)info;
}

static void information(void)
{
    malloc_info(0, sink);
}

static void nothing(void)
{
}

/* ---- threads ---- */

static void last_words(void *block)
{
    free(block);
    free(malloc(SMALL));
}

static void *first_call(void *unused)
{
    trap(PHASE_INSIDE);
    free(malloc(SMALL));
    trap(PHASE_AFTER);
    return unused;
}

/* Stepped until it is gone. */
static void *exit_stepped(void *unused)
{
    pthread_setspecific(last_key, malloc(SMALL));
    keep_many(SMALL, 300);
    keep_many(MIDDLE, 20);
    for (unsigned i = 0; i < 150; i++)
        free(kept[i * 2]), kept[i * 2] = NULL;
    trap(PHASE_INSIDE);
    return unused;
}

static void run_thread(void *(*body)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, NULL) != 0)
        exit(2);
    pthread_join(thread, NULL);
}

/* ---- the scenarios ---- */

struct scenario {
    const char *name;
    void (*prepare)(void);
    void (*call)(void);
    void (*finish)(void);
    void *(*thread)(void *); /* instead of a call */
    const char *expects;
    const char
        *from;    /* the other thread is not asked before this function is met: it would do what is
                         waited for */
    bool is_long; /* some 200,000 instructions: not for samples */
};

static const struct scenario scenarios[] = {
    {"malloc", give_small, malloc_small, nothing, NULL, .expects = "hak_malloc "},
    {"free", keep_middle, free_one, nothing, NULL, .expects = "hak_free "},
    {"first malloc", nothing, NULL, nothing, first_call,
     .expects = "attach heap_obtain pop_parked "},
    {"refill", nothing, malloc_middle, nothing, NULL,
     .expects = "refill owned_take slab_take_owner find_free segment_take slab_init_owner "
                "owned_keep_bounds "
                "give_up "},
    {"refill: a few", nothing, malloc_seldom, nothing, NULL,
     .expects = "refill_few owned_take_few slab_take_few_owner claim_to_take let_go shared_push "},
    {"refill: what others freed", prepare_freed_into, malloc_middle, drop_kept, NULL,
     .expects = "find_freed_into drain chain_read "},
    {"refill: a shared slab", prepare_shared, malloc_middle, drop_kept, NULL,
     .expects = "find_shared pop_by claim_owner "},
    {"refill: a long slab", keep_much, malloc_middle, drop_kept, NULL,
     .expects = "segment_take_for_slab ", .from = "magazine_take_row "},
    {"bin overflow: a long slab", keep_much_anew, free_one, drop_kept, NULL,
     .expects = "magazine_return_row ", .from = "magazine_return_row "},
    {"run, new segment", give_small, malloc_run, nothing, NULL,
     .expects = "run_alloc take_from_new registry_publish open_units os_map_aligned ",
     .from = "take_from_new "},
    {"run grows", keep_short_runs, grow, nothing, NULL, .expects = "large_resize "},
    {"run shrinks", nothing, shrink, drop_kept, NULL, .expects = "run_resize segment_return "},
    {"bin overflow", keep_middle, free_one, drop_kept, NULL,
     .expects = "free_overflow bins_flush slab_put_owner release_to_free put_back "},
    {"remote free", prepare_remote, free_one, finish_remote, NULL,
     .expects = "outbuf_open slot_flush owned_push_remote lf_stack_push_chain "},
    {"remote free: relieves a sleeper", prepare_sleeper, free_one, finish_remote, NULL,
     .expects = "relief_look_at_awaited relieve heap_seize owned_give_up heap_end_seizure ",
     .from = "relief_look_at_awaited "},
    {"claim", prepare_claim, free_one, drop_kept, NULL,
     .expects = "bins_flush owned_put_or_claim claim_owner settle "},
    {"deposit", prepare_deposit, free_one, drop_kept, NULL,
     .expects = "free_overflow owned_push_remote claim_owner slab_put_owner let_go shared_push "},
    {"run free: purge", keep_runs, free_one, drop_runs, NULL,
     .expects = "run_free purge_excess purge_units ", .from = "purge_units "},
    {"run free: retirement", keep_runs, free_one, drop_runs, NULL,
     .expects = "retire_if_empty registry_unpublish rcu_retire poll_alone ",
     .from = "retire_if_empty "},
    {"run free: grace period", keep_runs, free_one, drop_runs, NULL,
     .expects = "batch_end segment_reclaim os_unmap ", .from = "segment_reclaim "},
    {"whale, cached", keep_whales, free_one, nothing, NULL,
     .expects = "whale_free cache_put slot_fill "},
    {"whale from the cache", give_small, malloc_whale, drop_kept, NULL,
     .expects = "cache_take slot_take "},
    {"whale free, unmapped", keep_great, free_one, drop_kept, NULL,
     .expects = "whale_unmap os_unmap "},
    {"whale, mapped", nothing, malloc_greatest, drop_kept, NULL,
     .expects = "whale_alloc publish os_map_aligned "},
    {"whale grows", keep_whales, grow, drop_kept, NULL,
     .expects = "whale_resize whale_move os_move "},
    {"whale grows elsewhere", keep_short_whale, grow_to_whale, drop_kept, NULL,
     .expects = "large_roomier whale_roomier take_roomy lend "},
    {"calloc", give_small, zeroed, drop_kept, NULL, .expects = "hak_calloc "},
    {"realloc", keep_middle, grow, drop_kept, NULL, .expects = "hak_realloc move "},
    {"aligned_alloc", nothing, aligned, drop_kept, NULL, .expects = "aligned "},
    {"out of memory", keep_middle, refused, drop_kept, NULL,
     .expects = "give_back_all heap_dissolve close_bin heap_dissolve_parked "},
    {"trim", keep_middle, trim, drop_kept, NULL,
     .expects = "hak_malloc_trim segment_purge whale_drop_cache "},
    {"thread exit", give_small, NULL, drop_kept, exit_stepped,
     .expects = "at_exit heap_retire shelve park disown_class give_up shared_push heap_obtain "},
    {"run, new metadata", give_small, malloc_run, drop_kept, NULL,
     .expects = "descriptor_make meta_alloc next_chunk os_map ", .from = "next_chunk ",
     .is_long = true},
    {"statistics", give_small, statistics, nothing, NULL,
     .expects = "walk_leaf count_unit census_take ", .is_long = true},
    {"malloc_info", give_small, information, nothing, NULL, .expects = "hak_malloc_info ",
     .is_long = true},
};

static void run(unsigned i)
{
    const struct scenario *s = &scenarios[i];
    shared->scenario = i;
    snprintf(shared->name, sizeof shared->name, "%s", s->name);
    snprintf(shared->from, sizeof shared->from, "%s", s->from != NULL ? s->from : "");
    snprintf(shared->expects, sizeof shared->expects, "%s", s->expects);
    s->prepare();
    do {
        shared->again = 0;
        if (s->thread != NULL) {
            unsigned decided = shared->decided;
            run_thread(s->thread);
            while (shared->decided == decided)
                sched_yield();
            continue;
        }
        trap(PHASE_INSIDE);
        s->call();
        trap(PHASE_AFTER);
    } while (shared->again != 0);
    s->finish();
}

int main(void)
{
    pthread_t thread;
    shared = park_shared_memory(sizeof *shared, "step");
    while (shared->go == 0)
        sched_yield();
    sink = fopen("/dev/null", "w");
    pthread_key_create(&last_key, last_words);
    pthread_barrier_init(&made, NULL, 2);
    pthread_barrier_init(&freed, NULL, 2);
    if (sink == NULL || pthread_create(&thread, NULL, other, NULL) != 0)
        return 2;
    statistics(); /* registers this thread with liburcu, which is not what is tested */
    while (shared->tid == 0)
        sched_yield();
    for (unsigned i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (!scenarios[i].is_long || shared->sampled == 0)
            run(i);
    shared->phase = PHASE_OVER;
    return 0;
}
