/* Loaded into the daemon with LD_PRELOAD: what it sends to the journal goes to the socket that JOURNAL_SOCKET names. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char journal[] = "/run/systemd/journal/socket";

ssize_t sendto(int fd, const void *bytes, size_t size, int flags, __CONST_SOCKADDR_ARG to, socklen_t length)
{
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    const char *path = getenv("JOURNAL_SOCKET");
    const struct sockaddr *address = to.__sockaddr__;
    struct sockaddr_un other = {.sun_family = AF_UNIX};
    if (path && address && address->sa_family == AF_UNIX && strlen(path) < sizeof other.sun_path &&
        length >= offsetof(struct sockaddr_un, sun_path) + sizeof journal - 1 &&
        memcmp(((const struct sockaddr_un *)address)->sun_path, journal, sizeof journal - 1) == 0) {
        strcpy(other.sun_path, path);
        address = (const struct sockaddr *)&other;
        length = sizeof other;
    }
    return real(fd, bytes, size, flags, address, length);
}
