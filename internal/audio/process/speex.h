// speexdsp's echo canceller and preprocessor, by three functions.

#ifndef TEAHOUSE_SPEEX_H
#define TEAHOUSE_SPEEX_H

typedef struct teahouse_speex teahouse_speex;

// NULL where there is no memory. tail is how much echo is cancelled, in
// samples at 48 kHz, 0 for none; suppress is what is taken from noise, in dB,
// negative, 0 for none.
teahouse_speex *teahouse_speex_new(int tail, int suppress);

// 10 ms at 48 kHz of one channel, -1 to 1. far is what the speaker plays; near
// is changed in place.
void teahouse_speex_process(teahouse_speex *s, const float *far, float *near);

void teahouse_speex_free(teahouse_speex *s);

#endif
