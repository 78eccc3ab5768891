/*
 * test_introspection.c: the statistics speak of hakmem's heap, and trimming gives memory back.
 */
#include "testing.h"
#include "rss.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void test_mallinfo_follows(void **state)
{
    (void)state;
    struct mallinfo2 before = mallinfo2();
    enum { COUNT = 3000 };
    static void *p[COUNT];
    for (int i = 0; i < COUNT; i++)
        p[i] = malloc(1000);
    void *run = malloc(500000), *whale = malloc(10000000);
    struct mallinfo2 during = mallinfo2();
    assert_true(during.uordblks >= before.uordblks + COUNT * 1000 + 500000 + 10000000 - 200000);
    assert_true(during.hblkhd >= before.hblkhd + 10000000);
    assert_true(during.hblks == before.hblks + 1);
    assert_true(during.arena >= 3500000);
    assert_true(mallinfo().uordblks > 0);
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
    free(run);
    free(whale);
    malloc_trim(0);
    struct mallinfo2 after = mallinfo2();
    assert_true(after.uordblks < before.uordblks + 200000);
    assert_int_equal(after.hblks, before.hblks);
    assert_int_equal(after.keepcost, 0);
}

enum { SOME = 300 };

static void *allocate_and_free(void *size)
{
    void *p[SOME];
    for (int i = 0; i < SOME; i++)
        p[i] = malloc((size_t)size);
    for (int i = 0; i < SOME; i++)
        free(p[i]);
    return NULL;
}

static void run_thread(size_t size)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, allocate_and_free, (void *)size), 0);
    pthread_join(thread, NULL);
}

/* Neither in the caller's bins nor in those of threads that have ended. */
static void test_free_blocks_are_not_in_use(void **state)
{
    (void)state;
    run_thread(100); /* the loader has what it keeps a thread now */
    size_t before = mallinfo2().uordblks;
    allocate_and_free((void *)200);
    assert_true(mallinfo2().uordblks <= before + 1000);
    run_thread(100);
    assert_true(mallinfo2().uordblks <= before + 1000);
    before = mallinfo2().uordblks;
    void *p = malloc(20000);
    assert_true(mallinfo2().uordblks >= before + 20000);
    free(p);
}

static void test_trim_gives_back(void **state)
{
    (void)state;
    enum { COUNT = 60 };
    void *p[COUNT];
    for (int i = 0; i < COUNT; i++)
        p[i] = memset(malloc(100000), 1, 100000);
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
    long before = rss_kib();
    assert_int_equal(malloc_trim(0), 1);
    assert_true(rss_kib() < before - 3000);
    malloc_trim(0); /* of what fopen left */
    assert_int_equal(malloc_trim(0), 0);
}

static void test_malloc_info(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    void *p = malloc(1000);
    assert_int_equal(malloc_info(0, stream), 0);
    fclose(stream);
    assert_non_null(strstr(text, "<malloc version=\"hakmem-1\">"));
    assert_non_null(strstr(text, "<class size=\"1024\""));
    assert_non_null(strstr(text, "</malloc>"));
    free(text);
    free(p);
    errno = 0;
    assert_int_equal(malloc_info(1, stderr), -1);
    assert_int_equal(errno, EINVAL);
}

static void test_mallopt(void **state)
{
    (void)state;
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 1 << 20), 1);
    assert_int_equal(mallopt(12345, 1), 0);
    assert_int_equal(mallopt(M_TRIM_THRESHOLD, 0), 1);
    void *p = memset(malloc(1000000), 1, 1000000);
    free(p);
    assert_true(mallinfo2().keepcost < 100000);
    assert_int_equal(mallopt(M_TRIM_THRESHOLD, 8 << 20), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mallinfo_follows), cmocka_unit_test(test_free_blocks_are_not_in_use),
        cmocka_unit_test(test_trim_gives_back),  cmocka_unit_test(test_malloc_info),
        cmocka_unit_test(test_mallopt),
    };
    return RUN_TESTS(tests);
}
