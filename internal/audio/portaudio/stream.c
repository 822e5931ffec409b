#define _GNU_SOURCE // clock_gettime in strict C
#include "stream.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// A speaker whose ring ran empty fades from its last sample to silence by this
// factor a frame (to a hundredth in 5 ms at 48 kHz), instead of a click.
#define FADE 0.981f

// Over- and underruns of the first callbacks are those of starting.
#define STARTING_NS 500000000LL

struct th_stream {
	// Constant.
	PaStream *pa;
	int capture, channels, rate, wake;
	uint64_t limit; // frames that may be in the ring
	uint64_t size;  // frames of the array, a power of two
	float *ring;
	int64_t nominal; // ns of device latency, where a callback is not told
	int64_t started;

	// The ring: frames ever written and read. Each has one writer.
	_Atomic uint64_t written, read;
	// want is how many frames the Go side waits for, 0 if it does not.
	_Atomic int want;

	// Written by the callback.
	_Atomic int ended;
	_Atomic int64_t beat, host;
	_Atomic uint64_t callbacks, xruns, starved, dropped;
	// mark says when a frame of the microphone was in the air: number
	// mark_frame at mark_time. mark_seq is odd while it is written.
	_Atomic uint32_t mark_seq;
	_Atomic uint64_t mark_frame;
	_Atomic int64_t mark_time;

	// The callback's own.
	int playing;   // the ring has been filled since it last ran empty
	int played;    // it has been filled once
	float last[2]; // the last frame played
};

int64_t th_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// plausible is a latency that PortAudio tells, in seconds, as ns; or otherwise
// if it makes no sense, as some of its hosts' do not.
static int64_t plausible(double seconds, int64_t otherwise) {
	if (seconds > 0 && seconds < 1) return (int64_t)(seconds * 1e9);
	return otherwise;
}

static uint64_t fill(th_stream *s) {
	return atomic_load_explicit(&s->written, memory_order_seq_cst) -
	       atomic_load_explicit(&s->read, memory_order_seq_cst);
}

static int ready(th_stream *s, uint64_t frames) {
	uint64_t n = fill(s);
	return s->capture ? n >= frames : n + frames <= s->limit;
}

// The two halves of a copy to or from the ring that may wrap.
static void ring_put(th_stream *s, uint64_t at, const float *from, uint64_t frames) {
	uint64_t i = at & (s->size - 1), c = (uint64_t)s->channels;
	uint64_t head = frames < s->size - i ? frames : s->size - i;
	memcpy(s->ring + i * c, from, head * c * sizeof(float));
	memcpy(s->ring, from + head * c, (frames - head) * c * sizeof(float));
}

static void ring_get(th_stream *s, uint64_t at, float *to, uint64_t frames) {
	uint64_t i = at & (s->size - 1), c = (uint64_t)s->channels;
	uint64_t head = frames < s->size - i ? frames : s->size - i;
	memcpy(to, s->ring + i * c, head * c * sizeof(float));
	memcpy(to + head * c, s->ring, (frames - head) * c * sizeof(float));
}

static void captured(th_stream *s, const float *in, uint64_t frames, int64_t first) {
	uint64_t at = atomic_load_explicit(&s->written, memory_order_relaxed);
	if (fill(s) + frames > s->limit || in == NULL) {
		atomic_fetch_add_explicit(&s->dropped, frames, memory_order_relaxed);
		return;
	}
	ring_put(s, at, in, frames);

	uint32_t seq = atomic_load_explicit(&s->mark_seq, memory_order_relaxed);
	atomic_store_explicit(&s->mark_seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&s->mark_frame, at, memory_order_relaxed);
	atomic_store_explicit(&s->mark_time, first, memory_order_relaxed);
	atomic_store_explicit(&s->mark_seq, seq + 2, memory_order_release);

	atomic_store_explicit(&s->written, at + frames, memory_order_seq_cst);
}

