#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/eventfd.h>

int th_wake_open(int *to_read, int *to_write) {
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0) return errno;
	*to_read = *to_write = fd;
	return 0;
}

#else

int th_wake_open(int *to_read, int *to_write) {
	int fd[2];
	if (pipe(fd) < 0) return errno;
	for (int i = 0; i < 2; i++) {
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
		fcntl(fd[i], F_SETFD, FD_CLOEXEC);
	}
	*to_read = fd[0];
	*to_write = fd[1];
	return 0;
}

#endif

// Eight bytes are one count of an eventfd, and eight bytes of a pipe. A full
// one wakes its reader too, so failing is as good.
void th_wake(int fd) {
	const uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof one);
	(void)n;
}

// ALSA, JACK and PortAudio print to C's stderr while they probe, and again when
// a server goes away. In glibc stderr is a variable ("Standard Streams", The GNU
// C Library Reference Manual), so it can be pointed elsewhere without touching
// descriptor 2, which is Go's.
#ifdef __GLIBC__

static FILE *nowhere, *loud;

void th_quiet(void) {
	if (nowhere == NULL) nowhere = fopen("/dev/null", "we");
	if (nowhere == NULL || loud != NULL) return;
	loud = stderr;
	stderr = nowhere; // stays open: a library's thread may be writing to it
}

void th_loud(void) {
	if (loud == NULL) return;
	stderr = loud;
	loud = NULL;
}

#else

void th_quiet(void) {}
void th_loud(void) {}

#endif
