#include "speex.h"

#include <math.h>
#include <stdlib.h>

#include <speex/speex_echo.h>
#include <speex/speex_preprocess.h>

enum { frame = 480, rate = 48000 };

struct teahouse_speex {
	SpeexEchoState *echo;       // NULL: not asked for
	SpeexPreprocessState *rest; // residual echo and noise
	spx_int16_t far[frame], near[frame], out[frame];
};

teahouse_speex *teahouse_speex_new(int tail, int suppress) {
	teahouse_speex *s = calloc(1, sizeof *s);
	if (s == NULL) return NULL;
	spx_int32_t off = 0, on = 1, db = suppress, hz = rate;
	if (tail > 0) {
		s->echo = speex_echo_state_init(frame, tail);
		if (s->echo == NULL) goto fail;
		speex_echo_ctl(s->echo, SPEEX_ECHO_SET_SAMPLING_RATE, &hz);
	}
	s->rest = speex_preprocess_state_init(frame, rate);
	if (s->rest == NULL) goto fail;
	// With the denoiser off it would not take the residual echo away either;
	// at 0 dB it leaves the noise.
	speex_preprocess_ctl(s->rest, SPEEX_PREPROCESS_SET_DENOISE, &on);
	speex_preprocess_ctl(s->rest, SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, &db);
	speex_preprocess_ctl(s->rest, SPEEX_PREPROCESS_SET_AGC, &off);
	speex_preprocess_ctl(s->rest, SPEEX_PREPROCESS_SET_DEREVERB, &off);
	if (s->echo != NULL) speex_preprocess_ctl(s->rest, SPEEX_PREPROCESS_SET_ECHO_STATE, s->echo);
	return s;
fail:
	teahouse_speex_free(s);
	return NULL;
}

static void to16(spx_int16_t *dst, const float *src) {
	for (int i = 0; i < frame; i++) {
		float x = src[i] * 32768.0f;
		dst[i] = x >= 32767.0f ? 32767 : x <= -32768.0f ? -32768 : (spx_int16_t)lrintf(x);
	}
}

void teahouse_speex_process(teahouse_speex *s, const float *far, float *near) {
	spx_int16_t *out = s->near;
	to16(s->near, near);
	if (s->echo != NULL) {
		to16(s->far, far);
		speex_echo_cancellation(s->echo, s->near, s->far, s->out);
		out = s->out;
	}
	speex_preprocess_run(s->rest, out);
	for (int i = 0; i < frame; i++) near[i] = (float)out[i] / 32768.0f;
}

void teahouse_speex_free(teahouse_speex *s) {
	if (s == NULL) return;
	if (s->rest != NULL) speex_preprocess_state_destroy(s->rest);
	if (s->echo != NULL) speex_echo_state_destroy(s->echo);
	free(s);
}