static void play(th_stream *s, float *out, uint64_t frames) {
	uint64_t at = atomic_load_explicit(&s->read, memory_order_relaxed);
	uint64_t there = fill(s), n = 0, c = (uint64_t)s->channels;
	if (!s->playing && there >= frames && there * 2 >= s->limit) s->playing = s->played = 1;
	if (s->playing) {
		n = there < frames ? there : frames;
		ring_get(s, at, out, n);
		if (n > 0) memcpy(s->last, out + (n - 1) * c, c * sizeof(float));
		atomic_store_explicit(&s->read, at + n, memory_order_seq_cst);
	}
	if (n == frames) return;
	if (s->playing) {
		s->playing = 0;
		atomic_fetch_add_explicit(&s->starved, 1, memory_order_relaxed);
	}
	for (uint64_t i = n; i < frames; i++) {
		for (uint64_t k = 0; k < c; k++) out[i * c + k] = s->last[k] *= FADE;
	}
}

static int callback(const void *in, void *out, unsigned long frames, const PaStreamCallbackTimeInfo *t,
                    PaStreamCallbackFlags flags, void *data) {
	th_stream *s = data;
	int64_t now = th_now();
	int64_t whole = (int64_t)frames * 1000000000 / s->rate;
	if (s->capture) {
		// The age of the first frame.
		int64_t age = plausible(t->currentTime - t->inputBufferAdcTime, s->nominal + whole);
		atomic_store_explicit(&s->host, age > whole ? age - whole : 0, memory_order_relaxed);
		captured(s, in, frames, now - age);
	} else {
		int64_t wait = plausible(t->outputBufferDacTime - t->currentTime, s->nominal);
		atomic_store_explicit(&s->host, wait + whole, memory_order_relaxed);
		play(s, out, frames);
	}
	if (flags & (s->capture ? paInputOverflow : paOutputUnderflow) && now - s->started > STARTING_NS)
		atomic_fetch_add_explicit(&s->xruns, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->callbacks, 1, memory_order_relaxed);
	atomic_store_explicit(&s->beat, now, memory_order_release);

	// th_ready stores want before it looks at the ring, and this looks at
	// want after it changed the ring: one of the two sees the other.
	int want = atomic_load_explicit(&s->want, memory_order_seq_cst);
	if (want != 0 && ready(s, (uint64_t)want) && atomic_exchange(&s->want, 0) != 0) th_wake(s->wake);
	return paContinue;
}

// finished runs on PortAudio's thread when that thread ends: the device has
// failed, or the stream is being closed.
static void finished(void *data) {
	th_stream *s = data;
	atomic_store(&s->ended, 1);
	th_wake(s->wake);
}

// PLACEHOLDER is the size of a block that can stand for a stream of PortAudio's,
// more than it has fields for all of its hosts (PaUtilStreamRepresentation, some
// 100 bytes).
#define PLACEHOLDER 1024

// pa_open is Pa_OpenStream for a device that may be gone since it was found
// openable. That may give no error and no stream (openable.c), and then puts
// what *out was before into its list of open streams, by writing to it. So that
// is a block of our own, which is taken out again: it has no magic number, by
// which PortAudio knows it for nothing to be closed.
static PaError pa_open(th_stream *s, const PaStreamParameters *p, unsigned long period) {
	PaStream *none = calloc(1, PLACEHOLDER);
	if (none == NULL) return paInsufficientMemory;
	s->pa = none;
	PaError err = Pa_OpenStream(&s->pa, s->capture ? p : NULL, s->capture ? NULL : p, s->rate, period,
	                            paClipOff | paDitherOff, callback, s);
	if (err == paNoError && s->pa == none) {
		Pa_CloseStream(none);
		err = paUnanticipatedHostError;
	}
	free(none);
	return err;
}

