/*
 * children.h: forks one child after the other.
 */
#ifndef HAK_CHILDREN_H
#define HAK_CHILDREN_H

#include <sys/wait.h>
#include <unistd.h>

/* `run` is given the child's number, and does not return. How many did not end by _exit(0). */
static inline int count_failed_children(int children, void (*run)(int number))
{
    int failed = 0;
    for (int i = 0; i < children; i++) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            run(i);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        failed += status != 0;
    }
    return failed;
}

#endif
