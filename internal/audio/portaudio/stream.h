// A PortAudio stream of one direction whose callback is C: it copies between
// the device and a ring of its own and does nothing else, so that neither Go's
// collector nor its scheduler can make it late.
//
// One thread (Go's reader or writer) and the callback share a stream; the
// counts of the ring are the only thing both look at. All functions but the
// callback are for Go.

#ifndef TEAHOUSE_STREAM_H
#define TEAHOUSE_STREAM_H

#include <portaudio.h>
#include <stdint.h>

typedef struct th_stream th_stream;

typedef struct {
	int device;      // PortAudio's index
	int capture;     // 1 microphone, 0 speaker
	int channels;    // 1 or 2
	int rate;        // Hz, of the device
	int period;      // frames a callback
	double latency;  // asked for, seconds
	int ring;        // frames that the ring takes; at least 2 periods
	int wake;        // a descriptor that is written to when the ring is ready
} th_config;

typedef struct {
	int64_t beat;       // when the last callback came, CLOCK_MONOTONIC ns; 0 none yet
	uint64_t callbacks; // so far
	uint64_t xruns;     // callbacks told of an over- or underrun of the device
	uint64_t starved;   // times the speaker's ring ran empty
	uint64_t dropped;   // frames of the microphone that found the ring full
	int64_t host;       // at the last callback, ns: the age of the newest frame heard,
	                    // or the time to the air for the next frame of the ring
} th_stats;

// th_open opens and starts a stream. On an error *out is NULL. A device of
// ALSA's must be th_openable.
PaError th_open(const th_config *config, th_stream **out);

// th_openable tells whether ALSA opens its device called name so: paNoError, or
// what is wrong with it; paNoError, too, where there is no ALSA (openable.c).
PaError th_openable(const char *name, const th_config *config);

// th_close stops the callback and frees the stream. Nothing else may use it.
PaError th_close(th_stream *s);

// th_ready tells whether frames can be read or written now; if not, the
// callback will write to the wake descriptor, once, when they can.
int th_ready(th_stream *s, int frames);

// th_ended tells whether the device has ended the stream by itself: no callback
// will come any more.
int th_ended(th_stream *s);

// th_read takes frames from a microphone's ring: 1, or 0 if there are not so
// many. *at is when stream's frame number index was at the microphone, *now the
// time now, both CLOCK_MONOTONIC ns.
int th_read(th_stream *s, float *to, int frames, double index, int64_t *at, int64_t *now);

// th_write puts frames into a speaker's ring: 1, or 0 if there is no room.
int th_write(th_stream *s, const float *from, int frames);

// th_fill is how many frames are in the ring.
int th_fill(th_stream *s);

void th_get_stats(th_stream *s, th_stats *to);

int64_t th_now(void);

// th_wake_open makes the descriptors of a wake-up: what is written to to_write
// comes out of to_read. On Linux both are one eventfd, else a pipe. Neither
// blocks. 0, or an errno.
int th_wake_open(int *to_read, int *to_write);

// th_wake writes to a wake descriptor.
void th_wake(int fd);

// th_configured tells whether PortAudio may be initialised: 0 where it would end
// the process, because ALSA has no configuration (configured.c).
int th_configured(void);

// th_quiet keeps what C libraries print to stderr away from the terminal; it
// does not touch descriptor 2, so what Go prints is not lost. th_loud ends it.
void th_quiet(void);
void th_loud(void);

#endif
