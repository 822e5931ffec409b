//go:build !nowebrtc

#include "webrtc.h"

#include <new>

#include <webrtc/modules/audio_processing/include/audio_processing.h>

using webrtc::AudioProcessing;
using webrtc::EchoCancellation;
using webrtc::NoiseSuppression;

struct teahouse_webrtc {
	AudioProcessing *apm;
	bool echo;
	webrtc::StreamConfig mono;
};

// The library is built without the promise that it throws nothing, and an
// exception must not reach Go.

teahouse_webrtc *teahouse_webrtc_new(int echo, int noise, int level) try {
	webrtc::Config config;
	// 128 ms of filter instead of 48, and no trust in the delay it is told:
	// the sound card's share is out of it already, the room's is not known.
	config.Set<webrtc::ExtendedFilter>(new webrtc::ExtendedFilter(true));
	config.Set<webrtc::DelayAgnostic>(new webrtc::DelayAgnostic(true));
	AudioProcessing *apm = AudioProcessing::Create(config);
	if (apm == nullptr) return nullptr;
	int failed = 0;
	failed |= apm->echo_cancellation()->set_suppression_level(EchoCancellation::kLowSuppression);
	failed |= apm->echo_cancellation()->enable_drift_compensation(false);
	failed |= apm->echo_cancellation()->Enable(echo != 0);
	failed |= apm->noise_suppression()->set_level(static_cast<NoiseSuppression::Level>(level));
	failed |= apm->noise_suppression()->Enable(noise != 0);
	if (failed != 0) {
		delete apm;
		return nullptr;
	}
	return new teahouse_webrtc{apm, echo != 0, webrtc::StreamConfig(48000, 1)};
} catch (...) {
	return nullptr;
}

int teahouse_webrtc_process(teahouse_webrtc *w, const float *far, float *near, int delay_ms) try {
	if (w->echo) {
		// Nothing of far is changed: the module only writes what it is asked
		// to enhance, and that is switched off.
		float *reverse = const_cast<float *>(far);
		int err = w->apm->ProcessReverseStream(&reverse, w->mono, w->mono, &reverse);
		if (err != AudioProcessing::kNoError) return err;
		err = w->apm->set_stream_delay_ms(delay_ms);
		if (err != AudioProcessing::kNoError && err != AudioProcessing::kBadStreamParameterWarning) return err;
	}
	return w->apm->ProcessStream(&near, w->mono, w->mono, &near);
} catch (...) {
	return AudioProcessing::kUnspecifiedError;
}

void teahouse_webrtc_free(teahouse_webrtc *w) try {
	delete w->apm;
	delete w;
} catch (...) {
}
