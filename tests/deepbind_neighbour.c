/*
 * deepbind_neighbour.c: a library that deepbind_lib finds beside itself.
 */
int deepbind_neighbour(void)
{
    return 1;
}
