#define _GNU_SOURCE
#include "stream.h"

#include <dlfcn.h>
#include <stddef.h>

// Where ALSA has no configuration, or one without a single device, PortAudio
// does not answer with an error: an assertion of its ends the process
// (pa_linux_alsa.c, BuildDeviceList). So ALSA is asked first. It is found as
// the library that PortAudio brought, if it brought it: with PortAudio for
// another sound system there is nothing to ask.
int th_configured(void) {
	int (*update)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "snd_config_update");
	int (*search)(void *, const char *, void **) =
		(int (*)(void *, const char *, void **))dlsym(RTLD_DEFAULT, "snd_config_search");
	void *(*first)(void *) = (void *(*)(void *))dlsym(RTLD_DEFAULT, "snd_config_iterator_first");
	void *(*end)(void *) = (void *(*)(void *))dlsym(RTLD_DEFAULT, "snd_config_iterator_end");
	void **top = dlsym(RTLD_DEFAULT, "snd_config");
	if (!update || !search || !first || !end || !top) return 1;
	if (update() < 0 || *top == NULL) return 0;
	void *devices = NULL;
	if (search(*top, "pcm", &devices) < 0 || devices == NULL) return 0;
	return first(devices) != end(devices);
}
