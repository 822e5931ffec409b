package process

/*
#cgo pkg-config: speexdsp
#cgo LDFLAGS: -lm
#include "speex.h"
*/
import "C"

import (
	"errors"
	"time"
	"unsafe"

	"teahouse/internal/audio"
)

const (
	// speexTail is the echo that is cancelled: more than a room's first
	// 100 ms, as the way from one device to the other is in it too.
	speexTail = 200 * audio.Rate / 1000
	// speexNoise is what is taken from noise, in dB; with -18 fewer words are
	// recognised in babble than without (measured, docs/measurements.md).
	speexNoise = -10
	speexDelay = audio.BlockDuration
)

// speexEngine is speexdsp's echo canceller and preprocessor.
type speexEngine struct{ state *C.teahouse_speex }

func newSpeex(echo, noise bool) (engine, error) {
	tail, suppress := 0, 0
	if echo {
		tail = speexTail
	}
	if noise {
		suppress = speexNoise
	}
	state := C.teahouse_speex_new(C.int(tail), C.int(suppress))
	if state == nil {
		return nil, errors.New("speexdsp cannot be set up: no memory")
	}
	return &speexEngine{state}, nil
}

func (e *speexEngine) process(far, near *block) error {
	C.teahouse_speex_process(e.state, (*C.float)(unsafe.Pointer(far)), (*C.float)(unsafe.Pointer(near)))
	return nil
}

func (e *speexEngine) delay() time.Duration { return speexDelay }

func (e *speexEngine) close() {
	C.teahouse_speex_free(e.state)
	e.state = nil
}
