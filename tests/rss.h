/*
 * rss.h: this process's resident memory.
 */
#ifndef RSS_H
#define RSS_H

#include <stdio.h>
#include <unistd.h>

/* KiB; -1 if /proc does not say. Allocates nothing that stays. */
static inline long rss_kib(void)
{
    long total = -1, resident = -1;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%ld %ld", &total, &resident) != 2)
        resident = -1;
    if (statm != NULL)
        fclose(statm);
    return resident < 0 ? -1 : resident * (sysconf(_SC_PAGESIZE) / 1024);
}

#endif
