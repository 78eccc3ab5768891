/*
 * json: documents are read and dropped. Each has a text buffer of the 64 KiB class and a tree of
 * many small nodes, keys and strings, some of them grown while they are read. The last eight
 * documents of a thread stay; now and then one is replaced out of turn, as caches do.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define KEPT 8

struct node {
    struct node *next, *child;
    char *key, *text;
};

struct document {
    char *buffer;
    struct node *root;
};

static char *grown_text(struct bench_thread *t)
{
    size_t n = bench_between(t, 4, 24);
    char *text = bench_malloc(t, n);
    while (bench_random(t) % 4 == 0 && n < 400) {
        n *= 2;
        text = realloc(text, n);
        t->operations++;
        text[n - 1] = 1;
    }
    return text;
}

static struct node *read_value(struct bench_thread *t, int depth, int *left)
{
    struct node *node = (struct node *)bench_malloc(t, sizeof *node);
    *node = (struct node){.key = bench_malloc(t, bench_between(t, 4, 16))};
    if (depth == 0 || bench_random(t) % 3 == 0) {
        node->text = grown_text(t);
        return node;
    }
    for (size_t children = bench_between(t, 1, 8); children > 0 && *left > 0; children--) {
        --*left;
        struct node *child = read_value(t, depth - 1, left);
        child->next = node->child;
        node->child = child;
    }
    return node;
}

static void drop_value(struct node *node)
{
    while (node != NULL) {
        struct node *next = node->next;
        drop_value(node->child);
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
}

static struct document read_document(struct bench_thread *t)
{
    size_t n = bench_between(t, 40000, 65536);
    int left = 1500;
    struct document d = {.buffer = bench_malloc(t, n)};
    memset(d.buffer, 1, n / 4);
    while (left > 0) {
        struct node *top = read_value(t, 6, &left);
        top->next = d.root;
        d.root = top;
        left--;
    }
    return d;
}

static void drop_document(struct document *d)
{
    free(d->buffer);
    drop_value(d->root);
    *d = (struct document){0};
}

static void work(struct bench_thread *t)
{
    struct document kept[KEPT] = {0};
    for (unsigned i = 0; !bench_over(); i++) {
        struct document *d = &kept[i % 5 == 0 ? bench_random(t) % KEPT : i % KEPT];
        drop_document(d);
        *d = read_document(t);
    }
    for (unsigned i = 0; i < KEPT; i++)
        drop_document(&kept[i]);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "json", NULL);
    bench_run(work);
    return 0;
}
