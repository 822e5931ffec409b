#define _GNU_SOURCE
#include "stream.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

// PortAudio's ALSA side must not be asked for a device that fails. It keeps the
// error of a failing call in a variable that every thread of the process writes
// (paUtilErr_ in pa_unix_util.h; "not thread safe" says its issue 254), the
// callback threads of the streams that run beside it many times a millisecond.
// What was an error may so be none when it is looked at again: then PortAudio
// goes on with a device that is not set up, and waits for ever for it, or gives
// no stream and no error, and uses it. Measured with a monitor of a sink as a
// speaker beside a microphone: it hung in one of three talks and ended the
// program in one of twenty. So ALSA is asked first, with nothing shared, for
// all that PortAudio will ask of it. It is found as in configured.c.
//
// Handles and parameters are opaque here, as ALSA promises to keep them.

// near is how far ALSA may be from the rate asked for, as PortAudio has it.
#define NEAR 100

PaError th_openable(const char *name, const th_config *config) {
	int (*pcm_open)(void **, const char *, int, int) =
		(int (*)(void **, const char *, int, int))dlsym(RTLD_DEFAULT, "snd_pcm_open");
	int (*pcm_close)(void *) = (int (*)(void *))dlsym(RTLD_DEFAULT, "snd_pcm_close");
	int (*nonblock)(void *, int) = (int (*)(void *, int))dlsym(RTLD_DEFAULT, "snd_pcm_nonblock");
	int (*params_malloc)(void **) = (int (*)(void **))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_malloc");
	void (*params_free)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_free");
	int (*any)(void *, void *) = (int (*)(void *, void *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_any");
	int (*set_rate)(void *, void *, unsigned *, int *) =
		(int (*)(void *, void *, unsigned *, int *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_set_rate_near");
	int (*set_channels)(void *, void *, unsigned *) =
		(int (*)(void *, void *, unsigned *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_set_channels_near");
	int (*set_period)(void *, void *, unsigned long *, int *) =
		(int (*)(void *, void *, unsigned long *, int *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_set_period_size_near");
	int (*set_buffer)(void *, void *, unsigned long *) =
		(int (*)(void *, void *, unsigned long *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params_set_buffer_size_near");
	int (*apply)(void *, void *) = (int (*)(void *, void *))dlsym(RTLD_DEFAULT, "snd_pcm_hw_params");
	if (!pcm_open || !pcm_close || !nonblock || !params_malloc || !params_free || !any || !set_rate ||
	    !set_channels || !set_period || !set_buffer || !apply)
		return paNoError; // there is nothing to ask

	enum { playback = 0, capture = 1, no_wait = 1 }; // snd_pcm_stream_t, SND_PCM_NONBLOCK
	void *pcm = NULL, *params = NULL;
	int err = pcm_open(&pcm, name, config->capture ? capture : playback, no_wait);
	if (err < 0) return err == -ENOMEM ? paInsufficientMemory : paDeviceUnavailable;

	PaError result = paDeviceUnavailable;
	unsigned rate = (unsigned)config->rate, channels = (unsigned)config->channels;
	unsigned long period = (unsigned long)config->period;
	unsigned long buffer = (unsigned long)(config->latency * config->rate) + period;
	if (nonblock(pcm, 0) < 0) goto end;
	if (params_malloc(&params) < 0) {
		result = paInsufficientMemory;
		goto end;
	}
	if (any(pcm, params) < 0) goto end;
	if (set_rate(pcm, params, &rate, NULL) < 0 || abs((int)rate - config->rate) * NEAR > config->rate) {
		result = paInvalidSampleRate;
		goto end;
	}
	if (set_channels(pcm, params, &channels) < 0 || channels < (unsigned)config->channels) {
		result = paInvalidChannelCount;
		goto end;
	}
	if (set_period(pcm, params, &period, NULL) < 0 || set_buffer(pcm, params, &buffer) < 0) goto end;
	// This prepares it, too, for which a plugin goes to its sound server.
	if (apply(pcm, params) < 0) goto end;
	result = paNoError;
end:
	if (params != NULL) params_free(params);
	pcm_close(pcm);
	return result;
}
