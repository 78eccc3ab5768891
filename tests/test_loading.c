/*
 * test_loading.c: dlopen and dlclose, plain or with RTLD_DEEPBIND, while threads allocate.
 *
 *     test_loading DEEPBIND_LIBRARY
 *
 * The library has a neighbour in its folder, deepbind_neighbour.so. With HAKMEM_DEEPBIND=1 in the
 * environment the flag means what it does without hakmem.
 */
#include "testing.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *library;
static _Atomic(bool) over;

static void *allocate(void *argument)
{
    (void)argument;
    for (unsigned i = 0; !atomic_load(&over); i++)
        free(malloc(i % 5000));
    return NULL;
}

static void test_dlopen_in_loops(void **state)
{
    (void)state;
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, allocate, NULL), 0);
    for (int i = 0; i < 500; i++) {
        void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        assert_non_null(loaded);
        void *(*make)(size_t) = NULL;
        *(void **)&make = dlsym(loaded, "deepbind_malloc");
        free(make(100));
        dlclose(loaded);
        assert_null(dlopen("no such library", RTLD_NOW));
        assert_non_null(dlerror());
    }
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

/* What the C library's own allocator gave goes back to it, by whichever function it is passed
 * to. */
static void test_foreign_blocks(void **state)
{
    (void)state;
    void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    assert_non_null(loaded);
    void *(*make)(size_t) = NULL;
    *(void **)&make = dlsym(loaded, "deepbind_malloc");
    size_t before = mallinfo2().uordblks;
    char *foreign[100];
    for (int i = 0; i < 100; i++) {
        foreign[i] = make(5000);
        assert_non_null(foreign[i]);
        memset(foreign[i], i, 5000);
    }
    assert_true(mallinfo2().uordblks < before + 100000); /* they are not hakmem's */
    for (int i = 0; i < 100; i++) {
        assert_true(malloc_usable_size(foreign[i]) >= 5000);
        assert_true(malloc_usable_size(foreign[i]) < 6000);
        foreign[i] = realloc(foreign[i], 9000);
        assert_int_equal(foreign[i][4999], i);
        errno = 99;
        free(foreign[i]);
        assert_int_equal(errno, 99);
    }
    void *large = make(1 << 20); /* an mmap of glibc's */
    memset(large, 1, 1 << 20);
    free(large);
    dlclose(loaded);
}

/* It frees what it did not allocate. */
static void test_bound_to_hakmem(void **state)
{
    (void)state;
    void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    assert_non_null(loaded);
    void *(*make)(size_t) = NULL;
    void (*give_back)(void *) = NULL;
    *(void **)&make = dlsym(loaded, "deepbind_malloc");
    *(void **)&give_back = dlsym(loaded, "deepbind_free");
    for (size_t size = 1; size < (8 << 20); size += size / 2 + 1) {
        void *p = malloc(size);
        memset(p, 1, size);
        give_back(p);
    }
    size_t before = mallinfo2().uordblks;
    void *p = make(200000);
    assert_true(mallinfo2().uordblks >= before + 200000);
    free(p);
    dlclose(loaded);
}

/* The neighbour is found by the RUNPATH of who calls, which neither the program nor hakmem has. */
static void test_caller_is_kept(void **state)
{
    (void)state;
    assert_null(dlopen("deepbind_neighbour.so", RTLD_NOW));
    void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(loaded);
    void *(*load)(const char *) = NULL;
    *(void **)&load = dlsym(loaded, "deepbind_dlopen");
    void *neighbour = load("deepbind_neighbour.so");
    assert_non_null(neighbour);
    dlclose(neighbour);
    dlclose(loaded);
}

/* The option counts before constructors have run, too. By the sizes of blocks: glibc's are 16 bytes
 * and 8. */
static void test_option_counts_early(void **state)
{
    (void)state;
    extern void *deepbind_early_block;
    bool is_foreign = getenv("HAKMEM_DEEPBIND") != NULL;
    assert_non_null(deepbind_early_block);
    assert_int_equal(malloc_usable_size(deepbind_early_block), is_foreign ? 104 : 112);
    free(deepbind_early_block);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    library = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dlopen_in_loops),
        cmocka_unit_test(test_bound_to_hakmem),
        cmocka_unit_test(test_caller_is_kept),
        cmocka_unit_test(test_option_counts_early),
    };
    const struct CMUnitTest with_the_flag[] = {
        cmocka_unit_test(test_dlopen_in_loops),
        cmocka_unit_test(test_foreign_blocks),
        cmocka_unit_test(test_caller_is_kept),
        cmocka_unit_test(test_option_counts_early),
    };
    return getenv("HAKMEM_DEEPBIND") == NULL ? RUN_TESTS(tests) : RUN_TESTS(with_the_flag);
}
