// WebRTC's audio processing module, version 0.3, by four C functions.

#ifndef TEAHOUSE_WEBRTC_H
#define TEAHOUSE_WEBRTC_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct teahouse_webrtc teahouse_webrtc;

// NULL where the module cannot be made. level of noise suppression: 0 to 3.
teahouse_webrtc *teahouse_webrtc_new(int echo, int noise, int level);

// 10 ms at 48 kHz of one channel, -1 to 1. far is what the speaker plays; near
// is changed in place. 0, or the module's error code.
int teahouse_webrtc_process(teahouse_webrtc *w, const float *far, float *near, int delay_ms);

void teahouse_webrtc_free(teahouse_webrtc *w);

#ifdef __cplusplus
}
#endif

#endif