PaError th_open(const th_config *config, th_stream **out) {
	*out = NULL;
	th_stream *s = calloc(1, sizeof *s);
	if (s == NULL) return paInsufficientMemory;
	s->capture = config->capture;
	s->channels = config->channels;
	s->rate = config->rate;
	s->wake = config->wake;
	s->limit = (uint64_t)config->ring;
	s->size = 1;
	while (s->size < s->limit) s->size *= 2;
	s->ring = calloc(s->size * (uint64_t)s->channels, sizeof(float));
	if (s->ring == NULL) {
		free(s);
		return paInsufficientMemory;
	}
	PaStreamParameters p = {
		.device = config->device,
		.channelCount = config->channels,
		.sampleFormat = paFloat32,
		.suggestedLatency = config->latency,
	};
	PaError err = pa_open(s, &p, (unsigned long)config->period);
	if (err != paNoError) {
		free(s->ring);
		free(s);
		return err;
	}
	const PaStreamInfo *info = Pa_GetStreamInfo(s->pa);
	if (info != NULL) s->nominal = plausible(s->capture ? info->inputLatency : info->outputLatency, 0);
	atomic_store(&s->host, s->nominal);
	Pa_SetStreamFinishedCallback(s->pa, finished);
	// Not PaAlsa_EnableRealtimeScheduling: PortAudio's thread spins while a
	// PulseAudio sink stands still (measured: 90 % of a core for the 2 s after a
	// null sink was opened), and at real-time priority it takes the core from
	// the very server that it waits for.
	s->started = th_now();
	err = Pa_StartStream(s->pa);
	if (err != paNoError) {
		Pa_CloseStream(s->pa);
		free(s->ring);
		free(s);
		return err;
	}
	*out = s;
	return paNoError;
}

PaError th_close(th_stream *s) {
	Pa_AbortStream(s->pa); // not Stop, which would wait until all is played
	PaError err = Pa_CloseStream(s->pa);
	free(s->ring);
	free(s);
	return err;
}

int th_ready(th_stream *s, int frames) {
	if (ready(s, (uint64_t)frames)) return 1;
	atomic_store_explicit(&s->want, frames, memory_order_seq_cst);
	return ready(s, (uint64_t)frames);
}

int th_read(th_stream *s, float *to, int frames, double index, int64_t *at, int64_t *now) {
	if (!ready(s, (uint64_t)frames)) return 0;
	uint64_t from = atomic_load_explicit(&s->read, memory_order_relaxed);
	ring_get(s, from, to, (uint64_t)frames);
	atomic_store_explicit(&s->read, from + (uint64_t)frames, memory_order_seq_cst);

	uint32_t before, after;
	uint64_t frame;
	int64_t time;
	do {
		before = atomic_load_explicit(&s->mark_seq, memory_order_acquire);
		frame = atomic_load_explicit(&s->mark_frame, memory_order_relaxed);
		time = atomic_load_explicit(&s->mark_time, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
		after = atomic_load_explicit(&s->mark_seq, memory_order_relaxed);
	} while (before != after || before & 1);
	*at = time + (int64_t)((index - (double)frame) * 1e9 / s->rate);
	*now = th_now();
	return 1;
}

int th_write(th_stream *s, const float *from, int frames) {
	if (!ready(s, (uint64_t)frames)) return 0;
	uint64_t at = atomic_load_explicit(&s->written, memory_order_relaxed);
	ring_put(s, at, from, (uint64_t)frames);
	atomic_store_explicit(&s->written, at + (uint64_t)frames, memory_order_seq_cst);
	return 1;
}

int th_ended(th_stream *s) { return atomic_load(&s->ended); }

int th_fill(th_stream *s) { return (int)fill(s); }

void th_get_stats(th_stream *s, th_stats *to) {
	to->beat = atomic_load(&s->beat);
	to->callbacks = atomic_load(&s->callbacks);
	to->xruns = atomic_load(&s->xruns);
	to->starved = atomic_load(&s->starved);
	to->dropped = atomic_load(&s->dropped);
	to->host = atomic_load(&s->host);
}
