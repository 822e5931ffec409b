//go:build !nowebrtc

package process

/*
#cgo pkg-config: webrtc-audio-processing
#cgo CXXFLAGS: -std=c++17 -fno-rtti
#include "webrtc.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"time"
	"unsafe"
)

// haveWebRTC tells whether this build has WebRTC's module.
const haveWebRTC = true

// webrtcNoise is how strongly noise is suppressed, 0 to 3. The mildest is the
// one with which more words are recognised in babble as well as in a fan's
// noise; 2 takes words away in babble (measured, docs/measurements.md).
const webrtcNoise = 0

// webrtcEngine is WebRTC's audio processing module.
type webrtcEngine struct {
	state       *C.teahouse_webrtc
	echo, noise bool
}

func newWebRTC(echo, noise bool) (engine, error) {
	state := C.teahouse_webrtc_new(truth(echo), truth(noise), webrtcNoise)
	if state == nil {
		return nil, errors.New("WebRTC's audio processing cannot be set up")
	}
	return &webrtcEngine{state, echo, noise}, nil
}

func (e *webrtcEngine) process(far, near *block) error {
	code := C.teahouse_webrtc_process(e.state,
		(*C.float)(unsafe.Pointer(far)), (*C.float)(unsafe.Pointer(near)), C.int(referenceLead.Milliseconds()))
	if code != 0 {
		return fmt.Errorf("WebRTC's audio processing: error %d", int(code))
	}
	return nil
}

// delay is as measured (TestDelay).
func (e *webrtcEngine) delay() time.Duration {
	switch {
	case e.echo && e.noise:
		return 14 * time.Millisecond
	case e.echo:
		return 8 * time.Millisecond
	default:
		return 7 * time.Millisecond
	}
}

func (e *webrtcEngine) close() {
	C.teahouse_webrtc_free(e.state)
	e.state = nil
}

func truth(on bool) C.int {
	if on {
		return 1
	}
	return 0
}
